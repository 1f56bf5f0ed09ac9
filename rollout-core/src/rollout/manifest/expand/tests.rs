use super::*;
use crate::rollout::manifest::Manifest;

const REST: &str = "[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";

fn expanded(text: &str) -> Result<String, String> {
    let resolve = |set: &str| match set.trim() {
        "@gpu!cn3" => Ok(NodeSet::parse("cn[1-2],gpu7").unwrap()),
        set => Err(format!("{set}: no such group")),
    };
    expand(text, resolve).map_err(|error| error.to_string())
}

#[test]
fn only_the_node_set_is_replaced_and_a_comment_keeps_it() {
    for (text, expected) in [
        (
            "name = 'a'\nnodes = '@gpu!cn3' # all but one\n",
            "name = 'a'\n# nodes was \"@gpu!cn3\" when this was staged.\nnodes = \"cn[1-2],gpu7\" # all but one\n",
        ),
        (
            "\"nodes\" = \"@gpu!cn3\"\nname = 'a'\n",
            "# nodes was \"@gpu!cn3\" when this was staged.\n\"nodes\" = \"cn[1-2],gpu7\"\nname = 'a'\n",
        ),
        (
            "name = 'é'\r\n  nodes = \"\"\"\n@gpu!cn3\n\"\"\"\r\n",
            "name = 'é'\r\n# nodes was \"@gpu!cn3\\n\" when this was staged.\n  nodes = \"cn[1-2],gpu7\"\r\n",
        ),
    ] {
        assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
    }
    let text = format!("nodes = '@gpu!cn3'\nname = 'a'\n{REST}");
    let manifest = Manifest::parse(&expanded(&text).unwrap()).unwrap();
    assert_eq!(manifest.nodes, NodeSet::parse("cn[1-2],gpu7").unwrap());
    assert_eq!(expanded(&expanded(&text).unwrap()), expanded(&text), "there is nothing left to replace");
}

#[test]
fn a_hostlist_and_what_is_no_manifest_stay_as_they_are() {
    for text in ["nodes = 'cn[2,1]'\n", "nodes = 3\n", "name = 'a'\n", "nodes = \n", ""] {
        assert_eq!(expanded(text).as_deref(), Ok(text));
    }
}

#[test]
fn an_error_names_the_key() {
    assert_eq!(expanded("nodes = '@typo'"), Err("nodes: @typo: no such group".to_owned()));
    assert_eq!(expanded("nodes = 'cn[1-'"), Err("nodes: cn[1-: no such group".to_owned()));
}

/// Every place in which a strategy names nodes.
const STRATEGY: &str = r#"name = "a"
nodes = "cn[1-3],gpu7"
[[change]]
kind = "symlink"
path = "/a"
target = "/@gpu!cn3"
[strategy]
never = "@gpu!cn3"
waves = ["1", 2, "@gpu!cn3", "50%", "cn3"]
approve = [
    "@gpu!cn3",
]
floor = [{ nodes = "@gpu!cn3", available = "80%" }, { partition = "@gpu!cn3", available = 1 }]
[[strategy.exclusive]]
nodes = '@gpu!cn3'
[[strategy.exclusive]]
pairs = ["""
@gpu!cn3""", "x[1-3]"]
[[strategy.group]]
name = "@gpu!cn3"
nodes = "@gpu!cn3"
bring_up = ["cn1", "@gpu!cn3"]
"#;

#[test]
fn node_sets_of_a_strategy_are_replaced_and_nothing_else() {
    let text = expanded(STRATEGY).unwrap();
    let (comments, rest) = text.split_at(text.find("name = ").unwrap());
    let keys: Vec<&str> = comments.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "strategy.never",
            "strategy.waves[3]",
            "strategy.approve[1]",
            "strategy.floor[1].nodes",
            "strategy.exclusive[1].nodes",
            "strategy.exclusive[2].pairs[1]",
            "strategy.group[1].nodes",
            "strategy.group[1].bring_up[2]",
        ]
    );
    assert!(comments.lines().all(|line| line.starts_with("# ") && line.contains("@gpu!cn3")), "{comments}");
    let expected = STRATEGY.replace("\"\"\"\n@gpu!cn3\"\"\"", "'@gpu!cn3'");
    let expected = expected.replace("\"@gpu!cn3\"", "'@gpu!cn3'");
    let expected = expected.replace("'@gpu!cn3'", "\"cn[1-2],gpu7\"");
    // Names are not node sets.
    let expected = expected.replacen("partition = \"cn[1-2],gpu7\"", "partition = \"@gpu!cn3\"", 1);
    let expected = expected.replacen("name = \"cn[1-2],gpu7\"", "name = \"@gpu!cn3\"", 1);
    assert_eq!(rest, expected);
    assert_eq!(expanded(&text).as_deref(), Ok(text.as_str()), "there is nothing left to replace");
}

#[test]
fn both_kinds_of_comments_stand_where_they_belong() {
    let text = "name = 'a'\nnodes = '@gpu!cn3'\n[strategy]\nnever = '@gpu!cn3'\n";
    assert_eq!(
        expanded(text).unwrap(),
        "# strategy.never was \"@gpu!cn3\" when this was staged.\nname = 'a'\n\
         # nodes was \"@gpu!cn3\" when this was staged.\nnodes = \"cn[1-2],gpu7\"\n\
         [strategy]\nnever = \"cn[1-2],gpu7\"\n"
    );
}

#[test]
fn an_error_in_a_strategy_names_its_key() {
    for (keys, key) in [
        ("never = '@typo'", "strategy.never"),
        ("waves = ['1', '@typo', '@gpu!cn3']\nnever = '@other'", "strategy.waves[2]"),
        ("group = [{ nodes = 'a' }, { nodes = '@typo' }]", "strategy.group[2].nodes"),
        ("exclusive = [{ pairs = ['a', '@typo'] }]", "strategy.exclusive[1].pairs[2]"),
    ] {
        let text = format!("nodes = 'a'\n[strategy]\n{keys}\n");
        assert_eq!(expanded(&text), Err(format!("{key}: @typo: no such group")), "{text}");
    }
}

#[test]
fn a_strategy_of_another_shape_stays_as_it_is() {
    for strategy in
        ["strategy = 3", "[[strategy]]\nnever = '@typo'", "[strategy]\ngroup = 'a'\nfloor = [3]\nnever = 1"]
    {
        let text = format!("nodes = 'a'\n{strategy}\n");
        assert_eq!(expanded(&text).as_deref(), Ok(text.as_str()));
    }
}
