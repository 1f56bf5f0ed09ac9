//! The state directory: journals as text, drains, the freeze and the lease.

use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::lease::Lease;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JournalState, Line, NodeRecords, Progress, lines, replay_line};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::drains::{CuredByReboot, Drains, observe, observe_left_by_reboots};
use rollout_core::slurm::node::NodeInfo;
use rollout_plan::strategy::{self, Strategy};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Drains that a reboot cures: none.
pub const CURED: CuredByReboot<'static> = CuredByReboot { reasons: &[], by: &[] };

/// A rollout: its manifest, and its journal as it is on disk.
#[derive(Debug, Clone)]
pub struct Rollout {
    pub id: String,
    pub staged_ms: u64,
    pub manifest: Manifest,
    pub strategy: Result<Strategy, String>,
    pub text: String,
    pub state: JournalState,
}

#[derive(Debug, Clone, Default)]
pub struct Store {
    pub rollouts: Vec<Rollout>,
    pub plain_reboots: NodeRecords,
    pub drains: Drains,
    pub left_by_reboots: BTreeSet<String>,
    pub frozen: Option<Freeze>,
    pub lease: Option<Lease>,
    /// Grows with every change.
    pub version: u64,
    /// The snapshot, until the next change.
    snapshot: RefCell<Option<Rc<Snapshot>>>,
    /// Slurm's nodes whose drains are recorded, and the version afterwards.
    learned: Option<(Rc<Vec<NodeInfo>>, u64)>,
}

impl Store {
    /// Adds a rollout and stages it. Fails for a manifest that is not valid, or has no nodes.
    pub fn stage(&mut self, id: &str, text: &str, nodes: &NodeSet, now_ms: u64) -> Result<(), String> {
        let manifest = Manifest::parse(text).map_err(|error| format!("{id}: {error}"))?;
        let strategy = strategy::of_manifest(text, nodes).map_err(|error| error.to_string());
        self.rollouts.push(Rollout {
            id: id.to_owned(),
            staged_ms: now_ms,
            manifest,
            strategy,
            text: String::new(),
            state: JournalState::default(),
        });
        self.append(Some(id), Entry::Staged { nodes: nodes.clone() }, "ann", now_ms)
    }

    /// Appends a line to a journal, and reads it back as another process would.
    pub fn append(
        &mut self,
        rollout: Option<&str>,
        entry: Entry,
        by: &str,
        now_ms: u64,
    ) -> Result<(), String> {
        let line = Line { t_ms: now_ms, by: by.to_owned(), entry };
        let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
        let read = lines(&text).next().filter(|read| *read == line);
        let line = read.ok_or_else(|| format!("the journal does not read back what was written: {text}"))?;
        self.changed();
        match rollout.map(|id| self.rollouts.iter_mut().find(|rollout| rollout.id == id)) {
            None => replay_line(&mut self.plain_reboots, &line),
            Some(None) => return Err(format!("no rollout {rollout:?}")),
            Some(Some(rollout)) => {
                rollout.text.push_str(&text);
                rollout.text.push('\n');
                rollout.state.apply(&line);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn rollout(&self, id: &str) -> Option<&Rollout> {
        self.rollouts.iter().find(|rollout| rollout.id == id)
    }

    /// Notes a change.
    pub fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.snapshot.take();
    }

    #[must_use]
    pub fn snapshot(&self) -> Rc<Snapshot> {
        Rc::clone(self.snapshot.borrow_mut().get_or_insert_with(|| Rc::new(self.read())))
    }

    fn read(&self) -> Snapshot {
        let rollouts = self.rollouts.iter().map(|rollout| RolloutState {
            id: rollout.id.clone(),
            staged_ms: rollout.staged_ms,
            by: "ann".to_owned(),
            manifest: Ok(rollout.manifest.clone()),
            records: rollout.state.records.clone(),
            conduct: rollout.state.conduct.clone(),
        });
        Snapshot {
            rollouts: rollouts.collect(),
            plain_reboots: self.plain_reboots.clone(),
            drains: self.drains.clone(),
            frozen: self.frozen.clone(),
            ..Snapshot::default()
        }
    }

    /// Returns the number of nodes whose orders have ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        let records = self.rollouts.iter().flat_map(|rollout| rollout.state.records.values());
        let ended =
            records.filter(|record| matches!(record.progress, Progress::Seen(phase) if phase.has_ended()));
        ended.count()
    }

    #[must_use]
    pub fn strategies(&self) -> BTreeMap<String, Result<Strategy, String>> {
        self.rollouts.iter().map(|rollout| (rollout.id.clone(), rollout.strategy.clone())).collect()
    }

    /// Records the drains that Slurm shows.
    pub fn learn_drains(&mut self, nodes: &Rc<Vec<NodeInfo>>) {
        let is_known = |(known, version): &(Rc<Vec<NodeInfo>>, u64)| {
            Rc::ptr_eq(known, nodes) && *version == self.version
        };
        if self.learned.as_ref().is_some_and(is_known) {
            return;
        }
        let requested = self.snapshot().requested();
        let drains = observe(&self.drains, nodes, &requested, &CURED);
        self.left_by_reboots = observe_left_by_reboots(&self.left_by_reboots, nodes, &requested);
        if drains != self.drains {
            self.drains = drains;
            self.changed();
        }
        self.learned = Some((Rc::clone(nodes), self.version));
    }

    /// Records drains that RebootProgram has found.
    pub fn add_drains(&mut self, found: Drains) {
        if !found.is_empty() {
            self.drains.extend(found);
            self.changed();
        }
    }

    pub fn freeze(&mut self, frozen: Option<Freeze>) {
        self.frozen = frozen;
        self.changed();
    }

    /// Checks that the journals on disk mean what this process believes.
    ///
    /// # Errors
    /// The rollout of which they do not.
    pub fn check_replay(&self) -> Result<(), String> {
        let differs = |rollout: &&Rollout| {
            let read: Vec<Line> = lines(&rollout.text).collect();
            read.iter().collect::<JournalState>() != rollout.state
        };
        match self.rollouts.iter().find(differs) {
            Some(rollout) => Err(rollout.id.clone()),
            None => Ok(()),
        }
    }
}
