use super::*;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::node::parse::parse_nodes;

const MINUTE_MS: u64 = 60_000;

/// n9 has left Slurm, and n8 has not registered yet.
const NODES: &str = "\
NodeName=n1 Arch=x86_64 AvailableFeatures=ib,a100 State=IDLE Partitions=one\n\
NodeName=n2 Arch=x86_64 AvailableFeatures=a100,ib State=DOWN Partitions=two\n\
NodeName=n3 Arch=x86_64 AvailableFeatures=a100,ib State=IDLE\n\
NodeName=n4 Arch=x86_64 AvailableFeatures=ib State=IDLE\n\
NodeName=n5 Arch=aarch64 AvailableFeatures=ib,a100 State=IDLE\n\
NodeName=n6 Arch=x86_64 State=IDLE\n\
NodeName=n7 Arch=x86_64 AvailableFeatures=(null) State=IDLE\n\
NodeName=n8 AvailableFeatures=ib,a100 State=DOWN\n";

/// A line: its minute, the rollout, the event, the nodes and the order.
type Event<'a> = (u64, &'a str, &'a str, &'a str, u128);

fn line((minute, _, is, nodes, order): &Event<'_>) -> Line {
    let (nodes, order, error) = (NodeSet::parse(nodes).unwrap(), OrderId::from_random(*order), None);
    let seen = |phase, error| {
        let (nodes, order) = (nodes.clone(), order.clone());
        Entry::Seen { nodes, order, phase, error, notes: vec![] }
    };
    let entry = match *is {
        "staged" => Entry::Staged { nodes },
        "unstaged" => Entry::Unstaged { nodes },
        "ordering" => Entry::Ordering { nodes, order, until_ms: u64::MAX },
        "refused" => Entry::Refused { nodes, order, why: "busy".to_owned() },
        "applying" => seen(Phase::Applying, error),
        "updated" => seen(Phase::Updated, error),
        "held" => seen(Phase::Held, Some("nhc".to_owned())),
        "rolled-back" => seen(Phase::RolledBack, Some("dnf".to_owned())),
        "seen released" => seen(Phase::Released, error),
        "lost" => Entry::Lost { nodes, order, why: "silence".to_owned() },
        "released" => Entry::Released { nodes, order },
        "retried" => Entry::Retried { nodes, order },
        other => panic!("{other}"),
    };
    Line { t_ms: minute * MINUTE_MS, by: "test".to_owned(), entry }
}

fn slurm() -> BTreeMap<String, NodeInfo> {
    parse_nodes(NODES).into_iter().map(|node| (node.name.clone(), node)).collect()
}

/// Returns the nodes of n[2-9] that are refused, and the failures that count for them.
fn found(events: &[Event<'_>], slurm: &BTreeMap<String, NodeInfo>) -> Vec<String> {
    let mut ends = Ends::default();
    for rollout in ["a", "b"] {
        let lines: Vec<Line> = events.iter().filter(|event| event.1 == rollout).map(line).collect();
        ends.add(rollout, &lines);
    }
    let word = |BadVersion { nodes, failed, .. }: BadVersion| {
        let Failure { rollout, node, at_ms, end, error } = failed;
        let error = error.unwrap_or_default();
        format!("{nodes}: {rollout} {node} {end} {} {error}", at_ms / MINUTE_MS)
    };
    let nodes = NodeSet::parse("n[2-9]").unwrap();
    bad_versions(&nodes, &ends, slurm).into_iter().map(word).collect()
}

#[test]
fn a_failure_counts_for_nodes_that_may_be_of_the_same_kind() {
    for (is, node, end, expected) in [
        ("rolled-back", "n1", "rolled-back 2 dnf", &["n[8-9]", "n[2-3]"][..]),
        ("held", "n4", "held 2 nhc", &["n[8-9]", "n4"]),
        ("lost", "n5", "lost 2 silence", &["n[8-9]", "n5"]),
        ("lost", "n6", "lost 2 silence", &["n[8-9]", "n[6-7]"]),
        // Nobody knows which kind it is.
        ("lost", "n8", "lost 2 silence", &["n[8-9]", "n5", "n[6-7]", "n[2-3]", "n4"]),
        ("lost", "n10", "lost 2 silence", &["n[8-9]", "n5", "n[6-7]", "n[2-3]", "n4"]),
        ("applying", "n1", "", &[]),
        ("updated", "n1", "", &[]),
        ("seen released", "n1", "", &[]),
        ("refused", "n1", "", &[]),
    ] {
        let events = [(1, "a", "staged", node, 1), (1, "a", "ordering", node, 1), (2, "a", is, node, 1)];
        let mut expected: Vec<String> =
            expected.iter().map(|nodes| format!("{nodes}: a {node} {end}")).collect();
        let mut found = found(&events, &slurm());
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{is} {node}");
    }
    // Slurm was not asked.
    let events = [(1, "a", "ordering", "n1", 1), (2, "a", "lost", "n1", 1)];
    assert_eq!(found(&events, &BTreeMap::new()), ["n[2-9]: a n1 lost 2 silence"]);
}

#[test]
fn the_cause_is_gone_once_a_node_of_the_kind_was_updated_later() {
    let ordered = |rollout, node, order| (1, rollout, "ordering", node, order);
    let both = &["n[2-3]", "n[8-9]"][..];
    let cases: &[(&[Event<'_>], &[&str])] = &[
        // In the same rollout, before and after.
        (&[(3, "a", "updated", "n2", 2)], &[]),
        (&[(2, "a", "updated", "n2", 2)], both),
        (&[(1, "a", "updated", "n2", 2)], both),
        // In a different one, of a different kind, and of an unknown kind.
        (&[(3, "b", "updated", "n3", 3)], &[]),
        (&[(3, "b", "updated", "n4", 3)], both),
        (&[(3, "b", "updated", "n9", 3)], both),
        // The node itself. Neither a release nor another try proves anything.
        (&[(3, "a", "retried", "n1", 1)], both),
        (&[(3, "a", "retried", "n1", 1), (4, "a", "updated", "n1", 1)], &[]),
        (&[(3, "a", "released", "n1", 1)], both),
        (&[(3, "a", "released", "n1", 1), (4, "a", "seen released", "n1", 1)], both),
        (&[(3, "a", "staged", "n1", 0)], both),
        (&[(3, "a", "unstaged", "n[1-9]", 0)], both),
        // News about an order that is not the last one.
        (&[(3, "a", "ordering", "n2", 4), (4, "a", "updated", "n2", 2)], both),
    ];
    for (events, expected) in cases {
        let before = [
            ordered("a", "n1", 1),
            ordered("a", "n2", 2),
            ordered("b", "n[3-4,9]", 3),
            (2, "a", "held", "n1", 1),
        ];
        let mut found = found(&[&before, *events].concat(), &slurm());
        found.sort();
        let expected: Vec<String> =
            expected.iter().map(|nodes| format!("{nodes}: a n1 held 2 nhc")).collect();
        assert_eq!(found, expected, "{events:?}");
    }
}

#[test]
fn a_failure_of_an_unknown_kind_ends_for_the_kinds_that_were_updated() {
    let before = [(1, "a", "ordering", "n[1,9]", 1), (2, "a", "lost", "n9", 1)];
    let with = |event| found(&[&before[..], &[event]].concat(), &slurm()).len();
    assert_eq!(with((3, "a", "applying", "n1", 1)), 5);
    assert_eq!(with((3, "a", "updated", "n1", 1)), 4);
    assert_eq!(with((3, "a", "updated", "n9", 1)), 0);
}

#[test]
fn the_last_failure_is_named() {
    let events = [
        (1, "a", "ordering", "n[1-2]", 1),
        (1, "b", "ordering", "n3", 2),
        (3, "b", "held", "n3", 2),
        (4, "a", "rolled-back", "n1", 1),
        (2, "a", "lost", "n2", 1),
        // Late: it was lost once only.
        (9, "a", "lost", "n1", 1),
    ];
    let found = found(&events, &slurm());
    assert_eq!(found, ["n[8-9]: a n1 rolled-back 4 dnf", "n[2-3]: a n1 rolled-back 4 dnf"]);
}

#[test]
fn changes_are_the_same_if_they_are_equal() {
    let link = |target: &str| format!("[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '{target}'\n");
    let image = |rest: &str| format!("[[change]]\nkind = 'image'\nimage = 'new'\nvia = 'bss'\n{rest}");
    let manifest = |name: &str, rest: &str| {
        Manifest::parse(&format!("name = '{name}'\nnodes = 'n1'\n{rest}"))
            .unwrap_or_else(|error| panic!("{rest}: {error}"))
    };
    let checks = "[verify]\ncommands = [['/bin/true']]\n";
    for (one, other, expected) in [
        (link("/b"), link("/b") + checks, true),
        (link("/b"), link("/c"), false),
        (image("restores = 'old'\n"), image("restores = 'old'\n"), false),
    ] {
        assert_eq!(has_same_changes(&manifest("a", &one), &manifest("b", &other)), expected, "{one}{other}");
    }
}

#[test]
fn the_line_names_failure_kind_and_remedies() {
    let failed = Failure {
        rollout: "a".to_owned(),
        node: "n1".to_owned(),
        at_ms: 0,
        end: "held",
        error: Some("nhc".to_owned()),
    };
    let features = ["a100", "ib"].map(str::to_owned).into();
    let kind = Some(Kind { arch: "x86_64".to_owned(), features });
    let nodes = NodeSet::parse("n[2-3]").unwrap();
    let bad = BadVersion { nodes, kind, failed, is_kind_known: true };
    assert_eq!(
        bad.text("noon"),
        "n[2-3]: the same changes failed in a: n1 held at noon: nhc; n1 is of the same kind of hardware (x86_64 \
         a100,ib); correct the cause and start it with --again, or leave n[2-3] out (`slurm-rollout unstage`)"
    );
    let of_unknown = BadVersion { is_kind_known: false, ..bad.clone() };
    assert!(
        of_unknown.text("noon").contains("does not show the kind of hardware of n1, so this counts for all")
    );
    let to_unknown = BadVersion { kind: None, ..bad };
    assert!(to_unknown.text("noon").contains("does not show their kind of hardware, so each failure counts"));
}
