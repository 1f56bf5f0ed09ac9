//! Rehearsals beside the driver.

use super::*;
use rollout_core::protocol::rehearsal::Rehearsal;

/// Waits for the report of the last rehearsal.
fn report(last_rehearsal: &LastRehearsal) -> Rehearsal {
    loop {
        match last_rehearsal.get() {
            Some(last) if last.report.is_some() => return last,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn a_rehearsal_reports_and_leaves_no_trace() {
    let rig = Rig::new();
    let rehearse = |number| {
        let desired = desired(&format!("{LINKS}[verify]\ncommands=[['/bin/nhc']]\n"));
        order(number, OrderKind::Rehearse(Rehearse { desired }))
    };
    let files = || std::fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let last_rehearsal = rig.last_rehearsal.clone();
    let (end, answers) = rig.run(|send| {
        let first = ask(&send, &rehearse(1));
        let last = report(&last_rehearsal);
        // Sent once more it is accepted, and not rehearsed again.
        (first, last, ask(&send, &rehearse(1)))
    });
    assert_eq!((end, answers.0, answers.2), (End::Idle, Some(accepted(1)), Some(accepted(1))));
    assert_eq!(answers.1.order, OrderId::from_random(1));
    let report = answers.1.report.unwrap();
    assert_eq!((report.changes.len(), report.stopped.as_deref()), (2, None), "{report:?}");
    assert_eq!(rig.node.state().used, ["/bin/nhc"]);
    assert_eq!(rig.links(), ["/old-a", "/old-b"]);
    assert!(files().all(|name| !name.to_string_lossy().contains("order")), "no ledger");

    // While an order is under way, and on a held node, it is refused.
    let rig = Rig::new();
    rig.node.state().broken.insert("make");
    let held = apply(2, &format!("{LINKS}{HOLD}"));
    rig.life(&[held]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Held);
    let (_, answers) = rig.life(&[rehearse(3)]);
    assert!(
        matches!(&answers[..], [Some(Answer::Refused { why, .. })] if why.contains("held")),
        "{answers:?}"
    );
    assert_eq!(rig.last_rehearsal.get(), None);
}
