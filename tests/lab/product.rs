//! slurm-rollout as its packages install it, and the settings with which a cluster uses it.

pub(crate) mod built_packages;
pub(crate) mod job;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod page;
pub(crate) mod site;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::{ClusterSpec, File};
use crate::error::Result;
use crate::packages::format::Format;
use crate::processes::run::Command;
use crate::product::built_packages::BuiltPackages;
use crate::product::names::REBOOT_PROGRAM;
use crate::systems::base::Base;
use crate::systems::layer::Preinstalled;

/// The target of the static reboot-program. With it on the command line, `crt-static` does not reach build scripts.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The built packages, and the format in which a cluster gets them.
#[derive(Debug, Clone)]
pub struct Product {
    packages: BuiltPackages,
    format: Format,
    /// Replaces the installed agent.
    agent: Option<PathBuf>,
}

impl Product {
    /// Builds it as it is shipped, once in each process; debs, unless [`Product::with`] sets a different format.
    pub fn build() -> Result<Product> {
        static BUILT: Mutex<Option<BuiltPackages>> = Mutex::new(None);
        // Locked during the build: tests that start at the same time share one.
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let packages = match &*built {
            Some(packages) => packages.clone(),
            None => built.insert(BuiltPackages::build()?).clone(),
        };
        Ok(Product { packages, format: Format::Deb, agent: None })
    }

    /// The same with an agent that waits at the failpoint named in [`names::FAILPOINT`].
    pub fn build_with_failpoints() -> Result<Product> {
        let arguments = ["--release", "-p", "slurm-rollout-agent", "--features", "failpoints"];
        let built = build(&arguments, is_for_older_systems()?, "target/failpoints")?;
        Ok(Product { agent: Some(built.join("release/slurm-rollout-agent")), ..Product::build()? })
    }

    /// The same in this format.
    #[must_use]
    pub fn with(self, format: Format) -> Product {
        Product { format, ..self }
    }

    /// Packages from which it is installed.
    pub fn packages(&self) -> &BuiltPackages {
        &self.packages
    }

    /// The RebootProgram as it is packaged.
    pub fn reboot_program(&self) -> Result<Vec<u8>> {
        let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -xOf - \".$2\"";
        let package = self.packages.controller(Format::Deb).display().to_string();
        Command::new(&["sh", "-ec", script, "sh", &package, REBOOT_PROGRAM]).bytes()
    }

    pub(crate) fn node_packages(&self) -> Preinstalled {
        Preinstalled { format: self.format, files: vec![self.packages.agent(self.format).to_owned()] }
    }

    /// Adds it to the description of a cluster: installed on controller and nodes, called by slurmctld.
    pub fn install(&self, spec: ClusterSpec) -> ClusterSpec {
        let mut spec = called_by_slurmctld(spec);
        let controller = self.packages.controller(self.format).to_owned();
        spec.controller_packages = Preinstalled { format: self.format, files: vec![controller] };
        spec.node_packages = self.node_packages();
        if let Some(agent) = &self.agent {
            spec.node_files.push(File::new(agent, "/usr/sbin/slurm-rollout-agent", 0o755));
        }
        spec
    }
}

/// Lets slurmctld call RebootProgram at its installed path.
pub(crate) fn called_by_slurmctld(spec: ClusterSpec) -> ClusterSpec {
    let mut spec = spec;
    spec.reboot_program = REBOOT_PROGRAM.into();
    spec.reboot_from_controller = true;
    // Slurm 26.05 looks for nodes to be rebooted every 10 s otherwise.
    if spec.base == Base::Forky {
        spec.slurmctld_parameters.push("power_save_interval=1".into());
    }
    spec
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The C library of the oldest base. A program that is linked with a newer one does not start there.
const OLDEST_GLIBC: (u32, u32) = (2, 36);

/// Returns whether this host's C library is newer than the oldest base's: then agent and CLI are linked statically as
/// well, for the lab alone. `ROLLOUT_LAB_STATIC=1` does so on any host.
pub(crate) fn is_for_older_systems() -> Result<bool> {
    if std::env::var_os("ROLLOUT_LAB_STATIC").is_some() {
        return Ok(true);
    }
    let said = Command::new(&["ldd", "--version"]).run()?;
    let version = said.lines().next().and_then(|line| line.rsplit(' ').next()?.split_once('.'));
    let number = |text: &str| text.parse::<u32>().ok();
    Ok(version
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
        .is_none_or(|glibc| glibc > OLDEST_GLIBC))
}

/// A build from scratch takes some minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Builds and returns the directory of cargo's profiles.
fn build(arguments: &[&str], statically: bool, target: &str) -> Result<PathBuf> {
    let target = workspace().join(target);
    let dir = target.display().to_string();
    let mut argv = [&["build", "--target-dir", &dir], arguments].concat();
    if statically {
        argv.extend(["--target", STATIC_TARGET]);
        cargo(&argv, "-C target-feature=+crt-static")?;
        return Ok(target.join(STATIC_TARGET));
    }
    cargo(&argv, "")?;
    Ok(target)
}

fn cargo(args: &[&str], flags: &str) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = workspace().join("Cargo.toml").display().to_string();
    let mut argv = vec![cargo.as_str()];
    argv.extend(args);
    argv.extend(["--quiet", "--locked", "--manifest-path", &manifest]);
    with_cargo(Command::new(&argv)).env("RUSTFLAGS", flags).limit(BUILD_LIMIT).run().map(drop)
}

/// Passes the variables of cargo and rustup to a command.
pub(crate) fn with_cargo(command: Command) -> Command {
    let names = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let set = names.iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    set.fold(command, |command, (name, value)| command.env(name, &value))
}
