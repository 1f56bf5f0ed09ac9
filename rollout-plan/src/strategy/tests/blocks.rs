//! Groups, exclusive sets and floors.

use super::*;
use crate::amount::Amount;
use crate::floor::Part;

const GROUPS: &str = "max_out = 10\n\
    [[strategy.group]]\nname = 'ns1'\nnodes = 'cn[001-008]'\nbring_up = ['cn001', 'cn[002-004]']\n\
    [[strategy.group]]\nname = 'ns2'\nnodes = 'cn[009-016]'\n";

#[test]
fn the_rest_of_a_group_is_brought_up_last() {
    let strategy = parse(GROUPS).unwrap();
    assert_eq!(strategy.groups[0].bring_up, [nodes("cn001"), nodes("cn[002-004]"), nodes("cn[005-008]")]);
    assert_eq!(strategy.groups[1].bring_up, [nodes("cn[009-016]")]);
    let whole = "max_out = 2\ngroup = [{ name = 'g', nodes = 'cn[001-002]', bring_up = ['cn002', 'cn001'] }]";
    assert_eq!(parse(whole).unwrap().groups[0].bring_up, [nodes("cn002"), nodes("cn001")]);
    assert_eq!(strategy.group_of("cn008").map(|group| group.name.as_str()), Some("ns1"));
    assert_eq!(strategy.group_of("cn017"), None);
}

#[test]
fn refuses_groups_that_cannot_go_together() {
    let group = |group: &str| {
        format!("max_out = 10\ngroup = [{{ name = 'a', nodes = 'cn[001-002]' }}, {{ {group} }}]")
    };
    for (keys, named) in [
        ("name = 'a', nodes = 'cn003'", "strategy.group[2].name: a second group a"),
        ("name = 'a b', nodes = 'cn003'", "strategy.group[2].name"),
        ("name = 'b', nodes = 'cn[002-003]'", "strategy.group[2].nodes: cn002: in the group a, too"),
        ("name = 'b', nodes = 'cn[100-101]'", "strategy.group[2].nodes: cn101: not among"),
        ("name = 'b', nodes = ''", "strategy.group[2].nodes"),
        (
            "name = 'b', nodes = 'cn003', bring_up = ['cn004']",
            "strategy.group[2].bring_up[1]: cn004: not among",
        ),
        (
            "name = 'b', nodes = 'cn[003-004]', bring_up = ['cn003', 'cn[003-004]']",
            "strategy.group[2].bring_up[2]: cn003: in the list twice",
        ),
        ("name = 'b'", "missing field `nodes`"),
    ] {
        assert_refused(&[(&group(keys), named)]);
    }
    assert_refused(&[
        (
            "group = [{ name = 'a', nodes = 'cn[001-002]' }]",
            "strategy.max_out: 1 at once, but the group a has 2",
        ),
        ("never = 'cn001'\nmax_out = 2\ngroup = [{ name = 'a', nodes = 'cn[001-002]' }]", "cn001: not among"),
    ]);
}

#[test]
fn exclusive_sets_have_groups_and_single_nodes_as_members() {
    for (set, expected) in [
        ("groups = ['ns1', 'ns2']", vec![("ns1,ns2", vec!["cn[001-008]", "cn[009-016]"])]),
        ("groups = ['ns[1-2]']", vec![("ns[1-2]", vec!["cn[001-008]", "cn[009-016]"])]),
        (
            "nodes = 'cn[001-002,015,040],io1'",
            vec![("cn[001-002,015,040],io1", vec!["cn[001-008]", "cn[009-016]", "cn040", "io1"])],
        ),
        (
            "pairs = ['cn[020-022]', 'cn[032,031,030]']",
            vec![
                ("cn020,cn032", vec!["cn020", "cn032"]),
                ("cn021,cn031", vec!["cn021", "cn031"]),
                ("cn022,cn030", vec!["cn022", "cn030"]),
            ],
        ),
        ("pairs = ['cn001', 'cn009', 'x']", vec![("cn001,cn009,x", vec!["cn[001-008]", "cn[009-016]", "x"])]),
    ] {
        let strategy = parse(&format!("{GROUPS}[[strategy.exclusive]]\n{set}\n")).unwrap();
        assert_eq!(strategy.exclusive.len(), expected.len(), "{set}");
        for (found, (label, members)) in strategy.exclusive.iter().zip(expected) {
            let members: Vec<NodeSet> = members.into_iter().map(nodes).collect();
            assert_eq!((found.label.as_str(), &found.members, found.at_once), (label, &members, 1), "{set}");
        }
    }
    let strategy =
        parse(&format!("{GROUPS}[[strategy.exclusive]]\nnodes = 'cn[020-029]'\nat_once = 3\n")).unwrap();
    assert_eq!((strategy.exclusive[0].members.len(), strategy.exclusive[0].at_once), (10, 3));
}

#[test]
fn refuses_exclusive_sets_that_make_no_sense() {
    for (set, named) in [
        ("groups = ['ns1']\nat_once = 0", "strategy.exclusive[1].at_once: 0"),
        ("at_once = 1", "strategy.exclusive[1]: exclusive of what?"),
        ("groups = ['ns1']\nnodes = 'cn001'", "strategy.exclusive[1]: more than one of"),
        ("groups = []", "strategy.exclusive[1].groups: no group"),
        ("groups = ['ns1', 'ns3']", "strategy.exclusive[1].groups[2]: no group is named ns3: ns1, ns2"),
        ("groups = ['ns1', 'ns[1-2]']", "strategy.exclusive[1].groups[2]: the group ns1 twice"),
        ("nodes = 'cn[1-'", "strategy.exclusive[1].nodes"),
        ("pairs = ['cn[020-021]']", "strategy.exclusive[1].pairs: write two or more lists"),
        (
            "pairs = ['cn[020-021]', 'cn030']",
            "strategy.exclusive[1].pairs[2]: 1 nodes, but the first list has 2",
        ),
        (
            "pairs = ['cn020', 'cn020']",
            "strategy.exclusive[1].pairs: cn020,cn020: a node cannot exclude itself",
        ),
        (
            "pairs = ['cn001', 'cn002']",
            "strategy.exclusive[1].pairs: cn001,cn002: two of them are in one group",
        ),
        ("at_onec = 1", "`groups`, `nodes`, `pairs`, `at_once`"),
    ] {
        assert_refused(&[(&format!("{GROUPS}[[strategy.exclusive]]\n{set}\n"), named)]);
    }
    assert_refused(&[("exclusive = [{ groups = ['a'] }]", "no group is named a: there is none")]);
}

#[test]
fn a_floor_has_exactly_one_part() {
    let floor = |keys: &str| {
        parse(&format!("[[strategy.floor]]\n{keys}\n")).map(|strategy| strategy.floors[0].clone())
    };
    let part = |keys: &str| floor(keys).unwrap().of;
    assert_eq!(part("partition = 'gpu'\navailable = '80%'"), Part::Partition("gpu".to_owned()));
    assert_eq!(part("feature = 'a100-80'\navailable = 3"), Part::Feature("a100-80".to_owned()));
    assert_eq!(part("nodes = 'viz[1-2]'\navailable = 1"), Part::Nodes(nodes("viz[1-2]")));
    assert_eq!(floor("partition = 'gpu'\navailable = '80%'").unwrap().available, Amount::Percent(80));
    for (keys, named) in [
        ("available = 1", "strategy.floor[1]: a floor of what?"),
        ("partition = 'a'\nfeature = 'b'\navailable = 1", "strategy.floor[1]: more than one of"),
        ("partition = 'a,b'\navailable = 1", "strategy.floor[1].partition: \"a,b\": write one name"),
        ("feature = ''\navailable = 1", "strategy.floor[1].feature"),
        ("nodes = ''\navailable = 1", "strategy.floor[1].nodes"),
        ("nodes = 'viz[1-2]'\navailable = 3", "strategy.floor[1].available: 3 of 2 nodes"),
        ("partition = 'a'", "missing field `available`"),
        ("partition = 'a'\navailable = 0", "count from 1"),
        ("colour = 'a'\navailable = 1", "`partition`, `feature`, `nodes`, `available`"),
    ] {
        let error = floor(keys).expect_err(keys);
        assert!(error.contains(named), "{keys}: {error}");
    }
}
