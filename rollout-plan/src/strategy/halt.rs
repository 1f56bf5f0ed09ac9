//! Halts: the failures at which a rollout requests no more nodes until a person decides.

use crate::amount::Amount;
use crate::value;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;

/// Numbers of nodes at which the rollout halts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Nodes that failed: rolled back, held or lost.
    pub failed: usize,
    /// Nodes that failed with the same error.
    pub same_error: Option<usize>,
    /// Nodes that are lost.
    pub lost: Option<usize>,
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    failed: Option<Amount>,
    same_error: Option<Amount>,
    lost: Option<Amount>,
}

impl Halt {
    /// Checks the table for a rollout of this many nodes.
    pub(super) fn check(written: Written, total: usize) -> Result<Self, ManifestError> {
        let failed = written.failed.unwrap_or(Amount::Count(1)).limit_of(total);
        let kind = |key: &str, amount: Option<Amount>| match amount.map(|amount| amount.limit_of(total)) {
            Some(number) if number > failed => {
                let why = format!(
                    "{number} nodes, but halt.failed halts at {failed} already; write a larger halt.failed, too"
                );
                Err(value(format!("strategy.halt.{key}"), why))
            }
            number => Ok(number),
        };
        Ok(Self {
            failed,
            same_error: kind("same_error", written.same_error)?,
            lost: kind("lost", written.lost)?,
        })
    }
}
