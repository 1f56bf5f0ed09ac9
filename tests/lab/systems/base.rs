//! The systems that nodes boot: one directory for each Debian suite, made once, then the lower layer of every node's
//! root.

use std::fs::{create_dir, read_dir, remove_dir_all, rename};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{IoContext, LabError, Result};
use crate::processes::run::{Command, PATH, in_own_mounts};
use crate::state_dir::{lock, state_dir};

/// Packages that debootstrap installs.
const BOOT_PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates";
/// Packages that apt installs after that.
const PACKAGES: &str = "slurmctld slurmd slurm-client munge dnf rpm createrepo-c zypper";
/// Includes downloads of 300 MB.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Script for the new root, run as `sh -ec SETUP setup PACKAGES...`.
const SETUP: &str = include_str!("base_setup.sh");
/// Packages that apt installs for a virtual machine: a kernel and boot loaders, tools to make a disk, and the emulator.
const MACHINE_PACKAGES: &str = "udev initramfs-tools linux-image-cloud-amd64 grub-pc-bin grub2-common systemd-boot-efi \
                                systemd-boot-tools munge curl e2fsprogs fdisk dosfstools mtools qemu-system-x86 ovmf";
/// The same for a virtual machine.
const MACHINE_SETUP: &str = include_str!("machine_setup.sh");

/// A system for nodes, named by its Debian suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Slurm 22.05, systemd 252, dnf 4.14.
    Bookworm,
    /// Slurm 24.11, systemd 257, dnf 4.23, ostree.
    Trixie,
    /// Slurm 26.05, systemd 262, dnf 4 and dnf5.
    Forky,
    /// Trixie's kernel and boot loaders, no Slurm: for virtual machines. Trixie's QEMU, too: the emulation of older
    /// ones crashes its kernel now and then.
    Machine,
}

impl Base {
    /// Bases with Slurm, the oldest one first.
    pub const ALL: [Base; 3] = [Base::Bookworm, Base::Trixie, Base::Forky];

    /// The Debian suite.
    pub fn suite(self) -> &'static str {
        match self {
            Base::Bookworm => "bookworm",
            Base::Trixie | Base::Machine => "trixie",
            Base::Forky => "forky",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        if self == Base::Machine { "machine" } else { self.suite() }
    }

    /// Returns the root directory of this base, which is made if necessary. Never write into it: clusters share it.
    pub fn prepare(self) -> Result<PathBuf> {
        let bases = state_dir("bases")?;
        let base = bases.join(format!("{}-{:016x}", self.name(), self.recipe_hash()));
        if base.exists() {
            return Ok(base);
        }
        let _building = lock(&bases.join(format!(".{}.lock", self.name())))?;
        if base.exists() {
            return Ok(base);
        }
        self.remove_unfinished(&bases)?;
        let unfinished = bases.join(format!("{}.unfinished", self.name()));
        create_dir(&unfinished).on("create", &unfinished)?;
        self.build(&unfinished)?;
        rename(&unfinished, &base).on("rename to", &base)?;
        Ok(base)
    }

    /// Runs `scontrol show hostnames` of this Slurm on a hostlist and returns the names and its stderr.
    /// It ends with 0 even on a bad list.
    pub fn scontrol_show_hostnames(self, hostlist: &str) -> Result<(Vec<String>, String)> {
        let root = self.prepare()?.display().to_string();
        // scontrol needs a slurm.conf, but nothing from it.
        let argv = ["chroot", &root, "scontrol", "show", "hostnames", hostlist];
        let output = Command::new(&argv).env("SLURM_CONF", "/etc/slurm/hostlist.conf").output()?;
        Ok((output.stdout.lines().map(String::from).collect(), output.stderr))
    }

    /// cgroup.conf, without which slurmd does not start in a container.
    pub(crate) fn cgroup_conf(self) -> &'static str {
        match self {
            Base::Bookworm => "CgroupPlugin=cgroup/v1\n",
            Base::Trixie | Base::Forky | Base::Machine => "CgroupPlugin=disabled\n",
        }
    }

    fn packages(self) -> Vec<&'static str> {
        let (packages, more) = match self {
            Base::Bookworm => (PACKAGES, None),
            Base::Trixie => (PACKAGES, Some("ostree")),
            Base::Forky => (PACKAGES, Some("dnf5")),
            Base::Machine => (MACHINE_PACKAGES, None),
        };
        packages.split_whitespace().chain(more).collect()
    }

    fn setup(self) -> &'static str {
        if self == Base::Machine { MACHINE_SETUP } else { SETUP }
    }

    /// Hash of everything that goes into a base: a changed recipe makes a new base.
    fn recipe_hash(self) -> u64 {
        let recipe = format!("{BOOT_PACKAGES}\n{}\n{}", self.packages().join(" "), self.setup());
        Hash::default().add(recipe.as_bytes()).value()
    }

    fn remove_unfinished(self, bases: &Path) -> Result<()> {
        let name = format!("{}.unfinished", self.name());
        let found =
            read_dir(bases).on("list", bases)?.flatten().find(|entry| entry.file_name() == name.as_str());
        found.map_or(Ok(()), |entry| remove_dir_all(entry.path()).on("remove", &entry.path()))
    }

    fn build(self, root: &Path) -> Result<()> {
        let target = root.display().to_string();
        let include = format!("--include={BOOT_PACKAGES}");
        let mirror = mirror()?;
        // An older debootstrap has no script for a newer suite; all Debian suites share sid's.
        let script = "/usr/share/debootstrap/scripts/sid";
        let debootstrap =
            ["debootstrap", "--variant=minbase", &include, self.suite(), &target, &mirror, script];
        in_own_mounts(&debootstrap).limit(BUILD_LIMIT).run()?;

        let apt_conf = root.join("etc/apt/apt.conf.d/90host");
        std::fs::write(&apt_conf, apt_settings()?).on("write", &apt_conf)?;
        let resolv = root.join("etc/resolv.conf");
        std::fs::copy("/etc/resolv.conf", &resolv).on("copy /etc/resolv.conf to", &resolv)?;
        let path = format!("PATH={PATH}");
        let mut setup =
            vec!["chroot", &target, "env", "-i", &path, "LC_ALL=C.UTF-8", "sh", "-ec", self.setup(), "setup"];
        setup.extend(self.packages());
        in_own_mounts(&setup).limit(BUILD_LIMIT).run().map(drop)
    }
}

/// Hash of the ingredients of a base or layer, by which it is found again. FNV-1a.
#[derive(Debug)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(crate) fn add(&mut self, bytes: &[u8]) -> &mut Hash {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, step);
        self
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

/// Returns the Debian mirror of this machine, or `ROLLOUT_LAB_MIRROR`.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("ROLLOUT_LAB_MIRROR") {
        return Ok(mirror);
    }
    let format = "$(ORIGIN) $(LABEL) $(REPO_URI)";
    let targets =
        Command::new(&["apt-get", "indextargets", "--format", format, "Identifier: Packages"]).run();
    let targets = targets.unwrap_or_default();
    // The security archive has the label Debian-Security.
    let found = targets.lines().find_map(|line| line.strip_prefix("Debian Debian "));
    found.map(String::from).ok_or_else(|| {
        LabError::Setup(
            "this machine's apt has no Debian archive: set ROLLOUT_LAB_MIRROR to the URL of one".into(),
        )
    })
}

/// Returns the settings of this machine's apt that its mirror needs: a proxy, or a frozen copy's dates.
fn apt_settings() -> Result<String> {
    let wanted = [
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::http::Proxy ",
        "Acquire::https::Proxy ",
    ];
    let dump = Command::new(&["apt-config", "dump"]).run().unwrap_or_default();
    let lines = dump.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}
