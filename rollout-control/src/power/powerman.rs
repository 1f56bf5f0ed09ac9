//! A powermand, through `powerman`.

use super::config::PowermanConfig;
use super::program::{garbage, run};
use super::{Power, PowerState, Switch, Target};
use rollout_host::run::Program;
use std::path::PathBuf;
use std::time::Duration;

pub(super) struct Powerman {
    program: PathBuf,
    server: Option<String>,
}

impl Powerman {
    pub(super) fn new(program: PathBuf, config: &PowermanConfig) -> Self {
        Self { program, server: config.server.as_ref().map(ToString::to_string) }
    }

    fn call(&self, target: &Target, option: &str, limit: Duration) -> Result<String, String> {
        let mut program = Program::new(&self.program, limit);
        if let Some(server) = &self.server {
            program = program.args(["-h", server]);
        }
        run(program.arg(option).arg(target.address.to_string()), &self.program)
    }
}

impl Power for Powerman {
    fn status(&self, target: &Target, limit: Duration) -> Result<PowerState, String> {
        let output = self.call(target, "--query", limit)?;
        parse(&output, &target.address.to_string()).ok_or_else(|| garbage(&self.program, &output))
    }

    fn switch(&self, target: &Target, switch: Switch, limit: Duration) -> Result<(), String> {
        let option = match switch {
            Switch::On => "--on",
            Switch::Off => "--off",
            Switch::SoftOff => return Err("powerman has no soft off: leave out --soft".to_owned()),
        };
        self.call(target, option, limit).map(drop)
    }
}

/// Returns the state of a node in the output of `--query` for it alone. `None` if that is `unknown`, or anything else.
fn parse(output: &str, name: &str) -> Option<PowerState> {
    let mut found = Vec::new();
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let (state, names) = line.split_once(':')?;
        match (state, names.trim()) {
            ("on" | "off" | "unknown", "") => {}
            ("on", names) if names == name => found.push(PowerState::On),
            ("off", names) if names == name => found.push(PowerState::Off),
            _ => return None,
        }
    }
    if let [state] = found[..] { Some(state) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_must_be_in_one_list_alone() {
        for (output, expected) in [
            ("on:      cn1\noff:     \nunknown: \n", Some(PowerState::On)),
            ("on:      \noff:     cn1\nunknown: \n", Some(PowerState::Off)),
            ("on:      \noff:     \nunknown: cn1\n", None),
            ("on:      cn1\noff:     cn1\nunknown: \n", None),
            ("on:      cn[1-2]\noff:     \nunknown: \n", None),
            ("on:      cn2\noff:     \nunknown: \n", None),
            ("on:      \noff:     \nunknown: \n", None),
            ("cn1: on\n", None),
            ("", None),
        ] {
            assert_eq!(parse(output, "cn1"), expected, "{output}");
        }
    }
}
