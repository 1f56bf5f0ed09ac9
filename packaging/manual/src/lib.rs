//! The manual of slurm-rollout: manual pages and shell completions, generated from the help texts of the programs, the
//! shipped configuration files and `packaging/man/*.md`. Each fact has one source.

pub mod command;
pub mod completions;
pub mod help;
pub mod markdown;
pub mod page;
pub mod shipped_config;

use clap::CommandFactory;
use page::Page;
use rollout_cli::args::Args;

/// A failure to generate the manual.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManualError {
    /// The file of this page does not begin with the page's name.
    #[error("packaging/man: the page of {0} does not begin with `# {0} - summary`")]
    NoName(String),
    /// A page includes a file that this crate does not embed.
    #[error("no source {0:?}: name it in packaging/manual/src/lib.rs")]
    NoSource(String),
}

/// Returns the text of a file of the repository that pages are generated from.
fn source(path: &str) -> Result<&'static str, ManualError> {
    Ok(match path {
        "docs/power.md" => include_str!("../../../docs/power.md"),
        "docs/manifest.md" => include_str!("../../../docs/manifest.md"),
        "node-agent/src/verbs/help.txt" => include_str!("../../../node-agent/src/verbs/help.txt"),
        "reboot-program/src/help.txt" => include_str!("../../../reboot-program/src/help.txt"),
        "packaging/config/agent.toml" => include_str!("../../config/agent.toml"),
        "packaging/config/controller.toml" => include_str!("../../config/controller.toml"),
        "packaging/man/slurm-rollout.1.md" => include_str!("../../man/slurm-rollout.1.md"),
        _ => return Err(ManualError::NoSource(path.to_owned())),
    })
}

/// Generates all manual pages.
///
/// # Errors
/// If a page's file lacks its name or includes an unknown file.
pub fn pages() -> Result<Vec<Page>, ManualError> {
    let mut pages = command::pages(Args::command())?;
    for (name, number, text) in [
        ("slurm-rollout-manifest", 5, include_str!("../../man/slurm-rollout-manifest.5.md")),
        ("slurm-rollout-controller.toml", 5, include_str!("../../man/slurm-rollout-controller.toml.5.md")),
        ("slurm-rollout-agent.toml", 5, include_str!("../../man/slurm-rollout-agent.toml.5.md")),
        ("slurm-rollout-agent", 8, include_str!("../../man/slurm-rollout-agent.8.md")),
        ("slurm-rollout-reboot-program", 8, include_str!("../../man/slurm-rollout-reboot-program.8.md")),
    ] {
        pages.push(markdown::page(name, number, text)?);
    }
    Ok(pages)
}
