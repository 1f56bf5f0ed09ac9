//! The RPM database of a node: what is in it, and the few repairs that dnf cannot make.

use super::run_manager::Patience;
use super::undo_cache::Kept;
use super::{list, spec};
use crate::changes::ChangeError;
use rollout_host::run::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A package in our notation.
const NEVRA: &str = "%{NAME}-%{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}";

/// Reading the database takes a second or two; it waits where a transaction holds it.
const QUERY: Duration = Duration::from_secs(120);

/// rpm.
#[derive(Debug, Clone)]
pub(super) struct Rpm {
    program: PathBuf,
    /// Which system, where it is not this one.
    root: Vec<String>,
    prefix: PathBuf,
}

impl Rpm {
    pub(super) fn of_node() -> Self {
        Self { program: PathBuf::from("/usr/bin/rpm"), root: Vec::new(), prefix: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(super) fn in_root(root: &Path) -> Self {
        let option = format!("--root={}", root.display());
        Self { root: vec![option], prefix: root.to_owned(), ..Self::of_node() }
    }

    fn program(&self, limit: Duration) -> Program {
        Program::new(&self.program, limit).args(&self.root)
    }

    fn query<A: AsRef<OsStr>>(&self, attempt: &str, arguments: &[A]) -> Result<String, ChangeError> {
        let patience = Patience::new(QUERY);
        Ok(patience.run("rpm", attempt, |limit| self.program(limit).args(arguments))?.stdout)
    }

    pub(super) fn installed(&self) -> Result<Vec<String>, ChangeError> {
        let format = format!("{NEVRA}\n");
        Ok(list::from_rpm(&self.query("listing the installed packages", &["-qa", "--qf", &format])?))
    }

    /// Whether an installed package provides this name.
    pub(super) fn is_provided(&self, name: &str) -> Result<bool, ChangeError> {
        let program = self.program(QUERY).args(["-q", "--whatprovides", name]);
        let output = program.output().map_err(|error| ChangeError::Manager {
            attempt: format!("asking who provides {name}"),
            manager: "rpm",
            words: error.to_string(),
            error: Box::new(error),
        })?;
        Ok(output.status.success())
    }

    /// The hash of each installed package's header, which holds the hashes of its files.
    fn header_hashes(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        let format = format!("{NEVRA}\t%{{SHA256HEADER}}\n");
        let output = self.query("listing the installed packages", &["-qa", "--qf", &format])?;
        let pairs = output.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs.map(|(package, hash)| (package.to_owned(), hash.to_owned())).collect())
    }

    /// Which package a file is, and its header's hash; none if it is none.
    fn file(&self, path: &Path) -> Option<(String, String)> {
        let format = format!("{NEVRA}\t%{{SHA256HEADER}}\n");
        let output = self
            .query(
                "reading a package file",
                &[OsStr::new("-qp"), OsStr::new("--qf"), OsStr::new(&format), path.as_os_str()],
            )
            .ok()?;
        let (package, hash) = output.trim_end().split_once('\t')?;
        Some((package.to_owned(), hash.to_owned()))
    }

    /// The kept files by package.
    pub(super) fn kept_files(&self, kept: &Kept) -> Result<BTreeMap<String, (PathBuf, String)>, ChangeError> {
        let directory = kept.files()?;
        let entries = std::fs::read_dir(&directory).map_err(ChangeError::file("reading", &directory))?;
        let files = entries.flatten().map(|entry| entry.path());
        let rpms = files.filter(|path| path.extension().is_some_and(|extension| extension == "rpm"));
        Ok(rpms.filter_map(|path| self.file(&path).map(|(package, hash)| (package, (path, hash)))).collect())
    }

    /// Removes files that are not what is installed: dnf5 checks no signature when it downloads, and going back
    /// installs them without one.
    pub(super) fn drop_strangers(&self, kept: &Kept, packages: &[String]) -> Result<(), ChangeError> {
        let installed = self.header_hashes()?;
        for (package, (path, hash)) in self.kept_files(kept)? {
            let is_genuine = installed.get(&package) == Some(&hash) && hash.len() == 64;
            if packages.contains(&package) && !is_genuine {
                std::fs::remove_file(&path).map_err(ChangeError::file("removing", &path))?;
            } else {
                // The rollback that needs it may come after a power cut.
                File::open(&path)
                    .and_then(|file| file.sync_all())
                    .map_err(ChangeError::file("writing", &path))?;
            }
        }
        Ok(())
    }

    /// Those of the packages of which a file is missing or has another content than it was installed with.
    /// Configuration files are the admin's.
    pub(super) fn damaged(&self, packages: &[String], patience: Patience) -> Vec<String> {
        const OPTIONS: [&str; 9] = [
            "-V",
            "--noconfig",
            "--nodeps",
            "--noscripts",
            "--nomtime",
            "--nomode",
            "--nouser",
            "--nogroup",
            "--nocaps",
        ];
        let is_whole = |package: &&String| {
            let program = self.program(patience.left()).args(OPTIONS).arg(package);
            program.output().is_ok_and(|output| output.status.success())
        };
        packages.iter().filter(|package| !is_whole(package)).cloned().collect()
    }

    /// Ends an upgrade that was interrupted between the new version's installation and the old one's removal: both
    /// are in the database then, and dnf5 refuses to do anything to them. rpm itself removes the old one, as it would
    /// have; files that both have stay.
    pub(super) fn remove_replaced(&self, before: &[String], patience: Patience) -> Result<(), ChangeError> {
        for package in half_replaced(before, &self.installed()?) {
            if self.is_installonly(&package)? {
                continue;
            }
            let attempt = format!("removing {package}, whose upgrade was interrupted,");
            let erase = |more: &'static [&'static str]| {
                let run = |limit| self.program(limit).args(["-e", "--nodeps"]).args(more).arg(&package);
                patience.run("rpm", &attempt, run)
            };
            // Its scripts may fail just because of the interruption.
            if erase(&[]).is_err() && self.installed()?.contains(&package) {
                erase(&["--noscripts"])?;
            }
        }
        Ok(())
    }

    /// Whether several versions of the package may be there at once, as dnf's default `installonlypkgs` has it.
    fn is_installonly(&self, package: &str) -> Result<bool, ChangeError> {
        let provides = self.query("asking what a package provides", &["-q", "--provides", package])?;
        Ok(provides.lines().any(|line| {
            let name = line.split_whitespace().next().unwrap_or("");
            name.starts_with("installonlypkg(")
                || matches!(name, "multiversion(kernel)" | "kernel" | "kernel-PAE")
        }))
    }

    /// Removes what an interrupted transaction was unpacking: rpm unpacks `file` as `file;5f3a21bc` and never looks at
    /// it again after a crash. These may be as large as the packages.
    pub(super) fn sweep(&self, packages: &[String], patience: Patience) {
        if packages.is_empty() {
            return;
        }
        // Those that are not installed are complained about on the side.
        let Ok(output) = self.program(patience.left()).arg("-ql").args(packages).output() else { return };
        let files: BTreeSet<&Path> =
            output.stdout.lines().filter(|l| l.starts_with('/')).map(Path::new).collect();
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for directory in directories {
            let outside = self.prefix.join(directory.strip_prefix("/").unwrap_or(directory));
            let Ok(entries) = std::fs::read_dir(outside) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let is_litter = name
                    .to_str()
                    .and_then(unpacked_as)
                    .is_some_and(|file| files.contains(&*directory.join(file)));
                if is_litter && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Installs files over whatever is there, file conflicts included, as one transaction.
    pub(super) fn force(
        &self,
        attempt: &str,
        files: &[PathBuf],
        patience: Patience,
    ) -> Result<(), ChangeError> {
        const OPTIONS: [&str; 5] = ["-U", "--oldpackage", "--nodeps", "--replacefiles", "--replacepkgs"];
        patience.run("rpm", attempt, |limit| self.program(limit).args(OPTIONS).args(files)).map(drop)
    }
}

/// The file that a name as rpm makes it up while it unpacks will be.
fn unpacked_as(name: &str) -> Option<&str> {
    let (file, number) = name.rsplit_once(';')?;
    (number.len() == 8 && number.bytes().all(|b| b.is_ascii_hexdigit())).then_some(file)
}

/// Packages of before that are still there beside a version that was not there before.
fn half_replaced(before: &[String], now: &[String]) -> Vec<String> {
    let known: BTreeSet<&String> = before.iter().collect();
    let new: Vec<&String> = now.iter().filter(|package| !known.contains(package)).collect();
    let is_replaced = |old: &&String| new.iter().any(|new| spec::is_same(spec::Notation::Rpm, old, new));
    now.iter().filter(|package| known.contains(package)).filter(is_replaced).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_replaced_packages_are_found() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let before = list("a-0:1-1.x86_64 b-0:1-1.x86_64 k-0:1-1.x86_64 k-0:2-1.x86_64");
        let now =
            list("a-0:1-1.x86_64 a-0:2-1.x86_64 b-0:2-1.x86_64 k-0:1-1.x86_64 k-0:2-1.x86_64 a-0:3-1.i686");
        assert_eq!(half_replaced(&before, &now), ["a-0:1-1.x86_64"]);
        assert_eq!(half_replaced(&before, &before), list(""));
    }

    #[test]
    fn names_that_rpm_makes_up() {
        let cases = [
            ("libc.so;6920a1bc", Some("libc.so")),
            ("a;b;00000000", Some("a;b")),
            ("a;b", None),
            ("a;6920a1bg", None),
        ];
        for (name, file) in cases {
            assert_eq!(unpacked_as(name), file);
        }
    }
}
