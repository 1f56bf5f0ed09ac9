//! Output of squeue and of `scontrol show part` and `show res`, with the conclusions for a node.

use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::availability::Availability;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::jobs::{FreeAt, JobEnds, by_node, free_at, parse_jobs};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::node::parse::parse_nodes;
use rollout_core::slurm::parsed::Parsed;
use rollout_core::slurm::partitions::{parse_partitions, resume_timeout_of};
use rollout_core::slurm::reservations::parse_reservations;

/// Checks a text as output of squeue and, line by line, as partitions, reservations, nodes and configuration.
pub(crate) fn jobs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let jobs = parse_jobs(&text);
    assert_reported(&jobs);
    let lines = text.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(jobs.items.len() + jobs.unread.len(), lines, "every line is read or reported");
    let (partitions, reservations) = (parse_partitions(&text), parse_reservations(&text));
    assert_reported(&partitions);
    assert_reported(&reservations);
    for reservation in &reservations.items {
        assert!(!reservation.name.is_empty() && !reservation.is_active(reservation.end_s));
        assert_nodes(&reservation.nodes);
    }
    let config = SlurmConfig::parse(&text);
    let ends = JobEnds::new(&config, &partitions.items);
    for partition in &partitions.items {
        assert_nodes(&partition.nodes);
    }
    for (name, held) in by_node(&jobs.items) {
        assert!(held.iter().all(|job| job.holds_nodes() && job.nodes.contains(name)));
        let _ = resume_timeout_of(name, &config, &partitions.items);
        for now_s in [0, 1_793_527_500, u64::MAX] {
            match free_at(&NodeInfo::default(), &held, &ends, now_s) {
                FreeAt::Now => panic!("{name} has jobs"),
                FreeAt::At(end_s) => assert!(end_s >= now_s),
                FreeAt::Unknown(why) => crate::assert_one_line(&why.to_string()),
            }
        }
        for job in held {
            assert!(job.id.target().is_none_or(|target| !target.starts_with('-')));
        }
    }
    for node in parse_nodes(&text) {
        let out = ["DOWN", "DRAIN", "FAIL", "REBOOT_ISSUED"].iter().any(|state| node.has(state));
        assert!(!(out && Availability::of(&node).is_available()), "{node:?}");
    }
}

fn assert_reported<T>(parsed: &Parsed<T>) {
    for unread in &parsed.unread {
        let text = unread.to_string();
        crate::assert_one_line(&text);
        assert!(text.len() < 4000, "{text}");
    }
}

/// Asserts that the nodes can be passed on to scontrol.
fn assert_nodes(nodes: &NodeSet) {
    if !nodes.is_empty() {
        assert_eq!(NodeSet::parse(&nodes.to_string()).as_ref(), Ok(nodes));
    }
}
