//! The Reason of a node: one constructor for the Reasons set by slurm-rollout, one recognizer for those that Slurm
//! reports.
//!
//! A Reason carries state between processes: it tells a drain of an admin from one of ours, and a node that is late
//! from one that is broken. So no text reaches Slurm but as a [`Reason`], and none is taken apart but by
//! [`Reason::classify`].

use crate::slurm::node::NodeInfo;
use crate::text::one_line;
use std::fmt;

/// Subject of the Reasons that concern RebootProgram itself and no rollout.
pub const REBOOT_PROGRAM_SUBJECT: &str = "RebootProgram";

/// Subject of the Reasons about a reboot that belongs to no rollout.
pub const PLAIN_REBOOT: &str = "plain reboot";

/// Begins every Reason of ours.
const PREFIX: &str = "slurm-rollout ";

/// Begins the Reason that earlier versions set if there were many different causes. Nodes may still have it.
const OLD_PREFIX: &str = "slurm-rollout: ";

/// Begins the text of a Reason for nodes that RebootProgram could not order.
const NOT_ORDERED: &str = "not ordered:";

/// Appended by Slurm when it hands the node over to RebootProgram (`src/slurmctld/node_mgr.c`).
const REBOOT_ISSUED: &str = ": reboot issued";

/// Appended by Slurm when ResumeTimeout is over.
const REBOOT_TIMED_OUT: &str = ": reboot timed out";

/// Set by Slurm for `scontrol reboot` without `reason=`.
const REBOOT_REQUESTED: [&str; 2] = ["Reboot ASAP", "reboot requested"];

/// Length limit of our Reasons, in characters: `sinfo -R` shows one line.
pub const MAX_LENGTH: usize = 320;

/// A Reason to set on nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason(String);

impl Reason {
    /// Returns a Reason of ours about `subject`, which is a rollout, [`REBOOT_PROGRAM_SUBJECT`] or the like. The text
    /// is brought to one line of limited length.
    #[must_use]
    pub fn ours(subject: &str, text: &str) -> Self {
        Self(one_line(&format!("{PREFIX}{subject}: {text}"), MAX_LENGTH))
    }

    /// Returns the Reason for nodes that RebootProgram could not order and of which no journal tells. It counts as the
    /// time of the hand-over, see [`NodeInfo::handed_over_s`].
    #[must_use]
    pub fn not_ordered(why: &str) -> Self {
        Self::ours(REBOOT_PROGRAM_SUBJECT, &format!("{NOT_ORDERED} {why}"))
    }

    /// Returns the Reason of a drain that was set by others, exactly as they set it.
    #[must_use]
    pub fn restored(theirs: &str) -> Self {
        Self(theirs.to_owned())
    }

    /// Appends that Slurm gave up waiting, if the Reason that is to be replaced shows it.
    #[must_use]
    pub fn replacing_that_of(self, node: Option<&NodeInfo>) -> Self {
        let before = node.and_then(|node| node.reason.as_deref()).map(Self::classify);
        match before.and_then(|before| before.appended) {
            Some(Appended::RebootTimedOut) => Self(format!("{self} {REBOOT_TIMED_OUT}")),
            Some(Appended::RebootIssued) | None => self,
        }
    }

    /// Takes a Reason apart that Slurm reports.
    #[must_use]
    pub fn classify(reason: &str) -> Classified<'_> {
        let appended = match reason {
            _ if reason.ends_with(REBOOT_TIMED_OUT) => Some(Appended::RebootTimedOut),
            _ if reason.ends_with(REBOOT_ISSUED) => Some(Appended::RebootIssued),
            _ => None,
        };
        let issued = reason.contains(REBOOT_ISSUED);
        let kind = if let Some(ours) = reason.strip_prefix(PREFIX) {
            let (subject, text) = without_appended(ours).split_once(':').unwrap_or((ours, ""));
            ReasonKind::Ours { subject, text: text.trim_start() }
        } else if let Some(text) = reason.strip_prefix(OLD_PREFIX) {
            ReasonKind::Ours { subject: REBOOT_PROGRAM_SUBJECT, text: without_appended(text) }
        } else if issued || REBOOT_REQUESTED.iter().any(|requested| reason.starts_with(requested)) {
            ReasonKind::OfAReboot { issued }
        } else {
            ReasonKind::Foreign
        };
        Classified { kind, appended }
    }

    /// Returns the whole text, as Slurm gets it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Reason that Slurm reports, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified<'a> {
    pub kind: ReasonKind<'a>,
    /// The last thing that Slurm appended.
    pub appended: Option<Appended>,
}

/// Origin of a Reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind<'a> {
    /// Set by slurm-rollout. The text is without Slurm's additions.
    Ours { subject: &'a str, text: &'a str },
    /// Set by Slurm for a reboot, or by an admin with `scontrol reboot reason=` once Slurm has `issued` that reboot.
    OfAReboot { issued: bool },
    /// Set by an admin, a health check, or Slurm for other causes.
    Foreign,
}

/// Slurm's additions to any Reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    RebootIssued,
    RebootTimedOut,
}

impl Classified<'_> {
    /// Returns whether slurm-rollout set this Reason.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, ReasonKind::Ours { .. })
    }

    /// Returns whether this Reason tells of no drain by others: it is ours, or that of a reboot.
    #[must_use]
    pub fn is_of_a_reboot(&self) -> bool {
        self.kind != ReasonKind::Foreign
    }

    /// Returns whether Slurm gave up waiting for a reboot, and nobody has set a Reason of their own since.
    #[must_use]
    pub fn is_of_a_timed_out_reboot(&self) -> bool {
        let reboot = matches!(self.kind, ReasonKind::Ours { .. } | ReasonKind::OfAReboot { issued: true });
        reboot && self.appended == Some(Appended::RebootTimedOut)
    }

    /// Returns whether the time of this Reason is that of the hand-over: Slurm has just issued the reboot, or
    /// RebootProgram could not order the node ([`Reason::not_ordered`]).
    #[must_use]
    pub fn is_of_a_hand_over(&self) -> bool {
        let not_ordered = match self.kind {
            ReasonKind::Ours { subject, text } => {
                subject == REBOOT_PROGRAM_SUBJECT && text.starts_with(NOT_ORDERED)
            }
            ReasonKind::OfAReboot { .. } | ReasonKind::Foreign => false,
        };
        not_ordered || self.appended == Some(Appended::RebootIssued)
    }
}

/// Returns whether the Reason of a reboot names this rollout: as a word, in the admin's text or as the subject of a
/// Reason of ours.
#[must_use]
pub fn names_rollout(reason: &str, rollout: &str) -> bool {
    let is_of_ids = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    let mut words = reason.split(|c| !is_of_ids(c)).map(|word| word.trim_end_matches('.'));
    words.any(|word| word == rollout)
}

/// Returns the Reason without Slurm's note that it gave up waiting, which it appends to any Reason.
#[must_use]
pub fn without_time_out(reason: &str) -> &str {
    reason.trim_end_matches(REBOOT_TIMED_OUT).trim_end()
}

/// Returns the Reason without Slurm's additions for a reboot.
#[must_use]
pub(crate) fn without_appended(mut reason: &str) -> &str {
    while let Some(rest) =
        reason.strip_suffix(REBOOT_TIMED_OUT).or_else(|| reason.strip_suffix(REBOOT_ISSUED))
    {
        reason = rest.trim_end();
    }
    reason
}

/// Returns the cause of a failure, for texts that need one.
#[must_use]
pub fn cause(error: Option<&str>) -> &str {
    error.unwrap_or("no reason is known")
}

/// Returns the text for a node that is held because of `error`.
#[must_use]
pub fn held(error: Option<&str>) -> String {
    format!("held: {}", cause(error))
}

/// Returns the text for a node that is going back to its old version because of `error`.
#[must_use]
pub fn going_back(error: Option<&str>) -> String {
    format!("going back: {}", cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::drains::was_drained_meanwhile;
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
        const ISSUED: Option<Appended> = Some(Appended::RebootIssued);
        const TIMED_OUT: Option<Appended> = Some(Appended::RebootTimedOut);
        let nhc = Ours { subject: "driver", text: "held: nhc" };
        let see_status =
            Ours { subject: REBOOT_PROGRAM_SUBJECT, text: "not ordered, see `slurm-rollout status`" };
        for (reason, kind, appended) in [
            ("slurm-rollout driver: held: nhc", nhc, None),
            ("slurm-rollout driver: held: nhc : reboot issued", nhc, ISSUED),
            ("slurm-rollout driver: held: nhc : reboot issued : reboot timed out", nhc, TIMED_OUT),
            ("slurm-rollout by hand", Ours { subject: "by hand", text: "" }, None),
            ("slurm-rollout: not ordered, see `slurm-rollout status`", see_status, None),
            (
                "slurm-rollout: not ordered, see `slurm-rollout status` : reboot timed out",
                see_status,
                TIMED_OUT,
            ),
            ("driver : reboot issued", OfAReboot { issued: true }, ISSUED),
            ("driver : reboot issued : reboot timed out", OfAReboot { issued: true }, TIMED_OUT),
            ("Reboot ASAP", OfAReboot { issued: false }, None),
            ("reboot requested", OfAReboot { issued: false }, None),
            ("bad DIMM", Foreign, None),
            ("bad DIMM : reboot timed out", Foreign, TIMED_OUT),
            ("slurm-rollouts are bad", Foreign, None),
            ("see slurm-rollout driver: held", Foreign, None),
            ("", Foreign, None),
        ] {
            assert_eq!(Reason::classify(reason), Classified { kind, appended }, "{reason}");
        }
    }

    #[test]
    fn our_reason_is_one_line_and_keeps_that_slurm_gave_up() {
        let reason = Reason::ours("r", "held:\n no such\tpackage");
        assert_eq!(reason.as_str(), "slurm-rollout r: held: no such package");
        let late = node("DOWN", "x : reboot issued : reboot timed out");
        let reason = Reason::ours("r", "verify failed").replacing_that_of(Some(&late));
        assert_eq!(reason.as_str(), "slurm-rollout r: verify failed : reboot timed out");
        assert!(node("DOWN", reason.as_str()).timed_out_waiting_for_our_reboot());
        let issued = node("DOWN", "x : reboot issued");
        assert_eq!(Reason::ours("r", "x").replacing_that_of(Some(&issued)), Reason::ours("r", "x"));
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
    }

    #[test]
    fn a_drain_of_others_is_restored_as_it_was() {
        for theirs in ["bad DIMM", "  two  blanks", "bad DIMM : reboot timed out"] {
            assert_eq!(Reason::restored(theirs).as_str(), theirs);
            assert!(!Reason::classify(theirs).is_of_a_reboot());
        }
        assert_eq!(without_time_out("bad DIMM : reboot timed out"), "bad DIMM");
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
            for reason in [ours.clone(), ours.replacing_that_of(Some(&late)), Reason::not_ordered(&text)] {
                let reported = format!("{reason}{appended}");
                prop_assert!(Reason::classify(&reported).is_ours(), "{}", reported);
                let drained = node("DOWN+DRAIN+REBOOT_ISSUED", &reported);
                prop_assert_eq!(was_drained_meanwhile(&drained), None);
                prop_assert!(node("IDLE+DRAIN", &reported).is_drained_by_us());
                let timed_out = node("DOWN", &format!("{reported} {REBOOT_TIMED_OUT}"));
                prop_assert!(timed_out.timed_out_waiting_for_our_reboot());
            }
        }

        #[test]
        fn a_node_that_could_not_be_ordered_shows_when(why in texts(), appended in appended()) {
            let reported = format!("{}{appended}", Reason::not_ordered(&why));
            prop_assert_eq!(node("DOWN+REBOOT_ISSUED", &reported).handed_over_s(), Some(7));
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
}
