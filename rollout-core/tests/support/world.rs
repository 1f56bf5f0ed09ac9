//! A controller with its journals, node `n1` and its agent, for stories: each line goes through its text, as in a file.

use rollout_core::agent::phase::Phase;
use rollout_core::controller::follow_up::{FollowUp, Step, due, nodes};
use rollout_core::controller::hand_over::{HandedOver, Skipped, group};
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, OrderStatus};
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::image::Running;
use rollout_core::rollout::journal::{Booted, Entry, JournalState, Line, lines};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::node::NodeInfo;
use std::collections::BTreeMap;

/// An image that the controller gives to nodes, which may take a minute to boot it.
pub const IMAGE: &str =
    "kind = 'image'\nvia = 'boot-file'\nimage = 'compute'\nversion = '2'\nboot_timeout = '60s'";

/// A change that the agent makes.
pub const LINK: &str = "kind = 'symlink'\npath = '/opt/slurm'\ntarget = '/opt/slurm-25'";

/// The kernel's boot ids of n1, before and after it boots once.
pub const OLD_BOOT: &str = "boot-1";
pub const NEW_BOOT: &str = "boot-2";

pub fn id(number: u128) -> OrderId {
    OrderId::from_random(number)
}

pub fn n1() -> NodeSet {
    NodeSet::from_iter(["n1".to_owned()])
}

pub fn manifest(change: &str) -> Manifest {
    Manifest::parse(&format!("name = 'r'\nnodes = 'n1'\n[[change]]\n{change}\n")).unwrap()
}

#[derive(Debug, Clone, Default)]
pub struct World {
    /// Text of the journals, by rollout. `None` is the journal of plain reboots.
    journals: BTreeMap<Option<String>, String>,
    /// Rollouts with their changes, oldest first.
    rollouts: Vec<(String, String)>,
    pub agent: Option<AgentStatus>,
    pub slurm: NodeInfo,
    pub now_s: u64,
}

impl World {
    pub fn new() -> Self {
        let slurm = NodeInfo { name: "n1".into(), ..NodeInfo::default() };
        Self { slurm, ..Self::default() }
    }

    pub fn write(&mut self, rollout: Option<&str>, entry: Entry) {
        let line = Line { t_ms: self.now_s * 1000, by: "test".to_owned(), entry };
        let journal = self.journals.entry(rollout.map(str::to_owned)).or_default();
        *journal += &(serde_json::to_string(&line).unwrap() + "\n");
    }

    pub fn stage(&mut self, rollout: &str, change: &str) {
        if !self.rollouts.iter().any(|(id, _)| id == rollout) {
            self.rollouts.push((rollout.to_owned(), change.to_owned()));
        }
        self.write(Some(rollout), Entry::Staged { nodes: n1() });
    }

    /// RebootProgram claims n1 for 15 s.
    pub fn ordering(&mut self, rollout: Option<&str>, order: u128) {
        let until_ms = (self.now_s + 15) * 1000;
        self.write(rollout, Entry::Ordering { nodes: n1(), order: id(order), until_ms });
    }

    /// RebootProgram gives n1 its image, while n1 runs `boot_id`.
    pub fn change_boot(&mut self, rollout: &str, order: u128, boot_id: &str) {
        let booted = Booted { running: Some(running("1")), boot_id: boot_id.to_owned() };
        let (nodes, before, until_ms) = (n1(), [("n1".to_owned(), booted)].into(), (self.now_s + 15) * 1000);
        self.write(Some(rollout), Entry::BootChange { nodes, order: id(order), before, until_ms });
    }

    pub fn accepted(&mut self, rollout: Option<&str>, order: u128, volatile: bool) {
        self.write(rollout, Entry::Ordered { nodes: n1(), order: id(order), volatile });
    }

    pub fn unreachable(&mut self, rollout: Option<&str>, order: u128) {
        self.write(rollout, Entry::Unreachable { nodes: n1(), order: id(order), why: "timed out".into() });
    }

    pub fn seen(&mut self, rollout: Option<&str>, order: u128, phase: Phase) {
        self.write(rollout, Entry::Seen { nodes: n1(), order: id(order), phase, error: None });
    }

    pub fn slurm_shows(&mut self, state: &str, reason: &str) {
        self.slurm.state = state.split('+').map(str::to_owned).collect();
        self.slurm.reason = Some(reason.to_owned());
        self.slurm.reason_s = Some(self.now_s);
    }

    pub fn snapshot(&self) -> Snapshot {
        let state = |journal: Option<&str>| -> JournalState {
            let text = self.journals.get(&journal.map(str::to_owned)).map_or("", String::as_str);
            lines(text).collect::<Vec<_>>().iter().collect()
        };
        let rollout = |(id, change): &(String, String)| {
            let JournalState { records, conduct } = state(Some(id));
            let (id, by, manifest) = (id.clone(), "root".into(), Ok(manifest(change)));
            RolloutState { id, staged_ms: 0, by, manifest, records, conduct }
        };
        let rollouts = self.rollouts.iter().map(rollout).collect();
        Snapshot { rollouts, plain_reboots: state(None).records, ..Snapshot::default() }
    }

    /// Returns the view of a look at the agent.
    pub fn view(&self) -> View {
        let answer = self.agent.clone().ok_or_else(|| "timed out".to_owned());
        View {
            snapshot: self.snapshot(),
            slurm: [("n1".to_owned(), self.slurm.clone())].into(),
            agents: [("n1".to_owned(), answer)].into(),
            now_ms: self.now_s * 1000,
        }
    }

    pub fn is_followed_up(&self) -> bool {
        nodes(&self.snapshot(), self.now_s * 1000, false).contains("n1")
    }

    pub fn due(&self) -> Vec<FollowUp> {
        due(self.view().node("n1"))
    }

    /// Takes the steps that are due, as far as journals are concerned, and returns them.
    pub fn follow_up(&mut self) -> Vec<FollowUp> {
        let due = self.due();
        for FollowUp { rollout, order, step } in due.clone() {
            match step {
                Step::Record(outcome) => {
                    let entry = outcome.entry(n1(), order).expect("an outcome that can be recorded");
                    self.write(rollout.as_deref(), entry);
                }
                Step::RestoreBoot { why, .. } => {
                    let snapshot = self.snapshot();
                    let rollout = snapshot.rollout(rollout.as_deref().unwrap()).unwrap();
                    let order = rollout.records["n1"].unsettled_boot_change().unwrap().order.clone();
                    let until_ms = (self.now_s + 60) * 1000;
                    let restoring = Entry::BootRestoring { nodes: n1(), order: order.clone(), until_ms };
                    self.write(Some(&rollout.id), restoring);
                    self.write(Some(&rollout.id), Entry::BootRestored { nodes: n1(), order, why });
                }
                Step::Instruct(_) | Step::TellBootRestored => {}
            }
        }
        due
    }

    /// Returns the rollout whose order n1 gets if Slurm hands it over now.
    pub fn hand_over(&self) -> Result<Option<String>, Skipped> {
        let handed = HandedOver {
            node: "n1".into(),
            issued_ms: Some(self.now_s * 1000),
            returns_by_itself: true,
            drained: None,
            plain: false,
            only_named_in: None,
        };
        let (snapshot, nodes) = (self.snapshot(), [handed]);
        let (groups, skipped) = group(&nodes, &snapshot, self.now_s * 1000);
        match skipped.into_keys().next() {
            Some(why) => Err(why),
            None => Ok(groups.into_keys().next().unwrap().rollout.map(str::to_owned)),
        }
    }

    pub fn progress(&self, rollout: &str) -> rollout_core::rollout::journal::Progress {
        self.snapshot().rollout(rollout).unwrap().records["n1"].progress
    }
}

pub fn running(version: &str) -> Running {
    Running { image: Some("compute".into()), version: Some(version.into()), ..Running::default() }
}

/// Returns an agent without an order.
pub fn agent(boot_id: &str) -> AgentStatus {
    let uptime_s = if boot_id == OLD_BOOT { 100_000 } else { 5 };
    AgentStatus { node: "n1".into(), boot_id: boot_id.into(), uptime_s, ..AgentStatus::default() }
}

/// Returns an agent that keeps the gate shut until it is instructed.
pub fn awaiting(boot_id: &str) -> AgentStatus {
    AgentStatus { volatile: true, awaits: true, ..agent(boot_id) }
}

/// Returns an agent with this order.
pub fn with_order(boot_id: &str, rollout: Option<&str>, order: u128, phase: Phase) -> AgentStatus {
    let order = OrderStatus {
        id: id(order),
        rollout: rollout.map(str::to_owned),
        phase,
        since_s: 0,
        error: None,
        warning: None,
        changed: true,
        took_s: None,
    };
    AgentStatus { order: Some(order), ..agent(boot_id) }
}
