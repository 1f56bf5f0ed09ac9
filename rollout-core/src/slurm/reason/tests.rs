use super::*;
use crate::slurm::drains::was_drained_meanwhile;
use crate::slurm::node::NodeInfo;
use proptest::prelude::*;

fn node(state: &str, reason: &str) -> NodeInfo {
    NodeInfo {
        name: "n1".to_owned(),
        state: state.split('+').map(str::to_owned).collect(),
        reason: Some(reason.to_owned()),
        reason_s: Some(7),
        ..NodeInfo::default()
    }
}

#[test]
fn reasons_are_told_apart() {
    use ReasonKind::{Foreign, OfAReboot, Ours};
    let nhc = Ours { subject: "driver", text: "held: nhc" };
    let see_status =
        Ours { subject: REBOOT_PROGRAM_SUBJECT, text: "not ordered, see `slurm-rollout status`" };
    // The Reason, its kind, whether it was issued, and whether it timed out.
    for (reason, kind, issued, timed_out) in [
        ("slurm-rollout driver: held: nhc", nhc, false, false),
        ("slurm-rollout driver: held: nhc : reboot issued", nhc, true, false),
        ("slurm-rollout driver: held: nhc : reboot issued : reboot timed out", nhc, true, true),
        // The first note is ours, and Slurm does not repeat it when the next reboot times out.
        ("slurm-rollout driver: held: nhc : reboot timed out : reboot issued", nhc, true, true),
        ("slurm-rollout by hand", Ours { subject: "by hand", text: "" }, false, false),
        ("slurm-rollout: not ordered, see `slurm-rollout status`", see_status, false, false),
        (
            "slurm-rollout: not ordered, see `slurm-rollout status` : reboot timed out",
            see_status,
            false,
            true,
        ),
        ("driver : reboot issued", OfAReboot, true, false),
        ("driver : reboot issued : reboot timed out", OfAReboot, true, true),
        ("driver : reboot issued : reboot complete", OfAReboot, true, false),
        ("driver : reboot issued : reboot timed out : reboot complete", OfAReboot, true, false),
        ("driver : reboot issued : reboot complete : reboot timed out", OfAReboot, true, true),
        ("driver : reboot issued : Not responding", OfAReboot, true, false),
        ("two\nlines : reboot issued", OfAReboot, true, false),
        // Without `reason=`, and of a second reboot in 22.05.
        ("reboot issued", OfAReboot, true, false),
        ("reboot issued : reboot timed out", OfAReboot, true, true),
        ("reboot timed out", OfAReboot, false, true),
        ("Reboot ASAP", OfAReboot, false, false),
        ("reboot requested", OfAReboot, false, false),
        ("reboot requested : reboot issued", OfAReboot, true, false),
        ("reboot requested by the vendor", Foreign, false, false),
        ("reboot issued by hand", Foreign, false, false),
        ("bad DIMM", Foreign, false, false),
        ("bad DIMM : reboot timed out", Foreign, false, true),
        ("bad DIMM : reboot timed out by mistake", Foreign, false, false),
        ("slurm-rollouts are bad", Foreign, false, false),
        ("see slurm-rollout driver: held", Foreign, false, false),
        ("", Foreign, false, false),
    ] {
        assert_eq!(Reason::classify(reason), Classified { kind, issued, timed_out }, "{reason}");
    }
}

#[test]
fn our_reason_is_one_line_and_keeps_that_slurm_gave_up() {
    let reason = Reason::ours("r", "held:\n no such\tpackage");
    assert_eq!(reason.as_str(), "slurm-rollout r: held: no such package");
    let late = node("DOWN", "x : reboot issued : reboot timed out");
    let reason = Reason::ours("r", "verify failed").replacing(late.reason.as_deref());
    assert_eq!(reason.as_str(), "slurm-rollout r: verify failed : reboot timed out");
    assert!(node("DOWN", reason.as_str()).timed_out_waiting_for_our_reboot());
    let issued = node("DOWN", "x : reboot issued");
    assert_eq!(Reason::ours("r", "x").replacing(issued.reason.as_deref()), Reason::ours("r", "x"));
    let quoting = Reason::ours("r", "has x : reboot issued : : reboot timed out");
    let classified = Reason::classify(quoting.as_str());
    assert!(!classified.issued && !classified.timed_out, "{quoting}");
    let long = Reason::ours("r", &format!("dnf: {}no such package", "long ".repeat(500))).to_string();
    assert!(long.chars().count() <= MAX_LENGTH && long.ends_with("no such package"), "{long}");
    assert!(long.starts_with("slurm-rollout r: dnf"), "{long}");
}

#[test]
fn a_reason_names_a_rollout_as_a_word() {
    for (reason, names) in [
        ("driver-580", true),
        ("driver-580 : reboot issued", true),
        ("driver-580: reboot issued", true),
        ("for driver-580.", true),
        ("\"driver-580\", please", true),
        ("slurm-rollout driver-580: not ordered: no answer", true),
        ("slurm-rollout driver-580: refused: busy", true),
        ("slurm-rollout RebootProgram for driver-580: not ordered: no space", true),
        ("slurm-rollout RebootProgram for ticket 7, driver-580: not ordered: no space", true),
        ("slurm-rollout RebootProgram for driver-581: not ordered: /rollouts/driver-580/journal", false),
        ("slurm-rollout RebootProgram: not ordered: /rollouts/driver-580/journal", false),
        ("slurm-rollout driver-581: not ordered: driver-580 is in the way", false),
        // From before a reboot without `reason=`, to which Slurm has appended.
        ("slurm-rollout driver-580: held: nhc : reboot issued", false),
        ("slurm-rollout driver-580: held: nhc : reboot timed out : reboot issued", false),
        ("slurm-rollout driver-580: not ordered: no answer : reboot timed out : reboot issued", false),
        ("driver-580 : reboot issued : reboot timed out", true),
        ("driver : reboot issued", false),
        ("undo-driver-580 : reboot issued", false),
        ("driver-580.1 : reboot issued", false),
        ("driver-580@2 : reboot issued", false),
        ("Reboot ASAP : reboot issued", false),
        ("", false),
    ] {
        assert_eq!(names_rollout(reason, "driver-580"), names, "{reason}");
    }
    assert!(names_rollout("driver-580@2 : reboot issued", "driver-580@2"));
    // Words of Slurm's, and of a plain reboot.
    for (reason, rollout) in [
        ("xid 79 : reboot issued", "reboot"),
        ("Reboot ASAP : reboot issued", "ASAP"),
        ("slurm-rollout plain reboot: not ordered: no answer", "plain"),
    ] {
        assert!(!names_rollout(reason, rollout), "{reason}");
    }
}

#[test]
fn a_reason_of_reboot_program_keeps_what_it_replaces() {
    let long = format!("driver-580 {}", "x".repeat(400));
    for (request, reason) in [
        (None, "slurm-rollout RebootProgram: not ordered: no space"),
        (Some("reboot issued"), "slurm-rollout RebootProgram: not ordered: no space"),
        (Some("Reboot ASAP : reboot issued"), "slurm-rollout RebootProgram: not ordered: no space"),
        (
            Some("ticket: driver-580 : reboot issued"),
            "slurm-rollout RebootProgram for ticket driver-580: not ordered: no space",
        ),
        // It failed before.
        (
            Some("slurm-rollout driver-580: not ordered: no answer"),
            "slurm-rollout RebootProgram for driver-580: not ordered: no space",
        ),
        (
            Some("slurm-rollout RebootProgram for driver-580: not ordered: locked"),
            "slurm-rollout RebootProgram for driver-580: not ordered: no space",
        ),
    ] {
        assert_eq!(Reason::not_ordered("no space", request).as_str(), reason, "{request:?}");
    }
    let reason = Reason::not_ordered(&"no space ".repeat(100), Some(&long));
    assert!(reason.as_str().chars().count() <= MAX_LENGTH, "{reason}");
    assert!(names_rollout(reason.as_str(), "driver-580"), "{reason}");
    for (reason, many) in [
        (Reason::ours("driver", "refused: busy"), "slurm-rollout driver: not ordered: see"),
        (reason, "slurm-rollout RebootProgram for driver-580 "),
        (Reason::not_ordered("no space", None), "slurm-rollout RebootProgram: not ordered: see"),
    ] {
        let of_many = reason.of_many_causes();
        assert!(of_many.as_str().starts_with(many), "{of_many}");
        let tells_when = |reason: &Reason| Reason::classify(reason.as_str()).is_of_a_hand_over();
        assert_eq!(tells_when(&of_many), tells_when(&reason), "{of_many}");
    }
}

#[test]
fn a_drain_of_others_is_restored_as_it_was() {
    for theirs in ["bad DIMM", "  two  blanks", "bad DIMM : reboot timed out"] {
        assert_eq!(Reason::restored(theirs).as_str(), theirs);
        assert!(!Reason::classify(theirs).is_of_a_reboot());
    }
    assert_eq!(without_notes("bad DIMM : reboot timed out"), "bad DIMM");
}

/// Any subject: names of rollouts, and others that must do no harm.
fn subjects() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9._-]{0,63}",
        Just(REBOOT_PROGRAM_SUBJECT.to_owned()),
        Just("plain reboot".to_owned()),
        any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(held|going back|refused|not ordered): .{0,60}",
        ".{200,600}",
        ".{0,20}: reboot (issued|timed out)",
    ]
}

fn appended() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just(" : reboot issued"),
        Just(" : reboot timed out"),
        Just(" : reboot issued : reboot timed out"),
    ]
}

proptest! {
    #[test]
    fn every_reason_of_ours_is_recognized(subject in subjects(), text in texts(), appended in appended()) {
        let late = node("DOWN", "x : reboot issued : reboot timed out");
        let ours = Reason::ours(&subject, &text);
        let not_ordered = Reason::not_ordered(&text, Some(&subject));
        for reason in [ours.clone(), ours.replacing(late.reason.as_deref()), not_ordered] {
            let reported = format!("{reason}{appended}");
            prop_assert!(Reason::classify(&reported).is_ours(), "{}", reported);
            let drained = node("DOWN+DRAIN+REBOOT_ISSUED", &reported);
            prop_assert_eq!(was_drained_meanwhile(&drained, "slurm"), None);
            prop_assert!(node("IDLE+DRAIN", &reported).is_drained_by_us());
            let timed_out = node("DOWN", &format!("{reported} : reboot timed out"));
            prop_assert!(timed_out.timed_out_waiting_for_our_reboot());
        }
    }

    #[test]
    fn a_node_that_could_not_be_ordered_shows_when(
        why in texts(),
        request in proptest::option::of(texts()),
        appended in appended(),
    ) {
        let reason = Reason::not_ordered(&why, request.as_deref());
        for reason in [reason.clone(), reason.of_many_causes()] {
            prop_assert!(reason.as_str().chars().count() <= MAX_LENGTH, "{}", reason);
            let reported = format!("{reason}{appended}");
            prop_assert_eq!(node("DOWN+REBOOT_ISSUED", &reported).handed_over_s(), Some(7));
        }
    }

    #[test]
    fn a_request_that_is_replaced_still_names_its_rollout(why in texts(), times in 1..4) {
        let mut reason = "driver-580 : reboot issued".to_owned();
        for _ in 0..times {
            reason = Reason::not_ordered(&why, Some(&reason)).to_string();
            prop_assert!(names_rollout(&reason, "driver-580"), "{}", reason);
        }
    }

    #[test]
    fn subject_and_text_can_be_read_back(
        subject in "[a-z0-9][a-z0-9._-]{0,63}",
        text in "[a-z]{1,20}( [a-z]{1,20}){0,5}",
        appended in appended(),
    ) {
        let reported = format!("{}{appended}", Reason::ours(&subject, &text));
        let kind = ReasonKind::Ours { subject: &subject, text: &text };
        prop_assert_eq!(Reason::classify(&reported).kind, kind);
    }
}
