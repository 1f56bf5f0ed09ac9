//! The agents of all nodes, as the controller sees them. Thousands of nodes stay a few lines: equal findings become one
//! with a hostlist.

use super::{Finding, Level, duration};
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::answer::{AgentStatus, Answer};
use crate::slurm::node::NodeInfo;
use std::collections::BTreeMap;

const CHECK: &str = "agents";

/// Clock differences that are a warning and a problem. MUNGE opens no credential that is older, or from further in the
/// future, than its time to live, 300 s by default.
const CLOCK_WARNING_S: u64 = 30;
const CLOCK_PROBLEM_S: u64 = 240;

/// States of Slurm in which a node is not expected to answer.
const AWAY: [&str; 6] =
    ["REBOOT_ISSUED", "POWERING_UP", "POWERING_DOWN", "POWERED_DOWN", "POWER_DOWN", "FUTURE"];

/// Refusal of an agent that knows no trial orders (serde's text for an unknown `do`). It has opened the order and
/// accepted its sealer by then.
const KNOWS_NO_PROBE: &str = "unknown variant `probe`";

/// The cause of a missing answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// The host refuses the connection.
    NobodyListens,
    /// The host does not answer, or the answer did not come in time.
    HostSilent,
    /// NodeAddr leads to no address.
    NoAddress(String),
    Other(String),
}

/// Result of a trial order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    Accepted,
    Refused(String),
    NoAnswer(String),
}

impl Probe {
    /// Returns the meaning of an agent's answer.
    #[must_use]
    pub fn of(answer: Answer) -> Self {
        match answer {
            Answer::Accepted { .. } | Answer::UnderWay { .. } => Self::Accepted,
            Answer::Refused { why, .. } if why.contains(KNOWS_NO_PROBE) => Self::Accepted,
            Answer::Refused { why, .. } => Self::Refused(why),
        }
    }
}

/// Facts about one node and its agent.
#[derive(Debug, Clone)]
pub struct AgentFacts {
    pub node: String,
    /// The node as Slurm reports it. `None` if Slurm was not asked.
    pub slurm: Option<NodeInfo>,
    pub answer: Result<AgentStatus, Silence>,
    /// Seconds by which the agent's clock is ahead of ours.
    pub ahead_s: Option<i64>,
    /// Answer to a trial order. `None` if it was sent none.
    pub probe: Option<Probe>,
}

/// Nodes by finding: level, fact, consequence and remedy.
#[derive(Default)]
pub(super) struct Groups(BTreeMap<(Level, String, String, String), Vec<String>>);

impl Groups {
    pub(super) fn add(&mut self, node: &str, finding: Finding) {
        let Finding { level, what, why, cure, .. } = finding;
        let key = (level, what, why.unwrap_or_default(), cure.unwrap_or_default());
        self.0.entry(key).or_default().push(node.to_owned());
    }

    pub(super) fn findings(self, check: &'static str) -> impl Iterator<Item = Finding> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        self.0.into_iter().map(move |((level, what, why, cure), nodes)| Finding {
            level,
            check: check.to_owned(),
            // A remedy names the nodes in a form that a shell accepts.
            cure: some(cure.replace("NODES", &NodeSet::from_iter(nodes.clone()).to_string())),
            what,
            why: some(why),
            nodes: Some(NodeSet::from_iter(nodes)),
        })
    }
}

/// Returns the findings about these agents. `version` is ours, `port` theirs.
#[must_use]
pub fn agents(facts: &[AgentFacts], version: &str, port: u16) -> Vec<Finding> {
    let mut groups = Groups::default();
    for fact in facts {
        match &fact.answer {
            Ok(status) => {
                for finding in of_status(fact, status, version) {
                    groups.add(&fact.node, finding);
                }
            }
            Err(silence) => groups.add(&fact.node, of_silence(fact, silence, port)),
        }
    }
    let answering = facts.iter().filter(|fact| fact.answer.is_ok()).count();
    let mut findings = Vec::new();
    if answering > 0 || facts.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{answering} of {} answer", facts.len())));
    }
    findings.extend(groups.findings(CHECK));
    findings.push(clocks(facts));
    findings.retain(|finding| !finding.what.is_empty());
    findings
}

/// Returns the seconds that the last order took, by node, for agents that report it.
#[must_use]
pub fn took(facts: &[AgentFacts]) -> Vec<(String, u64)> {
    let order = |fact: &AgentFacts| fact.answer.as_ref().ok()?.order.as_ref()?.took_s;
    facts.iter().filter_map(|fact| Some((fact.node.clone(), order(fact)?))).collect()
}

fn of_status(fact: &AgentFacts, status: &AgentStatus, version: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if status.node != fact.node {
        findings.push(
            Finding::problem(CHECK, format!("the agent there is {}'s", status.node))
                .because("it refuses every order for another node")
                .cured_by("mend NodeAddr in slurm.conf, or node_name in agent.toml on that host"),
        );
    }
    if let Some(trouble) = &status.trouble {
        findings.push(
            Finding::problem(CHECK, format!("takes no order: {trouble}"))
                .because("nobody knows what the node is; its slurmd stays down")
                .cured_by("on the node: `slurm-rollout-agent doctor`"),
        );
    }
    if let Some(order) = status.order.as_ref().filter(|order| order.phase == Phase::Held) {
        let subject = order.rollout.as_deref().unwrap_or("a plain reboot");
        findings.push(
            Finding::warning(CHECK, format!("held by {subject}"))
                .because("out of service until an admin decides")
                .cured_by(
                    "`slurm-rollout status -N NODES` says why; then `slurm-rollout retry` or `release`",
                ),
        );
    }
    if status.version != version {
        let (word, cure) = if number(&status.version) < number(version) {
            ("older", "update slurm-rollout-agent on them")
        } else {
            ("newer", "update slurm-rollout on this host")
        };
        let what = format!("agent {} is {word} than this slurm-rollout {version}", status.version);
        findings.push(
            Finding::warning(CHECK, what)
                .because(
                    "orders of a newer controller with keys that an older agent does not know are refused",
                )
                .cured_by(cure),
        );
    }
    findings
}

fn of_silence(fact: &AgentFacts, silence: &Silence, port: u16) -> Finding {
    let state = |words: &[&'static str]| -> Option<&'static str> {
        let slurm = fact.slurm.as_ref()?;
        words.iter().find(|word| slurm.has(word)).copied()
    };
    if let Some(away) = state(&AWAY) {
        return Finding::ok(CHECK, format!("not expected to answer: {away} in Slurm"));
    }
    let stays = "slurm-rollout can order nothing there: after `scontrol reboot` the node stays DOWN until ResumeTimeout";
    let is_down = state(&["DOWN"]).is_some();
    let (what, cure) = match silence {
        Silence::NobodyListens => (
            format!("no agent listens on TCP port {port}"),
            "on them: `systemctl enable --now slurm-rollout-agent`; `journalctl -u slurm-rollout-agent`"
                .to_owned(),
        ),
        Silence::HostSilent => (
            format!("do not answer on TCP port {port}"),
            format!("is the node up, and does its firewall let this host in on TCP port {port}?"),
        ),
        Silence::NoAddress(why) => {
            (format!("have no address: {why}"), "mend NodeAddr in slurm.conf, /etc/hosts or DNS".to_owned())
        }
        Silence::Other(why) => {
            (format!("no answer: {why}"), "on them: `slurm-rollout-agent doctor`".to_owned())
        }
    };
    match is_down {
        true => Finding::warning(CHECK, format!("DOWN in Slurm, and {what}")).because(stays).cured_by(cure),
        false => Finding::problem(CHECK, what).because(stays).cured_by(cure),
    }
}

/// Returns one finding for all clocks, which names the worst.
fn clocks(facts: &[AgentFacts]) -> Finding {
    const CLOCKS: &str = "clocks";
    let off = |fact: &AgentFacts| fact.ahead_s.map(i64::unsigned_abs);
    let known: Vec<u64> = facts.iter().filter_map(off).collect();
    let Some(most) = known.iter().max() else { return Finding::ok(CLOCKS, "") };
    let unknown = facts.iter().filter(|fact| fact.answer.is_ok() && fact.ahead_s.is_none()).count();
    let unknown = if unknown > 0 { format!("; {unknown} too old to tell") } else { String::new() };
    if *most <= CLOCK_WARNING_S {
        let what = format!("{} clocks, at most {most} s from this host's{unknown}", known.len());
        return Finding::ok(CLOCKS, what);
    }
    let limit = if *most > CLOCK_PROBLEM_S { CLOCK_PROBLEM_S } else { CLOCK_WARNING_S };
    let nodes: NodeSet = facts
        .iter()
        .filter(|fact| off(fact).is_some_and(|off| off > CLOCK_WARNING_S))
        .map(|fact| fact.node.clone())
        .collect();
    let what = format!("up to {} from this host's clock{unknown}", duration(*most));
    let finding = if limit == CLOCK_PROBLEM_S {
        Finding::problem(CLOCKS, what)
    } else {
        Finding::warning(CLOCKS, what)
    };
    finding
        .because("MUNGE takes credentials for replayed or expired that are off by more than its time to live, 300 s by default: orders are then refused, and slurmd cannot register")
        .cured_by("`timedatectl` on this host and on them; make chrony or systemd-timesyncd run")
        .on(nodes)
}

/// Parses a version as numbers, for comparison.
fn number(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+', '~']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
