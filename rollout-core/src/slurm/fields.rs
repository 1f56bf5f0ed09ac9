//! `Key=value` texts of `scontrol`: blanks separate the keys, and nothing is quoted.

/// Returns the key at the beginning of a text, if there is one: a capitalized word with `=` behind it.
pub(super) fn key_of(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    bytes.first().filter(|first| first.is_ascii_uppercase())?;
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?;
    let (key, behind) = text.split_at(end);
    behind.starts_with('=').then_some(key)
}

/// Returns the position of the first blank with such a key behind it.
pub(super) fn find_key(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let mut blanks = text.match_indices(' ').map(|(at, _)| at);
    blanks.find(|at| text.get(at + 1..).and_then(key_of).is_some_and(&is_wanted))
}

/// Iterator over the keys of a line with their values, up to the first text that is not `Key=value`.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let key = key_of(self.0)?;
        let text = self.0.get(key.len() + 1..)?;
        let (value, behind) = text.split_at(find_key(text, |_| true).unwrap_or(text.len()));
        self.0 = behind.trim_start();
        Some((key, value.trim_end()))
    }
}

/// Returns the value, unless it is empty or `(null)`, as C prints a text that is not set.
pub(super) fn set_value(value: &str) -> Option<&str> {
    (!matches!(value, "" | "(null)")).then_some(value)
}

/// Returns the items of a list with commas. Slurm prints `(null)` for none.
pub(super) fn listed(value: &str) -> Vec<String> {
    value.split(',').filter_map(set_value).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_at_a_blank_and_a_key() {
        for (line, expected) in [
            ("A=1 B=2", &[("A", "1"), ("B", "2")][..]),
            ("A= B=(null)", &[("A", ""), ("B", "(null)")]),
            ("A=x   CpuBind=y  B=2 ", &[("A", "x"), ("CpuBind", "y"), ("B", "2")]),
            (
                "Groups=two words Tres=cpu=4,mem=2 B=a=b c",
                &[("Groups", "two words"), ("Tres", "cpu=4,mem=2"), ("B", "a=b c")],
            ),
            ("no key A=1", &[]),
            ("", &[]),
            ("a=1", &[]),
        ] {
            assert_eq!(Fields::of(line).collect::<Vec<_>>(), expected, "{line}");
        }
        assert_eq!(listed("a,,b,(null)"), ["a", "b"]);
    }
}
