//! Comparison of strategies on the same seeds, without faults: node-hours that no job can use, and the time until the
//! last node is updated, next to the lower bounds.
//!
//! | strategy | as in |
//! |---|---|
//! | [`Strategy::Ours`] | the planner, with `max_out` |
//! | [`Strategy::AllAsap`] | `scontrol reboot ASAP` of all nodes |
//! | [`Strategy::Barrier`] | Cray's CRUS: some nodes at a time, the next ones when all of them are back |
//! | [`Strategy::Serial`] | Ansible's `serial`: the same, and none of them reboots before all are drained |
//! | [`Strategy::JobPerNode`] | `StackHPC`'s reboot jobs: an urgent job for each node, which reboots it |
//! | [`Strategy::SingleLock`] | kured: one node at a time |

mod rival;

pub use rival::Rival;

use crate::load::LoadModel;
use crate::rng::Rng;
use crate::scenario::{Chances, RolloutPlan, Scenario};
use crate::slurm::node::Node;
use crate::slurm::{Config, Partition, Slurm};
use crate::world::{HOUR_MS, MINUTE_MS, START_MS, World};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::Release;
use rollout_plan::limits::Limits;
use std::fmt;

/// Time before the rollout starts, in which the cluster fills.
const WARM_UP_MS: u64 = 18 * HOUR_MS;

/// Time after which a comparison ends.
const HORIZON_MS: u64 = 72 * HOUR_MS;

/// A way to take the nodes of a rollout one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Ours,
    AllAsap,
    Barrier,
    Serial,
    JobPerNode,
    SingleLock,
}

impl Strategy {
    pub const ALL: [Self; 6] =
        [Self::Ours, Self::AllAsap, Self::Barrier, Self::Serial, Self::JobPerNode, Self::SingleLock];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::AllAsap => "all at once, ASAP",
            Self::Barrier => "barrier",
            Self::Serial => "serial batches",
            Self::JobPerNode => "job per node",
            Self::SingleLock => "single lock",
        }
    }
}

/// The size of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub nodes: usize,
    /// Nodes that may be out at once, for the strategies that have such a limit.
    pub at_once: usize,
    pub utilization: f64,
    /// Jobs that share nodes, in thousandths.
    pub shared: u64,
}

/// Figures of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Node-hours in which nodes could run no job, as far as none ran.
    pub lost_h: f64,
    /// Time from the start of the rollout until its last node was back.
    pub took_h: f64,
    /// Most nodes that took no jobs at the same time.
    pub most_out: usize,
    /// Jobs that started from then on, and their mean wait.
    pub jobs: usize,
    pub wait_h: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost_h, took_h, most_out, jobs, wait_h } = self;
        write!(f, "{lost_h:8.1} {took_h:8.1} {most_out:8} {jobs:8} {wait_h:8.2}")
    }
}

/// Measures what a rollout costs while a world runs.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    from_ms: u64,
    /// The run ends at this time, even if the rollout does not.
    pub until_ms: u64,
    last_ms: u64,
    lost_ms: f64,
    most_out: usize,
}

impl Meter {
    #[must_use]
    pub fn new(from_ms: u64, until_ms: u64) -> Self {
        Self { from_ms, until_ms, last_ms: from_ms, ..Self::default() }
    }

    /// Counts the time up to now, in which the cluster was in this state.
    #[allow(clippy::cast_precision_loss, reason = "times are small")]
    pub fn count(&mut self, slurm: &Slurm, now_ms: u64) {
        if now_ms <= self.last_ms {
            return;
        }
        let span_ms = (now_ms - self.last_ms) as f64;
        self.last_ms = now_ms;
        let mut out = 0_usize;
        for (index, node) in slurm.nodes.iter().enumerate() {
            if node.accepts_jobs() {
                continue;
            }
            out = out.saturating_add(1);
            let used = f64::from(slurm.used_cpus(index)) / f64::from(node.cpus.max(1));
            self.lost_ms += span_ms * (1.0 - used);
        }
        self.most_out = self.most_out.max(out);
    }

    #[allow(clippy::cast_precision_loss, reason = "times are small")]
    fn figures(&self, slurm: &Slurm, now_ms: u64) -> Figures {
        let hour = HOUR_MS as f64;
        let started = slurm.jobs.iter().filter(|job| job.start_ms > self.from_ms && !job.submission.is_urgent);
        let waits: Vec<f64> =
            started.map(|job| job.start_ms.saturating_sub(job.begin_ms) as f64 / hour).collect();
        Figures {
            lost_h: self.lost_ms / hour,
            took_h: now_ms.saturating_sub(self.from_ms) as f64 / hour,
            most_out: self.most_out,
            jobs: waits.len(),
            wait_h: waits.iter().sum::<f64>() / waits.len().max(1) as f64,
        }
    }
}

/// Returns the lower bounds: each node is out for its reboot and update alone, in as many rounds as the limit demands.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts are small")]
pub fn bound(setting: Setting) -> Figures {
    // A minute to apply, some seconds to go down, four minutes to boot, some seconds to be proven.
    let visit_h = (5 * MINUTE_MS) as f64 / HOUR_MS as f64;
    let rounds = setting.nodes.div_ceil(setting.at_once.max(1));
    Figures {
        lost_h: setting.nodes as f64 * visit_h,
        took_h: rounds as f64 * visit_h,
        most_out: setting.at_once,
        ..Figures::default()
    }
}

/// Runs one seed with one strategy.
///
/// # Errors
/// The reason if the scenario is not valid, or an invariant does not hold.
pub fn measure(seed: u64, strategy: Strategy, setting: Setting) -> Result<Figures, String> {
    let start_ms = START_MS + WARM_UP_MS;
    let scenario = scenario(seed, strategy, setting, start_ms);
    let mut world = World::new(scenario)?;
    world.meter = Some(Meter::new(start_ms, start_ms + HORIZON_MS));
    if strategy != Strategy::Ours {
        world.set_rival(Rival::new(strategy, setting), start_ms);
    }
    world.run().map_err(|violation| violation.to_string())?;
    let now_ms = world.now_ms;
    Ok(world.meter.take().unwrap_or_default().figures(&world.slurm, now_ms))
}

fn scenario(seed: u64, strategy: Strategy, setting: Setting, start_ms: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let cpus = 16;
    let names: Vec<String> = (1..=setting.nodes).map(|number| format!("n{number:03}")).collect();
    let load = LoadModel {
        nodes: setting.nodes,
        largest: if setting.shared == 1000 { 1 } else { setting.nodes },
        cpus,
        utilization: setting.utilization,
        hours: 24 * 5,
        shared: setting.shared,
        unlimited: 0,
        runtime_scale: 1.0,
    };
    let load = load.jobs(&mut rng.split());
    let config = Config {
        release: Release { year: 24, month: 11 },
        resume_timeout_ms: 15 * MINUTE_MS,
        slurmd_timeout_ms: 5 * MINUTE_MS,
        return_to_service: 1,
        kill_wait_ms: 30_000,
    };
    let nodes = names.iter().map(|name| Node::new(name.clone(), cpus, START_MS - HOUR_MS)).collect();
    let partitions = vec![Partition { name: "batch".to_owned(), nodes: (0..setting.nodes).collect() }];
    let nodes_of_rollout = NodeSet::from_iter(names);
    let manifest = format!(
        "name = \"r1\"\nnodes = \"{nodes_of_rollout}\"\n[[change]]\nkind = \"symlink\"\npath = \"/opt/slurm\"\n\
         target = \"/opt/r1\"\n[strategy]\nmax_out = {}\n",
        setting.at_once
    );
    // Nobody starts the rollout for a rival, who requests its reboots by hand.
    let starts_ms = if strategy == Strategy::Ours { start_ms } else { u64::MAX };
    Scenario {
        slurm: Slurm::new(config, nodes, partitions),
        load,
        rollouts: vec![RolloutPlan {
            id: "r1".to_owned(),
            manifest,
            nodes: nodes_of_rollout,
            start_ms: starts_ms,
        }],
        limits: Limits::default(),
        executors: usize::from(strategy == Strategy::Ours),
        faults: Vec::new(),
        faults_until_ms: start_ms,
        chances: Chances { is_fast: true, ..Chances::default() },
        rng,
    }
}
