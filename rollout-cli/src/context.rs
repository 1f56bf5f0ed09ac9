//! Shared by all verbs: configuration, the state directory, and errors of one line.

use nix::unistd::{User, geteuid, gethostname};
use rollout_cli::args::Args;
use rollout_control::config::Config;
use rollout_control::store::{Rollout, Store};
use rollout_core::hostlist::NodeSet;
use std::os::unix::fs::MetadataExt;

/// The error of a verb, for people.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Configuration and state directory of this invocation.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// True for root and for SlurmUser, who owns the state directory.
    pub(crate) may_write: bool,
}

impl Context {
    pub(crate) fn new(args: &Args) -> Result<Self, Failure> {
        let config = Config::load(&args.config)?;
        let owner = std::fs::metadata(&config.state_dir).map(|dir| dir.uid());
        let may_write = geteuid().is_root() || owner.is_ok_and(|owner| owner == geteuid().as_raw());
        let store = if may_write {
            Store::open(&config.state_dir, &who())?
        } else {
            Store::read_only(&config.state_dir)
        };
        Ok(Self { config, store, may_write })
    }

    /// Loads the rollout with this id or name.
    pub(crate) fn rollout(&self, name: &str) -> Result<Rollout, Failure> {
        Ok(self.store.load(&self.store.find(name)?)?)
    }

    pub(crate) fn must_write(&self) -> Result<(), Failure> {
        if self.may_write {
            return Ok(());
        }
        Err(Failure(format!(
            "{}: only root and its owner, SlurmUser, may write there",
            self.config.state_dir.display()
        )))
    }
}

/// Parses a hostlist from the command line.
pub(crate) fn nodes(list: &str) -> Result<NodeSet, Failure> {
    NodeSet::parse(list).map_err(|error| Failure(format!("{list:?} is no hostlist: {error}")))
}

/// Returns the author of journal lines: the person behind sudo if there is one, else the user, with the host.
pub(crate) fn who() -> String {
    let user = || User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    let person = std::env::var("SUDO_USER").ok().or_else(user).unwrap_or_else(|| geteuid().to_string());
    let host = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{person}@{host}")
}
