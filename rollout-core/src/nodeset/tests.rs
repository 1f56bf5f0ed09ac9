use super::*;
use crate::hostlist::MAX_NODES;

/// Groups by source; the first source is the default one.
struct Table(Vec<(&'static str, Vec<(&'static str, String)>)>);

impl Table {
    fn source(&self, source: &str) -> Result<&[(&'static str, String)], GroupError> {
        let found = self.0.iter().find(|(name, _)| *name == source);
        found.map(|(_, groups)| groups.as_slice()).ok_or_else(|| GroupError(format!("no source {source}")))
    }
}

impl Groups for Table {
    fn default_source(&self) -> Result<String, GroupError> {
        self.0.first().map(|(name, _)| (*name).to_owned()).ok_or_else(|| GroupError("no sources".to_owned()))
    }

    fn group(&self, source: &str, group: &str) -> Result<Definition, GroupError> {
        let found = self.source(source)?.iter().find(|(name, _)| *name == group);
        found
            .map(|(_, text)| Definition::Text(text.clone()))
            .ok_or_else(|| GroupError(format!("no group {group}")))
    }

    fn all(&self, source: &str) -> Result<Vec<Definition>, GroupError> {
        Ok(self.source(source)?.iter().map(|(_, text)| Definition::Text(text.clone())).collect())
    }
}

fn table() -> Table {
    let groups = |groups: &[(&'static str, &str)]| {
        groups.iter().map(|(name, text)| (*name, (*text).to_owned())).collect::<Vec<_>>()
    };
    Table(vec![
        (
            "roles",
            groups(&[
                ("adm", "example0"),
                ("io", "@racks:rack2,example2"),
                ("compute", "@racks:rack[3-4]"),
                ("gpu", "@racks:rack4"),
                ("mixed", "@adm @gpu"),
                ("empty", " "),
            ]),
        ),
        (
            "racks",
            groups(&[
                ("rack1", "example[0,2]"),
                ("rack2", "example[4-5]"),
                ("rack3", "example[32-39]"),
                ("rack4", "example[36-39]"),
                ("old", "@rack[1,3]"),
            ]),
        ),
        ("cpu", groups(&[("ivy", "example[32-33]"), ("hsw", "@roles:compute!@ivy")])),
        (
            "bad",
            groups(&[
                ("a", "@b"),
                ("b", "n1,@c"),
                ("c", "@a"),
                ("self", "@self"),
                ("text", "n[2-1]"),
                ("gone", "@nothing"),
                ("outer", "@gone"),
            ]),
        ),
    ])
}

fn evaluated_with(text: &str, groups: &dyn Groups) -> String {
    match Expression::parse(text).and_then(|expression| expression.evaluate(groups)) {
        Ok(nodes) => nodes.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn evaluated(text: &str) -> String {
    evaluated_with(text, &table())
}

#[test]
fn operators_apply_from_left_to_right() {
    for (text, nodes) in [
        ("n[1-9]!n[2-8]", "n[1,9]"),
        ("n[1-9]&n[5-20]", "n[5-9]"),
        ("n[1-4]^n[3-6]", "n[1-2,5-6]"),
        ("n1,n2!n2", "n1"),
        ("n2!n2,n1", "n1"),
        ("n1!n1,n1", "n1"),
        ("n1,n2&n2,n3", "n[2-3]"),
        ("n[1-3]!n2&n[2-3]^n[3-4]", "n4"),
        (" n1 n2\t! n1\n", "n2"),
        ("n1 ,n2&n2 n3", "n[2-3]"),
        ("r[1-2]n[1-2]!r1n[1-2]", "r2n[1-2]"),
        ("n1!n1", ""),
        ("n[1,3-4]!n[01-04]", "n[1,3-4]"),
        ("n[1-9/2]", "n[1,3,5,7,9]"),
        ("n[01-09/4,12]!n05", "n[01,09,12]"),
    ] {
        assert_eq!(evaluated(text), nodes, "{text:?}");
    }
}

#[test]
fn a_hostlist_means_what_it_means_to_slurm() {
    for text in ["cn[001-128],gpu[01-16]", ",, a\t,\n b ,", "n[1-010]", "ALL", "x-1.y_2"] {
        assert_eq!(evaluated(text), NodeSet::parse(text).unwrap().to_string(), "{text:?}");
    }
    for text in ["", " ,\n", "n[1-2", "n]", "n[2-1]", "n{x}", "n1;n2"] {
        let error = NodeSet::parse(text).unwrap_err();
        assert_eq!(Expression::parse(text), Err(NodesetError::Hostlist(error)), "{text:?}");
    }
}

#[test]
fn groups_are_looked_up_in_their_source() {
    for (text, nodes) in [
        ("@adm", "example0"),
        ("@roles:adm", "example0"),
        ("@io", "example[2,4-5]"),
        ("@racks:rack[1-2]", "example[0,2,4-5]"),
        ("@racks:rack[1-3/2]", "example[0,2,32-39]"),
        ("@racks:old", "example[0,2,32-39]"),
        ("@cpu:hsw", "example[34-39]"),
        ("@compute!@gpu", "example[32-35]"),
        ("@mixed!example36", "example[0,37-39]"),
        ("@*", "example[0,2,4-5,32-39]"),
        ("@racks:*&@cpu:*", "example[32-39]"),
        ("@empty,n1", "n1"),
        ("@empty", ""),
        ("example3*", "example[32-39]"),
        ("example?,example4*!example0", "example[2,4-5]"),
        ("*", "example[0,2,4-5,32-39]"),
    ] {
        assert_eq!(evaluated(text), nodes, "{text:?}");
    }
}

#[test]
fn masks_match_as_in_the_shell() {
    for (mask, name, is) in [
        ("*", "", true),
        ("a*", "a", true),
        ("a*b", "axxb", true),
        ("a*b", "axxbc", false),
        ("*a*b*", "xaybz", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "", false),
        ("a*b*c", "abbbcbc", true),
        ("n1", "n10", false),
    ] {
        assert_eq!(operand::matches(mask, name), is, "{mask} {name}");
    }
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    for (text, error) in [
        ("!n1", "'!' at byte 0: a node or group is missing beside it; write one, or remove the operator"),
        ("n1!", "'!' at byte 2: a node or group is missing beside it; write one, or remove the operator"),
        ("n1 !,n2", "',' at byte 4: a node or group is missing beside it; write one, or remove the operator"),
        ("@a!n[1-", r#"in "n[1-": "n[1-" at byte 1: the bracket is never closed; add ']'"#),
        ("n[1/2]", r#""1/2": not a range with a step; write it as in 1-9/2"#),
        ("n[1-5/0]", r#""1-5/0": not a range with a step; write it as in 1-9/2"#),
        ("n[5-1/2]", r#""5-1/2": not a range with a step; write it as in 1-9/2"#),
        ("n[0-999999/2]", r#""0-999999/2": more than 65536 numbers; write several smaller ranges"#),
        (
            "@",
            r#""@": not the name of a group; write @GROUP or @SOURCE:GROUP, with ranges in brackets as in @rack[1-4]"#,
        ),
        (
            "@:x",
            r#""@:x": not the name of a group; write @GROUP or @SOURCE:GROUP, with ranges in brackets as in @rack[1-4]"#,
        ),
        (
            "@a*",
            r#""@a*": not the name of a group; write @GROUP or @SOURCE:GROUP, with ranges in brackets as in @rack[1-4]"#,
        ),
        (
            "@@racks",
            r#""@@racks": a list of group names is not a node set; write @SOURCE:* for the nodes of all groups"#,
        ),
        (
            "n*[1-2]",
            r#""n*[1-2]": a name with * or ? cannot have brackets as well; write the names one after the other"#,
        ),
        (
            "(@adm)",
            r#"in "(@adm)": "(@adm)" at byte 0: '(' cannot be part of a NodeName; use letters, digits, '.', '_' and '-'"#,
        ),
        ("@typo", "@roles:typo: no group typo"),
        ("@typo:adm", "@typo:adm: no source typo"),
        ("@roles:adm,@typo:*", "@typo:*: no source typo"),
        ("n1!@typo", "@roles:typo: no group typo"),
        ("@bad:outer", "in the definition of @bad:gone: @bad:nothing: no group nothing"),
        (
            "@bad:text",
            r#"in the definition of @bad:text: "2-1" at byte 2: the range runs downwards; write the lower number first"#,
        ),
        ("@bad:self", "@bad:self -> @bad:self: the group is part of itself; change one of the definitions"),
        (
            "@bad:b",
            "@bad:b -> @bad:c -> @bad:a -> @bad:b: the group is part of itself; change one of the definitions",
        ),
    ] {
        assert_eq!(evaluated(text), format!("error: {error}"), "{text:?}");
    }
    let none = Table(Vec::new());
    assert_eq!(evaluated_with("@gpu", &none), "error: @gpu: no sources");
    assert_eq!(evaluated_with("n*", &none), "error: n*: no sources");
    assert_eq!(evaluated_with("n*\u{10}", &none), "error: n*\\u{10}: no sources");
}

#[test]
fn depth_and_size_are_bounded() {
    let names: Vec<&'static str> =
        (0..=MAX_DEPTH + 1).map(|number| -> &'static str { format!("g{number}").leak() }).collect();
    let chain = names.windows(2).map(|pair| (pair[0], format!("@{}", pair[1])));
    let mut groups: Vec<_> = chain.collect();
    groups.push((names[MAX_DEPTH + 1], "n1".to_owned()));
    let chain = Table(vec![("s", groups)]);
    assert_eq!(evaluated_with("@g2", &chain), "n1");
    assert!(evaluated_with("@g0", &chain).contains("more than 32 groups inside one another"));

    // Each group names the next one twice, which is 2^30 names if none of them is remembered.
    let doubled = names.windows(2).map(|pair| (pair[0], format!("@{},@{}", pair[1], pair[1])));
    let mut groups: Vec<_> = doubled.collect();
    groups.push((names[MAX_DEPTH + 1], "n[1-4]".to_owned()));
    assert_eq!(evaluated_with("@g2", &Table(vec![("s", groups)])), "n[1-4]");

    let five = (0..5).map(|number| format!("{}[1-65536]", ["a", "b", "c", "d", "e"][number]));
    let many: Vec<String> = five.collect();
    assert!(evaluated(&format!("{}!x", many[..4].join("!x,"))).starts_with("a[1-65536]"));
    assert_eq!(evaluated(&many.join("!x,")), format!("error: more than {MAX_NODES} nodes; name fewer"));
    let again = vec!["n[1-65536]"; 65].join("^");
    assert!(evaluated(&again).contains("write a shorter expression"));
    assert!(matches!(
        Expression::parse(&format!("n[{}1]", "0-65535/1,".repeat(5))),
        Err(NodesetError::TooManyNodes)
    ));
}
