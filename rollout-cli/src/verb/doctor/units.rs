//! The units of `reconcile` on this host, as systemd reports them.

use rollout_control::config::Config;
use rollout_core::doctor::Finding;
use rollout_core::doctor::controller::{PATH, TIMER, UnitState, reconcile_units, unit_state};
use rollout_host::run::{Program, is_program};
use std::path::Path;
use std::time::Duration;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the findings about the units that look after nodes.
pub(super) fn reconcile(config: &Config) -> Vec<Finding> {
    let not_checked = |why: &str| {
        vec![
            Finding::warning("reconcile", format!("not looked at: {why}"))
                .cured_by(format!("systemctl status {TIMER}")),
        ]
    };
    // A controller in a container may run `reconcile` in another way.
    if !is_program(Path::new(SYSTEMCTL)) || !Path::new("/run/systemd/system").is_dir() {
        return not_checked("systemd does not run here");
    }
    match (state(TIMER), state(PATH)) {
        (Ok(timer), Ok(path)) => {
            reconcile_units(&timer, &path, &config.state_dir.join("watch").display().to_string())
        }
        (Err(why), _) | (_, Err(why)) => not_checked(&why),
    }
}

fn state(unit: &str) -> Result<UnitState, String> {
    let show = Program::new(SYSTEMCTL, LIMIT).args(["show", "-p", "ActiveState,UnitFileState,Paths", unit]);
    show.run().map(|output| unit_state(&output.stdout)).map_err(|error| error.to_string())
}
