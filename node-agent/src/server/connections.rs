//! Connection slots for peers from the network, a fixed number of them. A peer that sends nothing, or sends slowly,
//! keeps its slot only until a different peer needs one, so that idle connections, however many, keep no order out.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

#[derive(Debug)]
pub(crate) struct Slots {
    capacity: usize,
    occupied: Mutex<Occupied>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Occupied {
    /// Oldest first.
    connections: Vec<Connection>,
    next_id: u64,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    address: IpAddr,
    /// Signals that the slot is reclaimed; `None` once the whole request has arrived.
    reclaim: Option<oneshot::Sender<()>>,
}

/// A reserved slot. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot {
    id: u64,
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, occupied: Mutex::default(), freed: Notify::new() })
    }

    /// Reserves a slot, and returns it with a signal that fires when the slot is reclaimed. Waits while every slot is
    /// answering a complete request, which does not take long. For one caller at a time.
    pub(crate) async fn reserve(self: &Arc<Self>, address: IpAddr) -> (Slot, oneshot::Receiver<()>) {
        loop {
            if let Some(reserved) = self.try_reserve(address) {
                return reserved;
            }
            self.freed.notified().await;
        }
    }

    fn try_reserve(self: &Arc<Self>, address: IpAddr) -> Option<(Slot, oneshot::Receiver<()>)> {
        let mut occupied = self.occupied();
        if occupied.connections.len() >= self.capacity {
            let index = occupied.slot_to_reclaim()?;
            if let Some(reclaim) = occupied.connections.remove(index).reclaim {
                let _ = reclaim.send(());
            }
        }
        let id = occupied.next_id;
        occupied.next_id += 1;
        let (reclaim, reclaimed) = oneshot::channel();
        occupied.connections.push(Connection { id, address, reclaim: Some(reclaim) });
        Some((Slot { id, slots: Arc::clone(self) }, reclaimed))
    }

    fn occupied(&self) -> MutexGuard<'_, Occupied> {
        self.occupied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count(&self) -> usize {
        self.occupied().connections.len()
    }
}

impl Occupied {
    /// Returns the oldest connection without a complete request, of the address that has most slots: a peer that opens
    /// many connections pushes out its own.
    fn slot_to_reclaim(&self) -> Option<usize> {
        let count =
            |address: IpAddr| self.connections.iter().filter(|other| other.address == address).count();
        let incomplete =
            self.connections.iter().enumerate().filter(|(_, connection)| connection.reclaim.is_some());
        incomplete
            .max_by_key(|(index, connection)| (count(connection.address), Reverse(*index)))
            .map(|(index, _)| index)
    }
}

impl Slot {
    /// Records that the whole request has arrived: the slot is not reclaimed any more.
    pub(crate) fn request_complete(&self) {
        let mut occupied = self.slots.occupied();
        if let Some(own) = occupied.connections.iter_mut().find(|connection| connection.id == self.id) {
            own.reclaim = None;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.occupied().connections.retain(|connection| connection.id != self.id);
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_reclaimed(signal: &mut oneshot::Receiver<()>) -> bool {
        signal.try_recv().is_ok()
    }

    #[test]
    fn the_oldest_of_who_has_most_makes_room() {
        let slots = Slots::new(4);
        let reserve = |last| slots.try_reserve(address(last)).unwrap();
        let (mut order, mut first, mut second, mut third) = (reserve(1), reserve(2), reserve(2), reserve(2));
        let fourth = reserve(2);
        assert!(is_reclaimed(&mut first.1) && !is_reclaimed(&mut second.1));
        // A reclaimed slot that is dropped later frees no other one.
        drop(first);
        assert_eq!(slots.count(), 4);
        second.0.request_complete();
        let _fifth = reserve(3);
        assert!(is_reclaimed(&mut third.1), "the second is being answered");
        assert!(!is_reclaimed(&mut order.1) && !is_reclaimed(&mut second.1));
        drop(fourth);
        assert_eq!(slots.count(), 3);
    }

    #[test]
    fn among_as_many_the_oldest_goes() {
        let slots = Slots::new(2);
        let (mut a, mut b) = (slots.try_reserve(address(1)).unwrap(), slots.try_reserve(address(2)).unwrap());
        let _c = slots.try_reserve(address(3)).unwrap();
        assert!(is_reclaimed(&mut a.1) && !is_reclaimed(&mut b.1));
    }

    #[tokio::test]
    async fn who_is_being_answered_is_waited_for() {
        let slots = Slots::new(1);
        let (slot, mut reclaimed) = slots.reserve(address(1)).await;
        slot.request_complete();
        assert!(slots.try_reserve(address(2)).is_none());
        let next = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.reserve(address(2)).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished() && !is_reclaimed(&mut reclaimed));
        drop(slot);
        assert_eq!(next.await.unwrap().0.id, 1);
        assert_eq!(slots.count(), 0);
    }
}
