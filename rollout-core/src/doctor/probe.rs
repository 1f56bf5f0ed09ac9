//! Trial orders: whether agents would accept an order from this host. A trial order ([`OrderKind::Probe`]) is sealed as
//! RebootProgram seals, and changes nothing.
//!
//! [`OrderKind::Probe`]: crate::protocol::order::OrderKind::Probe

use super::Finding;
use super::agents::{AgentFacts, Groups, Probe};

const CHECK: &str = "orders";

/// Returns the findings about trial orders of this SlurmUser to the agents. None if no agent was sent one.
#[must_use]
pub fn probes(facts: &[AgentFacts], slurm_user: &str) -> Vec<Finding> {
    let mut groups = Groups::default();
    let (mut sent, mut accepted) = (0, 0);
    for fact in facts {
        let Some(probe) = &fact.probe else { continue };
        // Both are reported already, and are the cause of any refusal.
        let is_known = |status: &crate::protocol::answer::AgentStatus| {
            status.trouble.is_some() || status.node != fact.node
        };
        if fact.answer.as_ref().is_ok_and(is_known) {
            continue;
        }
        sent += 1;
        match probe {
            Probe::Accepted => accepted += 1,
            Probe::Refused(why) => groups.add(&fact.node, refused(why)),
            Probe::NoAnswer(why) => {
                let finding = Finding::warning(CHECK, format!("gave no answer to a trial order: {why}"));
                groups.add(&fact.node, finding.cured_by("on them: `journalctl -u slurm-rollout-agent`"));
            }
        }
    }
    let ok = (accepted > 0).then(|| {
        let what = format!(
            "{accepted} of {sent} agents accept orders that SlurmUser {slurm_user} seals on this host"
        );
        Finding::ok(CHECK, what)
    });
    ok.into_iter().chain(groups.findings(CHECK)).collect()
}

/// Returns the finding about a SlurmUser that cannot seal orders on this host.
#[must_use]
pub fn not_sealed(slurm_user: &str, why: &str) -> Finding {
    Finding::problem(CHECK, format!("SlurmUser {slurm_user} cannot seal orders on this host: {why}"))
        .because("RebootProgram, which runs as SlurmUser, can order nothing")
        .cured_by(
            "as that user: `munge -n`, and read controller.toml; on a cluster without MUNGE, the key must belong to SlurmUser",
        )
}

/// Returns the finding about trial orders that were not sent, by a `doctor` that root runs or not.
#[must_use]
pub fn not_tried(why: &str, is_root: bool) -> Finding {
    Finding::warning(CHECK, format!("not tried whether agents accept orders from this host: {why}")).cured_by(
        match is_root {
            true => "remove the cause, or name fewer nodes (`slurm-rollout doctor NODES`)",
            false => "run `slurm-rollout doctor` as root",
        },
    )
}

fn refused(why: &str) -> Finding {
    let has = |texts: &[&str]| texts.iter().any(|text| why.contains(text));
    let clocks = has(&["Expired credential", "Rewound credential", "do the clocks agree"]);
    let what = match clocks {
        // The text has the difference, which is another one on each node.
        true => "refuse orders from this host, whose clock differs from theirs".to_owned(),
        false => format!("refuse orders from this host: {why}"),
    };
    let cure = if clocks {
        "`timedatectl` on this host and on them; make chrony or systemd-timesyncd run"
    } else if has(&["Invalid credential", "Bad credential"]) {
        "copy this host's /etc/munge/munge.key to them, `systemctl restart munge` there"
    } else if has(&["is neither root nor"]) {
        "SlurmUser must have the same uid on all hosts; slurm_user in agent.toml must be SlurmUser of slurm.conf"
    } else if has(&["does not know the user"]) {
        "SlurmUser must be known to them: `getent passwd USER`; slurm_user in agent.toml"
    } else if has(&["munged at"]) {
        "on them: `systemctl enable --now munge`; munge_socket in agent.toml"
    } else if has(&["the key ", "node's key", "it is not sealed"]) {
        "order_key must be set on controllers and nodes, or on neither; copy this host's key to them, with mode 0600"
    } else {
        "on them: `slurm-rollout-agent doctor`"
    };
    Finding::problem(CHECK, what)
        .because("nothing that is staged for them is applied: after `scontrol reboot` they stay DOWN until ResumeTimeout")
        .cured_by(cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level::{Ok as Fine, Problem, Warning};
    use crate::protocol::answer::{AgentStatus, Answer};
    use crate::protocol::order::{Order, OrderId};

    fn fact(node: &str, probe: Option<Probe>) -> AgentFacts {
        let status = AgentStatus { node: node.to_owned(), ..AgentStatus::default() };
        AgentFacts { node: node.to_owned(), slurm: None, answer: Ok(status), ahead_s: None, probe }
    }

    fn refusal(why: &str) -> Option<Probe> {
        Some(Probe::of(Answer::refused(why.to_owned())))
    }

    #[test]
    fn an_agent_that_knows_no_trial_orders_has_accepted_the_sealer() {
        let id = OrderId::from_random(1);
        assert_eq!(Probe::of(Answer::Accepted { volatile: false, order: Some(id) }), Probe::Accepted);
        let text = "{\"purpose\":\"slurm-rollout order\",\"version\":1,\"id\":\"1\",\"nodes\":\"n1\",\
                    \"what\":{\"do\":\"of-a-later-version\"}}";
        let older = Order::parse(text.as_bytes()).unwrap_err().to_string();
        let older = older.replace("of-a-later-version", "probe");
        assert_eq!(Probe::of(Answer::refused(older)), Probe::Accepted);
        assert_eq!(
            refusal("MUNGE: Invalid credential"),
            Some(Probe::Refused("MUNGE: Invalid credential".into()))
        );
    }

    #[test]
    fn every_refusal_has_its_cure_and_many_nodes_are_one_finding() {
        for (why, cure) in [
            ("MUNGE: Invalid credential", "munge.key"),
            ("MUNGE: Expired credential", "timedatectl"),
            ("sealed before this node booted; do the clocks agree?", "timedatectl"),
            ("sealed by uid 300, which is neither root nor slurm", "same uid"),
            (
                "sealed by uid 300, which is not root, and this node does not know the user slurm; `getent",
                "getent",
            ),
            ("munged at /run/munge/munge.socket.2 does not answer: x", "enable --now munge"),
            ("the order was not sealed with this node's key", "order_key"),
            ("the key /etc/slurm/slurm.key: No such file", "order_key"),
            ("this host runs more than one slurmd", "slurm-rollout-agent doctor"),
        ] {
            let findings = probes(&[fact("n1", refusal(why)), fact("n2", refusal(why))], "slurm");
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!((findings[0].level, findings[0].check.as_str()), (Problem, "orders"));
            assert_eq!(findings[0].nodes.as_ref().unwrap().to_string(), "n[1-2]");
            assert!(findings[0].cure.as_ref().unwrap().contains(cure), "{findings:?}");
        }
        let late = |s| format!("the order was sealed {s} s ago; do the clocks agree?");
        let findings = probes(&[fact("n1", refusal(&late(301))), fact("n2", refusal(&late(302)))], "slurm");
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn only_agents_that_were_sent_one_count() {
        assert_eq!(probes(&[fact("n1", None)], "slurm"), []);
        let another = AgentFacts { node: "n3".to_owned(), ..fact("n4", refusal("the order is for n3")) };
        let trouble =
            AgentStatus { trouble: Some("torn".to_owned()), node: "n5".to_owned(), ..AgentStatus::default() };
        let trouble = AgentFacts { answer: Ok(trouble), ..fact("n5", refusal("torn")) };
        let silent = fact("n2", Some(Probe::NoAnswer("it did not come in time".to_owned())));
        let findings = probes(&[fact("n1", Some(Probe::Accepted)), silent, another, trouble], "slurm");
        let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Fine, Warning], "{findings:?}");
        assert!(findings[0].what.starts_with("1 of 2 agents accept"), "{findings:?}");
    }
}
