//! Stopping and starting slurmd, through systemd.

use crate::config::Config;
use rollout_host::run::{Program, RunError};
use std::time::Duration;

pub(crate) const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// Time limit for stopping slurmd. It ends within seconds; a site's own unit may have more to do.
const STOP_LIMIT: Duration = Duration::from_secs(120);
const SHORT_LIMIT: Duration = Duration::from_secs(30);

/// systemctl's exit code if there is no such unit.
const NO_SUCH_UNIT: i32 = 5;

/// Stops slurmd before the node changes under it: with `slurmd -b` a restart in the middle of a package upgrade would
/// pass for the reboot that Slurm waits for (Slurm 22.05 to 26.05, `validate_node_specs`). Succeeds on a node without
/// slurmd.
pub(crate) fn stop(config: &Config) -> Result<(), RunError> {
    let stop = Program::new(SYSTEMCTL, STOP_LIMIT).args(["stop", "--", &config.slurmd_unit]);
    let output = stop.output()?;
    if output.status.success() || output.status.code() == Some(NO_SUCH_UNIT) {
        Ok(())
    } else {
        Err(stop.failed(&output))
    }
}

/// Starts slurmd if it is enabled on this node. Does not wait for it: at boot its job may have to wait for others.
pub(crate) fn start(config: &Config) -> Result<(), RunError> {
    let unit = &config.slurmd_unit;
    let enabled =
        Program::new(SYSTEMCTL, SHORT_LIMIT).args(["is-enabled", "--quiet", "--", unit]).output()?;
    if !enabled.status.success() {
        return Ok(());
    }
    Program::new(SYSTEMCTL, SHORT_LIMIT).args(["start", "--no-block", "--", unit]).run().map(drop)
}
