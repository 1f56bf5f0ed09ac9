//! A virtual machine: a node with a firmware, a boot loader and a kernel of its own, for tests that a container
//! cannot do.
//!
//! On its disk are two systems, `compute 1` and `compute 2`, with the agent in both, and no Slurm. The processor is
//! emulated, so that any host will do; a boot takes a minute.

use std::fs::{create_dir, read, read_dir, remove_dir_all};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

use crate::error::{IoContext, LabError, Result};
use crate::packages::deb_repository::DebRepository;
use crate::processes::run::{Background, Command, Output, in_own_mounts, tail};
use crate::product::Product;
use crate::state_dir::{lock, lock_file, state_dir, try_lock};
use crate::systems::base::Base;

/// Script that makes the disk, run as `sh -ec DISK disk LOADER BASE LAYER DIRECTORY`.
const DISK: &str = include_str!("virtual_machine/disk.sh");
/// Script that starts it in the base, run as `sh -ec START start BASE DIRECTORY QEMU...`; the directory is at /mnt.
const START: &str =
    "mount -t tmpfs lab \"$1/mnt\"; mount --bind \"$2\" \"$1/mnt\"; mount --bind /dev \"$1/dev\"
    log=$2/log base=$1; shift 2
    exec chroot \"$base\" \"$@\" >>\"$log\" 2>&1";
/// The script writes some hundred MB.
const DISK_LIMIT: Duration = Duration::from_secs(300);
/// The base's UEFI firmware, and its variables in a new machine.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
/// A command that takes longer hangs, or the machine has gone down meanwhile.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Time to wait for an answer before checking again that the machine is up.
const POLL: Duration = Duration::from_secs(1);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A boot loader on the disk. The names of its entries are in `virtual_machine/disk.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLoader {
    /// GRUB, started by a BIOS.
    Grub,
    /// systemd-boot, started by an UEFI firmware.
    SystemdBoot,
}

/// A virtual machine, off or on.
#[derive(Debug)]
pub struct VirtualMachine {
    directory: PathBuf,
    loader: BootLoader,
    on: Mutex<Option<On>>,
    /// Lock that marks the directory as in use.
    _used: Flock<std::fs::File>,
}

/// Parts of a machine that has power.
#[derive(Debug)]
struct On {
    _qemu: Background,
    shell: BufReader<UnixStream>,
    number: u32,
}

impl VirtualMachine {
    /// Makes a machine with a new disk. It is off.
    pub fn new(product: &Product, loader: BootLoader) -> Result<VirtualMachine> {
        let base = Base::Machine.prepare()?;
        let layer = product.node_packages().prepare(Base::Machine)?;
        let layer = layer.ok_or_else(|| LabError::Setup("no package for the machine".into()))?;
        let (directory, used) = new_directory()?;
        let name = match loader {
            BootLoader::Grub => "grub",
            BootLoader::SystemdBoot => "systemd-boot",
        };
        let paths = [&base, &layer.directory, &directory].map(|path| path.display().to_string());
        let [base, layer, target] = paths.each_ref().map(String::as_str);
        let disk = ["sh", "-ec", DISK, "disk", name, base, layer, target];
        in_own_mounts(&disk).limit(DISK_LIMIT).run()?;
        let (empty, variables) = (format!("{base}{}", FIRMWARE[1]), directory.join("variables"));
        std::fs::copy(empty, &variables).on("copy to", &variables)?;
        Ok(VirtualMachine { directory, loader, on: Mutex::default(), _used: used })
    }

    /// Gives it power. Its disk and its firmware have the content from the moment of the power cut.
    pub fn power_on(&self) -> Result<()> {
        let [base, target] =
            [&Base::Machine.prepare()?, &self.directory].map(|path| path.display().to_string());
        let (socket, log) = (self.directory.join("socket"), self.directory.join("log"));
        let mut argv = vec!["sh", "-ec", START, "start", &base, &target, "qemu-system-x86_64"];
        // Only the hardware that is used: the kernel would probe all of it.
        argv.extend(["-nodefaults", "-machine", "q35", "-cpu", "max,-svm", "-accel", "tcg", "-m", "512"]);
        argv.extend(["-display", "none", "-drive", "file=/mnt/disk,format=raw,if=virtio"]);
        argv.extend([
            "-chardev",
            "file,id=console,path=/mnt/console,append=on",
            "-serial",
            "chardev:console",
        ]);
        argv.extend(["-chardev", "socket,id=shell,path=/mnt/socket,server=on,wait=off"]);
        argv.extend(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell,name=lab"]);
        let code = format!("if=pflash,format=raw,readonly=on,file={}", FIRMWARE[0]);
        if self.loader == BootLoader::SystemdBoot {
            argv.extend(["-drive", &code, "-drive", "if=pflash,format=raw,file=/mnt/variables"]);
        }
        self.power_cut();
        let _ = std::fs::remove_file(&socket);
        let qemu = in_own_mounts(&argv).spawn()?;
        let until = Instant::now() + COMMAND_LIMIT;
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) if qemu.is_running() && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(_) => {
                    let said = tail(&String::from_utf8_lossy(&read(&log).unwrap_or_default()));
                    return Err(LabError::Setup(format!("the virtual machine does not start: {said}")));
                }
            }
        };
        *self.on() = Some(On { _qemu: qemu, shell: BufReader::new(stream), number: 0 });
        Ok(())
    }

    /// Cuts the power. Data that was not synced is lost, as with a real machine.
    pub fn power_cut(&self) {
        *self.on() = None;
    }

    /// Returns the output of its console, boot after boot.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&read(self.directory.join("console")).unwrap_or_default()).into_owned()
    }

    /// Waits for the machine to be up and runs a script for sh as root.
    pub fn exec(&self, script: &str, limit: Duration) -> Result<Output> {
        let until = Instant::now() + limit;
        while self.ask("true", POLL)?.is_none() {
            if Instant::now() > until {
                let seen = tail(&self.console());
                return Err(LabError::Timeout { what: "boot of the machine".into(), after: limit, seen });
            }
        }
        let answered = self.ask(script, COMMAND_LIMIT)?;
        answered.ok_or_else(|| LabError::Timeout {
            what: format!("the end of `{script}` in the machine"),
            after: COMMAND_LIMIT,
            seen: tail(&self.console()),
        })
    }

    /// The same, and returns stdout; an error with stderr if it does not end with 0.
    pub fn run(&self, script: &str, limit: Duration) -> Result<String> {
        self.exec(script, limit)?.into_stdout()
    }

    /// Makes this the only repository of the system that runs, with apt's lists up to date.
    pub fn install_repository(&self, repository: &DebRepository, limit: Duration) -> Result<()> {
        self.run(&repository.script()?, limit).map(drop)
    }

    fn on(&self) -> MutexGuard<'_, Option<On>> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a script for sh as root, once. Returns `None` if no answer comes in time, as from a machine that boots.
    pub fn ask(&self, script: &str, limit: Duration) -> Result<Option<Output>> {
        let mut on = self.on();
        let On { shell, number, .. } = on.as_mut().ok_or_else(|| LabError::Off("vm01".into()))?;
        let failed = |source| LabError::Io { what: "speak with the virtual machine".into(), source };
        *number += 1;
        let encoded = Command::new(&["base64", "-w0"]).stdin(script.as_bytes()).run()?;
        shell.get_ref().set_read_timeout(Some(limit)).map_err(failed)?;
        shell.get_ref().write_all(format!("{number} {encoded}\n").as_bytes()).map_err(failed)?;
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let mut line = String::new();
            match shell.read_line(&mut line) {
                Ok(0) => return Err(LabError::Off("vm01".into())),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(failed(error)),
            }
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            if let [answered, code, stdout, stderr, "end"] = words[..] {
                if answered.parse() == Ok(*number) {
                    let (stdout, stderr) = (decoded(stdout)?, decoded(stderr)?);
                    return Ok(Some(Output::of(script, code.parse().ok(), stdout, stderr)));
                }
            }
        }
        Ok(None)
    }
}

impl Drop for VirtualMachine {
    fn drop(&mut self) {
        self.power_cut();
        if std::env::var_os("LAB_KEEP").is_some() {
            eprintln!("lab: kept {}", self.directory.display());
        } else {
            // The next machine sweeps away the rest.
            let _ = remove_dir_all(&self.directory);
        }
    }
}

fn decoded(text: &str) -> Result<String> {
    Command::new(&["base64", "-d"]).stdin(text.as_bytes()).run()
}

/// Makes a directory for one machine, after a sweep of those of dead processes.
fn new_directory() -> Result<(PathBuf, Flock<std::fs::File>)> {
    let machines = state_dir("machines")?;
    let _sweeping = lock(&machines.join(".lock"))?;
    for entry in read_dir(&machines).on("list", &machines)?.flatten() {
        let directory = entry.path();
        if directory.is_dir() && try_lock(&directory.join("used"))?.is_some() {
            let _ = remove_dir_all(&directory);
        }
    }
    let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = machines.join(name);
    create_dir(&directory).on("create", &directory)?;
    let used = lock_file(&directory.join("used"))?;
    let used = Flock::lock(used, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e);
    Ok((directory.clone(), used.on("lock", &directory)?))
}
