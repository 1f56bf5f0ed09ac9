//! Looking after nodes that have to be told more than once: those that keep no ledger over their boot, and those whose boot
//! source the controller's side has changed. Each call looks once; who calls it again, and when, is the caller's.

use crate::agents::ask_all::ask_agents;
use crate::boot::change::{Back, put_back};
use crate::config::Config;
use crate::hand_over::seal;
use crate::store::{Addresses, Store, StoreError};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::follow_up::{Due, Then, Watched, may_be_expected};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind, PlainReboot, RestoreLedger};
use rollout_core::rollout::journal::{Entry, NodeRecord};
use rollout_core::rollout::manifest::DesiredState;
use rollout_core::slurm::drains::Drains;
use rollout_core::slurm::node::{NodeInfo, our_reason};
use rollout_host::{clock, random};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an agent may take to say where it stands. Most that are looked at are between two boots, and silent.
const ASKING: Duration = Duration::from_millis(700);
const ASKING_ALL: Duration = Duration::from_secs(5);

/// How long providers may take to put boot sources back.
const PUTTING_BACK: Duration = Duration::from_secs(60);

/// Of a plain reboot, which has no manifest.
const BOOT_TIMEOUT_MS: u64 = 15 * 60 * 1000;

/// What came of looking once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Nodes that are on their way: they are worth looking at again in a moment.
    pub on_their_way: NodeSet,
    /// What was done, one line each.
    pub done: Vec<String>,
    /// OrderKind could not be done, one line each. It is tried again the next time.
    pub failed: Vec<String>,
}

/// What is to be sent to one node.
struct Errand {
    node: String,
    order: OrderId,
    what: Telling,
}

/// What it is told.
enum Telling {
    /// What it would find in its ledger.
    Expectation {
        apply: Option<(String, DesiredState)>,
        phase: Phase,
        error: Option<String>,
        record: Option<Box<NodeRecord>>,
    },
    /// That what it boots from is put back for this order.
    PutBack(OrderId),
}

/// What is due for the nodes of one rollout.
#[derive(Default)]
struct DueNow {
    /// To be written down.
    entries: Vec<Entry>,
    /// To be sent.
    errands: Vec<Errand>,
    /// Boot sources to be put back.
    back: BTreeMap<String, Back>,
    /// And what is to be done after that.
    then: Vec<(String, AfterThat)>,
}

/// What is to be done once a node's boot source is put back.
struct AfterThat {
    then: Then,
    order: OrderId,
    why: String,
}

/// Looks at all nodes that have to be looked after, and does what is due. `slurm` is what Slurm says of all nodes, where it
/// was asked just now: nodes that may wait to be told something are looked at as well then. Where nobody is to be looked
/// after, no agent is asked.
///
/// # Errors
/// If the state directory cannot be used.
pub fn look(config: &Config, store: &Store, slurm: Option<&[NodeInfo]>) -> Result<Looked, StoreError> {
    let watched = store.watched()?;
    let known: NodeSet = watched.iter().map(|watched| watched.node.clone()).collect();
    let others =
        slurm.unwrap_or_default().iter().filter(|info| may_be_expected(info) && !known.contains(&info.name));
    let others: NodeSet = others.map(|info| info.name.clone()).collect();
    let nodes = known.union(&others);
    if nodes.is_empty() {
        return Ok(Looked::default());
    }
    let addresses = store.addresses();
    let agents = ask_agents(config, &nodes, &addresses, (ASKING, ASKING_ALL), |_, address, client| {
        client.status(address).map_err(|silence| silence.to_string())
    });
    let mut look =
        Look { config, store, addresses, drains: store.drains(), agents, looked: Looked::default() };
    let mut errands: Vec<Errand> = others.iter().filter_map(|node| look.of_another(node)).collect();
    let mut rollouts: BTreeMap<Option<String>, Vec<Watched>> = BTreeMap::new();
    for one in watched {
        rollouts.entry(one.rollout.clone()).or_default().push(one);
    }
    for (rollout, watched) in rollouts {
        errands.extend(look.at_rollout(rollout.as_deref(), watched)?);
    }
    look.send(errands);
    Ok(look.looked)
}

struct Look<'a> {
    config: &'a Config,
    store: &'a Store,
    addresses: Addresses,
    drains: Drains,
    agents: BTreeMap<String, Result<AgentStatus, String>>,
    looked: Looked,
}

impl Look<'_> {
    fn agent(&self, node: &str) -> Option<&AgentStatus> {
        self.agents.get(node)?.as_ref().ok()
    }

    /// A node of which no journal says anything that is still to come: if it waits, it need not.
    fn of_another(&self, node: &str) -> Option<Errand> {
        self.agent(node).filter(|agent| agent.awaits)?;
        let what = Telling::Expectation { apply: None, phase: Phase::Rebooting, error: None, record: None };
        Some(Errand { node: node.to_owned(), order: random::order_id(), what })
    }

    /// What is due for the nodes of one rollout, or of plain reboots. All is done that is not to be sent.
    fn at_rollout(
        &mut self,
        rollout: Option<&str>,
        watched: Vec<Watched>,
    ) -> Result<Vec<Errand>, StoreError> {
        let desired = match rollout.map(|id| self.store.load(id)).transpose() {
            Ok(rollout) => rollout.map(|rollout| rollout.manifest.desired),
            // The others are not to wait for somebody who mends this one.
            Err(error) => {
                self.looked.failed.push(error.to_string());
                return Ok(Vec::new());
            }
        };
        let mut due = self.decide(rollout, desired.as_ref(), watched);
        self.store.record(rollout, std::mem::take(&mut due.entries))?;
        let not_put_back = match (rollout, desired.as_ref().and_then(DesiredState::image)) {
            (Some(rollout), Some(image)) if !due.back.is_empty() => {
                let until = Instant::now() + PUTTING_BACK;
                let back = due.back.clone();
                put_back(self.config, self.store, (rollout, image), back, &self.addresses, until)?
            }
            _ => BTreeMap::new(),
        };
        for (node, back) in due.back.iter().filter(|(node, _)| !not_put_back.contains_key(*node)) {
            self.looked.done.push(format!("{node}: boots from what it had: {}", back.why));
        }
        for (node, then) in due.then.into_iter().filter(|(node, _)| !not_put_back.contains_key(node)) {
            let nodes = NodeSet::from_iter([node.clone()]);
            let AfterThat { then, order, why } = then;
            match then {
                Then::Nothing => {}
                Then::TellAgent => {
                    let what = Telling::PutBack(order);
                    due.errands.push(Errand { node, order: random::order_id(), what });
                }
                Then::StageAgain => {
                    self.store.record(rollout, vec![Entry::Unreachable { nodes, order, why }])?;
                }
                Then::TellSlurm => self.tell_slurm(rollout.unwrap_or_default(), &nodes, &why),
            }
        }
        self.looked.failed.extend(not_put_back.into_iter().map(|(node, why)| format!("{node}: {why}")));
        Ok(due.errands)
    }

    /// Sorts nodes by what is due for them.
    fn decide(
        &mut self,
        rollout: Option<&str>,
        desired: Option<&DesiredState>,
        watched: Vec<Watched>,
    ) -> DueNow {
        let now_ms = clock::now_ms();
        let limit = desired.and_then(DesiredState::image).map(|image| image.boot_timeout.get().as_millis());
        let boot_timeout_ms = limit.map_or(BOOT_TIMEOUT_MS, |ms| u64::try_from(ms).unwrap_or(u64::MAX));
        let mut now = DueNow::default();
        let mut on_their_way = Vec::new();
        for one in watched {
            let Some(order) = one.record.order.clone() else { continue };
            let node = one.node.clone();
            let nodes = NodeSet::from_iter([node.clone()]);
            let agent = self.agent(&node);
            let mut goes_on = one.is_on_its_way(now_ms, boot_timeout_ms);
            match one.due(agent, now_ms, boot_timeout_ms) {
                Due::Nothing => {}
                Due::Ordered => {
                    let volatile = agent.is_some_and(|agent| agent.volatile);
                    now.entries.push(Entry::Ordered { nodes, order, volatile });
                    goes_on = true;
                }
                Due::Seen { phase, error } => {
                    self.looked.done.push(format!("{node}: {}", phase.name()));
                    now.entries.push(Entry::Seen { nodes, order, phase, error });
                    goes_on = false;
                }
                Due::Expect { phase, error } => {
                    let apply = rollout.map(str::to_owned).zip(desired.cloned());
                    let record = Some(Box::new(one.record));
                    let what = Telling::Expectation { apply, phase, error, record };
                    now.errands.push(Errand { node: node.clone(), order, what });
                }
                Due::PutBack { why, then } => {
                    if one.record.boots_ours().is_some() {
                        now.back.insert(node.clone(), Back { order: order.clone(), why: why.clone() });
                    }
                    goes_on |= then == Then::TellAgent;
                    now.then.push((node.clone(), AfterThat { then, order, why }));
                }
            }
            on_their_way.extend(goes_on.then_some(node));
        }
        self.looked.on_their_way = self.looked.on_their_way.union(&NodeSet::from_iter(on_their_way));
        now
    }

    fn tell_slurm(&mut self, rollout: &str, nodes: &NodeSet, why: &str) {
        let scontrol = self.config.scontrol();
        let now = scontrol.show_nodes(nodes).ok().and_then(|infos| infos.into_iter().next());
        let reason =
            our_reason(rollout, &format!("{why}; it boots its old image now: power-cycle it"), now.as_ref());
        if let Err(error) = scontrol.set_reason(nodes, &reason) {
            self.looked.failed.push(format!("{nodes}: the Reason cannot be set: {error}"));
        }
    }

    fn send(&mut self, errands: Vec<Errand>) {
        if errands.is_empty() {
            return;
        }
        let whom: NodeSet = errands.iter().map(|errand| errand.node.clone()).collect();
        let slurm = self.config.scontrol().show_nodes(&whom).unwrap_or_default();
        let slurm: BTreeMap<String, NodeInfo> =
            slurm.into_iter().map(|info| (info.name.clone(), info)).collect();
        let mut sealed: BTreeMap<String, String> = BTreeMap::new();
        for errand in errands {
            let node = errand.node.clone();
            match seal(self.config, &self.order(errand, slurm.get(&node))) {
                Ok(text) => drop(sealed.insert(node, text)),
                Err(why) => self.looked.failed.push(format!("{node}: it cannot be told: {why}")),
            }
        }
        let limits = (self.config.agent_timeout.get(), self.config.deadline.get());
        let answers =
            ask_agents(self.config, &whom, &self.addresses, limits, move |node, address, client| {
                let sealed = sealed.get(node).ok_or("nothing is sealed for it")?;
                client
                    .order(address, sealed)
                    .map_err(|silence| format!("no answer from its agent: {silence}"))
            });
        for (node, answer) in answers {
            match answer {
                Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => {
                    self.looked.done.push(format!("{node}: told how to go on"));
                }
                Ok(Answer::Refused { why, .. }) | Err(why) => {
                    self.looked.failed.push(format!("{node}: {why}"))
                }
            }
        }
    }

    fn order(&self, errand: Errand, slurm: Option<&NodeInfo>) -> Order {
        let Errand { node, order, what } = errand;
        let nodes = NodeSet::from_iter([node.clone()]);
        let (apply, phase, error, record) = match what {
            Telling::PutBack(undone) => {
                return Order::new(order, nodes, OrderKind::BootRestored { order: undone });
            }
            Telling::Expectation { apply, phase, error, record } => (apply, phase, error, record),
        };
        let back = GiveBack {
            resume_if_late: slurm.is_none_or(|info| match info.is_handed_over() {
                true => info.returns_by_itself(),
                false => !info.has("DRAIN"),
            }),
            // Without DRAIN somebody has taken theirs away.
            drained: slurm
                .filter(|info| info.has("DRAIN"))
                .and_then(|_| self.drains.get(&node))
                .map(|drain| drain.reason.clone()),
        };
        let what = match apply {
            Some((rollout, desired)) => OrderKind::Apply(Apply { rollout, desired, give_back: back }),
            None => OrderKind::Reboot(PlainReboot { give_back: back, features: None }),
        };
        let before =
            record.as_ref().and_then(|record| record.boot_source.as_ref()).map(|source| &source.before);
        let expect = RestoreLedger {
            order: Box::new(what),
            phase,
            boot_id: before.map(|before| before.boot_id.clone()).unwrap_or_default(),
            ordered_s: record.as_ref().and_then(|record| record.ordering_ms).map(|ms| ms / 1000),
            running: before.and_then(|before| before.running.clone()),
            error,
        };
        Order::new(order, nodes, OrderKind::RestoreLedger(expect))
    }
}
