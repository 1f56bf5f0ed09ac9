//! The invariants.

use super::World;
use crate::node::Power;
use crate::scenario::Scenario;

impl World {
    /// Returns the invariant that does not hold in this state.
    pub(super) fn violated(&self, scenario: &Scenario) -> Option<String> {
        for node in &self.nodes {
            let name = &node.name;
            if node.is_gate_open() {
                if node.image != 0 && node.facts.proven_images & (1 << node.image) == 0 {
                    return Some(format!(
                        "1: slurmd may run on {name} on image {}, which is not proven",
                        node.image
                    ));
                }
                if node.link.is_some() && !node.facts.is_link_proven {
                    return Some(format!("1: slurmd may run on {name}, whose change is not proven"));
                }
            }
            if node.facts.orders > 1 {
                return Some(format!("2: {name} carries out two orders for one hand-over"));
            }
            let owners = self.store.records().iter().filter(|records| {
                records.get(name).is_some_and(|record| record.unsettled_boot_change().is_some())
            });
            if owners.count() > 1 {
                return Some(format!("5: the boot source of {name} belongs to two orders"));
            }
        }
        let _ = scenario;
        None
    }

    /// Returns the invariant that does not hold although nothing is left to happen.
    pub fn violated_at_end(&self, scenario: &Scenario) -> Option<String> {
        for (index, node) in self.nodes.iter().enumerate() {
            let name = &node.name;
            let source = self.sources[index];
            let records = self.store.records().iter().filter_map(|records| records.get(name));
            if records.into_iter().any(|record| record.unsettled_boot_change().is_some()) {
                return Some(format!(
                    "3: the boot source of {name} is neither proven nor restored in the journal"
                ));
            }
            if source != 0 && node.facts.proven_images & (1 << source) == 0 {
                return Some(format!("3: {name} boots image {source}, which is not proven"));
            }
            let is_known = node.facts.unseen_end || node.facts.restored_in_silence;
            if node.is_gate_open() && source != node.image && !is_known {
                return Some(format!("3: {name} runs image {} and boots image {source}", node.image));
            }
            if let Some(armed) = self.store.snapshot().armed(name, self.now_ms) {
                let id = armed.rollout_id().unwrap_or_default();
                if node.facts.verified.contains(id) && !node.facts.unseen_end {
                    return Some(format!("4: {id} is armed for {name}, which had it"));
                }
            }
            let waits = node.agent.as_ref().is_some_and(|agent| agent.waits_for_instructions());
            if node.power == Power::Up && waits {
                return Some(format!("6: {name} waits for instructions for ever"));
            }
            if node.waits_for_boot_source() {
                return Some(format!("6: {name} waits for its boot source for ever"));
            }
        }
        let _ = scenario;
        None
    }
}
