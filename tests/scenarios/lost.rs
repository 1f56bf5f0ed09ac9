//! A node that accepts its order and does not come back is lost: nobody has to look for that to be known, and it ends
//! by itself when the node returns.

use crate::prelude::*;

fn history(site: &Site) -> Result<String> {
    Ok(site.rollout(&["history"])?.stdout)
}

#[test]
fn a_node_that_loses_power_after_its_order() {
    let change = |root: &NodeRoot| match root.is_controller() {
        true => root.enable_units(&[RECONCILE_TIMER]),
        false => Ok(()),
    };
    let spec = ClusterSpec { resume_timeout_s: 5, prepare: prepare(change), ..nodes(2) };
    let site = Site::with_tool(&Product::build_with_failpoints().unwrap(), spec).unwrap();
    let cn02 = site.cluster.node("cn02");
    site.stage(Manifest::tool("1.1").nodes("cn[01-02]")).unwrap();
    cn02.write_file(FAILPOINT, "applied", 0o644).unwrap();
    site.reboot("cn[01-02]").unwrap();
    until("the changes are made", MINUTES, || cn02.exec(&["test", "-e", AT_FAILPOINT]), Output::success)
        .unwrap();
    cn02.power_cut();
    // Nobody runs status, and the journals have the end of one node and the loss of the other.
    let both = |history: &String| history.contains("1 lost") && history.contains("1 updated");
    until("both outcomes in history", MINUTES, || history(&site), both).unwrap();
    let note = site.wait_phase("tool-1.1", "cn02", "lost").unwrap();
    assert!(note.contains("Slurm gave up waiting for its reboot"), "{note}");
    assert_eq!(site.rollout(&["status", "tool-1.1"]).unwrap().code, Some(3));
    let found = site.rollout(&["doctor"]).unwrap();
    assert_eq!(found.code, Some(3), "{found:?}");
    assert!(found.stdout.contains("cn02: lost in tool-1.1"), "{}", found.stdout);
    let refused = site.rollout(&["archive", "tool-1.1"]).unwrap();
    assert!(!refused.success() && refused.stderr.contains("tool-1.1: not over yet"), "{refused:?}");

    // It goes on with its ledger. The rollout is over then, and stays in history.
    cn02.exec(&["rm", "-f", FAILPOINT, AT_FAILPOINT]).ok();
    cn02.power_on();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    until("both ends in history", MINUTES, || history(&site), |history| history.contains("2 updated"))
        .unwrap();
    let closed = format!("{CONTROLLER_STATE_DIR}/closed/tool-1.1");
    let is_closed = || site.cluster.controller().exec(&["test", "-e", &closed]);
    until("the rollout is closed", MINUTES, is_closed, Output::success).unwrap();
    site.wait_phase("tool-1.1", "cn02", "updated").unwrap();
    let archived = site.rollout(&["archive", "tool-1.1"]).unwrap().into_stdout().unwrap();
    assert_eq!(archived, "tool-1.1: archived\n");
    assert!(!history(&site).unwrap().contains("tool-1.1"));
}
