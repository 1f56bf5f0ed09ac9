//! slurm-rollout as it is built, and where it is put in a cluster.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::cluster::{ClusterSpec, File};
use crate::error::Result;
use crate::run::Command;

/// The target of the static reboot-program. With it on the command line, `crt-static` does not reach build scripts.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where RebootProgram is installed.
pub const REBOOT_PROGRAM: &str = "/usr/libexec/slurm-rollout/reboot-program";

/// Where an agent that was built with failpoints says that it has reached one.
pub const AT_FAILPOINT: &str = "/run/slurm-rollout/at-failpoint";
/// The file that names the failpoint at which it waits.
pub const FAILPOINT: &str = "/var/lib/slurm-rollout-agent/failpoint";

/// The three programs.
#[derive(Debug, Clone)]
pub struct Product {
    /// `reboot-program`, static.
    pub reboot_program: PathBuf,
    /// `slurm-rollout`.
    pub cli: PathBuf,
    /// `slurm-rollout-agent`.
    pub agent: PathBuf,
}

impl Product {
    /// Builds it as it is shipped. Once a process; cargo knows what is built already.
    pub fn build() -> Result<Product> {
        static BUILT: OnceLock<Product> = OnceLock::new();
        if let Some(product) = BUILT.get() {
            return Ok(product.clone());
        }
        let programs = ["-p", "slurm-rollout-agent", "-p", "rollout-cli"];
        let release = build(&[&["--release"], &programs[..]].concat(), is_for_older_systems()?, "target")?;
        let tiny = build(&["--profile", "tiny", "-p", "reboot-program"], true, "target")?;
        let product = Product {
            reboot_program: tiny.join("tiny/reboot-program"),
            cli: release.join("release/slurm-rollout"),
            agent: release.join("release/slurm-rollout-agent"),
        };
        Ok(BUILT.get_or_init(|| product).clone())
    }

    /// The same with an agent that waits at the failpoint that [`FAILPOINT`] names.
    pub fn build_with_failpoints() -> Result<Product> {
        let product = Product::build()?;
        let arguments = ["--release", "-p", "slurm-rollout-agent", "--features", "failpoints"];
        let built = build(&arguments, is_for_older_systems()?, "target/failpoints")?;
        Ok(Product { agent: built.join("release/slurm-rollout-agent"), ..product })
    }

    /// Adds it to what a cluster shall be: installed on controller and nodes, called by slurmctld.
    pub fn install(&self, spec: ClusterSpec) -> ClusterSpec {
        let mut spec = spec;
        let packaging = workspace().join("packaging/systemd");
        spec.controller_files.push(File::new(&self.reboot_program, REBOOT_PROGRAM, 0o755));
        spec.controller_files.push(File::new(&self.cli, "/usr/bin/slurm-rollout", 0o755));
        spec.node_files.push(File::new(&self.agent, "/usr/sbin/slurm-rollout-agent", 0o755));
        for unit in [
            "slurm-rollout-agent.service",
            "slurm-rollout-gate.service",
            "slurm-rollout-rescue.service",
            "slurmd.service.d/slurm-rollout.conf",
        ] {
            let path = format!("/usr/lib/systemd/system/{unit}");
            spec.node_files.push(File::new(packaging.join(unit), &path, 0o644));
        }
        spec.enable_units_on_nodes.push("slurm-rollout-agent.service".into());
        spec.enable_units_on_nodes.push("slurm-rollout-rescue.service".into());
        spec.reboot_program = REBOOT_PROGRAM.into();
        spec.reboot_from_controller = true;
        // Slurm 26.05 looks for nodes to be rebooted every 10 s otherwise.
        if spec.base == crate::base::Base::Forky {
            spec.slurmctld_parameters.push("power_save_interval=1".into());
        }
        let before = spec.prepare.take();
        spec.prepare = Some(std::sync::Arc::new(move |root| {
            if root.is_controller() {
                root.run(&["install", "-d", "-o", "slurm", "-g", "slurm", "/var/lib/slurm-rollout"])?;
            }
            before.as_ref().map_or(Ok(()), |before| before(root))
        }));
        spec
    }
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The C library of the oldest base. A program that is linked with a newer one does not start there.
const OLDEST_GLIBC: (u32, u32) = (2, 36);

/// Whether this host's C library is newer than the oldest base's: then agent and CLI are linked statically as well, for
/// the lab alone. `ROLLOUT_LAB_STATIC=1` does so on any host.
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

/// Building all of it anew takes some minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Builds, and says in which directory cargo's profiles then are.
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

/// Lets a command have what cargo and rustup go by.
pub(crate) fn with_cargo(command: Command) -> Command {
    let names = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let set = names.iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    set.fold(command, |command, (name, value)| command.env(name, &value))
}
