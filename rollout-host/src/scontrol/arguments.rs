//! Arguments that Slurm takes for what they are.

use crate::run::RunError;
use rollout_core::hostlist::NodeSet;

/// Length limit of a node list as one argument. Linux takes 128 KiB (MAX_ARG_STRLEN).
pub(super) const MAX_ARGUMENT: usize = 100 * 1024;

/// Length limit of names of rollouts, reservations and users. The longest are those of reservations, of a rollout and a
/// node.
const MAX_NAME: usize = 256;

/// Length limit of an argument in an error, in characters.
const MAX_SHOWN: usize = 128;

/// Words that `scontrol reboot` takes for an option or for all nodes instead of a node (`_process_reboot_command` in
/// `src/scontrol/scontrol.c`, 22.05 to 26.05).
const WORDS: [&str; 3] = ["ALL", "ASAP", "FORCE"];

/// A request that Slurm did not get or refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlurmError {
    /// Slurm would take the argument for something else. No command was run.
    #[error("{what} {text:?}: {why}")]
    Argument { what: &'static str, text: String, why: String },
    /// The command failed. The message contains its output.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl SlurmError {
    pub(super) fn argument(what: &'static str, text: impl Into<String>, why: impl Into<String>) -> Self {
        let text: String = text.into();
        Self::Argument { what, text: text.chars().take(MAX_SHOWN).collect(), why: why.into() }
    }
}

/// Refuses an empty list, and names that are words of scontrol.
pub(super) fn check_nodes(nodes: &NodeSet) -> Result<(), SlurmError> {
    if nodes.is_empty() {
        return Err(SlurmError::argument("nodes", "", "there is none"));
    }
    let is_word = |name: &&str| WORDS.iter().any(|word| word.eq_ignore_ascii_case(name));
    match nodes.iter().find(is_word) {
        Some(name) => Err(SlurmError::argument("node", name, "scontrol has another meaning for this word")),
        None => Ok(()),
    }
}

/// Returns the nodes as one argument.
pub(super) fn one_argument(nodes: &NodeSet) -> Result<String, SlurmError> {
    check_nodes(nodes)?;
    let list = nodes.to_string();
    if list.len() > MAX_ARGUMENT {
        let why = format!("the list has {} bytes, and {MAX_ARGUMENT} is the limit", list.len());
        return Err(SlurmError::argument("nodes", list, why));
    }
    Ok(list)
}

/// Refuses a name that is not made of letters, digits, `.`, `_`, `@` and `-`, or that begins with `-` or `.`.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), SlurmError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(fits) && !name.starts_with(['-', '.']) {
        return Ok(());
    }
    let why =
        format!("1 to {MAX_NAME} letters, digits, '.', '_', '@' or '-', beginning with a letter or digit");
    Err(SlurmError::argument(what, name, why))
}

/// Returns the nodes in parts whose lists have at most `max` bytes. A single name is never divided.
pub(super) fn parts(nodes: &NodeSet, max: usize) -> Vec<NodeSet> {
    let mut parts = Vec::new();
    let mut rest = vec![nodes.clone()];
    while let Some(set) = rest.pop() {
        if set.len() < 2 || set.to_string().len() <= max {
            parts.push(set);
            continue;
        }
        let middle = set.len() / 2;
        let half = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<NodeSet>();
        rest.push(half(&mut set.iter().skip(middle)));
        rest.push(half(&mut set.iter().take(middle)));
    }
    parts
}

/// Applies a request to each part of a list that may be too long for one argument. A failure does not keep the other
/// parts from their request.
///
/// # Errors
/// The first failure.
pub(super) fn for_each_part<E: Into<SlurmError>>(
    nodes: &NodeSet,
    max: usize,
    request: impl Fn(&NodeSet) -> Result<(), E>,
) -> Result<(), SlurmError> {
    check_nodes(nodes)?;
    let mut outcome = Ok(());
    for part in parts(nodes, max) {
        let one = request(&part).map_err(Into::into);
        outcome = outcome.and(one);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_divided_without_loss() {
        let nodes: NodeSet = (0..1000).map(|number| format!("n{}x", number * 7)).collect();
        for max in [1, 10, 500, 100_000] {
            let parts = parts(&nodes, max);
            assert!(parts.iter().all(|part| part.len() == 1 || part.to_string().len() <= max), "{max}");
            assert_eq!(
                parts.iter().flat_map(NodeSet::iter).collect::<Vec<_>>(),
                nodes.iter().collect::<Vec<_>>()
            );
        }
        assert_eq!(parts(&nodes, 100_000).len(), 1);
        assert!(one_argument(&NodeSet::parse("cn[1-9]").unwrap()).is_ok());
        let long: NodeSet = (0..20_000).map(|number| format!("node{number}x")).collect();
        let error = one_argument(&long).unwrap_err().to_string();
        assert!(error.contains("102400") && error.len() < 300, "{error}");
    }

    #[test]
    fn words_of_scontrol_are_no_nodes() {
        for list in ["ALL", "cn1,all", "asap", "Force"] {
            let error = check_nodes(&NodeSet::parse(list).unwrap()).unwrap_err().to_string();
            assert!(error.contains("another meaning"), "{list}: {error}");
        }
        assert!(check_nodes(&NodeSet::default()).is_err());
        assert!(check_nodes(&NodeSet::parse("allegro,cn1").unwrap()).is_ok());
    }

    #[test]
    fn names_have_no_character_that_slurm_or_a_terminal_would_interpret() {
        for name in ["driver-580", "undo@2", "a", "A.b_c"] {
            assert!(check_name("name", name).is_ok(), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "-x", ".x", "a b", "a\n", "a,b", "a=b", "\"a\"", "a'b", "ä", &long] {
            assert!(check_name("name", name).is_err(), "{name:?}");
        }
    }
}
