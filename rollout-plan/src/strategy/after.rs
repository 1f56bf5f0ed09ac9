//! The rollout that comes before this one.

use crate::value;
use rollout_core::rollout::manifest::ManifestError;

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
