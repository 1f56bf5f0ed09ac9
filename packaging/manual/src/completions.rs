//! Completions for bash, zsh and fish, generated from clap's description of the command line.

use clap::{Command, CommandFactory, ValueHint};
use clap_complete::{Shell, generate};
use rollout_cli::args::Args;

const PROGRAM: &str = "slurm-rollout";

/// Returns the completion files: the name under which each shell looks for its file, and the content.
#[must_use]
pub fn completions() -> Vec<(&'static str, String)> {
    vec![
        ("slurm-rollout.bash", fix_bash(&generate_for(Shell::Bash))),
        ("_slurm-rollout", generate_for(Shell::Zsh)),
        ("slurm-rollout.fish", generate_for(Shell::Fish)),
    ]
}

fn generate_for(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut Args::command(), PROGRAM, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Fixes two bugs of clap_complete 4.6 in bash's completions. If the program's name has a hyphen, clap_complete
/// spells a verb's state in two ways, and the verb's options are never completed (clap's issue 6421; the replacement
/// has no effect once that is solved). And it offers only options for an argument that is a file.
fn fix_bash(bash: &str) -> String {
    let program = PROGRAM.replace('-', "__");
    let mut bash = bash.replace(&PROGRAM.replace('-', "__subcmd__"), &program);
    for verb in Args::command().get_subcommands().filter(|verb| takes_file(verb)) {
        let state = format!("\n        {program}__subcmd__{})\n", verb.get_name());
        // An empty answer makes bash complete files itself.
        let files = "            if [[ ${cur} != -* && ${prev} != --config ]] ; then\n                return 0\n            fi\n";
        bash = bash.replace(&state, &format!("{state}{files}"));
    }
    bash
}

fn takes_file(verb: &Command) -> bool {
    verb.get_positionals().any(|arg| arg.get_value_hint() == ValueHint::FilePath)
}
