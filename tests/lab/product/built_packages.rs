//! The packages of slurm-rollout, built as a site builds them: with `packaging/build`, from the tree as it is.
//!
//! `packaging/build` notices whether the tree has changed since, so packages are always requested here.

use std::fs::{File, create_dir_all, read_dir, read_to_string, remove_dir_all};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;

use crate::error::{IoContext, LabError, Result};
use crate::packages::format::Format;
use crate::processes::run::Command;
use crate::product::{is_for_older_systems, with_cargo, workspace};
use crate::state_dir::lock;

/// A build from scratch takes some minutes on two cores, and several tests may wait for one another.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// Date of a version that a test makes: later than all in the change logs, and the same each time.
const DAY_OF_A_TEST: &str = "4102444800";

/// Both packages, of both kinds.
#[derive(Debug, Clone)]
pub struct BuiltPackages {
    /// Their version, without the packages' release.
    pub version: String,
    /// Agent and CLI are static, for the lab's older systems.
    pub is_static: bool,
    pub controller_rpm: PathBuf,
    pub agent_rpm: PathBuf,
    pub source_rpm: PathBuf,
    pub controller_deb: PathBuf,
    pub agent_deb: PathBuf,
    /// The tree that they were made from.
    pub source: PathBuf,
    /// Output directory of `packaging/build`.
    pub directory: PathBuf,
    /// Cargo's target directory.
    pub target_directory: PathBuf,
}

impl BuiltPackages {
    /// Builds the packages of this tree.
    pub fn build() -> Result<BuiltPackages> {
        BuiltPackages::of(workspace(), &default_directory())
    }

    /// Builds the packages of this tree with a different version, as for a release.
    pub fn build_version(version: &str) -> Result<BuiltPackages> {
        let now = BuiltPackages::build()?;
        let directory = workspace().join(format!("target/packages-{version}"));
        create_dir_all(&directory).on("create", &directory)?;
        let _alone = lock(&directory.join("lock"))?;
        let source = directory.join("tree");
        if source.exists() {
            remove_dir_all(&source).on("remove", &source)?;
        }
        create_dir_all(&source).on("create", &source)?;
        let tarball = now.directory.join(format!("slurm-rollout-{}.tar.gz", now.version));
        let (archive, tree) = (tarball.display().to_string(), source.display().to_string());
        Command::new(&["tar", "-xzf", &archive, "-C", &tree, "--strip-components=1"]).run()?;
        let program = source.join("packaging/set-version").display().to_string();
        Command::new(&[&program, version]).env("SOURCE_DATE_EPOCH", DAY_OF_A_TEST).run()?;
        BuiltPackages::of(&source, &directory)
    }

    /// `slurm-rollout` in this format.
    pub fn controller(&self, format: Format) -> &Path {
        match format {
            Format::Deb => &self.controller_deb,
            Format::Rpm => &self.controller_rpm,
        }
    }

    /// `slurm-rollout-agent` in this format.
    pub fn agent(&self, format: Format) -> &Path {
        match format {
            Format::Deb => &self.agent_deb,
            Format::Rpm => &self.agent_rpm,
        }
    }

    /// Keeps `packaging/build` from using cargo's target directory until the lock is dropped.
    pub fn lock_target_directory(&self) -> Result<Flock<File>> {
        lock(&self.target_directory.join("packaging.lock"))
    }

    fn of(source: &Path, directory: &Path) -> Result<BuiltPackages> {
        let is_static = is_for_older_systems()?;
        let program = source.join("packaging/build").display().to_string();
        let output = directory.display().to_string();
        let mut argv = vec![program.as_str(), "--output", &output];
        argv.extend(is_static.then_some("--static"));
        // While only a test is being written, the packages would be the same.
        let as_they_are =
            std::env::var_os("ROLLOUT_LAB_OLD_PACKAGES").is_some() && directory.join("rpm").exists();
        if !as_they_are {
            let target = target_directory().display().to_string();
            with_cargo(Command::new(&argv)).env("CARGO_TARGET_DIR", &target).limit(BUILD_LIMIT).run()?;
        }
        let version = version_of(source)?;
        let source_rpm = only(&directory.join("rpm"), "slurm-rollout-", ".src.rpm")?;
        let machine_rpm = format!(".{}.rpm", std::env::consts::ARCH);
        let rpm = |name: &str| only(&directory.join("rpm"), &format!("{name}-{version}-"), &machine_rpm);
        let deb = |name: &str| only(&directory.join("deb"), &format!("{name}_{version}-"), ".deb");
        Ok(BuiltPackages {
            controller_rpm: rpm("slurm-rollout")?,
            agent_rpm: rpm("slurm-rollout-agent")?,
            source_rpm,
            controller_deb: deb("slurm-rollout")?,
            agent_deb: deb("slurm-rollout-agent")?,
            version,
            is_static,
            source: source.to_path_buf(),
            directory: directory.to_path_buf(),
            target_directory: target_directory(),
        })
    }
}

/// Default output directory of `packaging/build`.
fn default_directory() -> PathBuf {
    workspace().join("target/packages")
}

/// Cargo's target directory for all builds of packages: third-party crates are compiled once.
fn target_directory() -> PathBuf {
    default_directory().join("work/target")
}

/// The version of a source tree.
fn version_of(source: &Path) -> Result<String> {
    let path = source.join("Cargo.toml");
    let text = read_to_string(&path).on("read", &path)?;
    let version = text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(String::from).ok_or_else(|| LabError::Setup(format!("no version in {}", path.display())))
}

/// Returns the only file in a directory with this prefix and suffix.
fn only(directory: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let entries = read_dir(directory).on("list", directory)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found: Vec<String> =
        names.filter(|name| name.starts_with(prefix) && name.ends_with(suffix)).collect();
    match found.as_slice() {
        [name] => Ok(directory.join(name)),
        _ => Err(LabError::Setup(format!("{prefix}*{suffix} in {}: {found:?}", directory.display()))),
    }
}
