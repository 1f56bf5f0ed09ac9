//! A seeded load after the workload model of Lublin and Feitelson, "The workload on parallel supercomputers: modeling
//! the characteristics of rigid jobs", Journal of Parallel and Distributed Computing 63 (2003).
//!
//! Sizes are log-uniform in two stages with a preference for powers of two. The logarithms of runtimes are
//! hyper-gamma, with a mix that depends on the size. Arrivals have a daily cycle. Constants are those of the paper for
//! batch jobs. Simplified: the cycle is a step from day to night, and sizes are in nodes of a small cluster.
//! Users ask for more time than they need: the part that is used is uniform, as Mu'alem and Feitelson found
//! ("Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with backfilling",
//! IEEE TPDS 12, 2001).

use crate::rng::Rng;
use crate::slurm::job::Submission;
use crate::world::{HOUR_MS, START_MS};

/// Probability of a job of one node, and of a power of two.
const SERIAL: f64 = 0.24;
const POWER_OF_TWO: f64 = 0.58;

/// Two-stage uniform distribution of the logarithm of the size: the lowest value, the distance of the middle from the
/// highest one, and the probability of the first stage.
const SIZE_LOW: f64 = 0.8;
const SIZE_MIDDLE_BELOW_HIGH: f64 = 2.5;
const SIZE_FIRST: f64 = 0.86;

/// Hyper-gamma distribution of the natural logarithm of the runtime in seconds.
const SHORT: (f64, f64) = (4.2, 0.94);
const LONG: (f64, f64) = (312.0, 0.03);
const MIX: (f64, f64) = (-0.0054, 0.78);

/// The longest runtime.
const LONGEST_S: f64 = 12.0 * 3600.0;

/// Most jobs of a load.
const MOST_JOBS: usize = 2_000_000;

/// A load.
#[derive(Debug, Clone, Copy)]
pub struct LoadModel {
    pub nodes: usize,
    /// Nodes of the largest job.
    pub largest: usize,
    pub cpus: u32,
    /// Most processors of a job that shares a node.
    pub most_cpus: u32,
    /// Part of the node-hours that jobs ask for.
    pub utilization: f64,
    pub hours: u64,
    /// Jobs that share nodes, in thousandths.
    pub shared: u64,
    /// Jobs without a time limit, in thousandths.
    pub unlimited: u64,
    /// Part of the runtimes, to have short runs see many jobs.
    pub runtime_scale: f64,
}

impl LoadModel {
    /// Returns the jobs of a seed, in the order of their submission.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    pub fn jobs(&self, rng: &mut Rng) -> Vec<Submission> {
        let mut jobs = Vec::new();
        let mut node_ms = 0.0;
        let wanted = self.utilization * self.nodes as f64 * (self.hours * HOUR_MS) as f64;
        let mut array = 0;
        while node_ms < wanted && jobs.len() < MOST_JOBS {
            let job = self.job(rng);
            // Some are arrays.
            let tasks = if rng.chance(80) { rng.between(2, 6) } else { 1 };
            for task in 0..tasks {
                let task = u32::try_from(task).unwrap_or(0);
                node_ms += job.nodes as f64 * job.needs_ms as f64 * self.share(&job);
                let task = (tasks > 1).then_some((1_000_000_u32.saturating_add(array), task));
                jobs.push(Submission { task, ..job.clone() });
            }
            array = array.saturating_add(1);
        }
        jobs.sort_by_key(|job| job.at_ms);
        jobs
    }

    fn share(&self, job: &Submission) -> f64 {
        if job.exclusive { 1.0 } else { f64::from(job.cpus) / f64::from(self.cpus.max(1)) }
    }

    fn job(&self, rng: &mut Rng) -> Submission {
        let nodes = self.size(rng);
        let needs_s = runtime_s(rng, nodes) * self.runtime_scale;
        let used = 0.05 + 0.95 * rng.unit();
        let is_unlimited = rng.chance(self.unlimited);
        let limit_s = (needs_s / used).clamp(60.0, 2.0 * LONGEST_S);
        let exclusive = nodes > 1 || !rng.chance(self.shared);
        let cpus = u32::try_from(rng.between(1, u64::from(self.most_cpus.max(1)))).unwrap_or(1);
        Submission {
            at_ms: START_MS + self.arrival_ms(rng),
            task: None,
            uid: u32::try_from(rng.between(1000, 1009)).unwrap_or(1000),
            partition: 0,
            nodes,
            cpus,
            exclusive,
            limit_ms: (!is_unlimited).then_some(millis(limit_s)),
            needs_ms: millis(needs_s),
            epilog_ms: rng.between(200, 5_000),
            requeueable: rng.chance(800),
            only_on: None,
            is_urgent: false,
        }
    }

    /// Returns a time of arrival. Three of four jobs arrive by day, from 08:00 to 18:00.
    fn arrival_ms(&self, rng: &mut Rng) -> u64 {
        loop {
            let ms = rng.below((self.hours * HOUR_MS).max(1));
            let is_day = (8..18).contains(&(ms / HOUR_MS % 24));
            if is_day || rng.chance(240) {
                return ms;
            }
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn size(&self, rng: &mut Rng) -> usize {
        if rng.unit() < SERIAL {
            return 1;
        }
        let high = (self.nodes as f64).log2().max(SIZE_LOW);
        let middle = (high - SIZE_MIDDLE_BELOW_HIGH).clamp(SIZE_LOW, high);
        let (from, to) = if rng.unit() < SIZE_FIRST { (SIZE_LOW, middle) } else { (middle, high) };
        let mut log = from + (to - from) * rng.unit();
        if rng.unit() < POWER_OF_TWO {
            log = log.round();
        }
        (log.exp2().round() as usize).clamp(1, self.largest.max(1))
    }
}

/// Returns a runtime in seconds. Large jobs run longer.
#[allow(clippy::cast_precision_loss)]
fn runtime_s(rng: &mut Rng, nodes: usize) -> f64 {
    let short = (MIX.0 * nodes as f64 + MIX.1).clamp(0.0, 1.0);
    let (shape, scale) = if rng.unit() < short { SHORT } else { LONG };
    rng.gamma(shape, scale).exp().clamp(1.0, LONGEST_S)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).max(1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_that_of_its_seed_and_has_its_utilization() {
        let model = LoadModel {
            nodes: 64,
            largest: 64,
            cpus: 16,
            most_cpus: 8,
            utilization: 0.8,
            hours: 96,
            shared: 300,
            unlimited: 0,
            runtime_scale: 1.0,
        };
        let jobs = model.jobs(&mut Rng::new(3));
        assert_eq!(jobs, model.jobs(&mut Rng::new(3)));
        assert_ne!(jobs, model.jobs(&mut Rng::new(4)));
        assert!(jobs.len() > 50, "{}", jobs.len());
        assert!(jobs.iter().all(|job| (1..=64).contains(&job.nodes)));
        assert!(jobs.iter().all(|job| job.limit_ms.is_some_and(|limit_ms| limit_ms >= job.needs_ms)));
        assert!(jobs.windows(2).all(|two| two[0].at_ms <= two[1].at_ms));
    }
}
