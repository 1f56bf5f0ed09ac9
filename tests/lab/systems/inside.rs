//! The way into a node: into its booted system, or into the root of one that is off.
//!
//! Processes in there read and write files, so that links lead to their targets in the node, never on the host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::network::{BACKUP, CONTROLLER};
use crate::error::{IoContext, Result};
use crate::processes::namespaces::way_in;
use crate::processes::run::{Command, PATH};

/// ostree reads and writes a whole system.
const OSTREE_LIMIT: Duration = Duration::from_secs(300);

/// Way into a node, as of now.
#[derive(Debug, Clone)]
pub(crate) enum Inside {
    /// Booted: the container's process 1, as this process sees it.
    Booted { init: u32 },
    /// Off: its root, mounted in the cluster whose process 1 this is.
    Root {
        /// The cluster's process 1.
        namespaces: u32,
        root: PathBuf,
    },
}

impl Inside {
    /// Returns a command in there, with a clean environment.
    pub(crate) fn command(&self, argv: &[&str]) -> Command {
        let mut way: Vec<String> = match self {
            Inside::Booted { init } => {
                // -T: without it the command would see the host's uptime.
                let mut way = vec!["nsenter".to_string(), "-t".into(), init.to_string()];
                way.extend(["-m", "-u", "-i", "-n", "-p", "-T", "-r", "-w", "--"].map(String::from));
                way
            }
            Inside::Root { namespaces, root } => {
                let mut way = way_in(*namespaces);
                way.extend(["chroot".to_string(), root.display().to_string()]);
                way
            }
        };
        let path = format!("PATH={PATH}");
        way.extend(["env", "-i", &path, "HOME=/root", "LC_ALL=C.UTF-8"].map(String::from));
        Command::by_way_of(way, argv)
    }

    pub(crate) fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let script = "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1.lab\" && chmod \"$2\" \"$1.lab\" && mv \"$1.lab\" \"$1\"";
        let mode = format!("{mode:o}");
        self.command(&["sh", "-c", script, "sh", path, &mode]).stdin(content).run().map(drop)
    }

    pub(crate) fn copy_in(&self, source: &Path, path: &str, mode: u32) -> Result<()> {
        self.write_file(path, &read(source)?, mode)
    }

    pub(crate) fn copy_dir_in(&self, source: &Path, path: &str) -> Result<()> {
        self.unpack(&pack(source)?, path)
    }

    /// Unpacks an archive of [`pack`] into the directory `path`.
    pub(crate) fn unpack(&self, archive: &[u8], path: &str) -> Result<()> {
        let script = "mkdir -p \"$1\" && tar -C \"$1\" -xf -";
        self.command(&["sh", "-c", script, "sh", path]).stdin(archive).run().map(drop)
    }

    pub(crate) fn read_file(&self, path: &str) -> Result<String> {
        self.command(&["cat", path]).run()
    }
}

/// Packs the content of a directory of the host's into an archive.
pub(crate) fn pack(directory: &Path) -> Result<Vec<u8>> {
    let directory = directory.display().to_string();
    Command::new(&["tar", "-C", &directory, "-cf", "-", "--owner=0", "--group=0", "."]).bytes()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).on("read", path)
}

/// A node's file system before its first boot, to install into.
#[derive(Debug)]
pub struct NodeRoot {
    pub(crate) name: String,
    pub(crate) inside: Inside,
}

impl NodeRoot {
    /// The node's name: `ctl`, `cn01` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether slurmctld will run here.
    pub fn is_controller(&self) -> bool {
        self.name == CONTROLLER || self.name == BACKUP
    }

    /// Writes a file and the directories above it.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        self.inside.write_file(path, content.as_ref(), mode)
    }

    /// Copies a file of the host's.
    pub fn copy_in(&self, source: &Path, path: &str, mode: u32) -> Result<()> {
        self.inside.copy_in(source, path, mode)
    }

    /// Copies the content of a directory of the host's into the directory `path`.
    pub fn copy_dir_in(&self, source: &Path, path: &str) -> Result<()> {
        self.inside.copy_dir_in(source, path)
    }

    /// Runs a command in the root, which is not booted.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.inside.command(argv).run()
    }

    /// Makes the root, as it is now, an image that ostree has deployed in it. The node boots the image, and has the
    /// root at `/sysroot`. The remote `site` has the branches `compute/2` and `compute/3`; see `ostree_image.sh`.
    pub fn deploy_by_ostree(&self) -> Result<()> {
        let argv = ["unshare", "--mount", "--", "sh", "-ec", include_str!("ostree_image.sh")];
        self.inside.command(&argv).limit(OSTREE_LIMIT).run().map(drop)
    }

    /// Enables units that are installed in the root.
    pub fn enable_units(&self, units: &[&str]) -> Result<()> {
        let mut argv = vec!["systemctl", "--quiet", "enable"];
        argv.extend(units);
        self.run(&argv).map(drop)
    }
}
