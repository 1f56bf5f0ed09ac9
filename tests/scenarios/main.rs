//! Scenarios on real clusters, one file for each subject. All are one program, so that its clusters keep the machine
//! busy until the end and packages are built once. Tests that need the machine for themselves are programs of their
//! own, in `tests/alone`.
//!
//! Tests begin in the order of their names. Most of those that need packages of a second version come late: until these
//! are built, other tests use the time.
//!
//! A cluster takes long to boot. A test that checks several things on one cluster checks them as cases, see
//! [`cases::in_cases`]: a case runs even if one before it has failed, and all failures are reported at the end.
//!
//! A wait for one thing proves nothing about a second one that is set later: the Reason after the phase, the journal
//! after the exit code, a file after the state in Slurm. Wait for each, with the `wait_…` functions of [`Site`] and
//! [`Node`], or with [`until`].
//!
//! [`Site`]: rollout_lab::Site
//! [`Node`]: rollout_lab::Node
//! [`until`]: rollout_lab::until

// A test may panic.
#![allow(clippy::unwrap_used)]

mod apply;
mod boot_services;
mod cases;
mod clusters;
mod command;
mod configless;
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
mod lost;
mod model;
mod node_faults;
mod order_key;
mod orders;
mod ostree;
mod other_hosts;
mod package_failures;
mod package_files;
mod package_managers;
mod packages;
mod prelude;
mod reboot_program;
mod reconcile;
mod rehearse;
mod rollout;
mod security_page;
mod slurm_conf;
mod started;
mod undo;
mod untidy;
mod updates_of_agents;
mod ways;
