//! A package with some of its files replaced, and everything else as it was built: scripts, dependencies, version.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::packages::format::Format;
use crate::packages::package::{Workshop, write};
use crate::processes::run::Command;

/// rpm's database of what it has unpacked.
const DATABASE: &str = "/rpm-database";

/// The package file; gone when dropped.
#[derive(Debug)]
pub struct Repacked {
    /// Named as the original.
    pub file: PathBuf,
    _workshop: Workshop,
}

impl Repacked {
    /// Replaces files of a package. Each is a path in the package, its content and its mode.
    pub fn build(format: Format, package: &Path, files: &[(&str, &str, u32)]) -> Result<Repacked> {
        let workshop = Workshop::new()?;
        let root = workshop.0.join("root");
        let file = workshop.0.join(package.file_name().unwrap_or_default());
        let replace = || {
            files.iter().try_for_each(|(path, content, mode)| {
                write(&root.join(path.trim_start_matches('/')), content, *mode)
            })
        };
        let (old, new, tree) =
            (package.display().to_string(), file.display().to_string(), root.display().to_string());
        match format {
            Format::Deb => {
                Command::new(&["dpkg-deb", "--raw-extract", &old, &tree]).run()?;
                replace()?;
                Command::new(&["dpkg-deb", "--root-owner-group", "--build", &tree, &new]).run()?;
            }
            Format::Rpm => {
                let unpack = [
                    "rpm",
                    "--install",
                    "--nodeps",
                    "--noscripts",
                    "--root",
                    &tree,
                    "--dbpath",
                    DATABASE,
                    &old,
                ];
                Command::new(&unpack).run()?;
                replace()?;
                let spec = workshop.0.join("repacked.spec");
                write(&spec, &spec_of(&old, &tree)?, 0o644)?;
                let spec = spec.display().to_string();
                let top = format!("_topdir {}", workshop.0.join("top").display());
                Command::new(&["rpmbuild", "--quiet", "-bb", "--define", &top, &spec]).run()?;
                let move_here = "mv \"$1\"/top/RPMS/*/*.rpm \"$2\"";
                let workshop = workshop.0.display().to_string();
                Command::new(&["sh", "-ec", move_here, "sh", &workshop, &new]).run()?;
            }
        }
        Ok(Repacked { file, _workshop: workshop })
    }
}

/// A spec that makes the same package out of the files in `tree`.
fn spec_of(package: &str, tree: &str) -> Result<String> {
    let query = |format: &str| Command::new(&["rpm", "-qp", "--qf", format, package]).run();
    let mut spec = query(
        "Name: %{NAME}\nVersion: %{VERSION}\nRelease: %{RELEASE}\nSummary: %{SUMMARY}\nLicense: %{LICENSE}\n",
    )?;
    spec.push_str("AutoReqProv: no\n%define debug_package %{nil}\n%define __os_install_post %{nil}\n");
    spec.push_str("%define _build_id_links none\n");
    // Dependencies that rpm adds itself or derives from the files.
    let own = |line: &&str| !line.starts_with("rpmlib(") && !line.starts_with("config(");
    for what in query("[%{REQUIRENEVRS}\n]")?.lines().filter(own) {
        spec.push_str(&format!("Requires: {what}\n"));
    }
    let mut scripts = String::new();
    for (section, tag) in [
        ("%pre", "PREIN"),
        ("%post", "POSTIN"),
        ("%preun", "PREUN"),
        ("%postun", "POSTUN"),
        ("%posttrans", "POSTTRANS"),
    ] {
        let script = query(&format!("%|{tag}?{{%{{{tag}}}}}|"))?;
        if !script.is_empty() {
            scripts.push_str(&format!("{section}\n{}\n", script.replace('%', "%%")));
        }
    }
    let mut install = format!("cp -a {tree}/. %{{buildroot}}\nrm -rf %{{buildroot}}{DATABASE}\n");
    let mut files = String::new();
    let columns =
        "[%{FILEFLAGS:fflags}\t%{FILEMODES:octal}\t%{FILEUSERNAME}\t%{FILEGROUPNAME}\t%{FILENAMES}\n]";
    for line in query(columns)?.lines() {
        let [flags, mode, user, group, path] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        let (kind, mode) = mode.split_at(mode.len().saturating_sub(4));
        let mut words = vec![format!("%attr({mode},{user},{group})")];
        if kind.ends_with('4') {
            words.push("%dir".into());
        }
        for (flag, word) in [('c', "%config(noreplace)"), ('d', "%doc"), ('g', "%ghost")] {
            if flags.contains(flag) {
                words.push(word.into());
            }
        }
        if flags.contains('g') {
            install.push_str(&format!("touch '%{{buildroot}}{path}'\n"));
        }
        files.push_str(&format!("{} \"{path}\"\n", words.join(" ")));
    }
    spec.push_str(&format!("%description\n%install\n{install}{scripts}%files\n{files}"));
    Ok(spec)
}
