//! The job that qualifies the first nodes of each wave: `[verify.job]`.

use super::Strategy;
use crate::value;
use rollout_core::rollout::manifest::ManifestError;
use rollout_core::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Length limit of the path of a script, and of an option, in bytes.
const MAX_TEXT: usize = 4096;

/// Options of sbatch that the job has already, or by which it could not be found or would not run as one job on its
/// nodes. sbatch takes any beginning of a name that no other option has.
const TAKEN: [&str; 23] = [
    "array",
    "begin",
    "clusters",
    "deadline",
    "dependency",
    "exclude",
    "help",
    "hold",
    "job-name",
    "nodefile",
    "nodelist",
    "nodes",
    "parsable",
    "requeue",
    "reservation",
    "test-only",
    "time",
    "time-min",
    "uid",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// The default of [`VerifyJob::time_limit`].
const TIME_LIMIT_S: u64 = 30 * 60;

/// A batch script that runs on the first nodes of a wave before users get them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyJob {
    /// Absolute path on the controller.
    pub script: String,
    /// Number of nodes on which it runs at once. A wave with fewer nodes has it run on those.
    pub nodes: usize,
    pub time_limit: Duration,
    /// The user who runs it. `None` is the user of the executor.
    pub user: Option<String>,
    /// Further options of sbatch.
    pub options: Vec<String>,
}

/// The table as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    script: String,
    #[serde(default = "one")]
    nodes: usize,
    time_limit: Option<TimeLimit>,
    user: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

fn one() -> usize {
    1
}

impl VerifyJob {
    /// Checks the job of a rollout with this strategy.
    pub(super) fn check(written: Written, strategy: &Strategy) -> Result<Self, ManifestError> {
        let Written { script, nodes, time_limit, user, options } = written;
        check_text("verify.job.script", &script)?;
        if !script.starts_with('/') {
            return Err(value("verify.job.script", format!("{script:?}: not an absolute path")));
        }
        check_nodes(nodes, strategy)?;
        if let Some(user) = &user {
            check_user(user)?;
        }
        for (option, n) in options.iter().zip(1..) {
            check_option(&format!("verify.job.options[{n}]"), option)?;
        }
        let time_limit = time_limit.unwrap_or(TimeLimit::from_secs(TIME_LIMIT_S)).get();
        Ok(Self { script, nodes, time_limit, user, options })
    }
}

fn check_nodes(nodes: usize, strategy: &Strategy) -> Result<(), ManifestError> {
    let key = "verify.job.nodes";
    let all = strategy.nodes.len();
    if nodes == 0 || nodes > all {
        return Err(value(key, format!("{nodes}: write 1 to {all}, the number of nodes of the rollout")));
    }
    if let Some(group) = strategy.groups.iter().find(|group| group.bring_up.len() > 1) {
        let why = format!(
            "the nodes of the group {} come back one after another, and cannot wait for a job together; leave out \
             bring_up, or the job",
            group.name
        );
        return Err(value("verify.job", why));
    }
    // The last group goes as a whole.
    let largest = strategy.groups.iter().map(|group| group.nodes.len()).max().unwrap_or(1);
    let at_once = nodes.saturating_add(largest).saturating_sub(1);
    if at_once > strategy.max_out {
        let why = format!(
            "{} at once, but up to {at_once} nodes are qualified together; write {at_once} or more",
            strategy.max_out
        );
        return Err(value("strategy.max_out", why));
    }
    Ok(())
}

fn check_text(key: &str, text: &str) -> Result<(), ManifestError> {
    if text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control) {
        let why = format!("{text:?}: empty, longer than {MAX_TEXT} bytes, or with a control character");
        return Err(value(key, why));
    }
    Ok(())
}

fn check_user(user: &str) -> Result<(), ManifestError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if user.is_empty() || user.len() > 64 || !user.chars().all(fits) || user.starts_with(['-', '.']) {
        return Err(value("verify.job.user", format!("{user:?}: not the name of a user")));
    }
    Ok(())
}

fn check_option(key: &str, option: &str) -> Result<(), ManifestError> {
    check_text(key, option)?;
    let name = option.strip_prefix("--").map(|option| option.split('=').next().unwrap_or(option));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(value(key, format!("{option:?}: write a long option and its value as \"--NAME=VALUE\"")));
    };
    match TAKEN.iter().find(|taken| taken.starts_with(name)) {
        Some(taken) => Err(value(key, format!("{option:?}: --{taken} is not for the manifest to set"))),
        None => Ok(()),
    }
}
