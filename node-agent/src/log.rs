//! Logging: lines on standard error, with the priority as journald reads it (`<4>`). An idle agent logs nothing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) fn info(text: &str) {
    eprintln!("<6>{text}");
}

pub(crate) fn warning(text: &str) {
    eprintln!("<4>{text}");
}

pub(crate) fn error(text: &str) {
    use std::io::IsTerminal;
    let mark = if std::io::stderr().is_terminal() { "slurm-rollout-agent: " } else { "<3>" };
    eprintln!("{mark}{text}");
}

/// Rate limit of [`Throttled`]: at most this many lines per window. The journal stays readable, and journald has no
/// reason to drop our other lines (it takes 10,000 in 30 s).
const MAX_LINES: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);

/// A log with a rate limit, for lines that anybody who reaches the port can cause.
#[derive(Debug, Default)]
pub(crate) struct Throttled(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    lines: u32,
    left_out: u32,
}

impl Throttled {
    pub(crate) fn info(&self, text: impl FnOnce() -> String) {
        if self.admit() {
            info(&text());
        }
    }

    pub(crate) fn warning(&self, text: impl FnOnce() -> String) {
        if self.admit() {
            warning(&text());
        }
    }

    fn admit(&self) -> bool {
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out @ 1..) = admitted {
            info(&format!("{left_out} more lines such as these were left out"));
        }
        admitted.is_some()
    }
}

impl Window {
    /// Returns the number of lines left out before this one, or `None` if this one is left out, too.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            (self.begun, self.lines) = (Some(now), 0);
        }
        if self.lines == MAX_LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let begun = Instant::now();
        let mut window = Window::default();
        let admitted = (0..1000).filter(|_| window.admit(begun).is_some()).count();
        assert_eq!(admitted, MAX_LINES as usize);
        assert_eq!(window.admit(begun + WINDOW / 2), None);
        assert_eq!(window.admit(begun + WINDOW), Some(1001 - MAX_LINES), "what was left out is told");
        assert_eq!(window.admit(begun + WINDOW), Some(0), "once");
    }
}
