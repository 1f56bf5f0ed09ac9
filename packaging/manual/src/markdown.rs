//! Converts markdown to sections of a page.
//!
//! The first heading is NAME, `name - summary`; headings below it are sections. A comment `<!-- include FILE -->`
//! includes a file of the repository: a help text, a shipped configuration file, or markdown, whose headings are then
//! one level lower.

use crate::page::{Block, Inline, Page, Sections, plain, sentence};
use crate::{ManualError, help, shipped_config, source};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use roff::{bold, italic, roman};

/// Generates a page from a file in `packaging/man`.
///
/// # Errors
/// If it lacks a heading `name - summary` or includes an unknown file.
pub fn page(name: &str, number: u8, text: &str) -> Result<Page, ManualError> {
    let mut reader = Reader::default();
    reader.read(text, 0)?;
    let title = reader.title.strip_prefix(name).and_then(|rest| rest.strip_prefix(" - "));
    let summary = title.ok_or_else(|| ManualError::NoName(name.to_owned()))?.to_owned();
    Ok(Page { name: name.to_owned(), number, summary, sections: reader.sections })
}

/// Returns the sections of markdown that has no NAME.
///
/// # Errors
/// If it includes an unknown file.
pub fn sections(text: &str) -> Result<Sections, ManualError> {
    let mut reader = Reader::default();
    reader.read(text, 0)?;
    Ok(reader.sections)
}

/// State of the conversion: finished sections and open elements.
#[derive(Default)]
struct Reader {
    title: String,
    sections: Sections,
    heading: Option<String>,
    inlines: Vec<Inline>,
    bold: bool,
    italic: bool,
    code: Option<String>,
    link: Option<String>,
    /// Blocks of the open lists, outermost first, each with the number of its next entry.
    lists: Vec<(Option<u64>, Vec<Block>)>,
    columns: Vec<String>,
    cells: Vec<Vec<Inline>>,
}

impl Reader {
    fn read(&mut self, text: &str, lower: usize) -> Result<(), ManualError> {
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(tag) => self.start(tag),
                Event::End(tag) => self.end(tag, lower),
                Event::Text(text) => match &mut self.code {
                    Some(code) => code.push_str(&text),
                    None => self.text(&text),
                },
                Event::Code(text) => self.inlines.push(bold(text.into_string())),
                Event::SoftBreak => self.inlines.push(roman(" ")),
                Event::HardBreak => self.inlines.push(Inline::LineBreak),
                Event::Html(comment) => {
                    let file = comment.trim().strip_prefix("<!-- include ");
                    if let Some(file) = file.and_then(|file| file.strip_suffix(" -->")) {
                        self.include(file)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn include(&mut self, file: &str) -> Result<(), ManualError> {
        let text = source(file)?;
        match file.rsplit_once('.') {
            Some((_, "txt")) => self.sections.merge(help::sections(text)),
            Some((_, "toml")) => self.sections.merge(shipped_config::sections(text)),
            _ => self.read(text, 1)?,
        }
        Ok(())
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Strong => self.bold = true,
            Tag::Emphasis => self.italic = true,
            Tag::CodeBlock(_) => self.code = Some(String::new()),
            Tag::Link { dest_url, .. } => self.link = Some(dest_url.into_string()),
            Tag::List(first) => {
                // In a tight list, the text before an inner list is not in a paragraph.
                self.paragraph();
                self.lists.push((first, Vec::new()));
            }
            Tag::Item => self.lists.push((None, Vec::new())),
            Tag::TableHead => self.columns.clear(),
            Tag::TableRow => self.cells.clear(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, lower: usize) {
        match tag {
            TagEnd::Strong => self.bold = false,
            TagEnd::Emphasis => self.italic = false,
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::Heading(level) => self.end_heading(level, lower),
            TagEnd::CodeBlock => {
                if let Some(code) = self.code.take() {
                    self.push(Block::Code(code.trim_end().to_owned()));
                }
            }
            TagEnd::Link => {
                let url = self.link.take().filter(|url| url.contains("://"));
                if let Some(url) = url {
                    self.inlines.push(roman(format!(" <{url}>")));
                }
            }
            TagEnd::Item => {
                self.paragraph();
                let body = self.lists.pop().map(|(_, body)| body).unwrap_or_default();
                if let Some((number, entries)) = self.lists.last_mut() {
                    entries.push(Block::Entry(*number, body));
                    *number = number.map(|number| number + 1);
                }
            }
            TagEnd::List(_) => {
                for entry in self.lists.pop().map(|(_, entries)| entries).unwrap_or_default() {
                    self.push(entry);
                }
            }
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.inlines)),
            TagEnd::TableHead => {
                self.columns = std::mem::take(&mut self.cells).iter().map(|cell| plain(cell)).collect();
            }
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.inlines.push(match (self.bold, self.italic) {
            (true, _) => bold(text),
            (_, true) => italic(text),
            _ => roman(text),
        });
    }

    fn paragraph(&mut self) {
        if !self.inlines.is_empty() {
            let inlines = std::mem::take(&mut self.inlines);
            self.push(Block::Text(inlines));
        }
    }

    fn push(&mut self, block: Block) {
        match self.lists.last_mut() {
            Some((_, blocks)) => blocks.push(block),
            None => self.sections.add(self.heading.as_deref().unwrap_or("DESCRIPTION"), [block]),
        }
    }

    fn end_heading(&mut self, level: HeadingLevel, lower: usize) {
        let text = plain(&std::mem::take(&mut self.inlines));
        match level as usize + lower {
            1 => self.title = text,
            // Skip the title of an included file: the page has a title.
            2 if lower > 0 => {}
            2 => self.heading = Some(text),
            _ => self.push(Block::Heading(text)),
        }
    }

    /// Adds a row of a table: the first cell is the word, the second its meaning. Each further cell follows the name
    /// of its column.
    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        let tag = cells.next().unwrap_or_default();
        let mut body = sentence(cells.next().unwrap_or_default());
        for (cell, column) in cells.zip(self.columns.iter().skip(2)) {
            if !cell.is_empty() {
                body.push(roman(" "));
                body.extend(sentence([vec![roman(format!("{column}: "))], cell].concat()));
            }
        }
        self.push(Block::Item(tag, vec![Block::Text(body)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_lists_and_headings() {
        let text = "# a - what a is\n\n| key | meaning | default |\n|---|---|---|\n| `k` | one of **two** | `v` |\n| `l` | other | |\n\n\
                    ## Files\n\n1. first\n2. *second*\n\n### Part\n\n[here](x.md), [there](http://y)\n";
        let page = page("a", 5, text).unwrap();
        assert_eq!(page.summary, "what a is");
        let row = |key: &str, meaning: Vec<Inline>| Block::Item(vec![bold(key)], vec![Block::Text(meaning)]);
        let first = vec![
            roman("One of "),
            bold("two"),
            roman("."),
            roman(" "),
            roman("Default: "),
            bold("v"),
            roman("."),
        ];
        let table = [row("k", first), row("l", vec![roman("Other"), roman(".")])];
        assert_eq!(page.sections.get("DESCRIPTION").unwrap(), table);
        let entry = |number, inline| Block::Entry(Some(number), vec![Block::Text(vec![inline])]);
        let links = Block::Text(vec![roman("here"), roman(", "), roman("there"), roman(" <http://y>")]);
        let list =
            [entry(1, roman("first")), entry(2, italic("second")), Block::Heading("Part".to_owned()), links];
        assert_eq!(page.sections.get("FILES").unwrap(), list);
    }

    #[test]
    fn a_page_without_its_name_or_with_an_unknown_file_is_refused() {
        assert!(matches!(page("a", 1, "# b - c\n"), Err(ManualError::NoName(_))));
        let unknown = page("a", 1, "# a - c\n\n<!-- include no/such.md -->\n");
        assert!(matches!(unknown, Err(ManualError::NoSource(_))));
    }
}
