//! Answers of an agent: to an order, and to the question for its status. JSON over HTTP/1.1.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/order` | a MUNGE credential with an [`Order`](crate::protocol::order::Order); on the Unix socket the order itself | [`Answer`] |
//! | `POST /v1/hand-over` | on the Unix socket only: a [`HandOverRequest`] | [`Answer`] |
//! | `GET /v1/status` | none | [`AgentStatus`] |
//! | `GET /v1/past` | none | a list of [`NodeChanges`](crate::agent::changes_made::NodeChanges), oldest first |
//! | `GET /v1/rehearsal` | none | the last [`Rehearsal`](crate::protocol::rehearsal::Rehearsal), or `null` |

use crate::agent::phase::{Phase, keys};
use crate::protocol::order::OrderId;
use crate::rollout::image::Running;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The agent's TCP port, next to slurmd's 6818 and slurmdbd's 6819.
pub const PORT: u16 = 6821;

/// Path for orders.
pub const ORDER_PATH: &str = "/v1/order";

/// Path for hand-overs by slurmd on the same node.
pub const HAND_OVER_PATH: &str = "/v1/hand-over";

/// Path of the agent's status.
pub const STATUS_PATH: &str = "/v1/status";

/// Path of the changes that rollouts made on the node.
pub const PAST_PATH: &str = "/v1/past";

/// Path of the last rehearsal.
pub const REHEARSAL_PATH: &str = "/v1/rehearsal";

/// The agent's Unix socket.
pub const SOCKET: &str = "/run/slurm-rollout/agent.sock";

/// The largest body that an agent reads. munged decodes no credential of more than 1 MiB.
pub const MAX_BODY: usize = 1024 * 1024;

/// The largest number of notes in a status, so that every status fits into what a controller reads. The agent's log has
/// all of them.
pub const MAX_NOTES: usize = 16;

/// A hand-over by slurmd on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverRequest {
    /// The features that a job wants the node to boot with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// Apply nothing, even if something is staged.
    #[serde(default)]
    pub plain: bool,
}

/// An agent's answer to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The order is in the ledger, on disk, and will be carried out.
    Accepted {
        /// The ledger does not survive the boot: the node will need its instructions once more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
        /// Id under which the order is carried out. It is the order's own, except that a hand-over by slurmd is carried
        /// out under the pre-staged order's id, `retry` and `release` under the held order's, and the notice of a
        /// restored boot source under that of the order being undone. `None` from agents up to 0.1.0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderId>,
    },
    /// The node is already carrying out an order that leads to the same result.
    UnderWay {
        phase: Phase,
        /// Id of the order under way, which need not be the one that was sent. `None` from agents up to 0.1.0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderId>,
        /// Rollout of the order under way. `None` for a plain reboot, and from agents up to 0.1.0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<String>,
        /// As in [`Answer::Accepted`]. False from agents up to 0.1.0, which do not report it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
    },
    /// The order will not be carried out.
    Refused {
        /// One line for a person.
        why: String,
        /// Id of the order in the way: the node is held by it or carrying it out. The refused order's own id if that
        /// was carried out before. `None` if no order is in the way, and from agents up to 0.1.0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderId>,
        /// The cause may be gone in a moment, as that of a node whose clock is not set yet: the order is worth another
        /// try. False from agents up to 0.1.0.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        transient: bool,
    },
}

impl Answer {
    /// Returns a refusal that no other order causes, and that stands until somebody removes its cause.
    #[must_use]
    pub fn refused(why: String) -> Self {
        Self::Refused { why, order: None, transient: false }
    }
}

/// Status of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's version.
    pub version: String,
    /// NodeName.
    pub node: String,
    /// The kernel's `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// The node's clock when it answered, in seconds since 1970. Older agents do not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_s: Option<u64>,
    /// The order that is being carried out, or was carried out last. `None` if the node never had one, or is in
    /// trouble.
    #[serde(default)]
    pub order: Option<OrderStatus>,
    /// The rollout that is applied when slurmd has the node rebooted, if slurmd runs RebootProgram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// The reason, in one line, if the agent takes no order at all because its ledger cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The system that the node is running. Older agents do not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The ledger does not survive a boot (`ledger = "volatile"`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
    /// The agent keeps slurmd down until it gets its instructions: the node has booted, has no ledger, and Slurm shows
    /// it as being rebooted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits: bool,
}

impl AgentStatus {
    /// Returns the status with the uptime after this time, in whole seconds.
    #[must_use]
    pub fn aged(self, by: Duration) -> Self {
        Self { uptime_s: self.uptime_s.saturating_add(by.as_secs()), ..self }
    }
}

/// Status of an order on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatus {
    pub id: OrderId,
    /// `None` for a plain reboot.
    #[serde(default)]
    pub rollout: Option<String>,
    #[serde(flatten, with = "keys")]
    pub phase: Phase,
    /// Start of this phase, in seconds since 1970 by the node's clock.
    pub since_s: u64,
    /// The failure, in one line.
    #[serde(default)]
    pub error: Option<String>,
    /// Facts that an admin should see and that are no failure, each in one line. Older agents do not report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The order altered something on the node that has not been undone.
    #[serde(default)]
    pub changed: bool,
    /// Time from acceptance to the end of the order, in seconds by the node's clock. `None` while it is carried out, if
    /// an admin ended it, and from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The answers of version 0.1.0.
    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(tag = "answer", rename_all = "kebab-case")]
    enum OldAnswer {
        Accepted {
            #[serde(default)]
            volatile: bool,
        },
        UnderWay {
            phase: Phase,
        },
        Refused {
            why: String,
        },
    }

    #[test]
    fn controllers_and_agents_of_0_1_0_are_understood() {
        let id = || Some(OrderId::from_random(7));
        let hex = "00000000000000000000000000000007";
        let (phase, why, rollout) = (Phase::Applying, "busy".to_owned(), Some("driver".to_owned()));
        for (answer, json, old, without_new_keys) in [
            (
                Answer::Accepted { volatile: true, order: id() },
                json!({ "answer": "accepted", "volatile": true, "order": hex }),
                OldAnswer::Accepted { volatile: true },
                Answer::Accepted { volatile: true, order: None },
            ),
            (
                Answer::UnderWay { phase, order: id(), rollout, volatile: true },
                json!({
                    "answer": "under-way", "phase": "applying", "order": hex, "rollout": "driver", "volatile": true
                }),
                OldAnswer::UnderWay { phase },
                Answer::UnderWay { phase, order: None, rollout: None, volatile: false },
            ),
            (
                Answer::Refused { why: why.clone(), order: id(), transient: true },
                json!({ "answer": "refused", "why": "busy", "order": hex, "transient": true }),
                OldAnswer::Refused { why: why.clone() },
                Answer::refused(why),
            ),
        ] {
            assert_eq!(serde_json::to_value(&answer).unwrap(), json);
            assert_eq!(serde_json::from_value::<Answer>(json.clone()).unwrap(), answer);
            assert_eq!(serde_json::from_value::<OldAnswer>(json.clone()).unwrap(), old, "an old controller");
            let mut json = json;
            let object = json.as_object_mut().unwrap();
            let is_old = |key: &str| {
                let is_new = matches!(
                    (key, &old),
                    ("order" | "rollout" | "transient", _) | ("volatile", OldAnswer::UnderWay { .. })
                );
                !is_new
            };
            object.retain(|key, _| is_old(key));
            assert_eq!(
                serde_json::from_value::<Answer>(json.clone()).unwrap(),
                without_new_keys,
                "an old agent"
            );
            assert_eq!(serde_json::to_value(&without_new_keys).unwrap(), json, "and no key without a value");
        }
    }
}
