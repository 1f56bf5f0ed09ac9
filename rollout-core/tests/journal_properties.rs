//! Properties of replaying a journal: lines in any order, torn and foreign lines, late answers.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Booted, Entry, Line, NodeRecord, NodeRecords, Progress, fold, lines};

fn nodes() -> impl Strategy<Value = NodeSet> {
    vec(prop_oneof!["n[1-4]", Just("gpu01".to_owned())], 0..4).prop_map(|names| names.into_iter().collect())
}

fn order() -> impl Strategy<Value = OrderId> {
    (0..3_u128).prop_map(OrderId::from_random)
}

fn why() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("no such package".to_owned()),
        "\\PC{0,12}",
        Just("torn\nin \"two\" \u{0}— ü".to_owned())
    ]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..100_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let phase = prop::sample::select(Phase::ALL.to_vec());
    prop_oneof![
        nodes().prop_map(|nodes| Entry::Staged { nodes }),
        nodes().prop_map(|nodes| Entry::Unstaged { nodes }),
        (nodes(), order(), prop::option::of(why())).prop_map(|(nodes, order, drained)| Entry::Delivered {
            nodes,
            order,
            drained
        }),
        (nodes(), order(), time()).prop_map(|(nodes, order, until_ms)| Entry::Ordering {
            nodes,
            order,
            until_ms
        }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: false }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: true }),
        (nodes(), order(), "[ab]").prop_map(|(nodes, order, boot_id)| {
            let booted = Booted { boot_id, running: None };
            let before = nodes.iter().map(|node| (node.to_owned(), booted.clone())).collect();
            Entry::BootSource { nodes, order, before }
        }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::PutBack { nodes, order, why }),
        answer(),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Retried { nodes, order }),
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Released { nodes, order }),
        (nodes(), order(), phase, prop::option::of(why()))
            .prop_map(|(nodes, order, phase, error)| Entry::Seen { nodes, order, phase, error }),
    ]
}

/// An entry that a late RebootProgram may still write.
fn answer() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (nodes(), order()).prop_map(|(nodes, order)| Entry::Ordered { nodes, order, volatile: false }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::Refused { nodes, order, why }),
        (nodes(), order(), why()).prop_map(|(nodes, order, why)| Entry::Unreachable { nodes, order, why }),
    ]
}

fn line(entry: impl Strategy<Value = Entry>) -> impl Strategy<Value = Line> {
    (time(), entry).prop_map(|(t_ms, entry)| Line { t_ms, by: "slurm-rollout root@ctl".to_owned(), entry })
}

fn journal() -> impl Strategy<Value = Vec<Line>> {
    vec(line(entry()), 0..24)
}

fn text_of(journal: &[Line]) -> String {
    journal.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

/// A line that this version cannot read.
fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("{".to_owned()),
        Just("null".to_owned()),
        Just("[1,2]".to_owned()),
        Just("\0\0\0\0".to_owned()),
        Just(r#"{"t_ms":1,"by":"x","is":"powered-off","nodes":"n1"}"#.to_owned()),
        Just(r#"{"t_ms":1,"by":"x","is":"staged","nodes":"n[2-1]"}"#.to_owned()),
        Just(r#"{"t_ms":-1,"by":"x","is":"staged","nodes":"n1"}"#.to_owned()),
        Just(r#"{"t_ms":1,"by":"x","is":"seen","nodes":"n1","order":"0","phase":"dancing"}"#.to_owned()),
        "[^\n\r]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_survive_their_text(journal in journal()) {
        let text = text_of(&journal);
        prop_assert_eq!(text.lines().count(), journal.len(), "one line each, whatever stands in them");
        prop_assert_eq!(lines(&text).collect::<Vec<_>>(), journal);
    }

    #[test]
    fn nodes_stand_in_a_line_as_a_hostlist(line in line(entry())) {
        let value = serde_json::to_value(&line).unwrap();
        let nodes = value["nodes"].as_str().expect("text");
        prop_assert_eq!(nodes, line.entry.nodes().to_string());
    }

    #[test]
    fn a_fold_depends_on_the_lines_alone_and_names_only_their_nodes(journal in journal(), from in 0..24_usize) {
        let whole = fold(&journal);
        prop_assert_eq!(&fold(journal.iter()), &whole);
        let said: NodeSet = journal.iter().flat_map(|line| line.entry.nodes().iter()).map(str::to_owned).collect();
        prop_assert!(whole.keys().all(|name| said.contains(name)));
        // Only the lines of a node matter to it, not those of others in between.
        for (name, record) in &whole {
            let own: Vec<_> = journal.iter().filter(|line| line.entry.nodes().contains(name)).collect();
            let alone = fold(own);
            prop_assert_eq!(alone.get(name), Some(record));
        }
        // A node that is staged anew keeps nothing from before but the time of its order and its boot source.
        let anew = |mut fold: NodeRecords, name: &str| {
            fold.remove(name).map(|node| NodeRecord { ordering_ms: None, volatile: false, boot_source: None, ..node })
        };
        let at = from.min(journal.len());
        for line in journal.get(at..at + 1).into_iter().flatten() {
            if let Entry::Staged { nodes } = &line.entry {
                for name in nodes.iter() {
                    prop_assert_eq!(anew(fold(&journal[..=at]), name), anew(fold([line]), name));
                }
            }
        }
    }

    #[test]
    fn a_torn_journal_folds_as_its_whole_lines(journal in journal(), cut in any::<prop::sample::Index>()) {
        let text = text_of(&journal);
        let cut = cut.index(text.len() + 1);
        let torn = String::from_utf8_lossy(&text.as_bytes()[..cut]).into_owned();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        // A line that lacks only its newline is complete.
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(fold(&lines(&torn).collect::<Vec<_>>()), fold(&journal[..whole]));
    }

    #[test]
    fn what_is_no_line_is_passed_over(parts in vec((line(entry()), vec(garbage(), 0..3)), 0..12), crlf in any::<bool>()) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = String::new();
        for (line, garbage) in &parts {
            for what in garbage {
                text += &format!("{what}{end}");
            }
            text += &format!("{}{end}", serde_json::to_string(line).unwrap());
        }
        let journal: Vec<Line> = parts.into_iter().map(|(line, _)| line).collect();
        prop_assert_eq!(lines(&text).collect::<Vec<_>>(), journal);
    }

    #[test]
    fn any_text_at_all_does_no_harm(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        let _ = fold(&lines(&text).collect::<Vec<_>>());
        let _ = fold(&lines(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_seen_updated_is_not_undone_by_late_answers(
        before in journal(), late in vec(line(answer()), 0..12), id in order(), now_ms in time(),
    ) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let say = |entry| Line { t_ms: 50, by: String::new(), entry };
        let updated = [
            say(Entry::Ordering { nodes: all.clone(), order: id.clone(), until_ms: 60 }),
            say(Entry::Seen { nodes: all.clone(), order: id, phase: Phase::Updated, error: None }),
        ];
        let mut journal = before;
        journal.extend(updated);
        let seen = fold(&journal);
        journal.extend(late);
        prop_assert_eq!(&fold(&journal), &seen, "nothing of it is told differently");
        for (name, node) in seen {
            prop_assert_eq!(node.progress, Progress::Seen(Phase::Updated), "{}", name);
            prop_assert!(!node.progress.is_armed(now_ms));
        }
        // Staged anew, all of them are armed again.
        journal.push(say(Entry::Staged { nodes: all.clone() }));
        prop_assert!(fold(&journal).values().all(|node| node.progress == Progress::Staged && node.progress.is_armed(now_ms)));
    }

    #[test]
    fn what_was_called_off_is_not_armed_by_late_answers(
        before in journal(), late in vec(line(answer()), 0..12),
    ) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let mut journal = before;
        journal.push(Line { t_ms: u64::MAX, by: String::new(), entry: Entry::Unstaged { nodes: all } });
        prop_assert!(fold(&journal).values().all(|node| !node.progress.is_armed(u64::MAX)));
        let called_off = fold(&journal);
        // An acceptance by the agent is recorded even then, because it is true.
        journal.extend(late.into_iter().filter(|line| !matches!(line.entry, Entry::Ordered { .. })));
        prop_assert!(fold(&journal).keys().eq(called_off.keys()));
    }

    #[test]
    fn unstaging_takes_away_armed_nodes_and_nothing_else(journal in journal(), t_ms in time(), nodes in nodes()) {
        let before = fold(&journal);
        let unstaged = Line { t_ms, by: String::new(), entry: Entry::Unstaged { nodes: nodes.clone() } };
        let mut expected = before.clone();
        expected.retain(|name, node| !(nodes.contains(name) && node.progress.is_armed(t_ms)));
        prop_assert_eq!(fold(journal.iter().chain([&unstaged])), expected);
    }

    #[test]
    fn a_description_is_never_empty(line in line(entry())) {
        prop_assert!(line.entry.describe().starts_with(&line.entry.nodes().to_string()));
        prop_assert!(!line.entry.describe().trim().is_empty());
    }
}
