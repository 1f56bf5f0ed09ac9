//! Builders of views and their parts for tests. Node `n1`, orders numbered from 1, everything about the order at 100 s.

use super::snapshot::{RolloutState, Snapshot};
use super::view::View;
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::answer::{AgentStatus, OrderStatus};
use crate::protocol::order::OrderId;
use crate::rollout::image::Running;
use crate::rollout::journal::{BootChange, Booted, Conduct, NodeRecord, NodeRecords, Progress, Restoration};
use crate::rollout::manifest::Manifest;
use crate::slurm::node::NodeInfo;

/// Time of the boot source's change and of the order, in milliseconds.
pub(crate) const ORDERED_MS: u64 = 100_000;

/// Boot id when the boot source was changed.
pub(crate) const OLD_BOOT: &str = "boot-1";

/// Boot id after the next boot.
pub(crate) const NEW_BOOT: &str = "boot-2";

/// An image that the controller gives to nodes, which may take a minute to boot it.
pub(crate) const IMAGE: &str = "
[[change]]
kind = 'image'
via = 'boot-file'
image = 'compute'
version = '2'
boot_timeout = '60s'
";

/// A change that agents make by themselves.
pub(crate) const LINK: &str = "
[[change]]
kind = 'symlink'
path = '/opt/slurm'
target = '/opt/slurm-25'
";

/// A boot source in tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Not changed.
    Unchanged,
    Changed,
    /// Being changed, until 200 s.
    Claimed,
    /// Being restored, until 200 s.
    Restoring,
    /// Restored at 120 s.
    Restored,
}

impl Boot {
    pub(crate) const ALL: [Self; 5] =
        [Self::Unchanged, Self::Changed, Self::Claimed, Self::Restoring, Self::Restored];
}

pub(crate) fn id(number: u128) -> OrderId {
    OrderId::from_random(number)
}

pub(crate) fn nodes(list: &str) -> NodeSet {
    NodeSet::parse(list).unwrap()
}

pub(crate) fn running(version: &str) -> Running {
    Running { image: Some("compute".into()), version: Some(version.into()), ..Running::default() }
}

/// Returns a manifest for n1 with these changes.
pub(crate) fn manifest(changes: &str) -> Manifest {
    Manifest::parse(&format!("name = 'driver'\nnodes = 'n1'\n{changes}")).unwrap()
}

/// Returns the record of a node staged at 50 s, with order 1 if its progress has one.
pub(crate) fn record(progress: Progress) -> NodeRecord {
    let order = (progress != Progress::Staged).then(|| id(1));
    let ordering_ms = order.as_ref().map(|_| ORDERED_MS - 1000);
    NodeRecord { staged_ms: Some(50_000), order, ordering_ms, ..NodeRecord::new(progress, ORDERED_MS) }
}

impl NodeRecord {
    pub(crate) fn with_boot(self, boot: Boot) -> Self {
        if boot == Boot::Unchanged {
            return self;
        }
        let restoration = match boot {
            Boot::Restoring => Restoration::Claimed { until_ms: 200_000 },
            Boot::Restored => Restoration::Done { at_ms: 120_000, why: "nhc failed".into() },
            Boot::Unchanged | Boot::Changed | Boot::Claimed => Restoration::No,
        };
        let change = BootChange {
            order: self.order.clone().unwrap_or_else(|| id(1)),
            since_ms: ORDERED_MS,
            until_ms: if boot == Boot::Claimed { 200_000 } else { 0 },
            before: Booted { running: Some(running("1")), boot_id: OLD_BOOT.into() },
            boot_id: OLD_BOOT.into(),
            restoration,
        };
        Self { boot_change: Some(change), ..self }
    }

    pub(crate) fn with_order(self, number: u128) -> Self {
        Self { order: Some(id(number)), ..self }
    }

    pub(crate) fn after_order(mut self, number: u128) -> Self {
        self.earlier_orders.push(id(number));
        self
    }

    pub(crate) fn staged_at(self, staged_ms: u64) -> Self {
        Self { staged_ms: Some(staged_ms), ..self }
    }

    pub(crate) fn ordered_at(self, ordering_ms: u64) -> Self {
        Self { ordering_ms: Some(ordering_ms), ..self }
    }

    pub(crate) fn pre_staged(self, number: u128) -> Self {
        Self { pre_staged: true, ..self.with_order(number) }
    }
}

/// Returns the status of an agent without an order. The old boot is an hour old, others are 5 s old.
pub(crate) fn agent(boot_id: &str) -> AgentStatus {
    let uptime_s = if boot_id == OLD_BOOT { 3600 } else { 5 };
    AgentStatus { node: "n1".into(), boot_id: boot_id.into(), uptime_s, ..AgentStatus::default() }
}

impl AgentStatus {
    /// Its order, of no rollout.
    pub(crate) fn at(self, number: u128, phase: Phase) -> Self {
        let failed = matches!(phase, Phase::Held | Phase::Undoing | Phase::RolledBack);
        let order = OrderStatus {
            id: id(number),
            rollout: None,
            phase,
            since_s: 7,
            error: failed.then(|| "nhc failed".to_owned()),
            warning: None,
            changed: false,
            took_s: None,
        };
        Self { order: Some(order), ..self }
    }

    /// Its order is of this rollout.
    pub(crate) fn for_rollout(mut self, rollout: &str) -> Self {
        self.order.iter_mut().for_each(|order| order.rollout = Some(rollout.into()));
        self
    }

    /// It has no ledger and keeps the gate shut.
    pub(crate) fn awaiting(self) -> Self {
        Self { volatile: true, awaits: true, ..self }
    }

    pub(crate) fn up_for(self, uptime_s: u64) -> Self {
        Self { uptime_s, ..self }
    }
}

/// Returns node n1 as Slurm shows it.
pub(crate) fn slurm(state: &str, reason: &str) -> NodeInfo {
    NodeInfo {
        name: "n1".into(),
        state: state.split('+').map(str::to_owned).collect(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        ..NodeInfo::default()
    }
}

/// Returns a rollout with the records of these nodes.
pub(crate) fn rollout(id: &str, changes: &str, records: &[(&str, NodeRecord)]) -> RolloutState {
    RolloutState {
        id: id.into(),
        staged_ms: 50_000,
        by: "root".into(),
        manifest: Ok(manifest(changes)),
        records: records.iter().map(|(node, record)| ((*node).to_owned(), record.clone())).collect(),
        conduct: Conduct::default(),
    }
}

/// Node n1 in the view of 110 s.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node(pub(crate) View);

impl Node {
    pub(crate) fn new() -> Self {
        Self(View { now_ms: 110_000, ..View::default() })
    }

    /// In a rollout of an image that the controller gives to nodes.
    pub(crate) fn in_rollout(id: &str, record: NodeRecord) -> Self {
        Self::new().and_in(id, IMAGE, record)
    }

    pub(crate) fn and_in(mut self, id: &str, changes: &str, record: NodeRecord) -> Self {
        self.0.snapshot.rollouts.push(rollout(id, changes, &[("n1", record)]));
        self
    }

    pub(crate) fn plain(mut self, record: NodeRecord) -> Self {
        self.0.snapshot.plain_reboots = NodeRecords::from([("n1".to_owned(), record)]);
        self
    }

    pub(crate) fn agent(mut self, agent: AgentStatus) -> Self {
        self.0.agents.insert("n1".into(), Ok(agent));
        self
    }

    /// The agent does not answer.
    pub(crate) fn silent(mut self) -> Self {
        self.0.agents.insert("n1".into(), Err("timed out".into()));
        self
    }

    pub(crate) fn slurm(mut self, state: &str, reason: &str) -> Self {
        self.0.slurm.insert("n1".into(), slurm(state, reason));
        self
    }

    pub(crate) fn at_s(mut self, now_s: u64) -> Self {
        self.0.now_ms = now_s * 1000;
        self
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.0.snapshot
    }
}
