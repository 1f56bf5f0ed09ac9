//! The call of a hook: its input, and the state that the executor knows of it.

use crate::hook::Hook;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Moment;
use rollout_core::rollout::manifest::Change;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of [`HookInput`]. Keys may be added without a new one.
pub(super) const VERSION: u32 = 1;

/// A call of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    pub hook: Hook,
    pub input: HookInput,
}

/// The text on a hook's standard input, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookInput {
    pub version: u32,
    /// Id of the rollout.
    pub rollout: String,
    pub hook: String,
    pub when: Moment,
    /// Number of the call in the rollout, counted from 1.
    pub run: u32,
    /// Counted from 1. Greater if earlier calls were cut off.
    pub attempt: u32,
    /// `running`, `paused`, `halted`, `stopped` or `done`.
    pub state: String,
    /// The reason for a pause or halt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The wave that the rollout is in, counted from 1, and the number of waves.
    pub wave: usize,
    pub waves: usize,
    /// The nodes of the call, as a hostlist: all of the rollout if it is about that as a whole.
    pub nodelist: NodeSet,
    /// The same nodes, one by one.
    pub nodes: Vec<NodeInput>,
    /// The changes of the manifest, with the versions that it names.
    pub changes: Vec<Change>,
}

/// A node in the input of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeInput {
    pub name: String,
    /// As in `slurm-rollout status`.
    pub phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of a call, as the process that made it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallState {
    Running,
    Ended(CallEnd),
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    /// Exit code 0.
    Succeeded,
    /// Another exit code, its time was over, or it could not be started.
    Failed { error: String },
    /// Something else ended it. Nobody knows how far it came.
    CutOff { error: String },
}

/// States of calls, by rollout and number.
pub type Calls = BTreeMap<(String, u32), CallState>;
