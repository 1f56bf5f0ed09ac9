//! Trial orders, sealed as RebootProgram seals: by SlurmUser. MUNGE takes the sealer from the kernel, so root has a
//! child process do it, which also needs SlurmUser's access to the configuration and the key.

use super::files;
use crate::failure::Failure;
use nix::unistd::geteuid;
use rollout_control::agents::seal::seal;
use rollout_control::config::Config;
use rollout_core::doctor::access::Identity;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_host::random;
use rollout_host::run::Output;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The verb of this program that the child runs.
pub(crate) const VERB: &str = "seal-probe";

/// A trial order that could not be sealed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSealed {
    /// SlurmUser cannot seal here.
    Refused(String),
    /// It was not tried, with the cause.
    NotTried(String),
}

/// Prints a sealed trial order to these nodes.
pub(crate) fn print(path: &Path, nodes: &str) -> Result<ExitCode, Failure> {
    println!("{}", sealed_here(&Config::load(path)?, &NodeSet::parse(nodes)?)?);
    Ok(ExitCode::SUCCESS)
}

/// Returns a trial order to these nodes, sealed by SlurmUser.
pub(super) fn sealed(
    path: &Path,
    config: &Config,
    who: &Identity,
    nodes: &NodeSet,
) -> Result<String, NotSealed> {
    if geteuid().as_raw() == who.uid {
        return sealed_here(config, nodes).map_err(|Failure(why)| NotSealed::Refused(why));
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/slurm-rollout"));
    let nodes = nodes.to_string();
    let argv: [&OsStr; 5] =
        [program.as_ref(), "--config".as_ref(), path.as_ref(), VERB.as_ref(), nodes.as_ref()];
    read(files::as_user(who, &argv).map_err(NotSealed::NotTried)?)
}

fn sealed_here(config: &Config, nodes: &NodeSet) -> Result<String, Failure> {
    Ok(seal(config, &Order::new(random::order_id(), nodes.clone(), OrderKind::Probe))?)
}

/// Returns what the child has printed.
fn read(output: Output) -> Result<String, NotSealed> {
    let sealed = output.stdout.trim();
    match output.status.success() && !sealed.is_empty() {
        true => Ok(sealed.to_owned()),
        false => {
            Err(NotSealed::Refused(output.stderr.trim().trim_start_matches("slurm-rollout: ").to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn a_child_that_fails_tells_why() {
        let output = |code: i32, stdout: &str, stderr: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert_eq!(read(output(0, "MUNGE:x:\n", "")), Ok("MUNGE:x:".to_owned()));
        let why = "the key /etc/slurm/slurm.key: Permission denied";
        let refused = Err(NotSealed::Refused(why.to_owned()));
        assert_eq!(read(output(1, "", &format!("slurm-rollout: {why}\n"))), refused);
    }

    #[test]
    fn a_child_that_cannot_be_started_tells_why() {
        let nobody = Identity { name: "no-such-user".to_owned(), uid: 4_242_424, gids: Vec::new() };
        let nodes = NodeSet::parse("n1").unwrap();
        let why = match sealed(Path::new("/c"), &Config::default(), &nobody, &nodes) {
            Err(NotSealed::NotTried(why)) => why,
            other => panic!("{other:?}"),
        };
        let expected = match geteuid().is_root() {
            true => "this host has no user no-such-user",
            false => "only root can become no-such-user",
        };
        assert_eq!(why, expected);
    }

    #[test]
    fn the_verb_is_hidden_and_takes_nodes() {
        use clap::{CommandFactory, Parser};
        use rollout_cli::args::{Args, Verb};
        let args = Args::parse_from(["slurm-rollout", "--config", "/c", VERB, "n[1-2]"]);
        assert!(matches!(args.verb, Verb::SealProbe { nodes } if nodes == "n[1-2]"));
        assert!(Args::command().find_subcommand(VERB).is_some_and(clap::Command::is_hide_set));
    }
}
