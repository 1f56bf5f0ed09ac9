//! Errors of a node set, worded so that its author can correct it.

use super::{MAX_DEPTH, MAX_WORK};
use crate::hostlist::{HostlistError, MAX_NODES, MAX_RANGE};

/// An answer of [`super::Groups`] that is none: the source or group is unknown, or cannot be read. It names the place
/// where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GroupError(pub String);

/// A text that is no node set, or one that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodesetError {
    /// Neither a hostlist nor an expression.
    #[error("{0}")]
    Hostlist(HostlistError),
    /// An operand that should be a hostlist.
    #[error("in {operand:?}: {source}")]
    Operand { operand: String, source: HostlistError },
    /// An operator without a node or group on one of its sides.
    #[error(
        "{operator:?} at byte {at}: a node or group is missing beside it; write one, or remove the operator"
    )]
    MissingOperand { operator: char, at: usize },
    /// A range with a step that is none.
    #[error("{0:?}: not a range with a step; write it as in 1-9/2")]
    Step(String),
    /// A step with too many numbers.
    #[error("{0:?}: more than {MAX_RANGE} numbers; write several smaller ranges")]
    StepTooLong(String),
    /// A group or source that has no name, or one with a character that ends it elsewhere.
    #[error(
        "{0:?}: not the name of a group; write @GROUP or @SOURCE:GROUP, with ranges in brackets as in @rack[1-4]"
    )]
    GroupName(String),
    /// ClusterShell's list of group names.
    #[error("{0:?}: a list of group names is not a node set; write @SOURCE:* for the nodes of all groups")]
    GroupNames(String),
    /// A wildcard together with brackets.
    #[error("{0:?}: a name with * or ? cannot have brackets as well; write the names one after the other")]
    Wildcard(String),
    /// A source or group that cannot be found.
    #[error("{group}: {source}")]
    Group { group: String, source: GroupError },
    /// The definition of a group has an error.
    #[error("in the definition of {group}: {source}")]
    Definition { group: String, source: Box<NodesetError> },
    /// A group that is part of itself.
    #[error("{}: the group is part of itself; change one of the definitions", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// More than [`MAX_DEPTH`] groups inside one another.
    #[error("{0}: more than {MAX_DEPTH} groups inside one another; write their nodes instead")]
    TooDeep(String),
    /// More than [`MAX_WORK`] names in all operands.
    #[error("the operands have more than {MAX_WORK} names together; write a shorter expression")]
    TooMuch,
    /// More than [`MAX_NODES`] nodes.
    #[error("more than {MAX_NODES} nodes; name fewer")]
    TooManyNodes,
}
