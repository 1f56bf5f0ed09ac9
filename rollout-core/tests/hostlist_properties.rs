//! Hostlists over many inputs: the table shared with the differential test against scontrol, and properties.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use rollout_core::hostlist::{HostlistError, MAX_NAME, MAX_NODES, NodeSet, check_name, expand, fold};

/// See the head of the file for its format.
const CASES: &str = include_str!("hostlist_cases.txt");

fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\\\").map(|part| part.replace("\\t", "\t").replace("\\n", "\n"));
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |text, part| text + "\\" + &part)
}

#[test]
fn the_table_of_cases_holds() {
    let (mut accepted, mut refused) = (0, 0);
    for (index, line) in
        CASES.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let [kind, list, names] = line.split('\t').collect::<Vec<_>>().try_into().expect("three fields");
        let (got, line) = (expand(&unescaped(list)), index + 1);
        match (kind, names.strip_prefix('#')) {
            ("ok" | "ok-23.02" | "ok-23.11", Some(count)) => {
                assert_eq!(got.map(|names| names.len().to_string()), Ok(count.to_owned()), "line {line}");
                accepted += 1;
            }
            ("ok" | "ok-23.02" | "ok-23.11", None) => {
                assert_eq!(got.map(|names| names.join(" ")), Ok(names.to_owned()), "line {line}: {list}");
                accepted += 1;
            }
            ("bad" | "strict", None) => {
                assert!(got.is_err() && names.is_empty(), "line {line}: {list} gives {got:?}");
                refused += 1;
            }
            _ => panic!("line {line}: unknown kind or fields"),
        }
    }
    assert!(accepted > 50 && refused > 60, "the table lost lines: {accepted} accepted, {refused} refused");
}

/// One range in brackets as numbers and width, and its text.
#[derive(Debug, Clone)]
struct Range {
    lo: u64,
    hi: u64,
    width: usize,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Group(Vec<Range>),
}

fn range() -> impl Strategy<Value = Range> {
    (0..1200_u64, 0..12_u64, 0..5_usize).prop_map(|(lo, more, width)| Range { lo, hi: lo + more, width })
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof!["[a-zA-Z0-9_][a-z0-9._-]{0,3}".prop_map(Part::Text), vec(range(), 1..4).prop_map(Part::Group)]
}

fn items() -> impl Strategy<Value = Vec<Vec<Part>>> {
    vec(vec(part(), 1..5), 1..5)
}

fn written(part: &Part) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Group(ranges) => {
            let one = |range: &Range| match range {
                Range { lo, hi, width } if lo == hi => format!("{lo:0width$}"),
                Range { lo, hi, width } => format!("{lo:0width$}-{hi}"),
            };
            format!("[{}]", ranges.iter().map(one).collect::<Vec<_>>().join(","))
        }
    }
}

/// Every text that a part stands for.
fn choices(part: &Part) -> Vec<String> {
    match part {
        Part::Text(text) => vec![text.clone()],
        Part::Group(ranges) => ranges
            .iter()
            .flat_map(|range| {
                (range.lo..=range.hi).map(|number| format!("{number:0width$}", width = range.width))
            })
            .collect(),
    }
}

/// All names of an item, computed in the simplest way, in no particular order.
fn model(item: &[Part]) -> Vec<String> {
    item.iter().fold(vec![String::new()], |names, part| {
        let choices = choices(part);
        names.iter().flat_map(|name| choices.iter().map(move |choice| format!("{name}{choice}"))).collect()
    })
}

fn model_count(item: &[Part]) -> usize {
    item.iter().map(|part| choices(part).len()).product()
}

fn groups(item: &[Part]) -> usize {
    item.iter().filter(|part| matches!(part, Part::Group(_))).count()
}

/// Names as sites have them, similar enough for ranges, gaps and mixed widths to occur.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(cn|r[1-3]n|gpu-|n0|)[0-2]{0,1}[0-9]{1,3}",
        1 => "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,12}",
        1 => "[a-z]{1,3}0{0,3}[1-9][0-9]{0,17}",
    ]
}

fn separator() -> impl Strategy<Value = String> {
    "[, \t\n]{1,3}"
}

/// Text made of the symbols of the grammar, so that it is almost a list.
fn near_list() -> impl Strategy<Value = String> {
    vec(prop_oneof!["[a-z0-9]{1,3}", r"[\[\],]", "[-0-9]{1,6}", r"[\[\]\-, {}]", "\\PC"], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn folded_names_expand_to_the_same_set(names in btree_set(name(), 1..60)) {
        let text = fold(names.iter().map(String::as_str));
        let nodes = NodeSet::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(nodes.len(), names.len(), "{}", &text);
        prop_assert!(nodes.iter().all(|name| names.contains(name)), "{}", &text);
        prop_assert_eq!(nodes.to_string(), text);
    }

    #[test]
    fn folding_is_idempotent_and_blind_to_order_and_duplicates(names in vec(name(), 1..60)) {
        let text = fold(names.iter().map(String::as_str));
        let again = expand(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(fold(again.iter().map(String::as_str)), text.clone());
        prop_assert_eq!(fold(names.iter().rev().chain(&names).map(String::as_str)), text.clone());
        // A folded list expands in order, because the folded text is sorted.
        prop_assert!(NodeSet::parse(&text).is_ok_and(|nodes| nodes.iter().eq(again.iter().map(String::as_str))));
    }

    #[test]
    fn any_text_gives_names_or_an_error_and_never_a_panic(text in any::<String>(), near in near_list()) {
        for list in [text, near] {
            match expand(&list) {
                Ok(names) => {
                    prop_assert!(!names.is_empty() && names.len() <= MAX_NODES);
                    for name in &names {
                        prop_assert_eq!(check_name(name), Ok(()), "{:?}", &list);
                        prop_assert!(name.len() <= MAX_NAME);
                    }
                }
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
            }
            let one_name = expand(&list).is_ok() && !list.contains(['[', ',', ' ', '\n', '\t']);
            prop_assert_eq!(check_name(&list).is_ok(), one_name, "{:?}", &list);
        }
    }

    #[test]
    fn written_lists_expand_as_the_model_says(items in items(), separator in separator()) {
        let list: Vec<String> = items.iter().map(|item| item.iter().map(written).collect()).collect();
        let list = list.join(&separator);
        match expand(&list) {
            Ok(names) => {
                let expected = items.iter().map(|item| model(item)).collect::<Vec<_>>();
                // Up to two groups give the natural order, more give Slurm's own.
                if items.iter().all(|item| groups(item) < 3) {
                    prop_assert_eq!(&names, &expected.concat(), "{}", &list);
                }
                let (mut names, mut expected) = (names, expected.concat());
                names.sort();
                expected.sort();
                prop_assert_eq!(names, expected, "{}", &list);
            }
            Err(HostlistError::TooManyNodes(_)) => {
                prop_assert!(items.iter().map(|item| model_count(item)).sum::<usize>() > MAX_NODES, "{}", &list);
            }
            Err(error) => {
                let digits = |name: &String| name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                let long = matches!(error, HostlistError::NumberTooLarge(_))
                    && items.iter().any(|item| model(item).iter().any(|name| digits(name) > 18));
                prop_assert!(long, "{}: {}", list, error);
            }
        }
    }

    #[test]
    fn sets_are_as_the_sets_of_the_standard_library(
        left in btree_set(name(), 0..30), right in btree_set(name(), 0..30), extra in name(),
    ) {
        let set = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<NodeSet>();
        let (a, b) = (set(&left), set(&right));
        prop_assert_eq!(a.union(&b), set(&left.union(&right).cloned().collect()));
        prop_assert_eq!(a.intersection(&b), set(&left.intersection(&right).cloned().collect()));
        prop_assert_eq!(a.difference(&b), set(&left.difference(&right).cloned().collect()));
        prop_assert_eq!(a.contains(&extra), left.contains(&extra));
        let mut more = a.clone();
        prop_assert_eq!(more.insert(&extra), Ok(!left.contains(&extra)));
        prop_assert_eq!(more, a.union(&[extra].into_iter().collect()));
    }
}
