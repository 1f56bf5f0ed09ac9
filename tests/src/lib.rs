//! The lab: a real Slurm cluster on one machine, for tests that want the real thing.
//!
//! A node is a systemd container that truly boots, runs munge and slurmd as units, and truly reboots; a power cut kills it
//! as a power cut would. All processes, mounts, bridges and addresses of a cluster live in namespaces of the cluster's own,
//! which end with the process that holds the [`Cluster`]: clusters run side by side with the same names and addresses, and
//! nothing is left behind by a test that was killed.
//!
//! The product is installed from its packages, which are built as a site builds them: once for a base, as one more layer below
//! every node's root.
//!
//! Needs root, Linux, and from the host `debootstrap`, `systemd-nspawn`, `ip`, `unshare` and `nsenter`. Everything is kept
//! below `ROLLOUT_LAB_DIR` (`/var/cache/slurm-rollout-lab`); with `LAB_KEEP=1` a cluster's files stay there to be looked at.
//! With `ROLLOUT_LAB_OLD_PACKAGES=1` the packages of the last run are taken as they are: while only tests are edited.

// The two bans of clippy.toml are for the product: here run.rs starts the processes, and no file must survive a power cut.
#![allow(clippy::disallowed_methods)]

mod base;
mod built_packages;
mod cgroup;
mod cluster;
mod deb_repository;
mod error;
mod flood;
mod format;
mod inside;
mod job;
mod layer;
mod machine;
mod many_agents;
mod many_nodes;
mod namespaces;
mod netboot;
mod network;
mod node;
mod node_state;
mod package;
mod page;
mod product;
mod repacked;
mod rpm_repository;
mod run;
mod site;
mod slurm_conf;
mod state_dir;
mod virtual_machine;

pub use base::Base;
pub use built_packages::BuiltPackages;
pub use cluster::{Cluster, ClusterSpec, File, Prepare};
pub use deb_repository::DebRepository;
pub use error::{LabError, Result};
pub use flood::Flood;
pub use format::Format;
pub use inside::NodeRoot;
pub use job::Job;
pub use layer::Preinstalled;
pub use many_agents::ManyAgents;
pub use many_nodes::{Crowd, ManyNodes};
pub use netboot::{BOOT_DIRECTORY, NetImage};
pub use network::NodeAddr;
pub use node::Node;
pub use node_state::state_of;
pub use package::{Package, Scriptlet};
pub use page::{Block, Use, blocks};
pub use product::{AGENT, AT_FAILPOINT, CONTROLLER, FAILPOINT, Product, REBOOT_PROGRAM, workspace};
pub use repacked::Repacked;
pub use rpm_repository::RpmRepository;
pub use run::{Background, Command, Output};
pub use site::{NodeLine, Site, TOOL_1_1, until};
pub use virtual_machine::{BootLoader, VirtualMachine};
