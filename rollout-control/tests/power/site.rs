//! A directory of a test, with daemons, programs and files in it, and the tables of a configuration.

use rollout_control::power::switching::{Outcome, Task, carry_out};
use rollout_control::power::{PowerState, PowerTable, Programs, assign};
use rollout_core::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A password that occurs nowhere else.
pub const PASSWORD: &str = "Tr0ub4dor-and-3";

/// A limit that no test reaches: these tests do not measure speed.
const LONG: Duration = Duration::from_secs(120);

pub struct Site {
    dir: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Site {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), daemons: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts a daemon, which ends with the test.
    pub fn start(&mut self, program: &str, arguments: &[&str]) {
        let log = std::fs::File::create(self.path("daemon.log")).unwrap();
        let daemon = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}: ./install-prerequisites installs it"));
        self.daemons.push(daemon);
    }

    /// Writes a file with credentials.
    pub fn credentials(&self, password: &str) -> PathBuf {
        self.write("bmc.toml", &format!("user = 'admin'\npassword = '{password}'\n"), 0o600)
    }

    /// Carries out a task on nodes, with one table for all of them.
    pub fn run(&self, table: &str, task: Task, nodes: &str) -> BTreeMap<String, Outcome> {
        let table = PowerTable { nodes: None, config: toml::from_str(table).unwrap() };
        let nodes = NodeSet::parse(nodes).unwrap();
        let (assigned, failed) = assign(&[table], &nodes, &|_, _| None, &Programs::default(), None);
        let mut outcomes = carry_out(task, assigned);
        outcomes.extend(failed.into_iter().map(|(node, why)| (node, Outcome::unknown(why))));
        outcomes
    }

    /// Carries out a task on one node.
    pub fn run_one(&self, table: &str, task: Task) -> Outcome {
        self.run(table, task, "cn1").remove("cn1").unwrap()
    }

    /// Asks for the power of one node until it is known: a daemon needs a moment to start.
    pub fn until_known(&self, table: &str) -> PowerState {
        let end = Instant::now() + LONG;
        loop {
            let outcome = self.run_one(table, Task::Status);
            if let Some(power) = outcome.power {
                return power;
            }
            assert!(Instant::now() < end, "{outcome:?}\n{}", self.read("daemon.log"));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Returns the command lines and environments of all processes that contain a word.
pub fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(process.path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if text.contains(word) {
                found.push(text);
            }
        }
    }
    found
}

/// Returns whether a file exists, within the limit.
pub fn appears(path: &Path) -> bool {
    let end = Instant::now() + LONG;
    while !path.exists() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
