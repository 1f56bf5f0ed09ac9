//! State files: written by us, but possibly damaged by a crash or a full disk, or changed by a different version or an
//! admin.

use crate::peers::this_node;
use rollout_core::agent::gate::{Gate, gate};
use rollout_core::agent::ledger::Ledger;
use rollout_core::controller::hand_over::{HandedOver, group};
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::rollout::journal::{JournalState, Line, lines};
use std::collections::BTreeSet;

/// Checks decisions of the gate and of a starting agent, both based on `order.json`.
pub(crate) fn ledger(data: &[u8]) {
    let Ok(mut ledger) = serde_json::from_slice::<Ledger>(data) else { return };
    let again: Ledger = serde_json::from_slice(&serde_json::to_vec_pretty(&ledger).unwrap()).unwrap();
    assert_eq!(again, ledger);
    for boot in ["boot-1", &ledger.boot_id.clone()] {
        let opened = gate(Some(&ledger), None, boot) == Gate::Open;
        assert_eq!(opened, ledger.phase.is_settled(), "{:?}", ledger.phase);
    }
    let status = ledger.status();
    assert_eq!((status.phase, status.changed), (ledger.phase, ledger.changed()));
    // An agent that is restarted repeatedly ends in some phase.
    let mut phases = BTreeSet::new();
    for _ in 0..4 {
        let event = ledger.started("boot-2");
        if let Ok((phase, _)) = rollout_core::agent::phase::step(Some(ledger.phase), event) {
            phases.insert(phase.name());
            ledger.enter(phase, "boot-2", 7);
        }
    }
    ledger.fail("something");
    let error = ledger.error.as_deref().expect("it has just failed");
    assert!(error.contains("something"), "{error:?}");
    super::assert_one_line(error);
}

/// Checks a rollout's journal with arbitrary lines.
pub(crate) fn journal(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read: Vec<Line> = lines(&text).collect();
    let mut named = BTreeSet::new();
    for line in &read {
        let written = serde_json::to_string(line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&written).unwrap(), *line);
        assert!(!written.contains('\n'), "{written}");
        named.extend(line.entry.nodes().iter().map(str::to_owned));
    }
    let JournalState { records, conduct } = read.iter().collect();
    assert!(records.keys().all(|name| named.contains(name)));
    // Each handed-over node is in exactly one group or skipped for exactly one reason.
    let handed: Vec<HandedOver> = named
        .iter()
        .map(|node| HandedOver {
            node: node.clone(),
            issued_ms: Some(5),
            returns_by_itself: true,
            drained: None,
            plain: false,
            only_named_in: None,
        })
        .collect();
    let rollout = RolloutState {
        id: "rollout".to_owned(),
        staged_ms: 0,
        by: "root".to_owned(),
        manifest: Err("not needed".to_owned()),
        records,
        conduct,
    };
    let snapshot = Snapshot { rollouts: vec![rollout], ..Snapshot::default() };
    for now_ms in [0, u64::MAX] {
        let (groups, skipped) = group(&handed, &snapshot, now_ms);
        let count = groups.values().chain(skipped.values()).map(Vec::len).sum::<usize>();
        assert_eq!(count, named.len());
    }
}

/// Checks `staged.json`, which becomes an order when slurmd hands the node over.
pub(crate) fn staged(data: &[u8]) {
    let me = this_node();
    let Some([applies, plain]) = slurm_rollout_agent::fuzzing::handed_over(data, &me) else { return };
    assert!(matches!(plain.kind, OrderKind::Reboot(_)), "{plain:?}");
    assert!(matches!(applies.kind, OrderKind::Reboot(_) | OrderKind::Apply(_)), "{applies:?}");
    for order in [applies, plain] {
        assert_eq!(order.nodes, me);
        // An agent would accept the same order from the controller.
        assert_eq!(Order::parse(&serde_json::to_vec(&order).unwrap()).as_ref(), Ok(&order));
    }
}
