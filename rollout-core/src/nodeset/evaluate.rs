//! The nodes that an expression stands for.

use super::operand::{Operand, matches};
use super::scan::Operator;
use super::{Definition, Expression, GroupError, Groups, MAX_DEPTH, MAX_WORK, NodesetError, Step};
use crate::hostlist::{MAX_NODES, NodeSet};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

pub(super) fn evaluate(steps: &[Step], groups: &dyn Groups) -> Result<NodeSet, NodesetError> {
    let mut evaluation = Evaluation { groups, known: BTreeMap::new(), path: Vec::new(), work: 0 };
    evaluation.steps(steps, None).map(|nodes| nodes.into_iter().collect())
}

/// A group with its source. `None` stands for all nodes of the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: String,
    group: Option<String>,
}

/// The evaluation of one expression and of the groups in it.
struct Evaluation<'g> {
    groups: &'g dyn Groups,
    /// Groups that are evaluated. Each is evaluated once, however often it is named.
    known: BTreeMap<Key, Rc<NodeSet>>,
    /// Groups that are being evaluated, from the outermost.
    path: Vec<Key>,
    /// Number of names in all operands so far.
    work: usize,
}

impl Key {
    /// Returns the group as it is written, for a message. A file may name a source with any character.
    fn written(&self) -> String {
        format!("@{}:{}", self.source.escape_debug(), self.group.as_deref().unwrap_or("*").escape_debug())
    }
}

impl Evaluation<'_> {
    /// Evaluates steps from left to right. Groups without a source are those of `source`, or of the default one.
    fn steps(&mut self, steps: &[Step], source: Option<&str>) -> Result<HashSet<String>, NodesetError> {
        let mut nodes = HashSet::new();
        for step in steps {
            let operand = self.operand(&step.operand, source)?;
            self.count(operand.len())?;
            apply(step.operator, &mut nodes, &operand);
            if nodes.len() > MAX_NODES {
                return Err(NodesetError::TooManyNodes);
            }
        }
        Ok(nodes)
    }

    fn count(&mut self, names: usize) -> Result<(), NodesetError> {
        // An empty operand takes time as well.
        self.work = self.work.saturating_add(names.max(1));
        if self.work > MAX_WORK { Err(NodesetError::TooMuch) } else { Ok(()) }
    }

    fn operand(&mut self, operand: &Operand, inside: Option<&str>) -> Result<Rc<NodeSet>, NodesetError> {
        match operand {
            Operand::Nodes(nodes) => Ok(Rc::new(nodes.clone())),
            Operand::Wildcard(mask) => {
                let all = self.group(self.key(None, inside, None, mask)?)?;
                self.count(all.len())?;
                Ok(Rc::new(all.iter().filter(|name| matches(mask, name)).map(str::to_owned).collect()))
            }
            Operand::All { source } => self.group(self.key(source.as_deref(), inside, None, "@*")?),
            Operand::Groups { source, names } => {
                let mut sets = Vec::new();
                for name in names {
                    let key = self.key(source.as_deref(), inside, Some(name), &format!("@{name}"))?;
                    sets.push(self.group(key)?);
                    self.count(sets.last().map_or(0, |set| set.len()))?;
                }
                match sets.as_slice() {
                    [set] => Ok(Rc::clone(set)),
                    sets => Ok(Rc::new(sets.iter().flat_map(|set| set.iter()).map(str::to_owned).collect())),
                }
            }
        }
    }

    /// Returns the key of a group: of its own source, else of the source of the group that names it, else of the
    /// default source. `written` is the group in errors.
    fn key(
        &self,
        source: Option<&str>,
        inside: Option<&str>,
        group: Option<&str>,
        written: &str,
    ) -> Result<Key, NodesetError> {
        let source = match source.or(inside) {
            Some(source) => source.to_owned(),
            None => self
                .groups
                .default_source()
                .map_err(|source| of(&written.escape_debug().to_string(), source))?,
        };
        Ok(Key { source, group: group.map(str::to_owned) })
    }

    fn group(&mut self, key: Key) -> Result<Rc<NodeSet>, NodesetError> {
        if let Some(nodes) = self.known.get(&key) {
            return Ok(Rc::clone(nodes));
        }
        if let Some(from) = self.path.iter().position(|outer| *outer == key) {
            let circle = self.path.iter().skip(from).chain([&key]).map(Key::written).collect();
            return Err(NodesetError::Cycle(circle));
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(NodesetError::TooDeep(key.written()));
        }
        let definitions = match &key.group {
            Some(group) => self.groups.group(&key.source, group).map(|definition| vec![definition]),
            None => self.groups.all(&key.source),
        };
        let definitions = definitions.map_err(|source| of(&key.written(), source))?;
        self.path.push(key.clone());
        let nodes = Rc::new(self.union(&definitions, &key)?);
        self.path.pop();
        self.known.insert(key, Rc::clone(&nodes));
        Ok(nodes)
    }

    fn union(&mut self, definitions: &[Definition], key: &Key) -> Result<NodeSet, NodesetError> {
        let mut all = HashSet::new();
        for definition in definitions {
            match definition {
                Definition::Nodes(nodes) => {
                    self.count(nodes.len())?;
                    all.extend(nodes.iter().map(str::to_owned));
                }
                Definition::Text(text) if text.trim().is_empty() => {}
                Definition::Text(text) => {
                    let within = |error| in_definition(key, error);
                    let expression = Expression::parse(text).map_err(within)?;
                    all.extend(self.steps(&expression.steps, Some(&key.source)).map_err(within)?);
                }
            }
        }
        Ok(all.into_iter().collect())
    }
}

fn apply(operator: Operator, nodes: &mut HashSet<String>, operand: &NodeSet) {
    match operator {
        Operator::Union => nodes.extend(operand.iter().map(str::to_owned)),
        Operator::Difference => {
            for name in operand.iter() {
                nodes.remove(name);
            }
        }
        Operator::Intersection => nodes.retain(|name| operand.contains(name)),
        Operator::SymmetricDifference => {
            for name in operand.iter() {
                if !nodes.remove(name) {
                    nodes.insert(name.to_owned());
                }
            }
        }
    }
}

fn of(group: &str, source: GroupError) -> NodesetError {
    NodesetError::Group { group: group.to_owned(), source }
}

/// Names the group whose definition has an error. A circle and a depth name their groups themselves, and of groups
/// inside one another the innermost suffices.
fn in_definition(key: &Key, error: NodesetError) -> NodesetError {
    match error {
        NodesetError::Definition { .. }
        | NodesetError::Cycle(_)
        | NodesetError::TooDeep(_)
        | NodesetError::TooMuch => error,
        error => NodesetError::Definition { group: key.written(), source: Box::new(error) },
    }
}
