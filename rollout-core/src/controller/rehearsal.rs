//! `rehearse`: the reports of all agents, folded into one result. Thousands of nodes stay a few lines: equal reports
//! become one with a hostlist.

use crate::hostlist::NodeSet;
use crate::protocol::rehearsal::{ChangeReport, Disk, FailedCheck, Report, Step};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The largest number of steps of one change that the text shows. JSON has all of them.
const SHOWN_STEPS: usize = 20;

/// The result for a node or for all of them, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The order would fail, could not be undone, or is not known.
    Trouble,
    WouldChange,
    NothingToDo,
}

/// Answers of agents to a rehearsal, as they come. Equal ones are kept once.
#[derive(Debug, Default)]
pub struct Rehearsals(BTreeMap<Key, (Vec<String>, Report)>);

/// Groups nodes: the verdict, the reason without a report, and the report without the space that is free.
type Key = (Verdict, Option<String>, Report);

/// Nodes with the same result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group<'a> {
    pub nodes: NodeSet,
    pub verdict: Verdict,
    /// The reason if there is no report.
    pub no_report: Option<&'a str>,
    pub changes: &'a [ChangeReport],
    pub checks: &'a [FailedCheck],
    pub stopped: Option<&'a str>,
}

impl Verdict {
    /// Returns the verdict on one node.
    #[must_use]
    pub fn of(answer: &Result<Report, String>) -> Self {
        match answer {
            Ok(report) if report.has_trouble() => Self::Trouble,
            Ok(report) if report.changes_something() => Self::WouldChange,
            Ok(_) => Self::NothingToDo,
            Err(_) => Self::Trouble,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::WouldChange => "would change",
            Self::NothingToDo => "nothing to do",
        }
    }
}

impl Rehearsals {
    /// Adds the report of a node, or the reason for which there is none.
    pub fn add(&mut self, node: &str, answer: Result<Report, String>) {
        let verdict = Verdict::of(&answer);
        let (why, report) = match answer {
            Ok(report) => (None, report),
            Err(why) => (Some(why), Report::default()),
        };
        let mut without_free = report.clone();
        disks(&mut without_free).for_each(|disk| disk.free = None);
        let group =
            self.0.entry((verdict, why, without_free)).or_insert_with(|| (Vec::new(), report.clone()));
        group.0.push(node.to_owned());
        // The fullest node counts for all of them.
        let mut report = report;
        for (kept, disk) in disks(&mut group.1).zip(disks(&mut report)) {
            kept.free = match (kept.free, disk.free) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
    }

    /// Returns the worst verdict. Without any node there is nothing to do.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.0.keys().map(|(verdict, ..)| *verdict).min().unwrap_or(Verdict::NothingToDo)
    }

    /// Returns the nodes with their results, the worst first.
    #[must_use]
    pub fn groups(&self) -> Vec<Group<'_>> {
        self.0.iter().map(|(key, of_nodes)| Group::of(key, of_nodes)).collect()
    }

    /// Returns the result for people: the number of nodes by verdict, and a paragraph for each group.
    #[must_use]
    pub fn text(&self) -> String {
        let groups = self.groups();
        let count = |verdict: Verdict| -> usize {
            groups.iter().filter(|group| group.verdict == verdict).map(|group| group.nodes.len()).sum()
        };
        let counts = [Verdict::Trouble, Verdict::WouldChange, Verdict::NothingToDo];
        let counts = counts.map(|verdict| (count(verdict), verdict.text()));
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, text)| format!("{text} on {count}"))
            .collect();
        let mut text =
            format!("{}\n", if counts.is_empty() { "no node".to_owned() } else { counts.join(", ") });
        for group in &groups {
            text += &format!("\n{}: {}\n", group.nodes, group.verdict.text());
            group.describe(&mut text);
        }
        text
    }
}

fn disks(report: &mut Report) -> impl Iterator<Item = &mut Disk> {
    report.changes.iter_mut().flat_map(|change| &mut change.disk)
}

impl<'a> Group<'a> {
    fn of((verdict, why, _): &'a Key, (nodes, report): &'a (Vec<String>, Report)) -> Self {
        Self {
            nodes: nodes.iter().cloned().collect(),
            verdict: *verdict,
            no_report: why.as_deref(),
            changes: &report.changes,
            checks: &report.checks,
            stopped: report.stopped.as_deref(),
        }
    }

    fn describe(&self, text: &mut String) {
        let mut line = |subject: &str, what: &str| {
            let _ = writeln!(text, "  {subject}: {what}");
        };
        if let Some(why) = self.no_report {
            line("no report", why);
        }
        for change in self.changes {
            let kind = change.kind.as_str();
            change.trouble.iter().for_each(|trouble| line(kind, trouble));
            change.steps.iter().take(SHOWN_STEPS).for_each(|step| line(kind, &describe(step)));
            let more = change.steps.len().saturating_sub(SHOWN_STEPS);
            if more > 0 {
                line(kind, &format!("and {more} more; --json has all"));
            }
            change.disk.iter().for_each(|disk| line(kind, &space(disk)));
            change.notes.iter().for_each(|note| line(kind, note));
        }
        for FailedCheck { check, why } in self.checks {
            line("verify", &format!("{check} fails today: {why}"));
        }
        if let Some(why) = self.stopped {
            line("not complete", why);
        }
    }
}

fn describe(Step { what, from, to }: &Step) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{what}: {from} -> {to}"),
        (None, Some(to)) => format!("{what}: new, {to}"),
        (Some(from), None) => format!("{what}: removed, was {from}"),
        (None, None) => what.clone(),
    }
}

fn space(Disk { directory, needed, free }: &Disk) -> String {
    const MIB: u64 = 1 << 20;
    let free = free.map_or("unknown".to_owned(), |free| format!("{} MiB", free / MIB));
    format!("{} MiB needed in {directory}, {free} free", needed.div_ceil(MIB))
}

#[cfg(test)]
mod tests;
