//! Stopping, starting and looking at slurmd, through systemd.

use rollout_core::agent::ledger::Slurmd;
use rollout_core::agent::registration::Unit;
use rollout_host::run::{Program, RunError};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// Time limit for stopping slurmd. It ends within seconds; a site's own unit may have more to do.
const STOP_LIMIT: Duration = Duration::from_secs(120);
const SHORT_LIMIT: Duration = Duration::from_secs(30);

/// systemctl's exit code if there is no such unit.
const NO_SUCH_UNIT: i32 = 5;

const PROPERTIES: &str = "LoadState,ActiveState,SubState,UnitFileState,Job,Result,ExecMainStatus";

/// States of a unit file for which `systemctl is-enabled` succeeds.
const ENABLED: [&str; 6] = ["enabled", "enabled-runtime", "alias", "static", "indirect", "generated"];

/// slurmd's unit as systemd shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) slurmd: Slurmd,
    pub(crate) unit: Unit,
    /// Not started at boot, and not masked.
    is_disabled: bool,
}

/// Stops slurmd before the node changes under it: with `slurmd -b` a restart in the middle of a package upgrade would
/// pass for the reboot that Slurm waits for (Slurm 22.05 to 26.05, `validate_node_specs`). Succeeds on a node without
/// slurmd.
pub(crate) fn stop(unit: &str) -> Result<(), RunError> {
    let stop = Program::new(SYSTEMCTL, STOP_LIMIT).args(["stop", "--", unit]);
    let output = stop.output()?;
    if output.status.success() || output.status.code() == Some(NO_SUCH_UNIT) {
        Ok(())
    } else {
        Err(stop.failed(&output))
    }
}

/// Starts slurmd if it belongs on this node. Does not wait for it: at boot its job may have to wait for others.
///
/// `before` is slurmd before the order. A script of the site, and not systemd, may have started it then. A package that
/// is removed and installed again loses its enablement: its scriptlets disable it, and presets need not enable it.
pub(crate) fn start(unit: &str, before: Option<Slurmd>) -> Result<(), RunError> {
    let found = look(unit)?;
    if before.is_some_and(|before| before.enabled) && found.is_disabled {
        Program::new(SYSTEMCTL, SHORT_LIMIT).args(["enable", "--", unit]).run()?;
    }
    if !before.is_some_and(Slurmd::belongs_here) && !found.slurmd.enabled {
        return Ok(());
    }
    Program::new(SYSTEMCTL, SHORT_LIMIT).args(["start", "--no-block", "--", unit]).run().map(drop)
}

/// Looks at slurmd's unit.
pub(crate) fn look(unit: &str) -> Result<Found, RunError> {
    let shown = Program::new(SYSTEMCTL, SHORT_LIMIT).args(["show", "-p", PROPERTIES, "--", unit]).run()?;
    Ok(parse(unit, &shown.stdout))
}

/// Returns the reason why this host must not be rebooted for an order: it runs more than one slurmd, and the jobs of
/// the others' nodes would die. `None` if there is one, or systemd cannot be asked.
pub(crate) fn shares_its_host(own: &str) -> Option<String> {
    let list =
        ["list-units", "--type=service", "--state=active,activating,reloading", "--plain", "--no-legend"];
    let listed = Program::new(SYSTEMCTL, SHORT_LIMIT).args(list).args(["--", "slurmd*"]).run().ok()?;
    // The list has full names without aliases, and the configuration may have any other.
    let names = Program::new(SYSTEMCTL, SHORT_LIMIT).args(["show", "-p", "Names", "--", own]).run().ok()?;
    let others = others(&listed.stdout, &names.stdout);
    (!others.is_empty()).then(|| {
        format!(
            "this host runs more than one slurmd ({own}, {}): a reboot for one node would kill the jobs of the others, and \
             only one can be kept down. slurm-rollout supports one slurmd on a host",
            others.join(", ")
        )
    })
}

/// Returns the units of slurmd among those listed, except for the one that `systemctl show` prints these names of.
/// slurmdbd is none.
fn others(listed: &str, own: &str) -> Vec<String> {
    let own: Vec<&str> = own.trim().trim_start_matches("Names=").split(' ').collect();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let is_slurmd = |name: &&str| {
        name.strip_prefix("slurmd").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    names.filter(is_slurmd).filter(|name| !own.contains(name)).map(str::to_owned).collect()
}

fn parse(name: &str, shown: &str) -> Found {
    let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let get = |key| properties.get(key).copied().unwrap_or_default();
    let has_job = !matches!(get("Job"), "" | "0");
    let (state, file) = (get("ActiveState"), get("UnitFileState"));
    let unit = match (state, get("SubState")) {
        ("active" | "reloading", _) => Unit::Runs,
        ("activating", "auto-restart") => Unit::Down(ended(name, &get)),
        ("activating", _) => Unit::Starts,
        _ if has_job => Unit::Starts,
        _ if get("LoadState") == "not-found" => Unit::Down(format!("there is no {name}")),
        _ => Unit::Down(ended(name, &get)),
    };
    let active = state == "activating" || matches!(unit, Unit::Runs | Unit::Starts);
    let slurmd = Slurmd { active, enabled: ENABLED.contains(&file) };
    Found { slurmd, unit, is_disabled: file == "disabled" }
}

fn ended<'a>(name: &str, get: &impl Fn(&'static str) -> &'a str) -> String {
    let (state, result, code) = (get("ActiveState"), get("Result"), get("ExecMainStatus"));
    format!("{name} is {state} (result {result}, exit code {code}); see `journalctl -u {name}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_slurmds_on_a_host_are_found() {
        let listed = "slurmd.service loaded active running Slurm node daemon\n\
                      slurmdbd.service loaded active running Slurm DBD\n\
                      slurmd@b.service loaded active running Slurm node daemon\n\
                      slurmd-2.service loaded activating start Slurm node daemon\n";
        assert_eq!(others(listed, "Names=slurmd.service\n"), ["slurmd@b.service", "slurmd-2.service"]);
        assert_eq!(others(listed, "Names=slurmd@b.service\n"), ["slurmd.service", "slurmd-2.service"]);
        let one = "slurmd.service loaded\nslurmdbd.service loaded\n";
        assert!(others(one, "Names=slurmd.service\n").is_empty());
        // `slurmd_unit` names an alias.
        assert!(others(one, "Names=node-daemon.service slurmd.service\n").is_empty());
    }

    #[test]
    fn a_unit_that_waits_for_the_gate_is_not_down() {
        let down = |state: &str| {
            let why = format!(
                "slurmd.service is {state} (result exit-code, exit code 1); see `journalctl -u slurmd.service`"
            );
            Unit::Down(why)
        };
        for (active, sub, file, job, unit, slurmd) in [
            ("active", "running", "enabled", "", Unit::Runs, (true, true)),
            ("active", "running", "disabled", "", Unit::Runs, (true, false)),
            ("activating", "start", "enabled", "7", Unit::Starts, (true, true)),
            ("inactive", "dead", "disabled", "7", Unit::Starts, (true, false)),
            ("inactive", "dead", "enabled", "0", down("inactive"), (false, true)),
            ("failed", "failed", "disabled", "", down("failed"), (false, false)),
            ("activating", "auto-restart", "static", "", down("activating"), (true, true)),
            ("inactive", "dead", "masked", "", down("inactive"), (false, false)),
        ] {
            let shown = format!(
                "Result=exit-code\nExecMainStatus=1\nJob={job}\nLoadState=loaded\nActiveState={active}\nSubState={sub}\n\
                 UnitFileState={file}\n"
            );
            let found = parse("slurmd.service", &shown);
            let (active_before, enabled) = slurmd;
            assert_eq!(found.unit, unit, "{shown}");
            assert_eq!(found.slurmd, Slurmd { active: active_before, enabled }, "{shown}");
            assert_eq!(found.is_disabled, file == "disabled");
        }
        let none = parse("slurmd.service", "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n");
        assert_eq!(none.unit, Unit::Down("there is no slurmd.service".to_owned()));
        assert_eq!(none.slurmd, Slurmd::default());
    }
}
