//! A site with six nodes, a state directory and a rollout that is staged for all nodes.

use rollout_cli::executor::{Executor, Report, Tick};
use rollout_control::config::Config;
use rollout_control::store::StoreWriter;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::conduct::{Decision, Refusal};
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Line};
use rollout_core::rollout::manifest::Manifest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const ID: &str = "driver";
pub const OTHER: &str = "other";

/// Longer ago than any step of a test.
const BOOTED: &str = "2026-01-01T00:00:00";

pub struct Site {
    dir: tempfile::TempDir,
    pub store: StoreWriter,
}

impl Site {
    /// `strategy` is the rest of the manifest.
    pub fn new(strategy: &str) -> Self {
        Self::with(|_| strategy.to_owned())
    }

    /// `strategy` returns the rest of the manifest, for the site with its programs.
    fn with(strategy: impl FnOnce(&Self) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for name in ["state", "bin", "nodes", "reasons", "boots", "kinds", "reservations"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let script = include_str!("slurm.sh").replace("DIR", &path.display().to_string());
        for name in ["scontrol", "squeue", "sbatch", "scancel"] {
            let program = path.join("bin").join(name);
            rollout_host::durable::replace(&program, script.as_bytes(), 0o755).unwrap();
        }
        fs::write(path.join("jobs"), "").unwrap();
        fs::write(path.join("runs"), "").unwrap();
        fs::write(path.join("calls"), "").unwrap();
        fs::write(path.join("resume-timeout"), "INFINITE").unwrap();
        let config = format!(
            "state_dir = {:?}\nscontrol = {:?}\ndeliver = 'never'\n",
            path.join("state"),
            path.join("bin/scontrol")
        );
        fs::write(path.join("controller.toml"), config).unwrap();
        let store = StoreWriter::open(&path.join("state"), "ann@here").unwrap();
        let site = Self { dir, store };
        let text = format!(
            "name = '{ID}'\nnodes = 'n[1-6]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n{}",
            strategy(&site)
        );
        site.store.stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
        for number in 1..=6 {
            site.set(&format!("n{number}"), "IDLE", "");
        }
        site
    }

    /// Adds a rollout of n1 that is over: its node was back after this time.
    pub fn add_past(&self, name: &str, took_s: u64) {
        let nodes = NodeSet::parse("n1").unwrap();
        let order = OrderId::from_random(7);
        let (phase, error, notes) = (Phase::Updated, None, Vec::new());
        let entries = [
            (0, Entry::Staged { nodes: nodes.clone() }),
            (0, Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: u64::MAX }),
            (took_s * 1000, Entry::Seen { nodes, order, phase, error, notes }),
        ];
        self.add_closed(name, "path = '/c'\ntarget = '/d'\n", &entries);
    }

    /// Adds a rollout that is over and changed a symlink. Its entries are those at these times.
    pub fn add_closed(&self, name: &str, link: &str, entries: &[(u64, Entry)]) {
        let lines = entries.iter().cloned().map(|(t_ms, entry)| {
            serde_json::to_string(&Line { t_ms, by: "ann@here".to_owned(), entry }).unwrap() + "\n"
        });
        let dir = self.path("state/closed").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("journal"), lines.collect::<String>()).unwrap();
        let nodes = entries[0].1.nodes();
        let text = format!("name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\n{link}");
        fs::write(dir.join("manifest.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config_path(&self) -> PathBuf {
        self.path("controller.toml")
    }

    pub fn executor(&self) -> Executor {
        let config = Config::load(&self.config_path()).unwrap();
        Executor::new(config, self.config_path(), self.store.by("executor")).unwrap()
    }

    /// Has a verb decided about the rollout.
    pub fn decide(&self, decide: impl FnOnce(&Snapshot, &str) -> Result<Decision, Refusal>) {
        self.store.decide(ID, |snapshot| decide(snapshot, ID)).unwrap();
    }

    pub fn started(strategy: &str) -> Self {
        let site = Self::new(strategy);
        site.decide(rollout_core::controller::conduct::start);
        site
    }

    /// The same with [`Site::with`].
    pub fn started_with(strategy: impl FnOnce(&Self) -> String) -> Self {
        let site = Self::with(strategy);
        site.decide(rollout_core::controller::conduct::start);
        site
    }

    /// Has a second rollout, which runs, take n4, n5 and n6.
    pub fn start_other(&self) {
        self.store.unstage(ID, Some(&NodeSet::parse("n[4-6]").unwrap())).unwrap();
        let text = format!(
            "name = '{OTHER}'\nnodes = 'n[4-6]'\n[[change]]\nkind = 'symlink'\npath = '/c'\ntarget = '/d'\n"
        );
        self.store.stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
        self.store
            .decide(OTHER, |snapshot| rollout_core::controller::conduct::start(snapshot, OTHER))
            .unwrap();
    }

    pub fn set(&self, node: &str, state: &str, reason: &str) {
        fs::write(self.path("reasons").join(node), reason).unwrap();
        fs::write(self.path("boots").join(node), BOOTED).unwrap();
        let (new, path) = (self.path("nodes").join(format!(".{node}")), self.path("nodes").join(node));
        fs::write(&new, state).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Sets what Slurm shows of the hardware of a node.
    pub fn set_kind(&self, node: &str, arch: &str, features: &str) {
        let kind = format!("Arch={arch} AvailableFeatures={features}");
        fs::write(self.path("kinds").join(node), kind).unwrap();
    }

    pub fn state(&self, node: &str) -> String {
        fs::read_to_string(self.path("nodes").join(node)).unwrap()
    }

    pub fn reason(&self, node: &str) -> String {
        fs::read_to_string(self.path("reasons").join(node)).unwrap()
    }

    /// Returns the nodes that take no jobs.
    pub fn out(&self) -> Vec<String> {
        let names = (1..=6).map(|number| format!("n{number}"));
        names.filter(|name| self.state(name) != "IDLE").collect()
    }

    pub fn rollout(&self) -> RolloutState {
        self.store.rollout(ID).unwrap().state
    }

    /// Returns the lines of the journal in words, without its first ones.
    pub fn journal(&self) -> Vec<String> {
        let lines = self.store.rollout(ID).unwrap().lines;
        lines.iter().skip(2).map(|line| line.entry.describe()).collect()
    }

    /// Returns the changes that Slurm was asked for since the last time.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        fs::write(self.path("calls"), "").unwrap();
        let is_change = |line: &&str| !line.starts_with("scontrol show") && !line.starts_with("squeue");
        calls.lines().filter(is_change).map(str::to_owned).collect()
    }

    /// Takes each node that is requested or being updated one step further, as Slurm, RebootProgram and the agents do.
    pub fn advance(&self) {
        for name in (1..=6).map(|number| format!("n{number}")) {
            let nodes: NodeSet = [name.clone()].into_iter().collect();
            let order = OrderId::from_random(u128::from(name.as_bytes()[1]));
            match self.state(&name).as_str() {
                state @ ("IDLE+DRAIN+REBOOT_REQUESTED" | "IDLE+REBOOT_REQUESTED") => {
                    let drain = if state.contains("DRAIN") { "+DRAIN" } else { "" };
                    let until_ms = u64::MAX;
                    let ordering = Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms };
                    let ordered = Entry::Ordered { nodes, order, volatile: false };
                    self.store.record(Some(ID), vec![ordering, ordered]).unwrap();
                    self.set(&name, &format!("DOWN{drain}+REBOOT_ISSUED"), "driver : reboot issued");
                }
                "DOWN+DRAIN+REBOOT_ISSUED" | "DOWN+REBOOT_ISSUED" => {
                    let (phase, notes) = (Phase::Updated, Vec::new());
                    let seen = Entry::Seen { nodes, order, phase, error: None, notes };
                    self.store.record(Some(ID), vec![seen]).unwrap();
                    self.set(&name, "IDLE", "");
                }
                _ => {}
            }
        }
    }

    pub fn is_updated(&self) -> bool {
        self.rollout().is_over()
    }

    /// Returns the command `slurm-rollout`.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slurm-rollout"));
        command.arg("--config").arg(self.config_path()).args(arguments.split(' ')).env("TZ", "UTC");
        command.current_dir(self.dir.path());
        command
    }

    /// Runs `slurm-rollout`. Returns its exit code and output.
    pub fn run(&self, arguments: &str) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }
}

/// Returns the report of a tick that did something.
pub fn tick(executor: &mut Executor) -> Report {
    match executor.tick().unwrap() {
        Tick::Done(report) => report,
        other => panic!("{other:?}"),
    }
}

pub fn touch(path: &Path) {
    fs::write(path, "").unwrap();
}
