use super::*;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;

const MINUTE_MS: u64 = 60_000;

const SYMLINK: &str = "[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";
const ARGS: &str = "[[change]]\nkind = 'kernel-args'\nadd = ['quiet']\n";

fn manifest(nodes: &str, changes: &str) -> Manifest {
    Manifest::parse(&format!("name = 'r'\nnodes = '{nodes}'\n{changes}")).unwrap()
}

fn entry(is: &str, nodes: &str) -> Entry {
    let (nodes, order, why) = (NodeSet::parse(nodes).unwrap(), OrderId::from_random(1), "why".to_owned());
    let seen =
        |phase| Entry::Seen { nodes: nodes.clone(), order: order.clone(), phase, error: None, notes: vec![] };
    match is {
        "ordering" => Entry::Ordering { nodes, order, until_ms: u64::MAX },
        "ordered" => Entry::Ordered { nodes, order, volatile: false },
        "updated" => seen(Phase::Updated),
        "held" => seen(Phase::Held),
        "rolled-back" => seen(Phase::RolledBack),
        "retried" => Entry::Retried { nodes, order },
        "lost" => Entry::Lost { nodes, order, why },
        "refused" => Entry::Refused { nodes, order, why },
        "unreachable" => Entry::Unreachable { nodes, order, why },
        "unstaged" => Entry::Unstaged { nodes },
        other => panic!("{other}"),
    }
}

/// Returns the visits in a journal with these lines: minute, kind, nodes.
fn visits(lines: &[(u64, &str, &str)]) -> Vec<String> {
    let line = |(minute, is, nodes): &(u64, &str, &str)| Line {
        t_ms: minute * MINUTE_MS,
        by: "test".to_owned(),
        entry: entry(is, nodes),
    };
    let lines: Vec<Line> = lines.iter().map(line).collect();
    let past = Past::of("r", &manifest("n[1-9]", SYMLINK), &lines);
    past.visits.iter().map(|visit| format!("{} {}", visit.node, visit.took_ms / MINUTE_MS)).collect()
}

#[test]
fn a_visit_lasts_from_the_hand_over_until_the_node_is_seen_updated() {
    type Case<'a> = (&'a [(u64, &'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&[], &[]),
        (&[(0, "ordering", "n[1-2]"), (0, "ordered", "n[1-2]")], &[]),
        (
            &[
                (1, "ordering", "n[1-2]"),
                (1, "ordered", "n[1-2]"),
                (6, "updated", "n2"),
                (9, "updated", "n1"),
            ],
            &["n2 5", "n1 8"],
        ),
        // The order got through at the second attempt.
        (
            &[(0, "ordering", "n1"), (0, "unreachable", "n1"), (60, "ordering", "n1"), (64, "updated", "n1")],
            &["n1 4"],
        ),
        // Slurm gave up a node that was only slow.
        (&[(0, "ordering", "n1"), (10, "lost", "n1"), (12, "updated", "n1")], &["n1 12"]),
        // A person took part of the time, or the way back did.
        (&[(0, "ordering", "n1"), (3, "held", "n1"), (5, "retried", "n1"), (9, "updated", "n1")], &[]),
        (&[(0, "ordering", "n1"), (9, "rolled-back", "n1")], &[]),
        (&[(0, "ordering", "n1"), (0, "refused", "n1"), (9, "updated", "n1")], &[]),
        (&[(0, "ordering", "n1"), (8, "unstaged", "n1"), (9, "updated", "n1")], &[]),
        // All its time limits together are 35 minutes.
        (&[(0, "ordering", "n[1-2]"), (35, "updated", "n1"), (36, "updated", "n2")], &["n1 35"]),
        // The clock of another controller was behind.
        (&[(5, "ordering", "n1"), (4, "updated", "n1")], &[]),
        (&[(4, "updated", "n1"), (4, "updated", "n1")], &[]),
    ];
    for (lines, expected) in cases {
        assert_eq!(visits(lines), *expected, "{lines:?}");
    }
}

fn past(rollout: &str, changes: &str, visits: &[(&str, u64)]) -> Past {
    let visits = visits
        .iter()
        .map(|(node, minutes)| PastVisit { node: (*node).to_owned(), took_ms: minutes * MINUTE_MS });
    Past { rollout: rollout.to_owned(), kinds: kinds(&manifest("n1", changes)), visits: visits.collect() }
}

#[test]
fn the_same_kinds_of_changes_count_before_the_same_nodes() {
    let both = format!("{SYMLINK}{ARGS}");
    let subject = manifest("n[1-4]", SYMLINK);
    let others = past("args", ARGS, &[("n1", 30), ("x1", 90)]);
    for (pasts, found) in [
        (vec![], None),
        (vec![past("empty", SYMLINK, &[])], None),
        (vec![past("args", ARGS, &[("x1", 90)])], None),
        (vec![others.clone()], Some((30, "n1", "args", 1, false))),
        (vec![others.clone(), past("both", &both, &[("n2", 40)])], Some((40, "n2", "both", 2, false))),
        (vec![others, past("link", SYMLINK, &[("x1", 5), ("x2", 7)])], Some((7, "x2", "link", 2, true))),
    ] {
        let expected = expected(&subject, &pasts);
        let expected = expected.as_ref().map(|expected| {
            let Expected { takes_ms, node, rollout, visits, same_kinds } = expected;
            (takes_ms / MINUTE_MS, node.as_str(), rollout.as_str(), *visits, *same_kinds)
        });
        assert_eq!(expected, found, "{pasts:?}");
    }
    for (other, related) in
        [(manifest("x1", SYMLINK), true), (manifest("n4", ARGS), true), (manifest("x1", ARGS), false)]
    {
        assert_eq!(is_related(&subject, &other), related);
    }
}

#[test]
fn nine_of_ten_are_back_within_the_expected_time() {
    for (number, longest) in [(1, 1), (9, 9), (10, 9), (11, 10), (20, 18), (100, 90)] {
        let values: Vec<usize> = (1..=number).collect();
        assert_eq!(nine_of_ten(&values), Some(&longest), "{number}");
    }
    assert_eq!(nine_of_ten::<u64>(&[]), None);
}
