//! Arguments of the kernel: the change of a command line, word by word. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Time limit of a program that writes the boot loader's configuration.
pub const CONFIGURE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Maximum number of arguments in each list.
const MAX_ARGUMENTS: usize = 64;

/// Length limit of an argument. The whole command line has 2048 bytes on x86 and arm64 (COMMAND_LINE_SIZE).
const MAX_ARGUMENT: usize = 256;

/// Arguments that a boot loader sets itself.
const OF_THE_LOADER: [&str; 2] = ["BOOT_IMAGE", "initrd"];

/// The word after which the kernel passes everything to init.
const END: &str = "--";

/// A change of the kernel's command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelArgs {
    /// Words that the command line must contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Words that it must not contain, unless `add` has them. A name alone stands for all of its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl KernelArgs {
    /// Checks all arguments.
    ///
    /// # Errors
    /// The key of the first argument that is refused, and the reason.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.add.is_empty() && self.remove.is_empty() {
            return Err(("add".to_owned(), "no arguments to add, and none to remove".to_owned()));
        }
        for (key, list) in [("add", &self.add), ("remove", &self.remove)] {
            if list.len() > MAX_ARGUMENTS {
                return Err((key.to_owned(), format!("{} arguments, more than {MAX_ARGUMENTS}", list.len())));
            }
            let mut seen = BTreeSet::new();
            for word in list {
                let refused = problem(word).map(str::to_owned);
                let twice = || (!seen.insert(word)).then(|| "it is in the list twice".to_owned());
                if let Some(why) = refused.or_else(twice) {
                    return Err((key.to_owned(), format!("{word:?}: {why}")));
                }
            }
        }
        match self.add.iter().find(|word| self.remove.contains(word)) {
            Some(word) => Err(("remove".to_owned(), format!("{word:?}: it is to be added as well"))),
            None => Ok(()),
        }
    }

    /// Returns a command line with the change made.
    #[must_use]
    pub fn edited(&self, line: &str) -> String {
        let (words, rest) = split(line);
        let missing = self.add.iter().map(String::as_str).filter(|word| !words.contains(word));
        let kept = words.iter().copied().filter(|word| !self.takes_away(word));
        kept.chain(missing).chain(rest).collect::<Vec<_>>().join(" ")
    }

    /// Returns the first difference between a command line and one with the change made.
    #[must_use]
    pub fn missing(&self, line: &str) -> Option<String> {
        let (words, _) = split(line);
        if let Some(word) = self.add.iter().find(|word| !words.contains(&word.as_str())) {
            return Some(format!("{word} is not in it"));
        }
        words.iter().find(|word| self.takes_away(word)).map(|word| format!("{word} is still in it"))
    }

    /// Returns the words that the change adds to a command line, and those that it removes from it, each once.
    #[must_use]
    pub fn difference(&self, line: &str) -> (Vec<String>, Vec<String>) {
        let edited = self.edited(line);
        let ((old, _), (new, _)) = (split(line), split(&edited));
        let not_in = |one: &[&str], other: &[&str]| -> Vec<String> {
            let mut seen: BTreeSet<&str> = other.iter().copied().collect();
            one.iter().filter(|word| seen.insert(word)).map(|word| (*word).to_owned()).collect()
        };
        (not_in(&new, &old), not_in(&old, &new))
    }

    /// Returns the words of a command line that removing these words takes away in addition, each once: `nosmt` stands
    /// for `nosmt=force` as well.
    #[must_use]
    pub fn taken_along(removed: &[String], line: &str) -> Vec<String> {
        let removal = Self { add: Vec::new(), remove: removed.to_vec() };
        let (_, mut taken) = removal.difference(line);
        taken.retain(|word| !removed.contains(word));
        taken
    }

    /// Returns whether two command lines do not differ in the words that the change concerns.
    #[must_use]
    pub fn is_same(&self, one: &str, other: &str) -> bool {
        let concerned = |line: &str| -> Vec<String> {
            split(line).0.into_iter().filter(|word| self.concerns(word)).map(str::to_owned).collect()
        };
        concerned(one) == concerned(other)
    }

    fn concerns(&self, word: &str) -> bool {
        self.add.iter().any(|add| add == word) || self.takes_away(word)
    }

    fn takes_away(&self, word: &str) -> bool {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let is_named = self.remove.iter().any(|remove| remove == word || remove == name);
        is_named && !self.add.iter().any(|add| add == word)
    }
}

/// Splits a command line into the arguments of the kernel and the rest, which begins with `--` and is init's. A value
/// in double quotes may contain blanks (`next_arg`, `lib/cmdline.c` of Linux).
fn split(line: &str) -> (Vec<&str>, Vec<&str>) {
    let mut is_quoted = false;
    let ends_word = |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c.is_whitespace()
    };
    let mut words: Vec<&str> = line.split(ends_word).filter(|word| !word.is_empty()).collect();
    let end = words.iter().position(|word| *word == END).unwrap_or(words.len());
    let rest = words.split_off(end);
    (words, rest)
}

/// Returns the reason why a word is refused. Quotes, `$` and the like mean something to the shell that reads
/// /etc/default/grub, or to GRUB.
pub(crate) fn problem(word: &str) -> Option<&'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_=,.:/@+%*[]()!~^?".contains(c);
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    if word.is_empty() || word.len() > MAX_ARGUMENT || !word.chars().all(fits) {
        return Some(
            "1 to 256 letters, digits or characters of -_=,.:/@+%*[]()!~^?; one argument per string",
        );
    }
    if name.is_empty() || word == END {
        return Some("it has no name");
    }
    OF_THE_LOADER.contains(&name).then_some("the boot loader sets it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(add: &[&str], remove: &[&str]) -> KernelArgs {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        KernelArgs { add: list(add), remove: list(remove) }
    }

    #[test]
    fn a_command_line_is_edited_word_by_word() {
        for (add, remove, line, expected) in [
            (&["nosmt"][..], &[][..], "root=/dev/vda1 ro quiet", "root=/dev/vda1 ro quiet nosmt"),
            (&["nosmt"], &[], "nosmt ro", "nosmt ro"),
            (&["nosmt"], &[], "nosmt=force", "nosmt=force nosmt"),
            (&[], &["quiet"], "ro quiet", "ro"),
            // A name stands for all of its values, and a value for itself.
            (&["mitigations=off"], &["mitigations"], "mitigations=auto ro mitigations", "ro mitigations=off"),
            (&["mitigations=off"], &["mitigations"], "mitigations=off ro", "mitigations=off ro"),
            (&[], &["console=tty0"], "console=tty0 console=ttyS0", "console=ttyS0"),
            (&[], &["quiet"], "quiet_boot quiet", "quiet_boot"),
            // The rest is for init.
            (&["nosmt"], &[], "ro -- single", "ro nosmt -- single"),
            (&["nosmt"], &[], "ro -- nosmt", "ro nosmt -- nosmt"),
            (&[], &["quiet"], "ro quiet -- quiet", "ro -- quiet"),
            // A value in quotes is one word.
            (&[], &["dyndbg"], "ro dyndbg=\"file a.c +p\" quiet", "ro quiet"),
            (&["quiet"], &[], "ro x.dyndbg=\"file quiet +p\"", "ro x.dyndbg=\"file quiet +p\" quiet"),
            (&[], &["a"], "a=1 ro a=1", "ro"),
            (&["a=1", "b=2"], &["c"], "", "a=1 b=2"),
        ] {
            let args = args(add, remove);
            let edited = args.edited(line);
            assert_eq!(edited, expected, "{line}");
            assert_eq!((args.missing(&edited), args.edited(&edited)), (None, edited.clone()), "{line}");
            let (added, removed) = args.difference(line);
            let back = KernelArgs { add: removed, remove: added };
            let back =
                KernelArgs { add: [back.add, KernelArgs::taken_along(&back.remove, line)].concat(), ..back };
            let sorted = |line: &str| split(line).0.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
            assert_eq!(sorted(&back.edited(&edited)), sorted(line), "{line}");
            assert_eq!(split(&back.edited(&edited)).1, split(line).1, "{line}");
        }
    }

    #[test]
    fn a_difference_is_named() {
        let args = args(&["nosmt"], &["quiet"]);
        assert_eq!(args.missing("nosmt ro -- quiet"), None);
        assert_eq!(args.missing("ro -- nosmt").as_deref(), Some("nosmt is not in it"));
        assert!(args.is_same("quiet -- nosmt", "quiet"));
        assert_eq!(args.missing("ro").as_deref(), Some("nosmt is not in it"));
        assert_eq!(args.missing("nosmt quiet=1").as_deref(), Some("quiet=1 is still in it"));
        assert!(args.is_same("a quiet", "quiet b") && !args.is_same("quiet", "quiet nosmt"));
    }

    #[test]
    fn arguments_that_would_be_something_else_are_refused() {
        for (add, remove, key) in [
            (&[][..], &[][..], "add"),
            (&["a b"], &[], "add"),
            (&["a=$(reboot)"], &[], "add"),
            (&["a=\"b\""], &[], "add"),
            (&["a;b"], &[], "add"),
            (&["a`b`"], &[], "add"),
            (&["=1"], &[], "add"),
            (&["--"], &[], "add"),
            (&[""], &[], "add"),
            (&["a", "a"], &[], "add"),
            (&["initrd=/x"], &[], "add"),
            (&["a"], &["BOOT_IMAGE"], "remove"),
            (&["a"], &["a"], "remove"),
        ] {
            let (found, why) = args(add, remove).check().unwrap_err();
            assert_eq!(found, key, "{add:?} {remove:?}: {why}");
        }
        args(&["isolcpus=1-3,5", "hugepagesz=1G", "module.dyndbg=+p", "rd.driver.pre=x"], &["quiet"])
            .check()
            .unwrap();
        args(&["a=1"], &["a"]).check().unwrap();
    }
}
