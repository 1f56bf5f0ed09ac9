//! Converts a shipped configuration file to sections of its page.
//!
//! The file begins with comments about itself. After these, each key is commented out at its default, below the comment
//! that explains it.

use crate::help::words;
use crate::page::{Block, Sections};
use roff::bold;

/// Returns the sections of a shipped file.
#[must_use]
pub fn sections(text: &str) -> Sections {
    let mut sections = Sections::default();
    for chunk in text.split("\n\n") {
        let (comment, keys): (Vec<&str>, Vec<&str>) =
            chunk.lines().partition(|line| *line == "#" || line.starts_with("# "));
        let comment: Vec<_> = comment.iter().map(|line| line.trim_start_matches(['#', ' '])).collect();
        let paragraphs =
            comment.split(|line| line.is_empty()).map(|lines| Block::Text(words(&lines.join(" "))));
        if keys.is_empty() {
            sections.add("DESCRIPTION", paragraphs);
        } else {
            let keys: Vec<_> = keys.iter().map(|line| line.trim_start_matches('#')).collect();
            sections.add("KEYS", [Block::Item(vec![bold(keys.join(" "))], paragraphs.collect())]);
        }
    }
    sections
}
