//! Jobs that run on a node when its turn comes.

use crate::period::Period;
use crate::value;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;
use std::time::Duration;

/// The treatment of running jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    pub wait: Wait,
    /// Without one, the jobs have all the time that Slurm gives them.
    pub deadline: Option<Deadline>,
}

/// A way to wait for jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// The node is drained now.
    #[default]
    Asap,
    /// The node is requested once it is idle by itself.
    Idle,
    /// The node is reserved from the end of its running jobs. Shorter jobs may start until then.
    End,
}

/// The longest wait for jobs, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The time from the request of the node.
    pub at_most: Duration,
    pub then: Then,
    /// The users of the jobs are notified this long before the deadline. Shorter than it.
    pub warn: Option<Duration>,
}

/// The fate of jobs that still run at the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// They run on. The request is withdrawn, and the node is requested once it is idle.
    #[default]
    Leave,
    /// They are requeued. A job that cannot be is left.
    Requeue,
    /// They are canceled.
    Cancel,
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    wait: Wait,
    at_most: Option<Period>,
    then: Option<Then>,
    warn: Option<Period>,
}

impl Jobs {
    pub(super) fn check(written: Written) -> Result<Self, ManifestError> {
        let refuse = |key: &str, why: &str| Err(value(format!("strategy.jobs.{key}"), why));
        let Some(at_most) = written.at_most.map(Period::get) else {
            if written.then.is_some() {
                return refuse("then", "then without at_most: write the time after which it applies");
            }
            if written.warn.is_some() {
                return refuse("warn", "warn without at_most: write the deadline to warn of");
            }
            return Ok(Self { wait: written.wait, deadline: None });
        };
        let (then, warn) = (written.then.unwrap_or_default(), written.warn.map(Period::get));
        if warn.is_some() && then == Then::Leave {
            return refuse(
                "warn",
                "nothing happens to jobs at the deadline; write then = \"requeue\" or \"cancel\", too",
            );
        }
        if warn.is_some_and(|warn| warn >= at_most) {
            return refuse("warn", "not shorter than at_most; users are warned within the wait");
        }
        Ok(Self { wait: written.wait, deadline: Some(Deadline { at_most, then, warn }) })
    }
}
