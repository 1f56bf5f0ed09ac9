//! `scontrol show` and `squeue`, as the product parses them.

use super::Slurm;
use super::job::State;
use super::node::{Base, Next, Node, Power};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::jobs::{Job, JobLimit};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::partitions::{Partition, PartitionState, PartitionTimeout};
use rollout_core::slurm::reservations::Reservation;
use std::ops::Range;
use std::rc::Rc;

/// Nodes as they were shown, and the times for which that holds.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    nodes: Rc<Vec<NodeInfo>>,
    hold: Range<u64>,
}

impl Slurm {
    /// Returns all nodes.
    #[must_use]
    pub fn show_nodes(&self, now_ms: u64) -> Rc<Vec<NodeInfo>> {
        let mut shown = self.shown.borrow_mut();
        match shown.as_ref().filter(|shown| shown.hold.contains(&now_ms)) {
            Some(shown) => Rc::clone(&shown.nodes),
            None => {
                let nodes = (0..self.nodes.len()).filter_map(|node| self.show_node(node, now_ms));
                let nodes = Rc::new(nodes.collect());
                // Reservations begin and end by themselves.
                let times = self
                    .reservations
                    .iter()
                    .flat_map(|reservation| [reservation.start_ms, reservation.end_ms]);
                let until_ms = times.filter(|at_ms| *at_ms > now_ms).min().unwrap_or(u64::MAX);
                *shown = Some(Shown { nodes: Rc::clone(&nodes), hold: now_ms..until_ms });
                nodes
            }
        }
    }

    /// Returns one node.
    #[must_use]
    pub fn show_node(&self, index: usize, now_ms: u64) -> Option<NodeInfo> {
        let node = self.nodes.get(index)?;
        let partitions = self.partitions.iter().filter(|partition| partition.nodes.contains(&index));
        Some(NodeInfo {
            name: node.name.clone(),
            address: node.name.clone(),
            host: node.name.clone(),
            state: self.state(index, node, now_ms).into_iter().map(str::to_owned).collect(),
            partitions: partitions.map(|partition| partition.name.clone()).collect(),
            next_state: next_state(node).map(str::to_owned),
            reason: node.reason.as_ref().map(|reason| reason.text.clone()),
            reason_user: node.reason.as_ref().map(|reason| reason.user.clone()),
            reason_s: node.reason.as_ref().map(|reason| reason.at_ms / 1000),
            boot_s: node.boot_ms.map(|ms| ms / 1000),
            slurmd_start_s: node.slurmd_start_ms.map(|ms| ms / 1000),
            version: Some(format!("{}.{:02}.1", self.config.release.year, self.config.release.month)),
            ..NodeInfo::default()
        })
    }

    fn state(&self, index: usize, node: &Node, now_ms: u64) -> Vec<&'static str> {
        let used = self.used_cpus(index);
        let base = match node.base {
            Base::Down => "DOWN",
            Base::Up if used == 0 => "IDLE",
            Base::Up if used < node.cpus => "MIXED",
            Base::Up => "ALLOCATED",
        };
        let is_completing = self.jobs_on(index).any(|job| matches!(job.state, State::Completing { .. }));
        let here = |wants: bool| {
            self.reservations.iter().any(|reservation| {
                let is_here = reservation.is_active(now_ms) && reservation.nodes.contains(&index);
                is_here && (!wants || reservation.is_maintenance)
            })
        };
        let flags = [
            (is_completing, "COMPLETING"),
            (node.drain, "DRAIN"),
            (node.fail, "FAIL"),
            (node.invalid_reg, "INVALID_REG"),
            (here(true), "MAINTENANCE"),
            (node.power == Power::Off, "POWERED_DOWN"),
            (node.power == Power::ComingUp, "POWERING_UP"),
            (node.requested, "REBOOT_REQUESTED"),
            (node.issued, "REBOOT_ISSUED"),
            (here(false), "RESERVED"),
            (node.not_responding, "NOT_RESPONDING"),
            (self.planned.get(index) == Some(&true) && used == 0, "PLANNED"),
        ];
        let shown = flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag));
        std::iter::once(base).chain(shown).collect()
    }

    /// Returns the jobs that have nodes or wait.
    #[must_use]
    pub fn show_jobs(&self) -> Vec<Job> {
        let open = self.open.iter().filter_map(|index| self.jobs.get(*index));
        let shown = open.map(|job| {
            let has_nodes = job.has_nodes();
            let end_ms = match job.state {
                State::Completing { .. } => Some(job.ended_ms),
                _ => job.limit_end_ms(),
            };
            let limit =
                job.submission.limit_ms.map_or(JobLimit::Unlimited, |ms| JobLimit::Seconds(ms / 1000));
            let state = match job.state {
                State::Pending | State::Over => "PD",
                State::Running => "R",
                State::Suspended => "S",
                State::Completing { .. } => "CG",
            };
            Job {
                record: job.record,
                id: job.id,
                state: state.to_owned(),
                uid: job.submission.uid,
                start_s: has_nodes.then_some(job.start_ms / 1000),
                end_s: end_ms.filter(|_| has_nodes).map(|ms| ms / 1000),
                limit,
                partitions: self
                    .partitions
                    .get(job.submission.partition)
                    .map(|p| p.name.clone())
                    .into_iter()
                    .collect(),
                nodes: self.names(&job.nodes),
                reservation: None,
            }
        });
        shown.collect()
    }

    #[must_use]
    pub fn show_partitions(&self) -> Vec<Partition> {
        let shown = self.partitions.iter().map(|partition| Partition {
            name: partition.name.clone(),
            nodes: self.names(&partition.nodes),
            state: PartitionState::Up,
            over_time_limit: None,
            resume_timeout: PartitionTimeout::NotShown,
        });
        shown.collect()
    }

    #[must_use]
    pub fn show_reservations(&self, now_ms: u64) -> Vec<Reservation> {
        let current = self.reservations.iter().filter(|reservation| reservation.end_ms > now_ms);
        let shown = current.map(|reservation| {
            let (flag, user) = if reservation.is_maintenance { ("MAINT", "root") } else { ("", "alice") };
            Reservation {
                name: reservation.name.clone(),
                nodes: self.names(&reservation.nodes),
                start_s: reservation.start_ms / 1000,
                end_s: reservation.end_ms / 1000,
                flags: [flag, "SPEC_NODES"]
                    .into_iter()
                    .filter(|f| !f.is_empty())
                    .map(str::to_owned)
                    .collect(),
                users: vec![user.to_owned()],
            }
        });
        shown.collect()
    }

    /// Returns the settings, limited to those that concern the end of jobs.
    #[must_use]
    pub fn show_config(&self) -> SlurmConfig {
        let (kill_wait_s, timeout_s) =
            (self.config.kill_wait_ms / 1000, self.config.resume_timeout_ms / 1000);
        SlurmConfig::parse(&format!(
            "OverTimeLimit = 0 min\nKillWait = {kill_wait_s} sec\nUnkillableStepTimeout = 60 sec\n\
             ResumeTimeout = {timeout_s} sec\n"
        ))
    }

    #[must_use]
    pub fn names(&self, nodes: &[usize]) -> NodeSet {
        nodes.iter().filter_map(|node| self.nodes.get(*node)).map(|node| node.name.clone()).collect()
    }

    /// Returns the nodes of a list that Slurm knows.
    #[must_use]
    pub fn indices(&self, nodes: &NodeSet) -> Vec<usize> {
        nodes.iter().filter_map(|name| self.index(name)).collect()
    }
}

fn next_state(node: &Node) -> Option<&'static str> {
    if !node.requested && !node.issued {
        return None;
    }
    match node.next {
        Some(Next::Resume) => Some("RESUME"),
        Some(Next::Down) => Some("DOWN"),
        None => node.undrain.then_some("UNDRAIN"),
    }
}
