//! Waiting for the controller's side to put back what this node boots from, in the middle of an undo.

use rollout_core::protocol::order::OrderId;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The order whose boot source was put back last.
#[derive(Debug, Clone, Default)]
pub(crate) struct PutBack(Arc<(Mutex<Option<OrderId>>, Condvar)>);

impl PutBack {
    /// It was put back for this order.
    pub(crate) fn done(&self, order: OrderId) {
        let (last, changed) = &*self.0;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        changed.notify_all();
    }

    /// Waits until it is; false if it is not in time.
    pub(crate) fn wait(&self, order: &OrderId, limit: Duration) -> bool {
        let (last, changed) = &*self.0;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let other = |last: &mut Option<OrderId>| last.as_ref() != Some(order);
        let waited = changed.wait_timeout_while(last, limit, other);
        let (last, _) = waited.unwrap_or_else(PoisonError::into_inner);
        last.as_ref() == Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_that_is_undone_counts() {
        let put_back = PutBack::default();
        put_back.done(OrderId::from_random(1));
        assert!(!put_back.wait(&OrderId::from_random(2), Duration::from_millis(1)));
        let waits = put_back.clone();
        let waiting =
            std::thread::spawn(move || waits.wait(&OrderId::from_random(2), Duration::from_secs(60)));
        put_back.done(OrderId::from_random(2));
        assert!(waiting.join().unwrap());
        assert!(put_back.wait(&OrderId::from_random(2), Duration::ZERO), "also where it came before");
    }
}
