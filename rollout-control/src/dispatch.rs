//! The same for many nodes at once: a bounded number of threads, a deadline for all of it, and results as they come.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{sync::Arc, thread};

/// Enough for one HTTP exchange; thousands of threads of the default 2 MiB would be much address space.
const STACK: usize = 256 * 1024;

/// Results that come in while others are still being waited for.
#[derive(Debug)]
pub struct Results<R> {
    results: Receiver<R>,
    deadline: Instant,
}

/// Does `work` on all items, at most `concurrency` at a time. A slow item keeps one thread busy and nobody else waiting.
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
    let threads = items.len().min(concurrency.max(1));
    let queue = Arc::new(Mutex::new(items.into_iter()));
    let work = Arc::new(work);
    let (send, results) = channel();
    for _ in 0..threads {
        let (queue, work, send) = (Arc::clone(&queue), Arc::clone(&work), send.clone());
        let worker = move || {
            while Instant::now() < deadline {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = next else { return };
                if send.send(work(item)).is_err() {
                    return;
                }
            }
        };
        // Where no more threads are to be had, those that there are do the work.
        if thread::Builder::new().stack_size(STACK).spawn(worker).is_err() {
            break;
        }
    }
    Results { results, deadline }
}

impl<R> Results<R> {
    /// The results that come within `pause`, at least one of them unless it is over. None when all are done or the
    /// deadline has passed; threads that still work then are left behind.
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

    /// All results until the deadline.
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
}
