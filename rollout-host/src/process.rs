//! Processes of this host, as `/proc` shows them.

use std::fs;

/// Facts about a process, from its `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Name of the program, cut to 15 bytes by the kernel.
    pub name: String,
    /// Process group.
    pub group: i32,
    pub session: i32,
    /// The process has ended, though nobody has waited for it yet.
    pub has_ended: bool,
}

impl Stat {
    /// Reads the facts about a process. Returns `None` if it is gone.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// Parses `PID (NAME) STATE PARENT GROUP SESSION …`. A name may contain blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, _parent) = (fields.next()?, fields.next()?);
        let (group, session) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { name: name.to_owned(), group, session, has_ended: matches!(state, "Z" | "X") })
    }
}

/// Returns the environment with which a process was started. Empty if it is gone, or belongs to another user.
#[must_use]
pub fn environment(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    variables.map(|variable| String::from_utf8_lossy(variable).into_owned()).collect()
}

/// Returns the ids of all processes.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let stat =
            |name: &str, has_ended| Some(Stat { name: name.to_owned(), group: 70, session: 9, has_ended });
        for (text, expected) in [
            ("71 (dnf) S 1 70 9 0 -1", stat("dnf", false)),
            ("71 (a) b (c) R 1 70 9 0 -1", stat("a) b (c", false)),
            ("71 (dnf) Z 1 70 9 0 -1", stat("dnf", true)),
            ("71 (dnf) X 1 70 9 0 -1", stat("dnf", true)),
            ("71 (dnf) S 1 70", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(Stat::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(pids().any(|pid| pid == me));
        assert!(Stat::of(me).is_some_and(|stat| !stat.has_ended && !stat.name.is_empty()));
        assert_eq!(Stat::of(i32::MAX), None);
    }
}
