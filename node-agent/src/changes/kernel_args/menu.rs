//! The menu in GRUB's configuration, as grub-mkconfig writes it. Pure.

use rollout_core::rollout::kernel_args::KernelArgs;
use rollout_core::text::shell_words;

/// Commands that load a kernel, with its path and its command line.
const LINUX: [&str; 3] = ["linux", "linux16", "linuxefi"];

/// An entry of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Title and id of the entry, and of the submenus around it, outermost first.
    names: Vec<[String; 2]>,
    /// Its index in its menu, and those of the submenus around it.
    indexes: Vec<usize>,
    /// The lines between its braces.
    pub body: Vec<String>,
}

impl Entry {
    /// Returns the command line of its kernel.
    pub(super) fn command_line(&self) -> Option<&str> {
        self.body.iter().find_map(|line| linux(line)).map(|(_, arguments)| arguments)
    }

    /// Returns whether a default of GRUB's leads to it: title, id or index, with `>` after submenus.
    fn is_called(&self, default: &str) -> bool {
        let mut rest = default;
        for (depth, (names, index)) in self.names.iter().zip(&self.indexes).enumerate() {
            let is_last = depth + 1 == self.names.len();
            let index = index.to_string();
            // A title may itself contain `>`.
            let found = names.iter().map(String::as_str).chain([index.as_str()]).find_map(|name| {
                let after = rest.strip_prefix(name).filter(|_| !name.is_empty())?;
                if is_last { after.is_empty().then_some(after) } else { after.strip_prefix('>') }
            });
            match found {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }
}

/// Returns the entry that a default leads to. `None` if there is none, or if it is a submenu.
pub(super) fn find<'a>(entries: &'a [Entry], default: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.is_called(default))
}

/// Returns the default that the configuration sets: `saved` for `${saved_entry}`, else a constant.
pub(super) fn default(configuration: &str, saved: Option<&str>) -> String {
    let set = configuration.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    let mut constants = set.map(|value| value.trim_matches('"')).filter(|value| *value != "${next_entry}");
    match constants.next_back() {
        Some("${saved_entry}") | None => saved.unwrap_or("0").to_owned(),
        Some(constant) => constant.to_owned(),
    }
}

/// Parses the menu.
pub(super) fn entries(configuration: &str) -> Vec<Entry> {
    let (mut entries, mut around) = (Vec::new(), Vec::<([String; 2], usize)>::new());
    // The next index in each open menu.
    let mut next = vec![0];
    let mut lines = configuration.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let opens = line.ends_with('{');
        let index = next.last().copied().unwrap_or_default();
        if opens && line.starts_with("function ") {
            lines.by_ref().find(|line| *line == "}");
        } else if opens && line.starts_with("submenu ") {
            around.push((names(line), index));
            if let Some(next) = next.last_mut() {
                *next += 1;
            }
            next.push(0);
        } else if opens && line.starts_with("menuentry ") {
            let body = lines.by_ref().take_while(|line| *line != "}").map(str::to_owned).collect();
            let path = around.iter().cloned().chain([(names(line), index)]);
            let (names, indexes) = path.unzip();
            entries.push(Entry { names, indexes, body });
            if let Some(next) = next.last_mut() {
                *next += 1;
            }
        } else if line == "}" && next.len() > 1 {
            around.pop();
            next.pop();
        }
    }
    entries
}

/// Returns an entry of ours, which boots `body` with other arguments. `--unrestricted` lets it boot without a password.
pub(super) fn trial(id: &str, body: &[String], args: &KernelArgs) -> String {
    let edited = body.iter().map(|line| match linux(line) {
        Some((command, arguments)) => format!("\t{command} {}\n", args.edited(arguments)),
        None => format!("\t{line}\n"),
    });
    format!("menuentry '{id}' --id {id} --unrestricted {{\n{}}}\n", edited.collect::<String>())
}

/// Splits a line `linux PATH ARGUMENTS` behind the path.
fn linux(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (command, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let path = rest.split(char::is_whitespace).next()?;
    let end = line.len() - rest.len() + path.len();
    LINUX.contains(&command).then(|| (&line[..end], line[end..].trim()))
}

/// Returns title and id of `menuentry 'TITLE' --class x $menuentry_id_option 'ID' {`. An apostrophe is written `'\''`.
fn names(line: &str) -> [String; 2] {
    let words = shell_words(line);
    let after = |option: &str| words.iter().position(|word| word == option).and_then(|at| words.get(at + 1));
    let id = after("$menuentry_id_option").or_else(|| after("--id"));
    [words.get(1).cloned().unwrap_or_default(), id.cloned().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MENU: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="${saved_entry}"
fi
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Debian' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	if [ x$grub_platform = xxen ]; then insmod xzio; fi
	linux	/boot/vmlinuz-6.12 root=UUID=1 ro  quiet
	initrd	/boot/initrd.img-6.12
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, 6.12' $menuentry_id_option 'gnulinux-6.12' {
		linux	/boot/vmlinuz-6.12 root=UUID=1 ro quiet
	}
	menuentry 'The node'\''s > own' {
		linux	/boot/vmlinuz-6.1 root=UUID=1 ro
	}
}
menuentry 'UEFI' --id uefi {
	fwsetup
}
"#;

    #[test]
    fn a_default_leads_to_an_entry() {
        let entries = entries(MENU);
        assert_eq!(entries.len(), 4);
        for (default, line) in [
            ("0", Some("root=UUID=1 ro  quiet")),
            ("Debian", Some("root=UUID=1 ro  quiet")),
            ("gnulinux-simple-1", Some("root=UUID=1 ro  quiet")),
            ("gnulinux-advanced-1>gnulinux-6.12", Some("root=UUID=1 ro quiet")),
            ("1>0", Some("root=UUID=1 ro quiet")),
            ("Advanced options>The node's > own", Some("root=UUID=1 ro")),
            ("1>1", Some("root=UUID=1 ro")),
            // A submenu, no kernel, and no such entry.
            ("1", None),
            ("uefi", None),
            ("2", None),
            ("Debian 13", None),
            ("", None),
        ] {
            assert_eq!(find(&entries, default).and_then(Entry::command_line), line, "{default}");
        }
    }

    #[test]
    fn the_default_is_the_saved_one_only_if_grub_obeys_it() {
        assert_eq!(default(MENU, Some("1>0")), "1>0");
        assert_eq!(default(MENU, None), "0");
        let fixed = MENU.replace("${saved_entry}", "gnulinux-simple-1");
        assert_eq!(default(&fixed, Some("1>0")), "gnulinux-simple-1");
    }

    #[test]
    fn a_trial_differs_in_its_arguments_alone() {
        let args = KernelArgs { add: vec!["nosmt".into()], remove: vec!["quiet".into()] };
        let menu = entries(MENU);
        let text = trial("ours", &menu[0].body, &args);
        let parsed = entries(&text);
        assert_eq!(parsed[0].command_line(), Some("root=UUID=1 ro nosmt"), "{text}");
        assert!(find(&parsed, "ours").is_some());
        let differing: Vec<_> = parsed[0].body.iter().filter(|line| !menu[0].body.contains(line)).collect();
        assert_eq!(differing, ["linux\t/boot/vmlinuz-6.12 root=UUID=1 ro nosmt"]);
    }
}
