//! Started rollouts.

use super::answers::{covered, under_way};
use super::*;
use ConductState as S;

/// Returns the state after these entries, written at 100 ms, 110 ms and so on by a0, a1 and so on.
pub(super) fn after(entries: &[Entry]) -> JournalState {
    let line = |(index, entry): (usize, &Entry)| Line {
        t_ms: 100 + 10 * index as u64,
        by: format!("a{index}"),
        entry: entry.clone(),
    };
    entries.iter().enumerate().map(line).collect::<Vec<_>>().iter().collect()
}

fn n1(entries: &[Entry]) -> NodeRecord {
    after(entries).records.remove("n1").unwrap()
}

fn paused() -> Entry {
    Entry::Paused { why: Some("noise".into()) }
}

fn halted() -> Entry {
    Entry::Halted { why: "2 failed".into() }
}

fn asked(way: Way) -> Entry {
    Entry::Requested { nodes: nodes(), way, drained: None }
}

fn taken() -> Entry {
    Entry::RequestTaken { nodes: nodes() }
}

fn withdrawn(cancelled: bool) -> Entry {
    Entry::Withdrawn { nodes: nodes(), why: "paused".into(), cancelled }
}

fn kept_out(reason: &str) -> Entry {
    Entry::KeptOut { nodes: nodes(), reason: Some(reason.into()) }
}

fn let_in() -> Entry {
    Entry::LetIn { nodes: nodes() }
}

fn pre_staged(order: u128) -> Entry {
    Entry::PreStaged { nodes: nodes(), order: id(order), drained: None }
}

fn updated() -> Entry {
    seen(1, Phase::Updated)
}

#[test]
fn each_line_leads_to_its_state() {
    let noise = || S::Paused { why: Some("noise".into()) };
    let failed = || S::Halted { why: "2 failed".into() };
    let (started, resumed, stopped) = (|| Entry::Started, || Entry::Resumed, || Entry::Stopped);
    for (entries, state, since_ms, by, counted_from_ms) in [
        (vec![staged()], S::NotStarted, 0, "", 0),
        (vec![staged(), started()], S::Running, 110, "a1", 110),
        (vec![staged(), started(), started()], S::Running, 110, "a1", 110),
        (vec![staged(), started(), paused()], noise(), 120, "a2", 110),
        (vec![staged(), started(), paused(), Entry::Paused { why: None }], noise(), 120, "a2", 110),
        (vec![staged(), started(), paused(), started()], noise(), 120, "a2", 110),
        (vec![staged(), started(), paused(), resumed()], S::Running, 130, "a3", 130),
        (vec![staged(), started(), halted()], failed(), 120, "a2", 110),
        (vec![staged(), started(), halted(), resumed()], S::Running, 130, "a3", 130),
        // At the same time: whichever line comes first.
        (vec![staged(), started(), paused(), halted()], failed(), 130, "a3", 110),
        (vec![staged(), started(), halted(), paused()], failed(), 120, "a2", 110),
        // It runs on, and its failures so far no longer count.
        (vec![staged(), started(), resumed()], S::Running, 110, "a1", 120),
        (vec![staged(), started(), stopped()], S::Stopped, 120, "a2", 110),
        (vec![staged(), started(), paused(), stopped()], S::Stopped, 130, "a3", 110),
        (vec![staged(), started(), halted(), stopped()], S::Stopped, 130, "a3", 110),
        (vec![staged(), started(), stopped(), started(), resumed(), paused()], S::Stopped, 120, "a2", 110),
        (vec![staged(), started(), stopped(), halted(), stopped()], S::Stopped, 120, "a2", 110),
        // Only a start begins anything.
        (vec![staged(), paused(), resumed(), halted(), stopped()], S::NotStarted, 0, "", 0),
    ] {
        let conduct = Conduct { counted_from_ms, ..Conduct::default() };
        let expected = Conduct { state, since_ms, by: by.into(), ..conduct };
        assert_eq!(after(&entries).conduct, expected, "{entries:?}");
    }
}

/// Two controllers may have different clocks: the order of the lines counts.
#[test]
fn failures_and_requests_before_a_start_or_resume_are_forgiven() {
    let refused = || Entry::Refused { nodes: nodes(), order: id(1), why: "ledger full".into() };
    let again = || Entry::Retried { nodes: nodes(), order: id(1) };
    let held = || seen(1, Phase::Held);
    let to_qualify = || Entry::ToQualify { nodes: nodes(), wave: 1 };
    let not_qualified = || Entry::NotQualified { nodes: nodes(), wave: 1, why: "job 7 FAILED".into() };
    for (entries, forgiven) in [
        (vec![staged(), Entry::Started], true),
        (vec![staged(), ordering(1, 500), refused(), Entry::Started], true),
        (vec![staged(), Entry::Started, ordering(1, 500)], false),
        (vec![staged(), Entry::Started, ordering(1, 500), refused()], false),
        (vec![staged(), Entry::Started, ordering(1, 500), refused(), Entry::Resumed], true),
        (vec![staged(), Entry::Started, ordering(1, 500), held(), Entry::Resumed], true),
        // The agent reports the same end again.
        (vec![staged(), Entry::Started, ordering(1, 500), held(), Entry::Resumed, held()], true),
        (vec![staged(), Entry::Started, ordering(1, 500), held(), Entry::Resumed, again(), held()], false),
        (vec![staged(), Entry::Started, asked(Way::Asap), taken(), Entry::Resumed], true),
        (vec![staged(), Entry::Started, asked(Way::Asap), Entry::Resumed, taken()], true),
        (vec![staged(), Entry::Started, withdrawn(false), Entry::Resumed, asked(Way::Asap)], false),
        (vec![staged(), Entry::Started, ordering(1, 500), Entry::Resumed, updated()], false),
        (vec![staged(), Entry::Started, staged()], false),
        (vec![staged(), Entry::Started, to_qualify(), updated(), Entry::Resumed, not_qualified()], false),
        (vec![staged(), Entry::Started, to_qualify(), updated(), not_qualified(), Entry::Resumed], true),
    ] {
        assert_eq!(n1(&entries).forgiven, forgiven, "{entries:?}");
    }
}

/// A node is staged again by `retry`.
#[test]
fn a_rollout_that_is_over_does_not_run_on_if_a_node_is_staged_again() {
    let begin = [staged(), Entry::Started, ordering(1, 500)];
    for (then, state) in [
        (vec![updated(), staged()], S::NotStarted),
        (vec![seen(1, Phase::RolledBack), staged()], S::NotStarted),
        (vec![seen(1, Phase::RolledBack), halted(), staged()], S::NotStarted),
        (vec![Entry::Stopped, staged()], S::NotStarted),
        (vec![seen(1, Phase::RolledBack), staged(), Entry::Started], S::Running),
        // It is not over.
        (vec![refused(1), staged()], S::Running),
        (vec![refused(1), halted(), staged()], S::Halted { why: "2 failed".into() }),
        (
            vec![
                Entry::Staged { nodes: NodeSet::parse("n2").unwrap() },
                seen(1, Phase::RolledBack),
                staged(),
            ],
            S::Running,
        ),
    ] {
        let entries: Vec<_> = begin.iter().cloned().chain(then).collect();
        assert_eq!(after(&entries).conduct.state, state, "{entries:?}");
    }
}

#[test]
fn approvals_add_up_while_it_is_started() {
    let approved = |wave| Entry::Approved { wave };
    for (entries, waves) in [
        (vec![staged(), approved(1)], vec![]),
        (vec![staged(), approved(1), Entry::Started], vec![]),
        (vec![staged(), Entry::Started, approved(2), approved(1), approved(2)], vec![1, 2]),
        (vec![staged(), Entry::Started, paused(), approved(1), Entry::Resumed], vec![1]),
        (vec![staged(), Entry::Started, halted(), approved(3)], vec![3]),
        (vec![staged(), Entry::Started, approved(1), Entry::Stopped, approved(2)], vec![1]),
        (vec![staged(), Entry::Started, approved(1), Entry::Stopped, staged(), Entry::Started], vec![]),
    ] {
        assert_eq!(after(&entries).conduct.approved, waves.into_iter().collect(), "{entries:?}");
    }
}

#[test]
fn a_job_is_known_by_its_last_warning_and_its_end_after_that() {
    let (warned, requeued) = (
        || Entry::JobWarned { job: 7, nodes: nodes() },
        || Entry::JobEnded { job: 7, nodes: nodes(), how: JobEnd::Requeued },
    );
    for (entries, warned_ms, ended) in [
        (vec![warned()], Some(100), None),
        (vec![requeued()], None, Some((100, JobEnd::Requeued))),
        (vec![warned(), requeued()], Some(100), Some((110, JobEnd::Requeued))),
        (vec![warned(), requeued(), warned()], Some(120), None),
    ] {
        let jobs = after(&entries).conduct.jobs;
        assert_eq!(jobs, [(7, JobRecord { warned_ms, ended })].into(), "{entries:?}");
    }
}

#[test]
fn a_request_lasts_until_it_is_withdrawn_or_leads_to_an_order() {
    let request = |at_ms, way, taken| Some(Request { at_ms, way, taken, withdrawing: false, drained: None });
    let withdrawing = || Entry::Withdrawing { nodes: nodes(), why: "paused".into() };
    let going =
        |taken| request(110, Way::Asap, taken).map(|request| Request { withdrawing: true, ..request });
    for (entries, expected, cancelled) in [
        (vec![staged(), asked(Way::Asap)], request(110, Way::Asap, false), false),
        (vec![staged(), asked(Way::Asap), taken()], request(110, Way::Asap, true), false),
        (vec![staged(), taken()], None, false),
        // Its effect did not come about.
        (vec![staged(), asked(Way::Asap), asked(Way::Down)], request(120, Way::Down, false), false),
        (vec![staged(), asked(Way::Asap), taken(), asked(Way::Asap)], request(130, Way::Asap, false), false),
        (vec![staged(), asked(Way::Asap), taken(), withdrawn(false)], None, false),
        (vec![staged(), asked(Way::Asap), taken(), withdrawn(true)], None, true),
        (vec![staged(), withdrawn(true)], None, false),
        (vec![staged(), withdrawing()], None, false),
        (vec![staged(), asked(Way::Asap), withdrawing()], going(false), false),
        (vec![staged(), asked(Way::Asap), taken(), withdrawing()], going(true), false),
        // It goes on after all.
        (vec![staged(), asked(Way::Asap), withdrawing(), taken()], request(110, Way::Asap, true), false),
        (vec![staged(), asked(Way::Asap), withdrawing(), withdrawn(false)], None, false),
        (vec![staged(), asked(Way::Asap), withdrawing(), ordering(1, 500)], None, false),
        (vec![staged(), asked(Way::Asap), withdrawn(true), Entry::Resumed], None, false),
        (
            vec![staged(), asked(Way::Asap), withdrawn(true), asked(Way::Drained)],
            request(130, Way::Drained, false),
            false,
        ),
        (vec![staged(), asked(Way::Asap), withdrawn(true), staged()], None, false),
        (vec![staged(), asked(Way::Asap), Entry::Resumed], request(110, Way::Asap, false), false),
        (vec![staged(), asked(Way::Asap), taken(), ordering(1, 500)], None, false),
        (vec![staged(), asked(Way::Asap), withdrawn(true), ordering(1, 500)], None, false),
        (vec![staged(), asked(Way::Asap), staged()], None, false),
        // An order overtook the line.
        (vec![staged(), ordering(1, 500), asked(Way::Asap)], None, false),
        (vec![staged(), ordering(1, 500), ordered(1), asked(Way::Asap)], None, false),
        // Nothing came of the order.
        (
            vec![staged(), asked(Way::Asap), ordering(1, 500), refused(1), asked(Way::Asap)],
            request(140, Way::Asap, false),
            false,
        ),
        // An answer that was given up comes late: the reboot that Slurm still has is a plain one.
        (vec![staged(), ordering(1, 115), asked(Way::Asap), ordered(1)], None, false),
        // slurmd had the node rebooted, with the order that its agent held in advance.
        (vec![staged(), pre_staged(1), asked(Way::Asap), taken(), ordered(1)], None, false),
        (vec![staged(), pre_staged(1), asked(Way::Asap), taken(), under_way(1, Some(2))], None, false),
        (vec![staged(), pre_staged(1), asked(Way::Asap), taken(), covered(1, None)], None, false),
        (vec![staged(), pre_staged(1), asked(Way::Asap), taken(), updated()], None, false),
        (vec![staged(), pre_staged(1), asked(Way::Asap), withdrawn(true), updated()], None, false),
        // A refusal that comes late leaves it to be withdrawn.
        (
            vec![staged(), ordering(1, 115), asked(Way::Asap), refused(1)],
            request(120, Way::Asap, false),
            false,
        ),
    ] {
        let record = n1(&entries);
        assert_eq!((record.request, record.cancelled), (expected, cancelled), "{entries:?}");
    }
    let drained = Some("bad fan".to_owned());
    let entry = Entry::Requested { nodes: nodes(), way: Way::Drained, drained: drained.clone() };
    assert_eq!(n1(&[staged(), entry.clone()]).request.unwrap().drained, drained);
    assert!(
        after(&[entry, taken(), withdrawn(true), kept_out("x")]).records.is_empty(),
        "called off meanwhile"
    );
}

#[test]
fn a_drain_of_ours_is_known_until_it_is_removed() {
    let since = |since_ms, reason: &str| Some(KeptOut { since_ms, reason: Some(reason.to_owned()) });
    for (entries, expected) in [
        (vec![staged(), kept_out("down")], since(110, "down")),
        // Repeated after a crash, it would take our own drain for the one before.
        (vec![staged(), kept_out("down"), kept_out("ours")], since(110, "down")),
        (vec![staged(), kept_out("down"), let_in()], None),
        (vec![staged(), kept_out("down"), let_in(), kept_out("down again")], since(130, "down again")),
        (
            vec![staged(), kept_out("down"), asked(Way::Down), ordering(1, 500), ordered(1), updated()],
            since(110, "down"),
        ),
        (
            vec![staged(), kept_out("down"), ordering(1, 500), seen(1, Phase::RolledBack), staged()],
            since(110, "down"),
        ),
        (vec![staged(), let_in()], None),
    ] {
        assert_eq!(n1(&entries).kept_out, expected, "{entries:?}");
    }
}

#[test]
fn a_reservation_of_ours_is_known_until_it_is_gone() {
    let unreserved = || Entry::Unreserved { nodes: nodes() };
    let reserved = || asked(Way::Reserved);
    for (entries, expected) in [
        (vec![staged(), asked(Way::Asap)], false),
        (vec![staged(), reserved()], true),
        (vec![staged(), reserved(), taken(), withdrawn(false)], true),
        (vec![staged(), reserved(), withdrawn(false), unreserved()], false),
        (vec![staged(), reserved(), withdrawn(false), unreserved(), reserved()], true),
        // The order ends the request, and not the reservation.
        (vec![staged(), reserved(), taken(), ordering(1, 500), ordered(1), updated()], true),
        (vec![staged(), reserved(), ordering(1, 500), ordered(1), unreserved(), updated()], false),
        (vec![staged(), reserved(), ordering(1, 500), seen(1, Phase::RolledBack), staged()], true),
        // The process that wrote the line goes on to reserve the node, although an order overtook it.
        (vec![staged(), ordering(1, 500), reserved()], true),
    ] {
        let record = n1(&entries);
        assert_eq!(record.reserved, expected, "{entries:?}");
        assert_eq!(record.has_traces_in_slurm(), expected || record.request.is_some(), "{entries:?}");
    }
}

#[test]
fn a_qualification_lasts_until_its_outcome_or_the_end_of_its_reservation() {
    let chosen = || Entry::ToQualify { nodes: nodes(), wave: 2 };
    let run = |run| Entry::Qualifying { nodes: nodes(), wave: 2, run };
    let job = |job| Entry::QualificationJob { nodes: nodes(), job };
    let failed = || Entry::NotQualified { nodes: nodes(), wave: 2, why: "job 7 FAILED".into() };
    let passed = || Entry::Qualified { nodes: nodes(), wave: 2 };
    let unreserved = || Entry::Unreserved { nodes: nodes() };
    let to_qualify = "is to qualify wave 2";
    for (entries, note, reserved, qualified) in [
        (vec![staged(), run(5), passed()], None, false, true),
        (vec![staged(), chosen()], Some(to_qualify), true, false),
        (vec![staged(), chosen(), ordering(1, 500), ordered(1), updated()], Some(to_qualify), true, false),
        (vec![staged(), chosen(), updated(), run(5)], Some(to_qualify), true, false),
        (vec![staged(), chosen(), run(5), job(7)], Some("qualifies wave 2 with job 7"), true, false),
        (vec![staged(), chosen(), run(5), job(7), run(6)], Some(to_qualify), true, false),
        (vec![staged(), chosen(), unreserved()], None, false, false),
        (vec![staged(), chosen(), run(5), passed(), failed()], None, true, true),
        (
            vec![staged(), chosen(), run(5), failed(), unreserved()],
            Some("not qualified: job 7 FAILED"),
            false,
            false,
        ),
        // Staged again, it may still be reserved.
        (
            vec![staged(), chosen(), ordering(1, 500), updated(), run(5), failed(), staged()],
            None,
            true,
            false,
        ),
    ] {
        let record = n1(&entries);
        let known = record.qualification.as_ref();
        assert_eq!(known.and_then(Qualification::note).as_deref(), note, "{entries:?}");
        assert_eq!(record.reserved, reserved, "{entries:?}");
        assert_eq!(after(&entries).conduct.qualified.contains(&2), qualified, "{entries:?}");
    }
    let record = n1(&[staged(), chosen(), run(5), job(7), run(6)]);
    let known = record.qualification.unwrap();
    assert_eq!((known.runs, known.run.map(|run| (run.id, run.job))), (2, Some((6, None))));
}

#[test]
fn a_request_in_a_way_of_a_later_version_is_skipped() {
    let line = |way| format!(r#"{{"t_ms":5,"by":"root@ctl","is":"requested","nodes":"n1","way":"{way}"}}"#);
    let text = format!("{}\n{}\n", line("by-hand"), line("asap"));
    let entries: Vec<Entry> = lines(&text).map(|line| line.entry).collect();
    assert_eq!(entries, [asked(Way::Asap)]);
}

#[test]
fn lines_read_as_sentences() {
    let requested = |way| Entry::Requested { nodes: nodes(), way, drained: None };
    for (entry, json, text) in [
        (Entry::Started, r#"{"is":"started"}"#, "started"),
        (Entry::Paused { why: None }, r#"{"is":"paused"}"#, "paused"),
        (paused(), r#"{"is":"paused","why":"noise"}"#, "paused: noise"),
        (Entry::Resumed, r#"{"is":"resumed"}"#, "resumed"),
        (Entry::Stopped, r#"{"is":"stopped"}"#, "stopped"),
        (Entry::Approved { wave: 2 }, r#"{"is":"approved","wave":2}"#, "wave 2 approved"),
        (halted(), r#"{"is":"halted","why":"2 failed"}"#, "halted: 2 failed"),
        (
            requested(Way::Asap),
            r#"{"is":"requested","nodes":"n1","way":"asap"}"#,
            "n1 reboot requested from Slurm",
        ),
        (
            Entry::Requested { nodes: nodes(), way: Way::Drained, drained: Some("bad fan".into()) },
            r#"{"is":"requested","nodes":"n1","way":"drained","drained":"bad fan"}"#,
            "n1 reboot requested from Slurm, to stay drained",
        ),
        (
            requested(Way::Down),
            r#"{"is":"requested","nodes":"n1","way":"down"}"#,
            "n1 reboot requested from Slurm, which sees them down",
        ),
        (
            requested(Way::Reserved),
            r#"{"is":"requested","nodes":"n1","way":"reserved"}"#,
            "n1 reboot requested from Slurm and reserved for it",
        ),
        (
            Entry::Unreserved { nodes: nodes() },
            r#"{"is":"unreserved","nodes":"n1"}"#,
            "n1 no longer reserved for the update",
        ),
        (
            Entry::ToQualify { nodes: nodes(), wave: 1 },
            r#"{"is":"to-qualify","nodes":"n1","wave":1}"#,
            "n1 to qualify wave 1, reserved until then",
        ),
        (
            Entry::Qualifying { nodes: nodes(), wave: 1, run: 9 },
            r#"{"is":"qualifying","nodes":"n1","wave":1,"run":9}"#,
            "n1 qualifying wave 1: job to be submitted",
        ),
        (
            Entry::QualificationJob { nodes: nodes(), job: 7 },
            r#"{"is":"qualification-job","nodes":"n1","job":7}"#,
            "n1 qualifying with job 7",
        ),
        (
            Entry::Qualified { nodes: nodes(), wave: 1 },
            r#"{"is":"qualified","nodes":"n1","wave":1}"#,
            "n1 qualified, and so is wave 1",
        ),
        (
            Entry::NotQualified { nodes: nodes(), wave: 1, why: "job 7 FAILED".into() },
            r#"{"is":"not-qualified","nodes":"n1","wave":1,"why":"job 7 FAILED"}"#,
            "n1 of wave 1 not qualified: job 7 FAILED",
        ),
        (taken(), r#"{"is":"request-taken","nodes":"n1"}"#, "n1 reboot accepted by Slurm"),
        (
            withdrawn(false),
            r#"{"is":"withdrawn","nodes":"n1","why":"paused"}"#,
            "n1 request withdrawn: paused",
        ),
        (
            withdrawn(true),
            r#"{"is":"withdrawn","nodes":"n1","why":"paused","cancelled":true}"#,
            "n1 request cancelled: paused",
        ),
        (
            kept_out("down"),
            r#"{"is":"kept-out","nodes":"n1","reason":"down"}"#,
            "n1 drained until the update",
        ),
        (let_in(), r#"{"is":"let-in","nodes":"n1"}"#, "n1 no longer drained for the update"),
        (
            Entry::JobWarned { job: 7, nodes: nodes() },
            r#"{"is":"warned","job":7,"nodes":"n1"}"#,
            "n1 users of job 7 warned of its end",
        ),
        (
            Entry::JobEnded { job: 7, nodes: nodes(), how: JobEnd::Cancelled },
            r#"{"is":"ended","job":7,"nodes":"n1","how":"cancelled"}"#,
            "n1 job 7 cancelled",
        ),
    ] {
        assert_eq!(entry.describe(), text);
        assert_eq!(serde_json::to_string(&entry).unwrap(), json);
        let line = Line { t_ms: 5, by: "root@ctl".into(), entry };
        let written = serde_json::to_string(&line).unwrap();
        assert_eq!(lines(&written).collect::<Vec<_>>(), [line], "{written}");
    }
}
