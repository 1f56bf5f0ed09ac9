//! The YAML files in `groups.d`: a map from sources to maps from groups to node sets or lists of them.
//!
//! The files are read as `YAMLGroupLoader` in `lib/ClusterShell/NodeUtils.py` reads them (1.9.1), except that numbers
//! are texts here, as groups may well be called `1`. Anchors, which could multiply, are refused.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Groups by source.
pub type YamlSources = BTreeMap<String, BTreeMap<String, String>>;

/// Plain values that are null, which is the empty set.
const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];

/// Parses the text of a file. Of two sources or groups of the same name, the last one counts.
///
/// # Errors
/// The first error, with its line.
pub fn parse_yaml(text: &str) -> Result<YamlSources, String> {
    let mut events = Events { parser: Parser::new_from_str(text), line: 1 };
    let mut sources = YamlSources::new();
    events.expect("a text", |event| matches!(event, Event::StreamStart))?;
    if matches!(events.next()?, Event::StreamEnd) {
        return Ok(sources);
    }
    events.expect("a map of sources", is_map)?;
    while let Some(source) = events.key()? {
        events.expect("a map of groups", is_map)?;
        let mut groups = BTreeMap::new();
        while let Some(group) = events.key()? {
            groups.insert(group, events.nodes()?);
        }
        sources.insert(source, groups);
    }
    events.expect("the end of the document", |event| matches!(event, Event::DocumentEnd))?;
    events.expect("the end of the file", |event| matches!(event, Event::StreamEnd))?;
    Ok(sources)
}

fn is_map(event: &Event<'_>) -> bool {
    matches!(event, Event::MappingStart(..))
}

/// The events of a file, and the line of the last one.
struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    line: usize,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => {
                self.line = start.line();
                Ok(event)
            }
            Some(Err(error)) => {
                self.line = error.marker().line();
                Err(self.wrong(error.info()))
            }
            None => Err(self.wrong("the text ends here")),
        }
    }

    fn expect(&mut self, what: &str, is_it: impl Fn(&Event<'a>) -> bool) -> Result<(), String> {
        let event = self.next()?;
        if is_it(&event) { Ok(()) } else { Err(self.wrong(&format!("{what} is missing"))) }
    }

    /// Returns the next key of a map. `None` at its end.
    fn key(&mut self) -> Result<Option<String>, String> {
        match self.next()? {
            Event::MappingEnd => Ok(None),
            Event::Scalar(name, ScalarStyle::Plain, ..) if name == "<<" => Err(self.anchors()),
            Event::Scalar(name, ..) => Ok(Some(name.into_owned())),
            Event::Alias(_) => Err(self.anchors()),
            _ => Err(self.wrong("a name is missing")),
        }
    }

    /// Returns the node set of a group. That of a list is the union of its items, as in ClusterShell.
    fn nodes(&mut self) -> Result<String, String> {
        match self.next()? {
            Event::Scalar(nodes, style, ..) => Ok(text(nodes, style)),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::Scalar(nodes, style, ..) => items.push(text(nodes, style)),
                        Event::SequenceEnd => return Ok(items.join(" ")),
                        Event::Alias(_) => return Err(self.anchors()),
                        _ => return Err(self.wrong("an item of the list is no node set")),
                    }
                }
            }
            Event::Alias(_) => Err(self.anchors()),
            _ => Err(self.wrong("a node set or a list of them is missing")),
        }
    }

    fn anchors(&self) -> String {
        self.wrong("anchors are not supported; name the group instead, as in @SOURCE:GROUP")
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }
}

fn text(value: Cow<'_, str>, style: ScalarStyle) -> String {
    if style == ScalarStyle::Plain && NULL.contains(&value.as_ref()) {
        String::new()
    } else {
        value.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String, String)>, String> {
        let rows = |sources: YamlSources| {
            let row = |source: &str, (group, nodes)| (source.to_owned(), group, nodes);
            let of = |(source, groups): (String, BTreeMap<String, String>)| {
                groups.into_iter().map(move |group| row(&source, group)).collect::<Vec<_>>()
            };
            sources.into_iter().flat_map(of).collect()
        };
        parse_yaml(text).map(rows)
    }

    #[test]
    fn reads_what_clustershell_shows_as_an_example() {
        let text = "\
# comment
roles:
    adm: 'example0'
    io: '@racks:rack2,example2'   # another
    all: \"@io,@compute\"
    none:
    nil: ~
    text: '~'
racks:
    1: example[1-2]
    rack5:
        - 'example[200-205]'  # some
        - example245
        - 'example300,example[401-406]'
    flow: [a, b]
    long: >
        n1
        n2
";
        let rows = [
            ("racks", "1", "example[1-2]"),
            ("racks", "flow", "a b"),
            ("racks", "long", "n1 n2\n"),
            ("racks", "rack5", "example[200-205] example245 example300,example[401-406]"),
            ("roles", "adm", "example0"),
            ("roles", "all", "@io,@compute"),
            ("roles", "io", "@racks:rack2,example2"),
            ("roles", "nil", ""),
            ("roles", "none", ""),
            ("roles", "text", "~"),
        ];
        let rows = rows.map(|(source, group, nodes)| (source.into(), group.into(), nodes.into()));
        assert_eq!(parsed(text), Ok(rows.to_vec()));
        for empty in ["", "# nothing\n"] {
            assert_eq!(parsed(empty), Ok(Vec::new()), "{empty:?}");
        }
        assert_eq!(parsed("a: {}\nb: {x: n1, x: n2}\n"), Ok(vec![("b".into(), "x".into(), "n2".into())]));
    }

    #[test]
    fn other_texts_are_errors_with_a_line() {
        for (text, error) in [
            ("- a\n", "line 1: a map of sources is missing"),
            ("roles: x\n", "line 1: a map of groups is missing"),
            ("roles:\n  a: {b: c}\n", "line 2: a node set or a list of them is missing"),
            ("roles:\n  a: [[b]]\n", "line 2: an item of the list is no node set"),
            (
                "roles:\n  a: &x n1\n  b: *x\n",
                "line 3: anchors are not supported; name the group instead, as in @SOURCE:GROUP",
            ),
            ("roles:\n  [a]: n1\n", "line 2: a name is missing"),
            ("a: {b: c}\n---\nd: {e: f}\n", "line 2: the end of the file is missing"),
        ] {
            assert_eq!(parsed(text), Err(error.to_owned()), "{text:?}");
        }
        for text in ["roles:\n\ta: n1\n", "roles: {a: n1\n", "roles:\n  a: 'n1\n", "a: b: c\n"] {
            assert!(parsed(text).is_err_and(|error| error.starts_with("line ")), "{text:?}");
        }
    }
}
