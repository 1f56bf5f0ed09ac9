//! `config check`: the configuration as it counts, and every mistake in it.

use crate::failure::Failure;
use crate::power_tables::nodes_of;
use crate::table;
use rollout_cli::args::ConfigCheckArgs;
use rollout_cli::executor::hooks;
use rollout_cli::groups::SiteGroups;
use rollout_control::config::Config;
use rollout_control::power::config::power_tables;
use rollout_host::config::{ConfigReport, InvalidValue, Validate};
use rollout_host::exit_code::Exit;
use rollout_plan::limits::Limits;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::ExitCode;

/// The configuration with its limits and power checked, which RebootProgram does not read.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct InFull(Config);

impl Validate for InFull {
    fn validate(&self) -> Vec<InvalidValue> {
        let mut wrong = self.0.validate();
        let groups = SiteGroups::new(&self.0);
        let resolve = |set: &str| groups.resolve(set).map_err(|error| error.to_string());
        match Limits::of_config(self.0.limits.as_ref(), &resolve) {
            Ok(limits) => {
                let mistakes = limits.hooks.iter().filter_map(|hook| hooks::check(hook).err());
                wrong.extend(mistakes.map(|why| InvalidValue::new(&["limits"], why)));
            }
            Err(error) => {
                let why = error.to_string();
                wrong.push(InvalidValue::new(&["limits"], why.strip_prefix("limits: ").unwrap_or(&why)));
            }
        }
        match power_tables(self.0.power.as_ref()) {
            Ok(tables) => wrong.extend(tables.iter().enumerate().filter_map(|(index, table)| {
                let why = nodes_of(&groups, table)?.err()?;
                Some(InvalidValue::new(&["power"], format!("table {}: {why}", index + 1)))
            })),
            Err(mistakes) => wrong.extend(mistakes),
        }
        wrong
    }
}

pub(crate) fn check(path: &Path, args: &ConfigCheckArgs) -> Result<ExitCode, Failure> {
    let report = ConfigReport::of::<InFull>(path);
    if args.json {
        table::json(&report)?;
    } else {
        table::out(&report.to_string());
    }
    Ok(if report.mistakes.is_empty() { Exit::Success } else { Exit::InvalidConfig }.into())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_the_limits_has_the_line_of_their_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.toml");
        let mistakes = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let report = ConfigReport::of::<InFull>(&path);
            report.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(mistakes("[limits]\nmax_out = '5%'\nnever = 'login[1-2]'\n"), "");
        let wrong = mistakes("agent_port = 6821\n[limits]\nmax_out = '5%'\nnever = 'login[1-'\n");
        assert!(wrong.contains("line 2, column 2: limits: limits.never: "), "{wrong}");
        let wrong = mistakes("[limits]\nmaxout = '5%'\n");
        assert!(wrong.contains("column 2: limits: maxout = \"5%\": unknown field"), "{wrong}");
        assert!(mistakes("limit = 1\n").contains("did you mean limits?"));
        let wrong = mistakes("agent_port = 6821\n[[power]]\nvia = 'powerman'\nnodes = 'cn[1-'\n");
        assert!(wrong.contains("line 2, column 3: power: table 1: nodes \"cn[1-\": "), "{wrong}");
    }
}
