//! An order: what one invocation sends to the agents of some nodes. One sealed text serves all of them.
//!
//! An order names the nodes it is for and carries an id of its own. MUNGE proves who sealed it and when; the id,
//! kept in each agent's ledger, is what still tells a repeated order after munged forgot its replay cache.

use crate::hostlist::NodeSet;
use crate::image::Running;
use crate::ledger::one_line;
use crate::manifest::Aim;
use crate::phase::Phase;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The highest order format this version reads and the one that it writes.
pub const VERSION: u32 = 1;

/// Stands in every order, so that a credential sealed for something else is never taken for one.
pub const PURPOSE: &str = "slurm-rollout order";

/// Length limit of why a text is no order, in characters.
const MAX_WHY: usize = 500;

/// Names one order for ever: 32 hexadecimal digits, from 128 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(String);

impl OrderId {
    /// The id made of these random bits.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an invocation of RebootProgram or the CLI sends to some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Always [`PURPOSE`].
    pub purpose: String,
    /// The format, [`VERSION`].
    pub version: u32,
    /// Names this order.
    pub id: OrderId,
    /// The nodes it is for. Every other node refuses it.
    pub nodes: NodeSet,
    /// What they shall do.
    pub what: What,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum What {
    /// Become what was staged, then reboot and prove it.
    Apply(Apply),
    /// Reboot, nothing else.
    Reboot(Plain),
    /// A held node: carry out the order once more that ended in the hold.
    Retry,
    /// A held node: give it back as it is, on the admin's word.
    Release,
    /// Keep this until slurmd has the node rebooted, where slurmd runs RebootProgram. Touches nothing.
    Keep(Keep),
    /// Others have drained the node since, or do so no more: this goes with what is kept.
    Drained(Drained),
    /// Forget what was kept of this rollout.
    Drop {
        /// The rollout's id on the controller.
        rollout: String,
    },
    /// slurmd has the node rebooted. Only a node says so to itself.
    HandedOver(HandedOver),
    /// A node that has booted and kept no ledger: carry on with the order of this id as if it had.
    Expect(Expect),
    /// What the node boots from is again what it was: go on with the undo of this order.
    PutBack {
        /// The order that is being undone.
        order: OrderId,
    },
}

/// What a node without a ledger would find in it, had it one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// The order as it was sent before the boot: to apply or to reboot.
    pub order: Box<What>,
    /// Where the node stood: `rebooting`, `rebooting-back` or `held`.
    pub phase: Phase,
    /// The kernel's boot id when the order was sent, where it is known.
    #[serde(default)]
    pub boot_id: String,
    /// When the order was sent, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_s: Option<u64>,
    /// What the node was running then, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// What has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The staged rollout that a node shall become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The rollout's id on the controller.
    pub rollout: String,
    /// What the node shall become.
    pub aim: Aim,
    /// What happens if Slurm has given up on the node by the time it is back.
    #[serde(flatten)]
    pub back: Return,
}

/// What a node shall become when slurmd has it rebooted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The rollout's id on the controller.
    pub rollout: String,
    /// What the node shall become.
    pub aim: Aim,
    /// The Reason with which somebody had drained the node: it stays drained. Older agents pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

/// By whom a node is drained for which an order is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The order with [`What::Keep`]. Means nothing where it is not kept any more.
    pub order: OrderId,
    /// The Reason; none if nobody else drains the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// That slurmd ran RebootProgram on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Whether what is kept is to be applied; not where a job waits for the node.
    pub apply: bool,
    /// The reboot where nothing is.
    #[serde(flatten)]
    pub plain: Plain,
}

/// A reboot that applies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// What happens if Slurm has given up on the node by the time it is back.
    #[serde(flatten)]
    pub back: Return,
    /// The features that a job wants the node to boot with (`sbatch --reboot --constraint=…`), as Slurm gave them to
    /// RebootProgram. Older agents pass them over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

/// How the node is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Put it back into service: Slurm would have done so itself, had the node come in time.
    pub resume_if_late: bool,
    /// The Reason with which somebody had drained the node before: it stays drained. Older agents pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

impl From<Return> for Plain {
    fn from(back: Return) -> Self {
        Self { back, features: None }
    }
}

impl Order {
    /// An order of this version.
    #[must_use]
    pub fn new(id: OrderId, nodes: NodeSet, what: What) -> Self {
        Self { purpose: PURPOSE.to_owned(), version: VERSION, id, nodes, what }
    }

    /// How its nodes are given back, if it is about that.
    #[must_use]
    pub fn back(&self) -> Option<&Return> {
        self.what.back()
    }

    /// The rollout it belongs to, if it is not a plain reboot.
    #[must_use]
    pub fn rollout(&self) -> Option<&str> {
        self.what.rollout()
    }

    /// Reads an order out of an unsealed credential, and checks what it carries.
    ///
    /// # Errors
    /// Why this text is no order that this version could carry out.
    pub fn parse(payload: &[u8]) -> Result<Self, NotAnOrder> {
        /// Read first, so that a newer format gets a clear answer and not a complaint about some key.
        #[derive(Deserialize)]
        struct Head {
            purpose: String,
            version: u32,
        }
        // serde quotes what it does not know, and this goes to the log.
        let text = |error: serde_json::Error| NotAnOrder::Text(one_line(&error.to_string(), MAX_WHY));
        let head: Head = serde_json::from_slice(payload).map_err(text)?;
        if head.purpose != PURPOSE {
            return Err(NotAnOrder::Purpose(head.purpose.chars().take(40).collect()));
        }
        if head.version > VERSION {
            return Err(NotAnOrder::Version(head.version));
        }
        let order: Self = serde_json::from_slice(payload).map_err(text)?;
        order.what.check()?;
        Ok(order)
    }
}

impl What {
    fn back(&self) -> Option<&Return> {
        match self {
            Self::Apply(apply) => Some(&apply.back),
            Self::Reboot(plain) | Self::HandedOver(HandedOver { plain, .. }) => Some(&plain.back),
            Self::Expect(expect) => expect.order.back(),
            Self::Retry
            | Self::Release
            | Self::Keep(_)
            | Self::Drained(_)
            | Self::Drop { .. }
            | Self::PutBack { .. } => None,
        }
    }

    fn rollout(&self) -> Option<&str> {
        match self {
            Self::Apply(apply) => Some(&apply.rollout),
            Self::Keep(Keep { rollout, .. }) | Self::Drop { rollout } => Some(rollout),
            Self::Expect(expect) => expect.order.rollout(),
            Self::Reboot(_)
            | Self::Retry
            | Self::Release
            | Self::Drained(_)
            | Self::HandedOver(_)
            | Self::PutBack { .. } => None,
        }
    }

    fn check(&self) -> Result<(), NotAnOrder> {
        match self {
            Self::Apply(Apply { aim, .. }) | Self::Keep(Keep { aim, .. }) => {
                aim.check().map_err(|e| NotAnOrder::Aim(e.to_string()))
            }
            Self::Expect(Expect { order, phase, .. }) => match (&**order, phase) {
                (Self::Apply(_) | Self::Reboot(_), Phase::Rebooting | Phase::RebootingBack | Phase::Held) => {
                    order.check()
                }
                (Self::Apply(_) | Self::Reboot(_), _) => {
                    Err(NotAnOrder::Text(format!("no node boots while {}", phase.name())))
                }
                _ => Err(NotAnOrder::Text("an expectation is of an order to apply or to reboot".to_owned())),
            },
            Self::Reboot(_)
            | Self::Retry
            | Self::Release
            | Self::Drained(_)
            | Self::Drop { .. }
            | Self::HandedOver(_)
            | Self::PutBack { .. } => Ok(()),
        }
    }
}

/// Why a text is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnOrder {
    /// Not the JSON of an order.
    #[error("not an order: {0}")]
    Text(String),
    /// Sealed for something else.
    #[error("not an order: it was sealed for {0:?}")]
    Purpose(String),
    /// Written by a newer slurm-rollout.
    #[error("the order has format {0}, this agent reads up to {VERSION}: update slurm-rollout-agent first")]
    Version(u32),
    /// It asks for something that no manifest may.
    #[error("the order asks for what no manifest may: {0}")]
    Aim(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn order() -> Order {
        let text = "name='r'\nnodes='n[1-2]'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
        let manifest = Manifest::parse(text).unwrap();
        let apply = Apply {
            rollout: "r".into(),
            aim: manifest.aim,
            back: Return { resume_if_late: true, drained: None },
        };
        Order::new(OrderId::from_random(7), manifest.nodes, What::Apply(apply))
    }

    #[test]
    fn an_order_survives_json() {
        let json = serde_json::to_vec(&order()).unwrap();
        assert_eq!(Order::parse(&json).unwrap(), order());
    }

    #[test]
    fn what_is_no_order_is_refused_with_its_reason() {
        let json = serde_json::to_string(&order()).unwrap();
        let parse = |text: &str| Order::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(parse(""), NotAnOrder::Text(_)));
        assert!(matches!(parse(&json[..json.len() / 2]), NotAnOrder::Text(_)));
        assert!(matches!(parse(&json.replace(PURPOSE, "login")), NotAnOrder::Purpose(_)));
        assert_eq!(parse(&json.replace("\"version\":1", "\"version\":2")), NotAnOrder::Version(2));
        assert!(matches!(parse(&json.replace("\"/a\"", "\"../a\"")), NotAnOrder::Aim(_)));
        assert!(matches!(parse(&json.replace("\"path\"", "\"shell\"")), NotAnOrder::Text(_)));
        // In one line, whatever it quotes.
        let odd = parse(&json.replace("symlink", "sym\\u0000\\n<3>link")).to_string();
        assert!(odd.contains("`sym <3>link`"), "{odd:?}");
    }
}
