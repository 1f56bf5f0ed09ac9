//! A cluster with rollouts, from which plans are made.

use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JournalState, Line};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::drains::Drain;
use rollout_core::slurm::jobs::{Job, JobEnds, JobRun};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::partitions::Partition;
use rollout_core::slurm::reservations::Reservation;
use rollout_plan::limits::Limits;
use rollout_plan::plan::{Calls, Input, KnownJobs, Plan, plan};
use rollout_plan::strategy::{self, Strategy};
use std::collections::BTreeMap;
use std::time::Duration;

/// A rollout as its manifest and journal have it.
#[derive(Debug, Clone)]
pub struct Written {
    pub id: String,
    pub manifest: String,
    pub nodes: NodeSet,
    pub lines: Vec<Line>,
    pub visit: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub now_ms: u64,
    pub nodes: BTreeMap<String, NodeInfo>,
    pub drains: BTreeMap<String, Drain>,
    /// `None` if they are not known.
    pub jobs: Option<Vec<Job>>,
    pub used_percent: Option<u8>,
    pub partitions: Option<Vec<Partition>>,
    pub reservations: Option<Vec<Reservation>>,
    /// `None` if they are not known.
    pub runs: Option<Vec<JobRun>>,
    /// `None` if they are not known.
    pub hooks: Option<Calls>,
    pub limits: Limits,
    pub rollouts: Vec<Written>,
    pub frozen: Option<Freeze>,
}

impl World {
    pub fn at(now_ms: u64) -> Self {
        Self {
            now_ms,
            nodes: BTreeMap::new(),
            drains: BTreeMap::new(),
            jobs: Some(Vec::new()),
            used_percent: None,
            partitions: Some(Vec::new()),
            reservations: Some(Vec::new()),
            runs: Some(Vec::new()),
            hooks: Some(Calls::new()),
            limits: Limits::default(),
            rollouts: Vec::new(),
            frozen: None,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let rollouts = self.rollouts.iter().map(Written::state).collect();
        let (drains, frozen) = (self.drains.clone(), self.frozen.clone());
        Snapshot { rollouts, drains, frozen, ..Snapshot::default() }
    }

    pub fn strategies(&self) -> BTreeMap<String, Result<Strategy, String>> {
        self.rollouts.iter().map(|rollout| (rollout.id.clone(), rollout.strategy())).collect()
    }

    pub fn plan(&self) -> Plan {
        self.with_input(plan)
    }

    pub fn with_input<T>(&self, use_it: impl FnOnce(&Input<'_>) -> T) -> T {
        let (slurm, now_ms) = (self.nodes.clone(), self.now_ms);
        let view = View { snapshot: self.snapshot(), slurm, agents: BTreeMap::new(), now_ms };
        let config =
            SlurmConfig::parse("OverTimeLimit = 0 min\nKillWait = 0 sec\nUnkillableStepTimeout = 60 sec\n");
        let ends = JobEnds::new(&config, self.partitions.as_deref().unwrap_or_default());
        let visits = self.rollouts.iter().filter_map(|rollout| Some((rollout.id.clone(), rollout.visit?)));
        use_it(&Input {
            view: &view,
            jobs: self.jobs.as_ref().map(|list| KnownJobs {
                list,
                ends: &ends,
                used_percent: self.used_percent,
            }),
            partitions: self.partitions.as_deref(),
            reservations: self.reservations.as_deref(),
            runs: self.runs.as_deref(),
            hooks: self.hooks.as_ref(),
            strategies: &self.strategies(),
            limits: &self.limits,
            visits: &visits.collect(),
        })
    }

    /// Appends a line to the journal of a rollout.
    pub fn write(&mut self, rollout: &str, entry: Entry) {
        let t_ms = self.now_ms;
        let rollout = self.rollouts.iter_mut().find(|written| written.id == rollout).unwrap();
        rollout.lines.push(Line { t_ms, by: "executor".to_owned(), entry });
    }
}

impl Written {
    pub fn strategy(&self) -> Result<Strategy, String> {
        strategy::of_manifest(&self.manifest, &self.nodes).map_err(|error| error.to_string())
    }

    pub fn state(&self) -> RolloutState {
        let JournalState { records, conduct } = self.lines.iter().collect();
        let manifest = Manifest::parse(&self.manifest).map_err(|error| error.to_string());
        let (id, by) = (self.id.clone(), "ann".to_owned());
        RolloutState { id, staged_ms: 0, by, manifest, records, conduct }
    }
}
