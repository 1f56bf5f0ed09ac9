//! Slurm hostlists: text such as `cn[001-128],gpu1` to node names and back.
//!
//! All texts with more than one node name go through here: the argument that Slurm gives RebootProgram
//! (a flat comma list up to 25.11, folded from 26.05), `nodes =` in a manifest, and the lists passed to
//! `scontrol`. The grammar is Slurm's own (`src/common/hostlist.c`; `scontrol show hostnames` is the oracle,
//! see `tests/hostlist_cases.txt`), but stricter: Slurm guesses at some items, or answers with other nodes than were
//! written. Here one doubtful item refuses the whole list.
//!
//! This module only converts text. It must not ask Slurm or any file which nodes exist, so `ALL` is a
//! plain name here, and the hostlist functions `{…}` of 25.05+, which slurmctld expands, are refused.

mod error;
mod fold;
mod limits;
mod number;
mod parse;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use error::{HostlistError, Span};
pub use fold::fold;
pub use limits::{MAX_NAME, MAX_NODES, MAX_RANGE};
pub use parse::{check_name, expand};

/// A set of NodeNames: no duplicates, in Slurm's sort order.
///
/// The order is that of `scontrol show hostlistsorted`: first by the part before the trailing number, compared
/// naturally (`r2n` before `r10n`), then by the number's digit count and value. So `cn9` comes before `cn10`, and
/// `cn9` before `cn09`. The text form ([`fmt::Display`] and serde) is the folded hostlist; in serde alone the empty
/// text is the empty set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeSet {
    /// Sorted by `fold::order`, without duplicates.
    names: Vec<String>,
}

impl NodeSet {
    /// Creates an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { names: Vec::new() }
    }

    /// Parses a hostlist.
    ///
    /// # Errors
    /// As [`expand`]; a list without any name is [`HostlistError::Empty`].
    pub fn parse(list: &str) -> Result<Self, HostlistError> {
        expand(list).map(Self::sorted)
    }

    /// Collects single names, each of which [`check_name`] must accept.
    ///
    /// # Errors
    /// The first name that Slurm could not have.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, HostlistError> {
        names.into_iter().map(|name| check_name(name).map(|()| name.to_owned())).collect()
    }

    /// Returns the names in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.names.iter().map(String::as_str)
    }

    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether the set has no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns whether the node is in the set. Names compare exactly: `cn9` is not `cn09`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Adds a node and returns whether it is new. Moves the names after it, so collect thousands instead.
    ///
    /// # Errors
    /// If [`check_name`] refuses the name.
    pub fn insert(&mut self, name: &str) -> Result<bool, HostlistError> {
        check_name(name)?;
        let Err(position) = self.position(name) else { return Ok(false) };
        self.names.insert(position, name.to_owned());
        Ok(true)
    }

    /// Returns the nodes of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.filtered(|name| !other.contains(name))
    }

    /// Returns the nodes in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.filtered(|name| other.contains(name))
    }

    /// Returns the nodes in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::sorted(self.names.iter().chain(&other.names).cloned().collect())
    }

    fn sorted(mut names: Vec<String>) -> Self {
        names.sort_by(|a, b| fold::order(a, b));
        names.dedup();
        Self { names }
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|other| fold::order(other, name))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self { names: self.names.iter().filter(|name| keep(name)).cloned().collect() }
    }
}

/// Collects names from a [`NodeSet`] or [`expand`] without checking them again. Names from elsewhere must go through
/// [`NodeSet::from_names`], or the folded text may not parse.
impl FromIterator<String> for NodeSet {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self::sorted(names.into_iter().collect())
    }
}

impl FromStr for NodeSet {
    type Err = HostlistError;

    fn from_str(list: &str) -> Result<Self, HostlistError> {
        Self::parse(list)
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&fold::fold_sorted(self.iter()))
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeSet").field(&self.to_string()).finish()
    }
}

impl Serialize for NodeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = String::deserialize(deserializer)?;
        if list.is_empty() {
            Ok(Self::default())
        } else {
            Self::parse(&list).map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> NodeSet {
        NodeSet::parse(list).unwrap()
    }

    #[test]
    fn is_sorted_as_slurm_sorts_and_has_no_duplicates() {
        let nodes = set("cn10,cn9,cn9,cn[1-2],ALL,cn");
        assert_eq!(nodes.iter().collect::<Vec<_>>(), ["ALL", "cn", "cn1", "cn2", "cn9", "cn10"]);
        assert_eq!((nodes.len(), nodes.is_empty()), (6, false));
        assert_eq!(nodes.to_string(), "ALL,cn,cn[1-2,9-10]");
        assert_eq!(format!("{:?}|{:>8}", set("a1,a2"), set("b")), "NodeSet(\"a[1-2]\")|       b");
    }

    #[test]
    fn has_names_exactly_as_written() {
        let nodes = set("cn[08-10]");
        assert!(["cn08", "cn09", "cn10"].iter().all(|name| nodes.contains(name)));
        assert!(!["cn8", "cn010", "", "CN08"].iter().any(|name| nodes.contains(name)));
    }

    #[test]
    fn set_operations() {
        let (left, right) = (set("cn[1-4]"), set("cn[3-6],x"));
        assert_eq!(left.union(&right), set("x,cn[1-6]"));
        assert_eq!(left.intersection(&right), set("cn[3-4]"));
        assert_eq!(left.difference(&right), set("cn[1-2]"));
        assert_eq!(right.difference(&left), set("cn[5-6],x"));
        assert!(left.difference(&left).is_empty());
        assert_eq!(NodeSet::default().union(&left), left);
    }

    #[test]
    fn insert_keeps_the_order_and_refuses_what_is_no_name() {
        let mut nodes = NodeSet::default();
        for (name, new) in [("cn10", true), ("cn9", true), ("cn10", false), ("a", true)] {
            assert_eq!(nodes.insert(name), Ok(new), "{name}");
        }
        assert_eq!(nodes.iter().collect::<Vec<_>>(), ["a", "cn9", "cn10"]);
        for name in ["", "cn[1-2]", "a,b", "a b", "-x", "../x", "a\0"] {
            assert!(nodes.insert(name).is_err(), "{name:?}");
        }
        assert_eq!(nodes.len(), 3);
    }

    #[test]
    fn collects_and_checks_names() {
        assert_eq!(["b", "a"].map(str::to_owned).into_iter().collect::<NodeSet>(), set("a,b"));
        assert_eq!(NodeSet::from_names(["cn2", "cn1"]), Ok(set("cn[1-2]")));
        assert!(matches!(NodeSet::from_names(["cn2", "cn[1-2]"]), Err(HostlistError::Character(_, '['))));
        assert_eq!(NodeSet::from_names([]), Ok(NodeSet::default()));
    }

    #[test]
    fn serde_form_is_the_folded_text() {
        let text = serde_json::to_string(&set("cn2,cn1,gpu1")).unwrap();
        assert_eq!(text, r#""cn[1-2],gpu1""#);
        assert_eq!(serde_json::from_str::<NodeSet>(&text).unwrap(), set("cn[1-2],gpu1"));
        let empty = serde_json::to_string(&NodeSet::default()).unwrap();
        assert_eq!(serde_json::from_str::<NodeSet>(&empty).unwrap(), NodeSet::default());
        let error = serde_json::from_str::<NodeSet>(r#""cn[2-1]""#).unwrap_err().to_string();
        assert!(error.contains("2-1") && error.contains("byte 3"), "{error}");
        assert!(serde_json::from_str::<NodeSet>(r#"",""#).is_err());
    }

    #[test]
    fn from_str_is_parse() {
        assert_eq!("n[1-3]".parse::<NodeSet>(), Ok(set("n3,n2,n1")));
        assert_eq!("".parse::<NodeSet>(), Err(HostlistError::Empty));
    }
}
