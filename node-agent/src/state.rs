//! The agent's files.

pub(crate) mod ledger_file;
pub(crate) mod staged_file;
