//! Debian repositories made on the spot: tiny packages for apt to install in nodes.

use std::path::{Path, PathBuf};

use crate::cluster::node::Node;
use crate::error::Result;
use crate::packages::package::{Package, Scriptlet, Workshop, copy_into, write};
use crate::processes::run::Command;
use crate::systems::inside::{Inside, NodeRoot, pack};

/// Path of the repository in a node.
const PLACE: &str = "/srv/deb-repository";
/// Its entry for apt.
const ENTRY: &str = "deb [trusted=yes] file:/srv/deb-repository ./\n";

/// A repository, ready to be put into nodes.
#[derive(Debug, Clone)]
pub struct DebRepository {
    archive: Vec<u8>,
}

impl DebRepository {
    /// Builds these packages.
    pub fn build(packages: &[Package]) -> Result<DebRepository> {
        DebRepository::build_with(packages, &[])
    }

    /// Builds these packages and adds existing package files.
    pub fn build_with(packages: &[Package], files: &[PathBuf]) -> Result<DebRepository> {
        let workshop = Workshop::new()?;
        let repository = workshop.0.join("repository");
        copy_into(&repository, files)?;
        packages.iter().try_for_each(|package| build(package, &workshop.0))?;
        let script = "cd \"$1\" && dpkg-scanpackages --multiversion . >Packages";
        Command::new(&["sh", "-c", script, "sh", &repository.display().to_string()]).run()?;
        Ok(DebRepository { archive: pack(&repository)? })
    }

    /// Makes it the only repository of a node, with apt's lists up to date.
    pub fn install_on(&self, node: &Node) -> Result<()> {
        self.install(&node.inside())
    }

    /// The same before the node's first boot.
    pub fn install_in(&self, root: &NodeRoot) -> Result<()> {
        self.install(&root.inside)
    }

    /// Returns a script for sh that does the same.
    pub(crate) fn script(&self) -> Result<String> {
        let archive = Command::new(&["base64", "-w0"]).stdin(self.archive.as_slice()).run()?;
        Ok(format!(
            "rm -rf {PLACE}; mkdir -p {PLACE}; echo {archive} | base64 -d | tar -C {PLACE} -xf -; \
             echo '{}' >/etc/apt/sources.list.d/lab.list; apt-get -qq update",
            ENTRY.trim_end()
        ))
    }

    fn install(&self, inside: &Inside) -> Result<()> {
        inside.command(&["rm", "-rf", PLACE]).run()?;
        inside.unpack(&self.archive, PLACE)?;
        inside.write_file("/etc/apt/sources.list.d/lab.list", ENTRY.as_bytes(), 0o644)?;
        inside.command(&["apt-get", "-qq", "update"]).run().map(drop)
    }
}

fn build(package: &Package, workshop: &Path) -> Result<()> {
    let Package { name, version, .. } = package;
    let files = workshop.join(format!("files/{name}-{version}"));
    package.unpack(&files)?;
    write(&files.join("DEBIAN/control"), &control_of(package), 0o644)?;
    for (when, script) in &package.scriptlets {
        let file = match when {
            Scriptlet::BeforeInstall => "preinst",
            Scriptlet::AfterInstall => "postinst",
            Scriptlet::BeforeRemove => "prerm",
            Scriptlet::AfterRemove => "postrm",
        };
        write(&files.join("DEBIAN").join(file), &format!("#!/bin/sh\n{script}\n"), 0o755)?;
    }
    let deb = workshop.join(format!("repository/{name}_{version}_all.deb"));
    let (files, deb) = (files.display().to_string(), deb.display().to_string());
    Command::new(&["dpkg-deb", "--root-owner-group", "--build", &files, &deb]).run().map(drop)
}

fn control_of(package: &Package) -> String {
    let Package { name, version, requires, conflicts, .. } = package;
    let mut text = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@localhost>\nDescription: {name}\n"
    );
    for (field, list) in [("Depends", requires), ("Conflicts", conflicts)] {
        if !list.is_empty() {
            text.push_str(&format!("{field}: {}\n", list.join(", ")));
        }
    }
    text
}
