//! The state that Slurm gives a node after its reboot, from `scontrol show node --json` (23.02 and later).
//!
//! At `scontrol reboot ASAP`, Slurm remembers in it whether the node had DRAIN already: it adds UNDRAIN only if not,
//! and without ASAP never (`_slurm_rpc_reboot_nodes` in `src/slurmctld/proc_req.c`, 22.05 to 26.05). The Reason and its
//! time do not tell, because the request and the hand-over overwrite them. `scontrol show node` prints RESUME in both
//! cases (`node_state_string` in `src/common/slurm_protocol_defs.c`), and only JSON has the flags.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Flag of a node that had no DRAIN at the request.
const UNDRAIN: &str = "UNDRAIN";
/// Printed if no state is set, beside flags that mean nothing.
const UNSET: &str = "INVALID";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    #[serde(default)]
    next_state_after_reboot: Vec<String>,
}

/// Returns for each node whether it had DRAIN when its reboot was requested. Nodes for which Slurm does not tell are
/// missing.
///
/// # Errors
/// Fails if this is no such JSON.
pub fn drained_at_request(json: &str) -> Result<BTreeMap<String, bool>, serde_json::Error> {
    let answer: Answer = serde_json::from_str(json)?;
    let tells = |node: &Node| {
        let next = &node.next_state_after_reboot;
        !next.is_empty() && !next.iter().any(|word| word == UNSET)
    };
    let drained = |node: Node| {
        let undrain = node.next_state_after_reboot.iter().any(|word| word == UNDRAIN);
        (node.name, !undrain)
    };
    Ok(answer.nodes.into_iter().filter(tells).map(drained).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_tells_who_drained_the_node() {
        let node = |name: &str, next: &str| {
            format!(
                r#"{{"name":"{name}","state":["DOWN","DRAIN"],"reason":"x","next_state_after_reboot":{next}}}"#
            )
        };
        let nodes = [
            node("asap", r#"["UNKNOWN","UNDRAIN","RESUME"]"#),
            node("before", r#"["UNKNOWN","RESUME"]"#),
            node("unset", r#"["INVALID","UNDRAIN","RESUME"]"#),
            node("empty", "[]"),
            r#"{"name":"missing"}"#.to_owned(),
        ];
        let json = format!(r#"{{"nodes":[{}],"last_update":{{"number":7}},"warnings":[]}}"#, nodes.join(","));
        let expected = [("asap".to_owned(), false), ("before".to_owned(), true)];
        assert_eq!(drained_at_request(&json).unwrap(), BTreeMap::from(expected));
        assert!(drained_at_request("scontrol: unrecognized option '--json'").is_err());
        assert!(drained_at_request("{}").unwrap().is_empty());
    }
}
