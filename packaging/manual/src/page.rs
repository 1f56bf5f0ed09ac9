//! Manual pages, independent of their sources, and their output as roff.
//!
//! The output is ASCII, so that it is readable in any locale, and depends only on the sources.

use roff::{Roff, bold, roman};

pub use roff::Inline;

/// The sections of man(7), in its order. Sections with other names come after OPTIONS.
const ORDER: &[&str] = &[
    "SYNOPSIS",
    "DESCRIPTION",
    "VERBS",
    "OPTIONS",
    "",
    "EXIT STATUS",
    "ENVIRONMENT",
    "SIGNALS",
    "FILES",
    "LOGS",
    "NOTES",
    "EXAMPLES",
    "SEE ALSO",
];

/// A manual page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Name without the number, such as `slurm-rollout-stage`.
    pub name: String,
    /// Section of the manual: 1 for commands, 5 for files, 8 for programs that the system runs.
    pub number: u8,
    /// One line for whatis(1).
    pub summary: String,
    /// All sections after NAME.
    pub sections: Sections,
}

/// The sections of a page. Each heading occurs once.
#[derive(Debug, Clone, Default)]
pub struct Sections(Vec<(String, Vec<Block>)>);

/// A part of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Heading within a section.
    Heading(String),
    /// Paragraph.
    Text(Vec<Inline>),
    /// Word and its meaning.
    Item(Vec<Inline>, Vec<Block>),
    /// Entry of a list, with a number or a bullet.
    Entry(Option<u64>, Vec<Block>),
    /// Preformatted lines.
    Code(String),
}

impl Sections {
    /// Adds blocks to the section with this heading.
    pub fn add(&mut self, heading: &str, blocks: impl IntoIterator<Item = Block>) {
        let heading = heading.to_uppercase();
        let index = self.0.iter().position(|(known, _)| *known == heading).unwrap_or_else(|| {
            self.0.push((heading, Vec::new()));
            self.0.len() - 1
        });
        if let Some((_, section)) = self.0.get_mut(index) {
            section.extend(blocks);
        }
    }

    /// Adds all sections of `other`.
    pub fn merge(&mut self, other: Self) {
        for (heading, blocks) in other.0 {
            self.add(&heading, blocks);
        }
    }

    /// Returns the blocks of the section with this heading.
    #[must_use]
    pub fn get(&self, heading: &str) -> Option<&[Block]> {
        self.0.iter().find(|(known, _)| known == heading).map(|(_, blocks)| blocks.as_slice())
    }

    /// Removes the section with this heading.
    pub fn remove(&mut self, heading: &str) {
        self.0.retain(|(known, _)| known != heading);
    }

    fn in_order(&self) -> Vec<&(String, Vec<Block>)> {
        let others = ORDER.iter().position(|known| known.is_empty()).unwrap_or(0);
        let rank = |heading: &str| ORDER.iter().position(|known| *known == heading).unwrap_or(others);
        let mut sections: Vec<_> = self.0.iter().filter(|(_, blocks)| !blocks.is_empty()).collect();
        sections.sort_by_key(|(heading, _)| rank(heading));
        sections
    }
}

impl Page {
    /// Returns the name of the page's file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.number)
    }

    /// Returns the page as roff, with this date in its footer.
    #[must_use]
    pub fn roff(&self, date: Option<&str>) -> String {
        let mut roff = Roff::new();
        let number = self.number.to_string();
        let source = concat!("slurm-rollout ", env!("CARGO_PKG_VERSION"));
        // An empty argument must be written as two quotes, which the crate does not do.
        let date = date.unwrap_or("\"\"");
        // The manual's name does not fit into 78 columns between two long names.
        let manual = if self.name.len() > 24 { "\"\"" } else { "slurm-rollout manual" };
        roff.control("TH", [self.name.to_uppercase().as_str(), &number, date, source, manual]);
        // Turn off hyphenation, for words that people will type, and justification.
        roff.control("nh", []).control("ad", ["l"]);
        roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", self.name, self.summary))]);
        for (heading, blocks) in self.sections.in_order() {
            roff.control("SH", [heading.as_str()]);
            write(&mut roff, blocks, true);
        }
        ascii(&roff.render())
    }
}

/// Writes blocks. `first` is true if the preceding request has already begun a paragraph.
fn write(roff: &mut Roff, blocks: &[Block], first: bool) {
    let mut first = first;
    for block in blocks {
        match block {
            Block::Heading(text) => {
                // The crate quotes arguments with spaces, but does not escape quotes within them.
                roff.control("SS", [text.replace('"', "\\(dq").as_str()]);
                first = true;
                continue;
            }
            Block::Text(inlines) => {
                if !first {
                    roff.control("PP", []);
                }
                roff.text(inlines.clone());
            }
            Block::Item(tag, body) => {
                roff.control("TP", []).text(tag.clone());
                write_inside(roff, body);
            }
            Block::Entry(number, body) => {
                let (mark, width) = number.map_or(("\\(bu".to_owned(), "2"), |n| (format!("{n}."), "3"));
                roff.control("IP", [mark.as_str(), width]);
                write_inside(roff, body);
            }
            Block::Code(text) => {
                if !first {
                    roff.control("PP", []);
                }
                roff.control("RS", ["4"]).control("nf", []);
                roff.text([bold(text.clone())]);
                roff.control("fi", []).control("RE", []);
            }
        }
        first = false;
    }
}

/// Writes the body of an item or entry: the first paragraph beside the mark, the others below with the same
/// indentation.
fn write_inside(roff: &mut Roff, body: &[Block]) {
    let (beside, below) = body.split_at(usize::from(matches!(body.first(), Some(Block::Text(_)))));
    write(roff, beside, true);
    if !below.is_empty() {
        roff.control("RS", []);
        write(roff, below, beside.is_empty());
        roff.control("RE", []);
    }
}

/// Turns a phrase from a list or table into a sentence.
#[must_use]
pub fn sentence(phrase: Vec<Inline>) -> Vec<Inline> {
    let mut phrase = phrase;
    if let Some(Inline::Roman(first)) = phrase.first_mut() {
        first.get_mut(..1).map(str::make_ascii_uppercase);
    }
    match phrase.last() {
        Some(Inline::Roman(last)) if last.ends_with(['.', ':']) => {}
        _ => phrase.push(roman(".")),
    }
    phrase
}

/// Returns the text without fonts.
#[must_use]
pub fn plain(inlines: &[Inline]) -> String {
    let text = |inline: &Inline| match inline {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text.clone(),
        Inline::LineBreak => " ".to_owned(),
    };
    inlines.iter().map(text).collect()
}

/// Replaces characters that roff misinterprets or does not accept by their names.
fn ascii(roff: &str) -> String {
    let mut text = String::with_capacity(roff.len());
    // The crate writes a backslash as two, which formatters interpret in different ways.
    for c in roff.replace("\\\\", "\\(rs").chars() {
        match c {
            '~' => text.push_str("\\(ti"),
            '^' => text.push_str("\\(ha"),
            '`' => text.push_str("\\(ga"),
            c if c.is_ascii() => text.push(c),
            c => text.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_in_the_order_of_man_and_each_once() {
        let mut sections = Sections::default();
        for heading in ["See also", "Phases", "Files", "Synopsis", "Options", "Files"] {
            sections.add(heading, [Block::Code(heading.to_owned())]);
        }
        sections.add("Examples", []);
        let headings: Vec<_> = sections.in_order().iter().map(|(heading, _)| heading.as_str()).collect();
        assert_eq!(headings, ["SYNOPSIS", "OPTIONS", "PHASES", "FILES", "SEE ALSO"]);
        assert_eq!(sections.get("FILES").unwrap().len(), 2);
    }

    #[test]
    fn what_means_something_to_roff_is_text() {
        let mut sections = Sections::default();
        sections.add("DESCRIPTION", [Block::Code(".TH\n.x\n'y \\n -a … ~^`".to_owned())]);
        let page = Page { name: "a".to_owned(), number: 1, summary: "b".to_owned(), sections };
        let roff = page.roff(None);
        let text = r"\fB.TH
\&.x
\*(Aqy \(rsn \-a \[u2026] \(ti\(ha\(ga\fR";
        assert!(roff.contains(text), "{roff}");
    }

    #[test]
    fn phrases_become_sentences() {
        let text = |phrase| plain(&sentence(phrase));
        assert_eq!(text(vec![roman("done")]), "Done.");
        assert_eq!(text(vec![bold("dnf"), roman(" or "), bold("apt")]), "dnf or apt.");
        assert_eq!(text(vec![roman("As it is.")]), "As it is.");
    }
}
