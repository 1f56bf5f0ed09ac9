//! Enablement of units: the links in systemd's configuration.

use super::ChangeError;
use rollout_host::durable;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories in which links enable, alias and mask units.
const DIRECTORIES: [&str; 2] = ["/etc/systemd/system", "/etc/systemd/user"];

/// Directories of a package's units.
const UNIT_DIRECTORIES: [&str; 5] = [
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/systemd/system",
    "/usr/lib/systemd/user",
    "/etc/systemd/user",
];

/// Links by path, with their targets.
pub(super) type Links = BTreeMap<PathBuf, PathBuf>;

/// Returns the names of the units among a package's files.
pub(super) fn among(files: &[PathBuf]) -> Vec<String> {
    let in_directory = |file: &&PathBuf| {
        UNIT_DIRECTORIES.iter().any(|directory| file.parent() == Some(Path::new(directory)))
    };
    let names = files.iter().filter(in_directory).filter_map(|file| file.file_name()?.to_str());
    names.filter(|name| name.contains('.')).map(str::to_owned).collect()
}

/// Returns the present links.
pub(super) fn links(root: &Path) -> Links {
    let mut links = Links::new();
    for directory in DIRECTORIES.map(Path::new) {
        collect(root, directory, &mut links, true);
    }
    links
}

fn collect(root: &Path, directory: &Path, links: &mut Links, descend: bool) {
    let on_host = root.join(directory.strip_prefix("/").unwrap_or(directory));
    for entry in fs::read_dir(on_host).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = directory.join(entry.file_name());
        if kind.is_symlink() {
            links.extend(fs::read_link(entry.path()).map(|target| (path, target)));
        } else if kind.is_dir() && descend {
            collect(root, &path, links, false);
        }
    }
}

/// Makes the links of these units those of before.
pub(super) fn restore(root: &Path, before: &Links, units: &BTreeSet<String>) -> Result<(), ChangeError> {
    let now = links(root);
    let on_host = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for (path, target) in before.iter().filter(|(path, target)| is_of(units, path, target)) {
        if now.get(path) != Some(target) {
            let path = on_host(path);
            let created = path.parent().map_or(Ok(()), fs::create_dir_all);
            created
                .and_then(|()| durable::replace_link(&path, target))
                .map_err(ChangeError::file("enabling a unit again by the link", &path))?;
        }
    }
    for path in now.iter().filter(|(path, target)| is_of(units, path, target)).map(|(path, _)| path) {
        if before.contains_key(path) {
            continue;
        }
        let path = on_host(path);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(ChangeError::file("disabling a unit again, removing", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the links of these units that differ from before.
pub(super) fn differing(root: &Path, before: &Links, units: &BTreeSet<String>) -> Vec<String> {
    let now = links(root);
    let paths: BTreeSet<&PathBuf> = before
        .iter()
        .chain(&now)
        .filter(|(path, target)| is_of(units, path, target))
        .map(|(path, _)| path)
        .collect();
    let differs = |path: &&PathBuf| before.get(*path) != now.get(*path);
    paths.into_iter().filter(differs).map(|path| path.display().to_string()).collect()
}

/// Returns whether a link is one of these units', by its own name, as an instance of a template, or by its target.
fn is_of(units: &BTreeSet<String>, path: &Path, target: &Path) -> bool {
    [path, target].into_iter().filter_map(|path| path.file_name()?.to_str()).any(|name| {
        let template = name.split_once('@').and_then(|(name, instance)| {
            instance.rsplit_once('.').map(|(_, kind)| format!("{name}@.{kind}"))
        });
        units.contains(name) || template.is_some_and(|template| units.contains(&template))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_touched_units_come_back_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let system = dir.path().join("etc/systemd/system");
        let wants = system.join("multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        let link = |name: &str| symlink("/usr/lib/systemd/system/x", wants.join(name)).unwrap();
        symlink("/usr/lib/systemd/system/ours.service", wants.join("ours.service")).unwrap();
        symlink("/dev/null", system.join("masked.service")).unwrap();
        let before = links(dir.path());
        assert_eq!(before.len(), 2);
        let units = among(&[
            "/usr/lib/systemd/system/ours.service".into(),
            "/lib/systemd/system/masked.service".into(),
            "/lib/systemd/system/many@.service".into(),
            "/usr/share/doc/x.service".into(),
        ]);
        assert_eq!(units, ["ours.service", "masked.service", "many@.service"]);
        let units = units.into_iter().collect();

        fs::remove_dir_all(&system).unwrap();
        fs::create_dir_all(&wants).unwrap();
        link("others.service");
        link("many@1.service");
        assert_eq!(differing(dir.path(), &before, &units).len(), 3);
        for _ in 0..2 {
            restore(dir.path(), &before, &units).unwrap();
        }
        assert_eq!(differing(dir.path(), &before, &units), Vec::<String>::new());
        let now = links(dir.path());
        assert!(now.keys().any(|path| path.ends_with("others.service")) && now.len() == 3, "{now:?}");
    }
}
