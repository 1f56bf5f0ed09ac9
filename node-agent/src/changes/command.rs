//! A change that programs of the site make, such as a version of firmware.
//!
//! `probe` decides: `apply` runs only if it prints another version than the one that is wanted, and the version that it
//! prints after the boot is the proof, there and back. What `apply` and `undo` do is not known here, so one that was
//! interrupted runs again, and a change without an `undo` that was begun is never taken for undone.

use super::{ChangeError, ChangeKind};
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::manifest::{COMMAND_NAME, COMMAND_VERSION, CommandChange, PROBE_LIMIT};
use rollout_host::run::{Program, is_program};
use std::path::Path;
use std::time::Duration;

impl ChangeKind for CommandChange {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        check_programs(self)?;
        Ok(probe(self, PROBE_LIMIT)? == self.version)
    }

    fn rehearse(&self, _state_dir: &Path, limit: Duration) -> Result<ChangeReport, ChangeError> {
        let probed = check_programs(self).and_then(|()| probe(self, PROBE_LIMIT.min(limit)));
        let mut report = ChangeReport::default();
        let from = match probed {
            Ok(version) if version == self.version => return Ok(report),
            Ok(version) => Some(version),
            Err(error) => {
                report.trouble.push(error.to_string());
                None
            }
        };
        report.steps.push(Step { what: self.name.clone(), from, to: Some(self.version.clone()) });
        if self.undo.is_empty() {
            report.notes.push(format!("no way back: the change of {} has no `undo`", self.name));
        }
        Ok(report)
    }

    fn observe(&self, _state_dir: &Path, _boot: Option<&BootDefault>) -> Result<Before, ChangeError> {
        Ok(Before::Command { version: probe(self, PROBE_LIMIT)? })
    }

    fn apply(&self, before: &Before, _state_dir: &Path) -> Result<After, ChangeError> {
        let before = version_before(before, "applying a change")?;
        if probe(self, PROBE_LIMIT)? != self.version {
            run(self, "changing", &self.apply, &self.version)?;
        }
        Ok(After { changed: before != self.version, ..After::default() })
    }

    fn is_another_boot_due(&self) -> Result<bool, ChangeError> {
        Ok(probe(self, PROBE_LIMIT)? != self.version)
    }

    fn shows_late(&self) -> bool {
        true
    }

    fn verify(&self, _before: &Before, _after: &After) -> Result<(), ChangeError> {
        expect(self, &self.version)
    }

    fn undo(&self, before: &Before, _state_dir: &Path) -> Result<(), ChangeError> {
        let before = version_before(before, "undoing a change")?;
        if self.undo.is_empty() {
            let now = probe(self, PROBE_LIMIT).unwrap_or_else(|_| "not known".to_owned());
            let problem = format!("the change has no `undo`; the version is {now}, and was {before}");
            return Err(ChangeError::state(format!("taking back {}", self.name), problem));
        }
        run(self, "taking back", &self.undo, before)
    }

    fn verify_old(&self, before: &Before, _state_dir: &Path) -> Result<Vec<String>, ChangeError> {
        expect(self, version_before(before, "verifying the old state")?)?;
        Ok(Vec::new())
    }
}

fn version_before<'a>(before: &'a Before, attempt: &str) -> Result<&'a str, ChangeError> {
    match before {
        Before::Command { version } => Ok(version),
        _ => Err(ChangeError::other_kind(attempt)),
    }
}

/// Fails if a program is missing, before anything is changed: one that cannot run has done nothing, which nobody could
/// tell afterwards.
fn check_programs(change: &CommandChange) -> Result<(), ChangeError> {
    let programs =
        [&change.probe, &change.apply, &change.undo].into_iter().filter_map(|command| command.first());
    match programs.into_iter().find(|program| !is_program(Path::new(program))) {
        Some(missing) => {
            let problem = format!("{missing} is not there, or its owner may not execute it");
            Err(ChangeError::state(format!("changing {}", change.name), problem))
        }
        None => Ok(()),
    }
}

/// Returns the present version.
fn probe(change: &CommandChange, limit: Duration) -> Result<String, ChangeError> {
    let failed = |why: String| ChangeError::state(format!("asking for the version of {}", change.name), why);
    let output = program(change, &change.probe, limit).run().map_err(|error| failed(error.to_string()))?;
    let version = CommandChange::read_version(&output.stdout);
    version.map(str::to_owned).map_err(|why| failed(format!("{}: {why}", change.probe.join(" "))))
}

fn expect(change: &CommandChange, wanted: &str) -> Result<(), ChangeError> {
    let now = probe(change, PROBE_LIMIT)?;
    if now == wanted {
        return Ok(());
    }
    Err(ChangeError::state(format!("verifying {}", change.name), format!("it is {now}, not {wanted}")))
}

/// Runs `apply` or `undo`, which brings `version`.
fn run(change: &CommandChange, attempt: &str, command: &[String], version: &str) -> Result<(), ChangeError> {
    // Nothing that it started may go on beside an undo.
    let program =
        program(change, command, change.timeout.get()).env(COMMAND_VERSION, version).waits_for_group();
    let failed = |error: rollout_host::run::RunError| {
        ChangeError::state(format!("{attempt} {} to {version}", change.name), error.to_string())
    };
    program.run().map(drop).map_err(failed)
}

fn program(change: &CommandChange, command: &[String], limit: Duration) -> Program {
    // An empty command is refused with its manifest.
    let (path, arguments) =
        command.split_first().map_or(("/", &[][..]), |(path, rest)| (path.as_str(), rest));
    Program::new(path, limit).args(arguments).env(COMMAND_NAME, &change.name)
}

#[cfg(test)]
mod tests;
