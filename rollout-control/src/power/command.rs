//! The site's own program: it gets an action (`status`, `on`, `off`, `soft-off`) and a node as its last arguments, and
//! prints `on` or `off` for `status`.

use super::config::CommandConfig;
use super::program::{garbage, run};
use super::question::STATUS;
use super::{Power, PowerState, Switch, Target};
use rollout_host::run::Program;
use rollout_host::trust::may_be_trusted;
use std::path::PathBuf;
use std::time::Duration;

pub(super) struct Command {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Command {
    pub(super) fn new(config: &CommandConfig) -> Result<Self, String> {
        let (program, arguments) = config.command.split_first().ok_or("command is empty")?;
        Ok(Self { program: program.into(), arguments: arguments.to_vec() })
    }

    fn call(&self, target: &Target, action: &str, limit: Duration) -> Result<String, String> {
        may_be_trusted(&self.program).map_err(|why| format!("{}: {why}", self.program.display()))?;
        let program = Program::new(&self.program, limit).args(&self.arguments);
        run(program.args([action, &target.node]), &self.program)
    }
}

impl Power for Command {
    fn status(&self, target: &Target, limit: Duration) -> Result<PowerState, String> {
        let output = self.call(target, STATUS, limit)?;
        match output.trim() {
            "on" => Ok(PowerState::On),
            "off" => Ok(PowerState::Off),
            _ => Err(garbage(&self.program, &output)),
        }
    }

    fn switch(&self, target: &Target, switch: Switch, limit: Duration) -> Result<(), String> {
        self.call(target, switch.name(), limit).map(drop)
    }
}
