//! The rollout that comes before this one.

use crate::value;
use rollout_core::rollout::manifest::ManifestError;
use rollout_core::text::edit_distance;
use std::collections::BTreeSet;
use std::fmt;

/// Number of letters by which a name may differ from one that is suggested.
const MAX_TYPOS: usize = 2;

/// Number of rollouts that are named instead of one that does not exist.
const MAX_NAMED: usize = 5;

/// A rollout to wait for that no one has ever staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAfter {
    after: String,
    /// Rollouts that may be meant, the most similar first.
    similar: Vec<String>,
    known: BTreeSet<String>,
}

/// Refuses what cannot be the name or id of another rollout than `own`.
pub(super) fn check(after: String, own: &str) -> Result<String, ManifestError> {
    let (name, repeat) = after.split_once('@').unwrap_or((&after, "1"));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_number = !repeat.is_empty() && repeat.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() || !name.chars().all(fits) || !is_number {
        let why = format!("{after:?}: write the name of a rollout, or its id such as driver@2");
        return Err(value("strategy.after", why));
    }
    // An id may name an earlier rollout of the same name.
    if after == own {
        return Err(value("strategy.after", "a rollout cannot come after itself; name another one"));
    }
    Ok(after)
}

/// Returns whether `after` means the rollout with this id: a name means all rollouts of that name, `driver@1` the first
/// one, whose id is `driver`.
pub(crate) fn is_meant(after: &str, id: &str) -> bool {
    match after.contains('@') {
        true => after.strip_suffix("@1").unwrap_or(after) == id,
        false => after == name_of(id),
    }
}

/// Refuses an `after` that means no other rollout than `own`. `known` has the ids of all rollouts that there ever
/// were: one that is over, and archived, is no mistake.
///
/// # Errors
/// Names the rollouts that may be meant.
pub fn check_known(after: &str, own: &str, known: &BTreeSet<String>) -> Result<(), UnknownAfter> {
    let others = || known.iter().filter(|id| *id != own);
    if others().any(|id| is_meant(after, id)) {
        return Ok(());
    }
    let (name, letters) = (name_of(after), name_of(after).chars().count());
    let mut similar: Vec<(usize, &String)> = others()
        .map(|id| (edit_distance(name, name_of(id)), id))
        .filter(|(typos, id)| (*typos <= MAX_TYPOS && *typos < letters) || begins_alike(name, name_of(id)))
        .collect();
    similar.sort();
    let similar = similar.into_iter().map(|(_, id)| id.clone()).collect();
    Err(UnknownAfter { after: after.to_owned(), similar, known: others().cloned().collect() })
}

fn name_of(id: &str) -> &str {
    id.split('@').next().unwrap_or(id)
}

/// Returns whether one name is the beginning of the other, as `driver` is of `driver-580`.
fn begins_alike(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a))
}

impl fmt::Display for UnknownAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strategy.after: {}: no such rollout was ever staged", self.after)?;
        let list = |f: &mut fmt::Formatter<'_>, what: &str, ids: &[&String]| {
            let named: Vec<&str> = ids.iter().take(MAX_NAMED).map(|id| id.as_str()).collect();
            write!(f, "; {what} {}", named.join(", "))?;
            match ids.len().saturating_sub(MAX_NAMED) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        };
        let (similar, known): (Vec<_>, Vec<_>) = (self.similar.iter().collect(), self.known.iter().collect());
        match (similar.is_empty(), known.is_empty()) {
            (false, _) => list(f, "similar:", &similar),
            (true, false) => list(f, "there are", &known),
            (true, true) => f.write_str("; there is no other one"),
        }
    }
}

impl std::error::Error for UnknownAfter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_all_its_rollouts_and_an_id_one() {
        for (after, id, meant) in [
            ("driver", "driver", true),
            ("driver", "driver@2", true),
            ("driver", "driver-580", false),
            ("driver@2", "driver@2", true),
            ("driver@2", "driver", false),
            ("driver@1", "driver", true),
            ("driver@1", "driver@11", false),
            ("driver@11", "driver@11", true),
        ] {
            assert_eq!(is_meant(after, id), meant, "{after} {id}");
        }
    }

    #[test]
    fn a_rollout_that_never_was_is_refused_with_those_that_may_be_meant() {
        let known =
            ["firmware", "firmware@2", "image-2.1", "kernel"].map(str::to_owned).into_iter().collect();
        for (after, own, similar) in [
            ("firmware", "image-2.1", None),
            ("firmware@2", "image-2.1", None),
            ("firmware@1", "image-2.1", None),
            ("firmware@2", "firmware@2", Some("similar: firmware")),
            ("firmware@3", "image-2.1", Some("similar: firmware, firmware@2")),
            ("firmwre", "image-2.1", Some("similar: firmware, firmware@2")),
            ("image", "kernel", Some("similar: image-2.1")),
            ("x", "kernel", Some("there are firmware, firmware@2, image-2.1")),
        ] {
            let unknown = check_known(after, own, &known).err().map(|unknown| unknown.to_string());
            let expected = similar.map(|similar| {
                format!("strategy.after: {after}: no such rollout was ever staged; {similar}")
            });
            assert_eq!(unknown, expected, "{after} {own}");
        }
        let many: BTreeSet<String> = (1..=9).map(|number| format!("r{number}")).collect();
        let text = |known: &BTreeSet<String>| check_known("zebra", "r1", known).unwrap_err().to_string();
        assert!(text(&many).ends_with("; there are r2, r3, r4, r5, r6 and 3 more"), "{}", text(&many));
        assert!(text(&BTreeSet::new()).ends_with("; there is no other one"));
    }
}
