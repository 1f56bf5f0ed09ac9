//! Output of scontrol, and slurm.conf. Slurm is trusted, but its users write Comments, and its versions differ in keys.

use rollout_core::controller::hand_over::{Request, handed_over};
use rollout_core::controller::lost_orders::lost_orders;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::doctor::slurm::power_action;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::{Release, SlurmConfig};
use rollout_core::slurm::drains::{CuredByReboot, Drains, observe};
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_core::slurm::next_state::drained_at_request;
use rollout_core::slurm::node::parse::parse_nodes;
use rollout_core::slurm::reason::Reason;

/// Checks a text as output of scontrol and as slurm.conf.
pub(crate) fn scontrol(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    nodes(&text);
    let _ = drained_at_request(&text);
    let config = SlurmConfig::parse(&text);
    let _ = (config.resume_timeout(), config.slurm_user(), config.controllers(), HandOverMode::of(&config));
    let _ = config.version().and_then(Release::parse);
    if let Some(action) = power_action(&text, "rollout") {
        assert!(!action.program.contains('\n'), "{action:?}");
    }
}

fn nodes(text: &str) {
    let nodes = parse_nodes(text);
    for node in &nodes {
        assert!(
            !node.address.contains('\n') && (!node.address.is_empty() || node.name.is_empty()),
            "{node:?}"
        );
        let given = node.reason.clone().unwrap_or_default();
        let ours = Reason::ours("driver", &given).replacing(node.reason.as_deref()).to_string();
        assert!(Reason::classify(&ours).is_ours() && ours.chars().count() < 400, "{ours:?}");
        super::assert_one_line(&ours);
        // Neither can be true of a node that Slurm waits for.
        let done = node.timed_out_waiting_for_our_reboot() || node.is_drained_by_us();
        assert!(!(done && node.is_handed_over()), "{node:?}");
        let _ = (node.returns_by_itself(), node.is_rebooted_for_a_job(), node.handed_over_s());
    }
    let ours = Request { nodes: NodeSet::parse("cn[01-03]").unwrap(), ..Request::default() };
    let words = ["Kill task failed".to_owned(), "root".to_owned()];
    let cured = CuredByReboot { reasons: &words[..1], by: &words[1..] };
    let requested = std::collections::BTreeMap::new();
    let drains = observe(&Drains::new(), &nodes, &requested, &cured);
    assert_eq!(observe(&drains, &nodes, &requested, &cured), drains, "nothing has happened in between");
    let (taken, skipped) = handed_over(&ours, Some(&nodes), &drains);
    assert_eq!(taken.len() + skipped.values().map(Vec::len).sum::<usize>(), 3);
    for handed in taken {
        assert!(nodes.iter().any(|node| node.name == handed.node && node.is_handed_over()), "{handed:?}");
    }
    // RebootProgram is run again for these nodes.
    for lost in lost_orders(&nodes, &Snapshot::default(), u64::MAX) {
        assert!(nodes.iter().any(|node| node.name == lost.node && node.is_handed_over()), "{lost:?}");
    }
}
