//! The client against real sockets: agents that answer, and other programs that may listen there.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_control::agents::address::Resolver;
use rollout_control::agents::client::{AgentClient, NoAnswer};
use rollout_control::agents::dispatch::dispatch;
use rollout_core::agent::changes_made::{ChangeMade, NodeChanges};
use rollout_core::agent::phase::Phase;
use rollout_core::protocol::answer::Answer;
use rollout_core::rollout::manifest::Manager;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Limits for exchanges that end by themselves, and for those that must be cut off. The tests assert nothing about
/// speed.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

/// Much longer than any limit given here: an exchange that takes this long has none.
const ENDLESS: Duration = Duration::from_secs(60);

/// Serves each connection on a thread of its own, on all addresses of this machine.
fn serve(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
    port
}

/// Reads a whole request: its head, and its body by Content-Length.
fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Answers each request with these bytes, and closes.
fn says(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    serve(move |mut stream| {
        request(&mut stream);
        let _ = stream.write_all(&answer);
    })
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn order(port: u16, limit: Duration) -> Result<Answer, NoAnswer> {
    let begun = Instant::now();
    let answer = AgentClient::new(port, limit).order(&LOCAL.into(), "MUNGE:sealed:");
    assert!(begun.elapsed() < ENDLESS, "it has no limit");
    answer
}

fn silence(port: u16, limit: Duration) -> String {
    let error = order(port, limit).expect_err("no answer");
    assert!(!matches!(error, NoAnswer::NobodyListens(_)) && !error.nothing_sent(), "{error}");
    let cause = error.cause();
    assert!(!cause.is_empty() && !cause.contains(char::is_control), "one line: {error:?}");
    assert_eq!(error.to_string(), format!("no answer from its agent: {cause}"));
    cause.to_owned()
}

#[test]
fn each_answer_of_an_agent_is_understood() {
    for (json, answer) in [
        (r#"{"answer":"accepted"}"#, Answer::Accepted { volatile: false, order: None }),
        (r#"{"answer":"accepted","a-newer-key":1}"#, Answer::Accepted { volatile: false, order: None }),
        (
            r#"{"answer":"under-way","phase":"rebooting-back"}"#,
            Answer::UnderWay { phase: Phase::RebootingBack, order: None, rollout: None, volatile: false },
        ),
        (r#"{"answer":"refused","why":"busy"}"#, Answer::refused("busy".to_owned())),
    ] {
        assert_eq!(order(says(http("200 OK", json)), LONG), Ok(answer), "{json}");
    }
    // An invalid order is refused with a status of its own.
    let refused = http("400 Bad Request", r#"{"answer":"refused","why":"MUNGE: replayed"}"#);
    assert_eq!(order(says(refused), LONG), Ok(Answer::refused("MUNGE: replayed".to_owned())));
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"answer\":\"accepted\"}\r\n0\r\n\r\n";
    assert_eq!(order(says(chunked), LONG), Ok(Answer::Accepted { volatile: false, order: None }));
}

#[test]
fn the_order_is_posted_as_it_is() {
    let (send, requests) = channel();
    let port = serve(move |mut stream| {
        send.send(request(&mut stream)).unwrap();
        let _ = stream.write_all(http("200 OK", r#"{"answer":"accepted"}"#).as_bytes());
    });
    let sealed = format!("MUNGE:{}:", "AwQF".repeat(100_000));
    let client = AgentClient::new(port, LONG);
    assert_eq!(client.order(&LOCAL.into(), &sealed), Ok(Answer::Accepted { volatile: false, order: None }));
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("post /v1/order http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{head}");
    assert!(head.contains("\r\nuser-agent: slurm-rollout/"), "{head}");
    assert!(body == sealed);
    assert_eq!(
        client.order(&LOCAL.into(), "once more"),
        Ok(Answer::Accepted { volatile: false, order: None }),
        "on a connection of its own"
    );
}

#[test]
fn the_status_is_read_and_its_error_is_one_line() {
    let json = r#"{"version":"9.9\u001b[2J","node":"n1\u0007","boot_id":"b","uptime_s":60,"a-newer-key":[],"order":{"id":"7",
        "rollout":"r\u001b","phase":"held","since_s":1,"error":"nhc:\n\u001b[2J no","notes":["a\u001b[2J","b"]},"trouble":"torn\n\u001b[2J"}"#;
    let status = AgentClient::new(says(http("200 OK", json)), LONG).status(&LOCAL.into()).unwrap();
    assert_eq!((status.version.as_str(), status.trouble.as_deref()), ("9.9 [2J", Some("torn [2J")));
    assert_eq!(status.order.as_ref().unwrap().rollout.as_deref(), Some("r"));
    let order = status.order.unwrap();
    assert_eq!((status.node.as_str(), order.phase), ("n1", Phase::Held));
    assert_eq!(order.error.as_deref(), Some("nhc: [2J no"));
    assert_eq!(order.notes, ["a [2J", "b"]);
    let idle = r#"{"version":"0.1","node":"n1","boot_id":"b","uptime_s":60}"#;
    assert_eq!(AgentClient::new(says(http("200 OK", idle)), LONG).status(&LOCAL.into()).unwrap().order, None);
}

#[test]
fn a_refusal_cannot_write_on_the_terminal_nor_fill_the_journal() {
    let why = format!("no\\n\\u001b[31m{}", "long ".repeat(5000));
    let Ok(Answer::Refused { why, .. }) =
        order(says(http("200 OK", &format!(r#"{{"answer":"refused","why":"{why}"}}"#))), LONG)
    else {
        panic!("a refusal")
    };
    assert!(why.starts_with("no [31mlong") && !why.contains(char::is_control), "{why}");
    assert!(why.chars().count() < 2000, "{} characters", why.chars().count());
}

#[test]
fn what_is_no_agent_is_an_error_of_one_line() {
    for (answer, named) in [
        (http("200 OK", ""), "HTTP 200"),
        (http("200 OK", "<html>\n<title>printer</title>"), "HTTP 200"),
        (http("200 OK", r#"{"answer":"maybe"}"#), "HTTP 200"),
        (http("404 Not Found", "no such page"), "HTTP 404"),
        (http("500 Internal Server Error", ""), "HTTP 500"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"answer\":".to_owned(), ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}".to_owned(), ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".to_owned(), ""),
        ("\0\0\0\0\r\n\r\n".to_owned(), ""),
        (String::new(), ""),
    ] {
        let why = silence(says(answer.as_str()), LONG);
        assert!(why.contains(named), "{answer:?}: {why}");
    }
    let latin1 = [http("200 OK", "").replace("Length: 0", "Length: 2").as_bytes(), b"\xff\xfe"].concat();
    silence(says(latin1), LONG);
}

#[test]
fn one_that_hangs_up_is_an_error() {
    silence(serve(drop), LONG);
    silence(
        serve(|mut stream| {
            let _ = stream.read(&mut [0; 10]);
        }),
        LONG,
    );
}

#[test]
fn that_nobody_listens_is_told_apart() {
    let port = TcpListener::bind((LOCAL, 0)).unwrap().local_addr().unwrap().port();
    let error = order(port, LONG).unwrap_err();
    assert!(matches!(error, NoAnswer::NobodyListens(_)) && error.nothing_sent(), "{error}");
    assert!(error.cause().contains("refused"), "{error}");
}

#[test]
fn one_that_never_answers_is_left_at_the_limit() {
    let late = "it did not come in time";
    let silent = serve(|stream| {
        thread::sleep(ENDLESS);
        drop(stream);
    });
    assert_eq!(silence(silent, SHORT), late);
    // Only the kernel accepts this connection.
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    assert_eq!(silence(listener.local_addr().unwrap().port(), SHORT), late);
}

#[test]
fn one_that_drips_is_left_at_the_limit() {
    fn drips(first: &'static str, then: &'static [u8]) -> u16 {
        serve(move |mut stream| {
            request(&mut stream);
            let _ = stream.write_all(first.as_bytes());
            while stream.write_all(then).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        })
    }
    for (first, then) in [
        ("", &b"H"[..]),
        ("HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"{"),
        ("HTTP/1.1 200 OK\r\n\r\n", b" "),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ] {
        silence(drips(first, then), SHORT);
    }
    // A server that does not read the request does not delay us either.
    let deaf = serve(|stream| {
        thread::sleep(ENDLESS);
        drop(stream);
    });
    let sealed = "x".repeat(64 * 1024 * 1024);
    let begun = Instant::now();
    AgentClient::new(deaf, SHORT).order(&LOCAL.into(), &sealed).unwrap_err();
    assert!(begun.elapsed() < ENDLESS);
}

#[test]
fn redirects_are_not_followed() {
    let (send, hits): (_, Receiver<String>) = channel();
    let elsewhere = serve(move |mut stream| {
        send.send(request(&mut stream).0).unwrap();
        let _ = stream.write_all(http("200 OK", r#"{"answer":"accepted"}"#).as_bytes());
    });
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{elsewhere}/v1/order\r\nContent-Length: 0\r\n\r\n"
        );
        let why = silence(says(answer), LONG);
        assert!(why.contains(&status[..3]), "{why}");
    }
    assert!(hits.try_recv().is_err(), "a redirect was followed");
}

#[test]
fn an_answer_that_is_too_long_is_cut_with_an_error() {
    let long = format!(r#"{{"answer":"refused","why":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let why = silence(says(http("200 OK", &long)), LONG);
    assert!(why.contains("limit"), "{why}");
    // An endless answer without a length is cut off as well, and so is an endless head.
    for first in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
        let endless = serve(move |mut stream| {
            request(&mut stream);
            let _ = stream.write_all(first.as_bytes());
            let more = "X-Filler: 0123456789\r\n".repeat(1000);
            while stream.write_all(more.as_bytes()).is_ok() {}
        });
        silence(endless, LONG);
    }
}

/// Returns the answer about eight rollouts that changed this many packages each.
fn past(packages: usize) -> (Vec<NodeChanges>, String) {
    let names = |version: &str| {
        let name = |number| format!("a-package-with-a-rather-long-name-{number}-0:{version}-1.el9.x86_64");
        (0..packages).map(name).collect()
    };
    let packages = || ChangeMade::Packages {
        manager: Manager::Dnf,
        added: names("1.1"),
        removed: names("1.0"),
        beside: Vec::new(),
    };
    let changes = |number| NodeChanges { rollout: format!("r{number}"), made: vec![packages()] };
    let past: Vec<NodeChanges> = (0..8).map(changes).collect();
    let json = serde_json::to_string(&past).unwrap();
    (past, json)
}

#[test]
fn all_packages_that_eight_rollouts_changed_are_read() {
    let (past, json) = past(3000);
    assert!(json.len() > 2 * 1024 * 1024, "{} bytes", json.len());
    let client = |json: &str| AgentClient::new(says(http("200 OK", json)), LONG);
    assert_eq!(client(&json).pasts(&LOCAL.into()), Ok(past));
    let error = client(&" ".repeat(20 * 1024 * 1024)).pasts(&LOCAL.into()).expect_err("it is too long");
    assert!(error.cause().contains("limit"), "{error}");
}

#[test]
fn addresses_of_both_families_are_spoken_to() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        eprintln!("not run: this machine has no ::1");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        request(&mut stream);
        let _ = stream.write_all(http("200 OK", r#"{"answer":"accepted"}"#).as_bytes());
    });
    let client = AgentClient::new(port, LONG);
    assert_eq!(
        client.order(&IpAddr::V6(Ipv6Addr::LOCALHOST).into(), "x"),
        Ok(Answer::Accepted { volatile: false, order: None })
    );
}

/// Many agents at once, each at an address of its own: a third takes the order, a third refuses, a third is silent.
#[test]
fn an_address_that_leads_nowhere_is_passed_over() {
    let port = says(http("200 OK", r#"{"answer":"accepted"}"#));
    // Discarded by the kernel, and refused: the server listens on no address of IPv6.
    for other in ["100::7", "::1"] {
        let hosts = format!("{other} n1\n127.0.0.1 n1\n");
        let host = Resolver::new(&hosts, Path::new("/no/such/getent")).resolve("n1", LONG).unwrap();
        assert_eq!(host.at_port(port).count(), 2);
        let answer = AgentClient::new(port, LONG).order(&host, "x");
        assert_eq!(answer, Ok(Answer::Accepted { volatile: false, order: None }), "{other}");
    }
}

#[test]
fn silent_agents_hold_up_no_other() {
    let port = serve(|mut stream| {
        let IpAddr::V4(address) = stream.local_addr().unwrap().ip() else { return };
        request(&mut stream);
        let body = match address.octets()[3] % 3 {
            0 => r#"{"answer":"accepted"}"#.to_owned(),
            1 => format!(r#"{{"answer":"refused","why":"I am {address}"}}"#),
            _ => return thread::sleep(ENDLESS),
        };
        let _ = stream.write_all(http("200 OK", &body).as_bytes());
    });
    let client = AgentClient::new(port, SHORT);
    let nodes: Vec<u8> = (1..=90).collect();
    let ask = move |node: u8| (node, client.order(&IpAddr::V4(Ipv4Addr::new(127, 0, 0, node)).into(), "x"));
    let answers = dispatch(nodes.clone(), 16, Instant::now() + ENDLESS, ask).all();
    assert_eq!(answers.len(), nodes.len());
    for (node, answer) in answers {
        match node % 3 {
            0 => assert_eq!(answer, Ok(Answer::Accepted { volatile: false, order: None }), "{node}"),
            1 => assert_eq!(answer, Ok(Answer::refused(format!("I am 127.0.0.{node}")))),
            _ => assert_eq!(answer.unwrap_err().cause(), "it did not come in time", "{node}"),
        }
    }
}
