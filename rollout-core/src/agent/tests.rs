use super::*;
use crate::agent::test_orders::{BACK, apply, apply_changes, ledger, order, reboot};
use crate::protocol::order::{Apply, LocalHandOver, PreStage, Rehearse, RestoreLedger, UpdateDrain};

fn identity(boot: u32, volatile: bool) -> Identity {
    Identity { node: "n1".to_owned(), boot_id: format!("boot-{boot}"), volatile, running: None }
}

/// An agent in this phase of order 1, which applies `driver`.
fn agent(phase: Option<Phase>) -> Agent {
    Agent::start(identity(1, false), OnDisk { ledger: phase.map(ledger), ..OnDisk::default() })
}

fn pre_stage(rollout: &str) -> OrderKind {
    let OrderKind::Apply(apply) = apply(rollout) else { panic!("it applies") };
    OrderKind::PreStage(PreStage { rollout: rollout.to_owned(), desired: apply.desired, drained: None })
}

fn hand_over(apply: bool) -> OrderKind {
    OrderKind::LocalHandOver(LocalHandOver { apply, plain: BACK.into() })
}

fn drop_it(rollout: &str) -> OrderKind {
    OrderKind::DropPreStaged { rollout: rollout.to_owned() }
}

fn restored(of: u128) -> OrderKind {
    OrderKind::BootRestored { order: OrderId::from_random(of) }
}

fn restore(phase: Phase, error: Option<&str>) -> OrderKind {
    OrderKind::RestoreLedger(RestoreLedger {
        order: Box::new(apply("driver")),
        phase,
        boot_id: "boot-1".to_owned(),
        ordered_s: Some(7),
        running: None,
        error: error.map(str::to_owned),
    })
}

/// Gives the agent an order and makes its writes. Returns the answer and the action.
fn give(agent: &mut Agent, number: u128, kind: OrderKind) -> (Answer, Option<Action>) {
    let Reaction { writes, answer, action, .. } = agent.order(&order(number, kind), 20);
    writes.into_iter().for_each(|write| agent.wrote(write));
    (answer.expect("an order has an answer"), action)
}

/// The answer in short: its kind and the number of the order that it names.
fn short((answer, action): &(Answer, Option<Action>)) -> String {
    let number = |id: &Option<OrderId>| {
        id.as_ref()
            .map_or("-".to_owned(), |id| u128::from_str_radix(&id.to_string(), 16).unwrap().to_string())
    };
    let action = action.map_or(String::new(), |action| format!(" {action:?}"));
    match answer {
        Answer::Accepted { order, .. } => format!("accepted {}{action}", number(order)),
        Answer::UnderWay { order, phase, rollout, .. } => {
            format!("under way {} {} {}", number(order), phase.name(), rollout.as_deref().unwrap_or("-"))
        }
        Answer::Refused { order, .. } => format!("refused {}", number(order)),
    }
}

#[test]
fn every_answer_names_the_order_that_it_refers_to() {
    use Phase::{Applying, Held, Undoing, Updated};
    for (phase, number, kind, expected) in [
        (None, 2, apply("slurm"), "accepted 2 Apply"),
        (Some(Updated), 2, apply("driver"), "accepted 2 Apply"),
        (Some(Updated), 2, reboot(), "accepted 2 Reboot"),
        (Some(Updated), 1, apply("driver"), "refused 1"),
        (Some(Applying), 1, apply("driver"), "under way 1 applying driver"),
        (Some(Applying), 2, apply("driver"), "under way 1 applying driver"),
        (Some(Applying), 2, reboot(), "under way 1 applying driver"),
        (Some(Applying), 2, apply("slurm"), "refused 1"),
        (Some(Applying), 2, OrderKind::Retry, "refused 1"),
        (Some(Held), 2, apply("slurm"), "refused 1"),
        (Some(Held), 2, reboot(), "refused 1"),
        // Carried out under the held order's id.
        (Some(Held), 2, OrderKind::Retry, "accepted 1 Apply"),
        (Some(Held), 2, OrderKind::Release, "accepted 1 OpenGate"),
        (None, 2, OrderKind::Release, "refused -"),
        // Pre-staging goes on beside an order, and dropping does until the rollout is applied.
        (Some(Applying), 2, pre_stage("slurm"), "accepted 2"),
        (Some(Applying), 2, drop_it("slurm"), "accepted 2"),
        (Some(Applying), 2, drop_it("driver"), "refused 1"),
        (Some(Undoing), 2, restored(1), "accepted 1"),
        (Some(Undoing), 2, restored(7), "refused 1"),
        (Some(Applying), 2, restored(1), "refused 1"),
        (Some(Updated), 2, restored(1), "refused -"),
        // The agent keeps its ledger, or has restored it before.
        (Some(Applying), 1, restore(Phase::Rebooting, None), "under way 1 applying driver"),
        (Some(Updated), 1, restore(Phase::Rebooting, None), "refused 1"),
        (None, 1, restore(Phase::Rebooting, None), "refused -"),
        (None, 2, hand_over(true), "accepted 2 Reboot"),
        (Some(Held), 2, hand_over(true), "refused 1"),
    ] {
        let what = format!("{phase:?} {number} {kind:?}");
        assert_eq!(short(&give(&mut agent(phase), number, kind)), expected, "{what}");
    }
    let foreign = Order { nodes: "n[7-9]".parse().unwrap(), ..order(2, pre_stage("slurm")) };
    let refused = agent(None).order(&foreign, 20);
    let why = "this is for n[7-9], and here is n1".to_owned();
    assert_eq!(refused.answer, Some(Answer::refused(why)));
}

#[test]
fn a_trial_order_changes_nothing_in_any_phase() {
    for phase in [None].into_iter().chain(Phase::ALL.map(Some)) {
        let agent = agent(phase);
        let reaction = agent.order(&order(2, OrderKind::Probe), 20);
        assert!(reaction.writes.is_empty() && reaction.action.is_none(), "{phase:?} {reaction:?}");
        assert!(matches!(reaction.answer, Some(Answer::Accepted { .. })), "{phase:?} {reaction:?}");
    }
    let foreign = Order { nodes: "n[7-9]".parse().unwrap(), ..order(2, OrderKind::Probe) };
    assert!(matches!(agent(None).order(&foreign, 20).answer, Some(Answer::Refused { .. })));
}

#[test]
fn a_rehearsal_begins_only_between_orders_and_changes_nothing() {
    let rehearsal = || {
        let OrderKind::Apply(Apply { desired, .. }) = apply("driver") else { panic!("it applies something") };
        order(2, OrderKind::Rehearse(Rehearse { desired }))
    };
    for phase in [None].into_iter().chain(Phase::ALL.map(Some)) {
        let begins = phase.is_none_or(Phase::is_settled);
        let reaction = agent(phase).order(&rehearsal(), 20);
        assert!(reaction.writes.is_empty() && reaction.action.is_none(), "{phase:?} {reaction:?}");
        assert_eq!(reaction.rehearse, begins, "{phase:?} {reaction:?}");
        let accepted = matches!(reaction.answer, Some(Answer::Accepted { .. }));
        assert_eq!(accepted, begins, "{phase:?} {reaction:?}");
    }
    let foreign = Order { nodes: "n[7-9]".parse().unwrap(), ..rehearsal() };
    let reaction = agent(None).order(&foreign, 20);
    assert!(!reaction.rehearse && matches!(reaction.answer, Some(Answer::Refused { .. })), "{reaction:?}");
}

#[test]
fn a_hand_over_is_carried_out_under_the_id_of_the_pre_staged_order() {
    let mut agent = agent(Some(Phase::Updated));
    assert_eq!(short(&give(&mut agent, 2, pre_stage("slurm"))), "accepted 2");
    assert_eq!(short(&give(&mut agent, 2, pre_stage("slurm"))), "refused 2", "it was told before");
    let update = UpdateDrain { order: OrderId::from_random(2), reason: Some("bad disk".to_owned()) };
    assert_eq!(short(&give(&mut agent, 3, OrderKind::UpdateDrain(update))), "accepted 3");
    assert_eq!(agent.status().staged.as_deref(), Some("slurm"));
    let reaction = agent.order(&order(4, hand_over(true)), 20);
    let [Write::Ledger(ledger), Write::Staged(staged)] = &reaction.writes[..] else { panic!("{reaction:?}") };
    assert_eq!((ledger.drained.as_deref(), staged.rollout()), (Some("bad disk"), None));
    // A crash between the two writes: the id in the ledger keeps it from being applied twice.
    let mut crashed = agent.clone();
    crashed.wrote(reaction.writes[0].clone());
    let mut settled = crashed.ledger().unwrap().clone();
    settled.enter(Phase::Updated, "boot-2", 30);
    crashed.wrote(Write::Ledger(Box::new(settled)));
    assert_eq!(short(&give(&mut crashed, 5, hand_over(true))), "accepted 5 Reboot");
    assert_eq!(short(&give(&mut agent, 4, hand_over(true))), "accepted 2 Apply");
    assert_eq!(short(&give(&mut agent, 6, hand_over(true))), "under way 2 applying slurm");
}

#[test]
fn orders_wait_while_another_one_ends() {
    for phase in Phase::ALL {
        let mut agent = agent(Some(phase));
        assert!(agent.takes_orders());
        let ledger = agent.begin().unwrap();
        assert_eq!(agent.takes_orders(), !phase.has_ended(), "{phase:?}");
        assert_eq!(agent.is_about_to_end(), phase == Phase::Registering);
        // Not even one that comes all the same.
        for kind in [apply("slurm"), OrderKind::Retry, OrderKind::Release] {
            assert_eq!(agent.order(&order(2, kind), 20).action, None, "{phase:?}");
        }
        agent.finished(ledger, Outcome::Ended, 20).unwrap();
        assert!(agent.takes_orders());
    }
    assert_eq!(agent(None).begin(), None);
}

#[test]
fn an_outcome_leads_to_the_next_phase_or_to_a_bug() {
    let failed = || Outcome::Failed("nhc".to_owned());
    for (phase, boot, outcome, expected) in [
        (Phase::Applying, 1, Outcome::Applied, Some((Phase::Rebooting, Action::Reboot))),
        (Phase::Applying, 1, failed(), Some((Phase::Undoing, Action::Undo))),
        (Phase::Rebooting, 1, failed(), Some((Phase::Held, Action::Hold))),
        (Phase::Verifying, 2, Outcome::Verified, Some((Phase::Updated, Action::OpenGate))),
        (Phase::Verifying, 2, failed(), Some((Phase::Undoing, Action::Undo))),
        (Phase::Registering, 2, Outcome::Registered, Some((Phase::Updated, Action::OpenGate))),
        (Phase::Registering, 2, failed(), Some((Phase::Undoing, Action::Undo))),
        (
            Phase::Undoing,
            1,
            Outcome::Undone { runs_as_before: true },
            Some((Phase::RebootingBack, Action::Reboot)),
        ),
        (
            Phase::Undoing,
            2,
            Outcome::Undone { runs_as_before: true },
            Some((Phase::VerifyingOld, Action::VerifyOld)),
        ),
        (Phase::Undoing, 2, failed(), Some((Phase::Held, Action::Hold))),
        (Phase::VerifyingOld, 2, Outcome::OldVerified, Some((Phase::RolledBack, Action::OpenGate))),
        (Phase::VerifyingOld, 2, failed(), Some((Phase::Held, Action::Hold))),
        (Phase::Updated, 2, Outcome::Ended, None),
        (Phase::Updated, 2, failed(), None),
    ] {
        let found = OnDisk { ledger: Some(ledger(phase)), ..OnDisk::default() };
        let mut agent = Agent::start(identity(boot, false), found);
        let work = agent.begin().unwrap();
        let reaction = agent.finished(work, outcome.clone(), 20).unwrap();
        let next = match &reaction.writes[..] {
            [Write::Ledger(ledger)] => Some((ledger.phase, reaction.action.unwrap())),
            _ => None,
        };
        assert_eq!(next, expected, "{phase:?} {outcome:?}");
        assert_eq!((reaction.answer, reaction.boot_restored), (None, false));
    }
    let mut agent = agent(Some(Phase::Applying));
    let work = agent.begin().unwrap();
    assert!(agent.finished(work, Outcome::Verified, 20).is_err());
}

#[test]
fn a_volatile_node_goes_by_what_was_settled_in_this_boot_alone() {
    for (phase, settled_in, boot, admitted, waits, gate) in [
        (None, 1, 1, false, true, Gate::Wait),
        (None, 1, 1, true, false, Gate::Open),
        (Some(Phase::Updated), 1, 1, true, false, Gate::Open),
        (Some(Phase::Updated), 1, 2, false, true, Gate::Wait),
        // Settled, and the agent died before it admitted slurmd.
        (Some(Phase::Updated), 1, 1, false, false, Gate::Wait),
        (Some(Phase::Verifying), 1, 2, false, false, Gate::Wait),
    ] {
        let ledger = phase.map(ledger);
        assert!(ledger.as_ref().is_none_or(|ledger| ledger.boot_id == format!("boot-{settled_in}")));
        let found = OnDisk { ledger, admitted, ..OnDisk::default() };
        let agent = Agent::start(identity(boot, true), found);
        assert_eq!(
            (agent.waits_for_instructions(), agent.status().awaits),
            (waits, waits),
            "{phase:?} {boot}"
        );
        assert_eq!(agent.gate(), gate, "{phase:?} {boot}");
        assert_eq!(agent.nothing_expected().writes.is_empty(), !waits);
    }
}

#[test]
fn a_ledger_is_restored_once_and_carried_on() {
    for (phase, error, next, action) in [
        (Phase::Rebooting, None, Phase::Verifying, Action::Verify),
        (Phase::RebootingBack, Some("nhc"), Phase::VerifyingOld, Action::VerifyOld),
        (Phase::Held, Some("nhc"), Phase::Held, Action::Hold),
    ] {
        let mut agent = Agent::start(identity(2, true), OnDisk::default());
        let (answer, started) = give(&mut agent, 1, restore(phase, error));
        assert_eq!(answer, Answer::Accepted { volatile: true, order: Some(OrderId::from_random(1)) });
        let ledger = agent.ledger().unwrap();
        assert_eq!((ledger.phase, started), (next, Some(action)));
        assert_eq!((ledger.ordered_boot_id.as_str(), ledger.ordered_s), ("boot-1", Some(7)));
        assert_eq!((ledger.error.as_deref(), ledger.node.as_deref()), (error, Some("n1")));
        let again = short(&give(&mut agent, 1, restore(phase, error)));
        assert_eq!(again, format!("under way 1 {} driver", next.name()));
    }
    let mut admitted = Agent::start(identity(2, true), OnDisk::default());
    admitted.wrote(Write::Admitted);
    assert_eq!(short(&give(&mut admitted, 1, restore(Phase::Rebooting, None))), "refused -");
}

/// A held node may have been power-cycled into the new image. The system to return to is the one from before the order.
#[test]
fn a_retry_returns_to_the_image_from_before_the_first_attempt() {
    const IMAGE: &str = "[[change]]\nkind='image'\nvia='boot-file'\nimage='i1'\n";
    let on = |boot, image: &str| {
        let running = Some(Running { image: Some(image.to_owned()), ..Running::default() });
        Identity { running, ..identity(boot, false) }
    };
    let before = |agent: &Agent| agent.ledger().unwrap().ordered_running.clone().unwrap().image.unwrap();
    let mut agent = Agent::start(on(1, "i0"), OnDisk::default());
    give(&mut agent, 1, apply_changes("driver", IMAGE));
    assert_eq!(before(&agent), "i0");
    let mut held = agent.ledger().unwrap().clone();
    held.enter(Phase::Held, "boot-1", 30);
    for old_proven in [false, true] {
        let mut held = held.clone();
        if old_proven {
            held.old_proven();
        }
        let mut agent = Agent::start(on(2, "i1"), OnDisk { ledger: Some(held), ..OnDisk::default() });
        give(&mut agent, 2, OrderKind::Retry);
        assert_eq!(before(&agent), if old_proven { "i1" } else { "i0" });
        let mut ledger = agent.begin().unwrap();
        let running = agent.identity().running.clone().unwrap();
        ledger.record_before(record::Before::Image { running, saved: None }, false);
        let record::Before::Image { running, .. } = &ledger.records[0].before else { panic!("{ledger:?}") };
        assert_eq!(running.image.as_deref(), Some(if old_proven { "i1" } else { "i0" }));
    }
    // Links need no such record.
    give(&mut agent, 3, reboot());
    let mut links = Agent::start(on(1, "i0"), OnDisk::default());
    give(&mut links, 1, apply("driver"));
    assert_eq!(links.ledger().unwrap().ordered_running, None);
}
