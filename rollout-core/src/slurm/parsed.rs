//! The outcome of parsing several records. A record that cannot be read is reported, because a decision that takes its
//! absence for an answer would be wrong: a job that cannot be read may hold any node.

use crate::text::one_line;
use std::fmt;

/// Number of characters of a line that [`Unread`] keeps.
const MAX_LINE: usize = 200;

/// Records of the same kind, and the lines that are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    pub items: Vec<T>,
    pub unread: Vec<Unread>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The line without control characters, shortened if it is long.
    pub line: String,
    pub why: String,
}

impl<T> Parsed<T> {
    /// Collects what `parse` makes of each line.
    pub(super) fn of<'a>(
        lines: impl Iterator<Item = &'a str>,
        parse: impl Fn(&'a str) -> Result<T, String>,
    ) -> Self {
        let mut parsed = Self { items: Vec::new(), unread: Vec::new() };
        for line in lines {
            match parse(line) {
                Ok(item) => parsed.items.push(item),
                Err(why) => {
                    let why = one_line(&why, MAX_LINE);
                    parsed.unread.push(Unread { line: one_line(line, MAX_LINE), why });
                }
            }
        }
        parsed
    }

    /// Returns whether every line was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty()
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.why, self.line)
    }
}
