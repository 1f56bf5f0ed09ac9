//! Node sets in a manifest. They are replaced by their nodes once, when the manifest is staged.
//!
//! The stored text therefore needs no groups to be read, by any version, and its nodes do not change with a group. A
//! comment above the replaced value keeps what was written; those of a strategy are at the top of the text, since a
//! value may be in the middle of a line or of a table.

use super::{ManifestError, value};
use crate::hostlist::NodeSet;
use std::fmt::Write;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A text that may be a node set.
struct Found {
    /// For example `strategy.group[1].nodes`, counted from 1.
    key: String,
    /// Position of the value, with its quotes.
    span: Range<usize>,
    text: String,
}

/// Returns the text of a manifest with hostlists in the place of node sets: in `nodes`, and wherever its strategy names
/// nodes. `resolve` returns the nodes of a node set, or the reason for having none. A text without a node set stays as it
/// is, and so does one that is no manifest: parsing it reports the error.
///
/// # Errors
/// The reason that `resolve` returns, with its key.
pub fn expand(
    text: &str,
    resolve: impl Fn(&str) -> Result<NodeSet, String>,
) -> Result<String, ManifestError> {
    let Ok(document) = DeTable::parse(text) else { return Ok(text.to_owned()) };
    let mut found = node_sets(document.get_ref());
    found.sort_by_key(|found| found.span.start);
    let resolved = found.into_iter().map(|found| match resolve(&found.text) {
        Ok(nodes) => Ok((found, nodes)),
        Err(reason) => Err(value(&found.key, reason)),
    });
    let resolved: Vec<(Found, NodeSet)> = resolved.collect::<Result<_, _>>()?;
    let (mut expanded, mut comments) = (text.to_owned(), Vec::new());
    // From the end, so that positions before a replaced value stay valid.
    for (Found { key, span, text: written }, nodes) in resolved.into_iter().rev() {
        let (Some(before), Some(behind)) = (expanded.get(..span.start), expanded.get(span.end..)) else {
            continue;
        };
        let comment = format!("# {key} was {written:?} when this was staged.\n");
        if key == "nodes" {
            // The key stands in the line in which its value begins.
            let (lines, key) = before.split_at(before.rfind('\n').map_or(0, |newline| newline + 1));
            expanded = format!("{lines}{comment}{key}\"{nodes}\"{behind}");
        } else {
            expanded = format!("{before}\"{nodes}\"{behind}");
            comments.push(comment);
        }
    }
    Ok(comments.iter().rev().map(String::as_str).chain([expanded.as_str()]).collect())
}

/// Returns the values of a manifest that are node sets and not hostlists.
fn node_sets(manifest: &DeTable<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    add(&mut found, "nodes", manifest.get("nodes"));
    let Some(strategy) = manifest.get("strategy").and_then(|strategy| strategy.get_ref().as_table()) else {
        return found;
    };
    for key in ["never", "waves", "approve"] {
        add(&mut found, &format!("strategy.{key}"), strategy.get(key));
    }
    for (list, keys) in [
        ("floor", &["nodes"][..]),
        ("exclusive", &["nodes", "pairs"]),
        ("group", &["nodes", "bring_up"]),
        ("hook", &["nodes"]),
    ] {
        let tables = strategy.get(list).and_then(|list| list.get_ref().as_array());
        for (table, n) in tables.into_iter().flatten().zip(1..) {
            for key in keys {
                let value = table.get_ref().as_table().and_then(|table| table.get(*key));
                add(&mut found, &format!("strategy.{list}[{n}].{key}"), value);
            }
        }
    }
    found
}

/// Adds a value, or the values of a list, if they are node sets.
fn add(found: &mut Vec<Found>, key: &str, value: Option<&Spanned<DeValue<'_>>>) {
    let Some(value) = value else { return };
    match value.get_ref() {
        DeValue::String(text) if is_node_set(text) => {
            found.push(Found { key: key.to_owned(), span: value.span(), text: text.to_string() });
        }
        DeValue::Array(values) => {
            for (value, n) in values.iter().zip(1..) {
                let mut key = key.to_owned();
                // Writing to a String cannot fail.
                let _ = write!(key, "[{n}]");
                add(found, &key, Some(value));
            }
        }
        _ => {}
    }
}

/// Returns whether a text has to be replaced. A percentage is the size of a wave.
fn is_node_set(text: &str) -> bool {
    NodeSet::parse(text).is_err() && !text.ends_with('%')
}

#[cfg(test)]
mod tests;
