//! Calls of hooks: processes that run beside the executor, and end with it.

use rollout_control::store::StoreWriter;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::text::one_line;
use rollout_host::run::{Background, BackgroundEnd, Program, RunError, is_program, kill_with_environment};
use rollout_host::trust::may_be_trusted;
use rollout_plan::hook::Hook;
use rollout_plan::plan::{Call, CallEnd, CallState, Calls};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// Variable of each hook: the state directory. An executor that takes the lease ends what another one has left.
const STATE_DIR: &str = "SLURM_ROLLOUT_STATE_DIR";

/// Length limit of the last line of a hook's output in its error, in characters.
const MAX_LINE: usize = 200;

/// Checks that a hook can be called, and that only root and this user can change its program.
///
/// # Errors
/// The reason, with the remedy.
pub fn check(hook: &Hook) -> Result<(), String> {
    let program = hook.program();
    let wrong = |why: String| format!("hook {}: {}: {why}", hook.name, program.display());
    may_be_trusted(program).map_err(wrong)?;
    match is_program(program) {
        true => Ok(()),
        false => Err(wrong("is not executable: chmod +x it".to_owned())),
    }
}

/// The calls of this executor.
#[derive(Debug)]
pub struct HookCalls {
    state_dir: String,
    running: BTreeMap<(String, u32), Background>,
    states: Calls,
}

impl HookCalls {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let state_dir = state_dir.to_string_lossy().into_owned();
        Self { state_dir, running: BTreeMap::new(), states: Calls::new() }
    }

    /// Ends the hooks that an earlier executor on this host has left.
    pub fn end_those_left(&self) {
        kill_with_environment(STATE_DIR, &self.state_dir);
    }

    /// Ends all hooks. Nobody records how: they are called again.
    pub fn end_all(&mut self) {
        self.running.values().for_each(Background::cancel);
        self.running.clear();
        self.states.clear();
    }

    /// Calls a hook. Its end comes with [`HookCalls::look`].
    pub fn call(&mut self, call: &Call) {
        let key = (call.input.rollout.clone(), call.input.run);
        let input = serde_json::to_vec(&call.input).map_err(|error| error.to_string());
        let state = match check(&call.hook).and(input) {
            Ok(input) => {
                let program = Program::new(call.hook.program(), call.hook.timeout)
                    .args(call.hook.command.iter().skip(1))
                    .env(STATE_DIR, &self.state_dir)
                    .stdin(input);
                self.running.insert(key.clone(), program.background());
                CallState::Running
            }
            Err(error) => CallState::Ended(CallEnd::Failed { error }),
        };
        self.states.insert(key, state);
    }

    /// Looks for the ends of calls, and keeps their output. Calls that no rollout waits for any more are ended. Returns
    /// the failures to keep an output.
    pub fn look(&mut self, store: &StoreWriter, snapshot: &Snapshot) -> Vec<String> {
        let is_open = |(rollout, run): &(String, u32)| {
            snapshot.rollout(rollout).is_some_and(|rollout| rollout.conduct.hooks.open.contains_key(run))
        };
        self.running.retain(|key, _| is_open(key));
        self.states.retain(|key, _| is_open(key));
        let mut failed = Vec::new();
        for (key, running) in &mut self.running {
            let Some(BackgroundEnd { status, output }) = running.poll() else { continue };
            if let Err(error) = store.keep_hook_output(&key.0, key.1, &output) {
                failed.push(format!("{}: output of a hook: {error}", key.0));
            }
            self.states.insert(key.clone(), CallState::Ended(end(status, &output)));
        }
        self.running.retain(|key, _| self.states.get(key) == Some(&CallState::Running));
        failed
    }

    #[must_use]
    pub fn states(&self) -> &Calls {
        &self.states
    }
}

/// Returns the end of a call by that of its program.
fn end(status: Result<std::process::ExitStatus, RunError>, output: &str) -> CallEnd {
    let with_output = |error: String| match output.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{error}: {}", one_line(line, MAX_LINE)),
        None => error,
    };
    match status {
        Ok(status) if status.success() => CallEnd::Succeeded,
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => CallEnd::Failed { error: with_output(format!("exit code {code}")) },
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                CallEnd::CutOff { error: with_output(format!("ended by signal {signal}")) }
            }
        },
        Err(RunError::TimedOut { limit, .. }) => {
            let error = format!("not over within {} s, and killed", limit.as_secs());
            CallEnd::Failed { error: with_output(error) }
        }
        Err(error) => CallEnd::Failed { error: one_line(&error.to_string(), MAX_LINE) },
    }
}
