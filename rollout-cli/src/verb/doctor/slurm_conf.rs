//! The text of slurm.conf, with its Include files in their places (`_parse_include_directive` in
//! `src/common/parse_config.c`, 22.05 to 26.05).

use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use std::path::{Path, PathBuf};

/// Depth of Include files in Include files.
const MAX_DEPTH: usize = 8;

/// slurm.conf, as far as it can be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SlurmConf {
    pub(super) text: String,
    /// Include files that cannot be read here, with the reason.
    pub(super) unread: Vec<String>,
}

/// Reads slurm.conf. `cluster` is ClusterName, for `%c` in the name of an Include file.
pub(super) fn read(path: &Path, cluster: &str) -> Option<SlurmConf> {
    let read = |path: &Path| {
        regular_file::read_text(path, MAX_WRITTEN_BY_HAND)
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let text = read(path).ok()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut conf = SlurmConf::default();
    conf.add(&text, MAX_DEPTH, &|name| {
        // A relative name counts from the directory of slurm.conf (`get_extra_conf_path`).
        let included: PathBuf = directory.join(name.replace("%c", &cluster.to_lowercase()));
        read(&included)
    });
    Some(conf)
}

impl SlurmConf {
    fn add(&mut self, text: &str, depth: usize, read: &impl Fn(&str) -> Result<String, String>) {
        for line in text.lines() {
            match included(line) {
                None => {
                    self.text.push_str(line);
                    self.text.push('\n');
                }
                Some(name) if depth == 0 => {
                    self.unread.push(format!("{name}: too many Includes in Includes"))
                }
                Some(name) => match read(name) {
                    Ok(text) => self.add(&text, depth - 1, read),
                    Err(why) => self.unread.push(why),
                },
            }
        }
    }
}

/// Returns the file that this line includes.
fn included(line: &str) -> Option<&str> {
    let mut words = line.split('#').next()?.split_whitespace();
    words.next().filter(|word| word.eq_ignore_ascii_case("include")).and_then(|_| words.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "files of Slurm")]
    fn included_files_are_read_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let path = dir.path().join("slurm.conf");
        write(
            "slurm.conf",
            "A=1\n include  nodes-%c.conf # nodes\n#Include old.conf\nInclude gone.conf\nIncludeX=2\nB=2\n",
        );
        write("nodes-site.conf", "N=1\nINCLUDE params.conf\nN=2");
        write("params.conf", "SlurmctldParameters=enable_configless\n");
        let conf = read(&path, "Site").unwrap();
        let expected =
            "A=1\nN=1\nSlurmctldParameters=enable_configless\nN=2\n#Include old.conf\nIncludeX=2\nB=2\n";
        assert_eq!(conf.text, expected);
        assert!(conf.unread.len() == 1 && conf.unread[0].contains("gone.conf: "), "{:?}", conf.unread);
        assert_eq!(read(&dir.path().join("none"), "site"), None);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a file of Slurm")]
    fn a_file_that_includes_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slurm.conf");
        std::fs::write(&path, "A=1\nInclude slurm.conf\n").unwrap();
        let conf = read(&path, "").unwrap();
        assert_eq!(conf.text.lines().count(), MAX_DEPTH + 1);
        assert_eq!(conf.unread.len(), 1);
    }
}
