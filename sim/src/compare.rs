//! Comparison of strategies on the same seed, without faults: node-hours lost, and the time until the last node is
//! updated, next to the lower bounds.
//!
//! | strategy | as in |
//! |---|---|
//! | [`Strategy::Unchanged`] | no rollout, for the load |
//! | [`Strategy::Asap`] | the planner, with `max_out` |
//! | [`Strategy::End`] | the same with `jobs.wait = "end"` |
//! | [`Strategy::AllAsap`] | `scontrol reboot ASAP` of all nodes |
//! | [`Strategy::Barrier`] | Cray's CRUS: some nodes at a time, the next ones when all of them are back |
//! | [`Strategy::Serial`] | Ansible's `serial`: the same, and none of them reboots before all are drained |
//! | [`Strategy::JobPerNode`] | `StackHPC`'s reboot jobs: an urgent job reboots a node; some jobs at a time |
//! | [`Strategy::SingleLock`] | kured: one node at a time |

mod rival;

pub use rival::Rival;

use crate::load::LoadModel;
use crate::rng::Rng;
use crate::scenario::{Chances, RolloutPlan, Scenario};
use crate::slurm::node::Node;
use crate::slurm::{Config, Partition, Slurm};
use crate::world::{HOUR_MS, MINUTE_MS, START_MS, World};
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Progress;
use rollout_core::slurm::config::Release;
use rollout_plan::limits::Limits;

/// Time before the rollout starts, on the morning of the second day of the load. The cluster fills meanwhile.
const WARM_UP_MS: u64 = 34 * HOUR_MS;

/// The time after which a rollout is given up. With the time before, the load has whole days.
const HORIZON_MS: u64 = 86 * HOUR_MS;

/// The time of a run that no rollout makes longer. Waits are those of the jobs that are submitted in the first day.
const AT_LEAST_MS: u64 = 30 * HOUR_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A way to take the nodes of a rollout one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Unchanged,
    Asap,
    End,
    AllAsap,
    Barrier,
    Serial,
    JobPerNode,
    SingleLock,
}

impl Strategy {
    /// The ones that a limit changes.
    pub const LIMITED: [Self; 5] = [Self::Asap, Self::End, Self::Barrier, Self::Serial, Self::JobPerNode];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "no rollout",
            Self::Asap => "ours, asap",
            Self::End => "ours, end",
            Self::AllAsap => "all at once, ASAP",
            Self::Barrier => "barrier",
            Self::Serial => "serial batches",
            Self::JobPerNode => "job per node",
            Self::SingleLock => "single lock",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Asap | Self::End)
    }
}

/// The size of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub nodes: usize,
    /// Nodes that may be out at once, for the strategies that have such a limit.
    pub at_once: usize,
    /// Part of the node-hours that jobs need.
    pub utilization: f64,
    /// Nodes are shared by small jobs. Otherwise each job has whole nodes, and many have several.
    pub is_shared: bool,
}

/// Figures of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Node-hours of nodes on which no job could start, as far as none ran.
    pub lost_h: f64,
    /// Node-hours by which requested nodes that still took jobs were used less than others.
    pub unused_h: f64,
    /// Time from the start of the rollout until its last node was back. `None` if that took too long.
    pub took_h: Option<f64>,
    /// Number of nodes that were updated.
    pub updated: usize,
    /// Most nodes on which no job could start at the same time.
    pub most_out: usize,
    /// Part of the processors that jobs used on the first day.
    pub load: f64,
    /// Mean wait of the jobs that were submitted on the first day.
    pub wait_h: f64,
}

impl Figures {
    /// Returns the node-hours lost for each node that was updated.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    pub fn lost_for_each_h(&self) -> f64 {
        self.lost_h / self.updated.max(1) as f64
    }
}

/// Measures what a rollout costs while a world runs.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    from_ms: u64,
    /// The run ends at this time, even if the rollout does not.
    pub until_ms: u64,
    /// The time at which the rollout was over.
    pub done_ms: Option<u64>,
    last_ms: u64,
    rates: Rates,
    /// Version of Slurm to which the rates belong.
    version: Option<u64>,
    lost_ms: f64,
    unused_ms: f64,
    used_ms: f64,
    most_out: usize,
}

/// Numbers of nodes that are lost, unused and used.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    lost: f64,
    unused: f64,
    used: f64,
    out: usize,
}

impl Rates {
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    fn of(slurm: &Slurm, now_ms: u64) -> Self {
        let mut rates = Self::default();
        let (mut requested, mut used_of_requested) = (0_usize, 0.0);
        let (mut others, mut used_of_others) = (0_usize, 0.0);
        for ((index, node), in_service) in slurm.nodes.iter().enumerate().zip(slurm.in_service(now_ms)) {
            let used = f64::from(slurm.used_cpus(index)) / f64::from(node.cpus.max(1));
            rates.used += used;
            match (in_service, node.requested) {
                (false, _) => {
                    rates.out = rates.out.saturating_add(1);
                    rates.lost += 1.0 - used;
                }
                (true, true) => {
                    requested = requested.saturating_add(1);
                    used_of_requested += used;
                }
                (true, false) => {
                    others = others.saturating_add(1);
                    used_of_others += used;
                }
            }
        }
        rates.unused = requested as f64 * used_of_others / others.max(1) as f64 - used_of_requested;
        rates
    }
}

impl Meter {
    #[must_use]
    pub fn new(from_ms: u64, until_ms: u64) -> Self {
        Self { from_ms, until_ms, last_ms: from_ms, ..Self::default() }
    }

    /// Returns whether the run is over.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        let is_long_enough = now_ms > self.from_ms.saturating_add(AT_LEAST_MS);
        now_ms > self.until_ms || self.done_ms.is_some() && is_long_enough
    }

    /// Counts the time up to now, in which the cluster was in this state.
    #[allow(clippy::cast_precision_loss, reason = "times are small")]
    pub fn count(&mut self, slurm: &Slurm, now_ms: u64) {
        if now_ms <= self.last_ms {
            return;
        }
        if self.version != Some(slurm.version) {
            self.rates = Rates::of(slurm, self.last_ms);
            self.version = Some(slurm.version);
        }
        let (span_ms, rates) = ((now_ms - self.last_ms) as f64, self.rates);
        self.last_ms = now_ms;
        if now_ms < self.from_ms.saturating_add(DAY_MS) {
            self.used_ms += span_ms * rates.used;
        }
        if self.done_ms.is_none() {
            self.lost_ms += span_ms * rates.lost;
            self.unused_ms += span_ms * rates.unused;
            self.most_out = self.most_out.max(rates.out);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "times are small")]
    fn figures(&self, world: &World) -> Figures {
        let (hour, slurm, now_ms) = (HOUR_MS as f64, &world.slurm, world.now_ms);
        let of_the_day = |at_ms: u64| (self.from_ms..self.from_ms.saturating_add(DAY_MS)).contains(&at_ms);
        let jobs = slurm.jobs.iter().filter(|job| of_the_day(job.submission.at_ms));
        let waits: Vec<f64> = jobs
            .filter(|job| !job.submission.is_urgent)
            .map(|job| {
                let start_ms = if job.start_ms > 0 { job.start_ms } else { now_ms };
                start_ms.saturating_sub(job.submission.at_ms) as f64 / hour
            })
            .collect();
        let records = world.store.rollouts.iter().flat_map(|rollout| rollout.state.records.values());
        Figures {
            lost_h: self.lost_ms / hour,
            unused_h: self.unused_ms / hour,
            took_h: self.done_ms.map(|done_ms| done_ms.saturating_sub(self.from_ms) as f64 / hour),
            updated: records.filter(|record| record.progress == Progress::Seen(Phase::Updated)).count(),
            most_out: self.most_out,
            load: self.used_ms / DAY_MS as f64 / slurm.nodes.len().max(1) as f64,
            wait_h: waits.iter().sum::<f64>() / waits.len().max(1) as f64,
        }
    }
}

/// Returns the lower bounds: nodes without jobs that all reboot at once. With a limit, it takes as many rounds as that
/// demands.
///
/// # Errors
/// As [`measure`].
#[allow(clippy::cast_precision_loss, reason = "counts are small")]
pub fn bound(seed: u64, setting: Setting) -> Result<Figures, String> {
    let empty = Setting { utilization: 0.0, ..setting };
    let figures = measure(seed, Strategy::AllAsap, empty)?;
    let rounds = setting.nodes.div_ceil(setting.at_once.max(1)) as f64;
    Ok(Figures { took_h: Some(rounds * figures.lost_for_each_h()), most_out: setting.at_once, ..figures })
}

/// Runs one seed with one strategy.
///
/// # Errors
/// The reason if the scenario is not valid, or an invariant does not hold.
pub fn measure(seed: u64, strategy: Strategy, setting: Setting) -> Result<Figures, String> {
    let start_ms = START_MS + WARM_UP_MS;
    let scenario = scenario(seed, strategy, setting, start_ms);
    let mut world = World::new(scenario)?;
    let horizon_ms = if strategy == Strategy::Unchanged { AT_LEAST_MS } else { HORIZON_MS };
    world.meter = Some(Meter::new(start_ms, start_ms + horizon_ms));
    if !strategy.is_ours() && strategy != Strategy::Unchanged {
        world.set_rival(Rival::new(strategy, setting), start_ms);
    }
    world.run().map_err(|violation| violation.to_string())?;
    let meter = world.meter.take().unwrap_or_default();
    Ok(meter.figures(&world))
}

fn scenario(seed: u64, strategy: Strategy, setting: Setting, start_ms: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let cpus = 16;
    let names: Vec<String> = (1..=setting.nodes).map(|number| format!("n{number:04}")).collect();
    let load = LoadModel {
        nodes: setting.nodes,
        largest: if setting.is_shared { 1 } else { setting.nodes.div_ceil(8) },
        cpus,
        most_cpus: cpus / 4,
        utilization: setting.utilization,
        hours: (WARM_UP_MS + HORIZON_MS) / HOUR_MS,
        shared: if setting.is_shared { 1000 } else { 0 },
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
        has_accounting: true,
    };
    let nodes = names.iter().map(|name| Node::new(name.clone(), cpus, START_MS - HOUR_MS)).collect();
    let partitions = vec![Partition { name: "batch".to_owned(), nodes: (0..setting.nodes).collect() }];
    let nodes_of_rollout = NodeSet::from_iter(names);
    let manifest = format!(
        "name = \"r1\"\nnodes = \"{nodes_of_rollout}\"\n[[change]]\nkind = \"symlink\"\npath = \"/opt/slurm\"\n\
         target = \"/opt/r1\"\n[strategy]\nmax_out = {}\njobs = {{ wait = \"{}\" }}\n",
        setting.at_once,
        if strategy == Strategy::End { "end" } else { "asap" }
    );
    // Nobody starts the rollout for a rival, who requests its reboots by hand.
    let starts_ms = if strategy.is_ours() { start_ms } else { u64::MAX };
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
        executors: usize::from(strategy.is_ours()),
        faults: Vec::new(),
        faults_until_ms: start_ms,
        chances: Chances { is_fast: true, ..Chances::default() },
        rng,
    }
}
