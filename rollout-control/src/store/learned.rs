//! Facts learned from Slurm, for the time when it cannot be asked or no longer shows them: addresses, drains and
//! the hosts of slurmctld.

use super::{MODE, StoreError, StoreWriter};
use rollout_core::slurm::controllers::ControllerHosts;
use rollout_core::slurm::drains::{
    CuredByReboot, Drain, Drains, Requested, observe, observe_left_by_reboots,
};
use rollout_core::slurm::jobs::UsedLimits;
use rollout_core::slurm::node::NodeInfo;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

impl StoreWriter {
    /// Keeps the addresses that Slurm reports now. If others are writing, this is left to the next time: the addresses
    /// only save asking, and many invocations of RebootProgram at once need the lock for their nodes.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn learn_addresses(&self, nodes: &[NodeInfo]) -> Result<(), StoreError> {
        let known = self.addresses();
        if nodes.iter().all(|node| known.has(node)) {
            return Ok(());
        }
        let lock = match self.lock_within(Duration::ZERO) {
            Err(StoreError::Locked { .. }) => return Ok(()),
            lock => lock?,
        };
        let mut known = self.addresses();
        known.learn(nodes);
        lock.replace_json(&self.addresses_path(), &known, MODE)
    }

    /// Keeps the hosts of slurmctld. Only a controller records them: they mark the directory as that of a controller.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn learn_controllers(&self, hosts: &ControllerHosts) -> Result<(), StoreError> {
        if self.controllers() == *hosts {
            return Ok(());
        }
        self.lock()?.replace_json(&self.controllers_path(), hosts, MODE)
    }

    /// Keeps the drains that Slurm shows on these nodes, as far as others set them, and which nodes have a DRAIN of a
    /// reboot. `before` are the drains that were known before Slurm was asked.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn learn_drains(
        &self,
        nodes: &[NodeInfo],
        before: &Drains,
        cured: &CuredByReboot<'_>,
    ) -> Result<(), StoreError> {
        let ids = self.open_ids()?;
        let is_named =
            |node: &NodeInfo| node.has("DRAIN") && node.reason.as_ref().is_some_and(|id| ids.contains(id));
        // Only a Reason that equals the name of a rollout needs its journal.
        let requested =
            if nodes.iter().any(is_named) { self.snapshot()?.requested() } else { Requested::new() };
        let asked: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let drains = |known: &Drains| {
            let mut next = observe(known, nodes, &requested, cured);
            // RebootProgram may have found a drain meanwhile that was set after Slurm's answer.
            let is_newer = |name: &str, drain: &Drain| before.get(name) != Some(drain);
            let kept =
                known.iter().filter(|(name, drain)| !asked.contains(name.as_str()) || is_newer(name, drain));
            next.extend(kept.map(|(name, drain)| (name.clone(), drain.clone())));
            next
        };
        let left = |known: &BTreeSet<String>| {
            let mut next = known.clone();
            next.retain(|name| !asked.contains(name.as_str()));
            next.extend(observe_left_by_reboots(known, nodes, &requested));
            next
        };
        self.update(&self.drains_path(), || self.drains(), drains)?;
        self.update(&self.left_by_reboots_path(), || self.left_by_reboots(), left)
    }

    /// Keeps the parts of their time limits that jobs used. Only one executor looks at jobs.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn learn_used_limits(&self, used: &UsedLimits) -> Result<(), StoreError> {
        self.lock()?.replace_json(&self.used_limits_path(), used, MODE)
    }

    /// Adds drains that were found when their nodes were handed over.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn add_drains(&self, found: &Drains) -> Result<(), StoreError> {
        let add = |known: &Drains| known.clone().into_iter().chain(found.clone()).collect();
        self.update(&self.drains_path(), || self.drains(), add)
    }

    /// Replaces a file if its content changes. It is read once more under the lock.
    fn update<T: PartialEq + Serialize>(
        &self,
        path: &Path,
        read: impl Fn() -> T,
        next: impl Fn(&T) -> T,
    ) -> Result<(), StoreError> {
        let known = read();
        if next(&known) == known {
            return Ok(());
        }
        let lock = self.lock()?;
        lock.replace_json(path, &next(&read()), MODE)
    }
}
