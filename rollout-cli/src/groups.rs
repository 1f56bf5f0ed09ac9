//! Groups of nodes, for node sets such as `@gpu` and `@partition:main`: those of ClusterShell's configuration, and
//! those that Slurm's partitions, features and states make. Nothing is read before an expression names a group.
//!
//! Only the configuration of the host is read, not that of a user: a manifest means the same for everybody. A source
//! that ClusterShell's configuration has is taken from there, so that `nodeset -e` and `slurm-rollout` agree.

pub mod command;
pub mod conf;
pub mod flat;
mod sources;
pub mod yaml;

use rollout_control::config::Config;
use rollout_core::hostlist::NodeSet;
use rollout_core::nodeset::{Definition, Expression, GroupError, Groups, NodesetError};
use rollout_core::slurm::groups::NodeProperty;
use rollout_core::slurm::node::NodeInfo;
use sources::{Place, Sources};
use std::cell::OnceCell;

/// The groups of this site.
#[derive(Debug)]
pub struct SiteGroups<'a> {
    config: &'a Config,
    clustershell: OnceCell<Result<Sources, GroupError>>,
    slurm: OnceCell<Result<Vec<NodeInfo>, GroupError>>,
}

/// A node set that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    #[error(transparent)]
    Nodeset(#[from] NodesetError),
    #[error("{0:?} stands for no node at present")]
    NoNode(String),
}

impl<'a> SiteGroups<'a> {
    /// Returns the groups that the configuration gives access to.
    #[must_use]
    pub fn new(config: &'a Config) -> Self {
        Self { config, clustershell: OnceCell::new(), slurm: OnceCell::new() }
    }

    /// Returns the nodes of a hostlist or node set. There is at least one.
    ///
    /// # Errors
    /// If it is neither, names an unknown group or stands for no node.
    pub fn resolve(&self, text: &str) -> Result<NodeSet, ResolveError> {
        let nodes = Expression::parse(text)?.evaluate(self)?;
        if nodes.is_empty() { Err(ResolveError::NoNode(text.to_owned())) } else { Ok(nodes) }
    }

    fn clustershell(&self) -> Result<&Sources, GroupError> {
        let sources = self.clustershell.get_or_init(|| Sources::read(&self.config.clustershell_dir));
        sources.as_ref().map_err(GroupError::clone)
    }

    fn slurm(&self) -> Result<&[NodeInfo], GroupError> {
        let ask = || {
            let asked = self.config.scontrol().show_all_nodes();
            asked.map_err(|error| GroupError(format!("Slurm was not asked: {error}")))
        };
        self.slurm.get_or_init(ask).as_ref().map(Vec::as_slice).map_err(GroupError::clone)
    }

    /// Returns the place of programs that sources run.
    fn place(&self) -> Place<'_> {
        let inherited = || std::env::var_os("SLURM_CONF").map(Into::into);
        Place {
            slurm_bin: self.config.scontrol.parent(),
            slurm_conf: self.config.slurm_conf.clone().or_else(inherited),
        }
    }
}

impl Groups for SiteGroups<'_> {
    fn default_source(&self) -> Result<String, GroupError> {
        let clustershell = self.clustershell()?;
        clustershell.default_source().map(str::to_owned).ok_or_else(|| {
            GroupError(format!(
                "there is no default source of groups in {}; Slurm's groups are @partition:NAME, @feature:NAME and \
                 @state:NAME",
                self.config.clustershell_dir.display()
            ))
        })
    }

    fn group(&self, source: &str, group: &str) -> Result<Definition, GroupError> {
        let clustershell = self.clustershell()?;
        if let Some(found) = clustershell.get(source) {
            return found.group(group, &self.place());
        }
        let property = NodeProperty::of_source(source).ok_or_else(|| clustershell.no_source())?;
        property.nodes(group, self.slurm()?).map(Definition::Nodes).map_err(GroupError)
    }

    fn all(&self, source: &str) -> Result<Vec<Definition>, GroupError> {
        let clustershell = self.clustershell()?;
        if let Some(found) = clustershell.get(source) {
            return found.all(&self.place());
        }
        let property = NodeProperty::of_source(source).ok_or_else(|| clustershell.no_source())?;
        Ok(vec![Definition::Nodes(property.all(self.slurm()?))])
    }
}
