//! The lines of a journal.

use super::conduct::JobEnd;
use super::hook::{AfterFailure, Moment};
use super::request::Way;
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::order::OrderId;
use crate::rollout::image::Running;
use crate::text::with_notes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Time of writing, in milliseconds since 1970.
    pub t_ms: u64,
    /// The writer: program, user and host.
    pub by: String,
    #[serde(flatten)]
    pub entry: Entry,
}

/// Nodes of lines about a rollout as a whole.
static NO_NODES: NodeSet = NodeSet::new();

/// An event in the life of a rollout, or of some of its nodes. Nodes are a hostlist; nodes with the same fate share a
/// line.
///
/// Versions before started rollouts skip the lines from `Started` on. Nothing that a line means for orders, claims and
/// boot sources may therefore depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Entry {
    /// An admin staged the rollout for these nodes.
    Staged { nodes: NodeSet },
    /// An admin called it off.
    Unstaged { nodes: NodeSet },
    /// The agents hold the order in advance, for the time when slurmd has their nodes rebooted.
    #[serde(rename = "delivered")]
    PreStaged {
        nodes: NodeSet,
        /// The order that will apply it.
        order: OrderId,
        /// Reason of the drain that somebody else had set, as told to the agents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<String>,
    },
    /// A RebootProgram claims these nodes and is about to send them an order.
    Ordering {
        nodes: NodeSet,
        order: OrderId,
        /// End of the claim if nothing more is heard, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The boot source of these nodes is about to be changed.
    #[serde(rename = "boot-source")]
    BootChange {
        nodes: NodeSet,
        /// The order for which it is changed. It owns the boot source until it is proven or the boot source is
        /// restored.
        order: OrderId,
        /// State before the change, by NodeName.
        before: BTreeMap<String, Booted>,
        /// End of the claim on the boot source if nothing more is heard, in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "is_zero")]
        until_ms: u64,
    },
    /// The boot source is about to be restored. Nobody else changes or restores it meanwhile.
    #[serde(rename = "putting-back")]
    BootRestoring {
        nodes: NodeSet,
        order: OrderId,
        /// End of the claim if nothing more is heard, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The boot source is restored.
    #[serde(rename = "put-back")]
    BootRestored {
        nodes: NodeSet,
        /// The order for which it had been changed.
        order: OrderId,
        why: String,
    },
    /// The agents have the order in their ledgers.
    Ordered {
        nodes: NodeSet,
        order: OrderId,
        /// These ledgers do not survive the boot.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
    },
    /// The agents were already carrying out this rollout under an earlier order.
    UnderWay {
        nodes: NodeSet,
        /// The order that was sent.
        order: OrderId,
        /// The order under way. `None` if the agent did not report it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        under_way: Option<OrderId>,
        /// The agent reported that its ledger does not survive the boot.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
    },
    /// The agents were already carrying out an order that includes this plain reboot. They never had the order that was
    /// sent.
    Covered {
        nodes: NodeSet,
        /// The order that was sent.
        order: OrderId,
        /// The order under way. `None` if the agent did not report it. Its key must not be `by`, which is the writer of
        /// the line.
        #[serde(default, rename = "under_way", skip_serializing_if = "Option::is_none")]
        by: Option<OrderId>,
    },
    /// The agents refused the order.
    Refused {
        nodes: NodeSet,
        order: OrderId,
        /// The agent's reason.
        why: String,
    },
    /// No answer. The agents may have the order all the same.
    Unreachable { nodes: NodeSet, order: OrderId, why: String },
    /// An admin had held nodes carry out their order once more.
    Retried {
        nodes: NodeSet,
        /// The order that had ended in the hold.
        order: OrderId,
    },
    /// An admin had held nodes given back as they were.
    Released {
        nodes: NodeSet,
        /// The order that had ended in the hold.
        order: OrderId,
    },
    /// An agent reported the end of the order, or a hold.
    Seen {
        nodes: NodeSet,
        order: OrderId,
        phase: Phase,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Facts that are no failure. Older versions do not write them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// The nodes accepted the order and did not come back.
    Lost { nodes: NodeSet, order: OrderId, why: String },
    /// The nodes have moved on to a later order, and the end of this one was not seen.
    Superseded {
        nodes: NodeSet,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderId>,
        why: String,
    },
    /// An admin had the rollout run by itself.
    Started,
    /// An admin paused it: no node is requested, and requests that Slurm has not issued are withdrawn.
    Paused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// An admin had it continue. Failures before this line no longer count for a halt, and nodes whose request somebody
    /// cancelled may be requested again.
    Resumed,
    /// An admin ended it: requests are withdrawn, and nodes that still wait are unstaged.
    Stopped,
    /// An admin approved a wave, counted from 1: the next one may begin.
    Approved { wave: u32 },
    /// The planner stopped requesting nodes until an admin resumes the rollout.
    Halted { why: String },
    /// A reboot of these nodes is about to be requested from Slurm. If the way is `Reserved`, a reservation of each is
    /// about to be created before, with the name that
    /// [`name_of`](crate::slurm::reservations::name_of) makes of the rollout and the node.
    Requested {
        nodes: NodeSet,
        way: Way,
        /// Reason of the drain that somebody else had set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<String>,
    },
    /// Slurm showed the request.
    RequestTaken { nodes: NodeSet },
    /// The request is about to be withdrawn from Slurm. Slurm may begin the reboot before.
    Withdrawing { nodes: NodeSet, why: String },
    /// Slurm no longer has the request: it was withdrawn, or cancelled.
    Withdrawn {
        nodes: NodeSet,
        why: String,
        /// Somebody else cancelled it in Slurm.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancelled: bool,
    },
    /// These nodes are about to be drained, so that they take no jobs before they are updated.
    KeptOut {
        nodes: NodeSet,
        /// Their Reason before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The drain for the update was removed.
    LetIn { nodes: NodeSet },
    /// Slurm has no reservation of ours for these nodes any more.
    Unreserved { nodes: NodeSet },
    /// These nodes are about to be reserved together, with the name that
    /// [`name_of_wave`](crate::slurm::reservations::name_of_wave) makes of the rollout and the wave, counted from 1.
    /// Once all are updated, a job qualifies them, and with them the wave.
    ToQualify { nodes: NodeSet, wave: u32 },
    /// The job that qualifies these nodes is about to be submitted, with the name that
    /// [`name_of_job`](crate::slurm::reservations::name_of_job) makes of the rollout, the wave and the run.
    Qualifying { nodes: NodeSet, wave: u32, run: u64 },
    /// Slurm showed that job.
    QualificationJob { nodes: NodeSet, job: u32 },
    /// The job succeeded on these nodes.
    Qualified { nodes: NodeSet, wave: u32 },
    /// It did not. The nodes are about to be drained, before their reservation is deleted.
    NotQualified { nodes: NodeSet, wave: u32, why: String },
    /// The rollout has hooks, and is not over before they are done.
    HooksAwaited,
    /// No hook of the rollout is due any more.
    HooksOver,
    /// A hook is about to be called for these nodes together, or for the rollout as a whole.
    HookStarted {
        nodes: NodeSet,
        hook: String,
        when: Moment,
        /// Number of the call in the rollout, counted from 1.
        run: u32,
        /// Counted from 1.
        attempt: u32,
    },
    /// That call is over.
    HookEnded {
        nodes: NodeSet,
        hook: String,
        when: Moment,
        run: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The consequence of the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<AfterFailure>,
    },
    /// The users of a job on these nodes were told that it will be ended.
    #[serde(rename = "warned")]
    JobWarned { job: u32, nodes: NodeSet },
    /// A job on these nodes is about to be ended.
    #[serde(rename = "ended")]
    JobEnded { job: u32, nodes: NodeSet, how: JobEnd },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// State of a node before its boot source was changed. The secrets needed to restore it are kept apart from the
/// journal, which everybody may read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    /// The system that the node was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The kernel's boot id. Empty if unknown.
    #[serde(default)]
    pub boot_id: String,
}

impl Entry {
    /// Returns the nodes that it is about. None for a line about the rollout as a whole.
    #[must_use]
    pub fn nodes(&self) -> &NodeSet {
        match self {
            Self::Staged { nodes }
            | Self::Unstaged { nodes }
            | Self::PreStaged { nodes, .. }
            | Self::Ordering { nodes, .. }
            | Self::BootChange { nodes, .. }
            | Self::BootRestoring { nodes, .. }
            | Self::BootRestored { nodes, .. }
            | Self::Ordered { nodes, .. }
            | Self::UnderWay { nodes, .. }
            | Self::Covered { nodes, .. }
            | Self::Refused { nodes, .. }
            | Self::Unreachable { nodes, .. }
            | Self::Retried { nodes, .. }
            | Self::Released { nodes, .. }
            | Self::Seen { nodes, .. }
            | Self::Lost { nodes, .. }
            | Self::Superseded { nodes, .. }
            | Self::Requested { nodes, .. }
            | Self::RequestTaken { nodes }
            | Self::Withdrawing { nodes, .. }
            | Self::Withdrawn { nodes, .. }
            | Self::KeptOut { nodes, .. }
            | Self::LetIn { nodes }
            | Self::Unreserved { nodes }
            | Self::ToQualify { nodes, .. }
            | Self::Qualifying { nodes, .. }
            | Self::QualificationJob { nodes, .. }
            | Self::Qualified { nodes, .. }
            | Self::NotQualified { nodes, .. }
            | Self::HookStarted { nodes, .. }
            | Self::HookEnded { nodes, .. }
            | Self::JobWarned { nodes, .. }
            | Self::JobEnded { nodes, .. } => nodes,
            Self::Started
            | Self::Paused { .. }
            | Self::Resumed
            | Self::Stopped
            | Self::Approved { .. }
            | Self::HooksAwaited
            | Self::HooksOver
            | Self::Halted { .. } => &NO_NODES,
        }
    }

    /// Returns one line for `show` and `history`.
    #[must_use]
    pub fn describe(&self) -> String {
        let nodes = self.nodes();
        match self {
            Self::Staged { .. } => format!("{nodes} staged"),
            Self::Unstaged { .. } => format!("{nodes} unstaged"),
            Self::PreStaged { .. } => format!("{nodes} given it beforehand"),
            Self::Ordering { .. } => format!("{nodes} handed over by Slurm, order being sent"),
            Self::BootChange { .. } => format!("{nodes} given the image to boot from"),
            Self::BootRestoring { .. } => format!("{nodes} being given back what they booted from before"),
            Self::BootRestored { why, .. } => {
                format!("{nodes} given back what they booted from before: {why}")
            }
            Self::Ordered { .. } => format!("{nodes} ordered"),
            Self::UnderWay { .. } => format!("{nodes} carrying it out already"),
            Self::Covered { .. } => format!("{nodes} carrying out another order, which reboots them too"),
            Self::Refused { why, .. } => format!("{nodes} refused the order: {why}"),
            Self::Unreachable { why, .. } => format!("{nodes} unreachable: {why}"),
            Self::Retried { .. } => format!("{nodes} held, told to retry"),
            Self::Released { .. } => format!("{nodes} held, released"),
            Self::Seen { phase, error, notes, .. } => match with_notes(error.as_deref(), notes) {
                None => format!("{nodes} {}", phase.name()),
                Some(note) => format!("{nodes} {}: {note}", phase.name()),
            },
            Self::Lost { why, .. } => format!("{nodes} lost: {why}"),
            Self::Superseded { why, .. } => format!("{nodes} superseded: {why}"),
            Self::Started => "started".to_owned(),
            Self::Paused { why: None } => "paused".to_owned(),
            Self::Paused { why: Some(why) } => format!("paused: {why}"),
            Self::Resumed => "resumed".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Approved { wave } => format!("wave {wave} approved"),
            Self::Halted { why } => format!("halted: {why}"),
            Self::Requested { way, .. } => format!("{nodes} reboot requested from Slurm{}", way.describe()),
            Self::RequestTaken { .. } => format!("{nodes} reboot accepted by Slurm"),
            Self::Withdrawing { why, .. } => format!("{nodes} request to be withdrawn: {why}"),
            Self::Withdrawn { why, cancelled: false, .. } => format!("{nodes} request withdrawn: {why}"),
            Self::Withdrawn { why, cancelled: true, .. } => format!("{nodes} request cancelled: {why}"),
            Self::KeptOut { .. } => format!("{nodes} drained until the update"),
            Self::LetIn { .. } => format!("{nodes} no longer drained for the update"),
            Self::Unreserved { .. } => format!("{nodes} no longer reserved for the update"),
            Self::ToQualify { wave, .. } => format!("{nodes} to qualify wave {wave}, reserved until then"),
            Self::Qualifying { wave, .. } => format!("{nodes} qualifying wave {wave}: job to be submitted"),
            Self::QualificationJob { job, .. } => format!("{nodes} qualifying with job {job}"),
            Self::Qualified { wave, .. } => format!("{nodes} qualified, and so is wave {wave}"),
            Self::NotQualified { wave, why, .. } => format!("{nodes} of wave {wave} not qualified: {why}"),
            Self::HooksAwaited => "its hooks are awaited".to_owned(),
            Self::HooksOver => "its hooks are over".to_owned(),
            Self::HookStarted { hook, when, attempt, .. } => {
                let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                format!("{}hook {hook} ({}) called{attempt}", before(nodes), when.name())
            }
            Self::HookEnded { hook, when, error: None, .. } => {
                format!("{}hook {hook} ({}) succeeded", before(nodes), when.name())
            }
            Self::HookEnded { hook, when, error: Some(error), then, .. } => {
                let again =
                    if *then == Some(AfterFailure::Again) { " to be called again" } else { " failed" };
                format!("{}hook {hook} ({}){again}: {error}", before(nodes), when.name())
            }
            Self::JobWarned { job, .. } => format!("{nodes} users of job {job} warned of its end"),
            Self::JobEnded { job, how, .. } => format!("{nodes} job {job} {}", how.name()),
        }
    }
}

/// Returns the nodes before what is said about them.
fn before(nodes: &NodeSet) -> String {
    if nodes.is_empty() { String::new() } else { format!("{nodes} ") }
}

/// Parses the lines of a journal. Lines that this version cannot read are skipped: a line torn by a crash, or one that
/// a newer version wrote.
pub fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}
