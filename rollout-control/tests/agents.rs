//! The controller's use of agents' answers: fake agents, a fake munged, a real state directory.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use nix::sys::socket::{Backlog, listen};
use rollout_control::agents::ask_all::Limits;
use rollout_control::config::Config;
use rollout_control::hand_over::{Report, hand_over};
use rollout_control::held::{self, Holds};
use rollout_control::store::StoreWriter;
use rollout_control::survey::survey;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::hand_over::Request;
use rollout_core::controller::held::Hold;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Progress};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::addresses::Addresses;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::time_limit::TimeLimit;
use rollout_host::durable;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// Serves agents on all loopback addresses. `answer` gets the last byte of the address that was connected to.
fn agents(answer: impl Fn(u8) -> String + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(&listener, answer));
    port
}

fn serve(listener: &TcpListener, answer: impl Fn(u8) -> String + Clone + Send + 'static) {
    for mut stream in listener.incoming().flatten() {
        let answer = answer.clone();
        thread::spawn(move || {
            read_request(&mut stream);
            let IpAddr::V4(address) = stream.local_addr().unwrap().ip() else { return };
            let body = answer(address.octets()[3]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        });
    }
}

fn accepts(_: u8) -> String {
    r#"{"answer":"accepted"}"#.to_owned()
}

/// A listener for which the kernel drops packets (`tcp_conn_request` in `net/ipv4/tcp_input.c`), as its queue of
/// connections is full.
struct Silent {
    listener: TcpListener,
    queued: TcpStream,
}

impl Silent {
    fn at(address: Ipv4Addr, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        Self { queued: TcpStream::connect((address, port)).unwrap(), listener }
    }

    fn serve(self) {
        drop(self.queued);
        serve(&self.listener, accepts);
    }
}

fn read_request(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
}

/// Seals everything as the same text.
fn munged(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut header = [0; 11];
            stream.read_exact(&mut header).unwrap();
            let length = u32::from_be_bytes(header[7..].try_into().unwrap());
            stream.read_exact(&mut vec![0; length as usize]).unwrap();
            let sealed = b"MUNGE:sealed:\0";
            let length = u32::try_from(sealed.len()).unwrap();
            // No error, an empty message, the credential.
            let body = [&[0, 0][..], &length.to_be_bytes(), sealed].concat();
            let length = u32::try_from(body.len()).unwrap();
            let answer = [&header[..5], &[3, 0], &length.to_be_bytes(), &body].concat();
            stream.write_all(&answer).unwrap();
        }
    });
}

/// Returns the addresses 127.0.0.1 and so on for nodes `n1` and so on.
fn addresses() -> Addresses {
    [1, 2, 3].map(|number| (format!("n{number}"), format!("127.0.0.{number}"))).into()
}

fn manifest(name: &str, node: &str, change: &str) -> String {
    format!("name = '{name}'\nnodes = '{node}'\n[[change]]\n{change}\n")
}

const LINK: &str = "kind = 'symlink'\npath = '/opt/x'\ntarget = '/opt/new'";
const IMAGE: &str = "kind = 'image'\nvia = 'boot-file'\nimage = 'compute'\nversion = '2'";

/// Stages a rollout and has its node held by order `number`.
fn held(store: &StoreWriter, name: &str, node: &str, change: &str, number: u128) -> (String, Hold) {
    let text = manifest(name, node, change);
    store.stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
    let (nodes, order) = (NodeSet::parse(node).unwrap(), OrderId::from_random(number));
    let ordering = Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 0 };
    let seen =
        Entry::Seen { nodes, order: order.clone(), phase: Phase::Held, error: None, notes: Vec::new() };
    store.record(Some(name), vec![ordering, seen]).unwrap();
    (node.to_owned(), Hold { rollout: Some(name.to_owned()), order })
}

/// The journal of a rollout that cannot be read or written.
fn break_journal(state: &Path, rollout: &str) {
    let journal = state.join("rollouts").join(rollout).join("journal");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
}

#[test]
fn a_journal_that_cannot_be_written_concerns_its_own_nodes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (state, socket) = (dir.path().join("state"), dir.path().join("munged"));
    fs::create_dir(&state).unwrap();
    munged(&socket);
    let agent_port = agents(accepts);
    let config = Config { state_dir: state.clone(), agent_port, munge_socket: socket, ..Config::default() };
    let store = StoreWriter::open(&state, "test").unwrap();
    let holds: Holds = [
        held(&store, "links", "n1", LINK, 1),
        held(&store, "other-links", "n2", LINK, 2),
        held(&store, "images", "n3", IMAGE, 3),
    ]
    .into();
    break_journal(&state, "links");
    break_journal(&state, "images");
    let view =
        View { snapshot: Snapshot { addresses: addresses(), ..Snapshot::default() }, ..View::default() };
    type Tell = fn(
        &Config,
        &StoreWriter,
        &View,
        Holds,
        Limits,
    ) -> Result<held::Told, rollout_control::agents::seal::SealError>;
    for (tell, progress) in
        [(held::retry as Tell, Progress::Ordered), (held::release, Progress::Seen(Phase::Released))]
    {
        let told = tell(&config, &store, &view, holds.clone(), Limits::new(LIMIT, LIMIT)).unwrap();
        assert_eq!(told.done.to_string(), "n[1-2]");
        assert!(told.failed["n1"].starts_with("told, and not written down: "), "{:?}", told.failed);
        // Nobody knows whether its boot source was changed.
        assert!(told.failed["n3"].contains("rollouts/images/journal"), "{:?}", told.failed);
        assert_eq!(told.failed.len(), 2, "{:?}", told.failed);
        let record = store.rollout("other-links").unwrap().state.records.remove("n2").unwrap();
        assert_eq!(record.progress, progress);
    }
}

#[test]
fn the_uptime_of_an_agent_that_answered_early_is_that_of_the_end() {
    let agent_port = agents(|number| {
        thread::sleep(Duration::from_millis(if number == 1 { 0 } else { 2500 }));
        format!(r#"{{"version":"9","node":"n{number}","boot_id":"b","uptime_s":100}}"#)
    });
    let config = Config { agent_port, ..Config::default() };
    let snapshot = Snapshot { addresses: addresses(), ..Snapshot::default() };
    let nodes = NodeSet::parse("n[1-2]").unwrap();
    let view = survey(&config, snapshot, &nodes, Vec::new(), Limits::new(LIMIT, LIMIT));
    let uptime = |node| view.agents[node].as_ref().unwrap().uptime_s;
    assert!(uptime("n2") >= 100 && uptime("n1") >= uptime("n2") + 2, "{:?}", view.agents);
}

/// Hands over nodes with these addresses in the loopback network. Slurm cannot be asked. Returns the time it took, too.
fn handed_over(agent_port: u16, nodes: &[(&str, Ipv4Addr)]) -> (Report, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let (state_dir, scontrol) = (dir.path().join("state"), dir.path().join("scontrol"));
    let munge_socket = dir.path().join("munged");
    fs::create_dir(&state_dir).unwrap();
    durable::replace(&scontrol, b"#!/bin/sh\nexit 1\n", 0o755).unwrap();
    munged(&munge_socket);
    let nodes = nodes.iter().flat_map(|(names, address)| {
        let names = NodeSet::parse(names).unwrap();
        let info = |name: &str| NodeInfo {
            name: name.to_owned(),
            address: address.to_string(),
            ..NodeInfo::default()
        };
        names.iter().map(info).collect::<Vec<_>>()
    });
    let nodes: Vec<NodeInfo> = nodes.collect();
    let (deadline, agent_timeout) = (TimeLimit::from_secs(90), TimeLimit::from_secs(60));
    let config = Config {
        state_dir,
        agent_port,
        deadline,
        agent_timeout,
        scontrol,
        munge_socket,
        ..Config::default()
    };
    StoreWriter::open(&config.state_dir, "test").unwrap().learn_addresses(&nodes).unwrap();
    let nodes = nodes.into_iter().map(|node| node.name).collect();
    let begun = Instant::now();
    let report = hand_over(&config, "test", &Request { nodes, ..Request::default() }, begun);
    (report, begun.elapsed())
}

const LIVING: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const REFUSING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// One node in twenty is dead.
#[test]
fn dead_nodes_do_not_hold_up_the_end_for_as_long_as_an_agent_may_take_to_answer() {
    let listener = TcpListener::bind((LIVING, 0)).unwrap();
    // It stands for hundreds of hosts, which would each have a queue.
    listen(&listener, Backlog::MAXALLOWABLE).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(&listener, accepts));
    let silent = Silent::at(SILENT, port);
    let nodes = [("d[001-015]", SILENT), ("n[001-570]", LIVING), ("r[001-015]", REFUSING)];
    let (report, took) = handed_over(port, &nodes);
    assert_eq!(report.ordered.len(), 570, "{:?}", report.failed);
    let failed: Vec<(String, usize)> =
        report.failed.iter().map(|(reason, nodes)| (reason.to_string(), nodes.len())).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    for why in ["its host does not answer", "refused"] {
        assert!(failed.iter().any(|(reason, count)| reason.contains(why) && *count == 15), "{failed:?}");
    }
    // Far from the agents' 60 s even on a busy machine.
    assert!(took < LIMIT, "{took:?}");
    drop(silent);
}

/// The first packet to a node gets lost.
#[test]
fn a_lost_packet_costs_no_node_its_order() {
    let port = TcpListener::bind((SILENT, 0)).unwrap().local_addr().unwrap().port();
    let silent = Silent::at(SILENT, port);
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        silent.serve();
    });
    let (report, _) = handed_over(port, &[("n1", SILENT)]);
    assert_eq!(report.ordered, ["n1"], "{:?}", report.failed);
}
