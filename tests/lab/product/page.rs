//! The code blocks of a page of documentation as a reader would use them: in order, each at its place.
//!
//! A comment before a block, invisible in a browser, names the place: `<!-- run: nodes, deb -->` for commands, `<!--
//! write: driver.toml, controller -->` and `<!-- append: PATH, all -->` for files. Without `deb` or `rpm` it is for
//! both. A block without a language shows what a command prints, and is not used.

use crate::error::{LabError, Result};
use crate::packages::format::Format;

/// Use of a block by a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    Run,
    /// The reader writes it to a file.
    Write(String),
    /// The reader appends it to a file.
    Append(String),
}

/// A block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading above it.
    pub section: String,
    /// The line of the page in which its text begins.
    pub line: usize,
    pub used: Use,
    /// Place: `controller`, `nodes`, `all`, `build`, or a node's name.
    pub place: String,
    /// Format of the packages for which it is; both if it is not set.
    pub format: Option<Format>,
    pub text: String,
}

/// Returns the blocks of a page for packages of this format. A block without a place is an error.
pub fn blocks(page: &str, format: Format) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut said = None;
    let mut section = "";
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                said = Some(comment);
            } else if !line.is_empty() {
                section = line.strip_prefix("## ").unwrap_or(section);
                said = None;
            }
            continue;
        };
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let text: String = inside.map(|line| format!("{line}\n")).collect();
        if language.is_empty() {
            continue;
        }
        let block = said.take().and_then(|said| block(said, section, number + 2, text));
        found.push(block.ok_or_else(|| LabError::Setup(format!("line {}: used where?", number + 1)))?);
    }
    found.retain(|block| block.format.is_none_or(|of| of == format));
    Ok(found)
}

fn block(said: &str, section: &str, line: usize, text: String) -> Option<Block> {
    let (verb, rest) = said.split_once(": ")?;
    let mut words = rest.split(", ");
    let used = match verb {
        "run" => Use::Run,
        "write" => Use::Write(words.next()?.to_owned()),
        "append" => Use::Append(words.next()?.to_owned()),
        _ => return None,
    };
    let place = words.next()?.to_owned();
    let format = match words.next() {
        None => None,
        Some(name) => Some([Format::Deb, Format::Rpm].into_iter().find(|format| format.name() == name)?),
    };
    Some(Block { section: section.to_owned(), line, used, place, format, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n## One\n<!-- run: nodes, deb -->\n```sh\na\nb\n```\n<!-- run: nodes, rpm -->\n```sh\nc\n```\n\
                        Prints:\n```\nd\n```\n<!-- append: /etc/e, all -->\n\n```conf\nf\n```\n";

    #[test]
    fn blocks_are_for_a_place_and_a_format() {
        let found = blocks(PAGE, Format::Deb).unwrap();
        let run = Block {
            section: "One".into(),
            line: 6,
            used: Use::Run,
            place: "nodes".into(),
            format: Some(Format::Deb),
            text: "a\nb\n".into(),
        };
        let append = Block {
            section: "One".into(),
            line: 20,
            used: Use::Append("/etc/e".into()),
            place: "all".into(),
            format: None,
            text: "f\n".into(),
        };
        assert_eq!(found, [run, append]);
        assert_eq!(blocks(PAGE, Format::Rpm).unwrap()[0].text, "c\n");
    }

    #[test]
    fn a_block_that_says_not_where_is_an_error() {
        for page in
            ["```sh\na\n```", "<!-- run: nodes -->\ntext\n```sh\na\n```", "<!-- see: b -->\n```sh\n```"]
        {
            let error = blocks(page, Format::Deb).unwrap_err();
            assert!(error.to_string().contains("used where?"), "{error}");
        }
    }
}
