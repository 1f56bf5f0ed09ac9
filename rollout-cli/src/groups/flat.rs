//! Groups in a file of lines `GROUP: NODES`, and the commands of ClusterShell's own groups.conf that read one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Commands that print the nodes of a group from a file, with their beginning and the text before the file: those that
/// ClusterShell 1.6 to 1.9 ship for the source `local`. They need a shell, so the files are read instead.
const READS_FILE: [&str; 2] = ["sed -n 's/^$GROUP:\\(.*\\)/\\1/p' ", "awk -F: '/^$GROUP:/ {print $2}' "];

/// Returns the nodes of each group. A group with several lines has the nodes of all of them. Lines without a colon and
/// comments mean nothing.
#[must_use]
pub fn parse_flat(text: &str) -> BTreeMap<String, String> {
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, nodes)) = line.split_once(':') {
            let all = groups.entry(name.to_owned()).or_default();
            all.push(' ');
            all.push_str(nodes);
        }
    }
    groups.into_iter().map(|(name, nodes)| (name, nodes.trim().to_owned())).collect()
}

/// Returns the files, of which the first one that exists counts, if `map` is one of ClusterShell's own commands. `dir`
/// stands for `$CFGDIR`.
#[must_use]
pub fn flat_files(map: &str, dir: &Path) -> Option<Vec<PathBuf>> {
    let (choice, command) = match map.split_once("; ") {
        Some((choice, command)) => (Some(choice), command),
        None => (None, map),
    };
    let file = READS_FILE.iter().find_map(|beginning| command.strip_prefix(beginning))?;
    let path = |file: &str| PathBuf::from(file.replace("$CFGDIR", &dir.to_string_lossy()));
    let is_file = |file: &str| {
        !file.is_empty() && file.chars().all(|c| c.is_ascii_alphanumeric() || "/._-$".contains(c))
    };
    match choice {
        None if is_file(file) && file != "$f" => Some(vec![path(file)]),
        Some(choice) if file == "$f" => {
            let (first, rest) = choice.strip_prefix("[ -f ")?.split_once(" ] && f=")?;
            let (again, second) = rest.split_once(" || f=")?;
            (first == again && is_file(first) && is_file(second)).then(|| vec![path(first), path(second)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_groups() {
        let groups =
            parse_flat("# adm: x\nadm: example0\nio: example[4-6]\nio:example9\nsrc: @racks:r1\nx\n");
        let expected = [("adm", "example0"), ("io", "example[4-6] example9"), ("src", "@racks:r1")];
        assert_eq!(groups, expected.map(|(name, nodes)| (name.to_owned(), nodes.to_owned())).into());
    }

    #[test]
    fn only_clustershells_own_commands_are_replaced() {
        for (map, files) in [
            (
                r"[ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^$GROUP:\(.*\)/\1/p' $f",
                &["/c/groups", "/c/groups.d/local.cfg"][..],
            ),
            (
                r"[ -f /etc/clustershell/groups ] && f=/etc/clustershell/groups || f=/etc/clustershell/groups.d/local.cfg; sed -n 's/^$GROUP:\(.*\)/\1/p' $f",
                &["/etc/clustershell/groups", "/etc/clustershell/groups.d/local.cfg"],
            ),
            ("awk -F: '/^$GROUP:/ {print $2}' /etc/clustershell/groups", &["/etc/clustershell/groups"]),
            (r"sed -n 's/^$GROUP:\(.*\)/\1/p' /etc/clustershell/groups", &["/etc/clustershell/groups"]),
        ] {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            assert_eq!(flat_files(map, Path::new("/c")), Some(files), "{map}");
        }
        for map in [
            "nodeattr -n $GROUP",
            r"sed -n 's/^$GROUP:\(.*\)/\1/p' /a | sort",
            r"sed -n 's/^$GROUP:\(.*\)/\1/p' $f",
            r"[ -f /a ] && f=/b || f=/c; sed -n 's/^$GROUP:\(.*\)/\1/p' $f",
            r"rm /x; sed -n 's/^$GROUP:\(.*\)/\1/p' $f",
        ] {
            assert_eq!(flat_files(map, Path::new("/c")), None, "{map}");
        }
    }
}
