//! Properties of replaying a journal: lines in any order, torn and foreign lines, late answers.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

#[path = "support/strategies.rs"]
mod strategies;

use proptest::collection::vec;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{
    Booted, Entry, JournalState, Line, NodeRecord, NodeRecords, Progress, lines, replay,
};
use strategies::{answer, conduct, entry, is_conduct, journal, line, nodes, order, time};

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

/// The number of an order after those of the strategies.
const LAST: u128 = 9;

/// Returns an outcome of order [`LAST`] that leaves the boot source to it.
fn outcome_of_the_last() -> impl Strategy<Value = Option<Entry>> {
    let (nodes, order) = (NodeSet::parse("n[1-4],gpu01").unwrap(), OrderId::from_random(LAST));
    let with = |entry: fn(NodeSet, OrderId) -> Entry| Just(Some(entry(nodes.clone(), order.clone())));
    prop_oneof![
        Just(None),
        with(|nodes, order| Entry::Ordered { nodes, order, volatile: true }),
        with(|nodes, order| Entry::Refused { nodes, order, why: "busy".to_owned() }),
        with(|nodes, order| Entry::Unreachable { nodes, order, why: "silence".to_owned() }),
        with(|nodes, order| Entry::Lost { nodes, order, why: "silence".to_owned() }),
        with(|nodes, order| Entry::BootRestoring { nodes, order, until_ms: 90 }),
        with(|nodes, order| Entry::Seen { nodes, order, phase: Phase::Held, error: None, notes: Vec::new() }),
    ]
}

/// Returns lines about the orders of the strategies, which are earlier ones.
fn late() -> impl Strategy<Value = Entry> {
    entry().prop_filter("it begins something new", |entry| {
        !matches!(
            entry,
            Entry::Staged { .. }
                | Entry::Unstaged { .. }
                | Entry::PreStaged { .. }
                | Entry::Ordering { .. }
                | Entry::Superseded { order: None, .. }
        ) && !is_conduct(entry)
    })
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
        match value.get("nodes") {
            Some(nodes) => prop_assert_eq!(nodes.as_str().expect("text"), line.entry.nodes().to_string()),
            None => prop_assert!(is_conduct(&line.entry) && line.entry.nodes().is_empty()),
        }
    }

    #[test]
    fn a_replay_depends_on_the_lines_alone_and_names_only_their_nodes(journal in journal(), from in 0..24_usize) {
        let whole = replay(&journal);
        prop_assert_eq!(&replay(journal.iter()), &whole);
        let named: NodeSet = journal.iter().flat_map(|line| line.entry.nodes().iter()).map(str::to_owned).collect();
        prop_assert!(whole.keys().all(|name| named.contains(name)));
        // Only the lines of a node and of the rollout matter to it, not those of others in between.
        for (name, record) in &whole {
            let is_of_all = |line: &Line| matches!(line.entry, Entry::Started | Entry::Resumed);
            let is_own = |line: &&Line| line.entry.nodes().contains(name) || is_of_all(line);
            let own: Vec<_> = journal.iter().filter(is_own).collect();
            let alone = replay(own);
            prop_assert_eq!(alone.get(name), Some(record));
        }
        // A node that is staged anew starts afresh, except for the time of its order, an unsettled boot source and a
        // drain.
        let anew = |mut records: NodeRecords, name: &str| {
            let node = records.remove(name)?;
            Some(NodeRecord { ordering_ms: None, volatile: false, boot_change: None, kept_out: None, reserved: false, ..node })
        };
        let at = from.min(journal.len());
        for line in journal.get(at..at + 1).into_iter().flatten() {
            if let Entry::Staged { nodes } = &line.entry {
                for name in nodes.iter() {
                    prop_assert_eq!(anew(replay(&journal[..=at]), name), anew(replay([line]), name));
                }
            }
        }
    }

    /// Earlier versions skip these lines.
    #[test]
    fn lines_of_started_rollouts_change_nothing_about_orders(journal in journal(), now_ms in time()) {
        let old: Vec<Line> = journal.iter().filter(|line| !is_conduct(&line.entry)).cloned().collect();
        let without = |records: NodeRecords| -> NodeRecords {
            let record = |node| NodeRecord {
                request: None,
                cancelled: false,
                kept_out: None,
                reserved: false,
                forgiven: false,
                before_start: false,
                qualification: None,
                hooks: Default::default(),
                ..node
            };
            records.into_iter().map(|(name, node)| (name, record(node))).collect()
        };
        let (new, old) = (replay(&journal), replay(&old));
        for (new, old) in new.values().zip(old.values()) {
            let facts = |node: &NodeRecord| {
                let progress = (node.progress.may_be_ordered(now_ms), node.progress.is_pending());
                (progress, node.is_settled(), node.is_claimed(now_ms), node.unsettled_boot_change().cloned())
            };
            prop_assert_eq!(facts(new), facts(old));
        }
        prop_assert_eq!(without(new), old);
    }

    #[test]
    fn a_journal_has_one_state_however_it_is_read(journal in journal()) {
        let state: JournalState = journal.iter().collect();
        prop_assert_eq!(&state.records, &replay(&journal));
        let mut continued = JournalState::default();
        lines(&text_of(&journal)).for_each(|line| continued.apply(&line));
        prop_assert_eq!(continued, state);
    }

    /// A request ends with the order that it led to, and a withdrawal or a drain needs no order.
    #[test]
    fn an_order_ends_a_request(before in journal(), requests in vec(line(conduct()), 0..12), t_ms in time()) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let mut journal = before;
        journal.extend(requests);
        let kept_out = |records: &NodeRecords| records.values().map(|node| node.kept_out.clone()).collect::<Vec<_>>();
        let drains = kept_out(&replay(&journal));
        let order = OrderId::from_random(LAST);
        journal.push(Line { t_ms, by: String::new(), entry: Entry::Ordering { nodes: all, order, until_ms: u64::MAX } });
        let after = replay(&journal);
        prop_assert!(after.values().all(|node| node.request.is_none() && !node.cancelled));
        prop_assert!(kept_out(&after).iter().flatten().eq(drains.iter().flatten()));
    }

    #[test]
    fn a_torn_journal_replays_as_its_whole_lines(journal in journal(), cut in any::<prop::sample::Index>()) {
        let text = text_of(&journal);
        let cut = cut.index(text.len() + 1);
        let torn = String::from_utf8_lossy(&text.as_bytes()[..cut]).into_owned();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        // A line that lacks only its newline is complete.
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(replay(&lines(&torn).collect::<Vec<_>>()), replay(&journal[..whole]));
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
        let _ = replay(&lines(&text).collect::<Vec<_>>());
        let _ = replay(&lines(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_seen_updated_is_not_undone_by_late_answers(
        before in journal(), late in vec(line(answer()), 0..12), id in order(), now_ms in time(),
    ) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let at_50 = |entry| Line { t_ms: 50, by: String::new(), entry };
        let updated = [
            at_50(Entry::Ordering { nodes: all.clone(), order: id.clone(), until_ms: 60 }),
            at_50(Entry::Seen { nodes: all.clone(), order: id, phase: Phase::Updated, error: None, notes: Vec::new() }),
        ];
        let mut journal = before;
        journal.extend(updated);
        let seen = replay(&journal);
        journal.extend(late);
        prop_assert_eq!(&replay(&journal), &seen, "no record changes");
        for (name, node) in seen {
            prop_assert_eq!(node.progress, Progress::Seen(Phase::Updated), "{}", name);
            prop_assert!(!node.progress.may_be_ordered(now_ms));
        }
        // Staged anew, all of them are armed again.
        journal.push(at_50(Entry::Staged { nodes: all.clone() }));
        prop_assert!(replay(&journal).values().all(|node| node.progress == Progress::Staged && node.progress.may_be_ordered(now_ms)));
    }

    #[test]
    fn what_was_called_off_is_not_armed_by_late_answers(
        before in journal(), late in vec(line(answer()), 0..12),
    ) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let mut journal = before;
        journal.push(Line { t_ms: u64::MAX, by: String::new(), entry: Entry::Unstaged { nodes: all } });
        prop_assert!(replay(&journal).values().all(|node| !node.progress.may_be_ordered(u64::MAX)));
        let kept = replay(&journal);
        // An acceptance by the agent is recorded even then, because it is true.
        let is_taken = |line: &Line| matches!(line.entry, Entry::Ordered { .. } | Entry::UnderWay { .. });
        journal.extend(late.into_iter().filter(|line| !is_taken(line)));
        prop_assert!(replay(&journal).keys().eq(kept.keys()));
    }

    #[test]
    fn unstaging_removes_armed_and_lost_nodes_and_nothing_else(journal in journal(), t_ms in time(), nodes in nodes()) {
        let before = replay(&journal);
        let unstaged = Line { t_ms, by: String::new(), entry: Entry::Unstaged { nodes: nodes.clone() } };
        let can_be_called_off =
            |node: &NodeRecord| node.progress.may_be_ordered(t_ms) || node.progress == Progress::Lost;
        let mut expected = before.clone();
        expected.retain(|name, node| !(nodes.contains(name) && can_be_called_off(node)));
        prop_assert_eq!(replay(journal.iter().chain([&unstaged])), expected);
    }

    /// M10: only the boot source's own order restores it.
    #[test]
    fn late_lines_of_earlier_orders_leave_the_last_order_alone(
        before in journal(), outcome in outcome_of_the_last(), late in vec(line(late()), 0..12),
    ) {
        let all = NodeSet::parse("n[1-4],gpu01").unwrap();
        let booted = Booted { boot_id: "c".to_owned(), running: None };
        let before_change = all.iter().map(|node| (node.to_owned(), booted.clone())).collect();
        let (order, nodes) = (OrderId::from_random(LAST), all.clone());
        let at_50 = |entry| Line { t_ms: 50, by: String::new(), entry };
        let mut journal = before;
        journal.push(at_50(Entry::Staged { nodes: all.clone() }));
        journal.push(at_50(Entry::Ordering { nodes: all, order: order.clone(), until_ms: 60 }));
        journal.push(at_50(Entry::BootChange { nodes, order, before: before_change, until_ms: 70 }));
        journal.extend(outcome.map(at_50));
        let last = replay(&journal);
        for line in late {
            journal.push(line);
            prop_assert_eq!(&replay(&journal), &last, "{:?}", journal.last());
        }
    }

    #[test]
    fn a_description_is_never_empty(line in line(entry())) {
        prop_assert!(line.entry.describe().starts_with(&line.entry.nodes().to_string()));
        prop_assert!(!line.entry.describe().trim().is_empty());
    }
}
