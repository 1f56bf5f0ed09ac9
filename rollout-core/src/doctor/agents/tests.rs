use super::*;
use crate::doctor::Level::{Ok as Fine, Problem, Warning};
use crate::protocol::answer::OrderStatus;
use crate::protocol::order::OrderId;

fn status(node: &str) -> AgentStatus {
    AgentStatus {
        version: "0.1.0".into(),
        node: node.into(),
        boot_id: "b".into(),
        uptime_s: 60,
        clock_s: None,
        order: None,
        ..AgentStatus::default()
    }
}

fn slurm(node: &str, state: &str) -> Option<NodeInfo> {
    let state = state.split('+').map(str::to_owned).collect();
    Some(NodeInfo { name: node.into(), state, ..NodeInfo::default() })
}

fn fact(node: &str, state: &str, answer: Result<AgentStatus, Silence>) -> AgentFacts {
    AgentFacts { node: node.into(), slurm: slurm(node, state), answer, ahead_s: None, probe: None }
}

/// Level, nodes and text of all findings.
fn said(facts: &[AgentFacts]) -> Vec<String> {
    let findings = agents(facts, "0.1.0", 6821);
    let line = |f: Finding| format!("{} {} {}", f.level.name(), f.nodes.unwrap_or_default(), f.what);
    findings.into_iter().map(line).collect()
}

#[test]
fn thousands_of_nodes_stay_a_few_lines() {
    let name = |n: u32| format!("cn{n:04}");
    let mut facts: Vec<_> = (1..=3000).map(|n| fact(&name(n), "IDLE", Ok(status(&name(n))))).collect();
    facts.extend((3001..=3010).map(|n| fact(&name(n), "IDLE", Err(Silence::NobodyListens))));
    facts.extend((3011..=3020).map(|n| fact(&name(n), "DOWN", Err(Silence::HostSilent))));
    facts.extend((3021..=3030).map(|n| fact(&name(n), "DOWN+REBOOT_ISSUED", Err(Silence::HostSilent))));
    facts.extend((3031..=3040).map(|n| fact(&name(n), "ALLOCATED", Err(Silence::HostSilent))));
    assert_eq!(
        said(&facts),
        [
            "ok  3000 of 3040 answer",
            "ok cn[3021-3030] not expected to answer: REBOOT_ISSUED in Slurm",
            "warning cn[3011-3020] DOWN in Slurm, and do not answer on TCP port 6821",
            "problem cn[3031-3040] do not answer on TCP port 6821",
            "problem cn[3001-3010] no agent listens on TCP port 6821",
        ]
    );
}

#[test]
fn what_agents_say_of_themselves() {
    let held = |phase| OrderStatus {
        id: OrderId::from_random(1),
        rollout: Some("driver".into()),
        phase,
        since_s: 1,
        error: None,
        notes: Vec::new(),
        changed: false,
        took_s: None,
    };
    for (answer, expected) in [
        (status("n1"), None),
        (AgentStatus { version: "0.0.9".into(), ..status("n1") }, Some("warning n1 agent 0.0.9 is older")),
        (AgentStatus { version: "0.10.0".into(), ..status("n1") }, Some("warning n1 agent 0.10.0 is newer")),
        (status("n2"), Some("problem n1 the agent there is n2's")),
        (
            AgentStatus { trouble: Some("torn".into()), ..status("n1") },
            Some("problem n1 takes no order: torn"),
        ),
        (AgentStatus { order: Some(held(Phase::Held)), ..status("n1") }, Some("warning n1 held by driver")),
        (AgentStatus { order: Some(held(Phase::Updated)), ..status("n1") }, None),
    ] {
        let said = said(&[fact("n1", "IDLE", Ok(answer))]);
        assert_eq!(said[0], "ok  1 of 1 answer");
        assert_eq!(said.len() - 1, usize::from(expected.is_some()), "{said:?}");
        assert!(expected.is_none_or(|expected| said[1].starts_with(expected)), "{said:?}");
    }
}

#[test]
fn every_kind_of_silence_has_its_cure() {
    for (silence, word, cure) in [
        (Silence::NobodyListens, "no agent listens", "enable --now slurm-rollout-agent"),
        (Silence::HostSilent, "do not answer", "firewall"),
        (Silence::NoAddress("NodeAddr x has none".into()), "have no address: NodeAddr x", "NodeAddr"),
        (Silence::Other("HTTP 500".into()), "HTTP 500", "doctor"),
    ] {
        let findings = agents(&[fact("n1", "IDLE", Err(silence))], "0.1.0", 6821);
        assert_eq!(findings.len(), 1, "nobody answers, so nothing is said of that: {findings:?}");
        assert_eq!(findings[0].level, Problem);
        assert!(findings[0].what.contains(word) && findings[0].cure.as_ref().unwrap().contains(cure));
    }
    let unasked = AgentFacts { slurm: None, ..fact("n1", "DOWN", Err(Silence::HostSilent)) };
    assert_eq!(agents(&[unasked], "0.1.0", 6821)[0].level, Problem, "Slurm was not asked");
    assert_eq!(said(&[]), ["ok  0 of 0 answer"]);
}

#[test]
fn commands_name_the_nodes() {
    let order = OrderStatus {
        id: OrderId::from_random(1),
        rollout: None,
        phase: Phase::Held,
        since_s: 1,
        error: None,
        notes: Vec::new(),
        changed: false,
        took_s: None,
    };
    let held = |n: &str| fact(n, "DOWN", Ok(AgentStatus { order: Some(order.clone()), ..status(n) }));
    let findings = agents(&[held("n1"), held("n2")], "0.1.0", 6821);
    assert!(findings[1].cure.as_ref().unwrap().contains("slurm-rollout status -N n[1-2]"), "{findings:?}");
}

#[test]
fn clocks_are_held_against_munges_time_to_live() {
    for (ahead, level, nodes) in [
        (&[0, -3, 30][..], Fine, ""),
        (&[31, 2], Warning, "n0"),
        (&[-240, 2], Warning, "n0"),
        (&[2, 241, -50], Problem, "n[1-2]"),
        (&[-100_000], Problem, "n0"),
    ] {
        let one = |(n, ahead): (usize, &i64)| {
            let node = format!("n{n}");
            AgentFacts { ahead_s: Some(*ahead), ..fact(&node, "IDLE", Ok(status(&node))) }
        };
        let findings = agents(&ahead.iter().enumerate().map(one).collect::<Vec<_>>(), "0.1.0", 6821);
        let clock = findings.last().unwrap();
        assert_eq!((clock.check.as_str(), clock.level), ("clocks", level), "{ahead:?}");
        assert_eq!(clock.nodes.clone().unwrap_or_default().to_string(), nodes);
    }
}

#[test]
fn how_long_orders_took_is_known_of_those_that_tell() {
    let order = |took_s| OrderStatus {
        id: OrderId::from_random(1),
        rollout: None,
        phase: Phase::Updated,
        since_s: 1,
        error: None,
        notes: Vec::new(),
        changed: false,
        took_s,
    };
    let with = |n: &str, took_s| fact(n, "IDLE", Ok(AgentStatus { order: Some(order(took_s)), ..status(n) }));
    let facts = [with("n1", Some(5)), with("n2", None), fact("n3", "IDLE", Err(Silence::HostSilent))];
    assert_eq!(took(&facts), [("n1".to_owned(), 5)]);
}
