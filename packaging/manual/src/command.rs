//! Manual pages of the command line, from clap's description of it: one for the program, one for each verb.

use crate::page::{Block, Inline, Page, Sections, plain, sentence};
use crate::{ManualError, help, markdown, source};
use clap::{Arg, Command};
use roff::{bold, italic, roman};

/// The sections that the pages of all verbs have in common.
const COMMON: &str = "packaging/man/slurm-rollout.1.md";

/// Generates the pages of a command and of all its verbs, recursively.
///
/// # Errors
/// If the common sections include an unknown file.
pub fn pages(command: Command) -> Result<Vec<Page>, ManualError> {
    let mut command = command;
    command.build();
    let mut commands = Vec::new();
    collect(&command, &mut commands);
    let root = help_of(&command);
    commands.iter().map(|command| page(command, &commands, &root)).collect()
}

/// Collects a command and its verbs, depth first, without clap's own `help`.
fn collect<'a>(command: &'a Command, into: &mut Vec<&'a Command>) {
    into.push(command);
    for verb in verbs(command) {
        collect(verb, into);
    }
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn page(command: &Command, all: &[&Command], root: &Sections) -> Result<Page, ManualError> {
    let name = page_name(command);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut sections = Sections::default();
    sections.add("SYNOPSIS", [Block::Text(synopsis(command))]);
    sections.add("DESCRIPTION", [Block::Text(sentence(help::words(&about)))]);
    sections.merge(help_of(command));
    sections.add("VERBS", verbs(command).map(verb));
    sections.add("OPTIONS", command.get_arguments().filter(|arg| !arg.is_hide_set()).map(option));
    if sections.get("EXIT STATUS").is_none() {
        sections.add("EXIT STATUS", exit_status(root, all));
    }
    let others = all
        .iter()
        .filter(|other| related(command, other))
        .flat_map(|other| [bold(page_name(other)), roman("(1), ")]);
    let mut see_also: Vec<Inline> = others.collect();
    let mut common = markdown::sections(source(COMMON)?)?;
    if let Some([Block::Text(more)]) = common.get("SEE ALSO") {
        see_also.extend(more.iter().cloned());
    }
    common.remove("SEE ALSO");
    sections.merge(common);
    sections.add("SEE ALSO", [Block::Text(see_also)]);
    let mut summary = about.trim_end_matches('.').to_owned();
    summary.get_mut(..1).map(str::make_ascii_lowercase);
    Ok(Page { name, number: 1, summary, sections })
}

/// Returns the name of a command's page: `slurm-rollout-stage` for `slurm-rollout stage`.
fn page_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
}

/// Returns true if `other` belongs in SEE ALSO: all verbs for the program, the program and its own verbs for a verb.
fn related(command: &Command, other: &Command) -> bool {
    let (name, other) = (page_name(command), page_name(other));
    name != other && (other.starts_with(&name) || name.starts_with(&other))
}

fn help_of(command: &Command) -> Sections {
    help::sections(&command.get_after_help().map(ToString::to_string).unwrap_or_default())
}

/// Returns the program's exit codes, for a verb without a list of its own. Leaves out codes of specific verbs, which
/// name these verbs, as in `a node is held (status)`.
fn exit_status(root: &Sections, all: &[&Command]) -> Vec<Block> {
    let of_a_verb = |block: &&Block| {
        let Block::Item(_, body) = block else { return false };
        let [Block::Text(text)] = body.as_slice() else { return false };
        let text = plain(text);
        all.iter().any(|command| text.contains(&format!("({})", command.get_name())))
    };
    let codes = root.get("EXIT STATUS").unwrap_or_default();
    codes.iter().filter(|block| !of_a_verb(block)).cloned().collect()
}

fn verb(command: &Command) -> Block {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    Block::Item(vec![bold(command.get_name())], vec![Block::Text(sentence(help::words(&about)))])
}

fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    let typed = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(typed).partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positional) {
        let required = arg.is_required_set();
        line.push(roman(if required { " " } else { " [" }));
        line.extend(usage(arg, "|"));
        line.push(roman(if required { "" } else { "]" }));
    }
    if verbs(command).next().is_some() {
        line.extend([roman(" "), italic("VERB"), roman(" ...")]);
    }
    line
}

/// Returns an argument as a person types it.
fn usage(arg: &Arg, between: &str) -> Vec<Inline> {
    let mut line = Vec::new();
    if let Some(short) = arg.get_short() {
        line.push(bold(format!("-{short}")));
        if arg.get_long().is_some() {
            line.push(roman(between));
        }
    }
    if let Some(long) = arg.get_long() {
        line.push(bold(format!("--{long}")));
    }
    if arg.get_action().takes_values() {
        if !line.is_empty() {
            line.push(roman(" "));
        }
        let names = arg.get_value_names().unwrap_or_default();
        line.push(italic(names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")));
    }
    line
}

fn option(arg: &Arg) -> Block {
    let text = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut body = sentence(help::words(&text));
    if let [default, ..] = arg.get_default_values() {
        if arg.get_action().takes_values() {
            body.extend([roman(" Default: "), bold(default.to_string_lossy()), roman(".")]);
        }
    }
    Block::Item(usage(arg, ", "), vec![Block::Text(body)])
}
