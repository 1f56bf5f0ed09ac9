use super::{GROUPS, command};
use clap::Command;
use std::collections::BTreeSet;

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn every_verb_has_examples_and_fits_a_terminal() {
    fn look_at(command: &Command) {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:\n  ") || command.has_subcommands(), "{name}: no examples");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).for_each(look_at);
    }
    look_at(&command());
}

#[test]
fn help_lists_each_verb_once_by_its_task() {
    let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
    let command = command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    assert_eq!(listed, shown.map(Command::get_name).collect::<Vec<_>>(), "in the order of their pages");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    let help = self::command().render_help().to_string();
    let (verbs, rest) = help.split_once("\nOptions:\n").unwrap();
    assert!(help.starts_with("Updates the nodes of a Slurm cluster"), "{help}");
    assert!(rest.contains("--config") && rest.contains("Exit codes:"), "{help}");
    assert!(!rest.contains("\nVerbs:") && !verbs.contains("Internal"), "{help}");
    let lines: Vec<&str> = verbs.lines().collect();
    for (title, verbs) in GROUPS {
        let at = lines.iter().position(|line| *line == format!("{title}:")).unwrap();
        for (verb, line) in verbs.iter().zip(&lines[at + 1..]) {
            let about = command.find_subcommand(verb).and_then(Command::get_about).unwrap().to_string();
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words.join(" "), format!("{verb} {about}"));
            assert!(line.starts_with("  ") && line.len() <= 80, "{line}");
        }
    }
}
