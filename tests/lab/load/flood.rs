//! A flood: a user on a different node who calls an agent as often as that machine can.

use std::net::Ipv4Addr;

use crate::cluster::node::Node;
use crate::error::{LabError, Result};
use crate::processes::run::Background;

/// Keeps this many connections open on which no request ever ends, and opens a new one for each that the agent
/// closes. They send nothing, begin a header, or stop in the middle of a short or long body.
const HOLD: &str = r#"
import resource, selectors, socket, sys, time
address, count = sys.argv[1], int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
head = b"POST /v1/order HTTP/1.1\r\nHost: cn01\r\nContent-Length: 1000000\r\n\r\n"
begun = [b"", b"POST /v1/or", head + b"A" * 30000, head + b"A" * 60000]
peers = selectors.DefaultSelector()
opened = 0

def another():
    peer = socket.socket()
    peer.setblocking(False)
    peer.connect_ex((address, 6821))
    peers.register(peer, selectors.EVENT_WRITE)

for _ in range(count):
    another()
while True:
    for key, events in peers.select(1):
        peer = key.fileobj
        try:
            if events & selectors.EVENT_WRITE:
                peer.send(begun[opened % len(begun)])
                opened += 1
                peers.modify(peer, selectors.EVENT_READ)
            elif not peer.recv(65536):
                raise OSError
        except BlockingIOError:
            pass
        except OSError as error:
            peers.unregister(peer)
            peer.close()
            another()
            # Nobody is there.
            if error.errno is not None:
                time.sleep(0.001)
"#;

/// Sends one bad request after another and counts those that the agent answered or closed.
const SEND: &str = r#"
import socket, sys, time
address, counts = sys.argv[1], sys.argv[2]

def post(body):
    return b"POST /v1/order HTTP/1.1\r\nHost: cn01\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

some = [
    post(b'{"purpose":"slurm-rollout order","version":1}'),
    post(b"MUNGE:AwQFAAACr7yYp2mTt0ZbN5hU1tL3Qw==:"),
    b"GET /../../etc/shadow HTTP/1.1\r\nHost: cn01\r\n\r\n",
    b"\xff" * 200,
    b"GET /v1/status HTTP/1.1\r\nHost: cn01\r\nContent-Length: 1000\r\n\r\n",
]
bad = some * 5 + [post(b"A" * 1000000)]
sent = 0
while True:
    try:
        peer = socket.create_connection((address, 6821), 5)
    except OSError:
        time.sleep(0.01)
        continue
    try:
        peer.sendall(bad[sent % len(bad)])
        while peer.recv(65536):
            pass
    except OSError:
        pass
    peer.close()
    sent += 1
    if sent % 20 == 0:
        with open(counts, "w") as file:
            file.write(f"{sent:>12}")
"#;

/// A flood that lasts until it is dropped.
#[derive(Debug)]
pub struct Flood<'a> {
    from: &'a Node,
    senders: u32,
    _processes: Vec<Background>,
}

impl<'a> Flood<'a> {
    /// Starts it from a node to the agent of a different one: `idle` connections without a request, and `senders`
    /// processes with bad requests.
    pub fn start(from: &'a Node, to: Ipv4Addr, idle: u32, senders: u32) -> Result<Flood<'a>> {
        let (address, idle) = (to.to_string(), idle.to_string());
        let start = |argv: &[&str]| from.command(argv)?.user("daemon").spawn();
        let mut processes = vec![start(&["python3", "-c", HOLD, &address, &idle])?];
        for sender in 0..senders {
            processes.push(start(&["python3", "-c", SEND, &address, &counts(sender)])?);
        }
        Ok(Flood { from, senders, _processes: processes })
    }

    /// Number of bad requests that the agent has answered or closed.
    pub fn sent(&self) -> Result<u64> {
        (0..self.senders).map(|sender| self.sent_by(sender)).sum()
    }

    fn sent_by(&self, sender: u32) -> Result<u64> {
        let counted = self.from.exec(&["cat", &counts(sender)])?.stdout;
        match counted.trim() {
            "" => Ok(0),
            count => count.parse().map_err(|_| LabError::Setup(format!("a flood's count: {count:?}"))),
        }
    }
}

fn counts(sender: u32) -> String {
    format!("/tmp/flood-{sender}")
}
