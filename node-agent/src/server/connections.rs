//! Places for those who speak to the agent from the network: so many and no more. Who says nothing, or says it slowly, has
//! a place only as long as nobody else wants it, so that idle connections, however many, keep no order out.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// Oldest first.
    by: Vec<Peer>,
    next: u64,
}

#[derive(Debug)]
struct Peer {
    number: u64,
    address: IpAddr,
    /// Tells it to go; none once its whole request is here.
    go: Option<oneshot::Sender<()>>,
}

/// One place, until it is dropped or somebody else needs it.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    places: Arc<Places>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), freed: Notify::new() })
    }

    /// A place for somebody, and what comes when it has to be left. Waits where all are taken by such whose requests are
    /// here and are being answered, which is soon over. For one caller at a time.
    pub(crate) async fn take(self: &Arc<Self>, address: IpAddr) -> (Place, oneshot::Receiver<()>) {
        loop {
            if let Some(taken) = self.take_now(address) {
                return taken;
            }
            self.freed.notified().await;
        }
    }

    fn take_now(self: &Arc<Self>, address: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut taken = self.taken();
        if taken.by.len() >= self.most {
            let gone = taken.who_goes()?;
            if let Some(go) = taken.by.remove(gone).go {
                let _ = go.send(());
            }
        }
        let number = taken.next;
        taken.next += 1;
        let (go, left) = oneshot::channel();
        taken.by.push(Peer { number, address, go: Some(go) });
        Some((Place { number, places: Arc::clone(self) }, left))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count(&self) -> usize {
        self.taken().by.len()
    }
}

impl Taken {
    /// Of those whose request is not here yet, one of the address that has the most places, and of these the oldest: who
    /// opens many connections pushes out their own.
    fn who_goes(&self) -> Option<usize> {
        let of = |address: IpAddr| self.by.iter().filter(|peer| peer.address == address).count();
        let waiting = self.by.iter().enumerate().filter(|(_, peer)| peer.go.is_some());
        waiting.max_by_key(|(index, peer)| (of(peer.address), Reverse(*index))).map(|(index, _)| index)
    }
}

impl Place {
    /// The whole request is here: from now on the place is kept until it is answered.
    pub(crate) fn heard(&self) {
        let mut taken = self.places.taken();
        if let Some(peer) = taken.by.iter_mut().find(|peer| peer.number == self.number) {
            peer.go = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().by.retain(|peer| peer.number != self.number);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_told_to_go(left: &mut oneshot::Receiver<()>) -> bool {
        left.try_recv().is_ok()
    }

    #[test]
    fn the_oldest_of_who_has_most_makes_room() {
        let places = Places::new(4);
        let take = |last| places.take_now(address(last)).unwrap();
        let (mut order, mut first, mut second, mut third) = (take(1), take(2), take(2), take(2));
        let fourth = take(2);
        assert!(is_told_to_go(&mut first.1) && !is_told_to_go(&mut second.1));
        // What was told to go and is dropped later takes no place from anybody.
        drop(first);
        assert_eq!(places.count(), 4);
        second.0.heard();
        let _fifth = take(3);
        assert!(is_told_to_go(&mut third.1), "the second is being answered");
        assert!(!is_told_to_go(&mut order.1) && !is_told_to_go(&mut second.1));
        drop(fourth);
        assert_eq!(places.count(), 3);
    }

    #[test]
    fn among_as_many_the_oldest_goes() {
        let places = Places::new(2);
        let (mut a, mut b) = (places.take_now(address(1)).unwrap(), places.take_now(address(2)).unwrap());
        let _c = places.take_now(address(3)).unwrap();
        assert!(is_told_to_go(&mut a.1) && !is_told_to_go(&mut b.1));
    }

    #[tokio::test]
    async fn who_is_being_answered_is_waited_for() {
        let places = Places::new(1);
        let (place, mut left) = places.take(address(1)).await;
        place.heard();
        assert!(places.take_now(address(2)).is_none());
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(address(2)).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished() && !is_told_to_go(&mut left));
        drop(place);
        assert_eq!(next.await.unwrap().0.number, 1);
        assert_eq!(places.count(), 0);
    }
}
