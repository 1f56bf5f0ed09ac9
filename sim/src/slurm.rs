//! A model of slurmctld, as far as rollouts depend on it: nodes and their flags, jobs, backfill, reservations, and the
//! commands that change them.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | a node as Slurm keeps it |
//! | [`job`] | a job |
//! | [`scheduling`] | starts of jobs: backfill in the manner of EASY |
//! | [`ending`] | ends of jobs: epilogs, requeues, nodes that fail |
//! | [`commands`] | `scontrol reboot`, `cancel_reboot`, `update node` |
//! | [`issuing`] | hand-overs to RebootProgram, and time-outs |
//! | [`registration`] | slurmd registers |
//! | [`show`] | the output of `scontrol show` and `squeue`, as parsed |

pub mod commands;
pub mod ending;
pub mod issuing;
pub mod job;
pub mod node;
pub mod registration;
pub mod scheduling;
pub mod show;

use job::{Job, State};
use node::{Node, Power};
use rollout_core::slurm::config::Release;
use show::Shown;
use std::cell::RefCell;
use std::collections::HashMap;

/// The party whose act changes something in Slurm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A started rollout, through its executor.
    Us,
    /// An admin, a health check, or Slurm itself.
    Others,
    /// The agent of the node.
    Agent,
}

/// A change that concerns more than Slurm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A job has begun on these nodes.
    Started { job: usize },
    /// A job ends at this time unless something else happens to it before.
    EndsAt { job: usize, epoch: u32, at_ms: u64 },
    /// A job that is completing leaves its nodes at this time.
    LeavesAt { job: usize, epoch: u32, at_ms: u64 },
    /// A job was ended before its time.
    Killed { job: usize, by: By, why: String },
    /// These nodes are handed over to RebootProgram.
    Issued { nodes: Vec<usize> },
    /// slurmctld asks a node to register.
    AsksToRegister { node: usize },
    /// The pending jobs may have become able to start.
    NodeFreed,
}

/// Slurm's settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub release: Release,
    pub resume_timeout_ms: u64,
    pub slurmd_timeout_ms: u64,
    pub return_to_service: u8,
    pub kill_wait_ms: u64,
    /// slurm.conf has an AccountingStorageType.
    pub has_accounting: bool,
}

impl Config {
    /// Returns whether Slurm erases the Reason of a node that comes into service. Without accounting, 23.11 to 25.11 leave
    /// it until a job begins (`clusteracct_storage_g_node_up` in `src/interfaces/accounting_storage.c`).
    fn erases_reasons(&self) -> bool {
        let leaving = Release { year: 23, month: 11 }..=Release { year: 25, month: 11 };
        self.has_accounting || !leaving.contains(&self.release)
    }
}

/// A partition.
#[derive(Debug, Clone)]
pub struct Partition {
    pub name: String,
    pub nodes: Vec<usize>,
}

/// A reservation.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub name: String,
    pub nodes: Vec<usize>,
    pub start_ms: u64,
    pub end_ms: u64,
    /// With the flag MAINT. Otherwise it is for users.
    pub is_maintenance: bool,
}

impl Reservation {
    /// Returns whether a started rollout has made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("slurm-rollout-")
    }

    #[must_use]
    pub fn is_active(&self, now_ms: u64) -> bool {
        self.start_ms <= now_ms && now_ms < self.end_ms
    }
}

/// slurmctld and its state.
#[derive(Debug, Clone)]
pub struct Slurm {
    pub config: Config,
    pub nodes: Vec<Node>,
    pub partitions: Vec<Partition>,
    pub reservations: Vec<Reservation>,
    /// All jobs that were ever submitted.
    pub jobs: Vec<Job>,
    /// Jobs that are not over, in the order of their submission.
    pub open: Vec<usize>,
    /// Places of the jobs on each node.
    on: Vec<Vec<usize>>,
    /// Processors of each node that jobs use.
    used_cpus: Vec<u32>,
    /// Places of the nodes by their names.
    places: HashMap<String, usize>,
    /// Nodes for which backfill has planned a job.
    pub planned: Vec<bool>,
    /// No command is answered before this time.
    pub away_until_ms: u64,
    pub news: Vec<News>,
    /// Changes with every change of nodes or jobs.
    pub version: u64,
    /// Nodes as last shown, until the next change.
    shown: RefCell<Option<Shown>>,
}

impl Slurm {
    #[must_use]
    pub fn new(config: Config, nodes: Vec<Node>, partitions: Vec<Partition>) -> Self {
        let (planned, on) = (vec![false; nodes.len()], vec![Vec::new(); nodes.len()]);
        let used_cpus = vec![0; nodes.len()];
        let places = nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
        Self {
            config,
            nodes,
            partitions,
            reservations: Vec::new(),
            jobs: Vec::new(),
            open: Vec::new(),
            on,
            used_cpus,
            places,
            planned,
            away_until_ms: 0,
            news: Vec::new(),
            version: 0,
            shown: RefCell::default(),
        }
    }

    /// Returns whether slurmctld answers.
    #[must_use]
    pub fn answers(&self, now_ms: u64) -> bool {
        self.away_until_ms <= now_ms
    }

    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Notes a change of nodes or jobs.
    pub fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.shown.take();
    }

    /// Changes the reservations.
    pub fn reserve(&mut self, change: impl FnOnce(&mut Vec<Reservation>)) {
        change(&mut self.reservations);
        self.shown.take();
    }

    /// Returns the jobs that have a node.
    pub fn jobs_on(&self, node: usize) -> impl Iterator<Item = &Job> {
        let places = self.on.get(node).into_iter().flatten();
        places.filter_map(|job| self.jobs.get(*job))
    }

    /// Gives nodes to a job, which runs from now on.
    fn allocate(&mut self, index: usize, nodes: Vec<usize>) {
        for node in &nodes {
            self.on.get_mut(*node).into_iter().for_each(|jobs| jobs.push(index));
            // `make_node_alloc` in `src/slurmctld/node_mgr.c`, 22.05 to 26.05.
            self.nodes.get_mut(*node).into_iter().for_each(|node| node.reason = None);
        }
        if let Some(job) = self.jobs.get_mut(index) {
            job.nodes = nodes;
        }
        self.set_state(index, State::Running);
    }

    /// Takes a job off its nodes.
    fn release(&mut self, index: usize) {
        let nodes = self.jobs.get_mut(index).map(|job| std::mem::take(&mut job.nodes)).unwrap_or_default();
        for node in nodes {
            self.on.get_mut(node).into_iter().for_each(|jobs| jobs.retain(|job| *job != index));
            self.count_cpus(node);
        }
    }

    fn set_state(&mut self, index: usize, state: State) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        job.state = state;
        for node in job.nodes.clone() {
            self.count_cpus(node);
        }
    }

    fn count_cpus(&mut self, node: usize) {
        let whole = self.nodes.get(node).map_or(0, |node| node.cpus);
        let used = self.jobs_on(node).filter(|job| job.is_running()).map(|job| &job.submission);
        let used = used.map(|job| if job.exclusive { whole } else { job.cpus });
        let used = used.fold(0, u32::saturating_add).min(whole);
        if let Some(used_cpus) = self.used_cpus.get_mut(node) {
            *used_cpus = used;
        }
    }

    /// Returns the number of processors of a node that jobs use. Those of suspended and completing jobs are free.
    #[must_use]
    pub fn used_cpus(&self, node: usize) -> u32 {
        self.used_cpus.get(node).copied().unwrap_or(0)
    }

    /// Returns for each node whether jobs can start on it, whatever runs there.
    #[must_use]
    pub fn in_service(&self, now_ms: u64) -> Vec<bool> {
        let accepts = |node: &Node| node.accepts_jobs() && node.power == Power::On;
        let mut in_service: Vec<bool> = self.nodes.iter().map(accepts).collect();
        let active = self.reservations.iter().filter(|reservation| reservation.is_active(now_ms));
        for node in active.filter(|reservation| reservation.is_maintenance).flat_map(|active| &active.nodes) {
            if let Some(in_service) = in_service.get_mut(*node) {
                *in_service = false;
            }
        }
        in_service
    }
}
