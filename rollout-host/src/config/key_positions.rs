//! Positions of keys in a TOML file, for error messages, and suggestions for unknown keys.

use rollout_core::text::edit_distance;
use std::ops::Range;
use toml::de::DeTable;

/// Edit distance up to which a known key is suggested for an unknown one. A higher limit would suggest unrelated keys.
const MAX_TYPOS: usize = 2;

/// The top-level keys of a file and their positions.
pub(super) struct KeyPositions<'a> {
    text: &'a str,
    /// Each key, and its range of bytes from the key to the end of its value.
    keys: Vec<(String, Range<usize>)>,
}

impl<'a> KeyPositions<'a> {
    /// Returns the positions of the keys of `table`, which was parsed from `text`.
    pub(super) fn of(text: &'a str, table: &DeTable<'_>) -> Self {
        let mut keys: Vec<_> = table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), key.span().start..value.span().end))
            .collect();
        keys.sort_by_key(|(_, at)| at.start);
        Self { text, keys }
    }

    /// Returns every key with its line and column.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, (usize, usize))> {
        self.keys.iter().map(|(key, at)| (key.as_str(), line_and_column(self.text, at.start)))
    }

    /// Returns the key to which the byte at `offset` belongs.
    pub(super) fn key_at(&self, offset: usize) -> Option<&str> {
        let contains_offset = |(_, at): &&(String, Range<usize>)| at.contains(&offset);
        // An error at a table's header points to its bracket, which precedes the key.
        let follows_on_the_line = |(_, at): &&(String, Range<usize>)| {
            self.text.get(offset..at.start).is_some_and(|between| !between.contains('\n'))
        };
        let found =
            self.keys.iter().find(contains_offset).or_else(|| self.keys.iter().find(follows_on_the_line));
        found.map(|(key, _)| key.as_str())
    }
}

/// Returns the line and column of a byte, both counted from 1.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or("");
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Returns the error message for an unknown key.
pub(super) fn unknown_key(key: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|known| (edit_distance(key, known), known)).min();
    let suggestion = nearest.filter(|(typos, known)| *typos <= MAX_TYPOS && *typos < known.len() / 2 + 1);
    let suggestion = suggestion.map(|(_, known)| format!("did you mean {known}? ")).unwrap_or_default();
    let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
    format!("unknown key; {suggestion}expected one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_for_one_another_only_when_they_look_alike() {
        let known = ["agent_port", "deadline"].map(str::to_owned);
        assert!(unknown_key("agent-port", &known).contains("did you mean agent_port?"));
        assert_eq!(unknown_key("x", &known), "unknown key; expected one of `agent_port`, `deadline`");
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        for (text, offset, at) in
            [("", 0, (1, 1)), ("a\nbc", 3, (2, 2)), ("ä = 1", 2, (1, 2)), ("a", 9, (1, 2))]
        {
            assert_eq!(line_and_column(text, offset), at, "{text:?} {offset}");
        }
    }
}
