//! Runs one function over many items, with bounded threads and one deadline, and returns results as they come.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Stack size that is enough for one HTTP exchange. Thousands of threads with the default of 2 MiB would need much
/// address space.
const STACK: usize = 256 * 1024;

/// Limit for connecting to an agent, which the kernel of its host answers. [`connect_limit`] lowers it for thousands of
/// nodes, so that dead ones leave time for the others.
const CONNECT: Duration = Duration::from_secs(1);
const CONNECT_AT_LEAST: Duration = Duration::from_millis(250);

/// Results that arrive while the work on other items goes on.
#[derive(Debug)]
pub struct Results<R> {
    results: Receiver<R>,
    deadline: Instant,
}

/// Outcome of one attempt at an item.
#[derive(Debug)]
pub enum Turn<T, R> {
    Done(R),
    /// The item must be tried again, after this pause and after all items that still wait for their first turn.
    Again(T, Duration),
}

/// Does `work` on all items, at most `concurrency` at a time. A slow item occupies one thread and delays no other item.
pub fn dispatch<T, R>(
    items: Vec<T>,
    concurrency: usize,
    deadline: Instant,
    work: impl Fn(T) -> R + Send + Sync + 'static,
) -> Results<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    dispatch_in_turns(items, concurrency, deadline, move |item| Turn::Done(work(item)))
}

/// Does the same for work that may have to be repeated. An item to repeat goes behind all others, so that many failing
/// items keep no other one from its turn.
pub fn dispatch_in_turns<T, R>(
    items: Vec<T>,
    concurrency: usize,
    deadline: Instant,
    work: impl Fn(T) -> Turn<T, R> + Send + Sync + 'static,
) -> Results<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let threads = items.len().min(concurrency.max(1));
    let begun = Instant::now();
    let queue: VecDeque<(T, Instant)> = items.into_iter().map(|item| (item, begun)).collect();
    let queue = Arc::new(Mutex::new(queue));
    let work = Arc::new(work);
    let (send, results) = channel();
    for _ in 0..threads {
        let (queue, work, send) = (Arc::clone(&queue), Arc::clone(&work), send.clone());
        let worker = move || {
            while Instant::now() < deadline {
                // An empty queue is the end: a thread that puts an item back also takes the next one.
                let next = locked(&queue).pop_front();
                let Some((item, not_before)) = next else { return };
                // Pauses are equal, so the items behind have to wait even longer.
                thread::sleep(not_before.min(deadline).saturating_duration_since(Instant::now()));
                match work(item) {
                    Turn::Done(result) => {
                        if send.send(result).is_err() {
                            return;
                        }
                    }
                    Turn::Again(item, pause) => locked(&queue).push_back((item, Instant::now() + pause)),
                }
            }
        };
        // If no more threads can be started, the existing ones do the work.
        if thread::Builder::new().stack_size(STACK).spawn(worker).is_err() {
            break;
        }
    }
    Results { results, deadline }
}

/// Returns a limit for connecting with which all `items` get their first turn in half of the time until `deadline`,
/// even if none of their hosts answers.
#[must_use]
pub fn connect_limit(items: usize, concurrency: usize, deadline: Instant) -> Duration {
    let rounds = u32::try_from(items.div_ceil(concurrency.max(1))).unwrap_or(u32::MAX).max(1);
    let half = deadline.saturating_duration_since(Instant::now()) / 2;
    (half / rounds).clamp(CONNECT_AT_LEAST, CONNECT)
}

fn locked<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R> Results<R> {
    /// Waits for a result, and returns it with those that arrive within `pause`. Returns `None` when all items are done
    /// or the deadline has passed. Threads that still work then are left behind.
    pub fn batch(&self, pause: Duration) -> Option<Vec<R>> {
        let mut batch = Vec::new();
        let mut end = self.deadline;
        loop {
            match self.results.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(result) => {
                    if batch.is_empty() {
                        end = self.deadline.min(Instant::now() + pause);
                    }
                    batch.push(result);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return if batch.is_empty() { None } else { Some(batch) };
                }
            }
        }
    }

    /// Returns all results until the deadline.
    #[must_use]
    pub fn all(&self) -> Vec<R> {
        std::iter::from_fn(|| self.batch(Duration::ZERO)).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_ms(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn does_all_with_few_threads() {
        let mut done = dispatch((0..1000).collect(), 7, in_ms(10_000), |n: u32| n * 2).all();
        done.sort_unstable();
        assert_eq!(done, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert!(dispatch(Vec::<u32>::new(), 7, in_ms(10_000), |n| n).all().is_empty());
    }

    #[test]
    fn a_slow_one_delays_nobody_and_is_left_at_the_deadline() {
        let begun = Instant::now();
        let results = dispatch((0..100).collect(), 4, in_ms(700), |n: u32| {
            if n == 0 {
                thread::sleep(Duration::from_secs(60));
            }
            n
        });
        let first = results.batch(Duration::from_millis(50)).unwrap();
        assert!(!first.is_empty());
        let rest = results.all();
        assert_eq!(first.len() + rest.len(), 99, "all but the slow one");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_is_tried_again_comes_behind_all_others() {
        for threads in [1, 3] {
            let turns = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&turns);
            let items = (0..20).map(|n| (n, 0)).collect();
            let results = dispatch_in_turns(items, threads, in_ms(10_000), move |(n, tries): (u32, u32)| {
                seen.lock().unwrap().push(n);
                // Every second item succeeds at its third turn only.
                if n % 2 == 0 && tries < 2 {
                    return Turn::Again((n, tries + 1), Duration::from_millis(5));
                }
                Turn::Done(n)
            });
            let mut done = results.all();
            done.sort_unstable();
            assert_eq!(done, (0..20).collect::<Vec<_>>());
            let turns = turns.lock().unwrap();
            assert_eq!(turns.len(), 10 + 3 * 10);
            // With more threads, the first to take an item need not be the first to record it.
            if threads == 1 {
                assert_eq!(turns[..20], done, "each has its first turn before any has a second");
            }
        }
    }

    #[test]
    fn what_never_comes_to_anything_ends_at_the_deadline() {
        let begun = Instant::now();
        let again = |n: u32| if n == 7 { Turn::Done(n) } else { Turn::Again(n, Duration::from_millis(20)) };
        let results = dispatch_in_turns((0..10).collect(), 2, in_ms(300), again);
        assert_eq!(results.all(), [7]);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_more_nodes_the_sooner_a_silent_host_is_left() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let limit = |items| connect_limit(items, 500, deadline);
        assert_eq!(limit(0), CONNECT);
        assert_eq!(limit(10_000), CONNECT);
        let some = limit(25_000);
        assert!(CONNECT_AT_LEAST < some && some < CONNECT, "{some:?}");
        assert_eq!(limit(1_000_000), CONNECT_AT_LEAST);
        assert_eq!(connect_limit(10, 0, Instant::now()), CONNECT_AT_LEAST);
    }
}
