//! `slurm-rollout-agent`: carries out the orders of RebootProgram on its own node, proves the result, and gives the
//! node back.
//!
//! It is a library only for the fuzz targets, which reach the parsers of foreign input with the feature `fuzzing`.

mod changes;
mod config;
mod daemon;
mod failpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod log;
mod node;
mod node_name;
mod server;
mod slurm;
mod state;
mod verbs;

use config::Config;
use daemon::{reboot, run_until_terminated, verify};
use rollout_host::config::ConfigReport;
use rollout_host::exit_code::Exit;
use std::path::Path;
use std::process::ExitCode;
use verbs::command_line::{self, Verb};
use verbs::{client, doctor, gate, reboot_node, rescue};

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let (config, verb) = match command_line::parse(&name, &words) {
        Ok(parsed) => parsed,
        Err(error) => {
            log::error(&format!("{error}; see `slurm-rollout-agent --help`"));
            return Exit::Usage.into();
        }
    };
    match run(&config, verb) {
        Ok(code) => code,
        Err(error) => {
            log::error(&error.to_string());
            Exit::Failed.into()
        }
    }
}

fn run(config: &Path, verb: Verb) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match verb {
        Verb::Print(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Verb::RebootByForceAfter(limit) => Ok(reboot::by_force_after(limit)),
        Verb::VerifyMount(path) => {
            verify::look_at_mount(&path)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Daemon => {
            run_until_terminated(Config::load(config)?.with_conf_server(), None).map(|()| ExitCode::SUCCESS)
        }
        Verb::Rescue => take_over_if_needed(Config::load(config)?.with_conf_server()),
        Verb::HandOver(request) => reboot_node::notify_daemon(&Config::load(config)?, &request),
        Verb::Gate => Ok(gate::wait(&Config::load(config)?)),
        Verb::Doctor { json } => doctor::run(config, json),
        Verb::ConfigCheck { json } => check_config(config, json),
        Verb::Status => client::status(&Config::load(config)?),
        Verb::Order(kind) => client::order(&Config::load(config)?, kind),
    }
}

fn check_config(path: &Path, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = ConfigReport::of::<Config>(path);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.mistakes.is_empty() { Exit::Success } else { Exit::InvalidConfig }.into())
}

fn take_over_if_needed(config: Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(why) = rescue::watch(&config) {
        rescue::take_over(&why);
        run_until_terminated(config, Some(why))?;
    }
    Ok(ExitCode::SUCCESS)
}
