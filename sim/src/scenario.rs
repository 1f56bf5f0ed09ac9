//! Random scenarios: everything about a run follows from its seed.

mod faults;
mod strategy;

use crate::faults::Fault;
use crate::load::LoadModel;
use crate::rng::Rng;
use crate::slurm::job::Submission;
use crate::slurm::node::Node;
use crate::slurm::{Config, Partition, Slurm};
use crate::world::{HOUR_MS, START_MS};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::Release;
use rollout_plan::limits::Limits;

/// Chances of faults, in thousandths of their occasions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// slurmctld does not start RebootProgram, or loses it at once.
    pub program_lost: u64,
    pub program_killed: u64,
    /// An order, an answer or a question to an agent.
    pub message_lost: u64,
    /// Work of an agent.
    pub work_fails: u64,
    /// A boot hangs.
    pub hangs: u64,
    pub slow_boot: u64,
    /// The executor dies after a line or an effect.
    pub executor_killed: u64,
    /// Slurm or the disk take their time.
    pub slow_answer: u64,
    /// Boots and work take the same time on each node, for comparisons.
    pub is_fast: bool,
}

/// A rollout as an admin writes it.
#[derive(Debug, Clone)]
pub struct RolloutPlan {
    pub id: String,
    pub manifest: String,
    pub nodes: NodeSet,
    pub start_ms: u64,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub slurm: Slurm,
    pub load: Vec<Submission>,
    pub rollouts: Vec<RolloutPlan>,
    pub limits: Limits,
    /// Number of controllers, each with an executor.
    pub executors: usize,
    pub faults: Vec<(u64, Fault)>,
    pub faults_until_ms: u64,
    pub chances: Chances,
    /// For everything that is decided later.
    pub rng: Rng,
}

const RELEASES: [(u16, u16); 7] = [(22, 5), (23, 2), (23, 11), (24, 5), (24, 11), (25, 11), (26, 5)];

impl Scenario {
    /// Returns the scenario of a seed.
    ///
    /// # Errors
    /// A mistake of this module: a manifest or limits that are not valid.
    pub fn random(seed: u64) -> Result<Self, String> {
        let mut rng = Rng::new(seed);
        let count = usize::try_from(rng.between(2, 12)).unwrap_or(2);
        let cpus = 8;
        let names: Vec<String> = (1..=count).map(|number| format!("n{number:02}")).collect();
        let hours = rng.between(3, 10);
        let faults_until_ms = START_MS + hours * HOUR_MS;
        let mut of_load = rng.split();
        let load = LoadModel {
            nodes: count,
            largest: count,
            cpus,
            most_cpus: cpus / 2,
            utilization: 0.2 + 0.7 * of_load.unit(),
            hours: hours + 4,
            shared: of_load.below(1000),
            unlimited: of_load.below(60),
            runtime_scale: 0.3,
        };
        let mut load = load.jobs(&mut of_load);
        let slurm = slurm(&mut rng, &names, cpus);
        for submission in &mut load {
            let partition = of_load.index(slurm.partitions.len());
            let nodes = slurm.partitions.get(partition).map_or(1, |partition| partition.nodes.len());
            submission.partition = partition;
            submission.nodes = submission.nodes.min(nodes);
        }
        let mut of_rollouts = rng.split();
        let limits = strategy::limits(&mut of_rollouts, &names)?;
        let rollouts = strategy::rollouts(&mut of_rollouts, &names)?;
        let mut of_faults = rng.split();
        let executors = if of_faults.chance(300) { 2 } else { 1 };
        let kinds = faults::Kinds { nodes: count, executors, rollouts: &rollouts };
        let faults = faults::draw(&mut of_faults, &kinds, hours * HOUR_MS);
        let chances = faults::chances(&mut of_faults);
        Ok(Self { slurm, load, rollouts, limits, executors, faults, faults_until_ms, chances, rng })
    }
}

fn slurm(rng: &mut Rng, names: &[String], cpus: u32) -> Slurm {
    let (year, month) = rng.pick(&RELEASES).copied().unwrap_or((24, 11));
    let config = Config {
        release: Release { year, month },
        resume_timeout_ms: rng.between(10, 20) * 60_000,
        slurmd_timeout_ms: 300_000,
        return_to_service: u8::try_from(rng.below(3)).unwrap_or(1),
        kill_wait_ms: 30_000,
        has_accounting: rng.chance(500),
    };
    let nodes: Vec<Node> =
        names.iter().map(|name| Node::new(name.clone(), cpus, START_MS - HOUR_MS)).collect();
    let all: Vec<usize> = (0..nodes.len()).collect();
    let mut partitions = vec![Partition { name: "batch".to_owned(), nodes: all.clone() }];
    if nodes.len() > 3 && rng.chance(500) {
        let first = rng.between(1, 2);
        let gpu = all.into_iter().skip(usize::try_from(first).unwrap_or(1)).step_by(2).collect();
        partitions.push(Partition { name: "gpu".to_owned(), nodes: gpu });
    }
    Slurm::new(config, nodes, partitions)
}
