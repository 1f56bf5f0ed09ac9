use super::*;
use crate::floor::Part;
use serde_json::json;

fn resolve(text: &str) -> Result<NodeSet, String> {
    match text {
        "@io" => Ok(NodeSet::parse("io[1-4]").unwrap()),
        text => NodeSet::parse(text).map_err(|error| error.to_string()),
    }
}

fn parse(table: serde_json::Value) -> Result<Limits, String> {
    Limits::of_config(Some(&table), &resolve).map_err(|error| error.to_string())
}

#[test]
fn without_keys_there_is_no_limit() {
    assert_eq!(Limits::of_config(None, &resolve).unwrap(), Limits::default());
    assert_eq!(parse(json!({})), Ok(Limits::default()));
    let limits = Limits::default();
    assert_eq!((limits.max_out, limits.requests_per_tick), (None, 200));
    assert!(limits.windows.is_always_open() && limits.never.is_empty());
}

#[test]
fn reads_the_table_and_expands_node_sets() {
    let limits = parse(json!({
        "max_out": "10%",
        "requests_per_tick": 50,
        "never": "login[1-2]",
        "floor": [{ "nodes": "@io", "available": 3 }],
        "exclusive": [{ "nodes": "@io" }, { "groups": ["c1"] }],
        "group": [{ "name": "c1", "nodes": "cn[1-4]" }, { "name": "io", "nodes": "io[1-2]" }],
        "window": [{ "days": "Sat,Sun", "zone": "UTC" }],
    }))
    .unwrap();
    assert_eq!((limits.max_out, limits.requests_per_tick), (Some(Amount::Percent(10)), 50));
    assert_eq!(limits.never, NodeSet::parse("login[1-2]").unwrap());
    assert_eq!(limits.floors[0].of, Part::Nodes(NodeSet::parse("io[1-4]").unwrap()));
    let members = ["io[1-2]", "io3", "io4"].map(|nodes| NodeSet::parse(nodes).unwrap());
    assert_eq!(limits.exclusive[0].members, members);
    assert_eq!((limits.groups.len(), limits.windows.is_always_open()), (2, false));
}

#[test]
fn refuses_with_the_key_or_the_line_that_is_wrong() {
    for (table, named) in [
        (json!({ "max_out": 0 }), "limits: max_out = 0: invalid value"),
        (json!({ "maxout": 1 }), "limits: maxout = 1: unknown field `maxout`, expected one of `max_out`"),
        (json!({ "requests_per_tick": 0 }), "limits.requests_per_tick: 0"),
        (json!({ "requests_per_tick": -1 }), "limits: requests_per_tick = -1"),
        (json!({ "never": "@typo" }), "limits.never"),
        (json!({ "floor": [{ "available": 1 }] }), "limits.floor[1]: a floor of what?"),
        (
            json!({ "window": [{}, { "zone": "UTC", "days": "Mo" }] }),
            "limits: days = \"Mo\": \"Mo\": write days",
        ),
        (json!({ "group": [{ "name": "a", "nodes": "cn[1-" }] }), "limits.group[1].nodes"),
        (json!({ "exclusive": [{ "groups": ["a"] }] }), "limits.exclusive[1].groups[1]: no group"),
        (json!({ "soak": "1h" }), "unknown field `soak`"),
        (json!(3), "limits: not a table"),
        (json!([1]), "limits: "),
        (json!({ "never": null }), "limits"),
    ] {
        match parse(table.clone()) {
            Err(error) => assert!(error.contains(named), "{table}: {error}"),
            Ok(_) => assert!(table["never"].is_null(), "{table}: TOML has no null"),
        }
    }
}
