//! Reading the state directory. Takes no lock and writes nothing.

use super::StoreError;
use super::journal_file::{JournalFile, Replayed, Written};
use rollout_core::controller::closing::{ClosedRollout, summary};
use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::lease::Lease;
use rollout_core::controller::snapshot::{RolloutState, Snapshot, Unreadable};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{JournalState, Line};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::addresses::Addresses;
use rollout_core::slurm::controllers::ControllerHosts;
use rollout_core::slurm::drains::Drains;
use rollout_core::slurm::jobs::UsedLimits;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND, NO_LIMIT};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// File of a closed rollout.
pub(super) const SUMMARY: &str = "summary.json";

/// Number of looks at a rollout that cannot be read or moves meanwhile.
const LOOKS: usize = 5;

/// The state directory, to be read only.
#[derive(Debug, Clone)]
pub struct StoreReader {
    dir: PathBuf,
}

/// One rollout with its whole journal.
#[derive(Debug, Clone)]
pub struct Rollout {
    pub state: RolloutState,
    /// Events, oldest first.
    pub lines: Vec<Line>,
}

/// The state directory as it was read before the lock was taken: under the lock, only the difference is parsed. The
/// lock is held for milliseconds, however much there is.
#[derive(Debug, Default)]
pub(super) struct EarlyReading {
    rollouts: BTreeMap<String, OpenRollout>,
    plain_reboots: Replayed,
    learned: Option<(Drains, Addresses)>,
}

#[derive(Debug, Default)]
struct OpenRollout {
    journal: Replayed,
    /// The manifest, which never changes. `None` if it was not read.
    manifest: Option<Manifest>,
}

impl StoreReader {
    /// Returns a reader of the state directory at `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Reads everything about rollouts that are not closed.
    ///
    /// # Errors
    /// Fails if the directory exists and cannot be read. A rollout that cannot be read is part of the answer.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.snapshot_after(EarlyReading::default())
    }

    /// Reads everything that a snapshot needs, before the lock is taken. Anything that cannot be read now is read under
    /// the lock.
    pub(super) fn read_early(&self) -> EarlyReading {
        let mut early =
            EarlyReading { learned: Some((self.drains(), self.addresses())), ..EarlyReading::default() };
        // An error is that of the reading under the lock.
        let _ = early.plain_reboots.catch_up(&self.journal(None));
        for id in self.open_ids().unwrap_or_default() {
            let mut rollout = OpenRollout::default();
            if rollout.journal.catch_up(&self.journal(Some(&id))).is_ok() {
                rollout.manifest = self.manifest(&id).ok();
                early.rollouts.insert(id, rollout);
            }
        }
        early
    }

    /// Reads everything about rollouts that are not closed, and of journals that were read before only the lines after
    /// that.
    pub(super) fn snapshot_after(&self, early: EarlyReading) -> Result<Snapshot, StoreError> {
        self.snapshot_of(self.open_ids()?.into_iter(), early)
    }

    pub(super) fn open_ids(&self) -> Result<BTreeSet<String>, StoreError> {
        self.names_in(&self.rollouts_dir())
    }

    pub(super) fn closed_ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let open = self.open_ids()?;
        Ok(self.names_in(&self.closed_dir())?.into_iter().filter(|id| !open.contains(id)).collect())
    }

    /// Returns all rollouts. One that moves meanwhile is among those that are listed before it or after.
    pub(super) fn all_ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut ids = self.open_ids()?;
        ids.extend(self.names_in(&self.closed_dir())?);
        ids.extend(self.open_ids()?);
        Ok(ids)
    }

    /// Returns the ids of all rollouts that there ever were, also of archived ones until they are deleted.
    ///
    /// # Errors
    /// Fails if the directory exists and cannot be read.
    pub fn ids_ever(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut ids = self.all_ids()?;
        ids.extend(self.names_in(&self.archive_dir())?);
        Ok(ids)
    }

    /// Reads everything about rollouts that are not closed, and about closed ones that have any of these nodes.
    ///
    /// # Errors
    /// As for [`StoreReader::snapshot`].
    pub fn snapshot_with_past_of(&self, nodes: &NodeSet) -> Result<Snapshot, StoreError> {
        let has_them = |id: &String| match self.closed_rollout(id) {
            Some(closed) => !closed.nodes.intersection(nodes).is_empty(),
            None => true,
        };
        let wanted = |id: &String| !self.is_closed(id) || has_them(id);
        self.snapshot_of(self.all_ids()?.into_iter().filter(wanted), EarlyReading::default())
    }

    fn snapshot_of(
        &self,
        ids: impl Iterator<Item = String>,
        mut early: EarlyReading,
    ) -> Result<Snapshot, StoreError> {
        early.plain_reboots.catch_up(&self.journal(None))?;
        let (drains, addresses) = early.learned.unwrap_or_else(|| (self.drains(), self.addresses()));
        let plain_reboots = early.plain_reboots.into_state().records;
        let frozen = self.frozen();
        let mut snapshot = Snapshot { plain_reboots, drains, addresses, frozen, ..Snapshot::default() };
        for id in ids {
            let mut read_before = early.rollouts.remove(&id);
            match self.look(&id, || self.open_rollout(&id, read_before.take().unwrap_or_default())) {
                Ok(rollout) => snapshot.rollouts.push(rollout),
                Err(_) if !self.rollout_dir(&id).exists() => {}
                Err(error) => {
                    let nodes = self.manifest(&id).map(|manifest| manifest.nodes).unwrap_or_default();
                    snapshot.unreadable.push(Unreadable { id, error: error.to_string(), nodes });
                }
            }
        }
        snapshot.rollouts.sort_by(|one, other| (one.staged_ms, &one.id).cmp(&(other.staged_ms, &other.id)));
        Ok(snapshot)
    }

    /// Reads a rollout as it is at one place. A reader without the lock may see it closed or opened, and thereby moved,
    /// so one that is not whole is looked at again.
    fn look(
        &self,
        id: &str,
        mut read: impl FnMut() -> Result<RolloutState, StoreError>,
    ) -> Result<RolloutState, StoreError> {
        for _ in 1..LOOKS {
            let (place, rollout) = (self.rollout_dir(id), read());
            let is_whole = rollout.as_ref().is_ok_and(|rollout| rollout.manifest.is_ok());
            if is_whole && self.rollout_dir(id) == place {
                return rollout;
            }
        }
        read()
    }

    fn open_rollout(&self, id: &str, mut early: OpenRollout) -> Result<RolloutState, StoreError> {
        let journal = self.journal(Some(id));
        if !early.journal.catch_up(&journal)? {
            return Err(journal.missing());
        }
        let manifest = early.manifest.map_or_else(|| self.manifest(id), Ok);
        let first = early.journal.first();
        Ok(state(id, first, manifest, early.journal.into_state()))
    }

    /// Returns the newest rollout of this id or name: `driver` stands for `driver@2` if there are both, `driver@1` for
    /// the first one.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn find(&self, name: &str) -> Result<String, StoreError> {
        let ids = self.all_ids()?;
        let exact = name.strip_suffix("@1").unwrap_or(name);
        if name.contains('@') && ids.contains(exact) {
            return Ok(exact.to_owned());
        }
        let number = |id: &&String| -> Option<u64> {
            match id.strip_prefix(name)? {
                "" => Some(1),
                rest => rest.strip_prefix('@')?.parse().ok(),
            }
        };
        let newest = ids.iter().filter(|id| number(id).is_some()).max_by_key(number);
        newest.cloned().ok_or_else(|| StoreError::NoSuchRollout(name.to_owned()))
    }

    /// Reads one rollout by its id, closed or not.
    ///
    /// # Errors
    /// Fails if there is no such rollout, or its journal cannot be read.
    pub fn rollout(&self, id: &str) -> Result<Rollout, StoreError> {
        let mut lines = Vec::new();
        let read = || {
            let journal = self.journal(Some(id));
            if !journal.exists() {
                return Err(StoreError::NoSuchRollout(id.to_owned()));
            }
            lines = journal.read()?;
            Ok(state(id, lines.first().map(Written::of), self.manifest(id), lines.iter().collect()))
        };
        let state = self.look(id, read)?;
        Ok(Rollout { state, lines })
    }

    /// Returns the manifest as the admin wrote it.
    ///
    /// # Errors
    /// Fails if there is no such rollout or it cannot be read.
    pub fn manifest_text(&self, id: &str) -> Result<String, StoreError> {
        let path = self.manifest_path(id);
        regular_file::read_text(&path, MAX_WRITTEN_BY_HAND).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NoSuchRollout(id.to_owned()),
            _ => StoreError::io(&path, "read")(error),
        })
    }

    /// Returns the summaries of closed rollouts, oldest first. One that is damaged is made anew of its rollout.
    ///
    /// # Errors
    /// Fails if the directory exists and cannot be read.
    pub fn closed(&self) -> Result<Vec<(String, ClosedRollout)>, StoreError> {
        let ids = self.closed_ids()?;
        let mut closed: Vec<_> =
            ids.into_iter().filter_map(|id| Some((id.clone(), self.summary_of(&id)?))).collect();
        closed.sort_by(|one, other| (one.1.staged_ms, &one.0).cmp(&(other.1.staged_ms, &other.0)));
        Ok(closed)
    }

    /// Returns NodeAddr of each node, as Slurm last reported it. A file that cannot be read counts as empty: it only
    /// saves asking.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.read_json(&self.addresses_path())
    }

    /// Returns the parts of their time limits that jobs used. A file that cannot be read counts as empty.
    #[must_use]
    pub fn used_limits(&self) -> UsedLimits {
        self.read_json(&self.used_limits_path())
    }

    /// Returns the drains set by others, as last seen. A file that cannot be read counts as empty.
    #[must_use]
    pub fn drains(&self) -> Drains {
        self.read_json(&self.drains_path())
    }

    /// Returns the nodes whose DRAIN an earlier reboot or slurm-rollout has left, as last seen. A file that cannot be
    /// read counts as empty.
    #[must_use]
    pub fn left_by_reboots(&self) -> BTreeSet<String> {
        self.read_json(&self.left_by_reboots_path())
    }

    /// Returns the hosts of slurmctld, as a controller last recorded them. A file that cannot be read counts as empty.
    #[must_use]
    pub fn controllers(&self) -> ControllerHosts {
        self.read_json(&self.controllers_path())
    }

    /// Returns the freeze of this site. A file that cannot be read counts as one.
    #[must_use]
    pub fn frozen(&self) -> Option<Freeze> {
        match regular_file::read(&self.freeze_path(), MAX_WRITTEN_BY_HAND) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            content => Some(Freeze::read(content.as_deref().map_err(ToString::to_string))),
        }
    }

    /// Returns the lease on looking after started rollouts. A file that is damaged is none.
    ///
    /// # Errors
    /// Fails if the file exists and cannot be read.
    pub fn lease(&self) -> Result<Option<Lease>, StoreError> {
        let path = self.lease_path();
        match regular_file::read(&path, MAX_WRITTEN_BY_HAND) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, "read")(error)),
        }
    }

    /// Returns whether a rollout is closed.
    #[must_use]
    pub fn is_closed(&self, id: &str) -> bool {
        self.closed_dir().join(id).exists() && !self.rollouts_dir().join(id).exists()
    }

    fn summary_of(&self, id: &str) -> Option<ClosedRollout> {
        self.closed_rollout(id).or_else(|| Some(summary(&self.rollout(id).ok()?.state, 0)))
    }

    fn closed_rollout(&self, id: &str) -> Option<ClosedRollout> {
        serde_json::from_slice(&regular_file::read(&self.summary_path(id), NO_LIMIT).ok()?).ok()
    }

    fn manifest(&self, id: &str) -> Result<Manifest, StoreError> {
        let wrong = |source| StoreError::Manifest { path: self.manifest_path(id), source };
        Manifest::parse(&self.manifest_text(id)?).map_err(wrong)
    }

    /// Returns the names in a directory. A missing one is empty. A name that begins with a dot was being written during
    /// a crash.
    pub(super) fn names_in(&self, dir: &Path) -> Result<BTreeSet<String>, StoreError> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(StoreError::io(dir, "read")(error)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io(dir, "read"))?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn read_json<T: DeserializeOwned + Default>(&self, path: &Path) -> T {
        let bytes = regular_file::read(path, NO_LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(super) fn journal(&self, rollout: Option<&str>) -> JournalFile {
        JournalFile::at(match rollout {
            Some(id) => self.rollout_dir(id).join("journal"),
            None => self.dir.join("plain-reboots"),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn addresses_path(&self) -> PathBuf {
        self.dir.join("addresses.json")
    }

    pub(super) fn drains_path(&self) -> PathBuf {
        self.dir.join("drains.json")
    }

    pub(super) fn used_limits_path(&self) -> PathBuf {
        self.dir.join("used-limits.json")
    }

    pub(super) fn left_by_reboots_path(&self) -> PathBuf {
        self.dir.join("left-by-reboots.json")
    }

    pub(super) fn controllers_path(&self) -> PathBuf {
        self.dir.join("controllers.json")
    }

    pub(super) fn freeze_path(&self) -> PathBuf {
        self.dir.join("freeze.json")
    }

    pub(super) fn lease_path(&self) -> PathBuf {
        self.dir.join("lease.json")
    }

    pub(super) fn manifest_path(&self, id: &str) -> PathBuf {
        self.rollout_dir(id).join("manifest.toml")
    }

    pub(super) fn rollouts_dir(&self) -> PathBuf {
        self.dir.join("rollouts")
    }

    /// Returns the directory of a rollout, open or closed.
    pub(super) fn rollout_dir(&self, id: &str) -> PathBuf {
        let (open, closed) = (self.rollouts_dir().join(id), self.closed_dir().join(id));
        if !open.exists() && closed.exists() { closed } else { open }
    }

    pub(super) fn closed_dir(&self) -> PathBuf {
        self.dir.join("closed")
    }

    pub(super) fn summary_path(&self, id: &str) -> PathBuf {
        self.rollout_dir(id).join(SUMMARY)
    }

    pub(super) fn archive_dir(&self) -> PathBuf {
        self.dir.join("archive")
    }
}

fn state(
    id: &str,
    first: Option<Written>,
    manifest: Result<Manifest, StoreError>,
    journal: JournalState,
) -> RolloutState {
    let Written { t_ms: staged_ms, by } = first.unwrap_or_default();
    let JournalState { records, conduct } = journal;
    let manifest = manifest.map_err(|error| error.to_string());
    RolloutState { id: id.to_owned(), staged_ms, by, manifest, records, conduct }
}
