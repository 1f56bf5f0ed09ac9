//! Errors of a hostlist, worded so that its author can correct it.

use std::fmt;

use super::limits::{MAX_DIGITS, MAX_NAME, MAX_NODES, MAX_RANGE};

/// Number of the list's characters that a message shows.
const SHOWN: usize = 80;

/// The part of a hostlist that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The item (text between commas outside brackets) or the range in brackets, cut if it is long.
    pub item: String,
    /// Byte position of the error in the list.
    pub at: usize,
}

impl Span {
    pub(super) fn new(text: &str, at: usize) -> Self {
        let mut item: String = text.chars().take(SHOWN).collect();
        if item.len() < text.len() {
            item.push('…');
        }
        Self { item, at }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at byte {}", self.item, self.at)
    }
}

/// A text that is not a hostlist. The whole list is refused, whatever its other items are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostlistError {
    /// Empty, or separators only.
    #[error("no node is named; write NodeNames as in cn[001-128],gpu1")]
    Empty,
    /// A character that no NodeName can have. Slurm does not check. Names become arguments of scontrol
    /// and parts of paths, so only letters, digits, `.`, `_` and `-` are accepted.
    #[error("{0}: {1:?} cannot be part of a NodeName; use letters, digits, '.', '_' and '-'")]
    Character(Span, char),
    /// A name that would be read as an option or as a hidden file.
    #[error("{0}: a NodeName cannot begin with {1:?}; begin it with a letter or a digit")]
    Start(Span, char),
    /// A name longer than [`MAX_NAME`].
    #[error("{0}: a name here has more than {MAX_NAME} characters; shorten it")]
    TooLong(Span),
    /// `[` without `]`.
    #[error("{0}: the bracket is never closed; add ']'")]
    Unclosed(Span),
    /// `]` without `[`.
    #[error("{0}: no bracket is open here; remove ']'")]
    Stray(Span),
    /// `[` inside `[…]`.
    #[error("{0}: brackets cannot stand inside brackets; write the groups one after the other")]
    Nested(Span),
    /// `[]`, or two commas in a row in brackets.
    #[error("{0}: a number or range is missing in the brackets; write it, or remove the comma or brackets")]
    EmptyRange(Span),
    /// Something other than `7` or `7-12` in brackets: signs, blanks, hexadecimal, an open end.
    #[error("{0}: not a number or range; write decimal digits as in 7 or 007-012")]
    BadRange(Span),
    /// `[9-1]`.
    #[error("{0}: the range runs downwards; write the lower number first")]
    Descending(Span),
    /// A number of more than 18 digits.
    #[error("{0}: a number has more than {MAX_DIGITS} digits, which Slurm cannot count; shorten it")]
    NumberTooLarge(Span),
    /// A range, or all ranges in brackets before the last ones, of more than [`MAX_RANGE`] numbers.
    #[error("{0}: more than {MAX_RANGE} numbers, which Slurm refuses; write several smaller ranges")]
    RangeTooLong(Span),
    /// The list would expand to more than [`MAX_NODES`] names.
    #[error("{0}: the list expands to more than {MAX_NODES} names up to here; name fewer nodes")]
    TooManyNodes(Span),
    /// `{…}`, which only slurmctld 25.05+ can expand.
    #[error("{0}: hostlist functions {{…}} are not supported here; write the node names")]
    Function(Span),
}
