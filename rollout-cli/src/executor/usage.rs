//! Jobs, partitions and reservations, as Slurm shows them.

use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::rollout::journal::NodeRecord;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::jobs::{Job, JobEnds, JobRun, UsedLimits};
use rollout_core::slurm::parsed::Parsed;
use rollout_core::slurm::partitions::Partition;
use rollout_core::slurm::reservations::{Reservation, name_of_job};
use rollout_host::clock;
use rollout_host::scontrol::Scontrol;
use rollout_plan::budget::Settings;
use rollout_plan::plan::KnownJobs;
use std::collections::BTreeSet;
use std::fmt::Display;

const RESERVATIONS: &str = "reservations";
const RUNS: &str = "qualification jobs";

/// The use of the cluster. What could not be read, or not in full, is `None`: nothing that needs it is decided then.
#[derive(Debug, Default)]
pub struct Usage {
    jobs: Option<(Vec<Job>, JobEnds)>,
    /// Time at which Slurm was asked for jobs, in seconds since 1970.
    asked_s: u64,
    /// The part of its time limit that a job uses, in percent, by those that were seen to end.
    pub used_percent: Option<u8>,
    pub partitions: Option<Vec<Partition>>,
    pub reservations: Option<Vec<Reservation>>,
    /// Jobs that qualify waves.
    pub runs: Option<Vec<JobRun>>,
    config: Option<SlurmConfig>,
    /// The reasons for which a part is missing.
    pub trouble: Vec<String>,
}

impl Usage {
    /// Asks Slurm.
    #[must_use]
    pub fn read(scontrol: &Scontrol) -> Self {
        let mut usage = Self::read_settings(scontrol);
        usage.reservations = usage.complete(RESERVATIONS, scontrol.show_reservations());
        usage.asked_s = clock::now_ms() / 1000;
        let jobs = usage.complete("jobs", scontrol.jobs());
        let ends = usage.settings().map(|Settings { config, partitions }| JobEnds::new(config, partitions));
        usage.jobs = jobs.zip(ends);
        usage
    }

    /// Adds the jobs that have ended since an earlier look at all jobs.
    pub fn observe_ends(&self, before: &Self, used: &mut UsedLimits) {
        if let (Some((jobs_before, _)), Some((jobs, _))) = (&before.jobs, &self.jobs) {
            used.observe((before.asked_s, jobs_before), (self.asked_s, jobs));
        }
    }

    /// Reads the reservations again.
    pub fn read_reservations(&mut self, scontrol: &Scontrol) {
        let before = not_known(RESERVATIONS);
        self.trouble.retain(|line| !line.starts_with(&before));
        self.reservations = self.complete(RESERVATIONS, scontrol.show_reservations());
    }

    /// Reads the jobs that qualify waves. Slurm is not asked if there is none.
    pub fn read_runs(&mut self, scontrol: &Scontrol, snapshot: &Snapshot) {
        let before = not_known(RUNS);
        self.trouble.retain(|line| !line.starts_with(&before));
        let names = names_of_runs(snapshot);
        self.runs = match names.is_empty() {
            true => None,
            false => self.complete(RUNS, scontrol.runs(&names)),
        };
    }

    /// Asks Slurm for its settings alone. The rest is missing.
    #[must_use]
    pub fn read_settings(scontrol: &Scontrol) -> Self {
        let mut usage = Self::default();
        usage.partitions = usage.complete("partitions", scontrol.show_partitions());
        match scontrol.show_config() {
            Ok(config) => usage.config = Some(config),
            Err(error) => usage.missing("settings", &error),
        }
        usage
    }

    /// Returns Slurm's settings, if they and the partitions are known.
    #[must_use]
    pub fn settings(&self) -> Option<Settings<'_>> {
        Some(Settings { config: self.config.as_ref()?, partitions: self.partitions.as_deref()? })
    }

    /// Returns the jobs, if their ends are known as well.
    #[must_use]
    pub fn jobs(&self) -> Option<KnownJobs<'_>> {
        let (list, ends) = self.jobs.as_ref()?;
        Some(KnownJobs { list, ends, used_percent: self.used_percent })
    }

    /// Returns records that were all read: one that was not may be about any node.
    fn complete<T, E: Display>(&mut self, what: &str, read: Result<Parsed<T>, E>) -> Option<Vec<T>> {
        match read {
            Ok(Parsed { items, unread }) => match unread.first() {
                None => Some(items),
                Some(line) => {
                    self.missing(what, line);
                    None
                }
            },
            Err(error) => {
                self.missing(what, &error);
                None
            }
        }
    }

    fn missing(&mut self, what: &str, why: &impl Display) {
        self.trouble.push(format!("{}{why}", not_known(what)));
    }
}

/// Returns the names of the jobs that may still qualify a wave, or must be cancelled.
fn names_of_runs(snapshot: &Snapshot) -> Vec<String> {
    let of = |rollout: &RolloutState, record: &NodeRecord| {
        let qualification = record.qualification.as_ref().filter(|_| record.reserved)?;
        Some(name_of_job(&rollout.id, qualification.wave, qualification.run?.id))
    };
    let rollouts = snapshot.rollouts.iter();
    let records = rollouts.flat_map(|rollout| rollout.records.values().map(move |record| (rollout, record)));
    let names: BTreeSet<String> = records.filter_map(|(rollout, record)| of(rollout, record)).collect();
    names.into_iter().collect()
}

fn not_known(what: &str) -> String {
    format!("Slurm's {what} are not known: ")
}
