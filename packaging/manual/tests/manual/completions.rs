//! Tests the completions in the shells themselves.

use crate::generated::{Generated, program};

/// Returns bash's completions for these words, the last of which is being typed.
fn bash(generated: &Generated, words: &[&str]) -> Vec<String> {
    let script = format!(
        r#"source {}/completions/slurm-rollout.bash
           f=$(complete -p slurm-rollout | sed 's/.*-F \([^ ]*\).*/\1/')
           COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
           compopt() {{ :; }}
           $f slurm-rollout "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
           printf '%s\n' "${{COMPREPLY[@]}}""#,
        generated.path().display()
    );
    let output = program("bash").args(["-c", &script, "bash"]).args(words).run().unwrap();
    assert_eq!(output.stderr, "", "{words:?}");
    output.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn shells_take_their_files() {
    let generated = Generated::new();
    for (shell, file) in
        [("bash", "slurm-rollout.bash"), ("zsh", "_slurm-rollout"), ("fish", "slurm-rollout.fish")]
    {
        let file = generated.path().join("completions").join(file);
        let output = program(shell).arg("-n").arg(file).run().unwrap();
        assert_eq!(output.stderr, "", "{shell}");
    }
}

#[test]
fn bash_completes_verbs_options_and_files() {
    let generated = Generated::new();
    assert_eq!(bash(&generated, &["slurm-rollout", "st"]), ["stage", "start", "status", "stop"]);
    assert_eq!(bash(&generated, &["slurm-rollout", "stage", "--d"]), ["--dry-run"]);
    assert_eq!(bash(&generated, &["slurm-rollout", "status", "--j"]), ["--json"]);
    assert_eq!(bash(&generated, &["slurm-rollout", "config", "ch"]), ["check"]);
    // Without an answer of ours, bash completes files itself.
    assert_eq!(bash(&generated, &["slurm-rollout", "stage", ""]), [""; 0]);
    let man = generated.path().join("ma").display().to_string();
    assert_eq!(bash(&generated, &["slurm-rollout", "--config", &man]), [format!("{man}n")]);
    assert_eq!(bash(&generated, &["slurm-rollout", "stage", "--config", &man]), [format!("{man}n")]);
}

#[test]
fn fish_completes_verbs_options_and_files() {
    let generated = Generated::new();
    let home = generated.path().join("home");
    let complete = |line: &str| {
        let script = format!(
            "source {}/completions/slurm-rollout.fish; complete -C '{line}'",
            generated.path().display()
        );
        let fish = program("fish").args(["-c", &script]).env("XDG_CONFIG_HOME", &home);
        let output = fish.env("XDG_DATA_HOME", &home).env("HOME", &home).run().unwrap();
        let word = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        output.stdout.lines().map(word).collect::<Vec<_>>()
    };
    assert_eq!(complete("slurm-rollout st"), ["stage", "start", "status", "stop"]);
    assert_eq!(complete("slurm-rollout stage --d"), ["--dry-run"]);
    assert_eq!(complete("slurm-rollout config ch"), ["check"]);
    let man = generated.path().join("ma").display().to_string();
    assert_eq!(complete(&format!("slurm-rollout stage {man}")), [format!("{man}n/")]);
}
