//! Processes of the lab: how they are started, and the namespaces and control groups they live in.

pub(crate) mod cgroup;
pub(crate) mod namespaces;
pub(crate) mod run;
