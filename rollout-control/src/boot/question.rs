//! Input and output of programs that set boot sources: the site's own, and ours for services.

use super::{BootNode, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The task of the program, which is its last argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Check that an image could be set.
    Check,
    /// Return the current boot sources.
    Read,
    /// Make the nodes boot an image.
    Set,
    /// Restore boot sources that were read.
    PutBack,
}

/// Input of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// Time limit after which the program is killed.
    pub within_ms: u64,
    /// Table of the service, for our own program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceConfig>,
    /// For [`Verb::Check`] and [`Verb::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    pub nodes: Vec<NodeQuestion>,
}

/// A node in the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeQuestion {
    pub name: String,
    pub values: BTreeMap<String, String>,
    /// For [`Verb::PutBack`]: the answer to [`Verb::Read`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub saved: Option<Saved>,
}

/// Output for [`Verb::Check`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckAnswer {
    pub doubts: Vec<String>,
    /// The reason why the image cannot be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Output for all other verbs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// By NodeName.
    pub nodes: BTreeMap<String, NodeAnswer>,
}

/// Outcome for a node.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeAnswer {
    /// For [`Verb::Read`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub saved: Option<Saved>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Deserializes a value that is present. `null` is a valid saved state, too.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Saved>, D::Error> {
    Saved::deserialize(value).map(Some)
}

impl Verb {
    pub const ALL: [Self; 4] = [Self::Check, Self::Read, Self::Set, Self::PutBack];

    /// Returns the argument for it.
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
    /// Returns the input for a node, for [`Verb::PutBack`] with its saved state.
    #[must_use]
    pub fn of(node: &BootNode, saved: Option<&Saved>) -> Self {
        Self { name: node.name.clone(), values: node.values.clone(), saved: saved.cloned() }
    }

    /// Returns the node without its saved state.
    #[must_use]
    pub fn node(&self) -> BootNode {
        BootNode { name: self.name.clone(), values: self.values.clone() }
    }
}
