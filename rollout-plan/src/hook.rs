//! Hooks: programs of the site that the executor calls at a moment in the life of a rollout or of its nodes.

use crate::node_sets::{Resolve, nodes_of};
use crate::period::Period;
use crate::value;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{AfterFailure, Moment};
use rollout_core::rollout::manifest::ManifestError;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Maximum number of hooks in a manifest, and in the configuration of a site.
const MAX_HOOKS: usize = 32;

/// Limits of a command: the number of its words, and the length of one in bytes.
const MAX_WORDS: usize = 64;
const MAX_TEXT: usize = 4096;

/// Length limit of a name, in bytes.
const MAX_NAME: usize = 64;

/// Default of [`Hook::timeout`], and its limit.
const TIMEOUT: Duration = Duration::from_secs(2 * 60);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Default of [`Hook::max_nodes`], and its limit.
const NODES: usize = 100;
const MAX_NODES: usize = 1000;

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Its name in journals. That of a hook of the site begins with `site:`.
    pub name: String,
    pub when: Moment,
    /// Absolute path of the program, and its arguments.
    pub command: Vec<String>,
    /// The nodes for which it is called. `None` is all of them.
    pub nodes: Option<NodeSet>,
    /// Maximum number of nodes in one call.
    pub max_nodes: usize,
    /// Time limit for one call.
    pub timeout: Duration,
    /// The consequence if it does not succeed. Never [`AfterFailure::Again`].
    pub on_failure: AfterFailure,
}

/// A hook as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    name: Option<String>,
    when: Moment,
    command: Vec<String>,
    nodes: Option<String>,
    max_nodes: Option<usize>,
    timeout: Option<Period>,
    on_failure: Option<OnFailure>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnFailure {
    Warn,
    Halt,
    Fail,
}

/// Checks the hooks at `key`. Their names in journals begin with `prefix`.
pub(crate) fn check_all(
    key: &str,
    written: Vec<Written>,
    prefix: &str,
    resolve: Resolve<'_>,
) -> Result<Vec<Hook>, ManifestError> {
    if written.len() > MAX_HOOKS {
        return Err(value(key, format!("{} hooks; {MAX_HOOKS} are possible", written.len())));
    }
    let mut hooks: Vec<Hook> = Vec::new();
    for (hook, n) in written.into_iter().zip(1..) {
        let key = format!("{key}[{n}]");
        let mut hook = hook.check(&key, resolve)?;
        hook.name.insert_str(0, prefix);
        if hooks.iter().any(|other| (other.when, &other.name) == (hook.when, &hook.name)) {
            let why =
                format!("a second hook {} {}; give each a name of its own", hook.name, hook.when.name());
            return Err(value(format!("{key}.name"), why));
        }
        hooks.push(hook);
    }
    Ok(hooks)
}

impl Hook {
    /// Returns the program.
    #[must_use]
    pub fn program(&self) -> &Path {
        Path::new(self.command.first().map_or("", String::as_str))
    }

    /// Returns whether it is called for a node.
    #[must_use]
    pub fn takes(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

impl Written {
    fn check(self, key: &str, resolve: Resolve<'_>) -> Result<Hook, ManifestError> {
        let Self { name, when, command, nodes, max_nodes, timeout, on_failure } = self;
        check_command(&format!("{key}.command"), &command)?;
        let file_name = command.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
        let name = name.unwrap_or_else(|| file_name.to_owned());
        check_name(&format!("{key}.name"), &name)?;
        if nodes.is_some() && !when.is_of_nodes() {
            let why = format!("a hook {:?} is about the rollout as a whole; leave nodes out", when.name());
            return Err(value(format!("{key}.nodes"), why));
        }
        let nodes = nodes.map(|text| nodes_of(&format!("{key}.nodes"), &text, resolve)).transpose()?;
        let max_nodes = max_nodes.unwrap_or(NODES);
        if max_nodes == 0 || max_nodes > MAX_NODES {
            return Err(value(format!("{key}.max_nodes"), format!("{max_nodes}: write 1 to {MAX_NODES}")));
        }
        let timeout = timeout.map_or(TIMEOUT, Period::get);
        if timeout > MAX_TIMEOUT {
            return Err(value(format!("{key}.timeout"), "longer than 1h, for which nothing may wait"));
        }
        let on_failure = check_on_failure(&format!("{key}.on_failure"), when, on_failure)?;
        Ok(Hook { name, when, command, nodes, max_nodes, timeout, on_failure })
    }
}

fn check_command(key: &str, command: &[String]) -> Result<(), ManifestError> {
    let is_absolute = command.first().is_some_and(|program| program.starts_with('/'));
    if !is_absolute {
        let program = command.first().map_or("", String::as_str);
        let why = format!("{program:?}: not an absolute path; write the program and its arguments as a list");
        return Err(value(key, why));
    }
    let fits = |word: &String| word.len() <= MAX_TEXT && !word.contains(char::is_control);
    if command.len() > MAX_WORDS || !command.iter().all(fits) {
        let why = format!(
            "more than {MAX_WORDS} words, one of more than {MAX_TEXT} bytes, or one with a control character"
        );
        return Err(value(key, why));
    }
    Ok(())
}

fn check_name(key: &str, name: &str) -> Result<(), ManifestError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        let why = format!("{name:?}: write a name of letters, digits, '.', '_' and '-'");
        return Err(value(key, why));
    }
    Ok(())
}

fn check_on_failure(
    key: &str,
    when: Moment,
    written: Option<OnFailure>,
) -> Result<AfterFailure, ManifestError> {
    match (written, when) {
        (None, Moment::BeforeRequest) => Ok(AfterFailure::Halt),
        (None | Some(OnFailure::Warn), _) => Ok(AfterFailure::Warn),
        (Some(OnFailure::Halt), when) if when.is_of_nodes() => Ok(AfterFailure::Halt),
        (Some(OnFailure::Fail), Moment::BeforeRequest | Moment::Updated) => Ok(AfterFailure::Fail),
        (Some(OnFailure::Halt), when) => {
            let why = format!("\"halt\": a rollout that is {} requests nothing; write \"warn\"", when.name());
            Err(value(key, why))
        }
        (Some(OnFailure::Fail), when) => {
            let why =
                format!("\"fail\": not possible with {:?}; write \"warn\" or leave it out", when.name());
            Err(value(key, why))
        }
    }
}

#[cfg(test)]
mod tests;
