//! Runs the doctor of the agent, if this host is a node.

use nix::unistd::geteuid;
use rollout_core::doctor::{Finding, Report};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::run::{Program, is_program};
use std::path::Path;
use std::time::Duration;

const AGENT: &str = "/usr/sbin/slurm-rollout-agent";
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the findings of `slurm-rollout-agent doctor`, if it is installed here and Slurm has this host as a node.
pub(super) fn agent(nodes: &[NodeInfo]) -> Vec<Finding> {
    let host = super::short_host_name();
    let is_node = nodes.is_empty() || nodes.iter().any(|node| node.name == host || node.host == host);
    if !is_program(Path::new(AGENT)) || !is_node {
        return Vec::new();
    }
    const CHECK: &str = "node";
    if !geteuid().is_root() {
        let what = "what `slurm-rollout-agent doctor` finds on this node was left out: it is for root";
        return vec![Finding::warning(CHECK, what).cured_by("run `slurm-rollout doctor` as root")];
    }
    let output = match Program::new(AGENT, LIMIT).args(["doctor", "--json"]).output() {
        Ok(output) => output,
        Err(error) => return vec![Finding::problem(CHECK, error.to_string())],
    };
    match serde_json::from_str::<Report>(&output.stdout) {
        Ok(report) => report.findings.into_iter().map(named).collect(),
        // An older agent has no doctor.
        Err(_) => vec![
            Finding::warning(CHECK, format!("{AGENT} doctor {}: {}", output.status, output.stderr.trim()))
                .cured_by("update slurm-rollout-agent on this host"),
        ],
    }
}

fn named(finding: Finding) -> Finding {
    Finding { check: format!("node {}", finding.check), ..finding }
}
