//! What is shown on real clusters, a file for each subject. One program of all of them: so all clusters are busy until the
//! end, and packages are built once. What needs the machine for itself has a program of its own beside this directory.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod agent_update;
mod boot_services;
mod clusters;
mod crash;
mod diskless;
mod doctor;
mod drains;
mod failure;
mod gate;
mod hand_over;
mod hostlist;
mod install;
mod install_page;
mod install_while_ordered;
mod late;
mod node_faults;
mod orders;
mod ostree;
mod package_failures;
mod package_files;
mod package_managers;
mod packages;
mod reboot_program;
mod reconcile;
mod rollout;
mod security_page;
mod slurm_conf;
mod undo;
mod ways;
