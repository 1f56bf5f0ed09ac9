//! Sending the orders that got lost: Slurm runs RebootProgram once for a node, marks the node first, and never asks again,
//! whether the program was killed with slurmctld, could not be started, or found the agent dead (22.05 to 26.05).

use crate::config::Config;
use crate::hand_over::{Report, hand_over};
use crate::store::{Store, StoreError};
use rollout_core::hand_over::Request;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm_config::SlurmConfig;
use rollout_host::run::RunError;
use std::path::Path;
use std::time::Instant;

/// Our program's name, wherever a site has put it.
const OUR_PROGRAM: &str = "reboot-program";

/// Why nobody knows whether anything is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// Slurm cannot be asked.
    #[error("Slurm cannot be asked: {0}")]
    Slurm(#[from] RunError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of looking for lost orders.
#[derive(Debug)]
pub enum Reconciled {
    /// No order is lost.
    NothingLost,
    /// These nodes wait for a reboot that is not ours to do: so Slurm's RebootProgram says.
    NotOurs {
        /// The nodes.
        nodes: NodeSet,
        /// In words.
        why: String,
    },
    /// These nodes were ordered now, or it was tried.
    Ordered {
        /// The nodes.
        nodes: NodeSet,
        /// What came of it.
        report: Report,
    },
}

/// Looks for nodes that Slurm shows as being rebooted and that nobody told so, and hands them over as RebootProgram does.
/// Where no node is being rebooted this is one scontrol call and nothing else.
///
/// # Errors
/// If Slurm or the state directory cannot be read.
pub fn reconcile(config: &Config, by: &str) -> Result<Reconciled, ReconcileError> {
    let begun = Instant::now();
    let mut infos = config.scontrol().show_all_nodes()?;
    infos.retain(|info| info.has("REBOOT_ISSUED"));
    if infos.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let nodes = Store::read_only(&config.state_dir).lost(&infos)?;
    if nodes.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let plain = match way(&config.scontrol().show_config()?) {
        Ok(plain) => plain,
        Err(why) => return Ok(Reconciled::NotOurs { nodes, why }),
    };
    let request = Request { nodes, features: None, plain };
    let report = hand_over(config, by, &request, begun);
    Ok(Reconciled::Ordered { nodes: request.nodes, report })
}

/// Whether Slurm has our program reboot nodes, and if so, whether it only reboots them. With actions of Slurm 26.05
/// nobody knows which action was lost: the one that changes less is taken.
fn way(slurm: &SlurmConfig) -> Result<bool, String> {
    let Some(program) = slurm.get("RebootProgram") else {
        return Err("Slurm has no RebootProgram".to_owned());
    };
    let mut words = program.split_whitespace();
    let first = Path::new(words.next().unwrap_or_default());
    // What is no path is the name of a PowerAction, whose program Slurm does not tell.
    if first.is_absolute() {
        if first.file_name().is_none_or(|name| name != OUR_PROGRAM) {
            return Err(format!("RebootProgram is {program}"));
        }
        if !slurm.reboots_from_controller() {
            return Err(
                "slurmd runs RebootProgram: SlurmctldParameters has no reboot_from_controller".to_owned()
            );
        }
    }
    Ok(words.any(|word| word == "--plain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reboots_that_are_ours_are_done() {
        let controller = "SlurmctldParameters = reboot_from_controller\n";
        for (program, parameters, expected) in [
            ("/usr/libexec/slurm-rollout/reboot-program", controller, Ok(false)),
            ("/opt/rollout/reboot-program --config /etc/x.toml", controller, Ok(false)),
            ("/usr/libexec/slurm-rollout/reboot-program --plain", controller, Ok(true)),
            ("rollout", "", Ok(false)),
            ("/usr/libexec/slurm-rollout/reboot-program", "", Err("no reboot_from_controller")),
            ("/usr/sbin/reboot", controller, Err("RebootProgram is /usr/sbin/reboot")),
            ("(null)", controller, Err("no RebootProgram")),
        ] {
            let slurm = SlurmConfig::parse(&format!("RebootProgram = {program}\n{parameters}"));
            match (way(&slurm), expected) {
                (Ok(plain), Ok(expected)) => assert_eq!(plain, expected, "{program}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, _) => panic!("{program}: {found:?}"),
            }
        }
    }
}
