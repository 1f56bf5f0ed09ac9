//! M9 and M10: boot sources that are restored by nobody, or for the wrong order.

use crate::world::{IMAGE, NEW_BOOT, OLD_BOOT, World, agent, id, n1, with_order};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::follow_up::{AfterRestoring, Step};
use rollout_core::controller::hand_over::Skipped;
use rollout_core::rollout::journal::{Entry, Progress};

fn restored(order: u128) -> Entry {
    Entry::BootRestored { nodes: n1(), order: id(order), why: "the order was not taken".into() }
}

/// A node that failed and is held, at 200 s. Its boot source is restored.
fn held() -> World {
    let mut world = World::new();
    world.stage("compute", IMAGE);
    world.now_s = 100;
    world.ordering(Some("compute"), 1);
    world.change_boot("compute", 1, OLD_BOOT);
    world.accepted(Some("compute"), 1, false);
    world.write(Some("compute"), restored(1));
    world.seen(Some("compute"), 1, Phase::Held);
    world.now_s = 200;
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Held));
    world
}

/// M9: `retry` gives the node its image, and then cannot tell it.
#[test]
fn a_retry_that_cannot_be_told_leaves_no_image_behind() {
    let mut world = held();
    assert_eq!(world.due(), []);
    world.change_boot("compute", 1, NEW_BOOT);
    assert_eq!(world.due(), [], "the retry is being told");
    assert_eq!(world.hand_over(), Err(Skipped::BootSource));
    // The process was killed.
    world.now_s = 220;
    assert!(world.is_followed_up());
    let due = world.follow_up();
    let expected = Step::RestoreBoot { why: "the node is held".into(), then: AfterRestoring::Nothing };
    assert_eq!(due.into_iter().map(|due| due.step).collect::<Vec<_>>(), [expected]);
    assert_eq!((world.due(), world.progress("compute")), (vec![], Progress::Seen(Phase::Held)));
}

/// M9, and the admin releases the node before anybody has looked at it.
#[test]
fn a_released_node_boots_no_image_of_a_retry_that_was_not_told() {
    let mut world = held();
    world.change_boot("compute", 1, NEW_BOOT);
    world.now_s = 220;
    world.write(Some("compute"), Entry::Released { nodes: n1(), order: id(1) });
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Released));
    assert!(world.is_followed_up());
    assert!(matches!(world.follow_up()[0].step, Step::RestoreBoot { .. }));
    assert!(!world.is_followed_up());
}

/// M9, and the agent has taken the retry although its answer was lost.
#[test]
fn a_retry_whose_answer_was_lost_keeps_its_image() {
    let mut world = held();
    world.change_boot("compute", 1, NEW_BOOT);
    world.now_s = 220;
    for phase in [Phase::Rebooting, Phase::Verifying, Phase::Updated] {
        world.agent = Some(with_order("boot-3", Some("compute"), 1, phase));
        let due = world.follow_up();
        assert!(due.iter().all(|due| matches!(due.step, Step::Record(_))), "{due:?}");
    }
    assert_eq!((world.due(), world.progress("compute")), (vec![], Progress::Seen(Phase::Updated)));
}

/// Two controllers: A decides that order 1 was not taken, B orders the node again.
fn ordered_again() -> World {
    let mut world = World::new();
    world.stage("compute", IMAGE);
    world.now_s = 100;
    world.ordering(Some("compute"), 1);
    world.change_boot("compute", 1, OLD_BOOT);
    world.unreachable(Some("compute"), 1);
    world.now_s = 120;
    world.ordering(Some("compute"), 2);
    world.change_boot("compute", 2, OLD_BOOT);
    world
}

/// M10: A records its restoration of order 1 after B gave the node its image for order 2.
#[test]
fn a_restoration_for_an_earlier_order_leaves_the_boot_source_to_the_last_one() {
    let mut world = ordered_again();
    world.write(Some("compute"), restored(1));
    world.accepted(Some("compute"), 2, false);
    let owner = |world: &World| {
        let snapshot = world.snapshot();
        let record = &snapshot.rollout("compute").unwrap().records["n1"];
        record.unsettled_boot_change().map(|change| change.order.clone())
    };
    assert_eq!(owner(&world), Some(id(2)));
    // The order fails, and its own boot source is restored.
    world.now_s = 150;
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), 2, Phase::Undoing));
    assert!(matches!(&world.follow_up()[0].step, Step::RestoreBoot { then: AfterRestoring::TellAgent, .. }));
    assert_eq!(owner(&world), None);
}

/// M10: a boot source is restored under a claim that other processes see.
#[test]
fn a_boot_source_that_is_being_restored_is_not_changed_meanwhile() {
    let mut world = World::new();
    world.stage("compute", IMAGE);
    world.now_s = 100;
    world.ordering(Some("compute"), 1);
    world.change_boot("compute", 1, OLD_BOOT);
    world.unreachable(Some("compute"), 1);
    world.agent = Some(agent(OLD_BOOT));
    world.now_s = 120;
    assert_eq!(world.hand_over(), Ok(Some("compute".to_owned())));
    let claim = Entry::BootRestoring { nodes: n1(), order: id(1), until_ms: 180_000 };
    world.write(Some("compute"), claim);
    assert_eq!((world.hand_over(), world.due()), (Err(Skipped::BootSource), vec![]));
    // Killed: the next one restores it.
    world.now_s = 180;
    assert!(matches!(&world.due()[0].step, Step::RestoreBoot { .. }));
    world.write(Some("compute"), restored(1));
    assert_eq!((world.hand_over(), world.due()), (Ok(Some("compute".to_owned())), vec![]));
}

/// M10: the claim of an earlier order does not hold up the last one.
#[test]
fn a_claim_for_an_earlier_order_is_late_news() {
    let mut world = ordered_again();
    world.accepted(Some("compute"), 2, false);
    let before = world.snapshot();
    world.write(Some("compute"), Entry::BootRestoring { nodes: n1(), order: id(1), until_ms: 900_000 });
    assert_eq!(world.snapshot(), before);
}
