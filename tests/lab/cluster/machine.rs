//! The hardware of one node: power, and a firmware that boots the node again after a reboot.
//!
//! One thread for each node waits for its systemd-nspawn to end. Exit code 133 is a reboot, any other one a power-off.

use std::fs::{OpenOptions, read_link, read_to_string};
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::network::{BRIDGE, Host};
use crate::error::{IoContext, Result};
use crate::processes::cgroup;
use crate::processes::namespaces::{descendants, is_namespace_init, way_in};
use crate::processes::run::Command;
use crate::systems::netboot::Netboot;

/// systemd-nspawn's exit code, with --keep-unit, when the container called reboot(2).
const REBOOT: i32 = 133;
/// Duration of the firmware. Slurm counts in whole seconds: a boot in the second of the request would not count as one.
const FIRMWARE: Duration = Duration::from_secs(2);
/// Interval between looks for a container that comes up.
const POLL: Duration = Duration::from_millis(5);

/// Parts of a machine that never change.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) host: Host,
    /// The cluster's process 1.
    pub(crate) namespaces: u32,
    /// Name of the cluster among the host's clusters.
    pub(crate) cluster: String,
    /// Its root, mounted in the cluster's namespaces.
    pub(crate) root: PathBuf,
    /// Output of its console, boot after boot.
    pub(crate) console: PathBuf,
    /// Set for a machine that boots over the network.
    pub(crate) netboot: Option<Netboot>,
}

#[derive(Debug, Default)]
struct State {
    /// The machine boots when it is off.
    power: bool,
    /// The container's process 1, after it has become systemd.
    init: Option<u32>,
    /// A systemd-nspawn runs, from before its init to its end.
    attached: bool,
    boots: u32,
    unplugged: bool,
    closing: bool,
    /// Error that kept the last boot from starting.
    fault: Option<String>,
}

/// A machine and the thread that attends to it.
#[derive(Debug)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    hardware: Hardware,
    state: Mutex<State>,
    changed: Condvar,
}

impl Machine {
    /// A machine that is off.
    pub(crate) fn new(hardware: Hardware) -> Machine {
        let shared = Arc::new(Shared { hardware, state: Mutex::default(), changed: Condvar::new() });
        let attended = Arc::clone(&shared);
        let thread = std::thread::spawn(move || attended.attend());
        Machine { shared, thread: Some(thread) }
    }

    pub(crate) fn hardware(&self) -> &Hardware {
        &self.shared.hardware
    }

    pub(crate) fn power_on(&self) {
        self.shared.state().power = true;
        self.shared.changed.notify_all();
    }

    /// Cuts the power and returns when no process is left.
    pub(crate) fn power_cut(&self) {
        let mut state = self.shared.state();
        state.power = false;
        self.shared.changed.notify_all();
        while state.attached {
            if let Some(init) = state.init {
                // It may have ended already.
                let _ = kill(Pid::from_raw(init as i32), Signal::SIGKILL);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn init(&self) -> Option<u32> {
        self.shared.state().init
    }

    pub(crate) fn boots(&self) -> u32 {
        self.shared.state().boots
    }

    pub(crate) fn fault(&self) -> Option<String> {
        self.shared.state().fault.clone()
    }

    /// Unplugs the cable, or plugs it in again. This lasts over boots.
    pub(crate) fn unplug(&self, unplugged: bool) -> Result<()> {
        let mut state = self.shared.state();
        state.unplugged = unplugged;
        if state.init.is_none() { Ok(()) } else { self.shared.plug(unplugged) }
    }

    /// Tells the thread that the end of the container is the end of the cluster.
    pub(crate) fn close(&self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attend(&self) {
        loop {
            let mut state = self.state();
            while !state.power && !state.closing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            state.boots += 1;
            state.attached = true;
            let boot = state.boots;
            drop(state);
            let ended = self.run_once(boot);
            let mut state = self.state();
            (state.init, state.attached) = (None, false);
            self.changed.notify_all();
            match ended {
                Ok(Some(REBOOT)) => self.pause(state),
                Ok(_) => state.power = false,
                Err(error) => (state.power, state.fault) = (false, Some(error.to_string())),
            }
        }
    }

    /// Waits for the firmware, or until the power is cut.
    fn pause(&self, state: MutexGuard<'_, State>) {
        let rest = self.changed.wait_timeout_while(state, FIRMWARE, |state| state.power && !state.closing);
        drop(rest.unwrap_or_else(PoisonError::into_inner));
    }

    /// Boots, and returns with nspawn's exit code when the container has ended.
    fn run_once(&self, boot: u32) -> Result<Option<i32>> {
        if !self.netboot()? {
            return Ok(None);
        }
        let mut nspawn = self.start(boot)?;
        loop {
            let init = descendants(nspawn.id()).into_iter().find(|pid| is_booting(*pid));
            if init.is_some() {
                let mut state = self.state();
                state.init = init;
                state.fault = None;
                self.changed.notify_all();
                if state.unplugged {
                    self.plug(true)?;
                }
                break;
            }
            if nspawn.try_wait().on("wait for nspawn of", &self.hardware.root)?.is_some() {
                break;
            }
            std::thread::sleep(POLL);
        }
        Ok(nspawn.wait().on("wait for nspawn of", &self.hardware.root)?.code())
    }

    /// Fetches the image of a machine without a disk. Returns false if that image does not boot.
    fn netboot(&self) -> Result<bool> {
        let Hardware { netboot: Some(netboot), console, namespaces, .. } = &self.hardware else {
            return Ok(true);
        };
        let argv: Vec<&str> = netboot.script().iter().map(String::as_str).collect();
        let output = Command::by_way_of(way_in(*namespaces), &argv).output()?;
        let mut shown = OpenOptions::new().create(true).append(true).open(console).on("open", console)?;
        let text = format!("{}{}", output.stdout, output.stderr);
        std::io::Write::write_all(&mut shown, text.as_bytes()).on("write", console)?;
        Ok(output.success())
    }

    fn start(&self, boot: u32) -> Result<Child> {
        let Hardware { host, cluster, root, console, namespaces, .. } = &self.hardware;
        let output = OpenOptions::new().create(true).append(true).open(console).on("open", console)?;
        let errors = output.try_clone().on("dup", console)?;
        let uptime = read_to_string("/proc/uptime").on("read", "/proc/uptime".as_ref())?;
        let uptime = uptime.split('.').next().unwrap_or("0").to_string();
        let groups: Vec<String> =
            cgroup::for_boot(cluster, &host.name, boot)?.iter().map(|p| p.display().to_string()).collect();
        // A time namespace gives this boot an uptime of its own, by which slurmd tells Slurm when the node booted.
        let root = root.display().to_string();
        let mut argv = vec!["sh", "-ec", include_str!("boot.sh"), "boot", &uptime, &root, &host.name, BRIDGE];
        argv.extend(groups.iter().map(String::as_str));
        // systemd of Debian 13 and later boots on a unified hierarchy only.
        let command = Command::by_way_of(way_in(*namespaces), &argv).env("UNIFIED_CGROUP_HIERARCHY", "1");
        command.start(output.into(), errors.into())
    }

    fn plug(&self, unplugged: bool) -> Result<()> {
        let cable = self.hardware.host.cable();
        let mut argv = vec!["ip", "link", "set", &cable];
        argv.extend(if unplugged { vec!["nomaster"] } else { vec!["master", BRIDGE] });
        let output = Command::by_way_of(way_in(self.hardware.namespaces), &argv).output()?;
        // The cable of a machine that is going down may be gone already. The next boot heeds the setting.
        if output.stderr.contains("Cannot find device") { Ok(()) } else { output.into_stdout().map(drop) }
    }
}

/// Returns whether this process is the container's init and already has the container's root, not the host's.
fn is_booting(pid: u32) -> bool {
    let exe = read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    is_namespace_init(pid) && exe.ends_with("systemd")
}
