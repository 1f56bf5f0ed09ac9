//! Numbers in names.

use super::limits::MAX_DIGITS;

/// Returns the value of a number without sign, if Slurm can count that far.
pub(super) fn number(digits: &str) -> Option<u64> {
    let counted = digits.trim_start_matches('0').len();
    if counted > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        None
    } else {
        digits.parse().ok()
    }
}

/// Splits a name into the part before its trailing number, and the digits of that number, if any.
pub(super) fn split_number(name: &str) -> (&str, &str) {
    name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len())
}
