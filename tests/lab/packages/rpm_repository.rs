//! RPM repositories made on the spot: tiny packages for dnf, dnf5 and zypper to install in nodes.

use std::path::{Path, PathBuf};

use crate::cluster::node::Node;
use crate::error::Result;
use crate::packages::package::{Package, Scriptlet, Workshop, copy_into, write};
use crate::processes::run::Command;
use crate::systems::inside::{Inside, NodeRoot, pack};

/// Path of the repository in a node.
const PLACE: &str = "/srv/rpm-repository";
/// Its entry for dnf and zypper. They cache no data: a test may put a different repository into the same place.
const ENTRY: &str = "[lab]\nname=lab\nbaseurl=file:///srv/rpm-repository\nenabled=1\ngpgcheck=0\nautorefresh=1\nmetadata_expire=0\n";

/// The package that stands for the Debian system.
const SYSTEM: &str = "lab-system";

/// A repository, ready to be put into nodes.
#[derive(Debug, Clone)]
pub struct RpmRepository {
    archive: Vec<u8>,
}

impl RpmRepository {
    /// Builds these packages, and one more for files that no RPM owns on Debian: the shell of scriptlets, and the C
    /// library without which newer zypper takes the system for broken.
    pub fn build(packages: &[Package]) -> Result<RpmRepository> {
        RpmRepository::build_with(packages, &[])
    }

    /// Builds these packages and adds existing package files.
    pub fn build_with(packages: &[Package], files: &[PathBuf]) -> Result<RpmRepository> {
        let workshop = Workshop::new()?;
        let repository = workshop.0.join("repository");
        copy_into(&repository, files)?;
        std::iter::once(&Package::new(SYSTEM, "1"))
            .chain(packages)
            .try_for_each(|p| build(p, &workshop.0))?;
        Command::new(&["createrepo_c", "--quiet", &repository.display().to_string()]).run()?;
        Ok(RpmRepository { archive: pack(&repository)? })
    }

    /// Makes it the only repository of a node.
    pub fn install_on(&self, node: &Node) -> Result<()> {
        self.install(&node.inside())
    }

    /// The same before the node's first boot.
    pub fn install_in(&self, root: &NodeRoot) -> Result<()> {
        self.install(&root.inside)
    }

    fn install(&self, inside: &Inside) -> Result<()> {
        inside.command(&["rm", "-rf", PLACE]).run()?;
        inside.unpack(&self.archive, PLACE)?;
        inside.write_file("/etc/yum.repos.d/lab.repo", ENTRY.as_bytes(), 0o644)?;
        inside.write_file("/etc/zypp/repos.d/lab.repo", ENTRY.as_bytes(), 0o644)
    }
}

fn build(package: &Package, workshop: &Path) -> Result<()> {
    let files = workshop.join(format!("files/{}-{}", package.name, package.version));
    package.unpack(&files)?;
    let spec = files.with_extension("spec");
    write(&spec, &spec_of(package, &files), 0o644)?;
    let define = |name: &str, path: &str| format!("{name} {}", workshop.join(path).display());
    let (top, rpms) = (define("_topdir", "top"), define("_rpmdir", "repository"));
    let spec = spec.display().to_string();
    Command::new(&["rpmbuild", "--quiet", "-bb", "--define", &top, "--define", &rpms, &spec]).run().map(drop)
}

fn spec_of(package: &Package, files: &Path) -> String {
    let (version, release) = package.version.split_once('-').unwrap_or((&package.version, "1"));
    let mut text = format!(
        "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: {name}\nLicense: none\nBuildArch: noarch\nAutoReqProv: no\n",
        name = package.name
    );
    if package.name == SYSTEM {
        text.push_str("Provides: /bin/sh\nProvides: glibc\n");
    }
    for what in &package.requires {
        text.push_str(&format!("Requires: {what}\n"));
    }
    for what in &package.conflicts {
        text.push_str(&format!("Conflicts: {what}\n"));
    }
    text.push_str(&format!("%description\n%install\ncp -a {}/. %{{buildroot}}\n", files.display()));
    for (when, script) in &package.scriptlets {
        let section = match when {
            Scriptlet::BeforeInstall => "%pre",
            Scriptlet::AfterInstall => "%post",
            Scriptlet::BeforeRemove => "%preun",
            Scriptlet::AfterRemove => "%postun",
        };
        text.push_str(&format!("{section}\n{}\n", script.replace('%', "%%")));
    }
    text.push_str("%files\n%defattr(-,root,root)\n");
    for path in package.paths() {
        text.push_str(&format!("\"{path}\"\n"));
    }
    text
}
