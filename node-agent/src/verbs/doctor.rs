//! `doctor` on a node: collects facts about this installation, which `rollout_core::doctor::node` judges. It runs in a
//! process of its own and never in the daemon.

use crate::config::Config;
use crate::node;
use crate::node_name;
use crate::slurm::slurmd::SYSTEMCTL;
use crate::state::ledger_file::LedgerFile;
use crate::verbs::client;
use nix::unistd::geteuid;
use rollout_core::doctor::agents::Probe;
use rollout_core::doctor::configuration::{ConfigurationFacts, configuration};
use rollout_core::doctor::mounts::file_system;
use rollout_core::doctor::node::{AGENT, GATE, NodeFacts, RESCUE, SlurmConfSource, StateDir, Unit, VOLATILE};
use rollout_core::doctor::{Finding, Report};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::node_name::NodeName;
use rollout_host::config::{Validate, read};
use rollout_host::exit_code::Exit;
use rollout_host::run::{Program, is_program};
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Slurm's default configuration file, and the copy that a configless slurmd makes while it runs.
const SLURM_CONF: &str = "/etc/slurm/slurm.conf";
const CACHED_SLURM_CONF: &str = "/run/slurm/conf/slurm.conf";

const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(10);

const PROPERTIES: &str = "LoadState,ActiveState,UnitFileState,Requires,After,MainPID,ExecStart";

/// Directories of systemd's units and drop-ins.
const UNIT_DIRS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const DROP_IN: &str = "slurm-rollout.conf";

const MANAGERS: [&str; 4] = ["/usr/bin/dnf5", "/usr/bin/dnf", "/usr/bin/zypper", "/usr/bin/apt-get"];

pub(crate) fn run(path: &Path, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    if !geteuid().is_root() {
        return Err("doctor has to be run by root: the ledger is for nobody else".into());
    }
    let mut findings = Vec::new();
    let config = read_configuration(path, &mut findings);
    match node_name::find(&config) {
        Ok(name) => findings.extend(rollout_core::doctor::node::node(&facts(&config, name))),
        Err(why) => {
            let finding = Finding::problem("node-name", why.to_string()).because("the agent takes no order");
            findings.push(finding.cured_by(format!("set node_name in {}", path.display())));
        }
    }
    let report = Report::of(findings);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.problems > 0 { Exit::ProblemFound } else { Exit::Success }.into())
}

/// Reads the configuration. One that cannot be used counts as the default.
fn read_configuration(path: &Path, findings: &mut Vec<Finding>) -> Config {
    let reading = read::<Config>(path);
    findings.extend(configuration(&ConfigurationFacts {
        files: reading.files.iter().map(|file| file.display().to_string()).collect(),
        mistakes: reading.mistakes.iter().map(ToString::to_string).collect(),
        consequence: "the agent does not start, and the gate stays shut while an order is under way",
        check_command: "slurm-rollout-agent config check",
    }));
    let config = if reading.config.validate().is_empty() { reading.config } else { Config::default() };
    config.with_conf_server()
}

fn facts(config: &Config, found: NodeName) -> NodeFacts {
    let name = found.name.clone();
    let scontrol = config.scontrol();
    let slurm = scontrol.show_config();
    let known_to_slurm =
        NodeSet::from_names([name.as_str()]).map_err(|error| error.to_string()).and_then(|node| {
            let found = scontrol.show_nodes(&node).map_err(|error| error.to_string())?;
            Ok(!found.is_empty())
        });
    let slurmd = unit(&config.slurmd_unit);
    let sealing = config.sealing().method();
    NodeFacts {
        known_to_slurm,
        slurm_conf: slurm_conf(config),
        slurm_user: slurm.ok().and_then(|slurm| slurm.slurm_user()),
        configured_user: (config.slurm_user.clone(), node::uid_of(&config.slurm_user)),
        agent: unit(AGENT),
        gate: unit(GATE),
        gate_file: unit_file(GATE),
        rescue: unit(RESCUE),
        slurmd_arguments: arguments(&slurmd),
        slurmd: (config.slurmd_unit.clone(), slurmd),
        drop_in: has_drop_in(&config.slurmd_unit),
        answer: client::ask_status_over_tcp(config).map_err(|error| error.to_string()),
        probe: match client::probe(config, &name) {
            Ok(answer) => Probe::of(answer),
            Err(error) => Probe::NoAnswer(error.to_string()),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        order_key: sealing.key(),
        sealing: sealing.try_out(),
        state_dir: (config.state_dir.display().to_string(), state_dir(&config.state_dir)),
        ledger: LedgerFile::in_dir(&config.state_dir).newest(&name).map_err(|error| error.to_string()),
        volatile: config.is_volatile().then(|| Path::new(VOLATILE).exists()),
        managers: managers(),
        node: found,
    }
}

/// Returns the place that scontrol has its configuration from.
fn slurm_conf(config: &Config) -> SlurmConfSource {
    match (&config.slurm_conf, &config.conf_server) {
        (None, Some(server)) => SlurmConfSource::Server(server.clone()),
        (None, None) if !Path::new(SLURM_CONF).exists() && Path::new(CACHED_SLURM_CONF).exists() => {
            SlurmConfSource::Slurmd
        }
        _ => SlurmConfSource::File,
    }
}

/// Returns a unit's properties, or none if systemd cannot be asked.
fn unit(name: &str) -> Unit {
    let show = Program::new(SYSTEMCTL, SYSTEMCTL_LIMIT).args(["show", "-p", PROPERTIES, "--", name]);
    Unit::parse(&show.output().map(|output| output.stdout).unwrap_or_default())
}

/// Returns a unit's file with its drop-ins, or nothing if systemd cannot be asked.
fn unit_file(name: &str) -> String {
    let cat = Program::new(SYSTEMCTL, SYSTEMCTL_LIMIT).args(["cat", "--", name]);
    cat.output().map(|output| output.stdout).unwrap_or_default()
}

/// Returns the arguments of the unit's running process, or else those of its command.
fn arguments(unit: &Unit) -> Vec<String> {
    let pid = Some(unit.get("MainPID")).filter(|pid| !matches!(*pid, "" | "0"));
    if let Some(line) = pid.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok()) {
        let words = line.split(|byte| *byte == 0).skip(1).filter(|word| !word.is_empty());
        return words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    }
    let command = unit.get("ExecStart").split_once("argv[]=").map_or("", |(_, rest)| rest);
    let command = command.split(" ;").next().unwrap_or("");
    command.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn has_drop_in(unit: &str) -> bool {
    UNIT_DIRS.iter().any(|dir| Path::new(dir).join(format!("{unit}.d")).join(DROP_IN).exists())
}

fn state_dir(path: &Path) -> Result<StateDir, String> {
    let inspect = || -> io::Result<StateDir> {
        let (real, metadata) = (fs::canonicalize(path)?, fs::metadata(path)?);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(StateDir {
            uid: metadata.uid(),
            mode: metadata.mode(),
            is_dir: metadata.is_dir(),
            on: file_system(&mounts, &real.display().to_string()),
        })
    };
    inspect().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        _ => error.to_string(),
    })
}

fn managers() -> Vec<String> {
    let installed = MANAGERS.into_iter().filter(|program| is_program(Path::new(program)));
    installed.filter_map(|program| program.rsplit('/').next()).map(str::to_owned).collect()
}
