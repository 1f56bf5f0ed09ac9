//! Problems of an installation and their remedies: facts in, findings out.
//!
//! | module | looks at |
//! |---|---|
//! | [`slurm`] | Slurm's configuration: versions, RebootProgram's setting, timeouts |
//! | [`access`] | permissions of RebootProgram's file and of the state directory |
//! | [`agents`] | the agents of all nodes, in groups |
//! | [`configuration`] | the files of a configuration and the mistakes in them |
//! | [`controller`] | a SlurmctldHost: units, shared state, repeated parameters |
//! | [`mounts`] | file systems that do not survive a boot |
//! | [`node`] | one node, from within: units, gate, ledger |
//! | [`power`] | the tables `[[power]]` |
//! | [`probe`] | trial orders to the agents |
//! | [`rollouts`] | lost nodes, and rollouts that cannot be read |
//!
//! Findings are worded for somebody who is called at night: the fact, its consequence, and the command or line that
//! helps.

pub mod access;
pub mod agents;
pub mod configuration;
pub mod controller;
pub mod mounts;
pub mod node;
pub mod power;
pub mod probe;
pub mod rollouts;
pub mod slurm;

use crate::hostlist::NodeSet;
use crate::text::one_line;
use serde::{Deserialize, Serialize};

/// Length limit of a fact in one line, in characters. It may quote the output of programs.
const MAX_WHAT: usize = 600;

/// Severity of a finding, in the order of display: the worst comes last, at the end of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works until something happens, or it could not be checked.
    Warning,
    /// Rollouts fail, or will.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub level: Level,
    /// Name of the check, in one word.
    pub check: String,
    /// The fact.
    pub what: String,
    /// Its consequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command to type or the line to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// The nodes concerned, if the finding is about some of many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSet>,
}

/// All findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub problems: usize,
    pub warnings: usize,
    /// Sorted, the worst last.
    pub findings: Vec<Finding>,
}

impl Level {
    /// Returns the word for it in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    /// Returns a finding of a fact that is as it should be.
    pub fn ok(check: &str, what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            check: check.to_owned(),
            what: one_line(&what.into(), MAX_WHAT),
            why: None,
            cure: None,
            nodes: None,
        }
    }

    /// Returns a finding of a fact that does no harm until something happens.
    pub fn warning(check: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(check, what) }
    }

    /// Returns a finding of a fact that makes rollouts fail, now or later.
    pub fn problem(check: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(check, what) }
    }

    /// Adds the consequence.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn cured_by(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }

    /// Adds the nodes concerned.
    #[must_use]
    pub fn on(self, nodes: NodeSet) -> Self {
        Self { nodes: Some(nodes), ..self }
    }
}

impl Report {
    /// Sorts the findings by level. Within a level they keep their order.
    #[must_use]
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.level);
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self { problems: count(Level::Problem), warnings: count(Level::Warning), findings }
    }

    /// Returns the report for people, with the names of checks in a column of one width.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut report = String::new();
        for Finding { level, check, what, why, cure, nodes } in &self.findings {
            let nodes = nodes.as_ref().map(|nodes| format!("{nodes}: ")).unwrap_or_default();
            report += &format!("{:7}  {check:width$}  {nodes}{what}\n", level.name());
            for (word, text) in [("why:", why), ("do:", cure)] {
                for (index, line) in text.iter().flat_map(|text| text.lines()).enumerate() {
                    let word = if index == 0 { word } else { "" };
                    report += &format!("         {word:4} {line}\n");
                }
            }
        }
        let count = |number: usize, word: &str| match number {
            1 => format!("1 {word}"),
            _ => format!("{number} {word}s"),
        };
        let ok = self.findings.len() - self.problems - self.warnings;
        let (problems, warnings) = (count(self.problems, "problem"), count(self.warnings, "warning"));
        report + &format!("{problems}, {warnings}, {ok} ok\n")
    }
}

/// Formats seconds for people.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) if seconds >= 180 => format!("{minutes} min"),
        (minutes, rest) if seconds >= 180 => format!("{minutes} min {rest} s"),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stands_last_with_what_to_do() {
        let nodes = NodeSet::parse("cn[01-02]").unwrap();
        let report = Report::of(vec![
            Finding::problem("agents", "nobody listens")
                .because("they refuse")
                .cured_by("start it\nlook")
                .on(nodes),
            Finding::ok("munge", "works"),
            Finding::warning("a", "b"),
        ]);
        let expected = "\
ok       munge   works
warning  a       b
problem  agents  cn[01-02]: nobody listens
         why: they refuse
         do:  start it
              look
1 problem, 1 warning, 1 ok
";
        assert_eq!(report.text(), expected);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(Report::of(Vec::new()).text(), "0 problems, 0 warnings, 0 ok\n");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in
            [(5, "5 s"), (90, "90 s"), (120, "120 s"), (180, "3 min"), (1801, "30 min 1 s")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
