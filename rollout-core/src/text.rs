//! Text from elsewhere, made fit for logs, terminals and Slurm's Reasons.

/// Returns the text as one line of at most `max` characters, without control characters.
///
/// A longer text keeps its beginning, which names the attempt, and more of its end, because tools report the cause
/// there.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line: Vec<char> = words.join(" ").chars().collect();
    if line.len() <= max {
        return line.into_iter().collect();
    }
    let (head, tail) = (max / 3, max - max / 3 - 3);
    let end = line.len().saturating_sub(tail);
    line.iter().take(head).chain(&[' ', '…', ' ']).chain(line.iter().skip(end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_brought_to_one_line() {
        for (text, max, line) in [
            ("", 10, ""),
            (" \n\t ", 10, ""),
            ("one two", 7, "one two"),
            ("one\r\n  two\0three", 20, "one two three"),
            ("abcdefghijklmnopqrstuvwxyz", 26, "abcdefghijklmnopqrstuvwxyz"),
            ("abcdefghijklmnopqrstuvwxyz", 12, "abcd … vwxyz"),
            ("äöüäöüäöüäöüäöüß", 12, "äöüä … üäöüß"),
        ] {
            assert_eq!(one_line(text, max), line);
            assert!(line.chars().count() <= max);
        }
    }
}
