//! Tests that all manual pages are there and complete, and that the programs that display them accept them.

use crate::generated::{Generated, program};
use clap::{Command, CommandFactory};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::{Manifest, ManifestError};
use rollout_plan::limits::Limits;
use rollout_plan::strategy;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

const HELPS: [(&str, &str); 2] = [
    ("slurm-rollout-agent.8", include_str!("../../../../node-agent/src/verbs/help.txt")),
    ("slurm-rollout-reboot-program.8", include_str!("../../../../reboot-program/src/help.txt")),
];

const CONFIGS: [(&str, &str); 2] = [
    ("slurm-rollout-agent.toml.5", include_str!("../../../config/agent.toml")),
    ("slurm-rollout-controller.toml.5", include_str!("../../../config/controller.toml")),
];

const MANIFEST: &str = include_str!("../../../../docs/manifest.md");

/// Returns the program and all its verbs, by the names of their pages.
fn commands() -> BTreeMap<String, Command> {
    fn collect(command: &Command, into: &mut BTreeMap<String, Command>) {
        let name = command.get_bin_name().unwrap_or("slurm-rollout").replace(' ', "-");
        into.insert(format!("{name}.1"), command.clone());
        verbs(command).for_each(|verb| collect(verb, into));
    }
    let (mut command, mut all) = (rollout_cli::args::Args::command(), BTreeMap::new());
    command.build();
    collect(&command, &mut all);
    all
}

/// Returns the verbs that have a page.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn files(generated: &Generated) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(generated.path().join("man")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}

/// Returns a page as displayed, in one line.
fn shown(generated: &Generated, page: &str) -> String {
    let file = generated.path().join("man").join(page);
    let output = program("mandoc").args(["-T", "utf8", "-O", "width=100"]).arg(file).run().unwrap();
    let mut text = String::new();
    for c in output.stdout.chars() {
        // Bold is a letter, a backspace and the same letter again.
        match c {
            '\u{8}' => {
                text.pop();
            }
            c => text.push(c),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_page_is_there() {
    let mut expected: BTreeSet<String> = commands().into_keys().collect();
    expected.extend(HELPS.iter().chain(&CONFIGS).map(|(page, _)| (*page).to_owned()));
    expected.insert("slurm-rollout-manifest.5".to_owned());
    assert_eq!(files(&Generated::new()).into_keys().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn groff_and_mandoc_have_nothing_to_say_and_whatis_has_a_line() {
    for (page, path) in files(&Generated::new()) {
        let groff = program("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).run().unwrap();
        assert_eq!(groff.stdout + &groff.stderr, "", "{page}");
        let mandoc = program("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output().unwrap();
        assert_eq!(mandoc.stdout + &mandoc.stderr, "", "{page}");
        let lexgrog = program("lexgrog").arg(&path).run().unwrap();
        let (name, _) = page.rsplit_once('.').unwrap();
        assert!(lexgrog.stdout.contains(&format!(": \"{name} - ")), "{page}: {}", lexgrog.stdout);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.is_ascii(), "{page}");
        for markdown in ["<!--", "**", "|---", "\\(ga"] {
            assert!(!text.contains(markdown), "{page}: {markdown}");
        }
    }
}

#[test]
fn pages_are_the_same_each_time_and_have_a_date_only_where_one_is_given() {
    let (one, other) = (Generated::new(), Generated::new());
    for (page, path) in files(&one) {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, fs::read_to_string(other.path().join("man").join(&page)).unwrap());
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!(" 2023-11-14 \"slurm-rollout {version}\"")), "{page}");
    }
    let undated = Generated::with(|program| program);
    for (page, path) in files(&undated) {
        let mandoc = program("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output().unwrap();
        let said = mandoc.stdout + &mandoc.stderr;
        // The missing date is the only warning.
        assert!(said.lines().count() == 1 && said.contains("missing date"), "{page}: {said}");
    }
}

#[test]
fn verbs_and_options_are_in_their_pages() {
    let generated = Generated::new();
    for (page, command) in commands() {
        let text = shown(&generated, &page);
        for section in ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "SEE ALSO"] {
            assert!(text.contains(section), "{page}: {section}");
        }
        assert!(text.contains("EXAMPLES") || command.has_subcommands(), "{page}: EXAMPLES");
        for long in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(text.contains(&format!("--{long} ")), "{page}: --{long}");
        }
        for verb in verbs(&command) {
            let about = verb.get_about().unwrap().to_string();
            assert!(text.contains(&format!(" {} {about}.", verb.get_name())), "{page}: {}", verb.get_name());
        }
    }
    for (page, help) in HELPS {
        let text = shown(&generated, page);
        for section in ["OPTIONS", "EXAMPLES", "EXIT STATUS", "SIGNALS", "FILES", "LOGS", "SEE ALSO"] {
            assert!(text.contains(section), "{page}: {section}");
        }
        let words = help.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim());
        for word in words.filter_map(|line| line.split("  ").next()) {
            // On the page, meanings begin with a capital.
            assert!(text.to_lowercase().contains(&word.to_lowercase()), "{page}: {word}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{page}: its help is for 80 columns");
    }
}

#[test]
fn codes_of_other_verbs_are_not_in_a_verbs_page() {
    let generated = Generated::new();
    assert!(shown(&generated, "slurm-rollout.1").contains("3 A node is held"));
    assert!(shown(&generated, "slurm-rollout-status.1").contains("3 A node is held"));
    assert!(!shown(&generated, "slurm-rollout-stage.1").contains("held"));
}

#[test]
fn keys_of_the_configuration_are_in_its_page() {
    let generated = Generated::new();
    for (page, file) in CONFIGS {
        let text = shown(&generated, page);
        // Tests of the crates that own the configuration check that the file has all keys.
        let keys = file.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| line.contains(" = "));
        let keys: Vec<_> = keys.filter(|line| line.starts_with(|c: char| c.is_alphabetic())).collect();
        assert!(keys.len() > 5, "{page}");
        for key in keys {
            assert!(text.contains(key), "{page}: {key}");
        }
    }
}

/// Returns the keys that the parser names as expected, after an unknown one.
fn expected(manifest: &str) -> Vec<String> {
    fields(Manifest::parse(manifest))
}

/// Returns the keys that an error about an unknown one names as expected.
fn fields<T: std::fmt::Debug>(parsed: Result<T, ManifestError>) -> Vec<String> {
    let error = parsed.unwrap_err().to_string();
    let (_, fields) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    fields.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn keys_of_the_manifest_are_in_its_documentation_and_page() {
    let generated = Generated::new();
    let text = shown(&generated, "slurm-rollout-manifest.5");
    let head = "name='a'\nnodes='n1'\n";
    let packages = "[[change]]\nkind='packages'\n";
    let mut keys = expected(&format!("{head}unknown=1\n"));
    keys.retain(|key| !matches!(key.as_str(), "change" | "reboot" | "verify" | "strategy"));
    keys.extend(["[[change]]", "[strategy]"].map(str::to_owned));
    for table in ["reboot", "verify"] {
        let fields = expected(&format!("{head}{packages}install=['p']\n[{table}]\nunknown=1\n"));
        keys.extend(fields.iter().map(|field| match format!("{table}.{field}") {
            key if key == "verify.job" => "[verify.job]".to_owned(),
            key => key,
        }));
    }
    keys.extend(expected(&format!("{head}{packages}unknown=1\n")));
    keys.extend(expected(&format!("{head}[[change]]\nkind='symlink'\nunknown=1\n")));
    keys.extend(expected(&format!("{head}[[change]]\nkind='kernel-args'\nunknown=1\n")));
    keys.extend(expected(&format!("{head}[[change]]\nkind='command'\nunknown=1\n")));
    let image = "[[change]]\nkind='image'\nvia='bos'\nimage='i'\n";
    keys.extend(expected(&format!("{head}{image}unknown=1\n")));
    let proof = expected(&format!("{head}{image}[change.proof]\nunknown=1\n"));
    keys.extend(proof.iter().map(|field| format!("proof.{field}")));
    assert!(keys.len() >= 28, "{keys:?}");
    assert_documented(&keys, &text);
    for kind in expected(&format!("{head}[[change]]\nkind='unknown'\n")) {
        assert!(text.contains(&format!("kind = \"{kind}\"")), "{kind}");
    }
}

/// Asserts that each key has a row in the documentation of the manifest, and that the row is in the page.
fn assert_documented(keys: &[String], text: &str) {
    for key in keys {
        let row = MANIFEST.lines().find(|line| line.starts_with(&format!("| `{key}` | ")));
        let row = row.unwrap_or_else(|| panic!("docs/manifest.md has no {key}"));
        let meaning = row.split('|').nth(2).unwrap().trim().replace('`', "");
        let meaning = meaning.get(1..).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!(" {key} ")) && text.contains(&meaning), "{key}: {meaning}");
    }
}

/// The tables of a strategy, each with the keys that it needs.
const STRATEGY_TABLES: [(&str, &str); 7] = [
    ("jobs", "[strategy.jobs]"),
    ("halt", "[strategy.halt]"),
    ("floor", "[[strategy.floor]]\navailable=1"),
    ("group", "[[strategy.group]]\nname='a'\nnodes='n1'"),
    ("exclusive", "[[strategy.exclusive]]"),
    ("window", "[[strategy.window]]"),
    ("hook", "[[strategy.hook]]\nwhen='failed'\ncommand=['/a']"),
];

#[test]
fn keys_of_strategies_and_limits_are_in_the_documentation_and_page_of_the_manifest() {
    let nodes = NodeSet::parse("n1").unwrap();
    let of_table = |table: &str| fields(strategy::of_manifest(&format!("{table}\nunknown=1\n"), &nodes));
    let is_table = |key: &String| STRATEGY_TABLES.iter().any(|(table, _)| key == table);
    let (tables, keys): (Vec<_>, Vec<_>) = of_table("[strategy]").into_iter().partition(is_table);
    assert_eq!(tables.len(), STRATEGY_TABLES.len());
    let mut keys: Vec<String> = keys.iter().map(|key| format!("strategy.{key}")).collect();
    for (table, header) in STRATEGY_TABLES {
        keys.extend(of_table(header).iter().map(|key| format!("{table}.{key}")));
    }
    keys.extend(of_table("[verify.job]").iter().map(|key| format!("verify.job.{key}")));
    let resolve = |text: &str| NodeSet::parse(text).map_err(|error| error.to_string());
    let limits = Limits::of_config(Some(&serde_json::json!({ "unknown": 1 })), &resolve);
    keys.extend(fields(limits).iter().map(|key| format!("limits.{key}")));
    assert!(keys.len() >= 40, "{keys:?}");
    assert_documented(&keys, &shown(&Generated::new(), "slurm-rollout-manifest.5"));
}

#[test]
fn examples_of_strategies_are_strategies() {
    let (_, section) = MANIFEST.split_once("\n## Strategy\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let examples: Vec<&str> =
        section.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 5);
    for example in examples {
        strategy::of_manifest(example, &NodeSet::parse("cn[01-99]").unwrap()).unwrap();
    }
}

#[test]
fn the_example_of_a_command_is_a_manifest() {
    let (_, section) = MANIFEST.split_once("\n## kind = \"command\"\n").unwrap();
    let (_, example) = section.split_once("The manifest, which has").unwrap();
    let (_, example) = example.split_once("```toml\n").unwrap();
    let example = example.split("```").next().unwrap().replace("@feature:r760", "cn[01-09]");
    let manifest = Manifest::parse(&example).unwrap();
    assert_eq!((manifest.desired.commands().count(), manifest.desired.without_undo().len()), (1, 0));
    strategy::of_manifest(&example, &manifest.nodes).unwrap();
}

#[test]
fn manifests_in_pages_and_help_are_manifests() {
    let examples = include_str!("../../../man/slurm-rollout-manifest.5.md");
    let (_, example) = examples.split_once("```toml\n").unwrap();
    Manifest::parse(example.split("```").next().unwrap()).unwrap();
    let stage = commands().remove("slurm-rollout-stage.1").unwrap();
    let help = stage.get_after_help().unwrap().to_string();
    let (_, example) = help.split_once("Manifest:\n").unwrap();
    Manifest::parse(example.split("\n\n").next().unwrap()).unwrap();
}

#[test]
fn pages_refer_to_pages_that_are_there() {
    let generated = Generated::new();
    let pages: BTreeSet<String> = files(&generated).into_keys().collect();
    for page in &pages {
        let text = shown(&generated, page);
        let (_, see_also) = text.split_once("SEE ALSO").unwrap();
        let ours = see_also
            .split([' ', ','])
            .filter(|word| word.starts_with("slurm-rollout") && word.ends_with(')'));
        let names: Vec<_> = ours.map(|word| word.trim_end_matches(')').replace('(', ".")).collect();
        assert!(names.len() > 1, "{page}: {see_also}");
        for name in names {
            assert!(pages.contains(&name), "{page} refers to {name}");
        }
    }
}
