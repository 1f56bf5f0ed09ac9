//! An order: the message that one invocation of RebootProgram or the CLI sends to the agents of some nodes.
//!
//! One sealed text serves all of its nodes. An order names the nodes it is for and carries an id. MUNGE proves the
//! sender and the time. The id, kept in each agent's ledger, identifies a repeated order even after munged lost its
//! replay cache.

use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::rollout::image::Running;
use crate::rollout::manifest::DesiredState;
use crate::text::one_line;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Order format that this version writes, and the highest one that it reads.
pub const VERSION: u32 = 1;

/// Marker in every order. A credential sealed for something else is never taken for an order.
pub const PURPOSE: &str = "slurm-rollout order";

/// Advice for an order with a kind or key that this version does not know: the controller's side is newer.
const UPDATE: &str = "if the controller has a newer version, update slurm-rollout-agent first";

/// Length limit of a parse error, in characters.
const MAX_PARSE_ERROR: usize = 500;

/// Unique identifier of an order: 32 hexadecimal digits made of 128 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(String);

impl OrderId {
    /// Returns the id made of these random bits.
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

/// A message from the controller to the agents of some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Always [`PURPOSE`].
    pub purpose: String,
    /// The format, [`VERSION`].
    pub version: u32,
    pub id: OrderId,
    /// The nodes it is for. Every other node refuses it.
    pub nodes: NodeSet,
    #[serde(rename = "what")]
    pub kind: OrderKind,
}

/// The request that an order makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum OrderKind {
    /// Apply the staged rollout, then reboot and prove it.
    Apply(Apply),
    /// Reboot and change nothing.
    Reboot(PlainReboot),
    /// On a held node: carry out the order that ended in the hold once more.
    Retry,
    /// On a held node: give it back as it is, on the admin's word.
    Release,
    /// Keep this rollout until slurmd has the node rebooted, if slurmd runs RebootProgram. Changes nothing on the node.
    #[serde(rename = "keep")]
    PreStage(PreStage),
    /// The drain that goes with a pre-staged order has changed.
    #[serde(rename = "drained")]
    UpdateDrain(UpdateDrain),
    /// Forget the pre-staged order of this rollout.
    #[serde(rename = "drop")]
    DropPreStaged { rollout: String },
    /// slurmd has the node rebooted. Only the node itself sends this.
    #[serde(rename = "handedover")]
    LocalHandOver(LocalHandOver),
    /// On a node that has booted and kept no ledger: carry on with the order of this id.
    #[serde(rename = "expect")]
    RestoreLedger(RestoreLedger),
    /// The boot source is restored: go on with the undo of `order`.
    #[serde(rename = "putback")]
    BootRestored { order: OrderId },
    /// Answer as to any order, and do nothing: a trial of keys, clocks and users. An older agent refuses it once it has
    /// opened it and accepted its sealer.
    Probe,
    /// Find out what applying this would do, and change nothing. The report follows later, see
    /// [`Rehearsal`](crate::protocol::rehearsal::Rehearsal). It runs the commands of the manifest's `[verify]`, so it
    /// is an order like any other.
    Rehearse(Rehearse),
}

/// The state to rehearse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearse {
    #[serde(rename = "aim")]
    pub desired: DesiredState,
}

/// The ledger of a node that keeps none over a boot, as far as the controller can restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreLedger {
    /// The order as it was sent before the boot: to apply or to reboot.
    pub order: Box<OrderKind>,
    /// The phase before the boot: `rebooting`, `rebooting-back` or `held`.
    pub phase: Phase,
    /// The kernel's boot id when the order was sent. Empty if unknown.
    #[serde(default)]
    pub boot_id: String,
    /// Time at which the order was sent, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_s: Option<u64>,
    /// The image that the node was running at that time, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The failure so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A staged rollout that a node must become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The rollout's id on the controller.
    pub rollout: String,
    #[serde(rename = "aim")]
    pub desired: DesiredState,
    #[serde(flatten)]
    pub give_back: GiveBack,
}

/// A staged rollout for the time when slurmd has the node rebooted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreStage {
    /// The rollout's id on the controller.
    pub rollout: String,
    #[serde(rename = "aim")]
    pub desired: DesiredState,
    /// Reason of the drain that somebody else set. The node stays drained. Older agents ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

/// The current drain of a node that has a pre-staged order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDrain {
    /// The [`PreStage`] order. Without effect if it is no longer kept.
    pub order: OrderId,
    /// Reason of the drain. `None` if nobody else drains the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A hand-over by slurmd on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHandOver {
    /// Apply the pre-staged order. False if a job waits for the node.
    pub apply: bool,
    /// The reboot if nothing is applied.
    #[serde(flatten)]
    pub plain: PlainReboot,
}

/// A reboot that applies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainReboot {
    #[serde(flatten)]
    pub give_back: GiveBack,
    /// The features that a job wants the node to boot with (`sbatch --reboot --constraint=…`), as Slurm passed them to
    /// RebootProgram. Older agents ignore them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

/// The way a node returns to service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveBack {
    /// Resume the node even if Slurm has given up on it: Slurm would have resumed it itself in time.
    pub resume_if_late: bool,
    /// Reason of the drain that somebody else had set. The node stays drained. Older agents ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

impl From<GiveBack> for PlainReboot {
    fn from(give_back: GiveBack) -> Self {
        Self { give_back, features: None }
    }
}

impl Order {
    /// Creates an order in the format of this version.
    #[must_use]
    pub fn new(id: OrderId, nodes: NodeSet, kind: OrderKind) -> Self {
        Self { purpose: PURPOSE.to_owned(), version: VERSION, id, nodes, kind }
    }

    /// Returns the way its nodes return to service, if the order ends in that.
    #[must_use]
    pub fn give_back(&self) -> Option<&GiveBack> {
        self.kind.give_back()
    }

    /// Returns the id of its rollout. `None` for a plain reboot.
    #[must_use]
    pub fn rollout(&self) -> Option<&str> {
        self.kind.rollout()
    }

    /// Parses an order from an unsealed credential and checks its content.
    ///
    /// # Errors
    /// Returns the reason if the text is not an order that this version can carry out.
    pub fn parse(payload: &[u8]) -> Result<Self, NotAnOrder> {
        /// Parsed first: a newer format then gets a clear answer instead of a complaint about some key.
        #[derive(Deserialize)]
        struct Head {
            purpose: String,
            version: u32,
        }
        // serde quotes unknown words, and the message goes to the log.
        let text = |error: serde_json::Error| {
            let error = one_line(&error.to_string(), MAX_PARSE_ERROR);
            let is_newer = ["unknown variant", "unknown field"].iter().any(|what| error.starts_with(what));
            NotAnOrder::Text(if is_newer { format!("{error}: {UPDATE}") } else { error })
        };
        let head: Head = serde_json::from_slice(payload).map_err(text)?;
        if head.purpose != PURPOSE {
            return Err(NotAnOrder::Purpose(head.purpose.chars().take(40).collect()));
        }
        if head.version > VERSION {
            return Err(NotAnOrder::Version(head.version));
        }
        let order: Self = serde_json::from_slice(payload).map_err(text)?;
        order.kind.check()?;
        Ok(order)
    }
}

impl OrderKind {
    /// Returns whether a node that accepts the order begins to change or to reboot itself.
    #[must_use]
    pub fn begins_with_work(&self) -> bool {
        matches!(self, Self::Apply(_) | Self::Reboot(_) | Self::Retry | Self::LocalHandOver(_))
    }

    fn give_back(&self) -> Option<&GiveBack> {
        match self {
            Self::Apply(apply) => Some(&apply.give_back),
            Self::Reboot(plain) | Self::LocalHandOver(LocalHandOver { plain, .. }) => Some(&plain.give_back),
            Self::RestoreLedger(ledger) => ledger.order.give_back(),
            Self::Retry
            | Self::Release
            | Self::PreStage(_)
            | Self::UpdateDrain(_)
            | Self::DropPreStaged { .. }
            | Self::BootRestored { .. }
            | Self::Probe
            | Self::Rehearse(_) => None,
        }
    }

    fn rollout(&self) -> Option<&str> {
        match self {
            Self::Apply(apply) => Some(&apply.rollout),
            Self::PreStage(PreStage { rollout, .. }) | Self::DropPreStaged { rollout } => Some(rollout),
            Self::RestoreLedger(ledger) => ledger.order.rollout(),
            Self::Reboot(_)
            | Self::Retry
            | Self::Release
            | Self::UpdateDrain(_)
            | Self::LocalHandOver(_)
            | Self::BootRestored { .. }
            | Self::Probe
            | Self::Rehearse(_) => None,
        }
    }

    fn check(&self) -> Result<(), NotAnOrder> {
        match self {
            Self::Apply(Apply { desired, .. })
            | Self::PreStage(PreStage { desired, .. })
            | Self::Rehearse(Rehearse { desired }) => {
                desired.check().map_err(|e| NotAnOrder::DesiredState(e.to_string()))
            }
            Self::RestoreLedger(RestoreLedger { order, phase, .. }) => match (&**order, phase) {
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
            | Self::UpdateDrain(_)
            | Self::DropPreStaged { .. }
            | Self::LocalHandOver(_)
            | Self::BootRestored { .. }
            | Self::Probe => Ok(()),
        }
    }
}

/// The reason for refusing a text as an order.
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
    /// It asks for something that a manifest cannot ask for.
    #[error("the order asks for what no manifest may: {0}")]
    DesiredState(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::manifest::Manifest;

    fn order() -> Order {
        let text = "name='r'\nnodes='n[1-2]'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
        let manifest = Manifest::parse(text).unwrap();
        let apply = Apply {
            rollout: "r".into(),
            desired: manifest.desired,
            give_back: GiveBack { resume_if_late: true, drained: None },
        };
        Order::new(OrderId::from_random(7), manifest.nodes, OrderKind::Apply(apply))
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
        assert!(matches!(parse(&json.replace("\"/a\"", "\"../a\"")), NotAnOrder::DesiredState(_)));
        assert!(matches!(parse(&json.replace("\"path\"", "\"shell\"")), NotAnOrder::Text(_)));
        let newer = parse(&json.replace("\"symlink\"", "\"firmware\"")).to_string();
        assert!(
            newer.contains("`firmware`") && newer.ends_with("update slurm-rollout-agent first"),
            "{newer}"
        );
        let command =
            r#"{"kind":"command","name":"a","version":"1","probe":["/p"],"apply":["/a"],"cold":true}"#;
        let link = json.split_once("\"changes\":[").and_then(|(_, rest)| rest.split(']').next()).unwrap();
        let newer = parse(&json.replacen(link, command, 1)).to_string();
        assert!(newer.contains("`cold`") && newer.ends_with("update slurm-rollout-agent first"), "{newer}");
        // In one line, whatever it quotes.
        let odd = parse(&json.replace("symlink", "sym\\u0000\\n<3>link")).to_string();
        assert!(odd.contains("`sym <3>link`"), "{odd:?}");
    }
}
