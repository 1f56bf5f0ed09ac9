//! Halts: whether the failures of a rollout are too many.

use super::rollouts::Rollout;
use crate::standing::{Failure, Member, Standing};
use crate::why::name_of_failure;
use std::collections::BTreeMap;

/// Length limit of an error that is compared with others, in characters.
const MAX_ERROR: usize = 200;

/// Shortest word of hexadecimal digits that is taken for an address, a hash or the like.
const SHORTEST_HEX: usize = 6;

/// Returns the reason if the rollout is to be halted. Failures before it was started or last resumed do not count.
pub(super) fn due(rollout: &Rollout<'_>) -> Option<String> {
    let halt = &rollout.strategy?.halt;
    let failed: Vec<&Member<'_>> = rollout.members.iter().filter(|member| counts(member)).collect();
    if let Some((error, count)) = most_common_error(&failed)
        && halt.same_error.is_some_and(|limit| count >= limit)
    {
        return Some(format!("{count} nodes failed with \"{error}\""));
    }
    let lost = failed.iter().filter(|member| member.standing == Standing::Failed(Failure::Lost));
    let lost: Vec<&str> = lost.map(|member| member.name).collect();
    if halt.lost.is_some_and(|limit| lost.len() >= limit) {
        return Some(nodes("lost", &lost, None));
    }
    let names: Vec<&str> = failed.iter().map(|member| member.name).collect();
    let error = failed.last().map(|member| error_of(member));
    (!failed.is_empty() && failed.len() >= halt.failed).then(|| nodes("failed", &names, error.as_deref()))
}

/// Returns whether a node failed since the rollout was started or last resumed. One that still waits for its order is
/// not [failed](Standing::Failed) otherwise.
fn counts(member: &Member<'_>) -> bool {
    let is_recent = !member.record.forgiven || member.record.progress.is_pending();
    matches!(member.standing, Standing::Failed(_)) && is_recent
}

/// Returns the count and the first of these nodes, and the last one's error.
fn nodes(what: &str, names: &[&str], error: Option<&str>) -> String {
    let count = names.len();
    let first = names.first().copied().unwrap_or_default();
    let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let others = if count > 1 { ", …" } else { "" };
    let error = error.map_or_else(String::new, |error| format!(": {error}"));
    format!("{nodes} {what} ({first}{others}){error}")
}

/// Returns the error that most nodes have, as one of them has it, and the number of these nodes.
fn most_common_error(failed: &[&Member<'_>]) -> Option<(String, usize)> {
    let mut counts: BTreeMap<String, (usize, &Member<'_>)> = BTreeMap::new();
    for member in failed {
        let count = counts.entry(normalized(member.name, &error_of(member))).or_insert((0, member));
        count.0 = count.0.saturating_add(1);
    }
    let (_, (count, member)) = counts.into_iter().max_by_key(|(_, (count, _))| *count)?;
    Some((error_of(member), count))
}

/// Returns the error of a failed node, or the kind of its failure.
fn error_of(member: &Member<'_>) -> String {
    match (member.error(), member.standing) {
        (Some(why), _) => why.to_owned(),
        (None, Standing::Failed(failure)) => name_of_failure(failure).to_owned(),
        (None, _) => String::new(),
    }
}

/// Returns an error without what differs between nodes: the node's name, numbers, times, and hexadecimal words.
pub(super) fn normalized(node: &str, error: &str) -> String {
    let error: String = error.replace(node, "NODE").to_lowercase().chars().take(MAX_ERROR).collect();
    let mut words = String::new();
    for word in error.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (word, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let is_hex = digits.len() >= SHORTEST_HEX
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && digits.bytes().any(|byte| byte.is_ascii_digit());
        if is_hex {
            words.push('#');
        } else {
            push_without_numbers(&mut words, word);
        }
        words.push_str(end);
    }
    words
}

fn push_without_numbers(words: &mut String, word: &str) {
    for c in word.chars() {
        match c.is_ascii_digit() {
            true if words.ends_with('#') => {}
            true => words.push('#'),
            false => words.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_equal_but_for_what_differs_between_nodes() {
        for (node, error, expected) in [
            ("n12", "n12: No space left on device", "node: no space left on device"),
            ("n1", "exit status 17 after 3.5 s", "exit status # after #.# s"),
            ("n1", "at 2026-11-27T20:01:35: ECC error", "at #-#-#t#:#:#: ecc error"),
            ("n1", "page 0xdeadbeef0 of 3f2a9c", "page # of #"),
            ("n1", "deadbeef is a word without a digit", "deadbeef is a word without a digit"),
            ("gpu-1", "gpu-1 gpu-2", "node gpu-#"),
            ("n1", "", ""),
        ] {
            assert_eq!(normalized(node, error), expected, "{error}");
        }
        assert!(normalized("n1", &"é".repeat(500)).chars().count() <= MAX_ERROR);
    }
}
