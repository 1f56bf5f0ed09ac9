//! Small worlds to explore.

use crate::rules::Rules;
use rollout_core::rollout::image::{Image, Running};
use rollout_core::rollout::manifest::Manifest;

/// The images that a node can boot: 0 is the one from before all rollouts, `r + 1` that of rollout `r`.
pub type ImageNumber = u8;

/// Faults and other rare events that one run may still have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Crashes, losses, delays, failures.
    pub faults: u8,
    /// Hand-overs after the first one of each node.
    pub hand_overs: u8,
    /// Long pauses: the time limits of a boot and of Slurm are over.
    pub pauses: u8,
}

impl Budget {
    /// Returns whether everything that is possible with `other` is possible with this one.
    pub fn covers(self, other: Self) -> bool {
        self.faults >= other.faults && self.hand_overs >= other.hand_overs && self.pauses >= other.pauses
    }
}

#[derive(Debug, Clone)]
pub struct NodeSetup {
    pub name: String,
    /// Keeps no ledger over a boot.
    pub volatile: bool,
}

#[derive(Debug, Clone)]
pub struct RolloutSetup {
    pub id: String,
    pub manifest: Manifest,
}

impl RolloutSetup {
    /// Returns its image, which the controller sets.
    pub fn image(&self) -> Option<&Image> {
        self.manifest.desired.image()
    }
}

/// The start of an exploration, and its bounds.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub nodes: Vec<NodeSetup>,
    pub rollouts: Vec<RolloutSetup>,
    /// Rollouts that an admin stages later, at any time at which `stage` allows it.
    pub staged_later: Vec<usize>,
    pub budget: Budget,
    /// Processes at work at the same time, on any controller.
    pub processes: usize,
    /// Reading Slurm, the journals and the agents are steps of their own.
    pub fine: bool,
    /// Agents prove that Slurm accepts the node before an order is updated. Those of 0.1.0 do not, nor does any on a
    /// node whose slurmd systemd does not start.
    pub proves_registration: bool,
    pub rules: Rules,
}

impl Scenario {
    pub fn new(name: &'static str, nodes: &[(&str, bool)], rollouts: &[(&str, &str, Kind)]) -> Self {
        let nodes =
            nodes.iter().map(|(name, volatile)| NodeSetup { name: (*name).to_owned(), volatile: *volatile });
        let rollouts = rollouts.iter().enumerate().map(|(number, (id, nodes, kind))| RolloutSetup {
            id: (*id).to_owned(),
            manifest: kind.manifest(id, nodes, number),
        });
        Self {
            name,
            nodes: nodes.collect(),
            rollouts: rollouts.collect(),
            staged_later: Vec::new(),
            budget: Budget { faults: 1, hand_overs: 1, pauses: 1 },
            processes: 2,
            fine: false,
            proves_registration: true,
            rules: Rules::New,
        }
    }

    pub fn with(mut self, faults: u8, hand_overs: u8, pauses: u8) -> Self {
        self.budget = Budget { faults, hand_overs, pauses };
        self
    }

    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    pub fn fine(mut self) -> Self {
        self.fine = true;
        self
    }

    pub fn without_proof_of_registration(mut self) -> Self {
        self.proves_registration = false;
        self
    }

    /// Returns the index of a node.
    pub fn node(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name == name).expect("a node of the scenario")
    }

    /// Returns the index of a rollout.
    pub fn rollout(&self, id: &str) -> usize {
        self.rollouts.iter().position(|rollout| rollout.id == id).expect("a rollout of the scenario")
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// An image that the controller sets.
    Image,
    /// A link on the node's disk.
    Link,
}

impl Kind {
    fn manifest(self, id: &str, nodes: &str, number: usize) -> Manifest {
        let change = match self {
            Self::Image => format!(
                "[[change]]\nkind='image'\nvia='command'\nimage='os'\nversion='{}'\nboot_timeout='10m'\n",
                number + 1
            ),
            Self::Link => "[[change]]\nkind='symlink'\npath='/a'\ntarget='/new'\n".to_owned(),
        };
        let text = format!("name='{id}'\nnodes='{nodes}'\n{change}");
        Manifest::parse(&text).expect("a manifest")
    }
}

/// Returns the report of a system that booted this image.
pub fn running(image: ImageNumber) -> Running {
    Running {
        image: Some("os".to_owned()),
        version: Some(image.to_string()),
        kernel: "6".to_owned(),
        ostree: None,
    }
}
