//! Hooks.

use super::conduct::after;
use super::*;

fn hook_started(nodes: NodeSet, when: Moment, run: u32, attempt: u32) -> Entry {
    Entry::HookStarted { nodes, hook: "move".into(), when, run, attempt }
}

fn hook_ended(nodes: NodeSet, when: Moment, run: u32, failure: Option<(&str, AfterFailure)>) -> Entry {
    let (error, then) = (failure.map(|(error, _)| error.to_owned()), failure.map(|(_, then)| then));
    Entry::HookEnded { nodes, hook: "move".into(), when, run, error, then }
}

#[test]
fn hooks_before_a_request_hold_for_one_request() {
    let when = Moment::BeforeRequest;
    let called = || vec![staged(), Entry::Started, hook_started(nodes(), when, 1, 1)];
    let done = || [called(), vec![hook_ended(nodes(), when, 1, None)]].concat();
    let fails = |then| [called(), vec![hook_ended(nodes(), when, 1, Some(("exit code 1", then)))]].concat();
    let requested = || Entry::Requested { nodes: nodes(), way: Way::Asap, drained: None };
    // Whether the hook is done, runs, and has failed the node.
    for (entries, expected) in [
        (called(), (false, true, false)),
        (done(), (true, false, false)),
        (fails(AfterFailure::Warn), (true, false, false)),
        (fails(AfterFailure::Halt), (true, false, false)),
        (fails(AfterFailure::Fail), (true, false, true)),
        (fails(AfterFailure::Again), (false, false, false)),
        // The end of another call, and of a node that was staged again.
        ([called(), vec![hook_ended(nodes(), when, 2, None)]].concat(), (false, true, false)),
        ([called(), vec![staged(), hook_ended(nodes(), when, 1, None)]].concat(), (false, false, false)),
        ([done(), vec![requested()]].concat(), (false, false, false)),
        ([done(), vec![ordering(1, 500)]].concat(), (false, false, false)),
        ([done(), vec![Entry::Resumed]].concat(), (false, false, false)),
        ([fails(AfterFailure::Fail), vec![Entry::Resumed]].concat(), (false, false, false)),
        ([called(), vec![Entry::Resumed]].concat(), (false, true, false)),
    ] {
        let state = after(&entries);
        let record = state.records.values().next().unwrap();
        let is_done = record.hooks.values().any(HookCall::is_done);
        let actual = (is_done, record.is_before_request(), record.hook_failure().is_some());
        assert_eq!(actual, expected, "{entries:?}");
    }
}

#[test]
fn calls_of_hooks_are_counted_and_open_until_they_end() {
    let none = NodeSet::default;
    let mut entries = vec![
        staged(),
        Entry::Started,
        Entry::HooksAwaited,
        Entry::Paused { why: None },
        hook_started(none(), Moment::Paused, 1, 1),
        hook_started(nodes(), Moment::Failed, 2, 1),
    ];
    let hooks = |entries: &[Entry]| after(entries).conduct.hooks;
    let state = hooks(&entries);
    assert_eq!((state.awaited, state.last_run, state.open.len()), (true, 2, 2));
    assert!(state.calls.values().all(|call| !call.is_done()) && state.calls.len() == 1);
    entries.push(hook_ended(none(), Moment::Paused, 1, Some(("killed", AfterFailure::Again))));
    assert_eq!((hooks(&entries).failures, hooks(&entries).calls.len()), (0, 1));
    entries.push(hook_ended(nodes(), Moment::Failed, 2, Some(("exit code 7", AfterFailure::Halt))));
    let state = hooks(&entries);
    let failure = Some(format!("hook move for {}: exit code 7", nodes()));
    assert_eq!(
        (state.open.len(), state.failures, &state.halt, &state.last_failure),
        (0, 1, &failure, &failure)
    );
    entries.push(Entry::Halted { why: "hook move".into() });
    let state = hooks(&entries);
    assert_eq!((state.halt, state.calls.len()), (None, 0), "another state has its own calls");
    entries.extend([Entry::HooksOver, Entry::Stopped, staged()]);
    let expected = Hooks { last_run: 2, ..Hooks::default() };
    assert_eq!(hooks(&entries), expected, "numbers are not used twice");
}
