//! Hooks: programs of the site that run on the controller at a moment in the life of a rollout or of its nodes.
//!
//! A line comes before each call, and another one when it is over. A call without the second one may have run: it is
//! made again.

use super::entry::{Entry, Line};
use super::progress::Progress;
use super::record::NodeRecord;
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The moment at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Before the reboot of nodes is requested from Slurm.
    BeforeRequest,
    /// Nodes are updated and back in service.
    Updated,
    /// Nodes have failed.
    Failed,
    /// The rollout was halted.
    Halted,
    /// An admin paused it.
    Paused,
    /// The rollout is over, or was stopped and nothing of it is left.
    Ended,
}

impl Moment {
    pub const ALL: [Self; 6] =
        [Self::BeforeRequest, Self::Updated, Self::Failed, Self::Halted, Self::Paused, Self::Ended];

    /// Returns the word in manifests, journals and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeRequest => "before-request",
            Self::Updated => "updated",
            Self::Failed => "failed",
            Self::Halted => "halted",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    /// Returns whether it is a moment of nodes, and not of the rollout as a whole.
    #[must_use]
    pub fn is_of_nodes(self) -> bool {
        matches!(self, Self::BeforeRequest | Self::Updated | Self::Failed)
    }
}

/// The consequence of a call that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterFailure {
    /// The hook is called again: nobody knows whether it has run to its end.
    Again,
    /// None: it counts as done.
    Warn,
    /// The rollout is halted.
    Halt,
    /// The nodes have failed.
    Fail,
}

/// The last call of a hook for a node, or for a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Number of the call in its rollout, counted from 1.
    pub run: u32,
    /// Counted from 1. Greater if earlier calls were cut off.
    pub attempt: u32,
    /// Time of the last line about it, in milliseconds since 1970.
    pub at_ms: u64,
    /// `None` until it is over.
    pub outcome: Option<Result<(), HookFailure>>,
}

/// The failure of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFailure {
    pub error: String,
    pub then: AfterFailure,
}

/// Last calls, by moment and hook.
pub type HookCalls = BTreeMap<(Moment, String), HookCall>;

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    pub hook: String,
    pub when: Moment,
    /// None for a hook about the rollout as a whole.
    pub nodes: NodeSet,
    pub attempt: u32,
    /// Time of its line, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The hooks of a started rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// It has hooks that may still be due: it is not over before they are done.
    pub awaited: bool,
    /// Number of the last call.
    pub last_run: u32,
    /// Calls that are not over, by their number.
    pub open: BTreeMap<u32, OpenCall>,
    /// Last calls about the rollout as a whole, in its present state.
    pub calls: HookCalls,
    /// The reason if the failure of a hook is to halt the rollout.
    pub halt: Option<String>,
    /// Number of calls that failed, and the last of these failures.
    pub failures: u32,
    pub last_failure: Option<String>,
}

impl Hooks {
    /// Continues with the next line.
    pub(super) fn apply(&mut self, line: &Line) {
        match &line.entry {
            Entry::HooksAwaited => self.awaited = true,
            Entry::HooksOver => self.awaited = false,
            Entry::HookStarted { nodes, hook, when, run, attempt } => {
                self.last_run = self.last_run.max(*run);
                let (hook, nodes, since_ms) = (hook.clone(), nodes.clone(), line.t_ms);
                let open = OpenCall { hook, when: *when, nodes, attempt: *attempt, since_ms };
                self.open.insert(*run, open);
            }
            Entry::HookEnded { run, error, then, .. } => {
                self.open.remove(run);
                if let (Some(error), Some(then)) = (error, then)
                    && *then != AfterFailure::Again
                {
                    let why = failure(&line.entry, error);
                    self.halt =
                        self.halt.take().or_else(|| (*then == AfterFailure::Halt).then(|| why.clone()));
                    self.failures = self.failures.saturating_add(1);
                    self.last_failure = Some(why);
                }
            }
            Entry::Resumed | Entry::Halted { .. } => self.halt = None,
            _ => {}
        }
        if line.entry.nodes().is_empty() {
            apply(&mut self.calls, line);
        }
    }

    /// Returns the hooks of the same rollout once it is staged again: numbers of calls are not used twice.
    pub(super) fn begun_anew(&self) -> Self {
        Self { last_run: self.last_run, ..Self::default() }
    }

    /// Forgets the calls about the state that the rollout leaves.
    pub(super) fn enter_state(&mut self) {
        self.calls.clear();
    }
}

impl HookCall {
    /// Returns whether the hook need not be called any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.outcome {
            None => false,
            Some(Ok(())) => true,
            Some(Err(failure)) => failure.then != AfterFailure::Again,
        }
    }

    /// Returns the failure of a call that is not made again.
    #[must_use]
    pub fn failure(&self) -> Option<&HookFailure> {
        let failure = self.outcome.as_ref()?.as_ref().err()?;
        (failure.then != AfterFailure::Again).then_some(failure)
    }
}

impl NodeRecord {
    /// Returns the failure of a hook by which the node has failed, and its time in milliseconds since 1970.
    #[must_use]
    pub fn hook_failure(&self) -> Option<(&str, u64)> {
        let is_updated = self.progress == Progress::Seen(Phase::Updated);
        let decides = if is_updated { Moment::Updated } else { Moment::BeforeRequest };
        let calls = self.hooks.iter().filter(|((when, _), _)| *when == decides);
        let failures = calls.filter_map(|(_, call)| Some((call.failure()?, call.at_ms)));
        let mut failed = failures.filter(|(failure, _)| failure.then == AfterFailure::Fail);
        failed.next().map(|(failure, at_ms)| (failure.error.as_str(), at_ms))
    }

    /// Returns a note for people about the hooks of the node. `None` if none runs or has failed.
    #[must_use]
    pub fn hook_note(&self) -> Option<String> {
        let runs = |((_, hook), call): (&(Moment, String), &HookCall)| match (&call.outcome, call.failure()) {
            (None, _) => Some(format!("hook {hook} runs")),
            (_, Some(failure)) => Some(format!("hook {hook}: {}", failure.error)),
            _ => None,
        };
        self.hooks.iter().find_map(runs)
    }

    /// Returns whether a hook runs that comes before the node's request.
    #[must_use]
    pub fn is_before_request(&self) -> bool {
        self.hooks.iter().any(|((when, _), call)| *when == Moment::BeforeRequest && call.outcome.is_none())
    }
}

/// Applies a line about a hook to a node's record.
pub(super) fn apply_to_record(mut record: NodeRecord, line: &Line) -> NodeRecord {
    apply(&mut record.hooks, line);
    if let Entry::HookEnded { then: Some(AfterFailure::Fail), .. } = &line.entry {
        (record.forgiven, record.before_start) = (false, false);
    }
    let is_before_request = matches!(
        line.entry,
        Entry::HookStarted { when: Moment::BeforeRequest, .. }
            | Entry::HookEnded { when: Moment::BeforeRequest, .. }
    );
    // A node that was chosen is requested after its hooks.
    if let Some(chosen) =
        record.qualification.as_mut().filter(|chosen| is_before_request && chosen.run.is_none())
    {
        chosen.since_ms = chosen.since_ms.max(line.t_ms);
    }
    record
}

/// Forgets what came before the next request of a node: its hooks run again.
pub(super) fn forget_before_request(record: &mut NodeRecord) {
    record.hooks.retain(|(when, _), call| *when != Moment::BeforeRequest || call.outcome.is_none());
}

fn apply(calls: &mut HookCalls, line: &Line) {
    match &line.entry {
        Entry::HookStarted { hook, when, run, attempt, .. } => {
            let call = HookCall { run: *run, attempt: *attempt, at_ms: line.t_ms, outcome: None };
            calls.insert((*when, hook.clone()), call);
        }
        Entry::HookEnded { hook, when, run, error, then, .. } => {
            // The end of a call that the node no longer waits for.
            let Some(call) = calls.get_mut(&(*when, hook.clone())).filter(|call| call.run == *run) else {
                return;
            };
            let then = then.unwrap_or(AfterFailure::Warn);
            call.at_ms = line.t_ms;
            call.outcome = Some(match error {
                None => Ok(()),
                Some(error) => Err(HookFailure { error: error.clone(), then }),
            });
        }
        _ => {}
    }
}

/// Returns the failure of a call in words.
fn failure(entry: &Entry, error: &str) -> String {
    let hook = match entry {
        Entry::HookEnded { hook, .. } => hook.as_str(),
        _ => "",
    };
    match entry.nodes() {
        nodes if nodes.is_empty() => format!("hook {hook}: {error}"),
        nodes => format!("hook {hook} for {nodes}: {error}"),
    }
}
