//! A manual page: what the sources of pages are turned into, and what is written as roff.
//!
//! What comes out is ASCII, whatever the reader's locale, and the same for the same sources.

use roff::{Roff, bold, roman};

pub use roff::Inline;

/// The sections that man(7) knows, in its order. Sections with other names come after OPTIONS.
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
    /// Without the number: `slurm-rollout-stage`.
    pub name: String,
    /// The number: 1 commands, 5 files, 8 what the system runs.
    pub number: u8,
    /// One line, for whatis(1).
    pub summary: String,
    /// What follows NAME.
    pub sections: Sections,
}

/// The sections of a page, each heading once.
#[derive(Debug, Clone, Default)]
pub struct Sections(Vec<(String, Vec<Block>)>);

/// A part of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading within a section.
    Heading(String),
    /// A paragraph.
    Text(Vec<Inline>),
    /// A word and what it means.
    Item(Vec<Inline>, Vec<Block>),
    /// An entry of a list, behind a dot or a number.
    Entry(Option<u64>, Vec<Block>),
    /// Lines that are left as they are.
    Code(String),
}

impl Sections {
    /// Adds to the section with this heading.
    pub fn add(&mut self, heading: &str, blocks: impl IntoIterator<Item = Block>) {
        let heading = heading.to_uppercase();
        let at = self.0.iter().position(|(known, _)| *known == heading).unwrap_or_else(|| {
            self.0.push((heading, Vec::new()));
            self.0.len() - 1
        });
        if let Some((_, section)) = self.0.get_mut(at) {
            section.extend(blocks);
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        for (heading, blocks) in other.0 {
            self.add(&heading, blocks);
        }
    }

    /// What stands under this heading.
    #[must_use]
    pub fn get(&self, heading: &str) -> Option<&[Block]> {
        self.0.iter().find(|(known, _)| known == heading).map(|(_, blocks)| blocks.as_slice())
    }

    /// Takes the section with this heading away.
    pub fn remove(&mut self, heading: &str) {
        self.0.retain(|(known, _)| known != heading);
    }

    fn in_order(&self) -> Vec<&(String, Vec<Block>)> {
        let others = ORDER.iter().position(|known| known.is_empty()).unwrap_or(0);
        let place = |heading: &str| ORDER.iter().position(|known| *known == heading).unwrap_or(others);
        let mut sections: Vec<_> = self.0.iter().filter(|(_, blocks)| !blocks.is_empty()).collect();
        sections.sort_by_key(|(heading, _)| place(heading));
        sections
    }
}

impl Page {
    /// The name of the page's file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.number)
    }

    /// The page as roff, with this date in its footer.
    #[must_use]
    pub fn roff(&self, date: Option<&str>) -> String {
        let mut roff = Roff::new();
        let number = self.number.to_string();
        let source = concat!("slurm-rollout ", env!("CARGO_PKG_VERSION"));
        // An argument that is left out is two quotes; the crate does not write them.
        let date = date.unwrap_or("\"\"");
        // In 78 columns it has no room between two long names.
        let manual = if self.name.len() > 24 { "\"\"" } else { "slurm-rollout manual" };
        roff.control("TH", [self.name.to_uppercase().as_str(), &number, date, source, manual]);
        // No hyphens into words that somebody will type, no stretched lines.
        roff.control("nh", []).control("ad", ["l"]);
        roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", self.name, self.summary))]);
        for (heading, blocks) in self.sections.in_order() {
            roff.control("SH", [heading.as_str()]);
            write(&mut roff, blocks, true);
        }
        ascii(&roff.render())
    }
}

/// `first`: whether these blocks follow something that is a paragraph's beginning already.
fn write(roff: &mut Roff, blocks: &[Block], first: bool) {
    let mut first = first;
    for block in blocks {
        match block {
            Block::Heading(text) => {
                // The crate puts what has a space into quotes, and knows no quote within them.
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

/// What belongs to an item or entry: its first paragraph stands beside the mark, the others below, as far in.
fn write_inside(roff: &mut Roff, body: &[Block]) {
    let (beside, below) = body.split_at(usize::from(matches!(body.first(), Some(Block::Text(_)))));
    write(roff, beside, true);
    if !below.is_empty() {
        roff.control("RS", []);
        write(roff, below, beside.is_empty());
        roff.control("RE", []);
    }
}

/// A phrase, as lists and tables have them, as the sentence that a page has.
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

/// Without fonts.
#[must_use]
pub fn plain(inlines: &[Inline]) -> String {
    let text = |inline: &Inline| match inline {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text.clone(),
        Inline::LineBreak => " ".to_owned(),
    };
    inlines.iter().map(text).collect()
}

/// Characters that roff takes for others, or does not take at all, by their names.
fn ascii(roff: &str) -> String {
    let mut text = String::with_capacity(roff.len());
    // The crate writes a backslash as two, which formatters read in different ways.
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
