//! Text from elsewhere: made fit for logs, terminals and Slurm's Reasons, split into words, and compared.

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

/// Length limit of a failure with notes, in characters.
const MAX_WITH_NOTES: usize = 1500;

/// Returns the failure of an order, and facts that are no failure, in one line for people. `None` if there are neither.
#[must_use]
pub fn with_notes(error: Option<&str>, notes: &[String]) -> Option<String> {
    if notes.is_empty() {
        return error.map(str::to_owned);
    }
    let parts: Vec<&str> = error.into_iter().chain(notes.iter().map(String::as_str)).collect();
    Some(one_line(&parts.join("; "), MAX_WITH_NOTES))
}

/// Splits a text into words at blanks, with quotes and `\` as in a shell. Replaces nothing in them. A quote that is
/// never closed ends with the text.
#[must_use]
pub fn shell_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns the number of letters to insert, delete or replace to get from `a` to `b` (Levenshtein distance).
#[must_use]
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(x != *y);
            diagonal = *above;
            *above = changed.min(left + 1).min(diagonal + 1);
            left = *above;
        }
        row.splice(..1, [i + 1]);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, words) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("-N cn01  -v", &["-N", "cn01", "-v"]),
            ("'a b' \"c d\"e", &["a b", "c de"]),
            ("'' x \"\"", &["", "x", ""]),
            (r"'The node'\''s > own'", &["The node's > own"]),
            (r#"a\ b "c\"d" 'e\f'"#, &["a b", "c\"d", r"e\f"]),
            ("'never closed", &["never closed"]),
            ("a\\", &["a"]),
        ] {
            assert_eq!(shell_words(text), words, "{text}");
        }
    }

    #[test]
    fn typos_are_counted() {
        for (a, b, letters) in [
            ("port", "port", 0),
            ("prt", "port", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a, b), letters, "{a} {b}");
        }
    }

    #[test]
    fn notes_come_behind_the_failure() {
        let notes = ["a scriptlet failed".to_owned(), "tzdata was\nupdated".to_owned()];
        for (error, count, line) in [
            (None, 0, None),
            (Some("nhc said no"), 0, Some("nhc said no")),
            (None, 1, Some("a scriptlet failed")),
            (Some("nhc said no"), 2, Some("nhc said no; a scriptlet failed; tzdata was updated")),
        ] {
            assert_eq!(with_notes(error, &notes[..count]).as_deref(), line);
        }
        let many = vec!["x".repeat(700); 16];
        assert!(with_notes(Some("nhc"), &many).is_some_and(|line| line.chars().count() <= MAX_WITH_NOTES));
    }

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
