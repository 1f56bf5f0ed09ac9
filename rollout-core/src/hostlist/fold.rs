//! Names to text: Slurm's sort order and its folded form.

use std::cmp::Ordering;
use std::fmt::Write;

use super::limits::MAX_RANGE;
use super::number::{number, split_number};

/// Returns the folded hostlist of the names: sorted, without duplicates, only the trailing number folded, for example
/// `r1n[01-02],r2n01`. Without names, the text is empty.
///
/// This is the form of `scontrol show hostlistsorted` (which keeps duplicates). Widths are not merged:
/// `cn9,cn09` is `cn[9,09]`. The text expands to the same names whatever the order of the input, as long as
/// [`check_name`](super::check_name) accepts each and there are at most [`MAX_NODES`](super::MAX_NODES).
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by(|a, b| order(a, b));
    names.dedup();
    fold_sorted(names)
}

/// Does the same as [`fold`] for names that are already in [`order`], each once.
pub(super) fn fold_sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for run in names.into_iter().map(Run::of) {
        match runs.last_mut() {
            Some(last) if last.continues_with(&run) => (last.hi, last.last) = (run.hi, run.last),
            _ => runs.push(run),
        }
    }
    let mut text = String::new();
    for group in runs.chunk_by(|a, b| a.prefix == b.prefix && !a.first.is_empty() && !b.first.is_empty()) {
        if !text.is_empty() {
            text.push(',');
        }
        write_group(&mut text, group);
    }
    text
}

/// Compares in Slurm's order (`hostrange_cmp`): the part before the trailing number as `strnatcmp`, then no number
/// before a number, then the number by digit count and value. Equal only for equal names.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let ((prefix_a, digits_a), (prefix_b, digits_b)) = (split_number(a), split_number(b));
    natural(prefix_a.as_bytes(), prefix_b.as_bytes())
        .then_with(|| digits_a.len().cmp(&digits_b.len()))
        .then_with(|| digits_a.cmp(digits_b))
}

/// Consecutive names under one prefix. A name without a number is a run of its own, with `first` empty.
struct Run<'a> {
    prefix: &'a str,
    first: &'a str,
    last: &'a str,
    lo: u64,
    hi: u64,
}

impl<'a> Run<'a> {
    fn of(name: &'a str) -> Self {
        let (prefix, digits) = split_number(name);
        match number(digits) {
            Some(value) => Self { prefix, first: digits, last: digits, lo: value, hi: value },
            None => Self { prefix: name, first: "", last: "", lo: 0, hi: 0 },
        }
    }

    /// Returns whether the next name can be appended to this range, so that Slurm still reads the range. Its padding is
    /// the digit count of its first number.
    fn continues_with(&self, next: &Run<'_>) -> bool {
        let (width, digits) = (self.first.len(), next.first.len());
        width > 0
            && self.prefix == next.prefix
            && self.hi + 1 == next.lo
            && next.lo - self.lo < MAX_RANGE
            && (digits == width || (digits > width && !next.first.starts_with('0')))
    }
}

fn write_group(text: &mut String, group: &[Run<'_>]) {
    let Some(start) = group.first() else { return };
    text.push_str(start.prefix);
    if group.len() == 1 && start.lo == start.hi {
        return text.push_str(start.first);
    }
    for (index, run) in group.iter().enumerate() {
        text.push(if index == 0 { '[' } else { ',' });
        text.push_str(run.first);
        if run.lo < run.hi {
            // Writing to a String cannot fail.
            let _ = write!(text, "-{}", run.last);
        }
    }
    text.push(']');
}

/// Compares as `src/common/strnatcmp.c` does: digits inside compare as numbers. Numbers with a leading zero come first
/// and compare as text.
fn natural(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first(), b.split_first()) {
        if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let ((digits_a, after_a), (digits_b, after_b)) = (leading_digits(a), leading_digits(b));
            let padded = *first_a == b'0' || *first_b == b'0';
            let by_length = if padded { Ordering::Equal } else { digits_a.len().cmp(&digits_b.len()) };
            let ordering = by_length.then_with(|| digits_a.cmp(digits_b));
            if ordering.is_ne() {
                return ordering;
            }
            (a, b) = (after_a, after_b);
        } else if first_a != first_b {
            return first_a.cmp(first_b);
        } else {
            (a, b) = (rest_a, rest_b);
        }
    }
    a.len().cmp(&b.len())
}

fn leading_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left: names. Right: the output of `scontrol show hostlistsorted` of Slurm 22.05.8 for them, without duplicates.
    const AS_SLURM: &[(&str, &str)] = &[
        ("cn1", "cn1"),
        ("cn1 cn2", "cn[1-2]"),
        ("cn1 cn3", "cn[1,3]"),
        ("cn2 cn1 cn2", "cn[1-2]"),
        ("r1n01 r1n02 r2n01", "r1n[01-02],r2n01"),
        ("n1 n02 n3", "n[1,3,02]"),
        ("n1 n01 n2 n02", "n[1-2,01-02]"),
        ("n n1 n2", "n,n[1-2]"),
        ("a1b2 a1 a2 a1b1", "a[1-2],a1b[1-2]"),
        ("r02n1 r1n1 r10n1 r2n1 r01n1", "r01n1,r02n1,r1n1,r2n1,r10n1"),
        ("n08 n09 n10 n9", "n[9,08-10]"),
        ("b1 B1 a1", "B1,a1,b1"),
        ("n-1 n1 n.1 n_1", "n1,n-1,n.1,n_1"),
        ("n007 n7 n07 n8 n08 n008 n10", "n[7-8,07-08,10,007-008]"),
        ("n098 n099 n100 n101", "n[098-101]"),
        ("n99 n100", "n[99-100]"),
        ("n0 n1 n00", "n[0-1,00]"),
        ("3 1 2", "[1-3]"),
        ("gpu-a gpu-b", "gpu-a,gpu-b"),
    ];

    #[test]
    fn folds_as_slurm_does() {
        for (names, folded) in AS_SLURM {
            assert_eq!(fold(names.split(' ')), *folded, "{names}");
        }
        assert_eq!(fold([]), "");
    }

    #[test]
    fn mixed_widths_that_slurm_writes_otherwise_still_name_the_same_nodes() {
        // Slurm prints cn[9-10,09]: it appends cn10 to the first range that can take it.
        assert_eq!(fold(["cn9", "cn10", "cn09"]), "cn[9,09-10]");
    }

    #[test]
    fn no_range_is_longer_than_slurm_reads() {
        let names: Vec<String> = (0..MAX_RANGE + 2).map(|number| format!("n{number}")).collect();
        let text = fold(names.iter().map(String::as_str));
        assert_eq!(text, "n[0-65535,65536-65537]");
        assert_eq!(super::super::expand(&text), Ok(names));
    }

    #[test]
    fn unchecked_names_come_out_as_they_are() {
        let long = "n99999999999999999998 n99999999999999999999";
        assert_eq!(fold(long.split(' ')), long.replace(' ', ","));
        assert_eq!(fold(["é1", "é2"]), "é[1-2]");
    }

    #[test]
    fn order_is_natural() {
        let sorted = "1 01 a a1 a2 a01 a10 a1- b r01n r010n r1n r2n r10n1";
        let sorted: Vec<&str> = sorted.split(' ').collect();
        for (index, low) in sorted.iter().enumerate() {
            assert_eq!(order(low, low), Ordering::Equal);
            for high in sorted.iter().skip(index + 1) {
                assert_eq!(order(low, high), Ordering::Less, "{low} {high}");
                assert_eq!(order(high, low), Ordering::Greater, "{low} {high}");
            }
        }
    }
}
