//! A change that programs of the site make: a version of firmware, a setting of the BIOS, the state of a device.
//!
//! The agent knows such a change by its version alone, which `probe` prints.

use super::{ManifestError, check_command, value};
use crate::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Time limit of one run of `probe`.
pub const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// Environment variable of all programs of the change: its [`CommandChange::name`].
pub const NAME: &str = "SLURM_ROLLOUT_NAME";

/// Environment variable of `apply` and `undo`: the version that they must bring.
pub const VERSION: &str = "SLURM_ROLLOUT_VERSION";

/// Length limit of a name, in characters.
const MAX_NAME: usize = 64;

/// Length limit of a version, in characters.
const MAX_VERSION: usize = 128;

/// The largest number of boots in one visit.
const MAX_BOOTS: u32 = 4;

/// A change that programs of the site make. They run as root, without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandChange {
    /// The thing that changes, such as `bios`.
    pub name: String,
    /// The version that it must have, as `probe` prints it.
    pub version: String,
    /// Prints the present version, changes nothing, and takes [`PROBE_LIMIT`] at most.
    pub probe: Vec<String>,
    /// Brings [`Self::version`], or prepares that for the next boot. Runs again after an interruption.
    pub apply: Vec<String>,
    /// Brings the version from before. Empty if that is impossible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
    /// Time limit of one run of `apply` or `undo`.
    #[serde(default = "default_timeout")]
    pub timeout: TimeLimit,
    /// The largest number of boots after which the version must be there. `apply` runs before each of them.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub boots: u32,
}

fn default_timeout() -> TimeLimit {
    TimeLimit::from_secs(20 * 60)
}

fn one() -> u32 {
    1
}

fn is_one(boots: &u32) -> bool {
    *boots == one()
}

impl CommandChange {
    /// Checks its values. `key` is its place in the manifest.
    pub(super) fn check(&self, key: &str) -> Result<(), ManifestError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let Self { name, version, probe, apply, undo, boots, .. } = self;
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            let rule = format!("1 to {MAX_NAME} letters, digits, '.', '_' or '-'");
            return Err(value(format!("{key}.name"), format!("{name:?}: {rule}")));
        }
        if Self::read_version(version) != Ok(version) {
            let rule = format!(
                "one line of 1 to {MAX_VERSION} characters, without blanks around it, as probe prints it"
            );
            return Err(value(format!("{key}.version"), format!("{version:?}: {rule}")));
        }
        check_command(&format!("{key}.probe"), probe)?;
        check_command(&format!("{key}.apply"), apply)?;
        if !undo.is_empty() {
            check_command(&format!("{key}.undo"), undo)?;
        }
        if !(1..=MAX_BOOTS).contains(boots) {
            return Err(value(format!("{key}.boots"), format!("{boots}: 1 to {MAX_BOOTS}")));
        }
        Ok(())
    }

    /// Returns the version in the output of `probe`.
    ///
    /// # Errors
    /// Returns the reason if it is not one line of text.
    pub fn read_version(output: &str) -> Result<&str, String> {
        let version = output.trim();
        let shown = || version.chars().take(MAX_VERSION).collect::<String>();
        match version {
            "" => Err("it printed nothing, not a version".to_owned()),
            _ if version.contains(['\n', '\r']) => {
                Err(format!("it printed more than one line: {:?}", shown()))
            }
            _ if version.chars().count() > MAX_VERSION => {
                Err(format!("it printed more than {MAX_VERSION} characters: {:?}", shown()))
            }
            _ if version.contains(char::is_control) => {
                Err(format!("it printed a control character: {:?}", shown()))
            }
            _ => Ok(version),
        }
    }

    /// Returns the change that takes it back to a version from before.
    ///
    /// # Errors
    /// Returns the reason if it has no `undo`.
    pub fn back(&self, before: &str) -> Result<Self, String> {
        let Self { name, version, .. } = self;
        if self.undo.is_empty() {
            return Err(format!(
                "{name} cannot be taken back from {version} to {before}: the rollout has no `undo` for it; stage a \
                 command that brings {before}"
            ));
        }
        let (apply, undo) = (self.undo.clone(), self.apply.clone());
        Ok(Self { version: before.to_owned(), apply, undo, ..self.clone() })
    }

    /// Returns the longest time for all runs of `apply` before one boot and for the proof after it.
    pub(super) fn longest(&self, proof: Duration) -> Duration {
        self.timeout.get() + proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::manifest::{Change, DesiredState, Manifest};

    const BIOS: &str = "[[change]]\nkind='command'\nname='bios'\nversion='2.1'\nprobe=['/usr/sbin/fw', 'show']\n\
                        apply=['/usr/sbin/fw', 'flash']\n";
    const LINK: &str = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";

    fn parse(changes: &[&str]) -> Result<DesiredState, String> {
        let manifest = Manifest::parse(&format!("name='r'\nnodes='n1'\n{}", changes.concat()));
        manifest.map(|manifest| manifest.desired).map_err(|error| error.to_string())
    }

    fn bios(keys: &str) -> Result<CommandChange, String> {
        let mut desired = parse(&[BIOS, keys])?;
        let Some(Change::Command(command)) = desired.changes.pop() else { panic!("{desired:?}") };
        Ok(command)
    }

    #[test]
    fn what_is_left_out_has_its_default_and_stays_out_of_an_order() {
        let change = bios("").unwrap();
        assert_eq!((change.timeout.to_string().as_str(), change.boots, change.undo.len()), ("20m", 1, 0));
        let order = serde_json::to_value(Change::Command(change)).unwrap();
        assert_eq!(order["kind"], "command");
        assert!(order.get("boots").is_none() && order.get("undo").is_none(), "{order}");
        let manifest = format!("name='r'\nnodes='n1'\n{BIOS}undo=['/usr/sbin/fw', 'flash']\nboots=3\n");
        let manifest = Manifest::parse(&manifest).unwrap();
        assert_eq!(Manifest::parse(&manifest.to_toml().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn refuses_with_the_key() {
        let long = "v".repeat(MAX_VERSION + 1);
        for (from, to, key) in [
            ("name='bios'", "name='the bios'", "change[1].name"),
            ("name='bios'", "name=''", "change[1].name"),
            ("version='2.1'", "version=''", "change[1].version"),
            ("version='2.1'", "version=' 2.1'", "change[1].version"),
            ("version='2.1'", "version=\"2\\n1\"", "change[1].version"),
            ("'2.1'", &format!("'{long}'"), "change[1].version"),
            ("'/usr/sbin/fw', 'show'", "'fw', 'show'", "change[1].probe"),
            ("'/usr/sbin/fw', 'show'", "", "change[1].probe"),
            ("'/usr/sbin/fw', 'flash'", "'sh', '-c'", "change[1].apply"),
            ("version='2.1'", "version='2.1'\nundo=['fw']", "change[1].undo"),
            ("version='2.1'", "version='2.1'\nboots=0", "change[1].boots"),
            ("version='2.1'", "version='2.1'\nboots=5", "change[1].boots"),
            ("version='2.1'", "version='2.1'\nshell=true", "shell"),
            ("version='2.1'\n", "", "version"),
        ] {
            let text = BIOS.replacen(from, to, 1);
            assert_ne!(text, BIOS, "{from}");
            let error = parse(&[&text]).expect_err(to);
            assert!(error.contains(key), "{to}: {error}");
        }
    }

    #[test]
    fn commands_come_last_each_thing_once_and_several_boots_without_a_boot_to_try() {
        let nic = BIOS.replace("'bios'", "'nic'");
        let boots = format!("{BIOS}boots=2\n");
        let image = "[[change]]\nkind='image'\nvia='bos'\nimage='i'\n";
        let args = "[[change]]\nkind='kernel-args'\nadd=['a']\n";
        for changes in [&[LINK, BIOS, &nic][..], &[image, BIOS], &[args, BIOS], &[LINK, &boots]] {
            parse(changes).unwrap();
        }
        for (changes, key, word) in [
            (&[BIOS, LINK][..], "change[2]", "commands last"),
            (&[BIOS, image], "change[2]", "commands last"),
            (&[BIOS, BIOS], "change[2].name", "twice"),
            (&[image, &boots], "change[2].boots", "first boot"),
            (&[args, &boots], "change[2].boots", "first boot"),
        ] {
            let error = parse(changes).unwrap_err();
            assert!(error.starts_with(key) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_version_is_one_line() {
        for (output, version) in [("2.1\n", "2.1"), ("  F.40 Rev 2 \r\n", "F.40 Rev 2"), ("ü", "ü")] {
            assert_eq!(CommandChange::read_version(output), Ok(version));
        }
        let long = "v".repeat(1000);
        for (output, word) in [
            ("", "nothing"),
            (" \n\n", "nothing"),
            ("1\n2\n", "one line"),
            ("a\u{1b}[1m", "control"),
            (&long, "128"),
        ] {
            let why = CommandChange::read_version(output).unwrap_err();
            assert!(why.contains(word) && why.len() < 250, "{why}");
        }
    }

    #[test]
    fn the_way_back_swaps_the_commands() {
        let there = bios("undo=['/usr/sbin/fw', 'restore']\nboots=2\n").unwrap();
        let back = there.back("1.9").unwrap();
        assert_eq!((back.version.as_str(), &back.apply, &back.undo), ("1.9", &there.undo, &there.apply));
        assert_eq!((back.boots, back.back("2.1").unwrap()), (2, there));
        let why = bios("").unwrap().back("1.9").unwrap_err();
        assert!(why.contains("bios") && why.contains("no `undo`"), "{why}");
    }

    #[test]
    fn every_boot_counts_for_the_longest_time() {
        let limits =
            "timeout='10m'\n[reboot]\ntimeout='3m'\n[verify]\ntimeout='2m'\nregistration_timeout='1m'\n";
        let longest = |boots: u32| {
            let changes = format!("{BIOS}boots={boots}\n{limits}");
            parse(&[&changes]).unwrap().longest().as_secs() / 60
        };
        // Each way: the command, its proof, the reboot, and the checks.
        assert_eq!(longest(1), 2 * (10 + 2 + 3 + 2) + 1);
        assert_eq!(longest(3), longest(1) + 2 * (10 + 2 + 3));
    }
}
