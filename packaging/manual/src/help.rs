//! Help texts, as `--help` prints them, as sections of a page.
//!
//! Such a text is paragraphs, and headings that stand alone on a line and end in a colon. What is indented by two
//! spaces is a list: a word, two spaces or more, and what it means, which may go on below itself. What is indented by
//! four is left as it is.

use crate::page::{Block, Inline, Sections};
use roff::{bold, roman};

/// The sections of a help text. What stands before the first heading is the description.
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

/// A heading and the section that is meant.
fn title(line: &str) -> Option<String> {
    let title = line.strip_suffix(':')?;
    let short = title.split(' ').count() <= 3 && title.starts_with(|c: char| c.is_ascii_uppercase());
    short.then(|| match title {
        "Exit codes" => "EXIT STATUS".to_owned(),
        "Example" => "EXAMPLES".to_owned(),
        other => other.to_uppercase(),
    })
}

fn blocks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines {
        let text = line.trim();
        match (line.len() - line.trim_start().len(), blocks.last_mut()) {
            (0, Some(Block::Text(inlines))) => {
                inlines.push(roman(" "));
                inlines.extend(words(text));
            }
            (0, _) => blocks.push(Block::Text(words(text))),
            (2, last) => match (text.split_once("  "), last) {
                (Some((tag, body)), _) => {
                    blocks.push(Block::Item(vec![bold(tag)], vec![Block::Text(words(body.trim()))]));
                }
                (None, Some(Block::Code(code))) => *code = format!("{code}\n{text}"),
                (None, _) => blocks.push(Block::Code(text.to_owned())),
            },
            (_, Some(Block::Item(_, body))) => {
                if let Some(Block::Text(inlines)) = body.last_mut() {
                    inlines.push(roman(" "));
                    inlines.extend(words(text));
                }
            }
            (indent, last) => {
                let text = format!("{}{text}", " ".repeat(indent.saturating_sub(4)));
                match last {
                    Some(Block::Code(code)) => *code = format!("{code}\n{text}"),
                    _ => blocks.push(Block::Code(text)),
                }
            }
        }
    }
    blocks
}

/// Text in which what stands between backquotes is bold.
#[must_use]
pub fn words(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(n, part)| if n % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

/// A line of SYNOPSIS: what is typed as it stands is bold.
fn synopsis(usage: &str) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for word in usage.split(' ') {
        let typed = word.trim_matches(['[', ']']);
        let (before, after) = word.split_once(typed).unwrap_or((word, ""));
        if !inlines.is_empty() {
            inlines.push(roman(" "));
        }
        let value = typed.chars().all(|c| c.is_ascii_uppercase() || c == '|');
        inlines.push(roman(before));
        inlines.push(if value { roff::italic(typed) } else { bold(typed) });
        inlines.push(roman(after));
    }
    inlines
}
