//! One machine of a cluster, the controller or a compute node: commands in it, files, power and cable.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::cluster::machine::Machine;
use crate::error::{IoContext, LabError, Result};
use crate::processes::run::{Background, Command, Output, tail};
use crate::systems::inside::Inside;
use crate::systems::netboot::Netboot;
use crate::wait::{MINUTES, until};

/// Interval between looks for a node that has booted.
const POLL: Duration = Duration::from_millis(100);

/// A machine of the cluster.
#[derive(Debug)]
pub struct Node {
    pub(crate) machine: Machine,
}

impl Node {
    /// `ctl`, `cn01` and so on.
    pub fn name(&self) -> &str {
        &self.machine.hardware().host.name
    }

    /// Its address in the cluster's network.
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.machine.hardware().host.address()
    }

    /// Returns whether the node keeps its files over a boot.
    pub fn has_disk(&self) -> bool {
        self.machine.hardware().netboot.as_ref().is_none_or(Netboot::has_disk)
    }

    /// Returns a command in the booted node; an error if the node is not running.
    pub fn command(&self, argv: &[&str]) -> Result<Command> {
        let init = self.machine.init().ok_or_else(|| LabError::Off(self.name().into()))?;
        Ok(Inside::Booted { init }.command(argv))
    }

    /// Runs a command to its end, with any exit code.
    pub fn exec(&self, argv: &[&str]) -> Result<Output> {
        self.command(argv)?.output()
    }

    /// Runs a command as this user instead of root.
    pub fn exec_as(&self, user: &str, argv: &[&str]) -> Result<Output> {
        self.command(argv)?.user(user).output()
    }

    /// Runs a command and returns its stdout; an error with its stderr if it does not end with 0.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.command(argv)?.run()
    }

    /// Starts a command in the background.
    pub fn spawn(&self, argv: &[&str]) -> Result<Background> {
        self.command(argv)?.spawn()
    }

    /// Runs a function in the node's network. Sockets that it opens stay there, also if they are used elsewhere.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let init = self.machine.init().ok_or_else(|| LabError::Off(self.name().into()))?;
        let path = PathBuf::from(format!("/proc/{init}/ns/net"));
        let network = std::fs::File::open(&path).on("open", &path)?;
        // A thread has a network of its own, so that this process keeps its network.
        let entered = std::thread::scope(|scope| {
            let there = scope.spawn(|| setns(network, CloneFlags::CLONE_NEWNET).map(|()| work()));
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        entered.map_err(std::io::Error::from).on("enter", &path)
    }

    /// Writes a file and the directories above it, whether the node is running or not.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        self.inside().write_file(path, content.as_ref(), mode)
    }

    /// Copies a file of the host's.
    pub fn copy_in(&self, source: &Path, path: &str, mode: u32) -> Result<()> {
        self.inside().copy_in(source, path, mode)
    }

    /// Copies the content of a directory of the host's into the directory `path`.
    pub fn copy_dir_in(&self, source: &Path, path: &str) -> Result<()> {
        self.inside().copy_dir_in(source, path)
    }

    /// Reads a file, whether the node is running or not.
    pub fn read_file(&self, path: &str) -> Result<String> {
        self.inside().read_file(path)
    }

    /// Path of the node's root for this process. Links with absolute targets lead out of it: prefer
    /// [`Node::read_file`].
    pub fn root(&self) -> PathBuf {
        let hardware = self.machine.hardware();
        let below = hardware.root.strip_prefix("/").unwrap_or(&hardware.root);
        PathBuf::from(format!("/proc/{}/root", hardware.namespaces)).join(below)
    }

    /// Kills everything in the node at once. It stays off. Data that was written but not synced is still there
    /// afterwards, as the kernel goes on: this shows what an interrupted program leaves, not what a disk loses.
    pub fn power_cut(&self) {
        self.machine.power_cut();
    }

    /// Boots a node that is off.
    pub fn power_on(&self) {
        self.machine.power_on();
    }

    /// Number of its boots.
    pub fn boot_count(&self) -> u32 {
        self.machine.boots()
    }

    /// The kernel's id of this boot.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.run(&["cat", "/proc/sys/kernel/random/boot_id"])?.trim().to_string())
    }

    /// Returns whether it has power and is not between two boots.
    pub fn is_running(&self) -> bool {
        self.machine.init().is_some()
    }

    /// Waits until systemd has finished the boot; failed units do not matter.
    pub fn wait_booted(&self, limit: Duration) -> Result<()> {
        self.wait_boots(0, limit)
    }

    /// Waits until the node is up in at least its boot number `boots`.
    pub fn wait_boots(&self, boots: u32, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            if let Some(fault) = self.machine.fault() {
                return Err(LabError::Setup(format!("{} does not boot: {fault}", self.name())));
            }
            let seen = match self.exec(&["systemctl", "is-system-running"]) {
                _ if self.boot_count() < boots => format!("boot {}", self.boot_count()),
                Ok(said) if matches!(said.stdout.trim(), "running" | "degraded") => return Ok(()),
                Ok(said) => said.stdout.trim().to_string(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > until {
                let (what, seen) =
                    (format!("boot of {}", self.name()), format!("{seen}\n{}", self.console_tail()));
                return Err(LabError::Timeout { what, after: limit, seen });
            }
            std::thread::sleep(POLL);
        }
    }

    /// End of its console's output.
    pub fn console_tail(&self) -> String {
        let console = &self.machine.hardware().console;
        tail(&String::from_utf8_lossy(&std::fs::read(console).unwrap_or_default()))
    }

    /// Reads the journal of one unit, of all boots.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.run(&["journalctl", "--no-pager", "--output=short-precise", "--unit", unit])
    }

    /// Waits until the journal of a unit has these words and returns it: a line is there some time after it was
    /// written.
    pub fn wait_journal(&self, unit: &str, words: &str) -> Result<String> {
        let what = format!("{words:?} in the journal of {unit} on {}", self.name());
        until(&what, MINUTES, || self.journal(unit), |journal| journal.contains(words))
    }

    /// A property of a systemd unit.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let value = self.run(&["systemctl", "show", "--value", "-p", name, unit])?;
        Ok(value.trim().to_owned())
    }

    /// Waits until a property of a systemd unit has this value. A unit with `Type=notify` may be started before it has
    /// set its StatusText.
    pub fn wait_property(&self, unit: &str, name: &str, value: &str) -> Result<()> {
        let what = format!("{name}={value} of {unit} on {}", self.name());
        until(&what, MINUTES, || self.property(unit, name), |seen| seen == value).map(drop)
    }

    /// Returns whether a systemd unit is active.
    pub fn is_active(&self, unit: &str) -> Result<bool> {
        Ok(self.property(unit, "ActiveState")? == "active")
    }

    /// Waits until a systemd unit is active. The node may be booting meanwhile.
    pub fn wait_active(&self, unit: &str) -> Result<()> {
        self.wait_property(unit, "ActiveState", "active")
    }

    /// Returns whether there is a file, as the running node sees it.
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(self.exec(&["test", "-e", path])?.success())
    }

    /// Waits until there is a file, or is none any more.
    pub fn wait_file(&self, path: &str, present: bool) -> Result<()> {
        let what = format!("{path} on {}: {present}", self.name());
        until(&what, MINUTES, || self.has(path), |seen| *seen == present).map(drop)
    }

    pub(crate) fn inside(&self) -> Inside {
        let hardware = self.machine.hardware();
        match self.machine.init() {
            Some(init) => Inside::Booted { init },
            None => Inside::Root { namespaces: hardware.namespaces, root: hardware.root.clone() },
        }
    }
}
