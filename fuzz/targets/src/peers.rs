//! Input from sockets: requests to the agent, the orders in them, and answers of munged.

use rollout_core::agent::accept::{Verdict, consider};
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, Order, OrderKind, Rehearse};
use rollout_host::munge::Munge;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// Checks a whole connection to the agent. The first byte selects root's Unix socket (`r`) or the TCP port.
pub(crate) fn connection(data: &[u8]) {
    let Some((peer, bytes)) = data.split_first() else { return };
    let is_root_here = *peer == b'r';
    let served = slurm_rollout_agent::fuzzing::connection(bytes, is_root_here).unwrap();
    assert_eq!(served.slots, 0, "a slot is still reserved");
    let answer = String::from_utf8(served.answer).expect("all that is answered is text");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
    if !is_root_here {
        // There is no munged here, so that no request is authenticated.
        assert!(served.orders == 0 && !answer.contains("accepted"), "{answer}");
    }
}

/// Checks the content of a credential from a user who may send orders to this node.
pub(crate) fn order(data: &[u8]) {
    let order = match Order::parse(data) {
        Ok(order) => order,
        Err(error) => return super::assert_one_line(&error.to_string()),
    };
    let again = Order::parse(&serde_json::to_vec(&order).unwrap());
    assert_eq!(again.as_ref(), Ok(&order));
    if let OrderKind::Apply(Apply { desired, .. }) | OrderKind::Rehearse(Rehearse { desired }) = &order.kind {
        desired.check().unwrap();
    }
    let is_ours = order.nodes.contains("cn001");
    let phases = Phase::ALL.map(Some);
    for phase in phases.into_iter().chain([None]) {
        let last = phase.map(ledger);
        match consider(last.as_ref(), &order, "cn001") {
            Verdict::Accept(_) => {
                assert!(is_ours && !matches!(order.kind, OrderKind::Rehearse(_)));
                // Accepted only once, in whichever phase it ends.
                for phase in Phase::ALL {
                    let taken = Ledger::begin(order.clone(), phase, "boot", 1, last.as_ref());
                    let again = consider(Some(&taken), &order, "cn001");
                    assert!(!matches!(again, Verdict::Accept(_)), "{again:?}");
                }
            }
            Verdict::UnderWay(_) => assert!(is_ours),
            Verdict::Refuse { .. } => {}
        }
    }
}

/// Returns the ledger of an order that differs from all orders in the input.
fn ledger(phase: Phase) -> Ledger {
    let mut ledger: Ledger =
        serde_json::from_str(include_str!("../../../rollout-core/tests/fixtures/ledger-v1.json")).unwrap();
    ledger.accepted_orders.clear();
    ledger.phase = phase;
    ledger
}

/// Checks an answer of munged. The first byte selects the request: sealing (`s`) or opening.
pub(crate) fn munged(data: &[u8]) {
    let Some((request, answer)) = data.split_first() else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("munge");
    let listener = UnixListener::bind(&socket).unwrap();
    let munge = Munge::at(&socket);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            answer_with(stream, answer);
        });
        if *request == b's' {
            return munge.seal(b"an order", 0).err();
        }
        match munge.open("MUNGE:AwQFAAAC:") {
            Ok(opened) => {
                let has = |part: &[u8]| part.is_empty() || answer.windows(part.len()).any(|w| w == part);
                assert!(has(&opened.payload) && has(&opened.uid.to_be_bytes()), "{opened:?}");
                None
            }
            Err(error) => Some(error),
        }
    });
    if let Some(error) = error {
        super::assert_one_line(&error.to_string());
    }
}

/// Reads a request to its end, as munged does, and answers.
fn answer_with(mut stream: UnixStream, answer: &[u8]) {
    let mut head = [0; 11];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[7], head[8], head[9], head[10]]);
    std::io::copy(&mut (&stream).take(length.into()), &mut std::io::sink()).unwrap();
    // The client may hang up once it has read enough.
    let _ = stream.write_all(answer);
}

/// Returns the node of all seeds.
pub(crate) fn this_node() -> NodeSet {
    NodeSet::parse("cn001").unwrap()
}
