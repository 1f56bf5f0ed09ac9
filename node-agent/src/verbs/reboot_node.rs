//! A hand-over by slurmd. If slurmd runs RebootProgram, that is `reboot-node` on this node, which notifies the daemon
//! and exits. slurmd up to 25.11 is blocked until it has exited (`_rpc_reboot` holds its configuration's lock), so
//! the daemon accepts at once and asks Slurm about the hand-over afterwards.

use crate::config::Config;
use crate::log;
use crate::node_name;
use crate::slurm::node::SlurmNode;
use crate::verbs::client;
use rollout_core::controller::hand_over::{Request, handed_over};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{Answer, HAND_OVER_PATH, HandOverRequest};
use rollout_core::protocol::order::{GiveBack, LocalHandOver, Order, OrderKind, PlainReboot};
use rollout_core::slurm::drains::Drains;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::Reason;
use rollout_host::random;
use std::error::Error;
use std::process::ExitCode;

/// Passes a hand-over to the daemon, as `reboot-node`. If the daemon does not answer, sets the node's Reason in
/// Slurm, by which `slurm-rollout reconcile` finds the node.
pub(crate) fn notify_daemon(config: &Config, request: &HandOverRequest) -> Result<ExitCode, Box<dyn Error>> {
    let answer =
        client::exchange(config, &format!("POST {HAND_OVER_PATH}"), &serde_json::to_string(request)?)
            .and_then(|answer| Ok(serde_json::from_str(&answer)?));
    let why = match answer {
        Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => return Ok(ExitCode::SUCCESS),
        Ok(Answer::Refused { why, .. }) => why,
        Err(error) => error.to_string(),
    };
    let names = NodeSet::from_names([node_name::find(config)?.name.as_str()])?;
    let reason = Reason::not_ordered(&why, None);
    if let Err(error) = SlurmNode::new(config.clone(), names).set_reason_once(&reason) {
        log::error(&error);
    }
    Err(why.into())
}

/// Turns a hand-over into an order, by Slurm's view of this node. Fails if Slurm has not handed the node over. If Slurm
/// cannot be asked, slurmd's request is trusted.
pub(crate) fn order_for(
    request: &HandOverRequest,
    node: &NodeSet,
    slurm: Result<NodeInfo, String>,
) -> Result<Order, &'static str> {
    let (nodes, features) = (node.clone(), request.features.clone());
    let hand_over = Request { nodes, features, plain: request.plain, ..Request::default() };
    let infos = slurm.map(|info| vec![info]).inspect_err(|why| {
        log::warning(&format!("Slurm cannot be asked, going by slurmd's word: {why}"));
    });
    let (mut handed_over, skipped) = handed_over(&hand_over, infos.as_deref().ok(), &Drains::new());
    let Some(handed) = handed_over.pop() else {
        return Err(skipped.keys().next().map_or("no such node", |why| why.describe()));
    };
    // Only the controller knows the drains from before the reboot.
    let give_back = GiveBack { resume_if_late: handed.returns_by_itself, drained: handed.drained };
    let plain = PlainReboot { give_back, features: request.features.clone() };
    let kind = OrderKind::LocalHandOver(LocalHandOver { apply: !handed.plain, plain });
    Ok(Order::new(random::order_id(), node.clone(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_says_decides_what_a_hand_over_is() {
        let node = NodeSet::parse("n1").unwrap();
        let info = |state: &str| {
            let state = state.split('+').map(str::to_owned).collect();
            Ok(NodeInfo { name: "n1".into(), state, ..NodeInfo::default() })
        };
        let plain = HandOverRequest { plain: true, ..HandOverRequest::default() };
        let for_a_job = HandOverRequest { features: Some("knl".into()), plain: false };
        for (request, slurm, apply) in [
            (HandOverRequest::default(), info("DOWN+REBOOT_ISSUED"), Some(true)),
            (plain, info("DOWN+REBOOT_ISSUED"), Some(false)),
            (for_a_job, Err("timed out".to_owned()), Some(false)),
            (HandOverRequest::default(), info("ALLOCATED+POWERING_UP"), Some(false)),
            (HandOverRequest::default(), info("ALLOCATED+POWERING_UP+REBOOT_ISSUED"), Some(false)),
            (HandOverRequest::default(), Err("timed out".to_owned()), Some(true)),
            (HandOverRequest::default(), info("MIXED"), None),
        ] {
            let order = order_for(&request, &node, slurm.clone());
            let found = order.ok().map(|order| match order.kind {
                OrderKind::LocalHandOver(handed) => handed.apply,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, apply, "{request:?} {slurm:?}");
        }
    }
}
