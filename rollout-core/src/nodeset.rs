//! Node sets: expressions such as `@gpu,cn[001-004]!cn003`, in the syntax of ClusterShell.
//!
//! A node set is read from left to right, and all operators have the same precedence (`ParsingEngine.parse_string` in
//! `lib/ClusterShell/NodeSet.py`, 1.9.1): `,` or a blank is the union, `!` the difference, `&` the intersection and `^`
//! the symmetric difference. ClusterShell has no parentheses; a group takes their place. The operands are:
//!
//! | operand | stands for |
//! |---|---|
//! | `cn[001-128]`, `cn[1-9/2]` | nodes: a hostlist, in which a range may have a step |
//! | `@gpu`, `@racks:r[1-4]` | the nodes of groups, of the default source or of `racks` |
//! | `@*`, `@racks:*` | all nodes of a source |
//! | `cn1*`, `cn?` | the nodes of the default source whose names match |
//!
//! A text that is a hostlist is nothing but that: it means what Slurm means by it. ClusterShell differs there in
//! details (blanks, doubled commas, padding). No hostlist contains an operator or `@`, so no text has two meanings.
//!
//! This module only computes. [`Groups`] tells it what a group is.

mod error;
mod evaluate;
mod operand;
mod scan;
mod steps;

pub use error::{GroupError, NodesetError};

use crate::hostlist::NodeSet;
use operand::Operand;
use scan::Operator;

/// Maximum number of groups inside one another.
pub const MAX_DEPTH: usize = 32;
/// Maximum number of names that all operands of an expression and its groups may have together. It bounds the time of
/// an evaluation.
pub const MAX_WORK: usize = 16 * crate::hostlist::MAX_NODES;

/// The groups that an expression may name.
pub trait Groups {
    /// Returns the source of groups that are written without one.
    ///
    /// # Errors
    /// If there is none.
    fn default_source(&self) -> Result<String, GroupError>;

    /// Returns the meaning of a group.
    ///
    /// # Errors
    /// If there is no such source or group, or it cannot be read.
    fn group(&self, source: &str, group: &str) -> Result<Definition, GroupError>;

    /// Returns sets that together are all nodes of a source.
    ///
    /// # Errors
    /// If there is no such source, or it cannot be read.
    fn all(&self, source: &str) -> Result<Vec<Definition>, GroupError>;
}

/// The meaning of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A node set. Groups without a source belong to the source of this one. Blank is the empty set.
    Text(String),
    Nodes(NodeSet),
}

/// A parsed node set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    steps: Vec<Step>,
}

/// An operator, and the operand that it applies to the result of the steps before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    operator: Operator,
    operand: Operand,
}

impl Expression {
    /// Parses a hostlist or an expression.
    ///
    /// # Errors
    /// The first error in it.
    pub fn parse(text: &str) -> Result<Self, NodesetError> {
        match NodeSet::parse(text) {
            Ok(nodes) => {
                Ok(Self { steps: vec![Step { operator: Operator::Union, operand: Operand::Nodes(nodes) }] })
            }
            Err(error) if !text.contains(MARKS) => Err(NodesetError::Hostlist(error)),
            Err(_) => scan::scan(text)?.into_iter().map(Step::parse).collect(),
        }
    }

    /// Returns the nodes that the expression stands for now. There may be none.
    ///
    /// # Errors
    /// If a group is unknown or part of itself, or limits are exceeded.
    pub fn evaluate(&self, groups: &dyn Groups) -> Result<NodeSet, NodesetError> {
        evaluate::evaluate(&self.steps, groups)
    }
}

/// Characters that no hostlist has, and expressions have. The last one is that of steps.
const MARKS: [char; 7] = ['@', '!', '&', '^', '*', '?', '/'];

impl Step {
    fn parse(scanned: scan::Scanned<'_>) -> Result<Self, NodesetError> {
        Ok(Self { operator: scanned.operator, operand: Operand::parse(scanned.operand)? })
    }
}

impl FromIterator<Step> for Expression {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests;
