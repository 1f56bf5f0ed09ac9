//! `power off` and `power cycle`: the nodes whose power may be cut, by Slurm's account of them.

use crate::hostlist::NodeSet;
use crate::slurm::jobs::{Job, by_node};
use crate::slurm::node::NodeInfo;
use std::collections::BTreeMap;

/// Number of jobs that a message names for each group of nodes.
const MAX_JOBS: usize = 8;

/// States in which no job starts on a node until somebody acts.
const OUT_OF_SERVICE: [&str; 5] = ["DOWN", "DRAIN", "FAIL", "FUTURE", "EXTERNAL"];

/// States and flags of a node with jobs, or with what is left of them.
const WITH_JOBS: [&str; 3] = ["ALLOCATED", "MIXED", "COMPLETING"];

/// The reason for not cutting the power of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Slurm does not show the node.
    Unknown,
    HasJobs,
    /// Slurm has handed it over for a reboot: its agent may be changing packages.
    HandedOver,
    /// Jobs can start on it at any moment.
    InService,
}

/// Returns the reasons of nodes whose power may not be cut. `known` and `jobs` are all that Slurm shows.
#[must_use]
pub fn kept_on(nodes: &NodeSet, known: &[NodeInfo], jobs: &[Job]) -> BTreeMap<Keeps, NodeSet> {
    let known: BTreeMap<&str, &NodeInfo> = known.iter().map(|node| (node.name.as_str(), node)).collect();
    let with_jobs = by_node(jobs);
    let mut kept: BTreeMap<Keeps, Vec<String>> = BTreeMap::new();
    for name in nodes.iter() {
        let why = match known.get(name) {
            None => Some(Keeps::Unknown),
            Some(node) => keeps(node, with_jobs.contains_key(name)),
        };
        if let Some(why) = why {
            kept.entry(why).or_default().push(name.to_owned());
        }
    }
    kept.into_iter().map(|(why, names)| (why, names.into_iter().collect())).collect()
}

fn keeps(node: &NodeInfo, has_jobs: bool) -> Option<Keeps> {
    let has = |words: &[&str]| words.iter().any(|word| node.has(word));
    if has_jobs || has(&WITH_JOBS) {
        return Some(Keeps::HasJobs);
    }
    if node.is_handed_over() {
        return Some(Keeps::HandedOver);
    }
    (!has(&OUT_OF_SERVICE)).then_some(Keeps::InService)
}

/// Returns a line for each reason, with the nodes and the remedy.
#[must_use]
pub fn refusals(kept: &BTreeMap<Keeps, NodeSet>, jobs: &[Job]) -> Vec<String> {
    let line = |(why, nodes): (&Keeps, &NodeSet)| match why {
        Keeps::Unknown => format!("{nodes}: Slurm has no such nodes: `sinfo -N` lists them"),
        Keeps::HasJobs => format!(
            "{nodes}: {}: `scontrol update nodename={nodes} state=drain reason=power`, and wait until they are drained",
            describe_jobs(nodes, jobs)
        ),
        Keeps::HandedOver => format!(
            "{nodes}: being rebooted or changed: see `slurm-rollout status -N {nodes}`, and wait until they are back or lost"
        ),
        Keeps::InService => format!(
            "{nodes}: in service, jobs can start at any moment: `scontrol update nodename={nodes} state=drain reason=power`"
        ),
    };
    kept.iter().map(line).collect()
}

fn describe_jobs(nodes: &NodeSet, jobs: &[Job]) -> String {
    let on_them = |job: &&Job| job.holds_nodes() && !job.nodes.intersection(nodes).is_empty();
    let ids: Vec<String> = jobs.iter().filter(on_them).map(|job| job.id.to_string()).collect();
    match ids.len() {
        0 => "jobs, or what is left of them".to_owned(),
        1..=MAX_JOBS => format!("jobs {}", ids.join(", ")),
        count => format!("jobs {} and {} more", ids[..MAX_JOBS].join(", "), count - MAX_JOBS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::jobs::parse_jobs;

    fn node(name: &str, state: &str) -> NodeInfo {
        let state = state.split('+').map(str::to_owned).collect();
        NodeInfo { name: name.to_owned(), state, ..NodeInfo::default() }
    }

    fn kept(state: &str) -> Option<Keeps> {
        kept_on(&NodeSet::parse("n1").unwrap(), &[node("n1", state)], &[]).into_keys().next()
    }

    #[test]
    fn only_nodes_out_of_service_may_lose_their_power() {
        for (state, expected) in [
            ("IDLE+DRAIN", None),
            ("DOWN", None),
            ("DOWN+DRAIN+NOT_RESPONDING", None),
            ("DOWN+POWERED_DOWN", None),
            ("IDLE+FAIL", None),
            ("FUTURE", None),
            ("IDLE", Some(Keeps::InService)),
            ("IDLE+NOT_RESPONDING", Some(Keeps::InService)),
            ("IDLE+MAINTENANCE", Some(Keeps::InService)),
            ("IDLE+RESERVED", Some(Keeps::InService)),
            ("IDLE+POWERED_DOWN", Some(Keeps::InService)),
            ("UNKNOWN", Some(Keeps::InService)),
            ("SOMETHING_NEW", Some(Keeps::InService)),
            ("", Some(Keeps::InService)),
            ("ALLOCATED", Some(Keeps::HasJobs)),
            ("ALLOCATED+DRAIN", Some(Keeps::HasJobs)),
            ("MIXED+DRAIN", Some(Keeps::HasJobs)),
            ("IDLE+COMPLETING+DRAIN", Some(Keeps::HasJobs)),
            ("DOWN+REBOOT_ISSUED", Some(Keeps::HandedOver)),
            ("DOWN+POWERING_UP", Some(Keeps::HandedOver)),
        ] {
            assert_eq!(kept(state), expected, "{state}");
        }
    }

    #[test]
    fn a_suspended_job_keeps_its_nodes_on_and_each_reason_has_its_nodes_and_a_remedy() {
        let jobs = parse_jobs("148|148|S|0|5|9|5:00|batch|n2|\n149|149|PD|0|5|9|5:00|batch||\n").items;
        let known = [
            node("n1", "IDLE"),
            node("n2", "IDLE+DRAIN"),
            node("n3", "IDLE+DRAIN"),
            node("n4", "DOWN+REBOOT_ISSUED"),
        ];
        let nodes = NodeSet::parse("n[1-5]").unwrap();
        let kept = kept_on(&nodes, &known, &jobs);
        let lines = refusals(&kept, &jobs);
        assert_eq!(lines.len(), 4, "{lines:?}");
        for (line, parts) in lines.iter().zip([
            ["n5: Slurm has no such nodes", "sinfo -N"],
            ["n2: jobs 148: ", "scontrol update nodename=n2 state=drain"],
            ["n4: being rebooted", "slurm-rollout status -N n4"],
            ["n1: in service", "scontrol update nodename=n1 state=drain"],
        ]) {
            assert!(line.starts_with(parts[0]) && line.contains(parts[1]), "{line}");
        }
        assert!(kept_on(&NodeSet::parse("n3").unwrap(), &known, &jobs).is_empty());
    }

    #[test]
    fn not_all_of_many_jobs_are_named() {
        let text: String = (1..=20).map(|id| format!("{id}|{id}|R|0|5|9|5:00|batch|n1|\n")).collect();
        let jobs = parse_jobs(&text).items;
        let kept = kept_on(&NodeSet::parse("n1").unwrap(), &[node("n1", "MIXED")], &jobs);
        assert!(refusals(&kept, &jobs)[0].contains("jobs 1, 2, 3, 4, 5, 6, 7, 8 and 12 more"));
        assert!(refusals(&kept, &[])[0].contains("n1: jobs, or what is left of them"));
    }
}
