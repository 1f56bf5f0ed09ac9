//! The files that hold the kernel's command line: entries of the Boot Loader Specification, and the assignments of
//! /etc/default/grub. Pure.

use rollout_core::rollout::kernel_args::KernelArgs;

/// The variables of /etc/default/grub that hold arguments, in the order in which grub-mkconfig joins them.
const ASSIGNED: [&str; 2] = ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"];

/// The variable in GRUB's environment block that entries of EL 8 have in place of arguments.
const KERNELOPTS: &str = "$kernelopts";

/// Returns the value of a key of an entry. `options` may be there more than once.
pub(super) fn value(entry: &str, key: &str) -> String {
    let values = entry.lines().filter_map(|line| field(line, key));
    values.collect::<Vec<_>>().join(" ")
}

fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.trim_start().strip_prefix(key).filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim)
}

/// Returns whether an entry takes its arguments from GRUB's environment block.
pub(super) fn uses_kernelopts(entry: &str) -> bool {
    value(entry, "options").split_whitespace().any(|word| word == KERNELOPTS)
}

/// Returns the command line of an entry.
pub(super) fn command_line(entry: &str, kernelopts: Option<&str>) -> String {
    value(entry, "options").replace(KERNELOPTS, kernelopts.unwrap_or(KERNELOPTS))
}

/// Returns an entry with other arguments. Those that come from GRUB's environment block are not in it.
pub(super) fn edited_entry(entry: &str, args: &KernelArgs) -> String {
    let options = value(entry, "options");
    let args = match uses_kernelopts(entry) {
        true => KernelArgs { add: Vec::new(), ..args.clone() },
        false => args.clone(),
    };
    with_options(entry, &args.edited(&options))
}

/// Returns an entry with these options, in place of those that it has. An entry that has them already stays as it is.
pub(super) fn with_options(entry: &str, options: &str) -> String {
    if value(entry, "options").split_whitespace().eq(options.split_whitespace()) {
        return entry.to_owned();
    }
    let kept = entry.lines().filter(|line| field(line, "options").is_none());
    kept.chain([format!("options {options}").as_str()]).map(|line| format!("{line}\n")).collect()
}

/// Returns an entry of GRUB's menu from an entry in a file of its own, as GRUB makes it (blscfg).
pub(super) fn menu_body(entry: &str) -> Vec<String> {
    let initrds: Vec<String> =
        entry.lines().filter_map(|line| field(line, "initrd")).map(str::to_owned).collect();
    let linux = format!("linux {} {}", value(entry, "linux"), value(entry, "options"));
    let initrd = (!initrds.is_empty()).then(|| format!("initrd {}", initrds.join(" ")));
    [linux].into_iter().chain(initrd).collect()
}

/// Returns the files of /etc/default/grub, in the order in which they are read, with other arguments. Words are added
/// to the last assignment of GRUB_CMDLINE_LINUX, because a later one may replace those before it.
///
/// # Errors
/// Returns the reason if an assignment that would have to change is more than a quoted text.
pub(super) fn edited_defaults(texts: &[&str], args: &KernelArgs) -> Result<Vec<String>, String> {
    let removal = KernelArgs { add: Vec::new(), ..args.clone() };
    let is_main = |line: &str| assignment(line).is_some_and(|(name, _)| name == ASSIGNED[0]);
    let last = texts.iter().rposition(|text| text.lines().any(is_main));
    let mut edited = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let main = text.lines().collect::<Vec<_>>().iter().rposition(|line| is_main(line));
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let has_additions = last == Some(index) && main == Some(at);
            lines.push(edited_assignment(line, if has_additions { args } else { &removal })?);
        }
        if last.is_none() && index + 1 == texts.len() && !args.add.is_empty() {
            lines.push(format!("{}=\"{}\"", ASSIGNED[0], args.add.join(" ")));
        }
        edited.push(lines.iter().map(|line| format!("{line}\n")).collect());
    }
    Ok(edited)
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once('=')?;
    ASSIGNED.contains(&name).then_some((name, value))
}

fn edited_assignment(line: &str, args: &KernelArgs) -> Result<String, String> {
    let Some((name, value)) = assignment(line) else { return Ok(line.to_owned()) };
    let quote = ['"', '\''].into_iter().find(|quote| value.starts_with(*quote));
    let text = match quote {
        Some(quote) => value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)),
        None => Some(value),
    };
    let plain = text.filter(|text| !text.contains(['\\', '`', '"', '\'', '#']));
    match (text, plain) {
        (_, Some(text)) if args.edited(text).split_whitespace().eq(text.split_whitespace()) => {
            Ok(line.to_owned())
        }
        (_, Some(text)) => Ok(format!("{name}=\"{}\"", args.edited(text))),
        _ => Err(format!("{line:?} is more than a text in quotes: write it as one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> KernelArgs {
        KernelArgs { add: vec!["nosmt".into()], remove: vec!["quiet".into()] }
    }

    const ENTRY: &str = "title Rocky 9\nversion 5.14\nlinux /vmlinuz-5.14\ninitrd /initramfs-5.14.img $tuned_initrd\n\
                         options root=UUID=1 ro quiet $tuned_params\ngrub_class rocky\n";

    #[test]
    fn entries_are_edited_in_their_options_alone() {
        let edited = edited_entry(ENTRY, &args());
        assert_eq!(value(&edited, "options"), "root=UUID=1 ro $tuned_params nosmt");
        let others = |text: &str| {
            text.lines().filter(|line| !line.starts_with("options")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(others(&edited), others(ENTRY));
        assert_eq!(edited_entry(&edited, &args()), edited, "and only once");
        let two = "linux /a\noptions root=1\noptions quiet\n";
        assert_eq!(edited_entry(two, &args()), "linux /a\noptions root=1 nosmt\n");
    }

    #[test]
    fn arguments_in_the_environment_block_are_not_repeated() {
        let entry = ENTRY.replace("root=UUID=1 ro quiet", "$kernelopts");
        assert!(uses_kernelopts(&entry) && !uses_kernelopts(ENTRY));
        assert_eq!(edited_entry(&entry, &args()), entry);
        assert_eq!(command_line(&entry, Some("root=UUID=1 ro")), "root=UUID=1 ro $tuned_params");
    }

    #[test]
    fn grub_gets_an_entry_of_its_menu() {
        assert_eq!(
            menu_body(ENTRY),
            [
                "linux /vmlinuz-5.14 root=UUID=1 ro quiet $tuned_params",
                "initrd /initramfs-5.14.img $tuned_initrd"
            ]
        );
    }

    #[test]
    fn defaults_are_edited_where_they_count() {
        for (texts, expected) in [
            (
                &["GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\nGRUB_CMDLINE_LINUX=\"\"\n"][..],
                &["GRUB_CMDLINE_LINUX_DEFAULT=\"splash\"\nGRUB_CMDLINE_LINUX=\"nosmt\"\n"][..],
            ),
            (
                &["A=1\nGRUB_CMDLINE_LINUX='ro quiet'\n", "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\n"],
                &["A=1\nGRUB_CMDLINE_LINUX=\"ro\"\n", "GRUB_CMDLINE_LINUX=\"console=ttyS0 nosmt\"\n"],
            ),
            (
                &["GRUB_CMDLINE_LINUX=ro\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX quiet\"\n"],
                &["GRUB_CMDLINE_LINUX=ro\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX nosmt\"\n"],
            ),
            (&["A=1\n"], &["A=1\nGRUB_CMDLINE_LINUX=\"nosmt\"\n"]),
            (
                &["# GRUB_CMDLINE_LINUX=\"quiet\"\nGRUB_CMDLINE_LINUX=\"nosmt\"\n"],
                &["# GRUB_CMDLINE_LINUX=\"quiet\"\nGRUB_CMDLINE_LINUX=\"nosmt\"\n"],
            ),
        ] {
            let edited = edited_defaults(texts, &args()).unwrap();
            assert_eq!(edited, expected, "{texts:?}");
            let again: Vec<&str> = edited.iter().map(String::as_str).collect();
            assert_eq!(edited_defaults(&again, &args()).unwrap(), edited, "{texts:?}");
        }
        for odd in [
            "GRUB_CMDLINE_LINUX=\"a \\\n",
            "GRUB_CMDLINE_LINUX=\"a\" # why\n",
            "GRUB_CMDLINE_LINUX=`cat x`\n",
        ] {
            assert!(edited_defaults(&[odd], &args()).unwrap_err().contains("GRUB_CMDLINE_LINUX"), "{odd}");
        }
    }
}
