//! Output of tables in the style of sinfo, of JSON, and of times for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, Write};

/// Prints columns as wide as their widest cell, the last one without padding. A closed pipe is not an error.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(head) + "\n";
    for row in rows {
        text += &(line(&row.iter().map(String::as_str).collect::<Vec<_>>()) + "\n");
    }
    out(&text);
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
