//! A hand-over by slurmd: where slurmd runs RebootProgram, that is `reboot-node` on this node, which tells the daemon and
//! is gone. slurmd up to 25.11 stands still until it is (`_rpc_reboot` holds its configuration's lock), so the daemon
//! says yes at once and asks Slurm afterwards what it is about.

use crate::config::Config;
use crate::log;
use crate::node;
use crate::slurm::node::SlurmNode;
use crate::verbs::client;
use rollout_core::controller::hand_over::{Request, handed_over};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{Answer, HAND_OVER_PATH, HandOverRequest};
use rollout_core::protocol::order::{GiveBack, LocalHandOver, Order, OrderKind, PlainReboot};
use rollout_core::slurm::drains::Drains;
use rollout_core::slurm::node::{NodeInfo, not_ordered};
use rollout_host::random;
use std::error::Error;
use std::process::ExitCode;

/// The name under which the agent is slurmd's RebootProgram.
pub(crate) const REBOOT_NODE: &str = "reboot-node";

/// OrderKind `reboot-node` does. Where the daemon does not answer, Slurm is told, and `slurm-rollout
/// reconcile` finds the node by that.
pub(crate) fn tell_the_daemon(config: &Config, what: &HandOverRequest) -> Result<ExitCode, Box<dyn Error>> {
    let told = client::exchange(config, &format!("POST {HAND_OVER_PATH}"), &serde_json::to_string(what)?)
        .and_then(|answer| Ok(serde_json::from_str(&answer)?));
    let why = match told {
        Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => return Ok(ExitCode::SUCCESS),
        Ok(Answer::Refused { why, .. }) => why,
        Err(error) => error.to_string(),
    };
    let names = NodeSet::from_names([node::name(config)?.as_str()])?;
    if let Err(error) = SlurmNode::new(config.clone(), names).say_once(&not_ordered(&why)) {
        log::error(&error);
    }
    Err(why.into())
}

/// The order that a hand-over is, by what Slurm says of this node: none of a node that it has not handed over. Where
/// Slurm cannot be asked, slurmd's word has to do.
pub(crate) fn order_of(
    what: &HandOverRequest,
    me: &NodeSet,
    slurm: Result<NodeInfo, String>,
) -> Result<Order, &'static str> {
    let (nodes, features) = (me.clone(), what.features.clone());
    let request = Request { nodes, features, plain: what.plain, ..Request::default() };
    let infos = slurm.map(|info| vec![info]).inspect_err(|why| {
        log::warning(&format!("Slurm cannot be asked, going by slurmd's word: {why}"));
    });
    let (mut taken, skipped) = handed_over(&request, infos.as_deref().ok(), &Drains::new());
    let Some(handed) = taken.pop() else {
        return Err(skipped.keys().next().map_or("no such node", |why| why.describe()));
    };
    // What was there before only the controller knows.
    let back = GiveBack { resume_if_late: handed.returns_by_itself, drained: handed.drained };
    let plain = PlainReboot { give_back: back, features: what.features.clone() };
    let what = OrderKind::LocalHandOver(LocalHandOver { apply: !handed.plain, plain });
    Ok(Order::new(random::order_id(), me.clone(), what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_says_decides_what_a_hand_over_is() {
        let me = NodeSet::parse("n1").unwrap();
        let info = |state: &str| {
            let state = state.split('+').map(str::to_owned).collect();
            Ok(NodeInfo { name: "n1".into(), state, ..NodeInfo::default() })
        };
        let plain = HandOverRequest { plain: true, ..HandOverRequest::default() };
        let for_a_job = HandOverRequest { features: Some("knl".into()), plain: false };
        for (what, slurm, apply) in [
            (HandOverRequest::default(), info("DOWN+REBOOT_ISSUED"), Some(true)),
            (plain, info("DOWN+REBOOT_ISSUED"), Some(false)),
            (for_a_job, Err("timed out".to_owned()), Some(false)),
            (HandOverRequest::default(), info("ALLOCATED+POWERING_UP"), Some(false)),
            (HandOverRequest::default(), info("ALLOCATED+POWERING_UP+REBOOT_ISSUED"), Some(false)),
            (HandOverRequest::default(), Err("timed out".to_owned()), Some(true)),
            (HandOverRequest::default(), info("MIXED"), None),
        ] {
            let order = order_of(&what, &me, slurm.clone());
            let found = order.ok().map(|order| match order.kind {
                OrderKind::LocalHandOver(handed) => handed.apply,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, apply, "{what:?} {slurm:?}");
        }
    }
}
