//! The operands of an expression.

use super::NodesetError;
use super::steps::without_steps;
use crate::hostlist::{NodeSet, expand};

/// Maximum length of the name of a group or source.
const MAX_NAME: usize = 255;

/// Characters that end a name elsewhere in an expression (`ILLEGAL_GROUP_CHARS` in ClusterShell, and brackets).
const NOT_IN_NAMES: [char; 10] = ['@', ',', '!', '&', '^', '*', '?', '[', ']', '/'];

/// An operand of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Nodes(NodeSet),
    /// All nodes of the default source whose names match.
    Wildcard(String),
    /// The union of groups. `None` is the default source.
    Groups {
        source: Option<String>,
        names: Vec<String>,
    },
    /// All nodes of a source.
    All {
        source: Option<String>,
    },
}

impl Operand {
    pub(super) fn parse(text: &str) -> Result<Self, NodesetError> {
        if let Some(group) = text.strip_prefix('@') {
            return Self::group(text, group);
        }
        if text.contains(['*', '?']) {
            return if text.contains(['[', ']']) {
                Err(NodesetError::Wildcard(text.to_owned()))
            } else {
                Ok(Self::Wildcard(text.to_owned()))
            };
        }
        let list = without_steps(text)?;
        NodeSet::parse(&list)
            .map(Self::Nodes)
            .map_err(|source| NodesetError::Operand { operand: text.to_owned(), source })
    }

    fn group(text: &str, group: &str) -> Result<Self, NodesetError> {
        let (source, group) = match group.split_once(':') {
            Some((source, group)) => (Some(source), group),
            None => (None, group),
        };
        if group.starts_with('@') {
            return Err(NodesetError::GroupNames(text.to_owned()));
        }
        if source.is_some_and(|source| !is_name(source)) {
            return Err(NodesetError::GroupName(text.to_owned()));
        }
        let source = source.map(str::to_owned);
        if group == "*" {
            return Ok(Self::All { source });
        }
        let names = if group.contains('[') {
            let list = without_steps(group)?;
            expand(&list).map_err(|source| NodesetError::Operand { operand: text.to_owned(), source })?
        } else if is_name(group) {
            vec![group.to_owned()]
        } else {
            return Err(NodesetError::GroupName(text.to_owned()));
        };
        Ok(Self::Groups { source, names })
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && !NOT_IN_NAMES.contains(&c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(fits)
}

/// Returns whether a name matches a mask, in which `*` is any text and `?` any character.
pub(super) fn matches(mask: &str, name: &str) -> bool {
    let (mask, name) = (mask.as_bytes(), name.as_bytes());
    let (mut m, mut n) = (0, 0);
    // The last `*`, and the position in the name up to which it reaches.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match mask.get(m) {
            Some(b'*') => {
                star = Some((m, n));
                m += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                m += 1;
                n += 1;
            }
            _ => {
                let Some((at, reaches)) = star else { return false };
                star = Some((at, reaches + 1));
                m = at + 1;
                n = reaches + 1;
            }
        }
    }
    mask.get(m..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}
