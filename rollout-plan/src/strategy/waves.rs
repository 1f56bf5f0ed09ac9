//! Waves: subsets of the nodes that are taken one after another.

use crate::amount::Amount;
use crate::group::Group;
use crate::node_sets::{check_among, hostlist, nodes_of};
use crate::value;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::ManifestError;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;

/// A wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The wave as the manifest names it, such as `10%`.
    pub label: String,
    /// Its nodes, if the manifest names them. Else it may have any that no later wave names.
    pub named: Option<NodeSet>,
    /// Number of nodes in this wave and all before it.
    pub end: usize,
    /// The next wave waits for approval.
    pub approve: bool,
}

/// Returns the number of the wave, counted from 1, that so many nodes of a rollout have reached. The first one if there
/// are none.
#[must_use]
pub fn reached(waves: &[Wave], begun: usize) -> usize {
    waves.iter().take_while(|wave| wave.end < begun).count().saturating_add(1).min(waves.len())
}

/// A wave as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WaveText {
    /// The nodes of this and all earlier waves.
    Amount(Amount),
    /// Hostlist of the wave's own nodes.
    Nodes(String),
}

impl<'de> Deserialize<'de> for WaveText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WaveVisitor;

        impl Visitor<'_> for WaveVisitor {
            type Value = WaveText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count from 1, a percentage such as \"10%\", or a list of nodes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WaveText, E> {
                let is_amount = text.ends_with('%') || text.bytes().all(|byte| byte.is_ascii_digit());
                if is_amount {
                    text.parse().map(WaveText::Amount).map_err(E::custom)
                } else {
                    Ok(WaveText::Nodes(text.to_owned()))
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<WaveText, E> {
                number.to_string().parse().map(WaveText::Amount).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<WaveText, E> {
                number.to_string().parse().map(WaveText::Amount).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(WaveVisitor)
    }
}

/// A wave that is not yet compared with the others.
struct Parsed {
    label: String,
    size: Size,
}

#[derive(PartialEq)]
enum Size {
    UpTo(Amount),
    Named(NodeSet),
}

/// Checks the waves of a rollout with these nodes, and the waves that are to be approved.
///
/// A percentage of few nodes may add none to the wave before. The two are one then.
pub(super) fn check(
    written: &[WaveText],
    approve: &[WaveText],
    nodes: &NodeSet,
    groups: &[Group],
) -> Result<Vec<Wave>, ManifestError> {
    let (parsed, approved) = (parse("strategy.waves", written)?, parse("strategy.approve", approve)?);
    let is_approved = |wave: &Parsed| approved.iter().any(|other| other.size == wave.size);
    let mut named_later = check_named(&parsed, nodes, groups)?;
    let mut waves: Vec<Wave> = Vec::new();
    for (index, wave) in parsed.iter().enumerate() {
        let begin = waves.last().map_or(0, |wave| wave.end);
        let end = end_of(wave, begin, nodes.len()).map_err(|why| value(key_of(index), why))?;
        named_later = named_later.saturating_sub(wave.size.named().map_or(0, NodeSet::len));
        check_enough(&key_of(index), end, named_later, nodes.len())?;
        match waves.last_mut() {
            Some(before) if end == begin => before.approve |= is_approved(wave),
            _ => waves.push(Wave {
                label: wave.label.clone(),
                named: wave.size.named().cloned(),
                end,
                approve: is_approved(wave),
            }),
        }
    }
    check_approved(&approved, &parsed, nodes.len())?;
    if waves.last().is_none_or(|wave| wave.end < nodes.len()) {
        waves.push(Wave { label: "100%".to_owned(), named: None, end: nodes.len(), approve: false });
    }
    if let Some(last) = waves.last_mut() {
        last.approve = false;
    }
    Ok(waves)
}

impl Size {
    fn named(&self) -> Option<&NodeSet> {
        match self {
            Self::Named(nodes) => Some(nodes),
            Self::UpTo(_) => None,
        }
    }
}

fn key_of(index: usize) -> String {
    format!("strategy.waves[{}]", index.saturating_add(1))
}

fn parse(key: &str, written: &[WaveText]) -> Result<Vec<Parsed>, ManifestError> {
    let (mut parsed, mut labels) = (Vec::new(), BTreeSet::new());
    for (text, n) in written.iter().zip(1..) {
        let key = format!("{key}[{n}]");
        let wave = match text {
            WaveText::Amount(amount) => Parsed { label: amount.to_string(), size: Size::UpTo(*amount) },
            WaveText::Nodes(text) => {
                let nodes = nodes_of(&key, text, &hostlist)?;
                Parsed { label: nodes.to_string(), size: Size::Named(nodes) }
            }
        };
        if !labels.insert(wave.label.clone()) {
            return Err(value(key, format!("{} twice", wave.label)));
        }
        parsed.push(wave);
    }
    Ok(parsed)
}

/// Checks the waves that name their nodes, and returns the number of these nodes.
fn check_named(parsed: &[Parsed], nodes: &NodeSet, groups: &[Group]) -> Result<usize, ManifestError> {
    let mut earlier = NodeSet::default();
    for (index, wave) in parsed.iter().enumerate() {
        let Some(wave) = wave.size.named() else { continue };
        check_among(&key_of(index), wave, nodes, "the nodes of the rollout that may be touched")?;
        let shared = wave.intersection(&earlier);
        if !shared.is_empty() {
            return Err(value(key_of(index), format!("{shared}: in an earlier wave already")));
        }
        let is_split = |group: &&Group| {
            let inside = group.nodes.intersection(wave).len();
            inside > 0 && inside < group.nodes.len()
        };
        if let Some(group) = groups.iter().find(is_split) {
            let why = format!(
                "only a part of the group {}, which goes together; name all of its nodes",
                group.name
            );
            return Err(value(key_of(index), why));
        }
        earlier = earlier.union(wave);
    }
    Ok(earlier.len())
}

/// Returns the end of a wave that begins after `begin` nodes.
fn end_of(wave: &Parsed, begin: usize, total: usize) -> Result<usize, String> {
    match &wave.size {
        Size::Named(nodes) => Ok(begin.saturating_add(nodes.len())),
        Size::UpTo(amount) => {
            let end = amount.limit_of(total).min(total);
            if end < begin {
                let why = "amounts include the nodes of earlier waves, so they must grow";
                return Err(format!(
                    "{amount} of {total} nodes are {end}, fewer than the {begin} of earlier waves; {why}"
                ));
            }
            Ok(end)
        }
    }
}

/// Refuses a wave that needs nodes that later waves name.
fn check_enough(key: &str, end: usize, named_later: usize, total: usize) -> Result<(), ManifestError> {
    if end.saturating_add(named_later) > total {
        let why = format!(
            "{end} nodes by then, but later waves name {named_later} of {total}; write a smaller amount"
        );
        return Err(value(key, why));
    }
    Ok(())
}

/// Refuses an approval of a wave that is not there, or that nothing comes after.
fn check_approved(approved: &[Parsed], parsed: &[Parsed], total: usize) -> Result<(), ManifestError> {
    for (wave, n) in approved.iter().zip(1..) {
        let key = format!("strategy.approve[{n}]");
        let Some(index) = parsed.iter().position(|other| other.size == wave.size) else {
            let labels: Vec<&str> = parsed.iter().map(|wave| wave.label.as_str()).collect();
            let known = if labels.is_empty() { "there is none".to_owned() } else { labels.join(", ") };
            return Err(value(key, format!("no wave {}: {known}; write it as in waves", wave.label)));
        };
        let is_everything = matches!(&wave.size, Size::UpTo(amount) if amount.limit_of(total) >= total);
        if index.saturating_add(1) == parsed.len() && is_everything {
            return Err(value(
                key,
                format!("{} is the last wave, nothing comes after it; remove it", wave.label),
            ));
        }
    }
    Ok(())
}
