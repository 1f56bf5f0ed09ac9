//! Text to names: the grammar of Slurm's `_hostlist_create_bracketed`, and the rules for a NodeName.

use std::fmt::Write;

use super::error::{HostlistError, Span};
use super::limits::{MAX_NAME, MAX_NODES, MAX_RANGE};
use super::number::{number, split_number};

/// Newline only since Slurm 23.02; before, it was part of the name.
const SEPARATORS: [char; 4] = ['\t', ',', ' ', '\n'];

/// Returns the names of a hostlist in the order written, with duplicates, as `scontrol show hostnames` prints them.
///
/// Items stand between commas, blanks, tabs or newlines. An item is text with any number of groups
/// `[7,9-12]` anywhere in it (for text after the last group, the other side needs Slurm 23.11+). A number is
/// padded with zeros to the digits written for the lower end: `[08-10]` is padded, `[8-10]` and `[1-010]` are
/// not. Without brackets an item is one name: `a1-3`.
///
/// # Errors
/// The first error in the list, see [`HostlistError`]. No list is expanded beyond the limits
/// [`MAX_RANGE`], [`MAX_NODES`] and [`MAX_NAME`].
pub fn expand(list: &str) -> Result<Vec<String>, HostlistError> {
    let mut names = Vec::new();
    let mut rest = list.trim_start_matches(SEPARATORS);
    while !rest.is_empty() {
        let item = Item { text: item_text(rest), at: list.len() - rest.len() };
        item.expand_into(&mut names)?;
        rest = rest.get(item.text.len()..).unwrap_or_default().trim_start_matches(SEPARATORS);
    }
    if names.is_empty() { Err(HostlistError::Empty) } else { Ok(names) }
}

/// Checks that the text is one NodeName: 1 to [`MAX_NAME`] of the characters `A-Z a-z 0-9 . _ -`, not beginning
/// with `.` or `-`, with a trailing number of no more digits than Slurm can count.
///
/// # Errors
/// The first error in it. Positions count from the start of the name.
pub fn check_name(name: &str) -> Result<(), HostlistError> {
    let item = Item { text: name, at: 0 };
    if name.is_empty() {
        return Err(HostlistError::Empty);
    }
    item.check_start()?;
    item.check_text(name, 0)?;
    item.check_length(name.len())?;
    item.check_number(name)
}

/// Returns the beginning of `rest`, up to a separator outside brackets.
fn item_text(rest: &str) -> &str {
    let mut inside = false;
    let mut ends = |c: char| {
        inside = (inside || c == '[') && c != ']';
        !inside && SEPARATORS.contains(&c)
    };
    rest.split(&mut ends).next().unwrap_or(rest)
}

/// One item of the list, and its byte position.
#[derive(Clone, Copy)]
struct Item<'a> {
    text: &'a str,
    at: usize,
}

enum Part<'a> {
    Text(&'a str),
    Group(Group),
}

/// The numbers of one pair of brackets.
struct Group {
    ranges: Vec<Range>,
    len: u64,
    /// Number of names in a row that have the same number here.
    stride: u64,
}

struct Range {
    lo: u64,
    hi: u64,
    width: usize,
    /// Number of numbers that the group has before this range.
    before: u64,
}

impl<'a> Item<'a> {
    fn expand_into(self, names: &mut Vec<String>) -> Result<(), HostlistError> {
        self.check_start()?;
        let mut parts = self.parts()?;
        self.check_length(parts.iter().map(Part::longest).fold(0, usize::saturating_add))?;
        let count = self.count(&mut parts)?;
        if count > MAX_NODES.saturating_sub(names.len()) as u64 {
            return Err(HostlistError::TooManyNodes(self.span(self.at)));
        }
        for index in 0..count {
            let mut name = String::new();
            parts.iter().for_each(|part| part.write(index, &mut name));
            self.check_number(&name)?;
            names.push(name);
        }
        Ok(())
    }

    fn parts(self) -> Result<Vec<Part<'a>>, HostlistError> {
        let (mut parts, mut rest) = (Vec::new(), self.text);
        loop {
            let at = self.text.len() - rest.len();
            let (text, after) =
                rest.split_once('[').map_or((rest, None), |(text, after)| (text, Some(after)));
            self.check_text(text, at)?;
            parts.push(Part::Text(text));
            let Some(after) = after else { return Ok(parts) };
            let open = self.at + at + text.len();
            let (group, after) =
                after.split_once(']').ok_or_else(|| HostlistError::Unclosed(self.span(open)))?;
            if let Some(nested) = group.find('[') {
                return Err(HostlistError::Nested(self.span(open + 1 + nested)));
            }
            parts.push(Part::Group(self.group(group, open + 1)?));
            rest = after;
        }
    }

    /// Parses the inside of brackets. `at` is the position in the list of its first character.
    fn group(self, text: &str, mut at: usize) -> Result<Group, HostlistError> {
        let mut group = Group { ranges: Vec::new(), len: 0, stride: 1 };
        for piece in text.split(',') {
            if piece.is_empty() {
                return Err(HostlistError::EmptyRange(self.span(at)));
            }
            let range = Range::parse(piece, at, group.len)?;
            at += piece.len() + 1;
            group.len += range.len();
            group.ranges.push(range);
        }
        Ok(group)
    }

    /// Returns the number of names, and sets the strides so that names come in Slurm's order: the last group
    /// runs fastest, then the first, the second and so on (`_push_range_list` peels groups off from the right).
    fn count(self, parts: &mut [Part<'_>]) -> Result<u64, HostlistError> {
        let mut groups: Vec<&mut Group> = parts.iter_mut().filter_map(Part::group).collect();
        let Some((last, others)) = groups.split_last_mut() else { return Ok(1) };
        let mut count = last.len;
        for group in others {
            if group.len > MAX_RANGE {
                return Err(HostlistError::RangeTooLong(self.span(self.at)));
            }
            group.stride = count;
            count = count.saturating_mul(group.len);
        }
        Ok(count)
    }

    fn check_start(self) -> Result<(), HostlistError> {
        match self.text.chars().next() {
            Some(c @ ('-' | '.')) => Err(HostlistError::Start(self.span(self.at), c)),
            _ => Ok(()),
        }
    }

    fn check_text(self, text: &str, from: usize) -> Result<(), HostlistError> {
        let is_bad = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-');
        let Some((offset, found)) = text.char_indices().find(|(_, c)| is_bad(*c)) else { return Ok(()) };
        let span = self.span(self.at + from + offset);
        Err(match found {
            ']' => HostlistError::Stray(span),
            '{' => HostlistError::Function(span),
            _ => HostlistError::Character(span, found),
        })
    }

    fn check_length(self, longest: usize) -> Result<(), HostlistError> {
        if longest > MAX_NAME { Err(HostlistError::TooLong(self.span(self.at))) } else { Ok(()) }
    }

    /// Checks the number at the end of a name, also one composed of groups and text: Slurm reads it of every name.
    fn check_number(self, name: &str) -> Result<(), HostlistError> {
        let (_, digits) = split_number(name);
        if digits.is_empty() || number(digits).is_some() {
            return Ok(());
        }
        Err(HostlistError::NumberTooLarge(self.span(self.at)))
    }

    fn span(self, at: usize) -> Span {
        Span::new(self.text, at)
    }
}

impl Part<'_> {
    fn group(&mut self) -> Option<&mut Group> {
        match self {
            Part::Text(_) => None,
            Part::Group(group) => Some(group),
        }
    }

    /// Returns the maximum number of characters in this part.
    fn longest(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Group(group) => group.ranges.iter().map(Range::longest).max().unwrap_or(0),
        }
    }

    /// Appends this part of name number `index` of the item.
    fn write(&self, index: u64, name: &mut String) {
        match self {
            Part::Text(text) => name.push_str(text),
            Part::Group(group) => {
                let nth = index / group.stride % group.len;
                let after = group.ranges.partition_point(|range| range.before <= nth);
                if let Some(range) = group.ranges.get(after.saturating_sub(1)) {
                    // Writing to a String cannot fail.
                    let _ = write!(name, "{:0width$}", range.lo + (nth - range.before), width = range.width);
                }
            }
        }
    }
}

impl Range {
    fn parse(text: &str, at: usize, before: u64) -> Result<Self, HostlistError> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let value = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(HostlistError::BadRange(Span::new(text, at)));
            }
            number(digits).ok_or_else(|| HostlistError::NumberTooLarge(Span::new(text, at)))
        };
        let range = Self { lo: value(low)?, hi: value(high)?, width: low.len(), before };
        if range.lo > range.hi {
            return Err(HostlistError::Descending(Span::new(text, at)));
        }
        if range.len() > MAX_RANGE {
            return Err(HostlistError::RangeTooLong(Span::new(text, at)));
        }
        Ok(range)
    }

    fn len(&self) -> u64 {
        self.hi - self.lo + 1
    }

    fn longest(&self) -> usize {
        self.width.max(self.hi.checked_ilog10().unwrap_or(0) as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(list: &str) -> String {
        expand(list).map_or_else(|error| format!("error: {error}"), |names| names.join(" "))
    }

    #[test]
    fn expands() {
        let table = [
            ("cn1", "cn1"),
            ("b,a,b", "b a b"),
            (",, a\t,\n b ,", "a b"),
            ("cn[1-3]", "cn1 cn2 cn3"),
            ("cn[001-003,7]", "cn001 cn002 cn003 cn7"),
            ("cn[08-10],gpu1", "cn08 cn09 cn10 gpu1"),
            ("cn[8-10]", "cn8 cn9 cn10"),
            ("n[098-101]", "n098 n099 n100 n101"),
            ("n[1-010]", "n1 n2 n3 n4 n5 n6 n7 n8 n9 n10"),
            ("n[3,1,3]", "n3 n1 n3"),
            ("n[1-2][3-4]", "n13 n14 n23 n24"),
            ("r[1-2]n[01-02],x", "r1n01 r1n02 r2n01 r2n02 x"),
            ("r[1-2]n[1,3]-ib", "r1n1-ib r1n3-ib r2n1-ib r2n3-ib"),
            // Slurm's order with three groups: the last runs fastest, then the first.
            ("a[1-2]b[1-2]c[1-2]", "a1b1c1 a1b1c2 a2b1c1 a2b1c2 a1b2c1 a1b2c2 a2b2c1 a2b2c2"),
            ("[1-3]", "1 2 3"),
            ("a1-3", "a1-3"),
            ("n_1[1-2].x", "n_11.x n_12.x"),
            ("ALL", "ALL"),
        ];
        for (list, names) in table {
            assert_eq!(joined(list), names, "{list:?}");
        }
    }

    #[test]
    fn refuses_and_says_where() {
        let table = [
            ("", "no node is named; write NodeNames as in cn[001-128],gpu1"),
            (" ,\n", "no node is named; write NodeNames as in cn[001-128],gpu1"),
            ("a,cn[1-2", r#""cn[1-2" at byte 4: the bracket is never closed; add ']'"#),
            ("a,cn]", r#""cn]" at byte 4: no bracket is open here; remove ']'"#),
            (
                "a[1-[2-3]]",
                r#""a[1-[2-3]]" at byte 4: brackets cannot stand inside brackets; write the groups one after the other"#,
            ),
            (
                "a[1,,2]",
                r#""a[1,,2]" at byte 4: a number or range is missing in the brackets; write it, or remove the comma or brackets"#,
            ),
            (
                "x a[7,+1]",
                r#""+1" at byte 6: not a number or range; write decimal digits as in 7 or 007-012"#,
            ),
            ("a[7,12-9]", r#""12-9" at byte 4: the range runs downwards; write the lower number first"#),
            (
                "n[0-65536]",
                r#""0-65536" at byte 2: more than 65536 numbers, which Slurm refuses; write several smaller ranges"#,
            ),
            (
                "n[0-9999][0-9999]",
                r#""n[0-9999][0-9999]" at byte 0: the list expands to more than 262144 names up to here; name fewer nodes"#,
            ),
            (
                "a,b{c}",
                r#""b{c}" at byte 3: hostlist functions {…} are not supported here; write the node names"#,
            ),
            (
                "a,b\0",
                r#""b\0" at byte 3: '\0' cannot be part of a NodeName; use letters, digits, '.', '_' and '-'"#,
            ),
            (
                "a,-b",
                r#""-b" at byte 2: a NodeName cannot begin with '-'; begin it with a letter or a digit"#,
            ),
            (
                "n99999999999999999999",
                r#""n99999999999999999999" at byte 0: a number has more than 18 digits, which Slurm cannot count; shorten it"#,
            ),
        ];
        for (list, error) in table {
            assert_eq!(joined(list), format!("error: {error}"), "{list:?}");
        }
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(
            joined(&long),
            format!("error: {long:?} at byte 0: a name here has more than 64 characters; shorten it")
        );
    }

    #[test]
    fn one_bad_item_refuses_the_list() {
        for list in ["good,n[2-1]", "n[2-1],good", "good[1-2],/etc", "good,n[1-2],n[", "good,n[1-2]]"] {
            assert!(expand(list).is_err(), "{list}");
        }
    }

    #[test]
    fn refuses_what_is_no_range() {
        for range in ["", " ", ",", "1,", ",1", "1-", "-1", "-", "1--2", "1-2-3", "+1", " 1", "1 ", "1, 2"] {
            assert!(expand(&format!("n[{range}]")).is_err(), "{range:?}");
        }
        for range in
            ["0x1", "1x2", "a", "1a", "A-F", "1-2/2", "1;2", "½", "١", "1\n", "{1}", "99999999999999999999"]
        {
            assert!(expand(&format!("n[{range}]")).is_err(), "{range:?}");
        }
    }

    #[test]
    fn refuses_characters_that_mean_something_elsewhere() {
        for c in "/\\'\"`$;&|<>()*?!#=@:+%^~}\0\r\u{7}\u{7f}\u{a0}é".chars() {
            for name in [format!("a{c}"), format!("{c}a"), format!("a[1-2]{c}")] {
                assert!(
                    matches!(expand(&name), Err(HostlistError::Character(_, found)) if found == c),
                    "{name:?}"
                );
            }
        }
        for name in ["-a", ".", "..", ".a", "-[1-2]"] {
            assert!(matches!(expand(name), Err(HostlistError::Start(..))), "{name}");
        }
    }

    #[test]
    fn check_name_takes_one_name_only() {
        for name in ["cn1", "1", "a.b-c_D", "ALL", &"x".repeat(MAX_NAME)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", " ", "a,b", "a b", "a\n", "a[1]", "a]", "-a", ".a", "a/b", "n1000000000000000000"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(&"x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn limits_hold_exactly() {
        assert_eq!(expand("n[1-65536]").map(|names| names.len()), Ok(65_536));
        assert!(matches!(expand("n[0-65536]"), Err(HostlistError::RangeTooLong(_))));
        assert_eq!(expand("a[0-3]b[0-65535]").map(|names| names.len()), Ok(MAX_NODES));
        assert!(matches!(expand("a[0-3]b[0-65535],c"), Err(HostlistError::TooManyNodes(_))));
        assert!(matches!(expand("a[0-65535,70000]b[1]"), Err(HostlistError::RangeTooLong(_))));
        assert_eq!(expand("a[0-65535,70000]").map(|names| names.len()), Ok(65_537));
        assert!(expand("n999999999999999999").is_ok());
        assert!(matches!(expand("n[1]99999999999999999999"), Err(HostlistError::NumberTooLarge(_))));
        assert_eq!(joined(&format!("n[{}7]", "0".repeat(62))), format!("n{}7", "0".repeat(62)));
        assert!(matches!(expand(&format!("n[{}7]", "0".repeat(63))), Err(HostlistError::TooLong(_))));
    }

    #[test]
    fn hostile_lists_cost_nothing() {
        for list in
            ["[0-65535]".repeat(12), "[0-65535]".repeat(100_000), "[".repeat(100_000), "[]".repeat(100_000)]
        {
            assert!(expand(&list).is_err());
        }
        let ranges = "0-65535,".repeat(100_000);
        assert!(matches!(expand(&format!("n[{ranges}1]")), Err(HostlistError::TooManyNodes(_))));
    }

    #[test]
    fn a_long_item_is_cut_in_the_message() {
        let Err(HostlistError::Character(span, '/')) = expand(&format!("{}/", "x".repeat(500))) else {
            panic!("refused for another reason")
        };
        assert_eq!((span.item.chars().count(), span.at), (81, 500));
    }
}
