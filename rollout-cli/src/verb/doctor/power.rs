//! The tables `[[power]]`, their programs and files. No management controller is asked.

use crate::power_tables::{NodeValues, nodes_of};
use rollout_cli::groups::SiteGroups;
use rollout_control::config::Config;
use rollout_control::power::config::power_tables;
use rollout_control::power::credentials::{Credentials, SlurmIds};
use rollout_control::power::{PowerConfig, PowerTable, Programs, targets};
use rollout_core::doctor::Finding;
use rollout_core::doctor::power::{self, TableFacts};
use rollout_core::hostlist::NodeSet;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::is_program;
use rollout_host::trust::may_be_trusted;
use std::collections::BTreeMap;

/// Returns the findings. `known` are Slurm's nodes, if it was asked.
pub(super) fn findings(config: &Config, known: Option<&NodeSet>) -> Vec<Finding> {
    let configs = match power_tables(config.power.as_ref()) {
        Ok(configs) => configs,
        Err(wrong) => return wrong.iter().map(|mistake| power::mistake(&mistake.why)).collect(),
    };
    let groups = SiteGroups::new(config);
    let slurm = SlurmIds::of_state_directory(&config.state_dir);
    let mut facts: Vec<TableFacts> = configs
        .iter()
        .map(|table| TableFacts {
            via: table.via().to_owned(),
            nodes: nodes_of(&groups, table),
            program: program(table),
            files: files(table, slurm),
            without_address: Vec::new(),
        })
        .collect();
    // As long as the nodes of a table are not known, neither are those of the tables after it.
    let resolved: Option<Vec<PowerTable>> = facts
        .iter()
        .zip(&configs)
        .map(|(facts, config)| {
            let nodes = facts.nodes.clone().transpose().ok()?;
            Some(PowerTable { nodes, config: config.clone() })
        })
        .collect();
    if let (Some(tables), Some(known)) = (&resolved, known) {
        match NodeValues::read(config, tables, known) {
            Ok(values) => {
                let found = targets(tables, known, &|node, key| values.of(node, key));
                for (facts, (targets, _)) in facts.iter_mut().zip(found) {
                    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
                    for (node, why) in
                        targets.into_iter().filter_map(|(node, target)| Some((node, target.err()?)))
                    {
                        reasons.entry(why).or_default().push(node);
                    }
                    let reason = |(why, nodes): (String, Vec<String>)| (nodes.into_iter().collect(), why);
                    facts.without_address = reasons.into_iter().map(reason).collect();
                }
            }
            Err(why) => facts.iter_mut().for_each(|facts| facts.files.push(why.clone())),
        }
    }
    power::power(&facts, known)
}

fn program(table: &PowerConfig) -> Result<(), String> {
    let programs = Programs::default();
    let path = programs.of(table);
    if !is_program(path) {
        return Err(format!("{} is no program, or not there", path.display()));
    }
    match table {
        PowerConfig::Command(_) => may_be_trusted(path).map_err(|why| format!("{}: {why}", path.display())),
        _ => Ok(()),
    }
}

fn files(table: &PowerConfig, slurm: Option<SlurmIds>) -> Vec<String> {
    let credentials = table.credentials_file().and_then(|path| Credentials::read(path, slurm).err());
    let ca = table.ca_file().and_then(|path| {
        let read = regular_file::read(path, MAX_WRITTEN_BY_HAND);
        read.err().map(|error| format!("{}: {error}", path.display()))
    });
    credentials.into_iter().chain(ca).collect()
}
