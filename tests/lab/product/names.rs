//! Packages, units and paths of the product, as its packages install them.

/// Package for a controller.
pub const CONTROLLER_PACKAGE: &str = "slurm-rollout";
/// Package for a compute node.
pub const AGENT_PACKAGE: &str = "slurm-rollout-agent";

/// RebootProgram on a controller.
pub const REBOOT_PROGRAM: &str = "/usr/libexec/slurm-rollout/reboot-program";
/// RebootProgram on a node, for slurmd.
pub const REBOOT_NODE: &str = "/usr/libexec/slurm-rollout/reboot-node";
/// State directory of a controller.
pub const CONTROLLER_STATE_DIR: &str = "/var/lib/slurm-rollout";
/// Timer that runs `slurm-rollout reconcile`.
pub const RECONCILE_TIMER: &str = "slurm-rollout-reconcile.timer";

/// Program of the agent.
pub const AGENT_PATH: &str = "/usr/sbin/slurm-rollout-agent";
/// Copy of the agent that took an order which changes packages.
pub const RESCUE_PATH: &str = "/usr/libexec/slurm-rollout/rescue-agent";
/// Unit of the agent.
pub const AGENT_UNIT: &str = "slurm-rollout-agent.service";
/// Unit that watches an agent with an unsettled order.
pub const RESCUE_UNIT: &str = "slurm-rollout-rescue.service";
/// Unit that keeps slurmd down.
pub const GATE_UNIT: &str = "slurm-rollout-gate.service";
/// State directory of a node.
pub const NODE_STATE_DIR: &str = "/var/lib/slurm-rollout-agent";
/// Ledger of an unsettled order.
pub const ORDER_FILE: &str = "/var/lib/slurm-rollout-agent/order.json";
/// Ledger of the last settled order.
pub const LAST_FILE: &str = "/var/lib/slurm-rollout-agent/last.json";

/// File that names the failpoint at which an agent built with failpoints waits.
pub const FAILPOINT: &str = "/var/lib/slurm-rollout-agent/failpoint";
/// File that such an agent makes when it has reached the failpoint.
pub const AT_FAILPOINT: &str = "/run/slurm-rollout/at-failpoint";
