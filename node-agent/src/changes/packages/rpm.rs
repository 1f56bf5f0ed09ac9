//! The RPM database of a node: queries, the few repairs that dnf cannot make, and the way back of zypper.

use super::run_manager::TimeBudget;
use super::undo_cache::UndoCache;
use super::{list, scriptlets, spec};
use crate::changes::ChangeError;
use nix::fcntl::{FcntlArg, fcntl};
use rollout_host::run::{Output, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Query format of a package in our notation.
const NEVRA: &str = "%{NAME}-%{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}";

/// Time limit for reading the database. It takes a second or two, and waits while a transaction holds the lock.
const QUERY: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(super) struct Rpm {
    program: PathBuf,
    /// Options if the system is not the running one.
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
        let budget = TimeBudget::new(QUERY);
        Ok(budget.run("rpm", attempt, |limit| self.program(limit).args(arguments))?.stdout)
    }

    pub(super) fn installed(&self) -> Result<Vec<String>, ChangeError> {
        let format = format!("{NEVRA}\n");
        Ok(list::from_rpm(&self.query("listing the installed packages", &["-qa", "--qf", &format])?))
    }

    /// Returns whether an installed package provides this name.
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

    /// Returns the hash of each installed package's header. The header holds the hashes of the package's files.
    fn header_hashes(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        let format = format!("{NEVRA}\t%{{SHA256HEADER}}\n");
        let output = self.query("listing the installed packages", &["-qa", "--qf", &format])?;
        let pairs = output.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs.map(|(package, hash)| (package.to_owned(), hash.to_owned())).collect())
    }

    /// Returns the package that a file holds and its header's hash, or `None` if the file is not a package.
    fn package_in(&self, path: &Path) -> Option<(String, String)> {
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

    /// Returns the cached files by package, each with its header's hash.
    pub(super) fn cached_files(
        &self,
        cache: &UndoCache,
    ) -> Result<BTreeMap<String, (PathBuf, String)>, ChangeError> {
        let files = files_below(cache.files_dir()?)?;
        let rpms =
            files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rpm"));
        Ok(rpms
            .filter_map(|path| self.package_in(&path).map(|(package, hash)| (package, (path, hash))))
            .collect())
    }

    /// Removes cached files that differ from the installed packages: dnf5 checks no signature when it downloads, and an
    /// undo installs the files without a check.
    pub(super) fn drop_unverified(&self, cache: &UndoCache, packages: &[String]) -> Result<(), ChangeError> {
        let installed = self.header_hashes()?;
        for (package, (path, hash)) in self.cached_files(cache)? {
            let is_genuine = installed.get(&package) == Some(&hash) && hash.len() == 64;
            if packages.contains(&package) && !is_genuine {
                std::fs::remove_file(&path).map_err(ChangeError::file("removing", &path))?;
            } else {
                // The undo that needs the file may come after a power cut.
                File::open(&path)
                    .and_then(|file| file.sync_all())
                    .map_err(ChangeError::file("writing", &path))?;
            }
        }
        Ok(())
    }

    /// Returns the paths that a query lists for installed packages. rpm prints a remark for a package without any.
    pub(super) fn paths(&self, query: &str, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        let arguments: Vec<&str> =
            ["-q", query].into_iter().chain(packages.iter().map(String::as_str)).collect();
        let output = self.query("listing the files of packages", &arguments)?;
        Ok(output.lines().filter(|line| line.starts_with('/')).map(PathBuf::from).collect())
    }

    pub(super) fn root_directory(&self) -> &Path {
        &self.prefix
    }

    /// Returns the packages with a file that is missing or differs from the installed version. Configuration files
    /// belong to the admin and are not compared.
    pub(super) fn damaged(&self, packages: &[String], budget: TimeBudget) -> Vec<String> {
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
            let program = self.program(budget.for_program()).args(OPTIONS).arg(package);
            program.output().is_ok_and(|output| output.status.success())
        };
        packages.iter().filter(|package| !is_whole(package)).cloned().collect()
    }

    /// Completes an upgrade that was interrupted between the new version's installation and the old one's removal: both
    /// are in the database then, and dnf5 refuses to change either. rpm itself removes the old one, as it would have;
    /// files of both stay.
    pub(super) fn remove_replaced(&self, before: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        for package in half_replaced(before, &self.installed()?) {
            if self.is_installonly(&package)? {
                continue;
            }
            let attempt = format!("removing {package}, whose upgrade was interrupted,");
            let erase = |more: &'static [&'static str]| {
                let run = |limit| self.program(limit).args(["-e", "--nodeps"]).args(more).arg(&package);
                budget.run("rpm", &attempt, run)
            };
            // Scripts may fail just because of the interruption.
            if erase(&[]).is_err() && self.installed()?.contains(&package) {
                erase(&["--noscripts"])?;
            }
        }
        Ok(())
    }

    /// Returns whether several versions of the package may be installed at once, by dnf's default `installonlypkgs`.
    fn is_installonly(&self, package: &str) -> Result<bool, ChangeError> {
        self.provides_version_beside(&[OsStr::new("-q"), OsStr::new("--provides"), OsStr::new(package)])
    }

    fn provides_version_beside(&self, query: &[&OsStr]) -> Result<bool, ChangeError> {
        let provides = self.query("asking what a package provides", query)?;
        Ok(provides.lines().any(|line| {
            let name = line.split_whitespace().next().unwrap_or("");
            name.starts_with("installonlypkg(")
                || matches!(name, "multiversion(kernel)" | "kernel" | "kernel-PAE")
        }))
    }

    /// Removes files that an interrupted transaction was unpacking: rpm unpacks `file` as `file;5f3a21bc` and ignores
    /// it after a crash. These files may be as large as the packages.
    pub(super) fn remove_leftovers(&self, packages: &[String], budget: TimeBudget) {
        if packages.is_empty() {
            return;
        }
        // rpm complains about packages that are not installed, and lists the others.
        let Ok(output) = self.program(budget.for_program()).arg("-ql").args(packages).output() else {
            return;
        };
        let files: BTreeSet<&Path> =
            output.stdout.lines().filter(|l| l.starts_with('/')).map(Path::new).collect();
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for directory in directories {
            let host_path = self.prefix.join(directory.strip_prefix("/").unwrap_or(directory));
            let Ok(entries) = std::fs::read_dir(host_path) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let is_leftover = name
                    .to_str()
                    .and_then(unpacked_as)
                    .is_some_and(|file| files.contains(&*directory.join(file)));
                if is_leftover && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Returns the size of the files that installed packages came in, without the lead.
    pub(super) fn size_of_files(&self, packages: &[String]) -> u64 {
        if packages.is_empty() {
            return 0;
        }
        let arguments =
            ["-q", "--qf", "%{LONGSIGSIZE}\n"].into_iter().chain(packages.iter().map(String::as_str));
        let output = self.query("asking for the size of packages", &arguments.collect::<Vec<_>>());
        output.map_or(0, |output| output.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum())
    }

    /// Installs proven files, over existing files and file conflicts. Other versions of the packages go, except of
    /// kernels. Returns the scriptlets that failed.
    pub(super) fn force(
        &self,
        attempt: &str,
        files: &[PathBuf],
        budget: TimeBudget,
    ) -> Result<Vec<String>, ChangeError> {
        const OPTIONS: [&str; 5] =
            ["--oldpackage", "--nodeps", "--nosignature", "--replacefiles", "--replacepkgs"];
        let (mut replacing, mut beside) = (Vec::new(), Vec::new());
        for file in files {
            let query = [OsStr::new("-qp"), OsStr::new("--provides"), file.as_os_str()];
            if self.provides_version_beside(&query)? { beside.push(file) } else { replacing.push(file) }
        }
        let mut failed = Vec::new();
        for (mode, files) in [("-U", replacing), ("-i", beside)] {
            if !files.is_empty() {
                let program = |limit| self.program(limit).arg(mode).args(OPTIONS).args(&files);
                failed.extend(failed_in(&budget.run("rpm", attempt, program)?));
            }
        }
        Ok(failed)
    }

    /// Removes packages whatever needs them. Returns the scriptlets that failed.
    pub(super) fn erase(
        &self,
        attempt: &str,
        packages: &[String],
        budget: TimeBudget,
    ) -> Result<Vec<String>, ChangeError> {
        let program = |limit| self.program(limit).args(["-e", "--nodeps"]).args(packages);
        Ok(failed_in(&budget.run("rpm", attempt, program)?))
    }

    /// Waits while another process holds the transaction lock.
    pub(super) fn wait_for_lock(&self, budget: TimeBudget) -> Result<(), ChangeError> {
        let path = self.query("asking for the transaction lock", &["--eval", "%{?_rpmlock_path}"])?;
        let path = self.prefix.join(path.trim().trim_start_matches('/'));
        budget.wait_until("waiting for the transaction lock of rpm", || !is_locked(&path))
    }
}

fn failed_in(output: &Output) -> Vec<String> {
    scriptlets::failed(&format!("{}\n{}", output.stdout, output.stderr))
}

/// Returns whether another process holds a lock of a file. A file that cannot be opened is not locked.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type != nix::libc::F_UNLCK as i16
}

/// Returns all files below a directory: zypper keeps packages in directories of repositories.
fn files_below(directory: PathBuf) -> Result<Vec<PathBuf>, ChangeError> {
    let (mut files, mut directories) = (Vec::new(), vec![directory]);
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(&directory).map_err(ChangeError::file("reading", &directory))?;
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory { directories.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    Ok(files)
}

/// Returns the final name of a file that rpm unpacks under a temporary name.
fn unpacked_as(name: &str) -> Option<&str> {
    let (file, number) = name.rsplit_once(';')?;
    (number.len() == 8 && number.bytes().all(|b| b.is_ascii_hexdigit())).then_some(file)
}

/// Returns the old packages that are still installed beside a version that was not there before.
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
