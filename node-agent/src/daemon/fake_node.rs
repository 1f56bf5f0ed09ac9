//! A node in memory, for tests of the actions and the driver.
//!
//! It can fail each of its tools, and die before or after each use of one. Death unwinds the thread, as nothing that
//! follows in the agent may happen any more.

use crate::daemon::tools::Tools;
use crate::state::ledger_file::LedgerFile;
use rollout_core::agent::ledger::Slurmd;
use rollout_core::agent::phase::Phase;
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::agent::registration::Unit;
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::image::Running;
use rollout_core::rollout::manifest::{Change, Verify};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The payload of an unwinding thread whose agent or node died.
pub(super) struct Death;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) boot: u32,
    /// Targets of the links, by path.
    pub(super) links: BTreeMap<String, String>,
    /// The running image, and the one that the next boot leads to.
    pub(super) running: String,
    pub(super) boots: String,
    /// The version of the firmware that is active, and the one that the next boot activates.
    pub(super) firmware: u32,
    pub(super) flashed: u32,
    pub(super) slurmd_runs: bool,
    /// slurmd's unit is enabled.
    pub(super) slurmd_enabled: bool,
    /// Target of `/a` with which slurmd ends at once.
    pub(super) slurmd_dies_with: Option<&'static str>,
    /// slurmd registers when it is stopped, and not before.
    pub(super) registers_last: bool,
    /// Time of slurmd's last start, and the one with which it has registered.
    pub(super) slurmd_start_s: u64,
    pub(super) registered_s: u64,
    /// Flag that Slurm shows.
    pub(super) slurm_sets: &'static str,
    pub(super) slurmctld_away: bool,
    /// scontrol gets no answer while slurmd is down.
    pub(super) commands_need_slurmd: bool,
    /// Time for which scontrol gets no answer once slurmd was started, although slurmd can register.
    pub(super) silent_after_start: Option<Duration>,
    /// scontrol gets its next answer at this time.
    pub(super) silent_until: Duration,
    /// Number of starts after which slurmd does not stay up.
    pub(super) starts_that_fail: u32,
    /// Reason of the drain that an admin sets when slurmd is started.
    pub(super) drained_at_start: Option<&'static str>,
    /// Time that passed in pauses.
    pub(super) paused: Duration,
    /// Uses of tools, in order.
    pub(super) used: Vec<String>,
    /// Tools that fail.
    pub(super) broken: BTreeSet<&'static str>,
    /// Dies at the use of this number, before or after its effect.
    pub(super) dies_at: Option<(usize, bool)>,
    /// The node dies with its agent.
    pub(super) loses_power: bool,
    /// Reason of a foreign drain that Slurm shows.
    pub(super) drain_shown: Option<String>,
    /// Drains can be kept from this time on.
    pub(super) keeps_drains_from: Duration,
    /// Reason with which the node was drained again.
    pub(super) drain_kept: Option<String>,
}

#[derive(Debug)]
pub(super) struct FakeNode {
    state: Mutex<State>,
    state_dir: PathBuf,
}

impl FakeNode {
    pub(super) fn new(state_dir: &Path) -> Self {
        let links = [("/a", "/old-a"), ("/b", "/old-b")];
        let links = links.map(|(path, target)| (path.to_owned(), target.to_owned())).into();
        let image = || "i0".to_owned();
        let state = State {
            boot: 1,
            links,
            running: image(),
            boots: image(),
            slurmd_runs: true,
            slurmd_enabled: true,
            ..State::default()
        };
        Self { state: Mutex::new(state), state_dir: state_dir.to_owned() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn boot_id(&self) -> String {
        format!("boot-{}", self.state().boot)
    }

    pub(super) fn running_image(&self) -> Running {
        Running { image: Some(self.state().running.clone()), ..Running::default() }
    }

    pub(super) fn reboot_now(&self) {
        let mut state = self.state();
        state.boot += 1;
        state.running = state.boots.clone();
        state.firmware = state.flashed;
        state.slurmd_runs = false;
    }

    /// Uses a tool: returns the result of its effect, or fails if it is broken.
    fn tool<T>(&self, name: &'static str, effect: impl FnOnce(&mut State) -> T) -> Result<T, String> {
        self.used(name, false);
        let result = {
            let mut state = self.state();
            match state.broken.contains(name) {
                true => Err(format!("{name} is broken")),
                false => Ok(effect(&mut state)),
            }
        };
        self.used(name, true);
        result
    }

    fn used(&self, name: &str, after: bool) {
        let (dies, loses_power) = {
            let mut state = self.state();
            if !after {
                state.used.push(name.to_owned());
            }
            let now = (state.used.len(), after);
            (state.dies_at.take_if(|at| *at == now).is_some(), state.loses_power)
        };
        if dies {
            if loses_power {
                self.reboot_now();
            }
            std::panic::resume_unwind(Box::new(Death));
        }
    }

    /// Tries a check of the manifest, which fails if it is broken.
    fn tries(&self, check: &str) -> Result<(), String> {
        let mut state = self.state();
        state.used.push(check.to_owned());
        if state.broken.contains(check) { Err(format!("{check} is broken")) } else { Ok(()) }
    }

    fn is_made(state: &State, change: &Change) -> bool {
        match change {
            Change::Symlink(link) => state.links.get(&link.path) == link.target.as_ref(),
            Change::Image(image) => state.running == image.image,
            Change::Command(command) => state.firmware == version(&command.version),
            Change::Packages(_) | Change::KernelArgs(_) => panic!("neither packages nor kernels here"),
        }
    }

    fn is_as_before(state: &State, change: &Change, before: &Before) -> bool {
        match (change, before) {
            (Change::Symlink(link), Before::Symlink { target }) => {
                state.links.get(&link.path) == target.as_ref()
            }
            (_, Before::Command { version: before }) => state.firmware == version(before),
            (_, Before::Image { running, .. }) => running.image.as_ref() == Some(&state.running),
            _ => panic!("{before:?}"),
        }
    }
}

fn version(text: &str) -> u32 {
    text.parse().expect("firmware has a number")
}

impl Tools for FakeNode {
    fn now_s(&self) -> u64 {
        0
    }

    fn clock(&self) -> Duration {
        self.state().paused
    }

    fn pause(&self, pause: Duration) {
        let mut state = self.state();
        state.paused += pause;
        // slurmd registers in the first pause after its start.
        if state.slurmd_runs && !state.slurmctld_away && !state.registers_last {
            state.registered_s = state.slurmd_start_s;
        }
    }

    fn wait_for_orphans(&self, _: Duration) {}

    fn stop_slurmd(&self) -> Result<(), String> {
        self.tool("stop slurmd", |state| {
            if state.slurmd_runs && state.registers_last {
                state.registered_s = state.slurmd_start_s;
            }
            state.slurmd_runs = false;
        })
    }

    fn start_slurmd(&self, before: Option<Slurmd>) -> Result<(), String> {
        let unsettled = LedgerFile::in_dir(&self.state_dir).unsettled().unwrap();
        let phase = unsettled.map(|ledger| ledger.phase);
        assert!(matches!(phase, None | Some(Phase::Registering)), "slurmd is started while {phase:?}");
        self.tool("start slurmd", |state| {
            state.slurmd_enabled |= before.is_some_and(|before| before.enabled);
            if state.slurmd_enabled || before.is_some_and(Slurmd::belongs_here) {
                let dies = state.slurmd_dies_with.is_some_and(|target| state.links["/a"] == target);
                state.slurmd_runs = !dies && state.starts_that_fail == 0;
                state.starts_that_fail = state.starts_that_fail.saturating_sub(1);
                // A test may start it several times in one second.
                state.slurmd_start_s = clock::now_s().max(state.slurmd_start_s + 1);
                if let Some(silence) = state.silent_after_start.take() {
                    state.silent_until = state.paused + silence;
                }
                if let Some(reason) = state.drained_at_start.take() {
                    state.drain_shown = Some(reason.to_owned());
                }
            }
        })
    }

    fn slurmd(&self) -> Result<(Slurmd, Unit), String> {
        let state = self.state();
        let slurmd = Slurmd { active: state.slurmd_runs, enabled: state.slurmd_enabled };
        let unit = if state.slurmd_runs { Unit::Runs } else { Unit::Down("exit code 1".to_owned()) };
        Ok((slurmd, unit))
    }

    fn ask_slurm(&self) -> Result<NodeInfo, String> {
        let state = self.state();
        let cannot_ask = state.commands_need_slurmd && !state.slurmd_runs;
        if cannot_ask || state.slurmctld_away || state.paused < state.silent_until {
            return Err("slurmctld is away".to_owned());
        }
        let words = ["IDLE", state.slurm_sets].into_iter().filter(|word| !word.is_empty());
        let slurmd_start_s = Some(state.registered_s);
        Ok(NodeInfo { state: words.map(str::to_owned).collect(), slurmd_start_s, ..NodeInfo::default() })
    }

    fn commands_need_slurmd(&self) -> bool {
        self.state().commands_need_slurmd
    }

    fn boot_default(&self) -> Option<BootDefault> {
        None
    }

    fn before_reboot(&self, _: &Change, _: &Before) -> Result<(), String> {
        Ok(())
    }

    fn observe(&self, change: &Change, _: Option<&BootDefault>) -> Result<(Before, bool), String> {
        let running = self.running_image();
        self.tool("observe", |state| match change {
            Change::Symlink(link) => {
                let target = state.links.get(&link.path).cloned();
                (Before::Symlink { target }, Self::is_made(state, change))
            }
            Change::Command(_) => {
                (Before::Command { version: state.firmware.to_string() }, Self::is_made(state, change))
            }
            _ => (Before::Image { running, saved: None }, false),
        })
    }

    fn make(&self, change: &Change, before: &Before) -> Result<After, String> {
        let ledger = LedgerFile::in_dir(&self.state_dir).unsettled().unwrap().expect("an order is under way");
        let recorded = ledger.records.last().expect("the change is recorded before it is made");
        assert_eq!((&recorded.before, &recorded.after, ledger.phase), (before, &None, Phase::Applying));
        self.tool("make", |state| {
            assert!(!state.slurmd_runs, "slurmd is stopped first");
            if let Change::Symlink(link) = change {
                state.links.insert(link.path.clone(), link.target.clone().unwrap());
            }
            if let (Change::Command(_), false) = (change, Self::is_made(state, change)) {
                // One version after another.
                state.flashed = state.firmware + 1;
            }
            After { changed: true, ..After::default() }
        })
    }

    fn is_another_boot_due(&self, change: &Change, _: Duration) -> Result<bool, String> {
        self.tool("another boot", |state| !Self::is_made(state, change))
    }

    fn verify(&self, change: &Change, _: &Before, _: &After, _: Duration) -> Result<(), String> {
        self.verify_in_image(change)
    }

    fn verify_in_image(&self, change: &Change) -> Result<(), String> {
        let made = self.tool("verify", |state| Self::is_made(state, change))?;
        made.then_some(()).ok_or_else(|| "it is different".to_owned())
    }

    fn confirm(&self, _: &Change, _: &Before) -> Result<(), String> {
        self.tool("confirm", |_| ())
    }

    fn undo(&self, change: &Change, before: &Before) -> Result<(), String> {
        self.tool("undo", |state| {
            if let (Change::Symlink(link), Before::Symlink { target: Some(target) }) = (change, before) {
                state.links.insert(link.path.clone(), target.clone());
            }
            if let Before::Command { version: before } = before {
                state.flashed = version(before);
            }
        })
    }

    fn runs_as_before(&self, change: &Change, before: &Before) -> bool {
        matches!(change, Change::Symlink(_) | Change::Command(_))
            || Self::is_as_before(&self.state(), change, before)
    }

    fn verify_old(&self, change: &Change, before: &Before, _: Duration) -> Result<Vec<String>, String> {
        let old = self.tool("verify old", |state| Self::is_as_before(state, change, before))?;
        old.then(Vec::new).ok_or_else(|| "it is different".to_owned())
    }

    fn rehearse(&self, change: &Change, _: bool, _: Duration) -> ChangeReport {
        let Change::Symlink(link) = change else { panic!("only links here") };
        let from = self.state().links.get(&link.path).cloned();
        let step = Step { what: link.path.clone(), from, to: link.target.clone() };
        let steps = if step.from == step.to { Vec::new() } else { vec![step] };
        ChangeReport { kind: change.kind().to_owned(), steps, ..ChangeReport::default() }
    }

    fn try_mount(&self, mount: &str, _: Duration) -> Result<(), String> {
        self.tries(mount)
    }

    fn try_command(&self, command: &[String], _: &Verify, _: Duration) -> Result<(), String> {
        self.tries(&command.join(" "))
    }

    fn verify_node(&self, _: &Verify) -> Result<(), String> {
        self.tool("verify node", |_| ())
    }

    fn keep_rescue_copy(&self) -> Result<(), String> {
        self.tool("keep copy", |_| ())
    }

    fn clean_up(&self) {
        let _ = self.tool("clean up", |_| ());
    }

    fn set_features(&self, features: &str) -> Result<(), String> {
        self.tool("set features", |_| assert_eq!(features, "gpu"))
    }

    fn reboot(&self, command: &[String], _: Duration) -> String {
        let name = if command.is_empty() { "reboot" } else { "reboot command" };
        if let Err(why) = self.tool(name, |_| ()) {
            return why;
        }
        self.reboot_now();
        std::panic::resume_unwind(Box::new(Death));
    }

    fn wait_for_reboot(&self, _: Duration) -> String {
        self.tool("wait for reboot", |_| ()).map_or_else(|why| why, |()| "nobody rebooted it".to_owned())
    }

    fn give_reason(&self, subject: &str, what: &str) {
        let name = format!("reason {subject}: {what}");
        self.used(&name, false);
        self.used(&name, true);
    }

    fn drained_by_others(&self, known: Option<&str>) -> Result<Option<String>, String> {
        let shown = self.tool("look for a drain", |state| state.drain_shown.clone())?;
        Ok(shown.or_else(|| known.map(str::to_owned)))
    }

    fn keep_drained(&self, reason: &str) -> Result<(), String> {
        let unsettled = LedgerFile::in_dir(&self.state_dir).unsettled().unwrap();
        assert!(unsettled.is_some(), "the gate is shut until the drain is kept");
        let ledger = LedgerFile::in_dir(&self.state_dir).newest("n1").unwrap().unwrap();
        assert_eq!(ledger.drained.as_deref(), Some(reason), "the ledger has it first");
        self.tool("keep drained", |state| {
            let silent = state.paused < state.keeps_drains_from;
            if !silent {
                state.drain_kept = Some(reason.to_owned());
            }
            if silent { Err("slurmctld is away".to_owned()) } else { Ok(()) }
        })?
    }

    fn ensure_taken_back(&self) {
        self.tool("take back", |_| ()).unwrap();
    }
}
