//! Slurm's own configuration, limited to the values that rollouts depend on.

use super::{Finding, duration};
use crate::controller::hand_over::ApplyBy;
use crate::hostlist::NodeSet;
use crate::slurm::config::{DEFAULT_RESUME_TIMEOUT_S, Release, ResumeTimeout, SlurmConfig};
use crate::slurm::controllers::ControllerHosts;
use crate::slurm::hand_over_mode::HandOverMode;
use crate::slurm::node::NodeInfo;
use crate::slurm::patience::{Room, recommended_s};
use std::collections::BTreeMap;

/// Path of the installed RebootProgram.
pub const REBOOT_PROGRAM_PATH: &str = "/usr/libexec/slurm-rollout/reboot-program";

/// First release with `PowerAction`. It also checks RebootProgram when it reads slurm.conf.
const POWER_ACTIONS: Release = Release { year: 26, month: 5 };

/// Releases of Slurm, oldest first (`slurm_protocol_common.h`).
const RELEASES: [Release; 10] = {
    const fn release(year: u16, month: u16) -> Release {
        Release { year, month }
    }
    [
        release(20, 11),
        release(21, 8),
        release(22, 5),
        release(23, 2),
        release(23, 11),
        release(24, 5),
        release(24, 11),
        release(25, 5),
        release(25, 11),
        release(26, 5),
    ]
};

/// First and last release for which slurm-rollout was written and tested.
const KNOWN: (Release, Release) = (Release { year: 22, month: 5 }, Release { year: 26, month: 5 });

/// First release whose daemons understand three releases back. Earlier ones understand two.
const THREE_BACK: Release = Release { year: 24, month: 11 };

/// First release whose scontrol has JSON.
const HAS_JSON: Release = Release { year: 23, month: 2 };

/// RebootProgram of slurm.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Unset,
    /// An absolute path with arguments.
    File {
        path: String,
        arguments: Vec<String>,
    },
    /// The name of a PowerAction of Slurm 26.05.
    PowerAction(String),
    /// Neither a path nor a name that Slurm accepts.
    Invalid(String),
}

/// A `PowerAction=` line of slurm.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerAction {
    /// True if slurmctld runs it, false if slurmd does.
    pub on_controller: bool,
    pub program: String,
}

/// Returns Slurm's release, if the configuration has it.
#[must_use]
pub fn release(config: &SlurmConfig) -> Option<Release> {
    config.version().and_then(Release::parse)
}

/// Interprets RebootProgram as this release of Slurm does.
#[must_use]
pub fn program(config: &SlurmConfig) -> Program {
    let Some(text) = config.get("RebootProgram") else { return Program::Unset };
    let takes_arguments = release(config).is_some_and(|release| release >= POWER_ACTIONS);
    let mut words = text.split_whitespace().map(str::to_owned);
    match words.next() {
        Some(path) if path.starts_with('/') => Program::File { path, arguments: words.collect() },
        Some(name) if takes_arguments && words.next().is_none() => Program::PowerAction(name),
        _ => Program::Invalid(text.to_owned()),
    }
}

/// Returns the PowerAction of this name in the text of a slurm.conf. Names compare as in Slurm, in any case.
#[must_use]
pub fn power_action(slurm_conf: &str, name: &str) -> Option<PowerAction> {
    let joined = slurm_conf.replace("\\\n", " ");
    joined.lines().find_map(|line| {
        let words = key_values(line.split('#').next().unwrap_or(""));
        let get = |wanted: &str| {
            let found = words.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str())
        };
        if !get("PowerAction")?.eq_ignore_ascii_case(name) {
            return None;
        }
        let on_controller = get("Location")?.eq_ignore_ascii_case("slurmctld");
        Some(PowerAction { on_controller, program: get("Program")?.to_owned() })
    })
}

/// Parses `Key=value Key="value with blanks"`.
fn key_values(line: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => behind.split_once(char::is_whitespace).unwrap_or((behind, "")),
        };
        found.push((key.trim().to_owned(), value.to_owned()));
        rest = next.trim_start();
    }
    found
}

/// Checks slurmctld's version, and the versions of the nodes against it.
#[must_use]
pub fn versions(config: &SlurmConfig, nodes: &[NodeInfo]) -> Vec<Finding> {
    const CHECK: &str = "slurm-version";
    let Some((text, ours)) = config.version().and_then(|text| Some((text, Release::parse(text)?))) else {
        return vec![Finding::warning(CHECK, "Slurm does not say its version")];
    };
    let mut findings = Vec::new();
    findings.push(if ours < KNOWN.0 || ours > KNOWN.1 {
        Finding::warning(CHECK, format!("slurmctld is Slurm {text}"))
            .because(format!("slurm-rollout knows Slurm {} to {}", KNOWN.0, KNOWN.1))
            .cured_by("try a plain `scontrol reboot` of one node first, or update slurm-rollout")
    } else {
        Finding::ok(CHECK, format!("slurmctld is Slurm {text}"))
    });
    let (mut newer, mut too_old) = (BTreeMap::new(), BTreeMap::new());
    for node in nodes {
        let Some((version, theirs)) = node.version.as_ref().and_then(|v| Some((v, Release::parse(v)?)))
        else {
            continue;
        };
        let group: &mut BTreeMap<&str, NodeSet> = if theirs > ours {
            &mut newer
        } else if oldest_understood(ours).is_some_and(|oldest| theirs < oldest) {
            &mut too_old
        } else {
            continue;
        };
        let _ = group.entry(version).or_default().insert(&node.name);
    }
    for (version, nodes) in newer {
        findings.push(
            Finding::problem(CHECK, format!("slurmd {version} is newer than slurmctld {text}"))
                .because(
                    "slurmctld understands no newer slurmd: such a node cannot register again after a reboot",
                )
                .cured_by("update slurmdbd and slurmctld first, slurmd after them")
                .on(nodes),
        );
    }
    for (version, nodes) in too_old {
        findings.push(
            Finding::problem(CHECK, format!("slurmd {version} is too old for slurmctld {text}"))
                .because("slurmctld does not understand it: such a node cannot register again after a reboot")
                .cured_by("stage a newer slurmd for them")
                .on(nodes),
        );
    }
    findings
}

/// Returns the oldest release that a daemon of this one understands, if it is known.
fn oldest_understood(release: Release) -> Option<Release> {
    let at = RELEASES.iter().position(|known| *known == release)?;
    RELEASES.get(at.saturating_sub(if release >= THREE_BACK { 3 } else { 2 })).copied()
}

/// Checks the setting of RebootProgram and the daemon that runs it. [`super::access`] checks the file.
#[must_use]
pub fn reboot_program(config: &SlurmConfig, action: Option<&PowerAction>) -> Vec<Finding> {
    const CHECK: &str = "reboot-program";
    let line = format!("in slurm.conf: RebootProgram={REBOOT_PROGRAM_PATH}\nthen `scontrol reconfigure`");
    let unset =
        "`scontrol reboot` then says \"RebootProgram isn't defined\", or reboots without what is staged";
    match program(config) {
        Program::Unset => {
            vec![Finding::problem(CHECK, "RebootProgram is not set").because(unset).cured_by(line)]
        }
        Program::Invalid(text) => {
            let what = format!("RebootProgram={text} is no absolute path");
            vec![
                Finding::problem(CHECK, what)
                    .because("Slurm does not run it, and nodes wait in vain")
                    .cured_by(line),
            ]
        }
        Program::PowerAction(name) => power_action_findings(&name, action),
        Program::File { path, arguments } => {
            let mut findings = Vec::new();
            let release = release(config);
            if !arguments.is_empty() && release.is_some_and(|release| release < POWER_ACTIONS) {
                findings.push(
                    Finding::problem(CHECK, format!("RebootProgram={path} {} has arguments", arguments.join(" ")))
                        .because(format!(
                            "before {POWER_ACTIONS} Slurm takes the whole text for a path, and finds no such program"
                        ))
                        .cured_by(line),
                );
            } else {
                let arguments = arguments.iter().fold(String::new(), |all, argument| all + " " + argument);
                findings.push(Finding::ok(CHECK, format!("RebootProgram={path}{arguments}")));
            }
            findings.push(daemon_that_runs_it(config));
            findings
        }
    }
}

fn power_action_findings(name: &str, action: Option<&PowerAction>) -> Vec<Finding> {
    const CHECK: &str = "reboot-program";
    let what = format!("RebootProgram={name} is the name of a PowerAction");
    let line = format!("in slurm.conf: PowerAction={name} Location=slurmctld Program={REBOOT_PROGRAM_PATH}");
    vec![match action {
        None => Finding::warning(CHECK, format!("{what}, whose line was not found"))
            .because("scontrol does not show PowerActions, and slurm.conf was read without its Include files")
            .cured_by(format!("see that it is, {line}")),
        Some(PowerAction { on_controller: false, program }) if is_reboot_node(program) => {
            let needs = "agents need what is staged beforehand: deliver = \"always\" in controller.toml";
            Finding::ok(CHECK, format!("{what}: each slurmd runs {program}; {needs}"))
        }
        Some(PowerAction { on_controller: false, program }) => {
            Finding::problem(CHECK, format!("{what} with Location=slurmd, Program={program}"))
                .because("each slurmd runs it on its node, where nothing knows what is staged")
                .cured_by(line)
        }
        Some(PowerAction { program, .. }) => Finding::ok(CHECK, format!("{what}: slurmctld runs {program}")),
    }]
}

fn is_reboot_node(program: &str) -> bool {
    program.split_whitespace().next().is_some_and(|path| path.ends_with("/reboot-node"))
}

fn daemon_that_runs_it(config: &SlurmConfig) -> Finding {
    const CHECK: &str = "reboot-from-controller";
    match HandOverMode::of(config) {
        HandOverMode::Node { .. } => {
            let what = "each slurmd runs RebootProgram; agents are given what is staged beforehand";
            return Finding::ok(CHECK, what);
        }
        HandOverMode::Controller { plain: true } => {
            let what = "slurmctld runs RebootProgram, which applies nothing; a PowerAction may";
            return Finding::ok(CHECK, what);
        }
        _ if config.reboots_from_controller() => return Finding::ok(CHECK, "slurmctld runs RebootProgram"),
        _ => {}
    }
    let others = config.get("SlurmctldParameters").map(|others| format!("{others},")).unwrap_or_default();
    Finding::problem(CHECK, "SlurmctldParameters has no reboot_from_controller")
        .because(
            "each slurmd runs RebootProgram on its node, where this one knows no nodes: nothing is applied, and the \
             nodes stay DOWN until ResumeTimeout",
        )
        .cured_by(format!(
            "in slurm.conf: SlurmctldParameters={others}reboot_from_controller\nthen `scontrol reconfigure`; or \
             RebootProgram=/usr/libexec/slurm-rollout/reboot-node, for slurmd"
        ))
}

/// Returns the finding about a host that is no SlurmctldHost.
#[must_use]
pub fn no_controller(host: &str, controllers: &ControllerHosts, shares_state: bool) -> Finding {
    let what =
        format!("{host} is no SlurmctldHost: RebootProgram's file and the state directory were left out");
    let why = match shares_state {
        true => {
            "it uses the state directory of the controllers: rollouts may be staged here, and nothing else"
        }
        false => "here, `slurm-rollout` stages nothing and its timer orders nothing",
    };
    let cure = format!("run it on {controllers} as well");
    Finding::warning("this-host", what).because(why).cured_by(cure)
}

/// Checks whether Slurm tells which nodes were drained right before `scontrol reboot`. `tells` is `None` if there was
/// no node to ask about.
#[must_use]
pub fn drains(config: &SlurmConfig, tells: Option<Result<(), String>>) -> Option<Finding> {
    const CHECK: &str = "drains";
    let lost = "drains set within half a minute before `scontrol reboot` may be lost";
    let why = match (HandOverMode::of(config), release(config), tells?) {
        (HandOverMode::Node { .. }, _, _) => "slurmd runs RebootProgram, and Slurm is not asked about them",
        (_, Some(release), _) if release < HAS_JSON => "this release of Slurm does not tell whose they are",
        (_, _, Ok(())) => {
            return Some(Finding::ok(CHECK, "Slurm tells whether a node was drained before its reboot"));
        }
        (_, _, Err(why)) => {
            let finding = Finding::warning(CHECK, format!("{lost}: `scontrol --json` does not work: {why}"))
                .because("Slurm clears every DRAIN with nextstate=, and only its JSON tells whose it was");
            return Some(finding.cured_by("install Slurm's serializer_json.so on this host"));
        }
    };
    Some(Finding::ok(CHECK, format!("{lost}: {why}")))
}

/// Checks that the reboots that should apply what is staged can.
#[must_use]
pub fn apply_by(config: &SlurmConfig, apply: ApplyBy) -> Option<Finding> {
    let is_on_the_node = matches!(HandOverMode::of(config), HandOverMode::Node { .. });
    (apply == ApplyBy::Named && is_on_the_node).then(|| {
        Finding::problem("apply", "apply = \"named\", and RebootProgram is run by slurmd")
            .because("agents know no Reasons: nothing is pre-staged, and every reboot is plain")
            .cured_by("reboot_from_controller in slurm.conf, or apply = \"any\" in controller.toml")
    })
}

/// Checks that the drains that Slurm sets as SlurmUser are recognized.
#[must_use]
pub fn reboot_clears_by(config: &SlurmConfig, by: &[String]) -> Option<Finding> {
    let user = config.slurm_user()?.name;
    (!by.contains(&user)).then(|| {
        Finding::warning("drains", format!("reboot_clears_by has no SlurmUser {user}"))
            .because("drains that slurmctld sets for faults that a reboot cures count as those of a person, and stay")
            .cured_by(format!("in controller.toml: reboot_clears_by = [\"root\", \"{user}\"]"))
    })
}

/// Compares ResumeTimeout with the time that orders took on these nodes, and checks the other limit of RebootProgram.
#[must_use]
pub fn resume_timeout(config: &SlurmConfig, took: &[(String, u64)], deadline_s: u64) -> Vec<Finding> {
    const CHECK: &str = "resume-timeout";
    let Some(timeout) = config.resume_timeout() else {
        return vec![Finding::warning(CHECK, "Slurm does not say its ResumeTimeout")];
    };
    let longest = took.iter().max_by_key(|(_, seconds)| *seconds);
    let of_last = longest
        .map_or("; no node has told how long an order took".to_owned(), |(node, seconds)| {
            format!("; the longest of the last orders took {} ({node})", duration(*seconds))
        });
    let seconds = match timeout {
        ResumeTimeout::Seconds(seconds) => seconds,
        ResumeTimeout::Infinite => {
            return vec![Finding::ok(CHECK, format!("ResumeTimeout is INFINITE{of_last}"))];
        }
    };
    let what = format!("ResumeTimeout is {seconds} s{of_last}");
    let why = "the clock runs from the moment Slurm hands a node over until it registers; a node that is late goes \
               DOWN (\"reboot timed out\"), and jobs that wait for it are lost to it";
    let takes_s = longest.map(|(_, seconds)| *seconds);
    let better = recommended_s(takes_s);
    let cure = format!("in slurm.conf: ResumeTimeout={better}\nthen `scontrol reconfigure`");
    let by_length = match takes_s.map(|takes_s| timeout.room(takes_s)) {
        Some(Room::Missing) => Finding::problem(CHECK, what),
        Some(Room::Tight) => Finding::warning(CHECK, what),
        _ if seconds == DEFAULT_RESUME_TIMEOUT_S => Finding::warning(CHECK, what + ": Slurm's default"),
        _ => {
            return [Finding::ok(CHECK, what)]
                .into_iter()
                .chain(killed(config, seconds, deadline_s))
                .collect();
        }
    };
    [by_length.because(why).cured_by(cure)].into_iter().chain(killed(config, seconds, deadline_s)).collect()
}

/// Checks the deadline: Slurm 26.05 kills RebootProgram after the longer of ResumeTimeout and SuspendTimeout.
fn killed(config: &SlurmConfig, resume_s: u64, deadline_s: u64) -> Option<Finding> {
    let kills = release(config).is_some_and(|release| release >= POWER_ACTIONS);
    let after = resume_s.max(config.seconds("SuspendTimeout").unwrap_or(0));
    (kills && after <= deadline_s).then(|| {
        Finding::problem(
            "resume-timeout",
            format!("Slurm kills RebootProgram after {after} s; its deadline is {deadline_s} s"),
        )
        .because("an invocation that is killed leaves nodes without an order, and nothing is tried again")
        .cured_by(format!(
            "in slurm.conf a longer ResumeTimeout, or in controller.toml a deadline below {after}s"
        ))
    })
}

/// Checks ReturnToService.
#[must_use]
pub fn return_to_service(config: &SlurmConfig) -> Finding {
    const CHECK: &str = "return-to-service";
    match config.get("ReturnToService") {
        Some(value) if value.starts_with('2') => Finding::warning(CHECK, "ReturnToService is 2")
            .because(
                "whatever set a node DOWN, it returns as soon as its slurmd registers: also one that was rebooted with \
                 nextstate=down to be looked at first, or set DOWN by you",
            )
            .cured_by("in slurm.conf: ReturnToService=1\nthen `scontrol reconfigure`"),
        Some(value) => Finding::ok(CHECK, format!("ReturnToService is {value}")),
        None => Finding::warning(CHECK, "Slurm does not say its ReturnToService"),
    }
}

#[cfg(test)]
mod tests;
