//! Firmware that needs several boots in one visit.

use super::*;

/// From version 0 to 2, one with each boot.
fn firmware(boots: u32) -> String {
    format!(
        "[[change]]\nkind='symlink'\npath='/a'\ntarget='/new-a'\n\
         [[change]]\nkind='command'\nname='fw'\nversion='2'\nprobe=['/p']\napply=['/a']\nundo=['/u']\nboots={boots}\n"
    )
}

#[test]
fn the_change_is_made_again_before_each_boot_that_it_needs() {
    let rig = Rig::new();
    assert_eq!(rig.life(&[apply(1, &firmware(3))]), (End::Died, vec![Some(accepted(1))]));
    rig.live_on();
    let state = rig.node.state();
    let expected = "stop slurmd,observe,make,observe,make,reboot,another boot,stop slurmd,make,reboot,another boot,verify,\
                    verify,verify node,";
    assert!(state.used.join(",").starts_with(expected), "{:?}", state.used);
    assert_eq!((state.firmware, state.boot), (2, 3));
    drop(state);
    assert_eq!((rig.ledger().phase, rig.ledger().further_boots), (Phase::Updated, 1));
    assert_eq!(rig.used("start slurmd"), 2, "the gate is shut until the end");
}

#[test]
fn a_change_that_its_boots_do_not_bring_is_undone() {
    let rig = Rig::new();
    rig.life(&[apply(1, &firmware(1))]);
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.node.state().firmware), (Phase::RolledBack, 0));
    assert!(rig.ledger().reason().starts_with("change 2 is not what was staged"), "{:?}", rig.ledger().error);
    assert_eq!(rig.node.state().boot, 3);
    assert_eq!(rig.links(), ["/old-a", "/old-b"]);
}

#[test]
fn a_death_at_any_tool_ends_where_the_undisturbed_order_ends() {
    for (broken, phase, version) in [(None, Phase::Updated, 2), (Some("verify node"), Phase::RolledBack, 0)] {
        for (after, loses_power) in [(false, false), (true, false), (false, true), (true, true)] {
            for number in 1.. {
                let rig = Rig::new();
                rig.node.state().broken.extend(broken);
                (rig.node.state().dies_at, rig.node.state().loses_power) =
                    (Some((number, after)), loses_power);
                assert_eq!(rig.life(&[apply(1, &firmware(2))]).1, [Some(accepted(1))]);
                rig.live_on();
                let what = format!("{broken:?} {number} {after} {loses_power}: {:?}", rig.node.state().used);
                assert_eq!((rig.ledger().phase, rig.node.state().firmware), (phase, version), "{what}");
                if rig.node.state().dies_at.is_some() {
                    assert!(number > 15, "{what}");
                    break;
                }
            }
        }
    }
}
