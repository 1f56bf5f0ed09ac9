//! The lab: a real Slurm cluster on one machine.
//!
//! A node is a systemd container that truly boots, runs munge and slurmd as units, and truly reboots; a power cut
//! kills it at once. All processes, mounts, bridges and addresses of a cluster live in namespaces of its own, which
//! end with the process that holds the [`Cluster`]: clusters run side by side with the same names and addresses, and
//! a killed test leaves nothing behind.
//!
//! The product is installed from its packages, which are built as a site builds them: once for a base, as one more
//! layer below every node's root.
//!
//! Needs root, Linux, and from the host `debootstrap`, `systemd-nspawn`, `ip`, `unshare` and `nsenter`. Everything is
//! kept below `ROLLOUT_LAB_DIR` (`/var/cache/slurm-rollout-lab`); with `LAB_KEEP=1` a cluster's files stay there to
//! be looked at. With `ROLLOUT_LAB_OLD_PACKAGES=1` the packages of the last run are used as they are, which is enough
//! while only tests change.

// The two bans of clippy.toml are for the product: here run.rs starts the processes, and no file must survive a power
// cut.
#![allow(clippy::disallowed_methods)]

mod cluster;
mod error;
mod load;
mod packages;
mod processes;
mod product;
mod slurm;
mod state_dir;
mod systems;
mod virtual_machine;
mod wait;

pub use cluster::network::NodeAddr;
pub use cluster::node::Node;
pub use cluster::{Cluster, ClusterSpec, File, Prepare};
pub use error::{LabError, Result};
pub use load::flood::Flood;
pub use load::many_agents::ManyAgents;
pub use load::many_nodes::{Crowd, ManyNodes};
pub use packages::deb_repository::DebRepository;
pub use packages::format::Format;
pub use packages::package::{Package, Scriptlet};
pub use packages::repacked::Repacked;
pub use packages::rpm_repository::RpmRepository;
pub use packages::signing_key::SigningKey;
pub use processes::run::{Background, Command, Output};
pub use product::built_packages::BuiltPackages;
pub use product::job::Job;
pub use product::manifest::Manifest;
pub use product::names::{
    AGENT_PACKAGE, AGENT_PATH, AGENT_UNIT, AT_FAILPOINT, CONTROLLER_PACKAGE, CONTROLLER_STATE_DIR, FAILPOINT,
    GATE_UNIT, LAST_FILE, NODE_STATE_DIR, ORDER_FILE, REBOOT_NODE, REBOOT_PROGRAM, RECONCILE_TIMER,
    RESCUE_PATH, RESCUE_UNIT,
};
pub use product::page::{Block, Use, blocks};
pub use product::site::{NEW_TOOL, NodeLine, OLD_TOOL, Site};
pub use product::{Product, workspace};
pub use slurm::node_state::state_of;
pub use systems::base::Base;
pub use systems::inside::NodeRoot;
pub use systems::layer::Preinstalled;
pub use systems::netboot::{BOOT_DIRECTORY, NetImage};
pub use systems::untidy::{AUTOMOUNT, UPDATE_AT_BOOT, make_untidy, make_untidy_controller};
pub use virtual_machine::{BootLoader, VirtualMachine};
pub use wait::{MINUTES, until};
