//! Stopping and starting slurmd, through systemd.

use crate::config::Config;
use rollout_host::run::{Program, RunError};
use std::time::Duration;

pub(crate) const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// slurmd ends within seconds; a unit of a site may have more to do.
const STOP_LIMIT: Duration = Duration::from_secs(120);
const QUICK: Duration = Duration::from_secs(30);

/// systemctl's exit code where there is no such unit.
const NO_SUCH_UNIT: i32 = 5;

/// Stops slurmd before anything changes under it: with `slurmd -b` a restart in the middle of a package upgrade would
/// pass for the reboot that Slurm waits for (Slurm 22.05 to 26.05, `validate_node_specs`). A node without slurmd has
/// nothing to stop.
pub(crate) fn stop(config: &Config) -> Result<(), RunError> {
    let stop = Program::new(SYSTEMCTL, STOP_LIMIT).args(["stop", "--", &config.slurmd_unit]);
    let output = stop.output()?;
    if output.status.success() || output.status.code() == Some(NO_SUCH_UNIT) {
        Ok(())
    } else {
        Err(stop.failed(&output))
    }
}

/// Starts slurmd, if it is enabled on this node. Does not wait for it: at boot its job may have to wait for others.
pub(crate) fn start(config: &Config) -> Result<(), RunError> {
    let unit = &config.slurmd_unit;
    let enabled = Program::new(SYSTEMCTL, QUICK).args(["is-enabled", "--quiet", "--", unit]).output()?;
    if !enabled.status.success() {
        return Ok(());
    }
    Program::new(SYSTEMCTL, QUICK).args(["start", "--no-block", "--", unit]).run().map(drop)
}
