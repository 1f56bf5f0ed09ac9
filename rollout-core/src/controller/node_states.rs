//! Nodes that `scontrol reboot` does not reach, or not as one node: found when a rollout is staged for them.

use crate::hostlist::NodeSet;
use crate::slurm::node::NodeInfo;
use std::collections::BTreeMap;

/// Flags of nodes that `scontrol reboot` passes over without an error (`_slurm_rpc_reboot_nodes`, 22.05 to 26.05).
const OFF: [&str; 3] = ["POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"];
/// Base state and flag of nodes that no host has registered for.
const FUTURE: [&str; 2] = ["FUTURE", "DYNAMIC_FUTURE"];
/// Flags of nodes that a new instance may take the place of.
const FLEETING: [&str; 2] = ["CLOUD", "DYNAMIC_NORM"];

/// Returns a warning for each kind of node that does not get its change by `scontrol reboot` alone.
#[must_use]
pub fn doubts(nodes: &[NodeInfo]) -> Vec<String> {
    let with = |flags: &[&str], without: &[&str]| -> NodeSet {
        let has = |node: &NodeInfo, flags: &[&str]| flags.iter().any(|flag| node.has(flag));
        let found = nodes.iter().filter(|node| has(node, flags) && !has(node, without));
        found.map(|node| node.name.clone()).collect()
    };
    let off = |list: &NodeSet| {
        format!(
            "{list}: powered down, and `scontrol reboot` passes them over. They would come back as they were and take \
             jobs. Run `scontrol update nodename={list} state=power_up`, and the `scontrol reboot ASAP` as soon as they \
             are POWERING_UP: they then get their change before any job"
        )
    };
    let future = |list: &NodeSet| {
        format!("{list}: Slurm has no host for them yet (FUTURE), and `scontrol reboot` passes them over")
    };
    let fleeting = |list: &NodeSet| {
        format!(
            "{list}: CLOUD or dynamic nodes: an instance that is made anew starts from its image, without the change. \
             Change the image as well"
        )
    };
    let mut doubts = Vec::new();
    for (list, describe) in [
        (with(&OFF, &FUTURE), off as fn(&NodeSet) -> String),
        (with(&FUTURE, &[]), future),
        (with(&FLEETING, &FUTURE), fleeting),
    ] {
        if !list.is_empty() {
            doubts.push(describe(&list));
        }
    }
    doubts
}

/// Refuses nodes whose host has several slurmds: a reboot of one takes the jobs of the others, of which Slurm has
/// drained none. `all` are the nodes that Slurm has.
///
/// # Errors
/// The nodes on one host, in words.
pub fn check_one_slurmd_per_host(nodes: &NodeSet, all: &[NodeInfo]) -> Result<(), String> {
    let mut by_host: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // A node that nothing has registered for has no host of its own yet.
    for node in all.iter().filter(|node| !node.host.is_empty() && !FUTURE.iter().any(|flag| node.has(flag))) {
        by_host.entry(&node.host).or_default().push(&node.name);
    }
    let shared =
        by_host.iter().find(|(_, names)| names.len() > 1 && names.iter().any(|name| nodes.contains(name)));
    let Some((host, names)) = shared else { return Ok(()) };
    let names: NodeSet = names.iter().map(|name| (*name).to_owned()).collect();
    Err(format!(
        "{names} are on one host, {host} (NodeHostName): a reboot of one node would kill the jobs of the others. Several \
         slurmds on a host are not supported"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, host: &str, state: &str) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            host: host.to_owned(),
            state: state.split('+').map(str::to_owned).collect(),
            ..NodeInfo::default()
        }
    }

    #[test]
    fn nodes_that_a_reboot_passes_over_are_reported() {
        let nodes = [
            node("n1", "n1", "IDLE"),
            node("n2", "n2", "IDLE+POWERED_DOWN"),
            node("n3", "n3", "IDLE+CLOUD+POWERED_DOWN"),
            node("n4", "n4", "IDLE+CLOUD+POWERING_UP"),
            node("n5", "n5", "FUTURE"),
            node("n6", "n6", "IDLE+DYNAMIC_NORM"),
            node("n7", "n7", "IDLE+POWERING_DOWN"),
        ];
        let doubts: Vec<_> =
            doubts(&nodes).iter().map(|doubt| doubt.split(':').next().unwrap().to_owned()).collect();
        assert_eq!(doubts, ["n[2-3,7]", "n5", "n[3-4,6]"]);
        assert!(super::doubts(&nodes[..1]).is_empty());
    }

    #[test]
    fn several_slurmds_on_one_host_are_refused() {
        let all = [
            node("n1", "rack7-u12", "IDLE"),
            node("n2", "big", "IDLE"),
            node("n3", "big", "IDLE"),
            node("n4", "", "IDLE"),
            node("n5", "", "IDLE"),
            node("f1", "f", "FUTURE"),
            node("f2", "f", "FUTURE"),
        ];
        for (nodes, refused) in
            [("n1", false), ("n[4-5]", false), ("f1", false), ("n2", true), ("n[1,3]", true)]
        {
            let nodes = NodeSet::parse(nodes).unwrap();
            let checked = check_one_slurmd_per_host(&nodes, &all);
            assert_eq!(checked.is_err(), refused, "{nodes} {checked:?}");
            assert!(checked.err().is_none_or(|why| why.starts_with("n[2-3] are on one host, big")));
        }
    }
}
