//! The ledger on disk: `order.json` while an order is carried out or the node is held, `last.json` once it is settled.
//!
//! The existence of `order.json` alone closes the gate (ConditionPathExists of its unit), so a node without an order
//! never runs a line of our code before slurmd.
//!
//! On nodes whose ledger does not survive a boot (`ledger = "volatile"`), `admitted` holds the id of the boot in which
//! slurmd may run.

use crate::state::{MODE, StateError};
use rollout_core::agent::ledger::Ledger;
use rollout_host::durable;
use rollout_host::random;
use rollout_host::regular_file::{self, NO_LIMIT};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Size of the file that is given up for the ledger on a full disk, so that an order which fills it can still be
/// recorded and undone. A ledger with the package list of a large node has about 200 kB.
const RESERVE: usize = 1024 * 1024;

/// The ledger's files in the state directory.
#[derive(Debug, Clone)]
pub(crate) struct LedgerFile {
    dir: PathBuf,
}

impl LedgerFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Reads `order.json`.
    pub(crate) fn unsettled(&self) -> Result<Option<Ledger>, StateError> {
        read(&self.order())
    }

    /// Reads `order.json`, which must be node `me`'s.
    fn unsettled_of(&self, me: &str) -> Result<Option<Ledger>, StateError> {
        let ledger = self.unsettled()?;
        let foreign = ledger.as_ref().filter(|ledger| ledger.is_of_another_node(me));
        match foreign.and_then(|ledger| ledger.node.clone()) {
            Some(node) => Err(StateError::Foreign { path: self.order(), node, me: me.to_owned() }),
            None => Ok(ledger),
        }
    }

    /// Reads the newest ledger: `order.json`, else `last.json`. A `last.json` that is damaged or another node's is
    /// ignored.
    pub(crate) fn newest(&self, me: &str) -> Result<Option<Ledger>, StateError> {
        Ok(match self.unsettled_of(me)? {
            Some(ledger) => Some(ledger),
            None => read(&self.last()).ok().flatten().filter(|last| !last.is_of_another_node(me)),
        })
    }

    /// Writes the ledger durably. One rename moves a settled ledger to `last.json`, which opens the gate.
    pub(crate) fn write(&self, ledger: &Ledger) -> Result<(), StateError> {
        let order = self.order();
        let bytes = serde_json::to_vec_pretty(ledger)
            .map_err(|source| StateError::Content { path: order.clone(), source })?;
        let written = match durable::replace(&order, &bytes, MODE) {
            Err(error) if is_full(&error) && std::fs::remove_file(self.reserve()).is_ok() => {
                durable::replace(&order, &bytes, MODE)
            }
            other => other,
        };
        written.map_err(StateError::writing(order.clone()))?;
        if ledger.is_settled() {
            crate::failpoint::here("settled");
            durable::rename(&order, &self.last()).map_err(|source| StateError::Io {
                path: order,
                what: "renamed to last.json",
                source,
            })?;
        }
        Ok(())
    }

    /// Removes files that a crash left in the middle of a write. Their names have the process id of that agent, so they
    /// would never be replaced.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".new") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Creates the reserve. On a full disk there is none, and the next order is refused for that. It holds random
    /// bytes: zeros, as older agents wrote them, take next to no space on a file system that compresses.
    pub(crate) fn keep_reserve(&self) -> Result<(), StateError> {
        let path = self.reserve();
        if is_reserve(&path) {
            return Ok(());
        }
        let mut bytes = vec![0; RESERVE];
        random::fill(&mut bytes).map_err(StateError::writing(path.clone()))?;
        durable::replace(&path, &bytes, MODE).map_err(StateError::writing(path))
    }

    /// Returns whether slurmd may run in this boot, on a node whose ledger does not survive one.
    pub(crate) fn is_admitted(&self, boot_id: &str) -> bool {
        std::fs::read_to_string(self.admitted()).is_ok_and(|admitted| admitted == boot_id)
    }

    /// Records that slurmd may run in this boot.
    pub(crate) fn admit(&self, boot_id: &str) -> Result<(), StateError> {
        let path = self.admitted();
        durable::replace(&path, boot_id.as_bytes(), MODE).map_err(StateError::writing(path))
    }

    fn admitted(&self) -> PathBuf {
        self.dir.join("admitted")
    }

    fn order(&self) -> PathBuf {
        self.dir.join("order.json")
    }

    fn last(&self) -> PathBuf {
        self.dir.join("last.json")
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }
}

fn read(path: &Path) -> Result<Option<Ledger>, StateError> {
    match regular_file::read(path, NO_LIMIT) {
        Ok(bytes) => {
            let content = |source| StateError::Content { path: path.to_owned(), source };
            serde_json::from_slice(&bytes).map(Some).map_err(content)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path: path.to_owned(), what: "read", source }),
    }
}

fn is_reserve(path: &Path) -> bool {
    let mut beginning = [0; 64];
    let is_whole = std::fs::metadata(path).is_ok_and(|file| file.len() == RESERVE as u64);
    let read = regular_file::open(path).and_then(|mut file| file.read_exact(&mut beginning));
    is_whole && read.is_ok() && beginning.iter().any(|byte| *byte != 0)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::agent::phase::Phase;
    use rollout_core::hostlist::NodeSet;
    use rollout_core::protocol::order::{GiveBack, Order, OrderId, OrderKind};

    fn ledger(phase: Phase) -> Ledger {
        let what = OrderKind::Reboot(GiveBack { resume_if_late: true, drained: None }.into());
        let order = Order::new(OrderId::from_random(1), NodeSet::parse("n1").unwrap(), what);
        Ledger::begin(order, phase, "boot", 1, None)
    }

    #[test]
    fn a_settled_ledger_no_longer_closes_the_gate() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        assert_eq!(file.newest("n1").unwrap(), None);
        file.write(&ledger(Phase::Rebooting)).unwrap();
        assert_eq!(file.unsettled().unwrap(), Some(ledger(Phase::Rebooting)));
        file.write(&ledger(Phase::Updated)).unwrap();
        assert_eq!(file.unsettled().unwrap(), None);
        assert_eq!(file.newest("n1").unwrap(), Some(ledger(Phase::Updated)));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the reserve of an older agent")]
    fn the_reserve_cannot_be_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        std::fs::write(dir.path().join("reserve"), vec![0; RESERVE]).unwrap();
        file.keep_reserve().unwrap();
        let reserve = || std::fs::read(dir.path().join("reserve")).unwrap();
        let kept = reserve();
        let values: std::collections::BTreeSet<u8> = kept.iter().copied().collect();
        assert_eq!((kept.len(), values.len()), (RESERVE, 256));
        file.keep_reserve().unwrap();
        assert!(reserve() == kept, "it is written once");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "this is what a crash leaves")]
    fn what_a_crash_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        file.write(&ledger(Phase::Rebooting)).unwrap();
        std::fs::write(dir.path().join(".order.json.4711.new"), "{").unwrap();
        file.sweep();
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["order.json"]);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "this is how the file gets damaged")]
    fn a_damaged_order_is_an_error_and_a_damaged_last_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        std::fs::write(dir.path().join("last.json"), "{").unwrap();
        assert_eq!(file.newest("n1").unwrap(), None);
        std::fs::write(dir.path().join("order.json"), "{\"version\":1").unwrap();
        let error = file.newest("n1").unwrap_err().to_string();
        assert!(error.contains("order.json") && error.contains("remove the file"), "{error}");
    }

    #[test]
    fn a_copied_disk_is_not_taken_for_this_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        let of = |phase, node: &str| Ledger { node: Some(node.to_owned()), ..ledger(phase) };
        file.write(&of(Phase::Rebooting, "n1")).unwrap();
        assert!(file.newest("n1").unwrap().is_some());
        let error = file.newest("n2").unwrap_err().to_string();
        assert!(error.contains("is of n1, and this is n2"), "{error}");
        file.write(&of(Phase::Updated, "n1")).unwrap();
        assert_eq!(file.newest("n2").unwrap(), None, "what was settled there is none of ours");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "this is how the file gets damaged")]
    fn a_ledger_that_is_cut_anywhere_is_an_error_and_never_no_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        file.write(&ledger(Phase::Rebooting)).unwrap();
        let path = dir.path().join("order.json");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(file.newest("n1").is_err(), "cut at {cut}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "what a newer agent wrote")]
    fn a_newer_ledger_is_read_as_far_as_it_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        file.write(&ledger(Phase::Rebooting)).unwrap();
        let path = dir.path().join("order.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let newer =
            text.replacen('{', "{\"version_2_key\":[1],", 1).replace("\"version\": 1,", "\"version\": 2,");
        std::fs::write(&path, &newer).unwrap();
        assert_eq!(file.newest("n1").unwrap().unwrap().phase, Phase::Rebooting);
        std::fs::write(&path, newer.replace("\"rebooting\"", "\"dancing\"")).unwrap();
        assert!(file.newest("n1").is_err(), "a phase that nobody knows here");
    }
}
