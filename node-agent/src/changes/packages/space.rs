//! The disk space that a change needs, compared with the space that there is. A transaction that runs out of space in
//! its middle leaves a node neither old nor new.
//!
//! A package manager tells the size of downloads and by how much the installed packages grow, but not in which file
//! systems. The growth counts for the roomiest one of those that packages are usually installed in, so that no change
//! is refused that would have succeeded.

use super::ChangeError;
use nix::sys::statvfs::statvfs;
use rollout_core::protocol::rehearsal::Disk;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories in which packages have most of their files.
const INSTALLED_IN: [&str; 3] = ["usr", "opt", ""];

/// Number of bytes that a transaction needs. Zero if the package manager does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Space {
    pub download: u64,
    /// Bytes that the installed packages take up more than before.
    pub growth: u64,
}

/// A use of disk space.
#[derive(Debug)]
pub(super) struct Demand<'a> {
    purpose: &'a str,
    bytes: u64,
    file_system: FileSystem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileSystem {
    device: u64,
    /// A directory in it, for messages.
    directory: PathBuf,
    /// Free space in bytes. `None` if the file system does not tell.
    free: Option<u64>,
}

impl FileSystem {
    /// Returns the file system of a directory, or the one that the directory would be created in.
    fn of(directory: &Path) -> Option<Self> {
        let existing = directory.ancestors().find(|directory| directory.exists())?;
        let device = fs::metadata(existing).ok()?.dev();
        let about = statvfs(existing).ok()?;
        let size = |blocks: u64| blocks.saturating_mul(about.fragment_size());
        let free = (about.blocks() > 0).then(|| size(about.blocks_available()));
        Some(Self { device, directory: directory.to_owned(), free })
    }
}

/// Refuses a transaction for which there is too little space. `old` is the size of the packages to keep for an undo.
pub(super) fn check(
    space: Space,
    old: u64,
    root: &Path,
    download_dir: &Path,
    undo_dir: &Path,
) -> Result<(), ChangeError> {
    match shortage(&demands(space, old, root, download_dir, undo_dir)) {
        Some(problem) => Err(ChangeError::state("looking for disk space", problem)),
        None => Ok(()),
    }
}

/// Returns the uses of disk space that a transaction has.
pub(super) fn demands(
    space: Space,
    old: u64,
    root: &Path,
    download_dir: &Path,
    undo_dir: &Path,
) -> Vec<Demand<'static>> {
    let candidates = INSTALLED_IN.iter().filter_map(|directory| FileSystem::of(&root.join(directory)));
    let installed = candidates.max_by_key(|file_system| file_system.free.unwrap_or(u64::MAX));
    let demands = [
        ("to install", space.growth, installed),
        ("to download", space.download, FileSystem::of(download_dir)),
        ("to keep the old packages", old, FileSystem::of(undo_dir)),
    ];
    let demands = demands.into_iter().filter_map(|(purpose, bytes, file_system)| {
        Some(Demand { purpose, bytes, file_system: file_system? })
    });
    demands.collect()
}

/// Returns the demands by file system.
fn by_file_system<'a>(demands: &'a [Demand<'a>]) -> BTreeMap<u64, Vec<&'a Demand<'a>>> {
    let mut on: BTreeMap<u64, Vec<&Demand<'_>>> = BTreeMap::new();
    for demand in demands.iter().filter(|demand| demand.bytes > 0) {
        on.entry(demand.file_system.device).or_default().push(demand);
    }
    on
}

fn needed(demands: &[&Demand<'_>]) -> u64 {
    demands.iter().fold(0_u64, |sum, demand| sum.saturating_add(demand.bytes))
}

/// Returns the space that is needed and free in each file system, for a report.
pub(super) fn disks(demands: &[Demand<'_>]) -> Vec<Disk> {
    let on = by_file_system(demands);
    let disk = |demands: &Vec<&Demand<'_>>| {
        let FileSystem { directory, free, .. } = &demands.first()?.file_system;
        Some(Disk { directory: directory.display().to_string(), needed: needed(demands), free: *free })
    };
    on.values().filter_map(disk).collect()
}

/// Returns the file system that has too little space for all demands on it, in words, if there is one.
pub(super) fn shortage(demands: &[Demand<'_>]) -> Option<String> {
    by_file_system(demands).values().find_map(|demands| {
        let file_system = &demands.first()?.file_system;
        let needed = needed(demands);
        let free = file_system.free.filter(|free| *free < needed)?;
        let parts: Vec<String> =
            demands.iter().map(|demand| format!("{} {}", human(demand.bytes), demand.purpose)).collect();
        Some(format!(
            "no package was changed, because the file system of {} has {} free and {} are needed ({})",
            file_system.directory.display(),
            human(free),
            human(needed),
            parts.join(", ")
        ))
    })
}

fn human(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

/// Returns the space that the output of dnf names: of dnf 4 (`dnf/cli/output.py`), which tells what is installed only
/// if nothing else is done, or of dnf5 (`libdnf5-cli/output/transaction_table.cpp`).
pub(super) fn in_dnf(output: &str) -> Space {
    let mut space = Space::default();
    for line in output.lines().map(str::trim) {
        if let Some(size) = line.strip_prefix("Total download size:") {
            space.download = size_of(size, 1024);
        } else if let Some((_, size)) = line.split_once("Need to download ") {
            space.download = size_of(size, 1024);
        } else if let Some(size) = line.strip_prefix("Installed size:") {
            space.growth = size_of(size, 1024);
        } else if let Some(size) = grown(line) {
            space.growth = size_of(size, 1024);
        }
    }
    space
}

/// Returns the space that the output of apt-get names (`apt-private/private-install.cc`), in units of 1000.
pub(super) fn in_apt(output: &str) -> Space {
    let mut space = Space::default();
    for line in output.lines().map(str::trim) {
        if let Some(size) = line.strip_prefix("Need to get ") {
            // Without the part that is in the cache: `1 MB/3 MB`.
            space.download = size_of(size.split('/').next().unwrap_or(size), 1000);
        } else if let Some(size) = line.strip_prefix("Download size:") {
            space.download = size_of(size.split('/').next().unwrap_or(size), 1000);
        } else if let Some(size) = line.strip_prefix("Space needed:") {
            space.growth = size_of(size, 1000);
        } else if let Some(size) = grown(line) {
            space.growth = size_of(size, 1000);
        }
    }
    space
}

/// Returns the size in the sentence of dnf5 or apt-get by how much the packages grow.
fn grown(line: &str) -> Option<&str> {
    let size = line.strip_prefix("After this operation, ")?;
    (!size.contains("freed")).then_some(size)
}

/// Returns the sizes in lines `'URI' FILE SIZE HASH` of `apt-get --print-uris`.
pub(super) fn of_uris(output: &str) -> u64 {
    let sizes = output.lines().filter(|line| line.starts_with('\''));
    sizes.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// Returns the number of bytes in `1.5 M`, `12.1 KiB` or `20.5 MB`. Zero for other texts.
fn size_of(text: &str, base: u64) -> u64 {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','))).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let Some(power) = "BKMGT".find(unit.trim_start().chars().next().unwrap_or('B').to_ascii_uppercase())
    else {
        return 0;
    };
    let number = number.replace(',', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let unit = base.saturating_pow(u32::try_from(power).unwrap_or(0));
    let tenths = fraction.chars().next().and_then(|digit| digit.to_digit(10)).unwrap_or(0);
    let whole = whole.parse::<u64>().unwrap_or(0).saturating_mul(unit);
    whole.saturating_add(unit.saturating_mul(u64::from(tenths)) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("6.5 k", 1024, 6656),
            (" 12.1 KiB.", 1024, 12 * 1024 + 102),
            ("8.0   B", 1024, 8),
            ("20.5 MB of", 1000, 20_500_000),
            ("1,024 kB", 1000, 1_024_000),
            ("1.0 G", 1024, 1 << 30),
            ("0 B", 1000, 0),
            ("", 1024, 0),
            ("nothing", 1024, 0),
        ];
        for (text, base, expected) in cases {
            assert_eq!(size_of(text, base), expected, "{text}");
        }
    }

    #[test]
    fn dry_runs_name_the_space() {
        let space = |download, growth| Space { download, growth };
        let dnf4 =
            "Install  2 Packages\n\nTotal download size: 12 k\nInstalled size: 1.0 M\nOperation aborted.\n";
        assert_eq!(in_dnf(dnf4), space(12 << 10, 1 << 20));
        let dnf5 = "Total size of inbound packages is 13 KiB. Need to download 12 KiB.\n\
                    After this operation, 8 B extra will be used (install 16 B, remove 8 B).\n";
        assert_eq!(in_dnf(dnf5), space(12 << 10, 8));
        assert_eq!(
            in_dnf("After this operation, 1 MiB will be freed (install 0 B, remove 1 MiB).\n"),
            space(0, 0)
        );
        let apt = "Need to get 2 MB/13 MB of archives.\nAfter this operation, 1 kB of additional disk space will be used.\n";
        assert_eq!(in_apt(apt), space(2_000_000, 1000));
        let apt3 = "Summary:\n  Upgrading: 1\n  Download size: 13 kB / 20 kB\n  Space needed: 3 kB / 5 GB available\n";
        assert_eq!(in_apt(apt3), space(13_000, 3000));
        assert_eq!(in_apt("After this operation, 4 kB disk space will be freed.\n"), space(0, 0));
        let uris =
            "Reading package lists...\n'http://m/a_1.deb' a_1.deb 1200 SHA256:0\n'file:/b.deb' b.deb 34 \n";
        assert_eq!(of_uris(uris), 1234);
    }

    #[test]
    fn demands_on_the_same_file_system_add_up() {
        let file_system = |device, free| FileSystem { device, directory: "/var".into(), free };
        let demand = |purpose, bytes, file_system| Demand { purpose, bytes, file_system };
        let enough = [
            demand("to install", 60 << 20, file_system(1, Some(100 << 20))),
            demand("to download", 40 << 20, file_system(1, Some(100 << 20))),
            demand("to keep", 50 << 20, file_system(2, Some(50 << 20))),
        ];
        assert_eq!(shortage(&enough), None);
        let disk = |needed: u64, free: u64| Disk {
            directory: "/var".to_owned(),
            needed: needed << 20,
            free: Some(free << 20),
        };
        assert_eq!(disks(&enough), [disk(100, 100), disk(50, 50)]);
        let one = demand("to keep", 1, file_system(1, Some(100 << 20)));
        let problem = shortage(&enough.into_iter().chain([one]).collect::<Vec<_>>()).unwrap();
        let expected = "the file system of /var has 100 MiB free and 101 MiB are needed \
                        (60 MiB to install, 40 MiB to download, 1 KiB to keep)";
        assert!(problem.ends_with(expected), "{problem}");
        assert_eq!(shortage(&[demand("to install", u64::MAX, file_system(1, None))]), None);
        assert_eq!(shortage(&[demand("to install", 0, file_system(1, Some(0)))]), None);
    }

    #[test]
    fn a_change_that_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run = |space, old| check(space, old, dir.path(), &dir.path().join("cache/x"), dir.path());
        run(Space { download: 1, growth: 1 }, 1).unwrap();
        for (download, growth, old) in [(1 << 60, 0, 0), (0, 1 << 60, 0), (0, 0, 1 << 60)] {
            let error = run(Space { download, growth }, old).unwrap_err().to_string();
            assert!(error.contains("no package was changed") && error.contains("needed"), "{error}");
        }
    }
}
