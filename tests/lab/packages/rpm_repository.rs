//! RPM repositories made on the spot: tiny packages for dnf, dnf5 and zypper to install in nodes.

use std::path::{Path, PathBuf};

use crate::cluster::node::Node;
use crate::error::Result;
use crate::packages::package::{Package, Scriptlet, Workshop, copy_into, write};
use crate::packages::signing_key::SigningKey;
use crate::processes::run::Command;
use crate::systems::inside::{Inside, NodeRoot, pack};

/// Id of a repository that has no other.
const ID: &str = "lab";
/// Path of that repository in a node.
const PLACE: &str = "/srv/rpm-repository";
/// Public key in a signed repository.
const KEY: &str = "key.asc";

/// The package that stands for the Debian system.
const SYSTEM: &str = "lab-system";

/// A repository, ready to be put into nodes.
#[derive(Debug, Clone)]
pub struct RpmRepository {
    id: String,
    archive: Vec<u8>,
    is_signed: bool,
}

impl RpmRepository {
    /// Builds these packages, and one more for files that no RPM owns on Debian: the shell of scriptlets, and the C
    /// library without which newer zypper takes the system for broken.
    pub fn build(packages: &[Package]) -> Result<RpmRepository> {
        RpmRepository::build_with(packages, &[])
    }

    /// Builds these packages and adds existing package files.
    pub fn build_with(packages: &[Package], files: &[PathBuf]) -> Result<RpmRepository> {
        RpmRepository::assemble(ID, packages, files, None)
    }

    /// Builds these packages as a repository with this id. Its packages and its metadata are signed, and nodes check
    /// both. No node knows the key before a package manager has accepted it.
    pub fn build_signed(id: &str, packages: &[Package], key: &SigningKey) -> Result<RpmRepository> {
        RpmRepository::assemble(id, packages, &[], Some(key))
    }

    fn assemble(
        id: &str,
        packages: &[Package],
        files: &[PathBuf],
        key: Option<&SigningKey>,
    ) -> Result<RpmRepository> {
        let workshop = Workshop::new()?;
        let repository = workshop.0.join("repository");
        copy_into(&repository, files)?;
        std::iter::once(&Package::new(SYSTEM, "1"))
            .chain(packages)
            .try_for_each(|p| build(p, &workshop.0))?;
        if let Some(key) = key {
            key.sign_packages(&repository)?;
            write(&repository.join(KEY), &key.public()?, 0o644)?;
        }
        Command::new(&["createrepo_c", "--quiet", &repository.display().to_string()]).run()?;
        if let Some(key) = key {
            key.sign_metadata(&repository)?;
        }
        Ok(RpmRepository { id: id.to_owned(), archive: pack(&repository)?, is_signed: key.is_some() })
    }

    /// Puts it into a node, in place of the repository with the same id.
    pub fn install_on(&self, node: &Node) -> Result<()> {
        self.install(&node.inside())
    }

    /// The same before the node's first boot.
    pub fn install_in(&self, root: &NodeRoot) -> Result<()> {
        self.install(&root.inside)
    }

    fn install(&self, inside: &Inside) -> Result<()> {
        let (place, entry) = (self.place(), self.entry());
        inside.command(&["rm", "-rf", &place]).run()?;
        inside.unpack(&self.archive, &place)?;
        for directory in ["/etc/yum.repos.d", "/etc/zypp/repos.d"] {
            inside.write_file(&format!("{directory}/{}.repo", self.id), entry.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        if self.id == ID { PLACE.to_owned() } else { format!("{PLACE}-{}", self.id) }
    }

    /// Returns its entry for dnf and zypper. They cache no data: a test may put a different repository into the same
    /// place.
    fn entry(&self) -> String {
        let (id, place) = (&self.id, self.place());
        let checks = match self.is_signed {
            true => format!("gpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://{place}/{KEY}\n"),
            false => "gpgcheck=0\n".to_owned(),
        };
        format!(
            "[{id}]\nname={id}\nbaseurl=file://{place}\nenabled=1\n{checks}autorefresh=1\nmetadata_expire=0\n"
        )
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
