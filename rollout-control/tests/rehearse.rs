//! Rehearsals with fake agents and a fake munged that passes orders on as they are.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_control::config::Config;
use rollout_control::rehearse::rehearse;
use rollout_core::controller::rehearsal::Verdict;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::addresses::Addresses;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

const MANIFEST: &str = "name = 'r'\nnodes = 'n[1-7]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n\
                        [verify]\ncommands = [['/usr/sbin/nhc']]\n";

/// The agents' part: the orders that they got, and the number of questions for the report, by the last byte of their
/// addresses.
#[derive(Default)]
struct Agents {
    orders: BTreeMap<u8, Order>,
    questions: BTreeMap<u8, u32>,
}

impl Agents {
    fn order(&mut self, agent: u8, body: &str) -> String {
        let payload = body.trim_start_matches("MUNGE:").trim_end_matches(':');
        self.orders.insert(agent, Order::parse(payload.as_bytes()).unwrap());
        let refused = |why: &str| format!(r#"{{"answer":"refused","why":"{why}"}}"#);
        match agent {
            2 => refused("not an order: unknown variant `rehearse`, expected one of `apply`"),
            3 => refused("no rehearsal now: driver is held"),
            _ => r#"{"answer":"accepted"}"#.to_owned(),
        }
    }

    fn report(&mut self, agent: u8) -> String {
        let questions = self.questions.entry(agent).or_default();
        *questions += 1;
        let order = &self.orders[&agent].id;
        let step = r#"{"what":"/a","from":"/old","to":"/b"}"#;
        match (agent, *questions) {
            (4, _) => "null".to_owned(),
            (5, _) => r#"{"order":"0","report":{}}"#.to_owned(),
            (_, 1) => format!(r#"{{"order":"{order}"}}"#),
            _ => format!(
                r#"{{"order":"{order}","report":{{"a-newer-key":1,"changes":[{{"kind":"symlink\n\u001b[2J","steps":[{step}]}}]}}}}"#
            ),
        }
    }
}

fn serve(agents: Arc<Mutex<Agents>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let agents = Arc::clone(&agents);
            thread::spawn(move || {
                let (head, body) = request(&mut stream);
                let IpAddr::V4(address) = stream.local_addr().unwrap().ip() else { return };
                let agent = address.octets()[3];
                let path = head.split(' ').nth(1).unwrap_or_default();
                let answer = match path {
                    // This one hangs up.
                    _ if agent == 6 => return,
                    "/v1/order" => agents.lock().unwrap().order(agent, &body),
                    "/v1/rehearsal" => agents.lock().unwrap().report(agent),
                    _ => r#"{"version":"0.0.9","node":"n2","boot_id":"b","uptime_s":60}"#.to_owned(),
                };
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            });
        }
    });
    port
}

fn request(stream: &mut TcpStream) -> (String, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Seals every order as itself.
fn munged(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut header = [0; 11];
            stream.read_exact(&mut header).unwrap();
            let mut request = vec![0; u32::from_be_bytes(header[7..].try_into().unwrap()) as usize];
            stream.read_exact(&mut request).unwrap();
            let begin = request.iter().position(|byte| *byte == b'{').unwrap();
            let end = request.iter().rposition(|byte| *byte == b'}').unwrap();
            let sealed = [b"MUNGE:", &request[begin..=end], b":\0"].concat();
            // No error, an empty message, the credential.
            let body = [&[0, 0][..], &u32::try_from(sealed.len()).unwrap().to_be_bytes(), &sealed].concat();
            let length = u32::try_from(body.len()).unwrap();
            stream.write_all(&[&header[..5], &[3, 0], &length.to_be_bytes(), &body].concat()).unwrap();
        }
    });
}

#[test]
fn every_node_has_a_report_or_the_reason_for_having_none() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("munge");
    munged(&socket);
    let agents = Arc::new(Mutex::new(Agents::default()));
    let config = Config { agent_port: serve(Arc::clone(&agents)), munge_socket: socket, ..Config::default() };
    let address = |number| (format!("n{number}"), format!("127.0.0.{number}"));
    let addresses: Addresses = [1, 2, 3, 4, 5, 6, 7].map(address).into();
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let nodes = NodeSet::parse("n[1-8]").unwrap();
    let rehearsed = rehearse(&config, &nodes, &addresses, &manifest.desired);
    assert_eq!(rehearsed.verdict(), Verdict::Trouble);
    let groups = rehearsed.groups();
    let found: Vec<(String, &str)> = groups
        .iter()
        .map(|group| {
            (group.nodes.to_string(), group.no_report.unwrap_or_else(|| group.changes[0].kind.as_str()))
        })
        .collect();
    let of = |node: &str| found.iter().find(|(nodes, _)| nodes == node).map(|(_, why)| *why);
    // A report comes in one line each, whatever an agent sends.
    assert_eq!(of("n[1,7]"), Some("symlink [2J"));
    assert_eq!(of("n2"), Some("agent 0.0.9 cannot rehearse: update slurm-rollout-agent"));
    assert_eq!(of("n3"), Some("no rehearsal now: driver is held"));
    assert!(of("n[4-5]").is_some_and(|why| why.contains("lost")), "{found:?}");
    assert!(of("n6").is_some_and(|why| why.starts_with("no answer from its agent")), "{found:?}");
    assert!(of("n8").is_some_and(|why| why.contains("n8")), "{found:?}");
    assert_eq!((groups.len(), groups.last().map(|group| group.verdict)), (6, Some(Verdict::WouldChange)));

    let agents = agents.lock().unwrap();
    let ids: Vec<_> = agents.orders.values().map(|order| &order.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "each order is for one node: {ids:?}");
    for (agent, order) in &agents.orders {
        assert_eq!(order.nodes.to_string(), format!("n{agent}"));
        let OrderKind::Rehearse(rehearse) = &order.kind else { panic!("{order:?}") };
        assert_eq!(rehearse.desired, manifest.desired);
    }
}
