//! A cluster with slurm-rollout installed, and what an admin does there.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cluster::{Cluster, ClusterSpec};
use crate::error::{LabError, Result};
use crate::product::Product;
use crate::run::Output;

const POLL: Duration = Duration::from_millis(200);

/// A cluster with slurm-rollout installed.
#[derive(Debug)]
pub struct Site {
    /// The cluster.
    pub cluster: Cluster,
}

/// A node in `slurm-rollout status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeLine {
    /// NodeName.
    pub node: String,
    /// The rollout's id.
    pub rollout: String,
    /// Where the node stands.
    pub phase: String,
    /// Slurm's state of it.
    pub slurm_state: Option<String>,
    /// What a person should know.
    pub note: Option<String>,
}

impl Site {
    /// Boots a cluster with the product in it; all nodes are IDLE when this returns.
    pub fn start(product: &Product, spec: ClusterSpec) -> Result<Site> {
        Ok(Site { cluster: Cluster::start(&product.install(spec))? })
    }

    /// Runs `slurm-rollout` on the controller as root.
    pub fn rollout(&self, args: &[&str]) -> Result<Output> {
        let argv: Vec<&str> = std::iter::once("slurm-rollout").chain(args.iter().copied()).collect();
        self.cluster.controller().exec(&argv)
    }

    /// Stages a manifest; gives what was said.
    pub fn stage(&self, manifest: &str) -> Result<String> {
        self.cluster.controller().write_file("/root/rollout.toml", manifest, 0o644)?;
        self.rollout(&["stage", "/root/rollout.toml"])?.into_stdout()
    }

    /// `scontrol reboot ASAP nextstate=resume`.
    pub fn reboot(&self, nodes: &str) -> Result<()> {
        self.cluster.scontrol(&["reboot", "ASAP", "nextstate=resume", "reason=update", nodes]).map(drop)
    }

    /// `slurm-rollout status --json` of a rollout or of nodes.
    pub fn status(&self, what: &str) -> Result<Vec<NodeLine>> {
        let output = self.rollout(&["status", "--json", what])?;
        let parsed = serde_json::from_str(&output.stdout);
        parsed
            .map_err(|error| LabError::Setup(format!("status: {error}: {} {}", output.stdout, output.stderr)))
    }

    /// Where one node stands in a rollout.
    pub fn phase(&self, rollout: &str, node: &str) -> Result<NodeLine> {
        let lines = self.status(rollout)?;
        let line = lines.into_iter().find(|line| line.node == node);
        line.ok_or_else(|| LabError::Setup(format!("{node} is not in {rollout}")))
    }

    /// A node's Reason, without who set it.
    pub fn reason(&self, node: &str) -> Result<String> {
        let text = self.cluster.scontrol(&["show", "node", "-o", node])?;
        let reason = text.split_once(" Reason=").map_or("", |(_, rest)| rest);
        Ok(reason.split(" [").next().unwrap_or("").trim().to_owned())
    }

    /// Waits until nodes are IDLE and nothing else.
    pub fn wait_idle(&self, nodes: &[&str], limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        for node in nodes {
            let left = end.saturating_duration_since(Instant::now());
            self.cluster.wait_state(node, |state| state == "IDLE", left)?;
        }
        Ok(())
    }
}

/// Asks until it is so; an error says what was seen last.
pub fn until<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> Result<T>,
    so: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let seen = ask();
        match seen {
            Ok(seen) if so(&seen) => return Ok(seen),
            _ if Instant::now() > end => {
                return Err(LabError::Timeout {
                    what: what.to_owned(),
                    after: limit,
                    seen: format!("{seen:?}"),
                });
            }
            _ => std::thread::sleep(POLL),
        }
    }
}
