//! The whole of what an invocation of RebootProgram does: ask Slurm, claim the nodes, seal the orders, send them all at
//! once, write down each answer, and tell Slurm which nodes got none. Within one deadline.

use crate::agents::address::Resolver;
use crate::agents::client::AgentClient;
use crate::agents::dispatch::{Turn, dispatch, dispatch_in_turns};
use crate::boot::change;
use crate::config::Config;
use crate::store::{Claim, Store, StoreError};
use rollout_core::controller::hand_over::{HandedOver, Request, SkippedNodes, handed_over};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderId, OrderKind};
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::node::{NodeInfo, not_ordered, our_reason};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What of the deadline is kept for telling Slurm and for ending.
const KEPT_FOR_REASONS: Duration = Duration::from_millis(2500);
const KEPT_FOR_THE_END: Duration = Duration::from_millis(300);

/// How long Slurm may take to say what it knows of the nodes. It usually takes milliseconds; where it does not, the
/// addresses it gave last time have to do.
const ASKING_SLURM: Duration = Duration::from_millis(2500);

/// How long a claim outlives the deadline before another RebootProgram may order the nodes.
const CLAIM_SLACK: Duration = Duration::from_secs(5);

/// How often answers are written down while others are waited for.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// How long a scontrol that is over its time may take to end. One that hangs in the kernel is left behind.
const ENDING_SCONTROL: Duration = Duration::from_millis(300);

/// How long the kernel of an agent's host may take to answer, once; less where there are thousands of nodes, so that
/// dead ones leave time for the others.
const CONNECT: Duration = Duration::from_secs(1);
const CONNECT_AT_LEAST: Duration = Duration::from_millis(250);

/// How soon an agent that cannot be connected to is tried again: it may just be restarting.
const KNOCK_AGAIN: Duration = Duration::from_millis(300);

/// All nodes of a claim are told by one scontrol where the cause is the same; more causes than this are told as one.
const MAX_REASONS: usize = 16;

/// OrderKind happened to the nodes of an invocation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Agents that took the order, or were carrying out one that leads to the same.
    pub ordered: Vec<String>,
    /// Nodes that are not ordered, by the reason, which the journal has too.
    pub failed: BTreeMap<String, Vec<String>>,
    /// Nodes that were not to be ordered.
    pub skipped: SkippedNodes,
    /// OrderKind else went wrong and was worked around.
    pub warnings: Vec<String>,
}

impl Report {
    /// Adds what came of other nodes.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.ordered.extend(other.ordered);
        self.warnings.extend(other.warnings);
        for (why, nodes) in other.failed {
            self.failed.entry(why).or_default().extend(nodes);
        }
        for (why, nodes) in other.skipped {
            self.skipped.entry(why).or_default().extend(nodes);
        }
    }
}

/// What one agent answered to one order.
struct Reply {
    node: String,
    order: OrderId,
    rollout: Option<String>,
    outcome: Outcome,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Ordered { volatile: bool },
    Refused(String),
    Unreachable(String),
}

/// One node to be ordered, and where its agent is.
struct Errand {
    node: String,
    address: String,
    claim: Arc<Claim>,
    sealed: Arc<Result<String, String>>,
    /// When it has been tried long enough; none before the first try.
    give_up: Option<Instant>,
}

/// Orders nodes that Slurm has handed over, until `begun` plus the configured deadline. `by` names us in journals. Where
/// the state directory cannot be used nobody knows what was staged, so nothing is ordered, and Slurm is told so.
#[must_use]
pub fn hand_over(config: &Config, by: &str, request: &Request, begun: Instant) -> Report {
    let end = begun + config.deadline.get() - KEPT_FOR_THE_END.min(config.deadline.get());
    let sent_by = end - KEPT_FOR_REASONS.min(config.deadline.get() / 2);
    let mut report = Report::default();
    let store = Store::open(&config.state_dir, by);
    let slurm = ask_slurm(config, store.as_ref().ok(), &request.nodes, sent_by, &mut report);
    let drains = store.as_ref().map(Store::drains).unwrap_or_default();
    let (taken, skipped) = handed_over(request, slurm.as_deref(), &drains);
    report.skipped = skipped;
    if let Err(error) = store.and_then(|store| {
        let features = request.features.as_deref();
        order(config, &store, &taken, features, slurm, sent_by, &mut report)
    }) {
        let reason = not_ordered(&error.to_string());
        report.failed.insert(reason, taken.into_iter().map(|handed| handed.node).collect());
    }
    tell_slurm(config, &mut report, end);
    report
}

/// Claims the nodes, sends their orders and writes down what became of each.
fn order(
    config: &Config,
    store: &Store,
    taken: &[HandedOver],
    features: Option<&str>,
    slurm: Option<Vec<NodeInfo>>,
    sent_by: Instant,
    report: &mut Report,
) -> Result<(), StoreError> {
    let hold = config.deadline.get() + CLAIM_SLACK;
    let claims = store.claim(taken, features, u64::try_from(hold.as_millis()).unwrap_or(u64::MAX))?;
    for (why, nodes) in claims.skipped {
        report.skipped.entry(why).or_default().extend(nodes);
    }
    for (nodes, error) in claims.broken {
        let reason = not_ordered(&error.to_string());
        report.failed.entry(reason).or_default().extend(nodes.iter().map(str::to_owned));
    }
    let mut waiting: BTreeMap<String, Arc<Claim>> = BTreeMap::new();
    let mut errands = Vec::new();
    let mut addresses = store.addresses();
    addresses.extend(slurm.into_iter().flatten().map(|info| (info.name, info.address)));
    let mut watch = false;
    for claim in claims.claims.into_iter().map(Arc::new) {
        let not_given = match &claim.order.kind {
            // What is wrong with one rollout's files is no reason to order nobody.
            OrderKind::Apply(apply) => {
                change::change(config, store, &claim.order, apply, &addresses, sent_by).unwrap_or_else(
                    |error| {
                        claim.order.nodes.iter().map(|node| (node.to_owned(), error.to_string())).collect()
                    },
                )
            }
            _ => BTreeMap::new(),
        };
        watch |= is_watched(&claim.order.kind);
        let sealed = Arc::new(seal(config, &claim.order));
        let ungiven = |(node, why): (String, String)| {
            let (order, rollout) = (claim.order.id.clone(), claim.rollout.clone());
            Reply { node, order, rollout, outcome: Outcome::Unreachable(why) }
        };
        let ungiven: Vec<Reply> = not_given.into_iter().map(ungiven).collect();
        let ordered = |node: &&str| ungiven.iter().all(|reply| reply.node != **node);
        for node in claim.order.nodes.iter().filter(ordered).map(str::to_owned) {
            waiting.insert(node.clone(), Arc::clone(&claim));
            // Slurm's default is the NodeName.
            let address = addresses.get(&node).unwrap_or(&node).clone();
            let (claim, sealed) = (Arc::clone(&claim), Arc::clone(&sealed));
            errands.push(Errand { node, address, claim, sealed, give_up: None });
        }
        write_down(store, ungiven, report);
    }
    let limit = config.agent_timeout.get();
    let connect = connect_limit(errands.len(), config.concurrency, sent_by);
    let client = AgentClient::new(config.agent_port, limit).connecting_within(connect);
    let messenger = Messenger { client, resolver: Resolver::default(), limit, sent_by };
    let replies = dispatch_in_turns(errands, config.concurrency, sent_by, move |errand| messenger.go(errand));
    while let Some(batch) = replies.batch(WRITE_EVERY) {
        for reply in &batch {
            waiting.remove(&reply.node);
            watch |= reply.outcome == Outcome::Ordered { volatile: true };
        }
        write_down(store, batch, report);
    }
    let late = waiting.into_iter().map(|(node, claim)| Reply {
        node,
        order: claim.order.id.clone(),
        rollout: claim.rollout.clone(),
        outcome: Outcome::Unreachable("no answer before RebootProgram's deadline".to_owned()),
    });
    write_down(store, late.collect(), report);
    if watch {
        store.call_watcher()?;
    }
    Ok(())
}

/// Whether somebody has to look after the nodes until the order is settled, whatever their agents say now.
fn is_watched(what: &OrderKind) -> bool {
    matches!(what, OrderKind::Apply(apply) if apply.desired.image().is_some_and(|image| image.via.is_on_controller()))
}

/// What Slurm says of the nodes; none if it does not answer in time.
fn ask_slurm(
    config: &Config,
    store: Option<&Store>,
    nodes: &NodeSet,
    by: Instant,
    report: &mut Report,
) -> Option<Vec<NodeInfo>> {
    let limit = ASKING_SLURM.min(by.saturating_duration_since(Instant::now()));
    let (scontrol, asked) = (config.scontrol().within(limit), nodes.clone());
    // On a thread of its own: not even one that cannot be killed may hold up the orders.
    let answer = dispatch(vec![asked], 1, Instant::now() + limit + ENDING_SCONTROL, move |nodes| {
        scontrol.show_nodes(&nodes).map_err(|error| error.to_string())
    });
    let left_behind = || Err("scontrol did not answer in time, nor end when it was told to".to_owned());
    match answer.all().pop().unwrap_or_else(left_behind) {
        Ok(infos) => {
            let learnt = store.map_or(Ok(()), |store| store.learn_addresses(&infos));
            report.warnings.extend(learnt.err().map(|error| error.to_string()));
            Some(infos)
        }
        Err(error) => {
            report.warnings.push(format!("Slurm cannot be asked, going by what it said last: {error}"));
            None
        }
    }
}

pub(crate) fn seal(config: &Config, order: &Order) -> Result<String, String> {
    let order = serde_json::to_vec(order).map_err(|error| error.to_string())?;
    // Agents run as root: nobody else on their nodes can open it.
    config.munge().seal(&order, 0).map_err(|error| error.to_string())
}

/// So long that all have their first turn in half of the time, should nobody answer.
pub(crate) fn connect_limit(errands: usize, concurrency: usize, sent_by: Instant) -> Duration {
    let rounds = u32::try_from(errands.div_ceil(concurrency.max(1))).unwrap_or(u32::MAX).max(1);
    let half = sent_by.saturating_duration_since(Instant::now()) / 2;
    (half / rounds).clamp(CONNECT_AT_LEAST, CONNECT)
}

/// What it takes to deliver orders.
struct Messenger {
    client: AgentClient,
    resolver: Resolver,
    limit: Duration,
    sent_by: Instant,
}

impl Messenger {
    /// Delivers an order, or tries to: where nothing could be sent, the errand is to be run again.
    fn go(&self, mut errand: Errand) -> Turn<Errand, Reply> {
        let sealed = match errand.sealed.as_ref() {
            Err(why) => {
                let why = format!("the order cannot be sealed: {why}");
                return errand.ends(Outcome::Unreachable(why));
            }
            Ok(sealed) => sealed,
        };
        let give_up = *errand.give_up.get_or_insert_with(|| self.sent_by.min(Instant::now() + self.limit));
        let address = match self.resolver.resolve(&errand.address, self.limit) {
            Err(why) => return errand.ends(Outcome::Unreachable(why)),
            Ok(address) => address,
        };
        match self.client.order(address, sealed) {
            Ok(Answer::Accepted { volatile, .. }) => errand.ends(Outcome::Ordered { volatile }),
            Ok(Answer::UnderWay { .. }) => errand.ends(Outcome::Ordered { volatile: false }),
            Ok(Answer::Refused { why, .. }) => errand.ends(Outcome::Refused(why)),
            Err(silence) if silence.nothing_sent && Instant::now() + KNOCK_AGAIN < give_up => {
                // A name is looked up once.
                errand.address = address.to_string();
                Turn::Again(errand, KNOCK_AGAIN)
            }
            Err(silence) => errand.ends(Outcome::Unreachable(format!("no answer from its agent: {silence}"))),
        }
    }
}

impl Errand {
    fn ends(self, outcome: Outcome) -> Turn<Self, Reply> {
        let (order, rollout) = (self.claim.order.id.clone(), self.claim.rollout.clone());
        Turn::Done(Reply { node: self.node, order, rollout, outcome })
    }
}

/// Writes answers into the journals, nodes with the same fate in one line.
fn write_down(store: &Store, replies: Vec<Reply>, report: &mut Report) {
    type Fates = BTreeMap<(OrderId, Outcome), Vec<String>>;
    let mut journals: BTreeMap<Option<String>, Fates> = BTreeMap::new();
    for reply in replies {
        let subject = reply.rollout.as_deref().unwrap_or("plain reboot");
        let reason = match &reply.outcome {
            Outcome::Ordered { .. } => None,
            Outcome::Refused(why) => Some(our_reason(subject, &format!("refused: {why}"), None)),
            Outcome::Unreachable(why) => Some(our_reason(subject, &format!("not ordered: {why}"), None)),
        };
        match reason {
            None => report.ordered.push(reply.node.clone()),
            Some(reason) => report.failed.entry(reason).or_default().push(reply.node.clone()),
        }
        journals
            .entry(reply.rollout)
            .or_default()
            .entry((reply.order, reply.outcome))
            .or_default()
            .push(reply.node);
    }
    for (rollout, fates) in journals {
        let entries = fates.into_iter().map(|((order, outcome), nodes)| {
            let nodes = NodeSet::from_iter(nodes);
            match outcome {
                Outcome::Ordered { volatile } => Entry::Ordered { nodes, order, volatile },
                Outcome::Refused(why) => Entry::Refused { nodes, order, why },
                Outcome::Unreachable(why) => Entry::Unreachable { nodes, order, why },
            }
        });
        if let Err(error) = store.record(rollout.as_deref(), entries.collect()) {
            report.warnings.push(error.to_string());
        }
    }
}

/// Gives each node that was not ordered a Reason. Slurm keeps it: the node is DOWN while it waits for the reboot.
fn tell_slurm(config: &Config, report: &mut Report, end: Instant) {
    let mut reasons: Vec<(NodeSet, String)> =
        report.failed.iter().map(|(why, nodes)| (nodes.iter().cloned().collect(), why.clone())).collect();
    if reasons.len() > MAX_REASONS {
        let nodes = report.failed.values().flatten().cloned().collect();
        reasons = vec![(nodes, "slurm-rollout: not ordered, see `slurm-rollout status`".to_owned())];
    }
    let left = end.saturating_duration_since(Instant::now());
    let scontrol = config.scontrol().within(left);
    let count = reasons.len();
    let told = dispatch(reasons, MAX_REASONS, end, move |(nodes, why)| {
        scontrol
            .set_reason(&nodes, &why)
            .map_err(|error| format!("{nodes}: the Reason cannot be set: {error}"))
    });
    let told = told.all();
    if told.len() < count {
        report.warnings.push("Slurm did not take all Reasons in time".to_owned());
    }
    report.warnings.extend(told.into_iter().filter_map(Result::err));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_nodes_the_sooner_a_silent_host_is_left() {
        let sent_by = Instant::now() + Duration::from_secs(60);
        let limit = |errands| connect_limit(errands, 500, sent_by);
        assert_eq!(limit(0), CONNECT);
        assert_eq!(limit(10_000), CONNECT);
        let some = limit(25_000);
        assert!(CONNECT_AT_LEAST < some && some < CONNECT, "{some:?}");
        assert_eq!(limit(1_000_000), CONNECT_AT_LEAST);
        assert_eq!(connect_limit(10, 0, Instant::now()), CONNECT_AT_LEAST);
    }
}
