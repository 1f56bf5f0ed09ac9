//! C2: the answer `under-way` to an order that the agent does not have.

use crate::world::{IMAGE, LINK, NEW_BOOT, OLD_BOOT, World, awaiting, id, n1, with_order};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::follow_up::{AfterRestoring, Outcome, Step};
use rollout_core::controller::hand_over::Skipped;
use rollout_core::controller::status::{DisplayPhase, of_node};
use rollout_core::rollout::journal::{Entry, Progress};

/// The answer to plain reboot 2 while the agent carries out order 1.
fn covered(world: &mut World) {
    world.ordering(None, 2);
    world.write(None, Entry::Covered { nodes: n1(), order: id(2), by: Some(id(1)) });
}

/// C2 a: slurmctld hands over a node without a disk a second time, while it carries out its rollout.
#[test]
fn a_second_hand_over_does_not_hide_the_rollouts_order() {
    let mut world = World::new();
    world.stage("compute", IMAGE);
    world.now_s = 100;
    world.ordering(Some("compute"), 1);
    world.change_boot("compute", 1, OLD_BOOT);
    world.accepted(Some("compute"), 1, true);
    world.now_s = 120;
    world.slurm_shows("DOWN+REBOOT_ISSUED", "compute : reboot issued");
    assert_eq!(world.hand_over(), Err(Skipped::BootSource), "any order would boot the image unproven");
    // An older version sent a plain reboot.
    covered(&mut world);
    world.now_s = 140;
    assert!(world.is_followed_up());
    world.agent = Some(awaiting(NEW_BOOT));
    let due = world.due();
    assert_eq!((due.len(), due[0].rollout.as_deref(), &due[0].order), (1, Some("compute"), &Some(id(1))));
    assert!(matches!(&due[0].step, Step::Instruct(instruction) if instruction.phase == Phase::Rebooting));
}

/// Order 1 is unanswered, order 2 is answered with `under-way`: the agent has order 1.
fn twice(change: &str) -> World {
    let mut world = World::new();
    world.stage("compute", change);
    for (now_s, order) in [(100, 1), (120, 2)] {
        world.now_s = now_s;
        world.ordering(Some("compute"), order);
        if change == IMAGE {
            world.change_boot("compute", order, OLD_BOOT);
        }
        if order == 1 {
            world.unreachable(Some("compute"), 1);
        }
    }
    let under_way = Entry::UnderWay { nodes: n1(), order: id(2), under_way: Some(id(1)), volatile: false };
    world.write(Some("compute"), under_way);
    world
}

/// C2 b: the same rollout is under way under an order whose answer was lost.
#[test]
fn a_node_that_is_proven_under_an_earlier_order_keeps_its_boot_source() {
    let mut world = twice(IMAGE);
    world.now_s = 150;
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Updated));
    let due = world.follow_up();
    assert_eq!((due.len(), &due[0].order), (1, &Some(id(1))));
    assert_eq!(
        due[0].step,
        Step::Record(Outcome::Ended { phase: Phase::Updated, error: None, notes: Vec::new() })
    );
    assert_eq!((world.due(), world.progress("compute")), (vec![], Progress::Seen(Phase::Updated)));
    assert_eq!(world.hand_over(), Ok(None), "nothing is armed again");
}

/// C2 b, where the agent is undoing order 1.
#[test]
fn a_node_that_undoes_an_earlier_order_gets_its_boot_source_back_and_is_told() {
    let mut world = twice(IMAGE);
    world.now_s = 150;
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Undoing));
    let due = world.follow_up();
    let told = |step: &Step| matches!(step, Step::RestoreBoot { then: AfterRestoring::TellAgent, .. });
    assert!(due.len() == 1 && told(&due[0].step) && due[0].order == Some(id(1)), "{due:?}");
    // Until it is heard of, it is told once more.
    let due = world.due();
    assert_eq!((&due[0].order, &due[0].step), (&Some(id(1)), &Step::TellBootRestored));
}

/// C2 b, with an agent up to 0.1.0, which does not report the order under way.
#[test]
fn an_older_agent_that_has_an_earlier_order_is_recognized_by_its_status() {
    for phase in [Phase::Verifying, Phase::Updated] {
        let mut world = World::new();
        world.stage("compute", IMAGE);
        world.now_s = 100;
        world.ordering(Some("compute"), 1);
        world.change_boot("compute", 1, OLD_BOOT);
        world.unreachable(Some("compute"), 1);
        world.now_s = 120;
        world.ordering(Some("compute"), 2);
        world.change_boot("compute", 2, OLD_BOOT);
        let under_way = Entry::UnderWay { nodes: n1(), order: id(2), under_way: None, volatile: false };
        world.write(Some("compute"), under_way);
        world.now_s = 150;
        world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, phase));
        let due = world.follow_up();
        let under_way = Outcome::UnderWay { under_way: id(1), volatile: false };
        assert_eq!(due[0].step, Step::Record(under_way), "{phase:?}");
        world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Updated));
        world.follow_up();
        assert_eq!((world.due(), world.progress("compute")), (vec![], Progress::Seen(Phase::Updated)));
    }
}

/// C2 c: without an image, `status` showed `ordered` for ever.
#[test]
fn a_rollout_whose_node_was_handed_over_twice_comes_to_its_end() {
    let mut once = World::new();
    once.stage("compute", LINK);
    once.now_s = 100;
    once.ordering(Some("compute"), 1);
    once.accepted(Some("compute"), 1, false);
    once.now_s = 120;
    covered(&mut once);
    for mut world in [once, twice(LINK)] {
        world.now_s = 150;
        world.agent = Some(with_order(NEW_BOOT, Some("compute"), 1, Phase::Updated));
        let view = world.view();
        let node = view.node("n1");
        assert_eq!(of_node(node, node.records().next().unwrap()).phase, DisplayPhase::Updated);
        world.follow_up();
        assert_eq!((world.due(), world.progress("compute")), (vec![], Progress::Seen(Phase::Updated)));
        assert!(!world.is_followed_up());
    }
}
