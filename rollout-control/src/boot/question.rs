//! What a program that sets boot sources reads and prints: the site's own, and ours that speaks with services.

use super::{BootNode, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What it is to do: its last argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Whether an image could be set.
    Check,
    /// What the nodes boot now.
    Read,
    /// Let them boot an image.
    Set,
    /// Let them boot what was read.
    PutBack,
}

/// What it reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// How long it has. Then it is killed.
    pub within_ms: u64,
    /// The service's table, for our own program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceConfig>,
    /// For [`Verb::Check`] and [`Verb::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The nodes it is about.
    pub nodes: Vec<NodeQuestion>,
}

/// A node it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeQuestion {
    /// NodeName.
    pub name: String,
    /// As in [`BootNode`].
    pub values: BTreeMap<String, String>,
    /// For [`Verb::PutBack`]: what it said for [`Verb::Read`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub saved: Option<Saved>,
}

/// What it prints for [`Verb::Check`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckAnswer {
    /// What is doubtful.
    pub doubts: Vec<String>,
    /// Why the image cannot be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What it prints otherwise.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// By NodeName.
    pub nodes: BTreeMap<String, NodeAnswer>,
}

/// What came of it for a node.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeAnswer {
    /// For [`Verb::Read`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub saved: Option<Saved>,
    /// Why nothing came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `null` is something that can be saved, too.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Saved>, D::Error> {
    Saved::deserialize(value).map(Some)
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Check, Self::Read, Self::Set, Self::PutBack];

    /// The argument.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Read => "read",
            Self::Set => "set",
            Self::PutBack => "put-back",
        }
    }
}

impl NodeQuestion {
    /// A node, and for [`Verb::PutBack`] what was saved.
    #[must_use]
    pub fn of(node: &BootNode, saved: Option<&Saved>) -> Self {
        Self { name: node.name.clone(), values: node.values.clone(), saved: saved.cloned() }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> BootNode {
        BootNode { name: self.name.clone(), values: self.values.clone() }
    }
}
