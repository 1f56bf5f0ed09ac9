//! Logging: lines on standard error, with the priority as journald reads it (`<4>`). Idle, the agent says nothing.

pub(crate) fn info(text: &str) {
    eprintln!("<6>{text}");
}

pub(crate) fn warning(text: &str) {
    eprintln!("<4>{text}");
}

pub(crate) fn error(text: &str) {
    use std::io::IsTerminal;
    let mark = if std::io::stderr().is_terminal() { "slurm-rollout-agent: " } else { "<3>" };
    eprintln!("{mark}{text}");
}
