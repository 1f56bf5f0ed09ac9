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

/// Begins the subject of a Reason of RebootProgram that keeps the words of the reboot's own Reason.
const REBOOT_PROGRAM_FOR: &str = "RebootProgram for ";

/// Begins the text of a Reason for nodes that RebootProgram could not order.
pub const NOT_ORDERED: &str = "not ordered:";

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

/// Length limit of the words of a reboot's own Reason in a Reason of ours, in characters.
const MAX_REQUEST: usize = 160;

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
    /// time of the hand-over, see [`NodeInfo::handed_over_s`](crate::slurm::node::NodeInfo::handed_over_s). It takes
    /// the place of the reboot's own Reason. If only the rollout that `request` names is applied, it keeps the words of
    /// that, so that an order which is sent again is the same order.
    #[must_use]
    pub fn not_ordered(why: &str, request: Option<&str>) -> Self {
        // The first colon ends the subject.
        let words = requested(request.unwrap_or_default()).replace(':', " ");
        let subject = match one_line(&words, MAX_REQUEST) {
            words if words.is_empty() => REBOOT_PROGRAM_SUBJECT.to_owned(),
            words => format!("{REBOOT_PROGRAM_FOR}{words}"),
        };
        // A long cause must not cost the subject its end.
        let room = MAX_LENGTH.saturating_sub(PREFIX.len() + subject.chars().count() + ": ".len());
        Self::ours(&subject, &one_line(&format!("{NOT_ORDERED} {why}"), room))
    }

    /// Returns one Reason for nodes with many different causes, in place of these. It keeps the subject.
    #[must_use]
    pub fn of_many_causes(&self) -> Self {
        let subject = match Self::classify(self.as_str()).kind {
            ReasonKind::Ours { subject, .. } => subject,
            ReasonKind::OfAReboot | ReasonKind::Foreign => REBOOT_PROGRAM_SUBJECT,
        };
        Self::ours(subject, &format!("{NOT_ORDERED} see `slurm-rollout status`"))
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
            ReasonKind::Ours { subject, text } if text.starts_with(NOT_ORDERED) => {
                subject == REBOOT_PROGRAM_SUBJECT || subject.starts_with(REBOOT_PROGRAM_FOR) || self.issued
            }
            _ => self.issued,
        }
    }
}

/// Returns whether the Reason of a reboot names this rollout: as a word, in the admin's text or in the subject of the
/// Reason with which RebootProgram has replaced that.
#[must_use]
pub fn names_rollout(reason: &str, rollout: &str) -> bool {
    let is_of_ids = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    let mut words = requested(reason).split(|c| !is_of_ids(c)).map(|word| word.trim_end_matches('.'));
    words.any(|word| word == rollout)
}

/// Returns the words of the request in the Reason of a node that is being rebooted. Empty if the request had none.
///
/// A Reason of ours that Slurm has appended to was there before the request, which had none of its own: the request's
/// would have replaced it. The text of a Reason of ours never counts, because it may quote anything, such as the path
/// of a rollout's journal.
fn requested(reason: &str) -> &str {
    let classified = Reason::classify(reason);
    match classified.kind {
        ReasonKind::Ours { .. } if classified.issued => "",
        ReasonKind::Ours { subject: REBOOT_PROGRAM_SUBJECT | PLAIN_REBOOT, .. } => "",
        ReasonKind::Ours { subject, .. } => subject.strip_prefix(REBOOT_PROGRAM_FOR).unwrap_or(subject),
        ReasonKind::OfAReboot | ReasonKind::Foreign => match without_notes(reason) {
            text if REBOOT_REQUESTED.contains(&text) => "",
            text => text,
        },
    }
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
mod tests;
