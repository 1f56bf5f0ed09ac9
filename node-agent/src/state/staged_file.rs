//! `staged.json`: the pre-staged order, if slurmd runs RebootProgram.

use crate::log;
use crate::state::{MODE, StateError};
use rollout_core::agent::pre_staged::PreStaged;
use rollout_host::durable;
use rollout_host::regular_file::{self, NO_LIMIT};
use std::io;
use std::path::{Path, PathBuf};

/// `staged.json` in the state directory.
#[derive(Debug, Clone)]
pub(crate) struct StagedFile {
    path: PathBuf,
}

impl StagedFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join("staged.json") }
    }

    /// Reads the file. A damaged one counts as empty: `slurm-rollout reconcile` pre-stages the order again.
    pub(crate) fn read(&self) -> PreStaged {
        let passed_over = |why: &str| {
            log::warning(&format!("{}: passed over: {why}", self.path.display()));
            PreStaged::default()
        };
        match regular_file::read(&self.path, NO_LIMIT) {
            Ok(bytes) => PreStaged::parse(&bytes).unwrap_or_else(|why| passed_over(&why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => PreStaged::default(),
            Err(error) => passed_over(&error.to_string()),
        }
    }

    /// Replaces the file durably.
    pub(crate) fn write(&self, content: &PreStaged) -> Result<(), StateError> {
        let bytes = serde_json::to_vec_pretty(content)
            .map_err(|source| StateError::Content { path: self.path.clone(), source })?;
        durable::replace(&self.path, &bytes, MODE).map_err(StateError::writing(self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::hostlist::NodeSet;
    use rollout_core::protocol::order::{Order, OrderId, OrderKind, PreStage};
    use rollout_core::rollout::manifest::DesiredState;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "this is how the file gets damaged")]
    fn the_file_is_read_again_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = StagedFile::in_dir(dir.path());
        assert_eq!(file.read(), PreStaged::default());
        let pre_stage =
            PreStage { rollout: "driver".to_owned(), desired: DesiredState::default(), drained: None };
        let nodes = NodeSet::parse("n1").unwrap();
        let order = Order::new(OrderId::from_random(1), nodes, OrderKind::PreStage(pre_stage));
        let content = PreStaged::default().after(&order).unwrap();
        file.write(&content).unwrap();
        assert_eq!(file.read(), content);
        std::fs::write(dir.path().join("staged.json"), "{\"version\":1,").unwrap();
        assert_eq!(file.read(), PreStaged::default());
    }
}
