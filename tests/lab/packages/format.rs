//! The two formats of packages, with an admin's commands for each on one machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::node::Node;
use crate::error::Result;
use crate::processes::run::{Command, Output};

/// apt and dnf take seconds; this much is for a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Answer to dpkg's question about an edited file, for a run without a terminal.
const KEEP_EDITED: &str = "Dpkg::Options::=--force-confold";

/// Format of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Debian's, through apt.
    #[default]
    Deb,
    /// RPM, through dnf. A package `lab-base` stands for all that Debian has and no RPM provides.
    Rpm,
}

impl Format {
    /// Extension of package files, and the name in a page.
    pub fn name(self) -> &'static str {
        match self {
            Format::Deb => "deb",
            Format::Rpm => "rpm",
        }
    }

    /// The package manager's name in a manifest.
    pub fn manager(self) -> &'static str {
        match self {
            Format::Deb => "apt",
            Format::Rpm => "dnf",
        }
    }

    /// Specification of a package in one version for a manifest.
    pub fn exactly(self, name: &str, version: &str) -> String {
        match self {
            Format::Deb => format!("{name}={version}"),
            Format::Rpm => format!("{name}-{version}"),
        }
    }

    /// Installs package files of the host's, or upgrades to them, without a terminal, as in a script.
    pub fn install(self, node: &Node, files: &[PathBuf]) -> Result<Output> {
        let mut argv = match self {
            Format::Deb => vec!["apt-get", "-y", "-o", KEEP_EDITED, "install"],
            Format::Rpm => vec!["dnf", "-y", "install"],
        };
        let place =
            |file: &PathBuf| format!("/root/{}", file.file_name().unwrap_or_default().to_string_lossy());
        let there: Vec<String> = files.iter().map(place).collect();
        for (file, there) in files.iter().zip(&there) {
            node.copy_in(file, there, 0o644)?;
        }
        argv.extend(there.iter().map(String::as_str));
        let output = run(node, &argv)?;
        let mut clear = vec!["rm"];
        clear.extend(there.iter().map(String::as_str));
        node.run(&clear)?;
        Ok(output)
    }

    /// Removes a package; its configuration may stay.
    pub fn remove(self, node: &Node, name: &str) -> Result<Output> {
        match self {
            Format::Deb => run(node, &["apt-get", "-y", "remove", name]),
            Format::Rpm => run(node, &["dnf", "-y", "remove", name]),
        }
    }

    /// The installed version of a package, with its release; empty if it is not installed.
    pub fn installed(self, node: &Node, name: &str) -> Result<String> {
        let output = match self {
            Format::Deb => node.exec(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name])?,
            Format::Rpm => node.exec(&["rpm", "-q", "--qf", "installed %{VERSION}-%{RELEASE}", name])?,
        };
        Ok(output.stdout.strip_prefix("installed ").unwrap_or_default().to_owned())
    }

    /// The version of a package file, with its release.
    pub fn version(self, file: &Path) -> Result<String> {
        let file = file.display().to_string();
        let version = match self {
            Format::Deb => Command::new(&["dpkg-deb", "-f", &file, "Version"]).run()?,
            Format::Rpm => Command::new(&["rpm", "-qp", "--qf", "%{VERSION}-%{RELEASE}", &file]).run()?,
        };
        Ok(version.trim().to_owned())
    }
}

fn run(node: &Node, argv: &[&str]) -> Result<Output> {
    node.command(argv)?.env("DEBIAN_FRONTEND", "noninteractive").limit(LIMIT).output()
}
