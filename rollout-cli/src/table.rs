//! Output of tables in the style of sinfo, of JSON, and of times for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, Write};

/// Prints columns as wide as their widest cell, the last one without padding. A closed pipe is not an error.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    out(&layout(head, rows));
}

/// Lays out a table with one line for each row: a Reason of Slurm may have several.
pub(crate) fn layout(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(head) + "\n";
    for row in &rows {
        text += &(line(&row.iter().map(String::as_str).collect::<Vec<_>>()) + "\n");
    }
    text
}

/// Replaces control characters, such as those of a terminal, by spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Prints text. A closed pipe is not an error.
pub(crate) fn out(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), serde_json::Error> {
    out(&(serde_json::to_string_pretty(value)? + "\n"));
    Ok(())
}

/// Formats a time in the local time zone.
pub(crate) fn local_time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or("?".to_owned(), |at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line() {
        let rows = [
            vec!["n1".to_owned(), "drained by root: bad\nDIMM\u{1b}[2J".to_owned(), "x".to_owned()],
            vec!["node2".to_owned(), String::new(), String::new()],
        ];
        let table =
            "NODE   NOTE                           Z\nn1     drained by root: bad DIMM [2J  x\nnode2\n";
        assert_eq!(layout(&["NODE", "NOTE", "Z"], &rows), table);
    }
}
