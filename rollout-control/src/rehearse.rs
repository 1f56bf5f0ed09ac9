//! Asks the agents of many nodes what an order would do, see [`rollout_core::protocol::rehearsal`].

use crate::agents::address::HostAddresses;
use crate::agents::ask_all::{Limits, ask_agents};
use crate::agents::client::AgentClient;
use crate::agents::seal::seal;
use crate::config::Config;
use rollout_core::controller::rehearsal::Rehearsals;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderId, OrderKind, Rehearse};
use rollout_core::protocol::rehearsal::{LIMIT, Rehearsal, Report};
use rollout_core::rollout::manifest::DesiredState;
use rollout_core::slurm::addresses::Addresses;
use rollout_host::random;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limits for one agent, which needs most of it for the rehearsal; for connecting to it, and for one exchange.
const AGENT_LIMIT: Duration = Duration::from_secs(LIMIT.as_secs() + 60);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Pauses between two questions for the report. They double.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Number of questions for the report in a row that may get no answer.
const UNANSWERED: u32 = 3;

/// Refusal of an agent that knows no rehearsals (serde's text for an unknown `do`).
const CANNOT_REHEARSE: &str = "unknown variant `rehearse`";

/// Asks these agents what bringing their nodes to this state would do, `concurrency` of them at a time. So no more
/// nodes than that ask a mirror at once.
#[must_use]
pub fn rehearse(
    config: &Config,
    nodes: &NodeSet,
    addresses: &Addresses,
    desired: &DesiredState,
) -> Rehearsals {
    let rounds = u32::try_from(nodes.len().div_ceil(config.concurrency.max(1))).unwrap_or(u32::MAX);
    let all = AGENT_LIMIT.saturating_mul(rounds.max(1));
    let limits = Limits::new(EXCHANGE_LIMIT, all).connecting_within(CONNECT_LIMIT);
    let (config_there, desired) = (config.clone(), desired.clone());
    // Folded as they come: thousands of reports of a distribution's update take much memory.
    let folded = Arc::new(Mutex::new(Rehearsals::default()));
    let fold = Arc::clone(&folded);
    let asked = ask_agents(config, nodes, addresses, limits, move |node, host, client| {
        let report = ask(&config_there, node, host, client, &desired);
        fold.lock().unwrap_or_else(PoisonError::into_inner).add(node, report);
        Ok(())
    });
    let mut folded = std::mem::take(&mut *folded.lock().unwrap_or_else(PoisonError::into_inner));
    for (node, answer) in asked {
        if let Err(no_answer) = answer {
            folded.add(&node, Err(no_answer.to_string()));
        }
    }
    folded
}

/// Has one node rehearse, and waits for its report.
///
/// # Errors
/// The reason for which there is none, in one line.
fn ask(
    config: &Config,
    node: &str,
    host: &HostAddresses,
    client: &AgentClient,
    desired: &DesiredState,
) -> Result<Report, String> {
    let end = Instant::now() + AGENT_LIMIT;
    let nodes = NodeSet::from_names([node]).map_err(|error| error.to_string())?;
    let kind = OrderKind::Rehearse(Rehearse { desired: desired.clone() });
    let order = Order::new(random::order_id(), nodes, kind);
    // Sealed one by one: a credential may be too old by the time the last node is asked.
    let sealed = seal(config, &order).map_err(|error| error.to_string())?;
    match client.order(host, &sealed).map_err(|no_answer| no_answer.to_string())? {
        Answer::Accepted { .. } | Answer::UnderWay { .. } => report_on(&order.id, host, client, end),
        Answer::Refused { why, .. } if why.contains(CANNOT_REHEARSE) => {
            let version =
                client.status(host).map(|status| format!("{} ", status.version)).unwrap_or_default();
            Err(format!("agent {version}cannot rehearse: update slurm-rollout-agent"))
        }
        Answer::Refused { why, .. } => Err(why),
    }
}

fn report_on(
    order: &OrderId,
    host: &HostAddresses,
    client: &AgentClient,
    end: Instant,
) -> Result<Report, String> {
    let (mut pause, mut unanswered) = (SHORTEST_PAUSE, 0);
    while Instant::now() < end {
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        match client.rehearsal(host) {
            Ok(Some(Rehearsal { order: of, report })) if of == *order => {
                unanswered = 0;
                if let Some(report) = report {
                    return Ok(report);
                }
            }
            Ok(_) => return Err("its rehearsal is lost: the agent was restarted meanwhile".to_owned()),
            Err(no_answer) => {
                unanswered += 1;
                if unanswered == UNANSWERED {
                    return Err(no_answer.to_string());
                }
            }
        }
    }
    Err(format!("no report within {} s", AGENT_LIMIT.as_secs()))
}
