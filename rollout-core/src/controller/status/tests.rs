use super::*;
use crate::controller::testing::{self, Boot, IMAGE, LINK, NEW_BOOT, Node, OLD_BOOT, running};
use crate::rollout::journal::{ConductState, KeptOut, Request, Way};
use crate::slurm::drains::Drain;

/// The agent's answer.
#[derive(Debug, Clone, Copy)]
enum Agent {
    NotAsked,
    Silent,
    /// It never had an order.
    Idle,
    /// It reports on the order that the journal has.
    At(Phase),
    /// It has an order of another rollout.
    Other,
}

/// Returns the record of a node at 5 s.
fn record(progress: Progress) -> NodeRecord {
    let why = match progress {
        Progress::Refused => Some("busy"),
        Progress::Unreachable | Progress::Lost => Some("silence"),
        Progress::Superseded => Some("next was staged after it"),
        Progress::Seen(Phase::Held) => Some("nhc"),
        _ => None,
    };
    NodeRecord { since_ms: 5000, why: why.map(str::to_owned), ..testing::record(progress) }
}

fn agent(order: Option<(u128, Phase)>) -> AgentStatus {
    let agent = testing::agent(NEW_BOOT);
    let Some((number, phase)) = order else { return agent };
    let mut agent = agent.at(number, phase);
    agent.order.as_mut().unwrap().error =
        matches!(phase, Phase::Held | Phase::Undoing).then(|| "nhc said no".to_owned());
    agent
}

/// Returns node n1 in rollout `driver` at 10 s. The agent answers that it booted at 4 s.
fn node(record: NodeRecord, by: Agent, state: &str) -> Node {
    let node = Node::new().and_in("driver", LINK, record).at_s(10);
    let node = if state.is_empty() { node } else { node.slurm(state, "") };
    match by {
        Agent::NotAsked => node,
        Agent::Silent => node.silent(),
        Agent::Idle => node.agent(agent(None).up_for(6)),
        Agent::At(phase) => node.agent(agent(Some((1, phase))).for_rollout("driver").up_for(6)),
        Agent::Other => node.agent(agent(Some((2, Phase::Updated))).for_rollout("other").up_for(6)),
    }
}

fn status(node: &Node) -> NodeStatus {
    let view = node.0.node("n1");
    of_node(view, view.records().next().unwrap())
}

const REINSTALLED: &str = "its agent knows of no order: was the node reinstalled?";
const BAD_REGISTRATION: &str = "Slurm refuses its registration: no reason is known";
const OVERTAKEN: &str = "has had another order since: how this one ended was not seen";

#[test]
fn each_source_is_believed_if_it_knows_best() {
    use {Agent as A, DisplayPhase as W, Progress as S};
    let sending = S::Ordering { until_ms: 6000 };
    for (progress, agent, state, phase, note) in [
        // Staged: Slurm shows whether the node drains.
        (S::Staged, A::NotAsked, "", W::Staged, ""),
        (S::Staged, A::Idle, "IDLE", W::Staged, ""),
        (S::Staged, A::Idle, "ALLOCATED+DRAIN+REBOOT_REQUESTED", W::Draining, ""),
        (S::Staged, A::Other, "IDLE", W::Staged, ""),
        (S::Staged, A::Silent, "IDLE", W::Staged, "agent: timed out"),
        (S::Staged, A::Silent, "", W::Staged, "agent: timed out"),
        (S::Staged, A::Silent, "DOWN+REBOOT_ISSUED", W::Staged, ""),
        // Sent or taken: the agent reports its phase.
        (sending, A::At(Phase::Applying), "DOWN+REBOOT_ISSUED", W::Applying, ""),
        (sending, A::Silent, "DOWN+REBOOT_ISSUED", W::Rebooting, ""),
        (sending, A::Idle, "DOWN+REBOOT_ISSUED", W::Ordered, REINSTALLED),
        (sending, A::NotAsked, "DOWN+REBOOT_ISSUED", W::Ordered, ""),
        (S::Ordered, A::NotAsked, "", W::Ordered, ""),
        (S::Ordered, A::Silent, "DOWN+DRAIN+REBOOT_ISSUED", W::Rebooting, ""),
        (S::Ordered, A::Silent, "IDLE", W::Ordered, "agent: timed out"),
        (S::Ordered, A::Silent, "", W::Ordered, "agent: timed out"),
        (S::Ordered, A::Idle, "IDLE", W::Ordered, REINSTALLED),
        (S::Ordered, A::Other, "IDLE", W::Ordered, OVERTAKEN),
        (S::Ordered, A::At(Phase::Applying), "DOWN", W::Applying, ""),
        (S::Ordered, A::At(Phase::Rebooting), "DOWN", W::Rebooting, ""),
        (S::Ordered, A::At(Phase::Verifying), "DOWN", W::Verifying, ""),
        (S::Ordered, A::At(Phase::Undoing), "DOWN", W::Applying, "going back: nhc said no"),
        (S::Ordered, A::At(Phase::RebootingBack), "DOWN", W::Rebooting, "going back: no reason is known"),
        (S::Ordered, A::At(Phase::VerifyingOld), "DOWN", W::Verifying, "going back: no reason is known"),
        (S::Ordered, A::At(Phase::Held), "IDLE+DRAIN", W::Held, "nhc said no"),
        (S::Ordered, A::At(Phase::Updated), "IDLE", W::Updated, ""),
        (S::Ordered, A::At(Phase::Updated), "DOWN+REBOOT_ISSUED+INVALID_REG", W::Failed, BAD_REGISTRATION),
        (S::Ordered, A::At(Phase::RolledBack), "IDLE", W::RolledBack, ""),
        (S::Ordered, A::At(Phase::Released), "IDLE", W::Released, ""),
        // The answer was lost on the way, and the order was not.
        (S::Unreachable, A::At(Phase::Applying), "DOWN+REBOOT_ISSUED", W::Applying, ""),
        (S::Unreachable, A::Silent, "DOWN+REBOOT_ISSUED", W::Unreachable, "silence"),
        (S::Unreachable, A::Idle, "DOWN+REBOOT_ISSUED", W::Unreachable, "silence"),
        (S::Refused, A::Other, "DOWN+REBOOT_ISSUED", W::Failed, "busy"),
        (S::Refused, A::Silent, "", W::Failed, "busy"),
        // Seen before; the agent may know more by now, or nothing any longer.
        (S::Seen(Phase::Updated), A::NotAsked, "", W::Updated, ""),
        (S::Seen(Phase::Updated), A::NotAsked, "DOWN+INVALID_REG", W::Failed, BAD_REGISTRATION),
        (S::Seen(Phase::Updated), A::Silent, "DOWN", W::Updated, ""),
        (S::Seen(Phase::Updated), A::Other, "IDLE", W::Updated, ""),
        (S::Seen(Phase::Updated), A::Idle, "IDLE", W::Updated, ""),
        (S::Seen(Phase::Held), A::Silent, "DOWN", W::Held, "nhc"),
        (S::Seen(Phase::Held), A::At(Phase::Applying), "DOWN", W::Applying, ""),
        (S::Seen(Phase::RolledBack), A::Other, "IDLE", W::RolledBack, ""),
        // Concluded before. The agent may be heard of again.
        (S::Lost, A::NotAsked, "", W::Lost, "silence"),
        (S::Lost, A::Silent, "DOWN", W::Lost, "silence"),
        (S::Lost, A::Idle, "IDLE", W::Lost, "silence"),
        (S::Lost, A::At(Phase::Verifying), "DOWN", W::Verifying, ""),
        (S::Superseded, A::Silent, "", W::Superseded, "next was staged after it"),
        (S::Superseded, A::At(Phase::Updated), "IDLE", W::Updated, ""),
    ] {
        let status = status(&node(record(progress), agent, state));
        let what = format!("{progress:?} {agent:?} {state:?}");
        assert_eq!((status.phase, status.note.as_deref().unwrap_or("")), (phase, note), "{what}");
        assert_eq!(status.slurm_state.as_deref().unwrap_or(""), state, "{what}");
        let answered = matches!(agent, A::Idle | A::At(_) | A::Other);
        assert_eq!(status.boot_id.as_deref(), answered.then_some(NEW_BOOT), "{what}");
        let since_ms = if matches!(agent, A::At(_)) { 7000 } else { 5000 };
        assert_eq!(status.since_ms, since_ms, "{what}");
        assert_eq!((status.node.as_str(), status.rollout.as_str()), ("n1", "driver"));
    }
}

#[test]
fn notes_are_shown_beside_the_failure() {
    let notes = || vec!["a scriptlet failed".to_owned(), "slurmd was running".to_owned()];
    for (phase, note) in [
        (Phase::Updated, "a scriptlet failed; slurmd was running"),
        (Phase::Held, "nhc said no; a scriptlet failed; slurmd was running"),
        (Phase::Undoing, "going back: nhc said no; a scriptlet failed; slurmd was running"),
    ] {
        let mut node = node(record(Progress::Ordered), Agent::At(phase), "IDLE");
        for agent in node.0.agents.values_mut().flatten() {
            agent.order.iter_mut().for_each(|order| order.notes = notes());
        }
        assert_eq!(status(&node).note.as_deref(), Some(note));
    }
    // From the journal alone.
    let updated = NodeRecord { notes: notes(), ..record(Progress::Seen(Phase::Updated)) };
    let shown = status(&node(updated, Agent::NotAsked, ""));
    assert_eq!(shown.note.as_deref(), Some("a scriptlet failed; slurmd was running"));
}

#[test]
fn a_node_that_rebooted_without_an_order_is_shown() {
    const REBOOTED: Option<&str> = Some("not applied: the node rebooted without an order");
    let staged = |agent| node(record(Progress::Staged), agent, "IDLE");
    let slurm_saw_it = |mut node: Node, boot_s| {
        node.0.slurm.get_mut("n1").unwrap().boot_s = boot_s;
        node
    };
    for (node, note) in [
        (staged(Agent::Idle), None),
        // It booted at 8 s, or at 6 s, which may also have been just before it was staged.
        (staged(Agent::Idle).agent(agent(None).up_for(2)), REBOOTED),
        (staged(Agent::Idle).agent(agent(None).up_for(4)), None),
        (slurm_saw_it(staged(Agent::NotAsked), Some(8)), REBOOTED),
        (slurm_saw_it(staged(Agent::NotAsked), Some(6)), None),
        (slurm_saw_it(staged(Agent::NotAsked), None), None),
        // The agent has its clock from the kernel.
        (slurm_saw_it(staged(Agent::Idle), Some(8)), None),
        // Its order has it boot.
        (slurm_saw_it(self::node(record(Progress::Ordered), Agent::NotAsked, "IDLE"), Some(9)), None),
    ] {
        assert_eq!(status(&node).note.as_deref(), note, "{node:?}");
    }
}

#[test]
fn a_pre_staged_rollout_is_shown_by_its_agent() {
    let of = |record: NodeRecord, staged: Option<&str>| {
        let agent = AgentStatus { staged: staged.map(str::to_owned), ..agent(None).up_for(6) };
        status(&node(record, Agent::NotAsked, "IDLE").agent(agent)).note
    };
    let staged = || record(Progress::Staged);
    assert_eq!(of(staged(), Some("driver")).as_deref(), Some("its agent has it"));
    assert_eq!(of(staged().pre_staged(1), None).as_deref(), Some("its agent no longer has it"));
    assert_eq!(of(staged(), Some("other")), None);
}

#[test]
fn an_accepted_order_that_did_not_come_back_is_lost() {
    let gave_up = "driver : reboot issued : reboot timed out";
    let ordered = |agent| node(record(Progress::Ordered), agent, "");
    let silent_for = "its agent has been silent for more than 50 min";
    for (node, phase, note) in [
        (
            ordered(Agent::Silent).slurm("DOWN", gave_up),
            DisplayPhase::Lost,
            Some("Slurm gave up waiting for its reboot, and its agent does not answer"),
        ),
        (
            ordered(Agent::Silent).slurm("DOWN+REBOOT_ISSUED", "").at_s(6 + 50 * 60),
            DisplayPhase::Lost,
            Some(silent_for),
        ),
        (ordered(Agent::Silent).slurm("DOWN+REBOOT_ISSUED", ""), DisplayPhase::Rebooting, None),
        (ordered(Agent::NotAsked).slurm("DOWN", gave_up), DisplayPhase::Ordered, None),
        (ordered(Agent::At(Phase::Verifying)).slurm("DOWN", gave_up), DisplayPhase::Verifying, None),
    ] {
        let status = status(&node);
        assert_eq!((status.phase, status.note.as_deref()), (phase, note), "{node:?}");
    }
}

#[test]
fn an_order_is_recognized_by_its_rollout_while_it_is_under_way() {
    let unknown = |phase| agent(Some((9, phase))).for_rollout("driver").up_for(6);
    let of = |phase| status(&node(record(Progress::Unreachable), Agent::NotAsked, "").agent(unknown(phase)));
    assert_eq!(of(Phase::Verifying).phase, DisplayPhase::Verifying, "its answer was lost");
    assert_eq!(of(Phase::Registering).phase, DisplayPhase::Registering);
    assert_eq!(of(Phase::Updated).phase, DisplayPhase::Unreachable, "it ended before");
}

#[test]
fn a_node_that_awaits_instructions_is_shown_as_rebooting() {
    let awaiting = node(record(Progress::Ordered), Agent::NotAsked, "").agent(agent(None).awaiting());
    let status = status(&awaiting);
    let note = "has booted, and waits to be told what it should be";
    assert_eq!((status.phase, status.note.as_deref()), (DisplayPhase::Rebooting, Some(note)));
}

#[test]
fn drains_of_others_are_shown() {
    let drained = |agent, by: Option<&str>| {
        let mut node = node(record(Progress::Ordered), agent, "");
        let drain = Drain { reason: "bad disk".into(), by: by.map(str::to_owned), ..Drain::default() };
        node.0.snapshot.drains.insert("n1".into(), drain);
        status(&node).note.unwrap()
    };
    assert_eq!(drained(Agent::NotAsked, Some("root")), "drained by root, and stays so: bad disk");
    assert_eq!(drained(Agent::Silent, None), "agent: timed out; drained by somebody, and stays so: bad disk");
}

#[test]
fn images_are_shown_by_journal_and_agent() {
    let images = |record: NodeRecord, version: Option<&str>| {
        let mut agent = testing::agent(OLD_BOOT);
        agent.running = version.map(running);
        let node = Node::new().and_in("driver", IMAGE, record).agent(agent);
        let images = status(&node).images.unwrap();
        [images.staged, images.wanted, images.running].map(Option::unwrap_or_default)
    };
    let (old, new) = ("compute 1", "compute 2");
    for (progress, boot, running, expected) in [
        (Progress::Staged, Boot::Unchanged, Some("1"), [new, old, old]),
        (Progress::Unreachable, Boot::Restored, Some("2"), [new, old, new]),
        (Progress::Ordered, Boot::Changed, Some("1"), ["", new, old]),
        (Progress::Ordered, Boot::Restored, Some("2"), ["", old, new]),
        (Progress::Seen(Phase::Updated), Boot::Changed, Some("2"), ["", new, new]),
        (Progress::Seen(Phase::RolledBack), Boot::Restored, None, ["", old, ""]),
        (Progress::Lost, Boot::Changed, None, ["", new, ""]),
    ] {
        let found = images(record(progress).with_boot(boot), running);
        assert_eq!(found, expected, "{progress:?} {boot:?} {running:?}");
    }
    assert_eq!(status(&node(record(Progress::Staged), Agent::Idle, "")).images, None);
}

#[test]
fn a_foreign_clock_does_no_harm() {
    let mut odd = agent(Some((1, Phase::Updated)));
    odd.order.as_mut().unwrap().since_s = u64::MAX;
    assert_eq!(status(&node(record(Progress::Ordered), Agent::NotAsked, "").agent(odd)).since_ms, u64::MAX);
}

#[test]
fn an_agent_that_takes_no_order_is_shown_with_the_reason() {
    for (progress, phase) in [
        (Progress::Staged, DisplayPhase::Failed),
        (Progress::Ordered, DisplayPhase::Failed),
        (Progress::Unreachable, DisplayPhase::Failed),
        (Progress::Seen(Phase::Updated), DisplayPhase::Updated),
    ] {
        let trouble = AgentStatus { trouble: Some("order.json: is torn".to_owned()), ..agent(None) };
        let status = status(&node(record(progress), Agent::NotAsked, "").agent(trouble));
        assert_eq!((status.phase, status.note.as_deref()), (phase, Some("agent: order.json: is torn")));
    }
}

#[test]
fn nodes_with_the_same_fate_share_a_row() {
    let row = |node: &str, rollout: &str, phase, note: Option<&str>| NodeStatus {
        node: node.to_owned(),
        rollout: rollout.to_owned(),
        phase,
        since_ms: 0,
        slurm_state: None,
        boot_id: None,
        note: note.map(str::to_owned),
        conduct: None,
        images: None,
    };
    let nodes = [
        row("n10", "a", DisplayPhase::Updated, None),
        row("n1", "b", DisplayPhase::Held, None),
        row("n2", "a", DisplayPhase::Updated, None),
        row("n3", "a", DisplayPhase::Held, Some("nhc")),
        row("n4", "a", DisplayPhase::Held, Some("disk full")),
        row("n5", "a", DisplayPhase::Staged, None),
        row("n6", "a", DisplayPhase::Held, Some("nhc")),
    ];
    let rows: Vec<_> = by_phase(&nodes)
        .into_iter()
        .map(|(rollout, phase, nodes, note)| {
            format!("{rollout} {} {nodes} {}", phase.name(), note.unwrap_or("-"))
        })
        .collect();
    let expected =
        ["a staged n5 -", "a held n4 disk full", "a held n[3,6] nhc", "a updated n[2,10] -", "b held n1 -"];
    assert_eq!(rows, expected);
    assert!(by_phase(&[]).is_empty());
}

#[test]
fn words_are_the_same_in_tables_and_json() {
    let attention = [
        DisplayPhase::Held,
        DisplayPhase::Failed,
        DisplayPhase::Unreachable,
        DisplayPhase::Lost,
        DisplayPhase::RolledBack,
    ];
    for shown in [
        DisplayPhase::Staged,
        DisplayPhase::Draining,
        DisplayPhase::Ordered,
        DisplayPhase::Applying,
        DisplayPhase::Rebooting,
        DisplayPhase::Verifying,
        DisplayPhase::Held,
        DisplayPhase::Failed,
        DisplayPhase::Unreachable,
        DisplayPhase::Lost,
        DisplayPhase::RolledBack,
        DisplayPhase::Released,
        DisplayPhase::Superseded,
        DisplayPhase::Updated,
    ] {
        assert_eq!(serde_json::to_string(&shown).unwrap(), format!("\"{}\"", shown.name()));
        assert_eq!(shown.needs_attention(), attention.contains(&shown), "{shown:?}");
    }
}

/// Returns n1 in rollout A in this state.
fn started(state: ConductState, record: NodeRecord) -> Node {
    let mut node = Node::new().and_in("A", LINK, record);
    node.0.snapshot.rollouts[0].conduct.state = state;
    node
}

#[test]
fn a_node_of_a_started_rollout_shows_what_it_waits_for() {
    let cancelled = NodeRecord { cancelled: true, ..record(Progress::Staged) };
    let kept_out = Some(KeptOut { since_ms: 1, reason: None });
    let request =
        Some(Request { at_ms: 1, way: Way::Reserved, taken: true, withdrawing: false, drained: None });
    let resume = "its reboot was cancelled in Slurm; `slurm-rollout resume A` requests it again";
    for (state, record, conduct, note) in [
        (ConductState::NotStarted, record(Progress::Staged), None, None),
        (ConductState::Running, record(Progress::Staged), Some("running"), None),
        (ConductState::Running, cancelled.clone(), Some("running"), Some(resume)),
        (ConductState::Paused { why: None }, cancelled, Some("paused"), Some(resume)),
        (
            ConductState::Stopped,
            NodeRecord { kept_out, ..record(Progress::Staged) },
            Some("stopped"),
            Some("drained until it is updated"),
        ),
        (
            ConductState::Running,
            NodeRecord { reserved: true, request, ..record(Progress::Staged) },
            Some("running"),
            Some("reserved from the end of its jobs"),
        ),
        // The request was withdrawn, and the reservation is about to go.
        (
            ConductState::Running,
            NodeRecord { reserved: true, ..record(Progress::Staged) },
            Some("running"),
            None,
        ),
    ] {
        let status = status(&started(state.clone(), record));
        assert_eq!((status.conduct, status.note.as_deref()), (conduct, note), "{state:?}");
    }
}

#[test]
fn agents_of_nodes_that_wait_or_have_ended_know_no_other_phase() {
    let fresh = |progress| NodeRecord::new(progress, 0);
    for (record, expected) in [
        (fresh(Progress::Staged), false),
        (NodeRecord { pre_staged: true, ..fresh(Progress::Staged) }, true),
        // Its order was sent, and the node staged anew.
        (NodeRecord { ordering_ms: Some(1), ..fresh(Progress::Staged) }, true),
        (fresh(Progress::Ordering { until_ms: 1 }), true),
        (fresh(Progress::Unreachable), true),
        (fresh(Progress::Refused), true),
        (fresh(Progress::Lost), true),
        (fresh(Progress::Seen(Phase::Held)), true),
        (fresh(Progress::Seen(Phase::Updated)), false),
        (fresh(Progress::Seen(Phase::RolledBack)), false),
        (fresh(Progress::Superseded), false),
        (fresh(Progress::Covered), false),
    ] {
        assert_eq!(may_have_moved_on(&record), expected, "{record:?}");
    }
}
