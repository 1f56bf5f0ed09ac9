//! The progress of started rollouts, in lines for people.

use crate::planning::{end, is_of_the_state, text_of};
use rollout_core::controller::pace::Pace;
use rollout_core::controller::snapshot::RolloutState;
use rollout_plan::forecast::Forecast;
use rollout_plan::plan::{Counts, RolloutPlan};

const BAR_WIDTH: usize = 60;

/// The use of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// They are printed once.
    Once,
    /// They replace those before them on a terminal, and have a bar.
    Redrawn,
    /// They are appended to those before them if they differ. So they have nothing that changes with the time alone.
    Appended,
}

/// Returns the lines about a started rollout, without its state.
pub(crate) fn lines(
    rollout: &RolloutState,
    plan: &RolloutPlan,
    forecast: Option<&Forecast>,
    style: Style,
    now_ms: u64,
) -> Vec<String> {
    let mut parts = counts(plan);
    let is_stopped = plan.blocked.as_ref().is_some_and(is_of_the_state);
    if style != Style::Appended {
        parts.extend(Pace::of(&rollout.records).and_then(|pace| pace.rate()));
        parts.extend(forecast.filter(|_| !is_stopped).and_then(end));
    }
    let text = match plan.blocked.as_ref().filter(|_| !is_stopped) {
        Some(why) => format!("{}; {}", parts.join(", "), text_of(why, now_ms)),
        None => parts.join(", "),
    };
    match style {
        Style::Redrawn => vec![bar(&plan.counts, BAR_WIDTH), text],
        Style::Once | Style::Appended => vec![text],
    }
}

/// Returns the wave, and the numbers of nodes by their standing.
fn counts(plan: &RolloutPlan) -> Vec<String> {
    let counts = &plan.counts;
    let mut parts = Vec::new();
    if plan.waves > 1 {
        parts.push(format!("wave {} of {}", plan.wave, plan.waves));
    }
    parts.push(format!("{} of {} updated", counts.updated, all(counts)));
    let others = [
        (counts.out, "out"),
        (counts.requested, "requested"),
        (counts.waiting, "waiting"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0);
    parts.extend(others.map(|(count, what)| format!("{count} {what}")));
    parts
}

fn all(counts: &Counts) -> usize {
    let Counts { waiting, requested, out, updated, failed, skipped } = *counts;
    [waiting, requested, out, updated, failed, skipped].into_iter().fold(0, usize::saturating_add)
}

/// Returns a bar of this width: `#` for updated nodes, `!` for failed ones, `>` for those that are requested or out,
/// `.` for all others.
fn bar(counts: &Counts, width: usize) -> String {
    let all = all(counts).max(1);
    let parts = [
        ('#', counts.updated),
        ('!', counts.failed),
        ('>', counts.out.saturating_add(counts.requested)),
        ('.', counts.waiting.saturating_add(counts.skipped)),
    ];
    let (mut bar, mut sum) = (String::new(), 0_usize);
    for (mark, count) in parts {
        sum = sum.saturating_add(count);
        // The ends are rounded, so the width is exact. A single node is seen all the same.
        let end = sum.saturating_mul(width) / all;
        let least = usize::from(count > 0 && bar.len() < width);
        let part = end.saturating_sub(bar.len()).max(least);
        bar.extend(std::iter::repeat_n(mark, part));
    }
    bar.truncate(width);
    format!("[{bar}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_width_and_shows_single_nodes() {
        let bar_of = |updated, failed, out, waiting| {
            bar(&Counts { updated, failed, out, waiting, ..Counts::default() }, 10)
        };
        for (text, expected) in [
            (bar_of(0, 0, 0, 4), "[..........]"),
            (bar_of(1, 0, 1, 2), "[##>>>.....]"),
            (bar_of(4, 0, 0, 0), "[##########]"),
            (bar_of(997, 1, 1, 1), "[#########!]"),
            (bar_of(1, 1, 1, 9997), "[#!>.......]"),
            (bar_of(0, 0, 0, 0), "[]"),
        ] {
            assert_eq!(text, expected);
        }
    }
}
