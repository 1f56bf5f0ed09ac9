//! Steps: a journal line, and its effect.

use super::hook_call::Call;
use crate::strategy::VerifyJob;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JobEnd, Way};
use rollout_core::slurm::jobs::JobId;
use rollout_core::slurm::reason::Reason;
use serde::{Serialize, Serializer};

/// One step. Each part may be missing. A process that is killed between them, or whose effect fails, finds the same
/// step or the next one in its next plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Id of the rollout.
    pub rollout: String,
    /// The line that must be on disk before the effect. Missing if it is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The line that is written once the effect has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Entry>,
}

/// An effect in Slurm, or the call of a hook. Each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Effect {
    /// Request a reboot. Its Reason is the rollout's id.
    Request { nodes: NodeSet, way: Way },
    /// Create the reservation of a node, with the name that
    /// [`name_of`](rollout_core::slurm::reservations::name_of) makes: from a time on, no job of a user starts there. The
    /// times are in seconds since 1970.
    Reserve { node: String, from_s: u64, until_s: u64 },
    /// Delete that reservation.
    Unreserve { node: String },
    /// Reserve the nodes that qualify a wave, from now on, with the name that
    /// [`name_of_wave`](rollout_core::slurm::reservations::name_of_wave) makes. If the reservation exists, its nodes and
    /// its end are set.
    ReserveWave { wave: u32, nodes: NodeSet, until_s: u64, user: Option<String>, exists: bool },
    /// Delete that reservation.
    UnreserveWave { wave: u32 },
    /// Submit the job that qualifies these nodes, in that reservation, with the name that
    /// [`name_of_job`](rollout_core::slurm::reservations::name_of_job) makes.
    Submit { wave: u32, run: u64, nodes: NodeSet, job: VerifyJob },
    /// Cancel requests that Slurm has not issued.
    Cancel { nodes: NodeSet },
    /// The same for nodes that must stay drained, with this Reason. They are all INVALID_REG, so that Slurm refuses to
    /// resume them, or none is.
    CancelKeepingDrain {
        nodes: NodeSet,
        invalid_reg: bool,
        #[serde(serialize_with = "as_text")]
        reason: Reason,
    },
    /// Drain nodes.
    Drain {
        nodes: NodeSet,
        #[serde(serialize_with = "as_text")]
        reason: Reason,
    },
    /// Remove the drain of nodes that still have one of ours, see [`has_our_drain`](super::has_our_drain). Those that
    /// are down get their earlier Reason back, by which Slurm decides whether they may return by themselves.
    Undrain { nodes: NodeSet, earlier: Option<String> },
    /// Tell the users of a job that it will be ended at a time, in milliseconds since 1970.
    Warn { record: u32, ends_ms: u64 },
    /// Call a hook. It is not waited for: [`Input::hooks`](super::Input::hooks) has it from the next plan on.
    Call(Box<Call>),
    /// Requeue or cancel a job.
    End {
        #[serde(serialize_with = "as_job")]
        job: JobId,
        how: JobEnd,
    },
}

fn as_text<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

fn as_job<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(job)
}
