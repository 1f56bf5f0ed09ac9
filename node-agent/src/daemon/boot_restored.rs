//! The controller's notice, in the middle of an undo, that this node's boot source is restored.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Notice for one action. Each undo has its own, so a notice for an earlier one never counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct BootRestored(Arc<(Mutex<bool>, Condvar)>);

impl BootRestored {
    /// Wakes the undo that waits for the notice, now or later.
    pub(crate) fn notify(&self) {
        let (restored, changed) = &*self.0;
        *restored.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits for the notice. Returns whether it came within `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let (restored, changed) = &*self.0;
        let restored = restored.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(restored, limit, |restored| !*restored);
        let (restored, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_counts_before_and_during_the_wait() {
        let notice = BootRestored::default();
        assert!(!notice.wait(Duration::from_millis(1)));
        let waits = notice.clone();
        let waiting = std::thread::spawn(move || waits.wait(Duration::from_secs(60)));
        notice.notify();
        assert!(waiting.join().unwrap());
        assert!(notice.wait(Duration::ZERO), "it came before");
    }
}
