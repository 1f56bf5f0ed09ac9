//! Jobs, partitions and reservations, as Slurm shows them.

use rollout_core::slurm::jobs::{Job, JobEnds};
use rollout_core::slurm::parsed::Parsed;
use rollout_core::slurm::partitions::Partition;
use rollout_core::slurm::reservations::Reservation;
use rollout_host::scontrol::Scontrol;
use rollout_plan::plan::KnownJobs;
use std::fmt::Display;

/// The use of the cluster. What could not be read, or not in full, is `None`: nothing that needs it is decided then.
#[derive(Debug, Default)]
pub struct Usage {
    jobs: Option<(Vec<Job>, JobEnds)>,
    pub partitions: Option<Vec<Partition>>,
    pub reservations: Option<Vec<Reservation>>,
    /// The reasons for which a part is missing.
    pub trouble: Vec<String>,
}

impl Usage {
    /// Asks Slurm.
    #[must_use]
    pub fn read(scontrol: &Scontrol) -> Self {
        let mut usage = Self::default();
        usage.partitions = usage.complete("partitions", scontrol.show_partitions());
        usage.reservations = usage.complete("reservations", scontrol.show_reservations());
        let jobs = usage.complete("jobs", scontrol.jobs());
        let config = match scontrol.show_config() {
            Ok(config) => Some(config),
            Err(error) => {
                usage.missing("settings", &error);
                None
            }
        };
        let ends = config.zip(usage.partitions.as_deref()).map(|(config, list)| JobEnds::new(&config, list));
        usage.jobs = jobs.zip(ends);
        usage
    }

    /// Returns the jobs, if their ends are known as well.
    #[must_use]
    pub fn jobs(&self) -> Option<KnownJobs<'_>> {
        let (list, ends) = self.jobs.as_ref()?;
        Some(KnownJobs { list, ends, used_percent: None })
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
        self.trouble.push(format!("Slurm's {what} are not known: {why}"));
    }
}
