//! A tiny package, described once for RPM and Debian repositories.

use std::fs::{DirBuilder, create_dir_all};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{IoContext, Result};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A package for all architectures.
#[derive(Debug, Clone, Default)]
pub struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) requires: Vec<String>,
    pub(crate) conflicts: Vec<String>,
    pub(crate) scriptlets: Vec<(Scriptlet, String)>,
    files: Vec<(String, String, u32)>,
}

/// Time at which a package runs a script of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scriptlet {
    /// RPM's %pre, Debian's preinst.
    BeforeInstall,
    /// RPM's %post, Debian's postinst.
    AfterInstall,
    /// RPM's %preun, Debian's prerm.
    BeforeRemove,
    /// RPM's %postun, Debian's postrm.
    AfterRemove,
}

impl Package {
    /// A package without files. In an RPM the version `1.0` is `1.0-1`; in a deb it is as it stands here.
    pub fn new(name: &str, version: &str) -> Package {
        Package { name: name.into(), version: version.into(), ..Package::default() }
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str, mode: u32) -> Package {
        self.files.push((path.into(), content.into(), mode));
        self
    }

    /// Adds a dependency, in the syntax of the repository's format.
    #[must_use]
    pub fn requires(mut self, what: &str) -> Package {
        self.requires.push(what.into());
        self
    }

    /// Adds a conflict.
    #[must_use]
    pub fn conflicts(mut self, what: &str) -> Package {
        self.conflicts.push(what.into());
        self
    }

    /// Adds a script for /bin/sh.
    #[must_use]
    pub fn scriptlet(mut self, when: Scriptlet, script: &str) -> Package {
        self.scriptlets.push((when, script.into()));
        self
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(path, _, _)| path.as_str())
    }

    /// Writes the package's files below `root`.
    pub(crate) fn unpack(&self, root: &Path) -> Result<()> {
        create_dir_all(root).on("create", root)?;
        self.files.iter().try_for_each(|(path, content, mode)| {
            let file = root.join(path.trim_start_matches('/'));
            write(&file, content, *mode)
        })
    }
}

/// Writes a file and the directories above it.
pub(crate) fn write(file: &Path, content: &str, mode: u32) -> Result<()> {
    if let Some(directory) = file.parent() {
        create_dir_all(directory).on("create", directory)?;
    }
    std::fs::write(file, content).on("write", file)?;
    std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).on("chmod", file)
}

/// Copies files into a directory, which is made if necessary.
pub(crate) fn copy_into(directory: &Path, files: &[PathBuf]) -> Result<()> {
    create_dir_all(directory).on("create", directory)?;
    files.iter().try_for_each(|file| {
        let copy = directory.join(file.file_name().unwrap_or_default());
        std::fs::copy(file, &copy).on("copy to", &copy).map(drop)
    })
}

/// A directory to build packages in, gone when dropped.
#[derive(Debug)]
pub(crate) struct Workshop(pub(crate) PathBuf);

impl Workshop {
    pub(crate) fn new() -> Result<Workshop> {
        let name = format!("rollout-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&directory).on("create", &directory)?;
        Ok(Workshop(directory))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // A temporary directory that remains is no error of the test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
