//! The Reason of a node: one constructor for the Reasons set by slurm-rollout, one recognizer for those that Slurm
//! reports.
//!
//! A Reason carries state between processes: it tells a drain of an admin from one of ours, and a node that is late
//! from one that is broken. So no text reaches Slurm but as a [`Reason`], and none is taken apart but by
//! [`Reason::classify`].

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

/// Noted by Slurm when it hands the node over to RebootProgram.
///
/// Slurm appends a note, unless the Reason contains it already: then only user and time are new, and the order of notes
/// tells nothing (`set_node_reason` in `src/slurmctld/node_mgr.c`, 23.02 to 26.05). A note is the whole Reason if there
/// was none, and up to 22.05 also if the Reason contained it already (`set_node_reboot_reason`).
const REBOOT_ISSUED: &str = "reboot issued";

/// Noted by Slurm when ResumeTimeout is over.
const REBOOT_TIMED_OUT: &str = "reboot timed out";

/// Noted by Slurm when the node has booted and stays down because of `nextstate=down`.
const REBOOT_COMPLETE: &str = "reboot complete";

/// Comes before each of Slurm's notes.
const BEFORE_NOTE: &str = " : ";

/// Set by Slurm for `scontrol reboot` without `reason=`.
const REBOOT_REQUESTED: [&str; 2] = ["Reboot ASAP", "reboot requested"];

/// Length limit of our Reasons, in characters: `sinfo -R` shows one line.
pub const MAX_LENGTH: usize = 320;

/// A Reason to set on nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason(String);

impl Reason {
    /// Returns a Reason of ours about `subject`, which is a rollout, [`REBOOT_PROGRAM_SUBJECT`] or the like. The text
    /// is brought to one line of limited length, in which nothing can be taken for a note of Slurm.
    #[must_use]
    pub fn ours(subject: &str, text: &str) -> Self {
        let line = one_line(&format!("{subject}: {text}"), MAX_LENGTH - PREFIX.len());
        Self(format!("{PREFIX}{}", line.replace(" :", ":")))
    }

    /// Returns the Reason for nodes that RebootProgram could not order and of which no journal tells. It counts as the
    /// time of the hand-over, see [`NodeInfo::handed_over_s`](crate::slurm::node::NodeInfo::handed_over_s).
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
    pub fn replacing(self, before: Option<&str>) -> Self {
        match before.map(Self::classify).is_some_and(|before| before.timed_out) {
            true => Self(format!("{self}{BEFORE_NOTE}{REBOOT_TIMED_OUT}")),
            false => self,
        }
    }

    /// Takes a Reason apart that Slurm reports.
    #[must_use]
    pub fn classify(reason: &str) -> Classified<'_> {
        let (text, timed_out) = split_notes(reason);
        let issued = is_noted(reason, REBOOT_ISSUED);
        let kind = if let Some(ours) = reason.strip_prefix(PREFIX) {
            let (ours, _) = split_notes(ours);
            let (subject, text) = ours.split_once(':').unwrap_or((ours, ""));
            ReasonKind::Ours { subject, text: text.trim_start() }
        } else if let Some(text) = text.strip_prefix(OLD_PREFIX) {
            ReasonKind::Ours { subject: REBOOT_PROGRAM_SUBJECT, text }
        } else if issued || text.is_empty() && timed_out || REBOOT_REQUESTED.contains(&text) {
            ReasonKind::OfAReboot
        } else {
            ReasonKind::Foreign
        };
        Classified { kind, issued, timed_out }
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
    /// Slurm has noted that it handed the node over.
    pub issued: bool,
    /// Slurm has noted that it gave up waiting for a reboot.
    pub timed_out: bool,
}

/// Origin of a Reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind<'a> {
    /// Set by slurm-rollout. The text is without Slurm's notes.
    Ours { subject: &'a str, text: &'a str },
    /// Set by Slurm for a reboot, or by an admin with `scontrol reboot reason=` once Slurm has issued that reboot.
    OfAReboot,
    /// Set by an admin, a health check, or Slurm for other causes.
    Foreign,
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
        self.is_of_a_reboot() && self.timed_out
    }

    /// Returns whether the time of this Reason is that of the hand-over, if the node is handed over: Slurm has noted
    /// it, or RebootProgram could not order the node ([`Reason::not_ordered`]).
    #[must_use]
    pub fn is_of_a_hand_over(&self) -> bool {
        match self.kind {
            ReasonKind::Ours { subject: REBOOT_PROGRAM_SUBJECT, text } if text.starts_with(NOT_ORDERED) => {
                true
            }
            _ => self.issued,
        }
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

/// Returns the Reason without Slurm's notes.
#[must_use]
pub fn without_notes(reason: &str) -> &str {
    split_notes(reason).0
}

/// Splits Slurm's notes off the end of a Reason. The text is empty if there is nothing else. Also returns whether the
/// notes end with a reboot that timed out, and not with one that is complete.
fn split_notes(reason: &str) -> (&str, bool) {
    let mut text = reason;
    let mut end = None;
    while let Some((before, note)) = split_note(text) {
        text = before;
        if note != REBOOT_ISSUED {
            end = end.or(Some(note));
        }
    }
    (text, end == Some(REBOOT_TIMED_OUT))
}

/// Splits the last note of Slurm off a Reason.
fn split_note(reason: &str) -> Option<(&str, &'static str)> {
    let notes = [REBOOT_ISSUED, REBOOT_TIMED_OUT, REBOOT_COMPLETE];
    notes.into_iter().find_map(|note| {
        let before = reason.strip_suffix(note)?;
        let text = if before.is_empty() { before } else { before.strip_suffix(BEFORE_NOTE)? };
        Some((text, note))
    })
}

/// Returns whether Slurm has made this note, wherever it is.
fn is_noted(reason: &str, note: &str) -> bool {
    let begins =
        reason.strip_prefix(note).is_some_and(|rest| rest.is_empty() || rest.starts_with(BEFORE_NOTE));
    begins || reason.contains(&format!("{BEFORE_NOTE}{note}"))
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
            for reason in [ours.clone(), ours.replacing(late.reason.as_deref()), Reason::not_ordered(&text)] {
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
