//! `slurm-rollout-agent`: carries out on its own node what RebootProgram orders, proves it, and gives the node back.
//!
//! A library only so that the fuzz targets reach what faces strangers, with the feature `fuzzing`.

mod changes;
mod config;
mod daemon;
mod failpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod log;
mod node;
mod server;
#[cfg(test)]
mod shipped_config;
mod slurm;
mod state;
mod verbs;

use config::Config;
use daemon::{reboot, run_until_terminated};
use rollout_host::config::Report;
use std::path::Path;
use std::process::ExitCode;
use verbs::command_line::{self, Verb};
use verbs::{client, doctor, gate, reboot_node, rescue};

/// What went wrong was said; see `--help` for the codes.
const FAILED: u8 = 1;
/// Called wrongly.
const USAGE: u8 = 2;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let (config, verb) = match command_line::parse(&name, &words) {
        Ok(parsed) => parsed,
        Err(error) => {
            log::error(&format!("{error}; see `slurm-rollout-agent --help`"));
            return ExitCode::from(USAGE);
        }
    };
    match run(&config, verb) {
        Ok(code) => code,
        Err(error) => {
            log::error(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn run(config: &Path, verb: Verb) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match verb {
        Verb::Say(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Verb::RebootByForceAfter(limit) => Ok(reboot::by_force_after(limit)),
        Verb::Daemon => run_until_terminated(Config::load(config)?, None).map(|()| ExitCode::SUCCESS),
        Verb::Rescue => stand_in_if_needed(Config::load(config)?),
        Verb::HandOver(what) => reboot_node::tell_the_daemon(&Config::load(config)?, &what),
        Verb::Gate => Ok(gate::wait(&Config::load(config)?)),
        Verb::Doctor { json } => doctor::run(config, json),
        Verb::ConfigCheck { json } => check_config(config, json),
        Verb::Status => client::status(&Config::load(config)?),
        Verb::Order(what) => client::order(&Config::load(config)?, what),
    }
}

fn check_config(path: &Path, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = Report::of::<Config>(path);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn stand_in_if_needed(config: Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(why) = rescue::watch(&config) {
        rescue::take_over(&why);
        run_until_terminated(config, Some(why))?;
    }
    Ok(ExitCode::SUCCESS)
}
