use super::*;
use crate::agent::ledger::Ledger;
use crate::agent::test_orders::{BACK, apply_changes, ledger, order, reboot, record};
use crate::protocol::order::{GiveBack, OrderId};
use crate::rollout::image::Running;

const LINKS: &str = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n\
                     [[change]]\nkind='symlink'\npath='/c'\ntarget='/d'\n";
const IMAGE: &str = "[[change]]\nkind='image'\nvia='boot-file'\nimage='compute'\nboot_timeout='7m'\n";

fn of(changes: &str, phase: Phase) -> Ledger {
    Ledger::begin(order(1, apply_changes("driver", changes)), phase, "boot-1", 10, None)
}

fn link() -> Before {
    Before::Symlink { target: None }
}

#[test]
fn changes_are_looked_at_recorded_and_made_in_order() {
    let mut ledger = of(LINKS, Phase::Applying);
    assert!(matches!(ledger.next_change(false), Some(NextChange::Observe { number: 1, .. })));
    ledger.record_before(link(), false);
    for _ in 0..2 {
        // The same again after an interruption.
        assert!(matches!(ledger.next_change(false), Some(NextChange::Make { number: 1, .. })));
    }
    ledger.record_after(After { changed: true, ..After::default() });
    assert!(matches!(ledger.next_change(false), Some(NextChange::Observe { number: 2, .. })));
    ledger.record_before(link(), true);
    assert_eq!(ledger.next_change(false), None);
    assert_eq!(ledger.records, [record(Some(true)), record(Some(false))]);
    let undone: Vec<usize> = ledger.changes_to_undo().map(|begun| begun.number).collect();
    assert_eq!(undone, [1], "nothing was done for the second one");
    assert_eq!(Ledger::begin(order(1, reboot()), Phase::Applying, "b", 1, None).next_change(false), None);
}

#[test]
fn a_volatile_node_changes_its_image_and_expects_the_rest_in_it() {
    let mut ledger = of(&format!("{LINKS}{IMAGE}"), Phase::Applying);
    assert_eq!(ledger.check_applicable(true, "boot-1"), Ok(()));
    for _ in 0..2 {
        assert_eq!(ledger.next_change(true), Some(NextChange::InImage));
        ledger.record_in_image();
    }
    assert!(matches!(ledger.next_change(true), Some(NextChange::Observe { number: 3, .. })));
    ledger.record_before(Before::Image { running: Running::default(), saved: None }, false);
    assert!(matches!(ledger.next_change(true), Some(NextChange::Make { number: 3, .. })));
    ledger.record_after(After { changed: true, ..After::default() });
    assert_eq!(ledger.next_change(true), None);
    assert_eq!(ledger.changes_to_prove().unwrap().len(), 3);
    assert_eq!(ledger.changes_to_prove_undone().map(|begun| begun.number).collect::<Vec<_>>(), [3]);
    let on_the_node = IMAGE.replace("boot-file", "ostree") + "values={ref='r'}\n";
    for (changes, volatile, applicable) in
        [(LINKS, true, false), (LINKS, false, true), (&on_the_node, true, false)]
    {
        assert_eq!(
            of(changes, Phase::Applying).check_applicable(volatile, "boot-1").is_ok(),
            applicable,
            "{changes}"
        );
    }
}

#[test]
fn an_image_that_was_not_recorded_before_a_boot_is_never_taken_for_the_old_one() {
    let mut ledger = of(IMAGE, Phase::Applying);
    assert_eq!(ledger.check_applicable(false, "boot-1"), Ok(()));
    assert!(ledger.check_applicable(false, "boot-2").unwrap_err().contains("booted before the image"));
    assert!(ledger.reboot_due("boot-2", true), "only the restored boot source leads back");
    ledger.record_before(Before::Image { running: Running::default(), saved: None }, false);
    assert_eq!(ledger.check_applicable(false, "boot-2"), Ok(()));
    assert!(!ledger.reboot_due("boot-2", true));
    assert_eq!(of(LINKS, Phase::Applying).check_applicable(false, "boot-2"), Ok(()));
}

#[test]
fn a_change_that_needs_boots_is_made_again_before_each_of_them() {
    let command = |name: &str, boots: u32| {
        format!(
            "[[change]]\nkind='command'\nname='{name}'\nversion='2'\nprobe=['/p']\napply=['/a']\ntimeout='40m'\n\
             boots={boots}\n"
        )
    };
    let changes = format!("{LINKS}{}{}{}", command("nic", 1), command("bios", 3), command("bmc", 2));
    let mut ledger = of(&changes, Phase::Verifying);
    assert_eq!(ledger.longest_program(), Duration::from_secs(40 * 60));
    let record = |changed| Record {
        before: Before::Command { version: "1".to_owned() },
        after: Some(After { changed, ..After::default() }),
    };
    ledger.records = vec![record(true); 5];
    let left =
        |ledger: &Ledger| ledger.changes_with_boots_left().map(|begun| begun.number).collect::<Vec<_>>();
    assert_eq!(left(&ledger), [4, 5]);
    ledger.make_again(&[4]);
    assert_eq!(ledger.changes_to_prove().unwrap_err(), "change 4 was not finished");
    assert!(matches!(ledger.next_change(false), Some(NextChange::Make { number: 4, .. })));
    ledger.record_after(After { changed: true, ..After::default() });
    assert_eq!((ledger.next_change(false), left(&ledger)), (None, vec![4]));
    ledger.make_again(&[4]);
    ledger.record_after(After { changed: true, ..After::default() });
    assert_eq!(left(&ledger), [0_usize; 0], "the third boot was the last one");
    let retried = OrderId::from_random(2);
    ledger.begin_again(retried, "boot-4", 20);
    assert_eq!(ledger.further_boots, 0);
    ledger.records = vec![record(false); 5];
    assert_eq!(left(&ledger), [0_usize; 0], "nothing was done, so no boot brings it");
}

#[test]
fn a_node_that_keeps_nothing_takes_no_command() {
    let command = "[[change]]\nkind='command'\nname='bios'\nversion='2'\nprobe=['/p']\napply=['/a']\n";
    for changes in [command.to_owned(), format!("{IMAGE}{command}")] {
        let ledger = of(&changes, Phase::Applying);
        assert_eq!(ledger.check_applicable(false, "boot-1"), Ok(()));
        let why = ledger.check_applicable(true, "boot-1").unwrap_err();
        assert!(why.contains("the version of bios from before"), "{why}");
    }
}

#[test]
fn changes_are_undone_in_reverse_and_an_interrupted_one_too() {
    let mut ledger = of(LINKS, Phase::Undoing);
    ledger.records = vec![record(Some(true)), record(None)];
    let undone: Vec<usize> = ledger.changes_to_undo().map(|begun| begun.number).collect();
    assert_eq!(undone, [2, 1]);
    assert_eq!(ledger.changes_to_prove().unwrap_err(), "change 2 was not finished");
    ledger.records.pop();
    assert_eq!(ledger.changes_to_prove().unwrap_err(), "1 of 2 changes are in the ledger");
    assert!(ledger_of_a_reboot().changes_to_prove().unwrap().is_empty());
}

fn ledger_of_a_reboot() -> Ledger {
    Ledger::begin(order(1, reboot()), Phase::Verifying, "boot-1", 10, None)
}

#[test]
fn the_boot_service_reboots_nodes_that_it_boots() {
    let bos = "[[change]]\nkind='image'\nvia='bos'\nimage='compute'\n";
    for (changes, phase, by) in [
        (LINKS, Phase::Rebooting, RebootBy::Agent),
        (IMAGE, Phase::Rebooting, RebootBy::Agent),
        (bos, Phase::Rebooting, RebootBy::BootService),
        (bos, Phase::RebootingBack, RebootBy::BootServiceThenAgent),
    ] {
        assert_eq!(of(changes, phase).reboot_by(), by, "{changes}");
    }
    assert_eq!(of(IMAGE, Phase::Undoing).boot_source_timeout().unwrap().to_string(), "7m");
    assert_eq!(of(LINKS, Phase::Undoing).boot_source_timeout(), None);
}

#[test]
fn the_longest_program_and_the_limits_come_from_the_manifest() {
    let packages = "[[change]]\nkind='packages'\ninstall=['a']\ntimeout='20m'\n[verify]\ntimeout='9m'\n\
                    [reboot]\ntimeout='3m'\n";
    let ledger = of(packages, Phase::Applying);
    assert_eq!(ledger.longest_program(), Duration::from_secs(20 * 60));
    assert_eq!(ledger.reboot_timeout().to_string(), "3m");
    assert_eq!(ledger_of_a_reboot().longest_program(), Duration::ZERO);
    assert_eq!(ledger_of_a_reboot().reboot_timeout(), Reboot::default().timeout);
}

#[test]
fn a_node_is_given_back_by_what_its_order_says() {
    let opening = |admit, start_slurmd, resume_if_late| Opening { admit, start_slurmd, resume_if_late };
    let updated = ledger(Phase::Updated);
    let mut later = updated.clone();
    later.enter(Phase::Updated, "boot-1", 20);
    let mut kept = updated.clone();
    assert!(kept.settle_drain(Some("bad disk")) && !kept.settle_drain(Some("bad disk")));
    let mut down = updated.clone();
    down.order.kind = OrderKind::Reboot(GiveBack { resume_if_late: false, ..BACK }.into());
    for (ledger, volatile, boot_id, now_s, expected) in [
        (&updated, false, "boot-1", 10, opening(false, true, true)),
        (&updated, true, "boot-1", 609, opening(true, true, true)),
        (&later, false, "boot-1", 609, opening(false, true, true)),
        (&later, false, "boot-1", 610, opening(false, false, false)),
        // The agent that settled it goes on with it: the clock was set, or the drain was kept late.
        (&updated, false, "boot-1", 9_999_999, opening(false, true, true)),
        (&updated, false, "boot-2", 20, opening(false, true, false)),
        (&kept, false, "boot-1", 20, opening(false, true, false)),
        (&down, false, "boot-1", 20, opening(false, true, false)),
        // A clock that was set back.
        (&updated, false, "boot-1", 1, opening(false, true, true)),
    ] {
        assert_eq!(ledger.opening(volatile, boot_id, now_s), expected, "{boot_id} {now_s}");
    }
    let mut released = ledger(Phase::Released);
    assert!(released.keeps_drain_last() && !updated.keeps_drain_last());
    released.drain_kept = true;
    assert!(!released.keeps_drain_last(), "an admin may have undrained the node since");
}
