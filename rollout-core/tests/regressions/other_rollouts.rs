//! M5, M6 and M12: actions on a node whose newest rollout is not the one that they are about.

use crate::world::{LINK, NEW_BOOT, OLD_BOOT, World, agent, id, manifest, n1, with_order};
use rollout_core::agent::changes_made::{ChangeMade, NodeChanges};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::closing::closable;
use rollout_core::controller::held::{Hold, Retry, hold, retry};
use rollout_core::controller::reversal::way_back;
use rollout_core::controller::staging::{Verdict, check};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Progress};

/// M5: A holds the node. B is staged, and its order is refused.
#[test]
fn retry_and_release_are_about_the_order_that_holds_the_node() {
    let mut world = World::new();
    world.stage("A", LINK);
    world.ordering(Some("A"), 1);
    world.accepted(Some("A"), 1, false);
    world.seen(Some("A"), 1, Phase::Held);
    world.now_s = 100;
    world.stage("B", LINK);
    world.ordering(Some("B"), 2);
    world.write(Some("B"), Entry::Refused { nodes: n1(), order: id(2), why: "held by A: nhc".into() });
    world.agent = Some(with_order(NEW_BOOT, Some("A"), 1, Phase::Held));
    let view = world.view();
    let held = Hold { rollout: Some("A".into()), order: id(1) };
    assert_eq!(hold(view.node("n1")), Some(held.clone()));
    assert_eq!(retry(view.node("n1")), Retry::Held(held.clone()));
    // `release` is recorded under A, and B is still staged.
    world.write(held.rollout.as_deref(), Entry::Released { nodes: n1(), order: held.order });
    assert_eq!(world.progress("A"), Progress::Seen(Phase::Released));
    assert_eq!(world.hand_over(), Ok(Some("B".to_owned())));
}

/// M6: B, which came after A, was rolled back, refused or unanswered.
#[test]
fn a_rollout_that_did_not_last_is_not_in_the_way_of_an_undo() {
    let made = vec![ChangeMade::Symlink { path: "/opt/slurm".into(), before: Some("/opt/slurm-24".into()) }];
    let past = |names: &[&str]| -> Result<Vec<NodeChanges>, String> {
        let changes = |name: &&str| NodeChanges { rollout: (*name).into(), made: made.clone() };
        Ok(names.iter().map(changes).collect())
    };
    let mut world = World::new();
    world.stage("A", LINK);
    world.ordering(Some("A"), 1);
    world.accepted(Some("A"), 1, false);
    world.seen(Some("A"), 1, Phase::Updated);
    world.now_s = 100;
    world.stage("B", LINK);
    world.ordering(Some("B"), 2);
    let refused = Entry::Refused { nodes: n1(), order: id(2), why: "busy".into() };
    let rolled_back =
        Entry::Seen { nodes: n1(), order: id(2), phase: Phase::RolledBack, error: None, notes: Vec::new() };
    let unreachable = Entry::Unreachable { nodes: n1(), order: id(2), why: "timed out".into() };
    for outcome in [rolled_back, refused, unreachable] {
        let mut world = world.clone();
        world.write(Some("B"), outcome.clone());
        let snapshot = world.snapshot();
        let undo =
            |rollout: &str, past| way_back(snapshot.rollout(rollout).unwrap(), "n1", &snapshot, Some(&past));
        assert!(undo("A", past(&["A"])).is_ok(), "{outcome:?}");
        assert!(undo("B", past(&["A"])).is_err());
        // The agent became B after all.
        assert_eq!(undo("A", past(&["A", "B"])).unwrap_err(), "has had B since, undo that first");
    }
}

/// M12: an order of A is under way to a silent agent.
#[test]
fn nothing_is_staged_over_an_order_of_an_unknown_outcome() {
    let mut world = World::new();
    world.stage("A", LINK);
    world.now_s = 100;
    world.ordering(Some("A"), 1);
    let mut other = manifest(LINK);
    other.desired.verify.mounts.push("/scratch".into());
    let taken = Verdict::Taken { nodes: n1(), rollout: "A".into() };
    // While it is being sent, and after RebootProgram was killed.
    for now_s in [101, 200] {
        world.now_s = now_s;
        assert_eq!(check(&other, &world.snapshot()), taken);
    }
    world.unreachable(Some("A"), 1);
    assert_eq!(check(&other, &world.snapshot()), taken);
}

/// M12: an older version staged B over A while A's order was being sent, and A became `unreachable`.
#[test]
fn a_rollout_that_was_staged_over_is_not_applied_by_a_later_reboot() {
    let mut world = World::new();
    world.stage("A", LINK);
    world.now_s = 100;
    world.ordering(Some("A"), 1);
    world.now_s = 105;
    world.stage("B", LINK);
    world.unreachable(Some("A"), 1);
    world.now_s = 200;
    assert_eq!(world.hand_over(), Ok(Some("B".to_owned())));
    world.ordering(Some("B"), 2);
    world.accepted(Some("B"), 2, false);
    world.now_s = 300;
    world.seen(Some("B"), 2, Phase::Updated);
    // B was applied. The next reboot, for whatever reason, applies nothing.
    assert_eq!(world.hand_over(), Ok(None));
    // B stays open until it is certain that A's order was not taken.
    assert!(closable(&world.snapshot(), &NodeSet::default(), 0).is_empty());
    world.follow_up();
    assert_eq!(world.progress("A"), Progress::Unreachable, "its agent is silent");
    world.agent = Some(agent(OLD_BOOT));
    world.follow_up();
    assert_eq!(world.progress("A"), Progress::Superseded);
    assert_eq!(closable(&world.snapshot(), &NodeSet::default(), 0).len(), 2);
    assert_eq!(world.hand_over(), Ok(None));
}

/// M12: neither of two rollouts was ordered yet. The older one has no order that it could be superseded under.
#[test]
fn a_rollout_that_was_staged_over_before_its_first_order_is_superseded() {
    let mut world = World::new();
    world.stage("A", LINK);
    world.now_s = 100;
    world.stage("B", LINK);
    assert!(world.is_followed_up());
    world.follow_up();
    assert_eq!((world.progress("A"), world.progress("B")), (Progress::Superseded, Progress::Staged));
    assert_eq!(world.hand_over(), Ok(Some("B".to_owned())));
}
