//! Safety of the controller's decisions for arbitrary journals and answers of agents.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

#[path = "support/strategies.rs"]
mod strategies;

use proptest::collection::vec;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::closing::closable;
use rollout_core::controller::conduct::{self, Decision, Refusal};
use rollout_core::controller::follow_up::{Step, due};
use rollout_core::controller::snapshot::{RecordOf, RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, OrderStatus};
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{
    Conduct, ConductState, Entry, JournalState, Line, NodeRecord, Progress, replay,
};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::node::NodeInfo;
use std::sync::LazyLock;
use strategies::{answer, is_conduct, journal, line, order, time};

const NODES: [&str; 5] = ["gpu01", "n1", "n2", "n3", "n4"];

static IMAGE: LazyLock<Manifest> =
    LazyLock::new(|| manifest("kind='image'\nvia='boot-file'\nimage='compute'"));
static LINK: LazyLock<Manifest> = LazyLock::new(|| manifest("kind='symlink'\npath='/a'\ntarget='/b'"));

fn manifest(change: &str) -> Manifest {
    Manifest::parse(&format!("name='r'\nnodes='n1'\n[[change]]\n{change}\n")).unwrap()
}

/// Journals of two rollouts, the first one of an image, and of plain reboots.
type Journals = (Vec<Line>, Vec<Line>, Vec<Line>);

fn journals() -> impl Strategy<Value = Journals> {
    (journal(), journal(), journal())
}

fn snapshot((first, second, plain): &Journals) -> Snapshot {
    let rollout = |id: &str, manifest: &Manifest, journal: &[Line]| {
        let JournalState { records, conduct } = journal.iter().collect();
        let (id, by) = (id.into(), "root".into());
        RolloutState { id, staged_ms: 0, by, manifest: Ok(manifest.clone()), records, conduct }
    };
    Snapshot {
        rollouts: vec![rollout("first", &IMAGE, first), rollout("second", &LINK, second)],
        plain_reboots: replay(plain),
        ..Snapshot::default()
    }
}

fn agent() -> impl Strategy<Value = Result<AgentStatus, String>> {
    let rollout = prop::sample::select(vec![None, Some("first"), Some("second"), Some("other")]);
    let phase = prop::sample::select(Phase::ALL.to_vec());
    let report = (order(), rollout, phase).prop_map(|(id, rollout, phase)| OrderStatus {
        id,
        rollout: rollout.map(str::to_owned),
        phase,
        since_s: 0,
        error: None,
        notes: Vec::new(),
        changed: false,
        took_s: None,
    });
    let status = (prop::option::of(report), "[abc]?", any::<bool>(), 0..200_u64).prop_map(
        |(order, boot_id, awaits, uptime_s)| AgentStatus {
            boot_id,
            uptime_s,
            awaits: awaits && order.is_none(),
            volatile: awaits,
            order,
            ..AgentStatus::default()
        },
    );
    prop_oneof![1 => Just(Err("timed out".to_owned())), 5 => status.prop_map(Ok)]
}

/// Returns a view in which Slurm shows every node as being rebooted.
fn view(journals: &Journals, agents: Vec<Result<AgentStatus, String>>, now_ms: u64) -> View {
    let slurm = |name: &str| NodeInfo {
        name: name.into(),
        state: vec!["DOWN".into(), "REBOOT_ISSUED".into()],
        ..NodeInfo::default()
    };
    View {
        snapshot: snapshot(journals),
        slurm: NODES.iter().map(|name| ((*name).to_owned(), slurm(name))).collect(),
        agents: NODES.iter().map(|name| (*name).to_owned()).zip(agents).collect(),
        now_ms,
    }
}

fn is_accepted_and_unsettled(record: &NodeRecord) -> bool {
    matches!(record.progress, Progress::Ordered | Progress::Lost | Progress::Seen(Phase::Held))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_gate_is_opened_plainly_while_an_order_may_have_changed_the_node(
        journals in journals(), agents in vec(agent(), NODES.len()), now_ms in time(),
    ) {
        let view = view(&journals, agents, now_ms);
        for name in NODES {
            let due = due(view.node(name));
            let plain = |step: &Step| matches!(step, Step::Instruct(told) if told.phase == Phase::Rebooting);
            if due.iter().any(|due| due.rollout.is_none() && plain(&due.step)) {
                for of in view.snapshot.records(name) {
                    prop_assert!(of.record.unsettled_boot_change().is_none(), "{} {:?}", name, of.record);
                    prop_assert!(!is_accepted_and_unsettled(of.record), "{} {:?}", name, of.record);
                }
            }
        }
    }

    #[test]
    fn a_boot_source_that_a_process_works_on_is_left_alone(
        journals in journals(), agents in vec(agent(), NODES.len()), now_ms in time(),
    ) {
        let view = view(&journals, agents, now_ms);
        for name in NODES {
            for due in due(view.node(name)) {
                let rollout = due.rollout.as_deref().and_then(|id| view.snapshot.rollout(id));
                let record = rollout.and_then(|rollout| rollout.records.get(name));
                if let (Some(record), Step::RestoreBoot { .. }) = (record, &due.step) {
                    prop_assert!(!record.is_claimed(now_ms), "{} {:?}", name, record);
                    prop_assert!(record.unsettled_boot_change().is_some(), "{} {:?}", name, record);
                    prop_assert!(record.progress != Progress::Seen(Phase::Updated), "it is proven");
                }
            }
        }
    }

    /// An outcome that stays due would be recorded at every look.
    #[test]
    fn an_outcome_is_due_once(
        journals in journals(), agents in vec(agent(), NODES.len()), now_ms in 0..300_000_u64,
    ) {
        let before = view(&journals, agents.clone(), now_ms);
        for name in NODES {
            let steps = due(before.node(name));
            let mut after = journals.clone();
            for step in &steps {
                let Step::Record(outcome) = &step.step else { continue };
                let journal = match step.rollout.as_deref() {
                    Some("first") => &mut after.0,
                    Some(_) => &mut after.1,
                    None => &mut after.2,
                };
                let nodes = NodeSet::from_iter([name.to_owned()]);
                let entry = outcome.clone().entry(nodes, step.order.clone());
                journal.extend(entry.map(|entry| Line { t_ms: now_ms, by: String::new(), entry }));
            }
            let recorded = after != journals;
            let after = view(&after, agents.clone(), now_ms);
            for step in due(after.node(name)) {
                prop_assert!(!recorded || !matches!(step.step, Step::Record(_)) || !steps.contains(&step), "{:?}", step);
            }
        }
    }

    /// M12: the next reboot applies one rollout, and the one after it none.
    #[test]
    fn one_rollout_at_most_is_armed_for_a_node(mut journals in journals(), now_ms in 0..u64::MAX / 2) {
        let before = snapshot(&journals);
        for name in NODES {
            let Some(armed) = before.armed(name, now_ms) else { continue };
            let journal = if armed.rollout_id() == Some("first") { &mut journals.0 } else { &mut journals.1 };
            let (nodes, order) = (|| NodeSet::from_iter([name.to_owned()]), OrderId::from_random(9));
            let ordering = Entry::Ordering { nodes: nodes(), order: order.clone(), until_ms: now_ms + 1 };
            let seen = Entry::Seen { nodes: nodes(), order, phase: Phase::Updated, error: None, notes: Vec::new() };
            journal.extend([ordering, seen].map(|entry| Line { t_ms: now_ms, by: String::new(), entry }));
            prop_assert!(snapshot(&journals).armed(name, now_ms).is_none());
            prop_assert!(snapshot(&journals).pending(name).is_none());
        }
    }

    #[test]
    fn a_closed_rollout_is_not_armed_by_late_answers(
        journals in journals(), late in vec(line(answer()), 0..12), now_ms in time(),
    ) {
        let closed: Vec<String> = closable(&snapshot(&journals), &NodeSet::default(), 0).into_iter().map(|(id, _)| id).collect();
        let mut after = journals.clone();
        for (id, journal) in [("first", &mut after.0), ("second", &mut after.1)] {
            if closed.iter().any(|closed| closed == id) {
                journal.extend(late.clone());
            }
        }
        let after = snapshot(&after);
        for name in NODES {
            let armed = after.armed(name, now_ms).and_then(|of| of.rollout_id());
            prop_assert!(armed.is_none_or(|id| !closed.iter().any(|closed| closed == id)), "{} {:?}", name, armed);
        }
    }

    /// A controller of an earlier version works on the same state directory.
    #[test]
    fn versions_that_skip_the_lines_of_started_rollouts_decide_the_same(
        journals in journals(), agents in vec(agent(), NODES.len()), now_ms in time(),
    ) {
        let mut old = journals.clone();
        for journal in [&mut old.0, &mut old.1, &mut old.2] {
            journal.retain(|line| !is_conduct(&line.entry));
        }
        let (new, old) = (view(&journals, agents.clone(), now_ms), view(&old, agents, now_ms));
        for name in NODES {
            prop_assert_eq!(due(new.node(name)), due(old.node(name)));
            let rollouts = |view: &View| {
                let (snapshot, id) = (&view.snapshot, |of: RecordOf<'_>| of.rollout_id().map(str::to_owned));
                let owner = snapshot.owner(name).map(id);
                (owner, snapshot.armed(name, now_ms).map(id), snapshot.pending(name).map(id))
            };
            prop_assert_eq!(rollouts(&new), rollouts(&old));
            let owners = |view: &View| view.snapshot.boot_owners(name).map(|of| of.rollout_id().map(str::to_owned)).collect::<Vec<_>>();
            prop_assert_eq!(owners(&new), owners(&old));
        }
        let closed = |view: &View| closable(&view.snapshot, &NodeSet::default(), 0).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let (of_new, of_old) = (closed(&new), closed(&old));
        for (new, old) in new.snapshot.rollouts.iter().zip(&old.snapshot.rollouts) {
            prop_assert_eq!(new.is_settled(), old.is_settled());
            // Only what is left in Slurm, a halt and hooks keep a rollout open for longer.
            let left = new.records.values().any(NodeRecord::has_traces_in_slurm);
            let halts = matches!(new.conduct.state, ConductState::Halted { .. }) || new.may_be_halted(0);
            let expected = of_old.contains(&old.id) && !left && !halts && !new.conduct.hooks.awaited;
            prop_assert_eq!(of_new.contains(&new.id), expected);
        }
    }

    /// Scripts repeat verbs, and so does an admin who is not sure.
    #[test]
    fn a_verb_has_its_effect_once(mut journals in journals(), verb in 0..5_usize, wave in 0..4_u32) {
        let verb = |snapshot: &Snapshot| match verb {
            0 => conduct::start(snapshot, "first"),
            1 => conduct::pause(snapshot, "first", Some("noise".to_owned())),
            2 => conduct::resume(snapshot, "first"),
            3 => conduct::stop(snapshot, "first"),
            _ => conduct::approve(snapshot, "first", wave),
        };
        // The verb's line comes last, also by the clock.
        for line in [&mut journals.0, &mut journals.1, &mut journals.2].into_iter().flatten() {
            line.t_ms = line.t_ms.min(u64::MAX - 1);
        }
        let before = snapshot(&journals);
        if let Ok(decision) = verb(&before) {
            prop_assert!(!decision.report.is_empty());
            let entries = decision.entries;
            prop_assert!(entries.len() <= 1);
            let lines = entries.iter().map(|entry| Line { t_ms: u64::MAX, by: "ann".to_owned(), entry: entry.clone() });
            journals.0.extend(lines);
            let after = snapshot(&journals);
            let changed = |snapshot: &Snapshot| -> (Conduct, Vec<bool>) {
                let cancelled = snapshot.rollouts[0].records.values().map(|record| record.cancelled).collect();
                (snapshot.rollouts[0].conduct.clone(), cancelled)
            };
            prop_assert_eq!(changed(&before) != changed(&after), !entries.is_empty(), "a line without an effect, or none");
            let again = verb(&after);
            // Only Slurm knows whether a node with such a request has booted again since.
            let may_be_due = |decision: &Decision| decision.report.contains("if it got no order");
            let is_as_before = match &again {
                Ok(again) => again.entries.is_empty() || may_be_due(again),
                // A halt may be all that kept it open.
                Err(refusal) => matches!(refusal, Refusal::Over { .. }) && after.rollouts[0].is_over(),
            };
            prop_assert!(is_as_before, "{:?}", again);
        }
    }
}
