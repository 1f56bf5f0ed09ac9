//! Journals for property tests: nodes `n1` to `n4` and `gpu01`, orders 0 to 2.

use proptest::collection::vec;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{AfterFailure, Booted, Entry, JobEnd, Line, Moment, Way};

pub fn nodes() -> impl Strategy<Value = NodeSet> {
    vec(prop_oneof!["n[1-4]", Just("gpu01".to_owned())], 0..4).prop_map(|names| names.into_iter().collect())
}

pub fn order() -> impl Strategy<Value = OrderId> {
    (0..3_u128).prop_map(OrderId::from_random)
}

pub fn why() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("no such package".to_owned()),
        "\\PC{0,12}",
        Just("torn\nin \"two\" \u{0}— ü".to_owned())
    ]
}

pub fn time() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..100_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

pub fn entry() -> impl Strategy<Value = Entry> {
    // Only ends and holds are recorded.
    let recorded = |phase: &Phase| phase.is_settled() || *phase == Phase::Held;
    let phase = prop::sample::select(Phase::ALL.into_iter().filter(recorded).collect::<Vec<_>>());
    prop_oneof![
        nodes().prop_map(|nodes| Entry::Staged { nodes }),
        nodes().prop_map(|nodes| Entry::Unstaged { nodes }),
        (nodes(), order(), prop::option::of(why())).prop_map(|(nodes, order, drained)| Entry::PreStaged {
            nodes,
            order,
            drained
        }),
        (nodes(), order(), time()).prop_map(|(nodes, order, until_ms)| Entry::Ordering {
            nodes,
            order,
            until_ms
        }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: false }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: true }),
        (nodes(), order(), "[ab]", time()).prop_map(|(nodes, order, boot_id, until_ms)| {
            let booted = Booted { boot_id, running: None };
            let before = nodes.iter().map(|node| (node.to_owned(), booted.clone())).collect();
            Entry::BootChange { nodes, order, before, until_ms }
        }),
        (nodes(), order(), time()).prop_map(|(nodes, order, until_ms)| Entry::BootRestoring {
            nodes,
            order,
            until_ms
        }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::BootRestored { nodes, order, why }),
        answer(),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::Lost { nodes, order, why }),
        (nodes(), prop::option::of(order()), why()).prop_map(|(nodes, order, why)| Entry::Superseded {
            nodes,
            order,
            why
        }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Retried { nodes, order }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Released { nodes, order }),
        (nodes(), order(), phase, prop::option::of(why()), prop::collection::vec(why(), 0..3)).prop_map(
            |(nodes, order, phase, error, notes)| Entry::Seen { nodes, order, phase, error, notes }
        ),
        conduct(),
        conduct(),
        conduct(),
        conduct(),
    ]
}

/// Returns lines of started rollouts, which earlier versions skip.
pub fn conduct() -> impl Strategy<Value = Entry> {
    let way = prop::sample::select(vec![Way::Asap, Way::Drained, Way::Down, Way::Reserved]);
    let how = prop::sample::select(vec![JobEnd::Requeued, JobEnd::Cancelled]);
    prop_oneof![
        Just(Entry::Started),
        Just(Entry::Started),
        prop::option::of(why()).prop_map(|why| Entry::Paused { why }),
        Just(Entry::Resumed),
        Just(Entry::Stopped),
        (0..4_u32).prop_map(|wave| Entry::Approved { wave }),
        why().prop_map(|why| Entry::Halted { why }),
        (nodes(), way, prop::option::of(why())).prop_map(|(nodes, way, drained)| Entry::Requested {
            nodes,
            way,
            drained
        }),
        nodes().prop_map(|nodes| Entry::RequestTaken { nodes }),
        (nodes(), why()).prop_map(|(nodes, why)| Entry::Withdrawing { nodes, why }),
        nodes().prop_map(|nodes| Entry::Unreserved { nodes }),
        qualification(),
        qualification(),
        hook(),
        hook(),
        (nodes(), why(), any::<bool>()).prop_map(|(nodes, why, cancelled)| Entry::Withdrawn {
            nodes,
            why,
            cancelled
        }),
        (nodes(), prop::option::of(why())).prop_map(|(nodes, reason)| Entry::KeptOut { nodes, reason }),
        nodes().prop_map(|nodes| Entry::LetIn { nodes }),
        (0..3_u32, nodes()).prop_map(|(job, nodes)| Entry::JobWarned { job, nodes }),
        (0..3_u32, nodes(), how).prop_map(|(job, nodes, how)| Entry::JobEnded { job, nodes, how }),
    ]
}

/// Returns lines about the qualification of waves.
fn qualification() -> impl Strategy<Value = Entry> {
    (nodes(), 1..3_u32, 0..9_u64, why()).prop_flat_map(|(nodes, wave, run, why)| {
        prop::sample::select(vec![
            Entry::ToQualify { nodes: nodes.clone(), wave },
            Entry::Qualifying { nodes: nodes.clone(), wave, run },
            Entry::QualificationJob { nodes: nodes.clone(), job: wave },
            Entry::Qualified { nodes: nodes.clone(), wave },
            Entry::NotQualified { nodes, wave, why },
        ])
    })
}

/// Returns lines about hooks.
fn hook() -> impl Strategy<Value = Entry> {
    let when = prop::sample::select(Moment::ALL.to_vec());
    let then = prop::sample::select(vec![
        AfterFailure::Again,
        AfterFailure::Warn,
        AfterFailure::Halt,
        AfterFailure::Fail,
    ]);
    (nodes(), "[ab]", when, 1..5_u32, 1..4_u32, prop::option::of((why(), then))).prop_flat_map(
        |(nodes, hook, when, run, attempt, failure)| {
            let (error, then) = failure.map_or((None, None), |(error, then)| (Some(error), Some(then)));
            prop::sample::select(vec![
                Entry::HooksAwaited,
                Entry::HooksOver,
                Entry::HookStarted { nodes: nodes.clone(), hook: hook.clone(), when, run, attempt },
                Entry::HookEnded { nodes, hook, when, run, error, then },
            ])
        },
    )
}

/// Returns whether earlier versions skip the line.
pub fn is_conduct(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Started
            | Entry::Paused { .. }
            | Entry::Resumed
            | Entry::Stopped
            | Entry::Approved { .. }
            | Entry::Halted { .. }
            | Entry::Requested { .. }
            | Entry::RequestTaken { .. }
            | Entry::Withdrawing { .. }
            | Entry::Withdrawn { .. }
            | Entry::KeptOut { .. }
            | Entry::LetIn { .. }
            | Entry::Unreserved { .. }
            | Entry::ToQualify { .. }
            | Entry::Qualifying { .. }
            | Entry::QualificationJob { .. }
            | Entry::Qualified { .. }
            | Entry::NotQualified { .. }
            | Entry::HooksAwaited
            | Entry::HooksOver
            | Entry::HookStarted { .. }
            | Entry::HookEnded { .. }
            | Entry::JobWarned { .. }
            | Entry::JobEnded { .. }
    )
}

/// Returns lines that a RebootProgram may still write when it is late.
pub fn answer() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: false }),
        (nodes(), order(), prop::option::of(order()), any::<bool>()).prop_map(
            |(nodes, order, under_way, volatile)| Entry::UnderWay { nodes, order, under_way, volatile }
        ),
        (nodes(), order(), prop::option::of(order())).prop_map(|(nodes, order, by)| Entry::Covered {
            nodes,
            order,
            by
        }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::Refused { nodes, order, why }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::Unreachable { nodes, order, why }),
    ]
}

pub fn line(entry: impl Strategy<Value = Entry>) -> impl Strategy<Value = Line> {
    (time(), entry).prop_map(|(t_ms, entry)| Line { t_ms, by: "slurm-rollout root@ctl".to_owned(), entry })
}

pub fn journal() -> impl Strategy<Value = Vec<Line>> {
    vec(line(entry()), 0..24)
}
