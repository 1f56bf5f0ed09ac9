//! The follow-up from before the controller's decisions were made in one view of the cluster's state, for the control
//! that the exploration finds its faults: the newest order of a node hid all others, the journal's last line outweighed
//! the agent's evidence, and a node of which nothing was expected got the instruction to open its gate.

use rollout_core::agent::phase::Phase;
use rollout_core::controller::follow_up::{
    AfterRestoring, FollowUp, Instruction, Outcome, Step, may_be_expected,
};
use rollout_core::controller::snapshot::RecordOf;
use rollout_core::controller::view::View;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::rollout::image::DEFAULT_BOOT_TIMEOUT_S;
use rollout_core::rollout::journal::{BootChange, NodeRecord, Progress, Restoration};

/// Returns the steps that are due for all nodes.
pub fn follow_up(view: &View) -> Vec<(String, FollowUp)> {
    let nodes = view.snapshot.nodes();
    let watched: Vec<(String, RecordOf<'_>)> =
        nodes.iter().filter_map(|name| Some((name.to_owned(), watched(view, name)?))).collect();
    let mut steps: Vec<(String, FollowUp)> = Vec::new();
    for (name, of) in &watched {
        let agent = view.node(name).agent();
        if let Some(step) = due(*of, agent, view.now_ms) {
            let order = match (&step, &of.record.boot_change) {
                (Step::RestoreBoot { .. }, Some(change)) => Some(change.order.clone()),
                _ => of.record.order.clone(),
            };
            steps.push((name.clone(), FollowUp { rollout: of.rollout_id().map(str::to_owned), order, step }));
        }
    }
    let others = view.slurm.values().filter(|info| may_be_expected(info)).map(|info| info.name.as_str());
    let others = others.filter(|name| watched.iter().all(|(watched, _)| watched != name));
    steps.extend(others.filter_map(|name| Some((name.to_owned(), plain_instruction(view, name)?))));
    steps
}

/// The newest order of a node counts alone.
fn watched<'a>(view: &'a View, name: &'a str) -> Option<RecordOf<'a>> {
    let ordered = view.snapshot.all_records(name).filter(|of| of.record.ordering_ms.is_some());
    let newest = ordered
        .reduce(|newest, of| if of.record.ordering_ms > newest.record.ordering_ms { of } else { newest })?;
    let boots_ours = boots_ours(newest.record).is_some();
    let is_watched = match newest.record.progress {
        Progress::Ordered => newest.record.volatile || newest.record.boot_change.is_some(),
        Progress::Seen(Phase::Held) => newest.record.volatile,
        Progress::Staged | Progress::Refused | Progress::Unreachable | Progress::Ordering { .. } => {
            boots_ours
        }
        _ => false,
    };
    is_watched.then_some(newest)
}

fn due(of: RecordOf<'_>, agent: Option<&AgentStatus>, now_ms: u64) -> Option<Step> {
    let record = of.record;
    if matches!(record.progress, Progress::Ordering { until_ms } if until_ms > now_ms) {
        return None;
    }
    let put_back = |why: &str, then| Some(Step::RestoreBoot { why: why.to_owned(), then });
    let under_way = matches!(record.progress, Progress::Ordered | Progress::Seen(Phase::Held));
    let Some(agent) = agent else {
        let late = |change: &&BootChange| now_ms > change.since_ms.saturating_add(boot_timeout_ms(of));
        boots_ours(record).filter(late)?;
        return match under_way {
            true => put_back("the node was not back in time", AfterRestoring::TellSlurm),
            false => put_back("the order was not taken", AfterRestoring::Nothing),
        };
    };
    match agent.order.as_ref().filter(|order| Some(&order.id) == record.order.as_ref()) {
        Some(_) if !under_way => Some(Step::Record(Outcome::Accepted { volatile: agent.volatile })),
        Some(order) if order.phase == Phase::Undoing && record.boot_change.is_some() => {
            put_back("the rollout is undone", AfterRestoring::TellAgent)
        }
        Some(order) if order.phase.has_ended() && record.progress != Progress::Seen(order.phase) => {
            Some(Step::Record(Outcome::ended(order)))
        }
        Some(_) => None,
        None if under_way && agent.awaits => Some(expectation(record)),
        None if record.progress == Progress::Ordered && of.rollout.is_none() && agent.order.is_none() => {
            Some(Step::Record(Outcome::Ended { phase: Phase::Updated, error: None, notes: Vec::new() }))
        }
        None if record.progress == Progress::Ordered && has_booted(record, agent) => {
            put_back("it has booted, and its agent knows nothing of the order", AfterRestoring::StageAgain)
        }
        None if !under_way && boots_ours(record).is_some() => {
            put_back("the order was not taken", AfterRestoring::Nothing)
        }
        None => None,
    }
}

fn expectation(record: &NodeRecord) -> Step {
    let restored = record.boot_change.as_ref().and_then(|change| match &change.restoration {
        Restoration::Done { why, .. } => Some(why.clone()),
        Restoration::No | Restoration::Claimed { .. } => None,
    });
    let (phase, error) = match (record.progress, restored) {
        (Progress::Seen(Phase::Held), _) => (Phase::Held, record.why.clone()),
        (_, Some(why)) => (Phase::RebootingBack, Some(why)),
        (_, None) => (Phase::Rebooting, None),
    };
    let before = record.boot_change.as_ref().map(|change| &change.before);
    Step::Instruct(Instruction {
        phase,
        error,
        boot_id: before.map(|before| before.boot_id.clone()).unwrap_or_default(),
        ordered_s: record.ordering_ms.map(|ms| ms / 1000),
        running: before.and_then(|before| before.running.clone()),
    })
}

/// `of_another`: a node that no journal expects anything of need not wait.
pub fn plain_instruction(view: &View, name: &str) -> Option<FollowUp> {
    view.node(name).agent().filter(|agent| agent.awaits)?;
    let instruction = Instruction {
        phase: Phase::Rebooting,
        error: None,
        boot_id: String::new(),
        ordered_s: None,
        running: None,
    };
    Some(FollowUp { rollout: None, order: None, step: Step::Instruct(instruction) })
}

fn boots_ours(record: &NodeRecord) -> Option<&BootChange> {
    record.boot_change.as_ref().filter(|change| !matches!(change.restoration, Restoration::Done { .. }))
}

fn has_booted(record: &NodeRecord, agent: &AgentStatus) -> bool {
    let before = record.boot_change.as_ref().map(|change| &change.before.boot_id);
    before.is_some_and(|boot_id| !boot_id.is_empty() && *boot_id != agent.boot_id)
}

fn boot_timeout_ms(of: RecordOf<'_>) -> u64 {
    let limit = of.rollout.and_then(|rollout| rollout.image()).map(|image| image.boot_timeout.get());
    limit.map_or(DEFAULT_BOOT_TIMEOUT_S * 1000, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}
