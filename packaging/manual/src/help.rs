//! Converts help texts, as `--help` prints them, to sections of a page.
//!
//! A help text consists of paragraphs and headings. A heading is a line of its own that ends in a colon. Lines indented
//! by two spaces are a list: a word, two spaces or more, and its meaning, which may continue on lines aligned below it.
//! Lines indented by four spaces are kept as they are.

use crate::page::{Block, Inline, Sections, sentence};
use roff::{bold, roman};

/// Returns the sections of a help text. The text before the first heading is the description.
#[must_use]
pub fn sections(text: &str) -> Sections {
    let mut sections = Sections::default();
    let mut heading = "DESCRIPTION".to_owned();
    for chunk in text.trim_end().split("\n\n") {
        let mut lines = chunk.trim_matches('\n').lines().peekable();
        if let Some(usage) = lines.peek().and_then(|line| line.strip_prefix("Usage: ")) {
            let rest = lines.clone().skip(1).map(|line| line.trim_start_matches("Usage:").trim());
            let usages = [usage].into_iter().chain(rest).map(|usage| Block::Text(synopsis(usage)));
            sections.add("SYNOPSIS", usages);
            continue;
        }
        if let Some(title) = lines.peek().and_then(|line| title(line)) {
            heading = title;
            lines.next();
        }
        sections.add(&heading, blocks(lines));
    }
    sections
}

/// Returns the name of the section for a heading, or `None` if the line is no heading.
fn title(line: &str) -> Option<String> {
    let title = line.strip_suffix(':')?;
    let short = title.split(' ').count() <= 3 && title.starts_with(|c: char| c.is_ascii_uppercase());
    short.then(|| match title {
        "Exit codes" => "EXIT STATUS".to_owned(),
        "Example" => "EXAMPLES".to_owned(),
        other => other.to_uppercase(),
    })
}

/// A part of a section, recognized by the indentation of its lines.
enum Part {
    Text(String),
    Item { word: String, meaning: String },
    Code(String),
}

fn blocks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Block> {
    let mut parts: Vec<Part> = Vec::new();
    for line in lines {
        let text = line.trim_start();
        match (line.len() - text.len(), parts.last_mut()) {
            (0, Some(Part::Text(before))) => *before = format!("{before} {text}"),
            (0, _) => parts.push(Part::Text(text.to_owned())),
            (2, _) => {
                let (word, meaning) = text.split_once("  ").unwrap_or((text, ""));
                parts.push(Part::Item { word: word.to_owned(), meaning: meaning.trim().to_owned() });
            }
            (5.., Some(Part::Item { meaning, .. })) => {
                *meaning = format!("{meaning} {text}").trim().to_owned()
            }
            (_, Some(Part::Code(code))) => *code = format!("{code}\n{}", line.get(4..).unwrap_or(text)),
            _ => parts.push(Part::Code(text.to_owned())),
        }
    }
    let list = parts.iter().any(|part| matches!(part, Part::Item { meaning, .. } if !meaning.is_empty()));
    let mut blocks = Vec::new();
    for part in parts {
        match (part, blocks.last_mut()) {
            (Part::Text(text), _) => blocks.push(Block::Text(words(&text))),
            (Part::Code(text), _) => blocks.push(Block::Code(text)),
            (Part::Item { word, meaning }, _) if !meaning.is_empty() => {
                blocks.push(Block::Item(vec![bold(word)], vec![Block::Text(sentence(words(&meaning)))]));
            }
            // In a list with meanings, a word without one is a word as well. A list without any meanings is a list of
            // commands to type.
            (Part::Item { word, .. }, _) if list => blocks.push(Block::Text(vec![bold(word)])),
            (Part::Item { word, .. }, Some(Block::Code(code))) => *code = format!("{code}\n{word}"),
            (Part::Item { word, .. }, _) => blocks.push(Block::Code(word)),
        }
    }
    blocks
}

/// Returns text with the words between backquotes in bold.
#[must_use]
pub fn words(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(n, part)| if n % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

/// Returns a line of SYNOPSIS. Literal words are bold, values are italic.
fn synopsis(usage: &str) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for word in usage.split(' ') {
        let literal = word.trim_matches(['[', ']']);
        let (before, after) = word.split_once(literal).unwrap_or((word, ""));
        if !inlines.is_empty() {
            inlines.push(roman(" "));
        }
        let is_value = literal.chars().all(|c| c.is_ascii_uppercase() || c == '|');
        inlines.push(roman(before));
        inlines.push(if is_value { roff::italic(literal) } else { bold(literal) });
        inlines.push(roman(after));
    }
    inlines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::plain;

    #[test]
    fn headings_lists_and_what_is_left_as_it_is() {
        let read = sections(
            "Usage: a [--b FILE] [VERB]\n\nFirst line\nand `second\nline`.\n\n    as it  is\n      here\n\nVerbs:\n  one    \
             the first\n         one\n  two\n  a long word\n         of this\n\nMore of verbs.\n\nExamples:\n  a one\n  a two\n\n\
             Exit codes:\n  0  done\n",
        );
        let item = |word: &str, meaning: &str| {
            Block::Item(vec![bold(word)], vec![Block::Text(vec![roman(meaning), roman(".")])])
        };
        let text = |line: &str| Block::Text(vec![roman(line)]);
        let synopsis = read.get("SYNOPSIS").unwrap();
        assert!(matches!(synopsis, [Block::Text(line)] if plain(line) == "a [--b FILE] [VERB]"));
        let second = Block::Text(vec![roman("First line and "), bold("second line"), roman(".")]);
        assert_eq!(read.get("DESCRIPTION").unwrap(), [second, Block::Code("as it  is\n  here".to_owned())]);
        let two = Block::Text(vec![bold("two")]);
        let verbs =
            [item("one", "The first one"), two, item("a long word", "Of this"), text("More of verbs.")];
        assert_eq!(read.get("VERBS").unwrap(), verbs);
        assert_eq!(read.get("EXAMPLES").unwrap(), [Block::Code("a one\na two".to_owned())]);
        assert_eq!(read.get("EXIT STATUS").unwrap(), [item("0", "Done")]);
    }
}
