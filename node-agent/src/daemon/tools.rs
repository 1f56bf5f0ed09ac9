//! Everything that the actions need of the node: the tools behind one trait, so that tests can run the actions without
//! them.
//!
//! All functions block. They report failures as one line for a person; no caller branches on the cause.

use crate::changes::{self, ChangeError, ChangeKind};
use crate::config::Config;
use crate::daemon::{orphans, reboot, verify};
use crate::log;
use crate::slurm::node::SlurmNode;
use crate::slurm::slurmd;
use crate::verbs::rescue;
use rollout_core::agent::ledger::Slurmd;
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::agent::registration::Unit;
use rollout_core::protocol::rehearsal::ChangeReport;
use rollout_core::rollout::manifest::{Change, Verify};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use rollout_host::run::Program;
use std::time::{Duration, Instant};

/// Time limit of a site's program that sets a node's features, perhaps in its firmware.
const FEATURES_LIMIT: Duration = Duration::from_secs(300);

/// Time limit of a question to Slurm that is repeated.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// The node and its Slurm, as the actions use them. See [`changes`] for the functions about changes.
pub(crate) trait Tools: Send + Sync + std::fmt::Debug {
    fn now_s(&self) -> u64;
    /// Returns the time since some fixed moment.
    fn clock(&self) -> Duration;
    fn pause(&self, pause: Duration);

    /// Waits for programs of an earlier agent, and kills those that are not done within `limit`.
    fn wait_for_orphans(&self, limit: Duration);

    fn stop_slurmd(&self) -> Result<(), String>;
    /// Starts slurmd, if it belongs on this node, and enables it if it was enabled `before` the order.
    fn start_slurmd(&self, before: Option<Slurmd>) -> Result<(), String>;
    fn slurmd(&self) -> Result<(Slurmd, Unit), String>;
    /// Returns Slurm's view of this node.
    fn ask_slurm(&self) -> Result<NodeInfo, String>;
    /// Returns whether Slurm's commands may work only while slurmd runs.
    fn commands_need_slurmd(&self) -> bool;

    /// Returns the boot loader's default, if it has one that can be set.
    fn boot_default(&self) -> Option<BootDefault>;
    /// Returns the state before a change, and whether the change is already made.
    fn observe(&self, change: &Change, boot: Option<&BootDefault>) -> Result<(Before, bool), String>;
    fn make(&self, change: &Change, before: &Before) -> Result<After, String>;
    fn before_reboot(&self, change: &Change, before: &Before) -> Result<(), String>;
    /// Returns whether the change is to be made once more before another boot. Waits up to `limit` for the answer.
    fn is_another_boot_due(&self, change: &Change, limit: Duration) -> Result<bool, String>;
    /// Proves a change. Waits up to `limit` for what shows late.
    fn verify(&self, change: &Change, before: &Before, after: &After, limit: Duration) -> Result<(), String>;
    fn verify_in_image(&self, change: &Change) -> Result<(), String>;
    fn confirm(&self, change: &Change, before: &Before) -> Result<(), String>;
    fn undo(&self, change: &Change, before: &Before) -> Result<(), String>;
    fn runs_as_before(&self, change: &Change, before: &Before) -> bool;
    /// Proves that a change is undone, and returns what others have changed since. Waits up to `limit` for what shows
    /// late.
    fn verify_old(&self, change: &Change, before: &Before, limit: Duration) -> Result<Vec<String>, String>;
    /// Returns what a change would do, and changes nothing.
    fn rehearse(&self, change: &Change, volatile: bool, limit: Duration) -> ChangeReport;
    /// Looks once whether a mount of the manifest is there.
    fn try_mount(&self, mount: &str, limit: Duration) -> Result<(), String>;
    /// Runs a command of the manifest once.
    fn try_command(&self, command: &[String], verify: &Verify, limit: Duration) -> Result<(), String>;
    /// Waits for the manifest's mounts and runs its commands.
    fn verify_node(&self, verify: &Verify) -> Result<(), String>;

    /// Keeps a copy of this agent for the case that a change breaks it.
    fn keep_rescue_copy(&self) -> Result<(), String>;
    /// Removes everything that was kept for an undo.
    fn clean_up(&self);

    /// Passes a job's features to the site's program, if one is configured.
    fn set_features(&self, features: &str) -> Result<(), String>;
    /// Reboots the node, by this command of the site unless it is empty or fails. Returns only if it cannot be rebooted
    /// at all, with the reason.
    fn reboot(&self, command: &[String], limit: Duration) -> String;
    /// Waits for a reboot by the boot service. Returns only if there is none, with the reason.
    fn wait_for_reboot(&self, limit: Duration) -> String;

    fn give_reason(&self, subject: &str, what: &str);
    /// Returns the Reason with which somebody else has drained the node. `known` is the one from before.
    fn drained_by_others(&self, known: Option<&str>) -> Result<Option<String>, String>;
    /// Keeps the node drained with this Reason. Returns once Slurm has recorded it.
    fn keep_drained(&self, reason: &str) -> Result<(), String>;
    /// Makes sure in the background that Slurm takes the node back.
    fn ensure_taken_back(&self);
}

/// The real node.
#[derive(Debug)]
pub(crate) struct NodeTools {
    config: Config,
    slurm: SlurmNode,
    begun: Instant,
}

impl NodeTools {
    pub(crate) fn new(config: Config, slurm: SlurmNode) -> Self {
        Self { config, slurm, begun: Instant::now() }
    }
}

impl Tools for NodeTools {
    fn now_s(&self) -> u64 {
        clock::now_s()
    }

    fn clock(&self) -> Duration {
        self.begun.elapsed()
    }

    fn pause(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    fn wait_for_orphans(&self, limit: Duration) {
        orphans::wait_for(limit);
    }

    fn stop_slurmd(&self) -> Result<(), String> {
        slurmd::stop(&self.config.slurmd_unit).map_err(|error| error.to_string())
    }

    fn start_slurmd(&self, before: Option<Slurmd>) -> Result<(), String> {
        slurmd::start(&self.config.slurmd_unit, before).map_err(|error| error.to_string())
    }

    fn slurmd(&self) -> Result<(Slurmd, Unit), String> {
        let found = slurmd::look(&self.config.slurmd_unit).map_err(|error| error.to_string())?;
        Ok((found.slurmd, found.unit))
    }

    fn ask_slurm(&self) -> Result<NodeInfo, String> {
        self.slurm.info_within(QUESTION_LIMIT)
    }

    fn commands_need_slurmd(&self) -> bool {
        SlurmNode::commands_need_slurmd()
    }

    fn boot_default(&self) -> Option<BootDefault> {
        changes::boot_default()
    }

    fn observe(&self, change: &Change, boot: Option<&BootDefault>) -> Result<(Before, bool), String> {
        let kind = changes::of(change);
        let made = kind.is_satisfied();
        let observed = made.and_then(|made| Ok((kind.observe(&self.config.state_dir, boot)?, made)));
        observed.map_err(one_line)
    }

    fn make(&self, change: &Change, before: &Before) -> Result<After, String> {
        changes::of(change).apply(before, &self.config.state_dir).map_err(one_line)
    }

    fn before_reboot(&self, change: &Change, before: &Before) -> Result<(), String> {
        changes::of(change).before_reboot(before).map_err(one_line)
    }

    fn is_another_boot_due(&self, change: &Change, limit: Duration) -> Result<bool, String> {
        let kind = changes::of(change);
        patiently(kind, limit, || kind.is_another_boot_due())
    }

    fn verify(&self, change: &Change, before: &Before, after: &After, limit: Duration) -> Result<(), String> {
        let kind = changes::of(change);
        patiently(kind, limit, || kind.verify(before, after))
    }

    fn verify_in_image(&self, change: &Change) -> Result<(), String> {
        changes::is_in_image(change).map_err(one_line)
    }

    fn confirm(&self, change: &Change, before: &Before) -> Result<(), String> {
        changes::of(change).confirm(before).map_err(one_line)
    }

    fn undo(&self, change: &Change, before: &Before) -> Result<(), String> {
        changes::of(change).undo(before, &self.config.state_dir).map_err(one_line)
    }

    fn runs_as_before(&self, change: &Change, before: &Before) -> bool {
        changes::of(change).runs_as_before(before)
    }

    fn verify_old(&self, change: &Change, before: &Before, limit: Duration) -> Result<Vec<String>, String> {
        let kind = changes::of(change);
        patiently(kind, limit, || kind.verify_old(before, &self.config.state_dir))
    }

    fn rehearse(&self, change: &Change, volatile: bool, limit: Duration) -> ChangeReport {
        changes::rehearse(change, volatile, &self.config.state_dir, limit)
    }

    fn try_mount(&self, mount: &str, limit: Duration) -> Result<(), String> {
        verify::mounted(mount, limit)
    }

    fn try_command(&self, command: &[String], wanted: &Verify, limit: Duration) -> Result<(), String> {
        verify::try_command(command, wanted, limit)
    }

    fn verify_node(&self, wanted: &Verify) -> Result<(), String> {
        verify::node(wanted)
    }

    fn keep_rescue_copy(&self) -> Result<(), String> {
        rescue::keep_copy()
    }

    fn clean_up(&self) {
        if let Err(error) = changes::forget(&self.config.state_dir) {
            log::warning(&error.to_string());
        }
        rescue::remove_copy();
    }

    /// Slurm's own plugins set features only where slurmd runs RebootProgram (`_rpc_reboot`, 24.05 and later).
    fn set_features(&self, features: &str) -> Result<(), String> {
        let Some(program) = &self.config.features_program else {
            log::info(&format!(
                "rebooting for a job with features {features}; no features_program is configured"
            ));
            return Ok(());
        };
        let set = Program::new(program, FEATURES_LIMIT).arg(features).run();
        set.map(drop).map_err(|error| format!("features {features} cannot be set: {error}"))
    }

    fn reboot(&self, command: &[String], limit: Duration) -> String {
        reboot::reboot_within(command, limit)
    }

    fn wait_for_reboot(&self, limit: Duration) -> String {
        reboot::wait_for_it(limit)
    }

    fn give_reason(&self, subject: &str, what: &str) {
        self.slurm.give_reason(subject, what);
    }

    fn drained_by_others(&self, known: Option<&str>) -> Result<Option<String>, String> {
        self.slurm.drained_by_others(known)
    }

    fn keep_drained(&self, reason: &str) -> Result<(), String> {
        self.slurm.keep_drained(reason)
    }

    fn ensure_taken_back(&self) {
        self.slurm.ensure_taken_back();
    }
}

/// Tries once, and up to `limit` if the change may show late.
fn patiently<T>(
    kind: &dyn ChangeKind,
    limit: Duration,
    attempt: impl Fn() -> Result<T, ChangeError>,
) -> Result<T, String> {
    match kind.shows_late() {
        true => verify::until(Instant::now() + limit, |_| attempt().map_err(one_line)),
        false => attempt().map_err(one_line),
    }
}

fn one_line(error: ChangeError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::rollout::manifest::Manifest;

    /// Proves a change within some seconds, and returns the number of times that it was tried.
    fn prove(kind: &str) -> (Result<(), String>, u32) {
        let manifest = Manifest::parse(&format!("name='r'\nnodes='n1'\n[[change]]\n{kind}")).unwrap();
        let tries = std::cell::Cell::new(0);
        let attempt = || {
            tries.set(tries.get() + 1);
            match tries.get() {
                3 => Ok(()),
                _ => {
                    let problem = "it is 1, not 2".to_owned();
                    Err(ChangeError::State { attempt: "verifying bios".to_owned(), problem })
                }
            }
        };
        let proven = patiently(changes::of(&manifest.desired.changes[0]), Duration::from_secs(30), attempt);
        (proven, tries.get())
    }

    #[test]
    fn only_what_may_show_late_is_waited_for() {
        let command = "kind='command'\nname='bios'\nversion='2'\nprobe=['/p']\napply=['/a']\n";
        assert_eq!(prove(command), (Ok(()), 3));
        let (proven, tries) = prove("kind='symlink'\npath='/a'\ntarget='/b'\n");
        assert_eq!((proven.unwrap_err().contains("it is 1, not 2"), tries), (true, 1));
    }
}
