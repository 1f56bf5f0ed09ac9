//! The verbs, one file each.

pub(crate) mod approve;
pub(crate) mod archive;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod freeze;
pub(crate) mod history;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod power;
pub(crate) mod reconcile;
pub(crate) mod rehearse;
pub(crate) mod release;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod show;
pub(crate) mod stage;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod thaw;
pub(crate) mod undo;
pub(crate) mod unstage;
pub(crate) mod why;
