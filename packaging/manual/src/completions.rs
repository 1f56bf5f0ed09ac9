//! Completions for bash, zsh and fish, from what clap knows of the command line.

use clap::{Command, CommandFactory, ValueHint};
use clap_complete::{Shell, generate};
use rollout_cli::args::Args;

const PROGRAM: &str = "slurm-rollout";

/// Names of files, each as its shell looks for it, and what is in them.
#[must_use]
pub fn completions() -> Vec<(&'static str, String)> {
    vec![
        ("slurm-rollout.bash", mended(&generated(Shell::Bash))),
        ("_slurm-rollout", generated(Shell::Zsh)),
        ("slurm-rollout.fish", generated(Shell::Fish)),
    ]
}

fn generated(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut Args::command(), PROGRAM, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Bash's, with two faults of clap_complete 4.6 mended. It spells a verb's state in two ways where the program's name
/// has a hyphen, and then never completes a verb's options (clap's issue 6421; there is nothing to replace once it is
/// solved). And it offers options alone where a file is to be named.
fn mended(bash: &str) -> String {
    let program = PROGRAM.replace('-', "__");
    let mut bash = bash.replace(&PROGRAM.replace('-', "__subcmd__"), &program);
    for verb in Args::command().get_subcommands().filter(|verb| takes_file(verb)) {
        let state = format!("\n        {program}__subcmd__{})\n", verb.get_name());
        // No answer lets bash complete files by itself.
        let files = "            if [[ ${cur} != -* && ${prev} != --config ]] ; then\n                return 0\n            fi\n";
        bash = bash.replace(&state, &format!("{state}{files}"));
    }
    bash
}

fn takes_file(verb: &Command) -> bool {
    verb.get_positionals().any(|arg| arg.get_value_hint() == ValueHint::FilePath)
}
