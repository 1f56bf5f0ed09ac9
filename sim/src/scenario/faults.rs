//! Random faults.

use super::{Chances, RolloutPlan};
use crate::faults::Fault;
use crate::rng::Rng;
use crate::world::{HOUR_MS, MINUTE_MS, START_MS};

/// The parts that faults can strike.
pub(super) struct Kinds<'a> {
    pub nodes: usize,
    pub executors: usize,
    pub rollouts: &'a [RolloutPlan],
}

/// Returns faults within a time from the start. One run in five has none.
pub(super) fn draw(rng: &mut Rng, kinds: &Kinds<'_>, within_ms: u64) -> Vec<(u64, Fault)> {
    let count = if rng.chance(200) { 0 } else { rng.between(1, 25) };
    let mut faults = Vec::new();
    for _ in 0..count {
        let at_ms = START_MS.saturating_add(rng.below(within_ms));
        let later_ms = at_ms.saturating_add(rng.between(MINUTE_MS, 3 * HOUR_MS));
        add(rng, kinds, (at_ms, later_ms), &mut faults);
    }
    faults
}

/// Adds a fault, and its end.
fn add(rng: &mut Rng, kinds: &Kinds<'_>, (at_ms, later_ms): (u64, u64), faults: &mut Vec<(u64, Fault)>) {
    let node = rng.index(kinds.nodes);
    let executor = rng.index(kinds.executors);
    let short_ms = rng.between(1_000, 5 * MINUTE_MS);
    let id = rng.pick(kinds.rollouts).map_or_else(String::new, |rollout| rollout.id.clone());
    let fault = match rng.below(27) {
        0 => Fault::AgentDies(node),
        1 => Fault::PowerCut(node),
        2 => {
            faults.push((later_ms, Fault::PowerCycle(node)));
            Fault::Hangs(node)
        }
        3 => {
            faults.push((later_ms, Fault::HasMemory(node)));
            Fault::LosesMemory(node)
        }
        4 => Fault::SlurmctldAway { ms: short_ms },
        5 => Fault::SlurmctldRestarts { ms: short_ms },
        6 | 7 => Fault::ExecutorDies(executor),
        8 => Fault::ExecutorStalls { executor, ms: short_ms },
        9..=11 => {
            faults.push((later_ms, Fault::Undrain(node)));
            Fault::Drain(node)
        }
        12 => {
            faults.push((later_ms, Fault::SetResume(node)));
            Fault::SetDown(node)
        }
        13 => Fault::Reserve {
            node,
            after_ms: rng.below(HOUR_MS),
            ms: rng.between(10 * MINUTE_MS, 3 * HOUR_MS),
            is_maintenance: rng.chance(500),
        },
        14 => {
            faults.push((later_ms, Fault::ResumeJobs));
            Fault::SuspendJob
        }
        15 => Fault::HangEpilog { ms: rng.between(10 * MINUTE_MS, 2 * HOUR_MS) },
        16 => Fault::RequeueJob,
        17 => Fault::CancelJob,
        18 | 19 => Fault::Reboot { node, asap: rng.chance(500), resume: rng.chance(500) },
        20 => Fault::CancelReboot(node),
        21 => {
            faults.push((later_ms, Fault::PowerUp(node)));
            Fault::PowerDown(node)
        }
        22 => {
            faults.push((later_ms, Fault::Resume(id.clone())));
            Fault::Pause(id)
        }
        23 => Fault::Resume(id),
        24 => Fault::Approve(id, 1),
        25 => {
            faults.push((later_ms, Fault::Thaw));
            Fault::Freeze
        }
        _ if rng.chance(300) => Fault::Stop(id),
        _ => Fault::SetResume(node),
    };
    faults.push((at_ms, fault));
}

/// Returns the chances of faults that have no time of their own. Half of the runs have none.
pub(super) fn chances(rng: &mut Rng) -> Chances {
    if rng.chance(500) {
        return Chances::default();
    }
    let mut up_to = |most: u64| if rng.chance(500) { rng.below(most) } else { 0 };
    Chances {
        program_lost: up_to(200),
        program_killed: up_to(200),
        message_lost: up_to(100),
        work_fails: up_to(80),
        hangs: up_to(50),
        slow_boot: up_to(100),
        executor_killed: up_to(150),
        slow_answer: up_to(100),
        is_fast: false,
    }
}
