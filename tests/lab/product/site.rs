//! A cluster with slurm-rollout installed, and an admin's work on it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cluster::{Cluster, ClusterSpec};
use crate::error::{LabError, Result};
use crate::packages::format::Format;
use crate::packages::package::Package;
use crate::packages::rpm_repository::RpmRepository;
use crate::processes::run::Output;
use crate::product::{Product, called_by_slurmctld};
use crate::systems::inside::NodeRoot;
use crate::systems::layer::Preinstalled;
use crate::wait::{MINUTES, until};

/// State of a node of [`Site::with_tool`] before a rollout, as [`Site::tool`] returns it.
pub const OLD_TOOL: &str = "/opt/app/1 1.0";
/// State of such a node after [`crate::Manifest::tool`] 1.1.
pub const NEW_TOOL: &str = "/opt/app/2 1.1";

/// A cluster with slurm-rollout installed.
#[derive(Debug)]
pub struct Site {
    pub cluster: Cluster,
}

/// A node in `slurm-rollout status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeLine {
    pub node: String,
    pub rollout: String,
    pub phase: String,
    pub slurm_state: Option<String>,
    /// Note for the admin.
    pub note: Option<String>,
}

impl Site {
    /// Boots a cluster with the product installed and returns when all nodes are IDLE.
    pub fn start(product: &Product, spec: ClusterSpec) -> Result<Site> {
        Ok(Site { cluster: Cluster::start(&product.install(spec))? })
    }

    /// Boots a cluster that never had the product, on which packages of this format can be installed; its slurm.conf
    /// names RebootProgram already.
    pub fn without_packages(spec: ClusterSpec, format: Format) -> Result<Site> {
        let none = Preinstalled { format, files: Vec::new() };
        let (controller_packages, node_packages) = (none.clone(), none);
        let spec = ClusterSpec { controller_packages, node_packages, ..called_by_slurmctld(spec) };
        Ok(Site { cluster: Cluster::start(&spec)? })
    }

    /// The same with the RPM `tool` 1.0 installed on all nodes, 1.1 in their repository, and a link
    /// `/opt/app/current` to `/opt/app/1`.
    pub fn with_tool(product: &Product, spec: ClusterSpec) -> Result<Site> {
        let tool = |version: &str| {
            Package::new("tool", version).file("/usr/share/tool/version", &format!("{version}\n"), 0o644)
        };
        let repository = RpmRepository::build(&[tool("1.0"), tool("1.1")])?;
        let before = spec.prepare.clone();
        let prepare = move |root: &NodeRoot| {
            if !root.is_controller() {
                repository.install_in(root)?;
                root.run(&["dnf", "-y", "install", "tool-1.0"])?;
                root.run(&["mkdir", "-p", "/opt/app/1", "/opt/app/2"])?;
                root.run(&["ln", "-s", "/opt/app/1", "/opt/app/current"])?;
            }
            before.as_ref().map_or(Ok(()), |before| before(root))
        };
        Site::start(product, ClusterSpec { prepare: Some(Arc::new(prepare)), ..spec })
    }

    /// Returns the version with which a node's agent answers.
    pub fn agent_version(&self, node: &str) -> Result<String> {
        let status = self.cluster.node(node).run(&["slurm-rollout-agent", "status"])?;
        let parsed: serde_json::Value = serde_json::from_str(&status)
            .map_err(|error| LabError::Setup(format!("{node}: status: {error}: {status}")))?;
        Ok(parsed["version"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the state of a node of [`Site::with_tool`]: the link's target and the package's version, such as
    /// [`OLD_TOOL`].
    pub fn tool(&self, node: &str) -> Result<String> {
        let node = self.cluster.node(node);
        let link = node.run(&["readlink", "/opt/app/current"])?;
        let version = node.run(&["rpm", "-q", "--qf", "%{VERSION} ", "tool"])?;
        Ok(format!("{} {}", link.trim(), version.trim()))
    }

    /// Runs `slurm-rollout` on the controller that has power, as root.
    pub fn rollout(&self, args: &[&str]) -> Result<Output> {
        let argv: Vec<&str> = std::iter::once("slurm-rollout").chain(args.iter().copied()).collect();
        self.cluster.active_controller().exec(&argv)
    }

    /// Stages a manifest and returns what `stage` printed.
    pub fn stage(&self, manifest: impl Display) -> Result<String> {
        self.cluster.active_controller().write_file("/root/rollout.toml", manifest.to_string(), 0o644)?;
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

    /// Returns the status of one node in a rollout.
    pub fn phase(&self, rollout: &str, node: &str) -> Result<NodeLine> {
        let lines = self.status(rollout)?;
        let line = lines.into_iter().find(|line| line.node == node);
        line.ok_or_else(|| LabError::Setup(format!("{node} is not in {rollout}")))
    }

    /// Returns the complete lines of a rollout's journal, as JSON. `reconcile` may close the rollout meanwhile.
    pub fn journal(&self, rollout: &str) -> Result<Vec<serde_json::Value>> {
        let (open, closed) = (format!("rollouts/{rollout}/journal"), format!("closed/{rollout}/journal"));
        let script = format!("cd /var/lib/slurm-rollout; cat {open} 2>/dev/null || cat {closed}");
        let text = self.cluster.active_controller().run(&["sh", "-c", &script])?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns a node's Reason, without its author.
    pub fn reason(&self, node: &str) -> Result<String> {
        let text = self.cluster.scontrol(&["show", "node", "-o", node])?;
        let reason = text.split_once(" Reason=").map_or("", |(_, rest)| rest);
        Ok(reason.split(" [").next().unwrap_or("").trim().to_owned())
    }

    /// `scontrol reconfigure`; returns when slurmctld answers again. From 23.11 on it is a new process.
    pub fn reconfigure(&self) -> Result<()> {
        self.cluster.scontrol(&["reconfigure"])?;
        let ping = || self.cluster.active_controller().exec(&["scontrol", "ping"]);
        until("slurmctld after a reconfigure", MINUTES, ping, |said| said.stdout.contains("is UP")).map(drop)
    }

    /// Waits until a node of a rollout is in this phase and returns its note. The Reason is set after the phase: see
    /// [`Site::wait_reason`].
    pub fn wait_phase(&self, rollout: &str, node: &str, phase: &str) -> Result<String> {
        let what = format!("{phase} of {node} in {rollout}");
        let line = until(&what, MINUTES, || self.phase(rollout, node), |line| line.phase == phase)?;
        Ok(line.note.unwrap_or_default())
    }

    /// Waits until a rollout has come to an end on a node, which must be this phase, and returns the note.
    pub fn wait_end(&self, rollout: &str, node: &str, phase: &str) -> Result<String> {
        let has_ended = |line: &NodeLine| ["updated", "rolled-back", "held"].contains(&line.phase.as_str());
        let what = format!("the end of {rollout} on {node}");
        let line = until(&what, MINUTES, || self.phase(rollout, node), has_ended)?;
        if line.phase != phase {
            let journal = self.cluster.node(node).journal("slurm-rollout-*").unwrap_or_default();
            return Err(LabError::Setup(format!("not {phase}: {line:?}\n{journal}")));
        }
        Ok(line.note.unwrap_or_default())
    }

    /// Waits until a node's Reason has these words and returns it.
    pub fn wait_reason(&self, node: &str, words: &str) -> Result<String> {
        let what = format!("a Reason of {node} with {words:?}");
        until(&what, MINUTES, || self.reason(node), |reason| reason.contains(words))
    }

    /// Waits until a node's agent answers with this version.
    pub fn wait_agent_version(&self, node: &str, version: &str) -> Result<()> {
        let what = format!("agent {version} on {node}");
        until(&what, MINUTES, || self.agent_version(node), |answer| answer == version).map(drop)
    }

    /// Has Slurm reboot a node and waits until it is IDLE again.
    pub fn reboot_to_idle(&self, node: &str) -> Result<()> {
        let machine = self.cluster.node(node);
        let boots = machine.boot_count();
        self.reboot(node)?;
        machine.wait_boots(boots + 1, MINUTES)?;
        self.wait_idle(&[node], MINUTES)
    }

    /// Waits until nodes are IDLE without any flag.
    pub fn wait_idle(&self, nodes: &[&str], limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        for node in nodes {
            let left = end.saturating_duration_since(Instant::now());
            self.cluster.wait_state(node, |state| state == "IDLE", left)?;
        }
        Ok(())
    }
}
