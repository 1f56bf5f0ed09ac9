//! Input on an agent's port that is no order for this node: refused or dropped, logged, and without effect.

use crate::prelude::*;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};

const MIB: usize = 1024 * 1024;
/// Limit for a line in the log. There are many cases, which together must not wait for hours.
const SOON: Duration = Duration::from_secs(60);

/// Sends stdin to an agent, the given number of bytes at once and the rest one by one, and writes the answer.
const SEND: &str = r#"
import socket, sys, time
address, at_once, cut = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "cut"
content = sys.stdin.buffer.read()
peer = socket.create_connection((address, 6821), 60)
try:
    peer.sendall(content[:at_once])
    for byte in content[at_once:]:
        time.sleep(0.2)
        peer.sendall(bytes([byte]))
    if cut:
        peer.shutdown(socket.SHUT_WR)
    while more := peer.recv(65536):
        sys.stdout.buffer.write(more)
except OSError:
    pass
"#;

/// Opens connections, sends nothing, and waits until the given number of them have been closed by the agent.
const IDLE: &str = r#"
import socket, sys
address, count, ends = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
peers = [socket.create_connection((address, 6821), 60) for _ in range(count)]
for peer in peers[:ends]:
    try:
        assert peer.recv(1) == b""
    except ConnectionResetError:
        pass
"#;

/// Connects to the agent's local socket.
const LOCAL: &str = r#"
import socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("/run/slurm-rollout/agent.sock")
peer.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
print(peer.recv(65536))
"#;

/// Way in which the bytes of a request are sent.
#[derive(Clone, Copy)]
enum How {
    AtOnce,
    /// The sender closes its side afterwards.
    Cut,
    /// This many bytes at once, then one every fifth of a second.
    Drip(usize),
}

struct Siege<'a> {
    site: &'a Site,
    cases: &'a Cases,
    /// The agent's process.
    pid: String,
}

impl Siege<'_> {
    fn node(&self) -> &Node {
        self.site.cluster.node("cn01")
    }

    fn send(&self, to: &Node, content: &[u8], how: How) -> String {
        let (at_once, cut) = match how {
            How::AtOnce => (content.len(), ""),
            How::Cut => (content.len(), "cut"),
            How::Drip(at_once) => (at_once, ""),
        };
        let (address, at_once) = (to.address().to_string(), at_once.to_string());
        let send = ["python3", "-c", SEND, &address, &at_once, cut];
        self.site.cluster.controller().command(&send).unwrap().stdin(content).run().unwrap()
    }

    fn seal(&self, payload: &str, user: &str, options: &[&str]) -> String {
        let argv: Vec<&str> = std::iter::once("munge").chain(options.iter().copied()).collect();
        let munge = self.site.cluster.controller().command(&argv).unwrap();
        munge.user(user).stdin(payload.as_bytes()).run().unwrap()
    }

    fn log(&self) -> Result<String> {
        self.node().run(&["journalctl", "--no-pager", "--output=cat", "--unit", AGENT_UNIT])
    }

    /// Checks a case: sends this to cn01, which must answer and log it so, and must not change.
    fn refused(&self, name: &str, content: &[u8], how: How, answer: &str, logged: &str) {
        self.cases.check(name, || {
            let seen = self.log().unwrap().len();
            let said = self.send(self.node(), content, how);
            assert!(said.contains(answer), "{name}: {said:?}");
            assert!(!said.contains("accepted") && !said.contains("under-way"), "{name}: {said:?}");
            self.is_logged(name, seen, "10.77.0.1", logged);
            self.nothing_happened(name);
        });
    }

    /// Waits for a line in the agent's journal behind the first `seen` bytes that has the peer and these words.
    fn is_logged(&self, name: &str, seen: usize, peer: &str, logged: &str) {
        let is_there = |log: &String| {
            let mut new = log.get(seen..).unwrap_or("").lines();
            new.any(|line| line.contains(peer) && line.contains(logged))
        };
        until(&format!("{name}: {logged:?} in the log"), SOON, || self.log(), is_there).unwrap();
    }

    fn nothing_happened(&self, name: &str) {
        let node = self.node();
        assert!(node.is_active(AGENT_UNIT).unwrap(), "{name}");
        assert_eq!(node.property(AGENT_UNIT, "MainPID").unwrap(), self.pid, "{name}");
        let status = self.send(node, &get("/v1/status"), How::AtOnce);
        assert!(status.starts_with("HTTP/1.1 200") && status.contains("\"order\":null"), "{name}: {status}");
        assert!(!node.exec(&["test", "-e", ORDER_FILE]).unwrap().success(), "{name}");
        assert_eq!(self.site.tool("cn01").unwrap(), OLD_TOOL, "{name}");
        assert_eq!(node.boot_count(), 1, "{name}");
    }
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/order HTTP/1.1\r\nHost: cn01\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: cn01\r\n\r\n").into_bytes()
}

/// An order that each node of the list would carry out if it were sealed.
fn order(id: u128, nodes: &str) -> String {
    let manifest = Manifest::tool("1.1").to_string();
    let manifest = rollout_core::rollout::manifest::Manifest::parse(&manifest).unwrap();
    let back = GiveBack { resume_if_late: true, drained: None };
    let apply = Apply { rollout: "tool-1.1".to_owned(), desired: manifest.desired, give_back: back };
    let nodes = NodeSet::parse(nodes).unwrap();
    serde_json::to_string(&Order::new(OrderId::from_random(id), nodes, OrderKind::Apply(apply))).unwrap()
}

/// Scenario 8. Each input is a case.
#[test]
fn what_is_no_order_for_this_node_is_refused_and_logged() {
    let site = &start_with_tool(ClusterSpec { return_to_service: 2, ..nodes(2) });
    let pid = site.cluster.node("cn01").property(AGENT_UNIT, "MainPID").unwrap();
    in_cases(|cases| {
        let siege = &Siege { site, cases, pid };
        cases.check("before all", || siege.nothing_happened("before all"));
        sealed_but_not_for_us(siege);
        not_an_order_at_all(siege);
        not_even_http(siege);
        cases.check("the local socket", || the_local_socket(siege));
        cases.check("100 at once", || a_hundred_at_once(siege));
        cases.check("out of descriptors", || out_of_descriptors(siege));
        cases.check("memory", || little_memory_was_taken(siege));
        cases.check("genuine orders are taken once", || genuine_orders_are_taken_once(siege));
    });
}

fn little_memory_was_taken(siege: &Siege<'_>) {
    let peak = siege.node().run(&["grep", "VmHWM", &format!("/proc/{}/status", siege.pid)]).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 24 * 1024, "the agent took {peak} kB");
}

/// Sealed credentials: munged opens them, or reports why not.
fn sealed_but_not_for_us(siege: &Siege<'_>) {
    let genuine = order(1, "cn[01-02]");
    for (user, uid) in [("www-data", "33"), ("daemon", "1")] {
        let sealed = siege.seal(&genuine, user, &[]);
        let logged = format!("refused: sealed by uid {uid}, which is neither root nor slurm");
        siege.refused(user, &post(&sealed), How::AtOnce, "neither root nor slurm", &logged);
    }
    let old = siege.seal(&genuine, "root", &["--ttl=1"]);
    std::thread::sleep(Duration::from_secs(3));
    siege.refused("too old", &post(&old), How::AtOnce, "Expired", "refused: MUNGE: Expired credential");
    let private = siege.seal(&genuine, "root", &["--restrict-uid=slurm"]);
    siege.refused(
        "for another uid",
        &post(&private),
        How::AtOnce,
        "Unauthorized",
        "refused: MUNGE: Unauthorized",
    );

    let elsewhere = siege.seal(&order(2, "cn[02-99]"), "root", &[]);
    let logged = "refused: the order is for cn[02-99], this is cn01";
    siege.refused("another node's", &post(&elsewhere), How::AtOnce, "this is cn01", logged);
    siege.refused(
        "replayed",
        &post(&elsewhere),
        How::AtOnce,
        "Replayed",
        "refused: MUNGE: Replayed credential",
    );

    let sealed = siege.seal(&genuine, "root", &[]);
    let half = &sealed[..sealed.len() / 2];
    siege.refused("half of it", &post(half), How::AtOnce, "refused", "refused: MUNGE: ");
    let place = sealed.len() / 2;
    let other = if &sealed[place..=place] == "A" { "B" } else { "A" };
    let forged = format!("{}{other}{}", &sealed[..place], &sealed[place + 1..]);
    siege.refused("forged", &post(&forged), How::AtOnce, "refused", "refused: MUNGE: Invalid credential");
}

/// Credentials that root sealed, with content that no agent carries out.
fn not_an_order_at_all(siege: &Siege<'_>) {
    let with = |from: &str, to: &str| {
        let (genuine, changed) = (order(3, "cn01"), order(3, "cn01").replace(from, to));
        assert_ne!(genuine, changed, "{from}");
        changed
    };
    let manifest = "refused: the order asks for what no manifest may: ";
    let cases = [
        (
            "another purpose",
            with("slurm-rollout order", "login"),
            "refused: not an order: it was sealed for \"login\"",
        ),
        (
            "another format",
            with("\"version\":1", "\"version\":2"),
            "refused: the order has format 2, this agent reads up to 1",
        ),
        ("a relative path", with("\"/opt/app/current\"", "\"../etc/passwd\""), manifest),
        ("a path with ..", with("\"/opt/app/current\"", "\"/opt/../etc/passwd\""), manifest),
        ("a package's file", with("\"tool-1.1\"]", "\"/tmp/tool.rpm\"]"), manifest),
        ("an option", with("\"tool-1.1\"]", "\"--nogpgcheck\"]"), manifest),
        ("a relative program", with("\"/usr/bin/grep\"", "\"grep\""), manifest),
        (
            "another kind",
            with("\"symlink\"", "\"script\""),
            "refused: not an order: unknown variant `script`",
        ),
        (
            "another verb",
            with("\"do\":\"apply\"", "\"do\":\"run\""),
            "refused: not an order: unknown variant `run`",
        ),
        ("no node", with("\"cn01\"", "\"\""), "refused: the order is for , this is cn01"),
        ("no hostlist", with("\"cn01\"", "\"cn[01\""), "refused: not an order: "),
        ("the head only", order(3, "cn01")[..80].to_owned(), "refused: not an order: "),
        ("nothing", String::new(), "refused: not an order: "),
        ("no JSON", "cn01 reboot".to_owned(), "refused: not an order: "),
        ("retry", order_to("retry"), "refused: the node is not held but idle"),
        ("release", order_to("release"), "refused: the node is not held but idle"),
    ];
    for (name, payload, logged) in cases {
        let sealed = siege.seal(&payload, "root", &[]);
        siege.refused(name, &post(&sealed), How::AtOnce, "\"answer\":\"refused\"", logged);
    }
}

fn order_to(verb: &str) -> String {
    let what = if verb == "retry" { OrderKind::Retry } else { OrderKind::Release };
    serde_json::to_string(&Order::new(OrderId::from_random(4), NodeSet::parse("cn01").unwrap(), what))
        .unwrap()
}

/// Unsealed bytes from anybody who can reach the port.
fn not_even_http(siege: &Siege<'_>) {
    let unsealed = order(5, "cn01");
    siege.refused("not sealed", &post(&unsealed), How::AtOnce, "refused", "refused: MUNGE: ");
    siege.refused(
        "no text",
        &latin1(&post("\u{e9}\u{ff}")),
        How::AtOnce,
        "no text",
        "refused: it is not sealed",
    );

    let much = "A".repeat(10 * MIB);
    let logged = format!("refused: an order has at most {MIB} bytes");
    siege.refused("10 MB", &post(&much), How::AtOnce, "", &logged);
    let head = "POST /v1/order HTTP/1.1\r\nHost: cn01\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = format!("{head}A00000\r\n{much}\r\n0\r\n\r\n");
    siege.refused("10 MB in chunks", chunked.as_bytes(), How::AtOnce, "", &logged);

    let sealed = post(&siege.seal(&order(6, "cn01"), "root", &[]));
    siege.refused("cut short", &sealed[..sealed.len() - 20], How::Cut, "", "the order came incomplete");
    siege.refused("cut in its head", &sealed[..40], How::Cut, "", ": hung up: ");
    let head = sealed.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    siege.refused("a dripping head", &sealed[..head], How::Drip(1), "", ": hung up: ");
    siege.refused("a dripping body", &sealed, How::Drip(head + 4), "", ": hung up: too slow");

    siege.refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", How::Cut, "", ": hung up: ");
    siege.refused("noise", &[0xff; 4096], How::AtOnce, "", ": hung up: ");
    let endless = format!("GET /v1/status HTTP/1.1\r\nX: {}", "x".repeat(MIB));
    siege.refused("an endless header", endless.as_bytes(), How::AtOnce, "", ": hung up: ");
    let many: String = (0..10_000).map(|n| format!("X{n}: y\r\n")).collect();
    let many = format!("GET /v1/status HTTP/1.1\r\n{many}\r\n");
    siege.refused("many headers", many.as_bytes(), How::AtOnce, "", ": hung up: ");
    let unknown = "asked for what there is not: ";
    siege.refused("another path", &get("/../../etc/shadow"), How::AtOnce, "404", unknown);
    siege.refused("a GET of an order", &get("/v1/order"), How::AtOnce, "404", unknown);
    let put = String::from_utf8(post(&unsealed)).unwrap().replacen("POST", "PUT", 1);
    siege.refused("PUT", put.as_bytes(), How::AtOnce, "404", unknown);
}

/// Encodes the body of a request in one byte for each character.
fn latin1(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let head = text.find("\r\n\r\n").unwrap() + 4;
    let body: Vec<u8> = text[head..].chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let head = text[..head].replace("Content-Length: 4", "Content-Length: 2");
    [head.into_bytes(), body].concat()
}

/// The Unix socket is for root.
fn the_local_socket(siege: &Siege<'_>) {
    let node = siege.node();
    for user in ["daemon", "slurm"] {
        let refused = node.exec_as(user, &["python3", "-c", LOCAL]).unwrap();
        assert!(refused.stderr.contains("PermissionError"), "{refused:?}");
        let refused = node.exec_as(user, &["slurm-rollout-agent", "release"]).unwrap();
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("are you root"), "{refused:?}");
    }
    // If the directory is ever open, the agent still checks the peer.
    node.run(&["chmod", "777", "/run/slurm-rollout", "/run/slurm-rollout/agent.sock"]).unwrap();
    let seen = siege.log().unwrap().len();
    let refused = node.exec_as("daemon", &["python3", "-c", LOCAL]).unwrap();
    assert!(!refused.stdout.contains("HTTP"), "{refused:?}");
    siege.is_logged("local socket", seen, "uid 1 on this node", ": hung up");
    node.run(&["chmod", "700", "/run/slurm-rollout"]).unwrap();
    node.run(&["chmod", "600", "/run/slurm-rollout/agent.sock"]).unwrap();
    let root = node.run(&["python3", "-c", LOCAL]).unwrap();
    assert!(root.contains("200 OK"), "{root}");
    let seen = siege.log().unwrap().len();
    let refused = node.exec(&["slurm-rollout-agent", "release"]).unwrap();
    assert!(refused.stderr.contains("the node is not held but idle"), "{refused:?}");
    siege.is_logged("release", seen, "root on this node", "refused: the node is not held but idle");
    siege.nothing_happened("the local socket");
}

/// Idle connections end by the agent's limits, and then it serves as before.
fn a_hundred_at_once(siege: &Siege<'_>) {
    let (controller, node) = (siege.site.cluster.controller(), siege.node());
    let address = node.address().to_string();
    let seen = siege.log().unwrap().len();
    let idle = controller.spawn(&["python3", "-c", IDLE, &address, "100", "100"]).unwrap();
    siege.is_logged("100 at once", seen, "10.77.0.1", ": hung up: too many at the same time");
    // Meanwhile root on the node is served.
    node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert_eq!(idle.wait(), Some(0));
    siege.nothing_happened("100 at once");
}

/// Without descriptors accept(2) itself fails for a while.
fn out_of_descriptors(siege: &Siege<'_>) {
    let (controller, node) = (siege.site.cluster.controller(), siege.node());
    let address = node.address().to_string();
    let seen = siege.log().unwrap().len();
    let open = node.run(&["sh", "-c", &format!("ls /proc/{}/fd | wc -l", siege.pid)]).unwrap();
    let few: u32 = open.trim().parse::<u32>().unwrap() + 3;
    let limit =
        |soft: &str| node.run(&["prlimit", "--pid", &siege.pid, &format!("--nofile={soft}:")]).unwrap();
    limit(&few.to_string());
    controller.run(&["python3", "-c", IDLE, &address, "12", "1"]).unwrap();
    limit("1024");
    siege.is_logged("out of descriptors", seen, "", "a connection cannot be accepted: Too many open files");
    siege.nothing_happened("out of descriptors");
}

/// The control: the same order, sealed by a trusted user, is carried out. And never again.
fn genuine_orders_are_taken_once(siege: &Siege<'_>) {
    let (site, node) = (&siege.site, siege.node());
    let genuine = order(10, "cn[01-02]");
    let sealed = post(&siege.seal(&genuine, "slurm", &[]));
    for (name, user) in [("cn01", "slurm"), ("cn02", "root")] {
        let sealed = if user == "slurm" { sealed.clone() } else { post(&siege.seal(&genuine, user, &[])) };
        let said = siege.send(site.cluster.node(name), &sealed, How::AtOnce);
        assert!(said.contains("\"answer\":\"accepted\""), "{user}: {said}");
    }
    for name in ["cn01", "cn02"] {
        site.cluster.node(name).wait_boots(2, MINUTES).unwrap();
        site.cluster.node(name).wait_file(ORDER_FILE, false).unwrap();
        assert_eq!(site.tool(name).unwrap(), NEW_TOOL);
    }

    // A second execution would undo this.
    node.run(&["ln", "-sfn", "/opt/app/1", "/opt/app/current"]).unwrap();
    let refused = |name: &str, content: &[u8], boots: u32| {
        let seen = siege.log().unwrap().len();
        let said = siege.send(node, content, How::AtOnce);
        assert!(said.contains("was carried out before"), "{name}: {said}");
        siege.is_logged(name, seen, "10.77.0.1", "was carried out before; the node is updated");
        assert!(!node.exec(&["test", "-e", ORDER_FILE]).unwrap().success(), "{name}");
        assert_eq!(
            (site.tool("cn01").unwrap().as_str(), node.boot_count()),
            ("/opt/app/1 1.1", boots),
            "{name}"
        );
    };
    refused("sealed anew", &post(&siege.seal(&genuine, "root", &[])), 2);
    // munged forgot in the reboot that it had opened this one.
    refused("the very same credential", &sealed, 2);
    let _ = node.exec(&["systemctl", "reboot"]);
    node.wait_boots(3, MINUTES).unwrap();
    refused("after another reboot", &post(&siege.seal(&genuine, "slurm", &[])), 3);
    // A new one is taken.
    let said = siege.send(node, &post(&siege.seal(&order(11, "cn01"), "slurm", &[])), How::AtOnce);
    assert!(said.contains("\"answer\":\"accepted\""), "{said}");
    node.wait_boots(4, MINUTES).unwrap();
    until("the change", MINUTES, || site.tool("cn01"), |tool| tool == NEW_TOOL).unwrap();
}
