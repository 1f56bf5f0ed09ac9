//! What is staged for this node where slurmd runs RebootProgram: `staged.json`, given to the agent beforehand.
//!
//! It is no order: nothing is done by it until slurmd says that Slurm has the node rebooted.

use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{
    Apply, GiveBack, LocalHandOver, Order, OrderId, OrderKind, PlainReboot, PreStage,
};
use rollout_host::durable;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The format, as in the ledger.
const VERSION: u32 = 1;
/// For root only, as the ledger.
const MODE: u32 = 0o600;
/// How many ids are remembered: MUNGE credentials live at most an hour.
const MAX_SEEN: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The order with [`OrderKind::PreStage`]; its id is that of the order that will apply it.
    #[serde(default)]
    staged: Option<Order>,
    /// What was told already, oldest first: nothing is told twice.
    #[serde(default)]
    seen: Vec<OrderId>,
}

/// `staged.json`, as it is on disk.
#[derive(Debug)]
pub(crate) struct StagedFile {
    path: PathBuf,
    content: Content,
}

impl StagedFile {
    /// Reads it. One that cannot be read is as none: what was staged is then given again by `slurm-rollout reconcile`.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let path = dir.join("staged.json");
        let read = std::fs::read(&path).and_then(|bytes| Self::of(path.clone(), &bytes));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                crate::log::warning(&format!("{}: passed over: {error}", path.display()));
            }
            Self { path, content: Content { version: VERSION, staged: None, seen: Vec::new() } }
        })
    }

    /// What these bytes say. What no manifest may ask for is not kept either.
    pub(crate) fn of(path: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let content: Content = serde_json::from_slice(bytes)?;
        if let Some(OrderKind::PreStage(keep)) = content.staged.as_ref().map(|staged| &staged.kind) {
            keep.desired.check().map_err(io::Error::other)?;
        }
        Ok(Self { path, content })
    }

    /// The rollout that is staged.
    pub(crate) fn rollout(&self) -> Option<&str> {
        self.content.staged.as_ref().and_then(Order::rollout)
    }

    /// Keeps or drops what an order says, on disk when this returns.
    pub(crate) fn follow(&mut self, order: &Order) -> Result<(), String> {
        if self.content.seen.contains(&order.id) {
            return Err(format!("{} was told before", order.id));
        }
        let mut next = self.content.clone();
        match &order.kind {
            OrderKind::PreStage(_) => next.staged = Some(order.clone()),
            OrderKind::DropPreStaged { rollout } if self.rollout() == Some(rollout) => next.staged = None,
            OrderKind::UpdateDrain(drained) => {
                let staged = next.staged.as_mut().filter(|staged| staged.id == drained.order);
                if let Some(OrderKind::PreStage(keep)) = staged.map(|staged| &mut staged.kind) {
                    keep.drained.clone_from(&drained.reason);
                }
            }
            _ => {}
        }
        next.seen.push(order.id.clone());
        next.seen.drain(..next.seen.len().saturating_sub(MAX_SEEN));
        self.write(next)
    }

    /// Forgets a rollout that an order applies. If that cannot be written, the order's id still keeps it from being
    /// applied twice.
    pub(crate) fn forget(&mut self, rollout: &str) {
        if self.rollout() == Some(rollout) {
            let next = Content { staged: None, ..self.content.clone() };
            if let Err(why) = self.write(next) {
                crate::log::warning(&why);
            }
        }
    }

    /// What a hand-over by slurmd comes to: what is staged and was not carried out before, or a plain reboot. Of a drain
    /// that was there before only what is kept knows.
    pub(crate) fn order_for(
        &self,
        handed: &LocalHandOver,
        id: OrderId,
        me: &NodeSet,
        done: &[OrderId],
    ) -> Order {
        let kept = self.kept().filter(|(staged, _)| !done.contains(staged));
        let drained = kept.and_then(|(_, keep)| keep.drained.clone());
        let back = GiveBack { drained, ..handed.plain.give_back.clone() };
        match kept.filter(|_| handed.apply) {
            Some((staged, keep)) => {
                let (rollout, desired) = (keep.rollout.clone(), keep.desired.clone());
                Order::new(
                    staged.clone(),
                    me.clone(),
                    OrderKind::Apply(Apply { rollout, desired, give_back: back }),
                )
            }
            None => Order::new(
                id,
                me.clone(),
                OrderKind::Reboot(PlainReboot { give_back: back, ..handed.plain.clone() }),
            ),
        }
    }

    fn kept(&self) -> Option<(&OrderId, &PreStage)> {
        match self.content.staged.as_ref().map(|staged| (&staged.id, &staged.kind)) {
            Some((id, OrderKind::PreStage(keep))) => Some((id, keep)),
            _ => None,
        }
    }

    fn write(&mut self, next: Content) -> Result<(), String> {
        let failed = |error: String| format!("{}: cannot be written: {error}", self.path.display());
        let bytes = serde_json::to_vec_pretty(&next).map_err(|error| failed(error.to_string()))?;
        durable::replace(&self.path, &bytes, MODE).map_err(|error| failed(error.to_string()))?;
        self.content = next;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
mod tests {
    use super::*;
    use rollout_core::protocol::order::UpdateDrain;
    use rollout_core::rollout::manifest::Manifest;

    fn order(number: u128, what: OrderKind) -> Order {
        Order::new(OrderId::from_random(number), NodeSet::parse("n1").unwrap(), what)
    }

    fn keep(number: u128, rollout: &str) -> Order {
        let text = "name='r'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
        let desired = Manifest::parse(text).unwrap().desired;
        order(number, OrderKind::PreStage(PreStage { rollout: rollout.to_owned(), desired, drained: None }))
    }

    /// OrderKind slurmd's call becomes: the rollout, or none for a plain reboot.
    fn becomes(file: &StagedFile, apply: bool, done: &[OrderId]) -> Option<(String, OrderId)> {
        let plain =
            PlainReboot { give_back: GiveBack { resume_if_late: true, drained: None }, features: None };
        let me = NodeSet::parse("n1").unwrap();
        let order = file.order_for(&LocalHandOver { apply, plain }, OrderId::from_random(99), &me, done);
        order.rollout().map(|rollout| (rollout.to_owned(), order.id.clone()))
    }

    #[test]
    fn what_is_staged_is_applied_once_and_only_when_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StagedFile::in_dir(dir.path());
        assert_eq!((file.rollout(), becomes(&file, true, &[])), (None, None));
        file.follow(&keep(1, "driver")).unwrap();
        let mut file = StagedFile::in_dir(dir.path());
        let id = OrderId::from_random(1);
        assert_eq!(file.rollout(), Some("driver"), "it is on disk");
        assert_eq!(becomes(&file, true, &[]), Some(("driver".to_owned(), id.clone())));
        assert_eq!(becomes(&file, false, &[]), None, "a job's reboot");
        assert_eq!(becomes(&file, true, &[id]), None, "carried out before");
        file.forget("another");
        assert_eq!(file.rollout(), Some("driver"));
        file.forget("driver");
        assert_eq!(StagedFile::in_dir(dir.path()).rollout(), None);
    }

    #[test]
    fn a_drain_goes_with_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StagedFile::in_dir(dir.path());
        let told = |number, of, reason: Option<&str>| {
            let (kept, reason) = (OrderId::from_random(of), reason.map(str::to_owned));
            order(number, OrderKind::UpdateDrain(UpdateDrain { order: kept, reason }))
        };
        // The drain with which the node is given back, when it is handed over to apply what is kept, or plainly.
        let drained = |file: &StagedFile, apply, done: &[OrderId]| {
            let plain =
                PlainReboot { give_back: GiveBack { resume_if_late: true, drained: None }, features: None };
            let me = NodeSet::parse("n1").unwrap();
            let order = file.order_for(&LocalHandOver { apply, plain }, OrderId::from_random(99), &me, done);
            order.give_back().and_then(|back| back.drained.clone())
        };
        file.follow(&keep(1, "driver")).unwrap();
        assert_eq!(drained(&file, true, &[]), None);
        for (number, of, reason, stands) in [
            (2, 1, Some("bad disk"), Some("bad disk")),
            (3, 7, Some("of another order"), Some("bad disk")),
            (4, 1, Some("bad fan"), Some("bad fan")),
            (5, 1, None, None),
            (6, 1, Some("bad disk"), Some("bad disk")),
        ] {
            file.follow(&told(number, of, reason)).unwrap();
            let file = StagedFile::in_dir(dir.path());
            for apply in [true, false] {
                assert_eq!(drained(&file, apply, &[]).as_deref(), stands, "{number}");
            }
        }
        assert_eq!(drained(&file, true, &[OrderId::from_random(1)]), None, "carried out before");
        assert_eq!(becomes(&file, true, &[]), Some(("driver".to_owned(), OrderId::from_random(1))));
        file.forget("driver");
        file.follow(&told(8, 1, Some("bad fan"))).unwrap();
        assert_eq!(drained(&file, true, &[]), None, "nothing is kept");
    }

    #[test]
    fn the_newest_is_kept_until_it_is_dropped_and_nothing_is_told_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StagedFile::in_dir(dir.path());
        file.follow(&keep(1, "driver")).unwrap();
        file.follow(&keep(2, "slurm")).unwrap();
        let drop =
            |number, rollout: &str| order(number, OrderKind::DropPreStaged { rollout: rollout.to_owned() });
        file.follow(&drop(3, "driver")).unwrap();
        assert_eq!(file.rollout(), Some("slurm"), "another one was called off");
        file.follow(&drop(4, "slurm")).unwrap();
        assert_eq!(file.rollout(), None);
        let again = file.follow(&keep(2, "slurm")).unwrap_err();
        assert!(again.contains("told before"), "{again}");
        std::fs::write(dir.path().join("staged.json"), "{\"version\":1,").unwrap();
        assert_eq!(StagedFile::in_dir(dir.path()).rollout(), None, "damaged");
        // Whoever wrote it: what no manifest may ask for is not applied.
        file.follow(&keep(5, "driver")).unwrap();
        let kept = std::fs::read_to_string(dir.path().join("staged.json")).unwrap();
        assert_eq!(StagedFile::in_dir(dir.path()).rollout(), Some("driver"));
        std::fs::write(dir.path().join("staged.json"), kept.replace("\"/a\"", "\"/a/../etc\"")).unwrap();
        assert_eq!(StagedFile::in_dir(dir.path()).rollout(), None);
    }
}
