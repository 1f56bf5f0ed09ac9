//! `doctor`: problems of this installation. Gathers facts and changes nothing. `rollout_core::doctor` decides about the
//! facts. If a part is broken, the others are still checked.

mod agents;
pub(crate) mod files;
mod local;
mod power;
pub(crate) mod probe;
mod slurm_conf;
mod units;

use crate::context::nodes as parse_nodes;
use crate::failure::Failure;
use crate::host;
use crate::table;
use nix::unistd::geteuid;
use probe::NotSealed;
use rollout_cli::args::DoctorArgs;
use rollout_control::config::Config;
use rollout_control::store::StoreReader;
use rollout_core::doctor::access::Identity;
use rollout_core::doctor::configuration::{ConfigurationFacts, configuration};
use rollout_core::doctor::mounts::mount_of;
use rollout_core::doctor::slurm::{self, Program};
use rollout_core::doctor::{Finding, Report, access, controller, node, probe as probes, rollouts};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::controllers::{ControllerHosts, HostRole, host_role};
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::config::{Validate, read};
use rollout_host::exit_code::Exit;
use rollout_host::reboot_program::names_us;
use slurm_conf::SlurmConf;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const SLURM_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn run(path: &Path, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    let config = read_configuration(path, &mut findings);
    let asked = args.nodes.as_deref().map(|nodes| parse_nodes(&config, nodes)).transpose()?;
    let sealing = config.sealing().method();
    findings.push(node::sealing(sealing.key().as_deref(), &sealing.try_out()));
    let mut nodes = Vec::new();
    match ask_slurm(&config) {
        Ok((slurm, all)) => {
            nodes = all;
            let known: NodeSet = nodes.iter().map(|node| node.name.clone()).collect();
            findings.extend(power::findings(&config, Some(&known)));
            findings.extend(of_slurm(path, &config, &slurm, &nodes, asked.as_ref()));
        }
        Err(why) => {
            findings.push(
                Finding::problem("slurmctld", why)
                    .because("without Slurm nothing is handed over; what it would have told was left out here")
                    .cured_by("`scontrol ping`; `systemctl status slurmctld`; scontrol and slurm_conf in controller.toml"),
            );
            findings.extend(power::findings(&config, None));
            findings.extend(of_agents(&config, None, &[], asked.as_ref(), None));
        }
    }
    findings.extend(local::agent(&nodes));
    let report = Report::of(findings);
    if args.json {
        table::json(&report)?;
    } else {
        table::out(&report.text());
    }
    Ok(if report.problems > 0 { Exit::ProblemFound } else { Exit::Success }.into())
}

/// Reads the configuration. One that cannot be used counts as the default.
fn read_configuration(path: &Path, findings: &mut Vec<Finding>) -> Config {
    let reading = read::<Config>(path);
    findings.extend(configuration(&ConfigurationFacts {
        files: reading.files.iter().map(|file| file.display().to_string()).collect(),
        mistakes: reading.mistakes.iter().map(ToString::to_string).collect(),
        consequence: "RebootProgram and every other verb refuse to work with it: no node is ordered",
        check_command: "slurm-rollout config check",
    }));
    if reading.config.validate().is_empty() { reading.config } else { Config::default() }
}

fn ask_slurm(config: &Config) -> Result<(SlurmConfig, Vec<NodeInfo>), String> {
    let scontrol = config.scontrol().within(SLURM_LIMIT);
    let answers = scontrol.show_config().and_then(|slurm| Ok((slurm, scontrol.show_all_nodes()?)));
    answers.map_err(|error| error.to_string())
}

/// Tries on one node whether Slurm tells which nodes were drained before their reboot.
fn tells_of_drains(config: &Config, nodes: &[NodeInfo]) -> Option<Result<(), String>> {
    let one: NodeSet = nodes.iter().take(1).map(|node| node.name.clone()).collect();
    if one.is_empty() {
        return None;
    }
    let asked = config.scontrol().within(SLURM_LIMIT).drained_at_request(&one);
    Some(asked.map(drop).map_err(|error| error.to_string()))
}

/// Returns the findings that depend on Slurm's answers.
fn of_slurm(
    path: &Path,
    config: &Config,
    slurm: &SlurmConfig,
    nodes: &[NodeInfo],
    asked: Option<&NodeSet>,
) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("slurmctld", format!("answers; it has {} nodes", nodes.len()))];
    findings.extend(slurm::versions(slurm, nodes));
    let action = power_action(slurm);
    findings.extend(slurm::reboot_program(slurm, action.as_ref()));
    findings.push(slurm::return_to_service(slurm));
    findings.extend(slurm::apply_by(slurm, config.apply));
    findings.extend(slurm::reboot_clears_by(slurm, &config.reboot_clears_by));
    findings.extend(slurm::drains(slurm, tells_of_drains(config, nodes)));
    let (host, controllers) = (host::name(), ControllerHosts::of(slurm));
    let recorded = StoreReader::new(&config.state_dir).controllers();
    let role = host_role(&host, Some(&controllers), &recorded);
    let orders = role == HostRole::Controller;
    match role {
        HostRole::Controller => findings.extend(of_this_controller(config, slurm, action.as_ref())),
        role => findings.push(slurm::no_controller(&host, &controllers, role == HostRole::SharesState)),
    }
    findings.extend(of_agents(config, Some(slurm), nodes, asked, orders.then_some(path)));
    findings
}

/// Returns the findings about RebootProgram's file and the state directory, for SlurmUser.
fn of_this_controller(
    config: &Config,
    slurm: &SlurmConfig,
    action: Option<&slurm::PowerAction>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let who = slurm.slurm_user().map(|user| files::identity(&user));
    let path = match (slurm::program(slurm), action) {
        // The program of slurmd is on the nodes.
        (Program::File { path, .. }, _) if !matches!(HandOverMode::of(slurm), HandOverMode::Node { .. }) => {
            Some(path)
        }
        (Program::PowerAction(_), Some(action)) if action.on_controller => {
            action.program.split_whitespace().next().map(str::to_owned)
        }
        _ => None,
    };
    if let Some(path) = &path {
        match files::path_entries(Path::new(path)) {
            files::Look::Denied(why) => findings.push(not_checked("reboot-program", &why)),
            files::Look::Done(entries) => {
                let is_ours = names_us(Path::new(path));
                let facts = access::ProgramFacts { path, entries, is_ours, release: slurm::release(slurm) };
                findings.extend(access::program(&facts, who.as_ref()));
            }
        }
    }
    match who {
        Some(who) => findings.extend(state_directory(config, &who)),
        None => findings.push(Finding::warning("state-directory", "Slurm does not say its SlurmUser")),
    }
    findings.extend(units::reconcile(config));
    findings.extend(of_shared_state(config, slurm));
    if let Some(conf) = slurm_conf(slurm) {
        findings.extend(controller::repeated_parameters(&conf.text));
        findings.extend(controller::unread_includes(&conf.unread));
    }
    match StoreReader::new(&config.state_dir).snapshot() {
        Ok(snapshot) => findings.extend(rollouts::rollouts(&snapshot)),
        Err(error) => findings.push(Finding::warning("rollouts", error.to_string())),
    }
    findings
}

fn state_directory(config: &Config, who: &Identity) -> Vec<Finding> {
    let path = config.state_dir.as_path();
    let entries = match files::path_entries(path) {
        files::Look::Denied(why) if geteuid().is_root() => {
            return vec![access::hidden_from_root(&path.display().to_string(), &why)];
        }
        files::Look::Denied(why) => return vec![not_checked("state-directory", &why)],
        files::Look::Done(entries) => entries,
    };
    let facts = access::StateFacts {
        path: &path.display().to_string(),
        slurm_user_writes: entries.is_ok().then(|| files::can_write(who, path)).flatten(),
        slurm_user_locks: files::can_lock(who, &path.join("lock")),
        root: files::of_root(path),
        free: files::free(path),
        foreign: files::foreign(who, path),
        entries,
    };
    access::state(&facts, who)
}

fn not_checked(check: &str, why: &str) -> Finding {
    Finding::warning(check, format!("not looked at: {why}")).cured_by("run `slurm-rollout doctor` as root")
}

/// Returns the findings about agents and clocks, and about ResumeTimeout compared with the agents' answers. `path` is
/// that of the configuration on a host that gives orders: its agents get a trial order.
fn of_agents(
    config: &Config,
    slurm: Option<&SlurmConfig>,
    known: &[NodeInfo],
    asked: Option<&NodeSet>,
    path: Option<&Path>,
) -> Vec<Finding> {
    // The last addresses that Slurm gave, for when it cannot be asked.
    let addresses = StoreReader::new(&config.state_dir).addresses();
    let known_names: NodeSet = match slurm {
        Some(_) => known.iter().map(|node| node.name.clone()).collect(),
        None => addresses.nodes(),
    };
    let mut findings = Vec::new();
    let nodes = match asked {
        None => known_names,
        Some(asked) => {
            let unknown = asked.difference(&known_names);
            if slurm.is_some() && !unknown.is_empty() {
                findings.push(
                    Finding::problem("agents", "Slurm has no such nodes")
                        .because("nobody can hand them over")
                        .cured_by("look for the name that slurm.conf gives them: `sinfo -N`")
                        .on(unknown.clone()),
                );
            }
            if slurm.is_some() { asked.difference(&unknown) } else { asked.clone() }
        }
    };
    let who = slurm.and_then(SlurmConfig::slurm_user).map(|user| files::identity(&user));
    let tried = path
        .filter(|_| !nodes.is_empty())
        .zip(who.as_ref())
        .map(|(path, who)| probe::sealed(path, config, who, &nodes));
    let sealed = tried.as_ref().and_then(|tried| tried.as_ref().ok()).cloned();
    let facts = agents::ask(config, &nodes, known, addresses, sealed);
    findings.extend(rollout_core::doctor::agents::agents(
        &facts,
        env!("CARGO_PKG_VERSION"),
        config.agent_port,
    ));
    if let (Some(tried), Some(who)) = (tried, &who) {
        findings.extend(match tried {
            Ok(_) => probes::probes(&facts, &who.name),
            Err(NotSealed::Refused(why)) => vec![probes::not_sealed(&who.name, &why)],
            Err(NotSealed::NotTried(why)) => vec![probes::not_tried(&why, geteuid().is_root())],
        });
    }
    if let Some(slurm) = slurm {
        let took = rollout_core::doctor::agents::took(&facts);
        findings.extend(slurm::resume_timeout(slurm, &took, config.deadline.get().as_secs()));
    }
    findings
}

/// Returns the finding about the state directory of several controllers.
fn of_shared_state(config: &Config, slurm: &SlurmConfig) -> Option<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = |path: &Path| mount_of(&mounts, &path.canonicalize().ok()?.display().to_string());
    let save = slurm.get("StateSaveLocation").and_then(|path| mount(Path::new(path)));
    let (state, controllers) = (mount(&config.state_dir)?, ControllerHosts::of(slurm).len());
    controller::shared_state(controllers, &config.state_dir.display().to_string(), &state, save.as_ref())
}

/// Returns the PowerAction that RebootProgram names. scontrol does not show it.
fn power_action(slurm: &SlurmConfig) -> Option<slurm::PowerAction> {
    let Program::PowerAction(name) = slurm::program(slurm) else { return None };
    slurm::power_action(&slurm_conf(slurm)?.text, &name)
}

/// Returns the slurm.conf that scontrol reads.
fn slurm_conf(slurm: &SlurmConfig) -> Option<SlurmConf> {
    slurm_conf::read(Path::new(slurm.get("SLURM_CONF")?), slurm.get("ClusterName").unwrap_or_default())
}

fn short_host_name() -> String {
    host::name().split('.').next().unwrap_or_default().to_owned()
}
