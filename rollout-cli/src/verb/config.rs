//! `config check`: the configuration as it counts, and every mistake in it.

use crate::failure::Failure;
use crate::table;
use rollout_cli::args::ConfigCheckArgs;
use rollout_control::config::Config;
use rollout_host::config::ConfigReport;
use rollout_host::exit_code::Exit;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn check(path: &Path, args: &ConfigCheckArgs) -> Result<ExitCode, Failure> {
    let report = ConfigReport::of::<Config>(path);
    if args.json {
        table::json(&report)?;
    } else {
        table::out(&report.to_string());
    }
    Ok(if report.mistakes.is_empty() { Exit::Success } else { Exit::InvalidConfig }.into())
}
