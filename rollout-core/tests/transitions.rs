//! The whole behavior of an agent as a table, `transitions.txt`, and the properties of its rows.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_core::agent::phase::{Action, Event, Phase, step};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

const GOLDEN: &str = include_str!("transitions.txt");

const HEAD: &str = "\
# step(): what each event leads to in each phase. `-` is no order yet, `refused` changes nothing.
# Written by tests/transitions.rs: UPDATE_GOLDEN=1 cargo test -p rollout-core --test transitions
";

fn phases() -> impl Iterator<Item = Option<Phase>> {
    std::iter::once(None).chain(Phase::ALL.map(Some))
}

fn name(phase: Option<Phase>) -> &'static str {
    phase.map_or("-", Phase::name)
}

fn event_name(event: Event) -> String {
    match event {
        Event::Started { rebooted: false } => "Started, same boot".to_owned(),
        Event::Started { rebooted: true } => "Started, rebooted".to_owned(),
        Event::Verified { register: false } => "Verified".to_owned(),
        Event::Verified { register: true } => "Verified, register".to_owned(),
        Event::Undone { reboot_due: false } => "Undone".to_owned(),
        Event::Undone { reboot_due: true } => "Undone, reboot due".to_owned(),
        Event::OldProven { hold: false } => "OldProven".to_owned(),
        Event::OldProven { hold: true } => "OldProven, hold".to_owned(),
        other => format!("{other:?}"),
    }
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    for phase in phases() {
        text.push('\n');
        for event in Event::ALL {
            let row = format!("{:<15}{:<20}", name(phase), event_name(event));
            match step(phase, event) {
                Ok((next, action)) => writeln!(text, "{row}-> {:<16}{action:?}", next.name()),
                Err(_) => writeln!(text, "{row}refused"),
            }
            .expect("a String takes everything");
        }
    }
    text
}

/// All rows that are not refused: phase, event, next phase, action.
fn rows() -> Vec<(Option<Phase>, Event, Phase, Action)> {
    let pairs = phases().flat_map(|phase| Event::ALL.map(|event| (phase, event)));
    pairs
        .filter_map(|(phase, event)| {
            step(phase, event).ok().map(|(next, action)| (phase, event, next, action))
        })
        .collect()
}

fn reachable_from(start: Option<Phase>) -> BTreeSet<Phase> {
    let mut reached = BTreeSet::new();
    let mut todo = vec![start];
    while let Some(at) = todo.pop() {
        for (_, _, next, _) in rows().into_iter().filter(|(phase, ..)| *phase == at) {
            if reached.insert(next) {
                todo.push(Some(next));
            }
        }
    }
    reached
}

#[test]
#[allow(clippy::disallowed_methods, reason = "renews a file of the sources, on request")]
fn the_table_is_as_written_down() {
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transitions.txt"), &table).unwrap();
        return;
    }
    let changed: Vec<String> = {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (GOLDEN.lines().collect(), table.lines().collect());
        let removed = old.difference(&new).map(|line| format!("- {line}"));
        removed.chain(new.difference(&old).map(|line| format!("+ {line}"))).collect()
    };
    assert!(
        table == GOLDEN,
        "step() is not what tests/transitions.txt says. If the change is meant, renew the file with\n  \
         UPDATE_GOLDEN=1 cargo test -p rollout-core --test transitions\nand read its diff:\n{}",
        changed.join("\n")
    );
}

/// Index of a phase in `Phase::ALL`. A new phase does not compile here until it is listed.
fn index_of_phase(phase: Phase) -> usize {
    match phase {
        Phase::Applying => 0,
        Phase::Rebooting => 1,
        Phase::Verifying => 2,
        Phase::Registering => 3,
        Phase::Undoing => 4,
        Phase::RebootingBack => 5,
        Phase::VerifyingOld => 6,
        Phase::Held => 7,
        Phase::Updated => 8,
        Phase::RolledBack => 9,
        Phase::Released => 10,
    }
}

fn index_of_event(event: Event) -> usize {
    match event {
        Event::OrderedToApply => 0,
        Event::OrderedToReboot => 1,
        Event::OrderedToRetry => 2,
        Event::OrderedToRelease => 3,
        Event::Started { rebooted: false } => 4,
        Event::Started { rebooted: true } => 5,
        Event::Applied => 6,
        Event::ApplyFailed => 7,
        Event::RebootFailed => 8,
        Event::Verified { register: false } => 9,
        Event::Verified { register: true } => 10,
        Event::Registered => 11,
        Event::VerifyFailed => 12,
        Event::AnotherBootDue => 13,
        Event::Undone { reboot_due: false } => 14,
        Event::Undone { reboot_due: true } => 15,
        Event::UndoFailed => 16,
        Event::OldProven { hold: false } => 17,
        Event::OldProven { hold: true } => 18,
        Event::OldNotProven => 19,
    }
}

#[test]
fn the_lists_of_all_phases_and_events_are_whole() {
    assert_eq!(Phase::ALL.map(index_of_phase), std::array::from_fn(|place| place));
    assert_eq!(Event::ALL.map(index_of_event), std::array::from_fn(|place| place));
    let names: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    assert_eq!(names.len(), Phase::ALL.len());
    for phase in Phase::ALL {
        // Older agents and controllers do not know the word for it.
        let word = if phase == Phase::Registering { "verifying" } else { phase.name() };
        assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{word}\""), "one word everywhere");
    }
}

#[test]
fn every_phase_is_reachable() {
    assert_eq!(reachable_from(None).len(), Phase::ALL.len());
}

#[test]
fn an_agent_that_starts_always_knows_how_to_go_on() {
    for (phase, rebooted) in Phase::ALL.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
        let (next, action) = step(Some(phase), Event::Started { rebooted }).expect("an answer");
        let booted = match phase {
            Phase::Rebooting => Phase::Verifying,
            Phase::RebootingBack => Phase::VerifyingOld,
            Phase::Registering => Phase::Verifying,
            other => other,
        };
        assert_eq!(next, if rebooted { booted } else { phase });
        assert_eq!(
            phase.is_settled() || phase == Phase::Held,
            matches!(action, Action::OpenGate | Action::Hold)
        );
    }
    assert!(step(None, Event::Started { rebooted: true }).is_err(), "there is nothing to go on with");
}

#[test]
fn actions_fit_the_phases_that_they_lead_into() {
    for (phase, event, next, action) in rows() {
        let fits = match action {
            Action::Apply => next == Phase::Applying,
            Action::Reboot => matches!(next, Phase::Rebooting | Phase::RebootingBack),
            Action::Verify => next == Phase::Verifying,
            Action::Register => next == Phase::Registering,
            Action::Undo => next == Phase::Undoing,
            Action::VerifyOld => next == Phase::VerifyingOld,
            Action::Hold => next == Phase::Held,
            Action::OpenGate => next.is_settled(),
        };
        assert!(fits, "{phase:?} + {event:?} -> {next:?} with {action:?}");
    }
}

#[test]
fn every_order_can_end() {
    for phase in Phase::ALL.into_iter().filter(|phase| !phase.is_settled() && *phase != Phase::Held) {
        let reached = reachable_from(Some(phase));
        assert!(
            reached.iter().any(|at| at.is_settled() || *at == Phase::Held),
            "{phase:?} leads to {reached:?}"
        );
    }
    // Each order also ends by itself: no action waits for anybody, and every outcome of an action has a next step.
    for (phase, events) in [
        (Phase::Applying, &[Event::Applied, Event::ApplyFailed][..]),
        (Phase::Rebooting, &[Event::RebootFailed, Event::Started { rebooted: true }]),
        (
            Phase::Verifying,
            &[
                Event::Verified { register: false },
                Event::Verified { register: true },
                Event::AnotherBootDue,
                Event::VerifyFailed,
            ],
        ),
        (Phase::Registering, &[Event::Registered, Event::VerifyFailed]),
        (
            Phase::Undoing,
            &[Event::Undone { reboot_due: false }, Event::Undone { reboot_due: true }, Event::UndoFailed],
        ),
        (Phase::RebootingBack, &[Event::RebootFailed, Event::Started { rebooted: true }]),
        (
            Phase::VerifyingOld,
            &[Event::OldProven { hold: false }, Event::OldProven { hold: true }, Event::OldNotProven],
        ),
    ] {
        for event in events {
            let (next, _) = step(Some(phase), *event).expect("an answer");
            assert_ne!(next, phase, "{event:?}");
        }
    }
}

#[test]
fn only_an_admin_ends_a_hold_and_only_an_order_ends_a_settled_phase() {
    for (phase, event, next, _) in rows().into_iter().filter(|(phase, _, next, _)| *phase != Some(*next)) {
        match phase {
            Some(Phase::Held) => {
                assert!(matches!(event, Event::OrderedToRetry | Event::OrderedToRelease), "{event:?}")
            }
            None | Some(Phase::Updated | Phase::RolledBack | Phase::Released) => {
                assert!(
                    matches!(event, Event::OrderedToApply | Event::OrderedToReboot),
                    "{phase:?} {event:?}"
                );
                assert!(!next.is_settled());
            }
            Some(_) => {}
        }
    }
}

#[test]
fn a_node_is_given_back_only_when_it_is_proven_or_released() {
    for (phase, event, next, _) in rows().into_iter().filter(|(phase, _, next, _)| *phase != Some(*next)) {
        match next {
            Phase::Updated => assert!(
                matches!(
                    (phase, event),
                    (Some(Phase::Verifying), Event::Verified { register: false })
                        | (Some(Phase::Registering), Event::Registered)
                ),
                "{phase:?} {event:?}"
            ),
            Phase::RolledBack => {
                assert_eq!((phase, event), (Some(Phase::VerifyingOld), Event::OldProven { hold: false }));
            }
            Phase::Released => assert_eq!((phase, event), (Some(Phase::Held), Event::OrderedToRelease)),
            _ => {}
        }
    }
}

#[test]
fn a_refusal_names_both() {
    let refused = step(Some(Phase::Updated), Event::Registered).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("Registered") && text.contains("Updated"), "{text}");
}
