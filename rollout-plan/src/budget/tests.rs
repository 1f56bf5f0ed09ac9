use super::*;
use rollout_core::slurm::partitions::parse_partitions;

const PARTITIONS: &str = "\
PartitionName=batch Nodes=n[1-6] State=UP\n\
PartitionName=gpu Nodes=n[5-6] State=UP ResumeTimeout=900\n\
PartitionName=big Nodes=n7 State=UP ResumeTimeout=INFINITE\n\
PartitionName=other Nodes=n[8-9] State=UP ResumeTimeout=GLOBAL\n";

fn expected(takes_s: u64) -> Expected {
    let (node, rollout) = ("n3".to_owned(), "old".to_owned());
    Expected { takes_ms: takes_s * 1000, visits: 12, node, rollout, same_kinds: true }
}

/// Returns each doubt as its kind, its nodes and whether it refuses.
fn found(config: &str, nodes: &str, takes_s: Option<u64>, limits_s: u64) -> Vec<String> {
    let (config, partitions) = (SlurmConfig::parse(config), parse_partitions(PARTITIONS).items);
    let settings = Settings { config: &config, partitions: &partitions };
    let (nodes, expected) = (NodeSet::parse(nodes).unwrap(), takes_s.map(expected));
    let doubts = doubts(&nodes, Some(settings), expected.as_ref(), Duration::from_secs(limits_s));
    let word = |doubt: &Doubt| match doubt {
        Doubt::TooShort { part, .. } => format!("too short {}", part.nodes),
        Doubt::LimitsLonger { part, .. } => format!("limits {}", part.nodes),
        Doubt::NotKnown { nodes } => format!("not known {nodes}"),
    };
    doubts.iter().map(|doubt| format!("{}{}", word(doubt), if doubt.refuses() { "!" } else { "" })).collect()
}

#[test]
fn the_expected_time_refuses_and_the_limits_alone_warn() {
    for (timeout, takes_s, limits_s, expected) in [
        ("600 sec", None, 600, &[][..]),
        ("600 sec", None, 601, &["limits n[1-2]"]),
        ("600 sec", Some(601), 600, &["too short n[1-2]!"]),
        ("600 sec", Some(601), 9000, &["too short n[1-2]!"]),
        ("600 sec", Some(600), 600, &[]),
        // Nodes that need more than half of it make the limits matter.
        ("600 sec", Some(301), 9000, &["limits n[1-2]"]),
        ("600 sec", Some(300), 9000, &[]),
        ("INFINITE", Some(90_000), 90_000, &[]),
        ("65535 sec", Some(90_000), 90_000, &[]),
        ("(null)", Some(1), 1, &["not known n[1-2]"]),
    ] {
        let config = format!("ResumeTimeout = {timeout}\nSLURM_VERSION = 24.11.5\n");
        assert_eq!(found(&config, "n[1-2]", takes_s, limits_s), expected, "{timeout} {takes_s:?} {limits_s}");
    }
    let nodes = NodeSet::parse("n1").unwrap();
    assert_eq!(doubts(&nodes, None, None, Duration::ZERO), [Doubt::NotKnown { nodes }]);
}

#[test]
fn each_partition_has_its_own_timeout_from_26_05() {
    for (version, takes_s, expected) in [
        ("26.05.5", 700, &["too short n[1-4,8-9]!"][..]),
        ("26.05.5", 901, &["too short n[1-4,8-9]!", "too short n[5-6]!"]),
        ("25.11.7", 700, &["too short n[1-9]!"]),
    ] {
        let config = format!("ResumeTimeout = 600 sec\nSLURM_VERSION = {version}\n");
        assert_eq!(found(&config, "n[1-9]", Some(takes_s), 60), expected, "{version} {takes_s}");
    }
}

#[test]
fn a_line_has_the_numbers_and_the_remedies() {
    let part = |partitions: &[&str], set_by: Option<&str>| Part {
        nodes: NodeSet::parse("n[1-6]").unwrap(),
        partitions: partitions.iter().map(|name| (*name).to_owned()).collect(),
        resume_timeout_s: 600,
        set_by: set_by.map(str::to_owned),
    };
    let one = Expected { visits: 1, same_kinds: false, ..expected(301) };
    for (doubt, text) in [
        (
            Doubt::TooShort {
                part: part(&["batch"], None),
                expected: expected(750),
                needed_s: 750,
                recommended_s: 1800,
            },
            "n[1-6] of partition batch: ResumeTimeout is 600 s, but such nodes take 12 min 30 s from hand-over to \
             registration (nine of ten of 12 earlier updates: n3 in old): Slurm would give up nodes that are only slow; \
             set ResumeTimeout in slurm.conf to at least 750, better 1800, or start it with --accept-resume-timeout",
        ),
        (
            Doubt::LimitsLonger {
                part: part(&["batch", "gpu"], Some("gpu")),
                limits_s: 2100,
                expected: Some(one),
            },
            "n[1-6] of partitions batch, gpu: ResumeTimeout of gpu is 600 s, and the time limits of the manifest add \
             up to 35 min; earlier nodes took 5 min 1 s (one earlier update with other changes: n3 in old): a node \
             that needs more is lost, unless you set ResumeTimeout of partition gpu in slurm.conf to 2100",
        ),
        (
            Doubt::LimitsLonger { part: part(&[], None), limits_s: 2100, expected: None },
            "n[1-6]: ResumeTimeout is 600 s, and the time limits of the manifest add up to 35 min; no earlier rollout \
             tells how long it takes: a node that needs more is lost, unless you set ResumeTimeout in slurm.conf to 2100",
        ),
        (
            Doubt::NotKnown { nodes: NodeSet::parse("n1").unwrap() },
            "n1: Slurm's ResumeTimeout is not known: a node that takes longer is lost, although it is only slow",
        ),
    ] {
        assert_eq!(doubt.to_string(), text);
    }
}
