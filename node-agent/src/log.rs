//! Logging: lines on standard error, with the priority as journald reads it (`<4>`). Idle, the agent says nothing.

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

/// So many lines of [`Measured`] in so long a time: a look at the journal still shows what goes on, and journald has no
/// reason to drop our other lines (it takes 10,000 in 30 s).
const LINES: u32 = 200;
const IN: Duration = Duration::from_secs(10);

/// The lines that anybody can cause who reaches the port.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<Measure>);

#[derive(Debug, Default)]
struct Measure {
    begun: Option<Instant>,
    said: u32,
    left_out: u32,
}

impl Measured {
    pub(crate) fn info(&self, text: impl FnOnce() -> String) {
        if self.may_say() {
            info(&text());
        }
    }

    pub(crate) fn warning(&self, text: impl FnOnce() -> String) {
        if self.may_say() {
            warning(&text());
        }
    }

    fn may_say(&self) -> bool {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now());
        if let Some(left_out @ 1..) = turn {
            info(&format!("{left_out} more lines such as these were left out"));
        }
        turn.is_some()
    }
}

impl Measure {
    /// Whether a line may be said now, and how many were not before it.
    fn turn(&mut self, now: Instant) -> Option<u32> {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= IN) {
            (self.begun, self.said) = (Some(now), 0);
        }
        if self.said == LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let begun = Instant::now();
        let mut measure = Measure::default();
        let said = (0..1000).filter(|_| measure.turn(begun).is_some()).count();
        assert_eq!(said, LINES as usize);
        assert_eq!(measure.turn(begun + IN / 2), None);
        assert_eq!(measure.turn(begun + IN), Some(1001 - LINES), "what was left out is told");
        assert_eq!(measure.turn(begun + IN), Some(0), "once");
    }
}
