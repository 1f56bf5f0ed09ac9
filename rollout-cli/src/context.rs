//! The common ground of all verbs: configuration, the state directory and the role of this host.

use crate::failure::Failure;
use crate::host::{self, Host};
use nix::unistd::{User, geteuid};
use rollout_cli::args::Args;
use rollout_cli::groups::SiteGroups;
use rollout_control::agents::ask_all::Limits;
use rollout_control::config::Config;
use rollout_control::store::{Rollout, StoreReader, StoreWriter};
use rollout_control::survey::survey;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::controllers::HostRole;
use std::cell::OnceCell;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Time limits for one agent, and for all of them together. A node that reboots answers nothing, and a person waits.
const AGENT_LIMIT: Duration = Duration::from_millis(1500);
const ALL_LIMIT: Duration = Duration::from_secs(6);

/// Time limit for Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// The common ground of all verbs.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) config_path: PathBuf,
    pub(crate) store: StoreReader,
    host: OnceCell<Host>,
}

impl Context {
    pub(crate) fn new(args: &Args) -> Result<Self, Failure> {
        let config = Config::load(&args.config)?;
        let store = StoreReader::new(&config.state_dir);
        Ok(Self { config, config_path: args.config.clone(), store, host: OnceCell::new() })
    }

    /// Returns the rollout of this id or name.
    pub(crate) fn rollout(&self, name: &str) -> Result<Rollout, Failure> {
        Ok(self.store.rollout(&self.store.find(name)?)?)
    }

    /// Returns the nodes of a hostlist or node set from the command line.
    ///
    /// Before root writes the state directory: from then on it reads files as SlurmUser.
    pub(crate) fn nodes(&self, text: &str) -> Result<NodeSet, Failure> {
        nodes(&self.config, text)
    }

    /// Returns this host and its role, for which Slurm is asked once.
    pub(crate) fn host(&self) -> &Host {
        self.host.get_or_init(|| Host::ask(&self.config, &self.store))
    }

    /// Opens the state directory for writing, if a controller uses it. Only root and SlurmUser, who owns it, may.
    pub(crate) fn writer(&self) -> Result<StoreWriter, Failure> {
        let dir = &self.config.state_dir;
        if !self.is_root_or_slurm_user() {
            let dir = dir.display();
            return Err(Failure(format!("{dir}: only root and its owner, SlurmUser, may write there")));
        }
        self.host().check_state_directory(dir)?;
        let store = StoreWriter::open(dir, &who())?;
        if let (HostRole::Controller, Ok(controllers)) = (&self.host().role, &self.host().controllers) {
            store.learn_controllers(controllers)?;
        }
        Ok(store)
    }

    /// Returns whether this is root or SlurmUser, who owns the state directory: agents take orders of no other user.
    pub(crate) fn is_root_or_slurm_user(&self) -> bool {
        let owner = std::fs::metadata(&self.config.state_dir).map(|dir| dir.uid());
        geteuid().is_root() || owner.ok() == Some(geteuid().as_raw())
    }

    /// Asks Slurm and the agents about nodes. Without Slurm, the addresses that it gave last have to do.
    pub(crate) fn survey(&self, snapshot: Snapshot, nodes: &NodeSet) -> View {
        self.survey_of(snapshot, nodes, nodes)
    }

    /// The same, and asks the agents of only some of the nodes.
    pub(crate) fn survey_of(&self, snapshot: Snapshot, nodes: &NodeSet, with_agents: &NodeSet) -> View {
        let asked = self.config.scontrol().within(SLURM_LIMIT).show_nodes(nodes);
        let slurm = asked.unwrap_or_else(|error| {
            eprintln!("slurm-rollout: warning: Slurm was not asked: {error}");
            Vec::new()
        });
        survey(&self.config, snapshot, with_agents, slurm, limits())
    }
}

/// Returns the time limits for asking agents while a person waits.
pub(crate) fn limits() -> Limits {
    Limits::new(AGENT_LIMIT, ALL_LIMIT)
}

/// Warns of rollouts that cannot be read.
pub(crate) fn warn_of_unreadable(snapshot: &Snapshot) {
    for rollout in &snapshot.unreadable {
        eprintln!("slurm-rollout: warning: {}: left out: {}", rollout.id, rollout.error);
    }
    for rollout in &snapshot.rollouts {
        if let Err(error) = &rollout.manifest {
            eprintln!("slurm-rollout: warning: {}: {error}", rollout.id);
        }
    }
}

/// Returns the nodes of a hostlist or node set from the command line.
pub(crate) fn nodes(config: &Config, text: &str) -> Result<NodeSet, Failure> {
    SiteGroups::new(config)
        .resolve(text)
        .map_err(|error| Failure(format!("{text:?} is neither a hostlist nor a node set: {error}")))
}

/// Returns the name of the writer in journals: the person behind sudo, if there is one.
pub(crate) fn who() -> String {
    let user = || User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    let person = std::env::var("SUDO_USER").ok().or_else(user).unwrap_or_else(|| geteuid().to_string());
    format!("{person}@{}", host::name())
}
