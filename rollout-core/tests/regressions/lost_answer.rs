//! C1: the answer to an order is lost, and a node without a disk boots the new image.

use crate::world::{IMAGE, NEW_BOOT, OLD_BOOT, World, awaiting, id, with_order};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::closing::closable;
use rollout_core::controller::follow_up::{FollowUp, Outcome, Step};
use rollout_core::controller::hand_over::Skipped;
use rollout_core::controller::lost_orders::{Remedy, lost_orders};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Progress;

/// RebootProgram claims the node at 100 s, changes its boot source and sends the order.
fn sent() -> World {
    let mut world = World::new();
    world.stage("compute", IMAGE);
    world.now_s = 100;
    world.slurm_shows("DOWN+REBOOT_ISSUED", "compute : reboot issued");
    world.ordering(Some("compute"), 1);
    world.change_boot("compute", 1, OLD_BOOT);
    world
}

fn instruction(world: &World) -> (Option<String>, u128, Phase, String) {
    let [FollowUp { rollout, order: Some(order), step: Step::Instruct(instruction) }] = &world.due()[..]
    else {
        panic!("{:?}", world.due());
    };
    let order = (0..9).find(|number| id(*number) == *order).unwrap();
    (rollout.clone(), order, instruction.phase, instruction.boot_id.clone())
}

/// It comes back, and proves under its order what it is.
fn is_proven(mut world: World, order: u128) {
    let expected = (Some("compute".to_owned()), order, Phase::Rebooting, OLD_BOOT.to_owned());
    assert_eq!(instruction(&world), expected);
    // No other order is sent for this hand-over.
    let snapshot = world.snapshot();
    for lost in lost_orders(std::slice::from_ref(&world.slurm), &snapshot, world.now_s * 1000) {
        assert_eq!(lost.remedy(world.agent.as_ref(), world.now_s * 1000), Remedy::Booted);
    }
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), order, Phase::Verifying));
    let outcomes: Vec<_> = world.follow_up().into_iter().map(|due| due.step).collect();
    assert_eq!(outcomes, [Step::Record(Outcome::Accepted { volatile: false })]);
    assert_eq!(world.progress("compute"), Progress::Ordered);
    world.agent = Some(with_order(NEW_BOOT, Some("compute"), order, Phase::Updated));
    world.follow_up();
    assert_eq!(world.progress("compute"), Progress::Seen(Phase::Updated));
    assert_eq!(world.due(), []);
    assert_eq!(closable(&world.snapshot(), &NodeSet::default(), 0).len(), 1);
}

/// C1: RebootProgram is killed between sending the order and recording the answer.
#[test]
fn a_node_that_booted_a_lost_order_is_proven_under_that_order() {
    let mut world = sent();
    // Its claim lasts until 115 s. Nobody touches the boot source meanwhile, and no gate opens.
    world.now_s = 110;
    world.agent = Some(awaiting(NEW_BOOT));
    assert_eq!(world.due(), []);
    assert_eq!(world.hand_over(), Err(Skipped::BeingOrdered));
    world.now_s = 140;
    is_proven(world, 1);
}

/// C1: the answer comes later than `agent_timeout`, or cannot be written down.
#[test]
fn a_node_whose_answer_came_too_late_is_proven_under_its_order() {
    let mut world = sent();
    world.now_s = 105;
    world.unreachable(Some("compute"), 1);
    world.now_s = 140;
    world.agent = Some(awaiting(NEW_BOOT));
    is_proven(world, 1);
}

/// C1, while `reconcile` takes the silent node for one that got no order, and sends it another one.
#[test]
fn a_node_that_boots_while_its_order_is_sent_again_is_proven_under_the_last_order() {
    let mut world = sent();
    world.now_s = 120;
    let lost = lost_orders(std::slice::from_ref(&world.slurm), &world.snapshot(), 120_000);
    assert_eq!(lost[0].remedy(None, 120_000), Remedy::Order);
    world.ordering(Some("compute"), 2);
    // Its agent does not answer, so its boot source is not touched again and nothing is sent.
    world.unreachable(Some("compute"), 2);
    world.now_s = 150;
    world.agent = Some(awaiting(NEW_BOOT));
    is_proven(world, 2);
}

/// C1: the boot source is restored only if the node has not booted from it.
#[test]
fn a_node_that_did_not_take_the_order_gets_its_boot_source_back() {
    let mut world = sent();
    world.now_s = 120;
    world.agent = Some(crate::world::agent(OLD_BOOT));
    let steps: Vec<_> = world.follow_up().into_iter().map(|due| due.step).collect();
    assert!(
        matches!(&steps[..], [Step::RestoreBoot { why, .. }] if why == "the order was not taken"),
        "{steps:?}"
    );
    assert_eq!(world.due(), []);
    assert_eq!(world.hand_over(), Ok(Some("compute".to_owned())), "it waits for the rollout as before");
}

/// C1: restored while the node was booting the new image, silent for longer than its boot timeout.
#[test]
fn a_node_that_comes_back_after_its_boot_source_was_restored_goes_back_with_a_proof() {
    let mut world = sent();
    world.now_s = 170;
    assert!(matches!(world.follow_up()[0].step, Step::RestoreBoot { .. }));
    world.now_s = 180;
    world.agent = Some(awaiting(NEW_BOOT));
    let (rollout, order, phase, _) = instruction(&world);
    assert_eq!((rollout.as_deref(), order, phase), (Some("compute"), 1, Phase::RebootingBack));
}
