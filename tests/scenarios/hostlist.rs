//! Our hostlists against Slurm's own, of each version: what we accept means the same to `scontrol show hostnames`.

use std::collections::BTreeSet;

use rollout_core::hostlist::{NodeSet, expand};
use rollout_lab::Base;

/// See the head of the file for its format.
const CASES: &str = include_str!("../../rollout-core/tests/hostlist_cases.txt");

/// Number of lists that are made up. Each is also damaged in one place.
const MADE_UP: usize = 100;

fn unescaped(text: &str) -> String {
    let parts = text.split("\\\\").map(|part| part.replace("\\t", "\t").replace("\\n", "\n"));
    parts.collect::<Vec<_>>().join("\\")
}

/// Returns Slurm's expansion of the list, `None` if it refuses the list. Its exit status is 0 either way.
fn slurm(base: Base, list: &str) -> Option<Vec<String>> {
    let (names, said) = base.scontrol_show_hostnames(list).unwrap();
    assert!(!names.is_empty() || !said.is_empty(), "{base:?} says nothing to {list:?}");
    if names.is_empty() { None } else { Some(names) }
}

fn the_table(base: Base) {
    let (mut agreed, mut no_scontrol) = (0, false);
    for (line, text) in (1..).zip(CASES.lines()) {
        if let Some(comment) = text.strip_prefix('#') {
            no_scontrol = comment.contains("not for scontrol");
            continue;
        }
        let [kind, list, _] = text.split('\t').collect::<Vec<_>>()[..] else { continue };
        if std::mem::take(&mut no_scontrol) || kind == "strict" {
            continue;
        }
        let list = unescaped(list);
        let (ours, theirs) = (expand(&list).ok(), slurm(base, &list));
        let same = match (kind, base) {
            ("ok", _) => theirs.is_some() && ours == theirs,
            ("bad", _) => theirs.is_none() && ours.is_none(),
            // Newer versions differ: a newline was part of a name there, and text after the last brackets is an error
            // here.
            ("ok-23.02", Base::Bookworm) => theirs.is_some() && ours != theirs,
            ("ok-23.11", Base::Bookworm) => theirs.is_none(),
            ("ok-23.02" | "ok-23.11", _) => theirs.is_some() && ours == theirs,
            _ => panic!("line {line}: unknown kind {kind}"),
        };
        assert!(
            same,
            "{base:?}, line {line}: {list:?}: {kind}, but\nours {ours:.200?}\nSlurm's {theirs:.200?}"
        );
        agreed += 1;
    }
    assert!(agreed > 75, "the table lost lines: {agreed}");
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn range(&mut self) -> String {
        let (low, more, width) = (self.below(1200), self.below(12), self.below(5));
        match self.below(3) {
            0 => format!("{low:0width$}"),
            _ => format!("{low:0width$}-{}", low + more),
        }
    }

    /// One item; `behind` is what may follow its last brackets.
    fn item(&mut self, behind: &[&str]) -> String {
        let mut item = self.one_of(&["cn", "r1n", "gpu-", "n0", "x_y.z", "A"]).to_owned();
        let groups = self.below(4);
        for group in 0..groups {
            let ranges: Vec<String> = (0..=self.below(3)).map(|_| self.range()).collect();
            item.push_str(&format!("[{}]", ranges.join(",")));
            item.push_str(if group + 1 < groups {
                self.one_of(&["", "n", "-", "0"])
            } else {
                self.one_of(behind)
            });
        }
        if groups == 0 {
            item.push_str(&self.range().replace('-', "_"));
        }
        item
    }

    fn list(&mut self, behind: &[&str]) -> String {
        let items: Vec<String> = (0..=self.below(4)).map(|_| self.item(behind)).collect();
        items.join(self.one_of(&[",", " ", ",,", "\t", ", "]))
    }

    /// The list with one character gone, doubled or replaced.
    fn damaged(&mut self, list: &str) -> String {
        let mut text: Vec<char> = list.chars().collect();
        let at = self.below(text.len());
        let other = self.one_of(&['[', ']', ',', '-', '0', 'a', ' ']);
        match self.below(3) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, text[at]),
            _ => text[at] = other,
        }
        text.into_iter().collect()
    }
}

fn made_up_lists(base: Base) {
    // Text after the last brackets is for Slurm 23.11 and later.
    let behind: &[&str] = if base == Base::Bookworm { &[""] } else { &["", "", "-ib", "x"] };
    let (mut dice, mut damaged_and_accepted) = (Dice(2024), 0);
    for _ in 0..MADE_UP {
        let list = dice.list(behind);
        let ours = expand(&list).unwrap_or_else(|error| panic!("{list:?}: {error}"));
        assert_eq!(Some(&ours), slurm(base, &list).as_ref(), "{base:?}: {list:?}");

        // Slurm reads our text for a set of nodes as that set.
        let folded = NodeSet::parse(&list).unwrap().to_string();
        let names = slurm(base, &folded).unwrap();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{base:?}: {folded:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>(), ours.iter().collect(), "{base:?}: {folded:?}");

        // We may refuse what Slurm takes, and never take it for other nodes than Slurm does.
        let damaged = dice.damaged(&list);
        if let Ok(ours) = expand(&damaged) {
            let theirs = slurm(base, &damaged);
            let too_new = base == Base::Bookworm && theirs.is_none();
            assert!(
                too_new || theirs.as_ref() == Some(&ours),
                "{base:?}: {damaged:?}: {ours:.200?}, {theirs:.200?}"
            );
            damaged_and_accepted += 1;
        }
    }
    assert!(damaged_and_accepted > MADE_UP / 5, "{damaged_and_accepted}");
}

fn as_slurm_does(base: Base) {
    the_table(base);
    made_up_lists(base);
}

#[test]
fn as_slurm_22_05_does() {
    as_slurm_does(Base::Bookworm);
}

#[test]
fn as_slurm_24_11_does() {
    as_slurm_does(Base::Trixie);
}

#[test]
fn as_slurm_26_05_does() {
    as_slurm_does(Base::Forky);
}
