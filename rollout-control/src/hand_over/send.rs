//! Sending orders to many agents. An agent that cannot be connected to is tried again, behind all others.

use super::report::{Outcome, Reply};
use crate::agents::address::{HostAddresses, Resolver};
use crate::agents::client::AgentClient;
use crate::agents::dispatch::{Results, Turn, dispatch_in_turns};
use crate::config::Config;
use crate::store::Claim;
use rollout_core::protocol::answer::Answer;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval at which answers are recorded while others are outstanding.
pub(super) const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Time for which one agent is tried to be connected to. The kernel of its host establishes a connection, so this does
/// not depend on `agent_timeout`, which an agent needs for its disk. It is longer than a second, after which Linux
/// repeats a lost ARP request (`retrans_time` in arp(7)).
const CONNECT: Duration = Duration::from_millis(1200);

/// Limit of the first attempt. Packets that a switch or a host drops under the load of all other orders are soon sent
/// anew: Linux repeats a SYN only after a second (`TCP_TIMEOUT_INIT` in `include/net/tcp.h`).
const FIRST_ATTEMPT: Duration = Duration::from_millis(250);

/// Pause before an agent that cannot be connected to is tried again: it may just be restarting.
const TRY_AGAIN: Duration = Duration::from_millis(300);

/// One order for one node.
pub(super) struct Delivery {
    pub(super) node: String,
    pub(super) claim: Arc<Claim>,
    address: String,
    /// Its addresses, once they were looked up.
    host: Option<HostAddresses>,
    sealed: Arc<Result<String, String>>,
    /// Time until which it is tried to be connected to. `None` before the first attempt.
    connect_by: Option<Instant>,
}

impl Delivery {
    pub(super) fn new(
        node: String,
        address: String,
        claim: Arc<Claim>,
        sealed: Arc<Result<String, String>>,
    ) -> Self {
        Self { node, claim, address, host: None, sealed, connect_by: None }
    }

    fn ends(self, outcome: Outcome) -> Turn<Self, Reply> {
        Turn::Done(Reply::new(self.node, &self.claim, outcome))
    }
}

/// Sends the orders until `sent_by`. Results come as the agents answer.
pub(super) fn send_all(config: &Config, deliveries: Vec<Delivery>, sent_by: Instant) -> Results<Reply> {
    let limit = config.agent_timeout.get();
    let client = AgentClient::new(config.agent_port, limit);
    let sender = Sender { client, resolver: Resolver::default(), limit, sent_by };
    dispatch_in_turns(deliveries, config.concurrency, sent_by, move |delivery| sender.send(delivery))
}

struct Sender {
    client: AgentClient,
    resolver: Resolver,
    limit: Duration,
    sent_by: Instant,
}

impl Sender {
    fn send(&self, mut delivery: Delivery) -> Turn<Delivery, Reply> {
        let sealed = match delivery.sealed.as_ref() {
            Err(why) => {
                let why = format!("the order cannot be sealed: {why}");
                return delivery.ends(Outcome::Unreachable(why));
            }
            Ok(sealed) => sealed,
        };
        let known =
            delivery.host.take().map_or_else(|| self.resolver.resolve(&delivery.address, self.limit), Ok);
        let host = match known {
            Err(why) => return delivery.ends(Outcome::Unreachable(why)),
            Ok(host) => host,
        };
        let begun = Instant::now();
        let (within, connect_by) = match delivery.connect_by {
            None => (FIRST_ATTEMPT, self.sent_by.min(begun + CONNECT)),
            // It may have waited for its turn.
            Some(by) => (by.saturating_duration_since(begun).max(FIRST_ATTEMPT), by),
        };
        delivery.connect_by = Some(connect_by);
        match self.client.clone().connecting_within(within).order(&host, sealed) {
            Ok(answer) => {
                let outcome = outcome(answer, &delivery.claim);
                delivery.ends(outcome)
            }
            Err(no_answer) if no_answer.nothing_sent() && Instant::now() + TRY_AGAIN < connect_by => {
                delivery.host = Some(host);
                Turn::Again(delivery, TRY_AGAIN)
            }
            Err(no_answer) => delivery.ends(Outcome::Unreachable(no_answer.to_string())),
        }
    }
}

/// Returns the outcome of an order, by the agent's answer to it. An order under way is that order's outcome, not this
/// one's.
fn outcome(answer: Answer, claim: &Claim) -> Outcome {
    match answer {
        Answer::Accepted { volatile, .. } => Outcome::Ordered { volatile },
        Answer::UnderWay { order, volatile, .. } if order.as_ref() == Some(&claim.order.id) => {
            Outcome::Ordered { volatile }
        }
        Answer::UnderWay { order, volatile, .. } if claim.rollout.is_some() => {
            Outcome::UnderWay { under_way: order, volatile }
        }
        Answer::UnderWay { order, .. } => Outcome::Covered { by: order },
        // As good as silence: lost orders are sent again until Slurm gives the node up.
        Answer::Refused { why, transient: true, .. } => {
            Outcome::Unreachable(format!("refused for now: {why}"))
        }
        Answer::Refused { why, transient: false, .. } => Outcome::Refused(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::agent::phase::Phase;
    use rollout_core::hostlist::NodeSet;
    use rollout_core::protocol::order::{GiveBack, Order, OrderId, OrderKind};

    #[test]
    fn an_answer_is_recorded_for_the_order_that_it_is_about() {
        let id = OrderId::from_random;
        let claim = |rollout: Option<&str>| {
            let kind = OrderKind::Reboot(GiveBack { resume_if_late: true, drained: None }.into());
            let order = Order::new(id(2), NodeSet::parse("n1").unwrap(), kind);
            Claim { rollout: rollout.map(str::to_owned), order }
        };
        let under_way = |order: Option<u128>, volatile| Answer::UnderWay {
            phase: Phase::Rebooting,
            order: order.map(id),
            rollout: None,
            volatile,
        };
        let refused = |transient| Answer::Refused {
            why: "MUNGE: Rewound credential".to_owned(),
            order: None,
            transient,
        };
        for (answer, rollout, expected) in [
            (under_way(Some(2), true), Some("driver"), Outcome::Ordered { volatile: true }),
            (under_way(Some(2), false), None, Outcome::Ordered { volatile: false }),
            (
                under_way(Some(1), true),
                Some("driver"),
                Outcome::UnderWay { under_way: Some(id(1)), volatile: true },
            ),
            (under_way(None, false), Some("driver"), Outcome::UnderWay { under_way: None, volatile: false }),
            (under_way(Some(1), true), None, Outcome::Covered { by: Some(id(1)) }),
            (under_way(None, false), None, Outcome::Covered { by: None }),
            (refused(false), Some("driver"), Outcome::Refused("MUNGE: Rewound credential".to_owned())),
            (
                refused(true),
                Some("driver"),
                Outcome::Unreachable("refused for now: MUNGE: Rewound credential".to_owned()),
            ),
        ] {
            let found = outcome(answer.clone(), &claim(rollout));
            assert!(found == expected, "{answer:?} to an order of {rollout:?}");
        }
    }
}
