//! One node, checked on the node itself: units, gate, ledger.

use super::agents::Probe;
use super::{Finding, Level};
use crate::agent::ledger::Ledger;
use crate::agent::phase::Phase;
use crate::protocol::answer::AgentStatus;
use crate::slurm::config::SlurmUser;
use crate::slurm::node_name::{NameSource, NodeName};
use crate::slurm::reason;
use std::collections::BTreeMap;

/// Unit of the agent.
pub const AGENT: &str = "slurm-rollout-agent.service";
/// Unit of the gate, which slurmd requires.
pub const GATE: &str = "slurm-rollout-gate.service";
/// Unit that starts the copy of an agent whose successor does not come up.
pub const RESCUE: &str = "slurm-rollout-rescue.service";

/// File that tells the gate's unit that the ledger does not survive a boot.
pub const VOLATILE: &str = "/etc/slurm-rollout/agent.d/volatile.toml";

const REINSTALL: &str = "install the package slurm-rollout-agent again: `dnf reinstall slurm-rollout-agent` or \
                         `apt-get install --reinstall slurm-rollout-agent`";

/// Properties of a unit, as `systemctl show` prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit(BTreeMap<String, String>);

/// Kind of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// Survives a boot, as far as can be seen.
    Lasting,
    /// In memory, described in words.
    Memory(String),
}

/// Facts about the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    pub uid: u32,
    pub mode: u32,
    pub is_dir: bool,
    pub on: FileSystem,
}

/// Place that scontrol has its configuration from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlurmConfSource {
    /// A file on the node, or DNS.
    File,
    /// The slurmctld at this address.
    Server(String),
    /// Files of the running slurmd, which do not exist before it starts.
    Slurmd,
}

/// Facts about this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    pub node: NodeName,
    /// True if Slurm has such a node, or the reason why Slurm was not asked.
    pub known_to_slurm: Result<bool, String>,
    pub slurm_conf: SlurmConfSource,
    /// SlurmUser of slurmctld. `None` if Slurm was not asked.
    pub slurm_user: Option<SlurmUser>,
    /// `slurm_user` of agent.toml, and its uid here.
    pub configured_user: (String, Option<u32>),
    pub agent: Unit,
    pub gate: Unit,
    /// The gate's unit file with its drop-ins, as `systemctl cat` prints them.
    pub gate_file: String,
    pub rescue: Unit,
    /// Name and unit of slurmd.
    pub slurmd: (String, Unit),
    /// True if the gate's drop-in for slurmd is in a directory that systemd reads.
    pub drop_in: bool,
    /// Arguments of the running slurmd, or else of the unit's command.
    pub slurmd_arguments: Vec<String>,
    /// The agent's answer on its TCP port.
    pub answer: Result<AgentStatus, String>,
    /// Its answer to a trial order that this host sealed.
    pub probe: Probe,
    /// Version of this program.
    pub version: String,
    /// The key that orders are sealed with. `None` for MUNGE.
    pub order_key: Option<String>,
    /// Result of sealing and opening a credential.
    pub sealing: Result<(), String>,
    /// Path of the state directory, and facts about it.
    pub state_dir: (String, Result<StateDir, String>),
    /// `None` if the ledger survives a boot by agent.toml. Otherwise true if [`VOLATILE`] tells the gate's unit.
    pub volatile: Option<bool>,
    pub ledger: Result<Option<Ledger>, String>,
    /// Installed package managers.
    pub managers: Vec<String>,
}

impl Unit {
    /// Parses the output of `systemctl show`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Returns a property, or the empty text if it is not known.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is_loaded(&self) -> bool {
        self.get("LoadState") == "loaded"
    }

    fn is_enabled(&self) -> bool {
        matches!(self.get("UnitFileState"), "enabled" | "enabled-runtime" | "alias" | "static" | "generated")
    }

    fn lists(&self, key: &str, unit: &str) -> bool {
        self.get(key).split_whitespace().any(|listed| listed == unit)
    }
}

/// Returns all findings about this node.
#[must_use]
pub fn node(facts: &NodeFacts) -> Vec<Finding> {
    let mut findings = vec![
        name(facts),
        slurm_conf(&facts.slurm_conf),
        user(facts),
        sealing(facts.order_key.as_deref(), &facts.sealing),
    ];
    findings.extend(agent(facts));
    findings.extend(orders(facts));
    findings.extend(gate(facts));
    findings.push(rescue(&facts.rescue));
    findings.extend(restarts_count_as_boots(facts));
    findings.push(state_dir(&facts.state_dir.0, &facts.state_dir.1, facts.volatile.is_some()));
    findings.extend(facts.volatile.map(volatile));
    findings.push(ledger(&facts.ledger, &facts.state_dir.0));
    findings.push(match facts.managers.is_empty() {
        true => Finding::ok("package-manager", "none; changes of kind packages are refused here"),
        false => Finding::ok("package-manager", facts.managers.join(", ")),
    });
    findings
}

/// Checks the sealing of orders, on a node or a controller: with the key in this file, else with MUNGE.
#[must_use]
pub fn sealing(key: Option<&str>, tried: &Result<(), String>) -> Finding {
    match (key, tried) {
        (None, Ok(())) => Finding::ok("munge", "a credential was sealed and opened"),
        (None, Err(why)) => Finding::problem("munge", why.clone())
            .because("orders are sealed and opened with MUNGE; Slurm itself does not work without it either")
            .cured_by(
                "`systemctl enable --now munge`; is /etc/munge/munge.key the cluster's, and munge_socket right? \
                 On a cluster without MUNGE, set order_key on controllers and nodes",
            ),
        (Some(key), Ok(())) => Finding::ok("order-key", format!("orders are sealed with {key}")),
        (Some(_), Err(why)) => Finding::problem("order-key", why.clone())
            .because("orders are sealed and opened with this key instead of MUNGE")
            .cured_by("copy the controllers' key to this path, with mode 0600, or set order_key"),
    }
}

/// Checks that the running agent opens orders. What keeps this host from sealing, or the agent from answering, is
/// reported by other checks.
fn orders(facts: &NodeFacts) -> Option<Finding> {
    const CHECK: &str = "orders";
    let is_fit = facts.sealing.is_ok()
        && facts.answer.as_ref().is_ok_and(|s| s.trouble.is_none() && s.node == facts.node.name);
    match &facts.probe {
        _ if !is_fit => None,
        Probe::Accepted => Some(Finding::ok(CHECK, "the agent accepts an order that this host seals")),
        Probe::Refused(why) => Some(
            Finding::problem(CHECK, format!("the agent refuses an order that this host seals: {why}"))
                .because("it refuses those of the controller as well")
                .cured_by("`systemctl restart slurm-rollout-agent`; `journalctl -u slurm-rollout-agent`"),
        ),
        Probe::NoAnswer(why) => Some(
            Finding::warning(CHECK, format!("the agent gave no answer to a trial order: {why}"))
                .cured_by("`journalctl -u slurm-rollout-agent`"),
        ),
    }
}

fn name(facts: &NodeFacts) -> Finding {
    let NodeName { name, source } = &facts.node;
    let from = match source {
        NameSource::Key => "from node_name in agent.toml",
        NameSource::Option => "from -N of slurmd",
        NameSource::NodeHostName => "by NodeHostName in Slurm's configuration",
        NameSource::NodeAddr => "by NodeAddr in Slurm's configuration",
        NameSource::HostName => "from the host name: Slurm has no node with this host's name or address",
        NameSource::HostNameUntilAsked(_) => "from the host name, as Slurm could not be asked",
        NameSource::Remembered => "as it was found last: Slurm cannot be asked, or has no node for this host",
    };
    match &facts.known_to_slurm {
        Ok(true) => Finding::ok("node-name", format!("{name}, which Slurm knows; {from}")),
        Ok(false) => Finding::problem("node-name", format!("Slurm has no node {name} ({from})"))
            .because("orders name nodes as Slurm does; this agent refuses those for any other name")
            .cured_by(
                "in slurm.conf, NodeHostName of this host's node (`hostname -s`); or in agent.toml, node_name: its NodeName",
            ),
        Err(why) => {
            Finding::warning("node-name", format!("Slurm could not be asked for {name} ({from}): {why}"))
                .because(
                    "the last proof of a change is that Slurm accepts the node, and a node that cannot ask goes back to its \
                     old state; the agent also tells Slurm why it holds a node",
                )
                .cured_by("`scontrol ping`; scontrol, slurm_conf and conf_server in agent.toml")
        }
    }
}

fn slurm_conf(source: &SlurmConfSource) -> Finding {
    const CHECK: &str = "slurm-conf";
    match source {
        SlurmConfSource::File => Finding::ok(CHECK, "scontrol finds its configuration by itself"),
        SlurmConfSource::Server(server) => Finding::ok(CHECK, format!("scontrol fetches it from {server}")),
        SlurmConfSource::Slurmd => Finding::warning(
            CHECK,
            "scontrol finds its configuration only while slurmd runs",
        )
        .because(
            "after a boot the agent asks Slurm before slurmd starts: whether the node is to stay drained",
        )
        .cured_by("set conf_server in agent.toml; ignore this if DNS has the SRV record _slurmctld._tcp"),
    }
}

fn user(facts: &NodeFacts) -> Finding {
    const CHECK: &str = "slurm-user";
    let (name, uid) = &facts.configured_user;
    let refuses =
        "RebootProgram seals its orders as SlurmUser; the agent refuses what anybody else but root sealed";
    let Some(slurm) = &facts.slurm_user else {
        return Finding::warning(CHECK, "Slurm does not say its SlurmUser").because(refuses);
    };
    match uid {
        Some(uid) if *uid == slurm.uid => Finding::ok(CHECK, format!("{name}({uid}), as on the controller")),
        Some(uid) => Finding::problem(
            CHECK,
            format!("{name} has uid {uid} here, and SlurmUser is {}({})", slurm.name, slurm.uid),
        )
        .because(refuses)
        .cured_by(format!("slurm_user = \"{}\" in agent.toml, with the same uid on all hosts", slurm.name)),
        None => Finding::problem(CHECK, format!("there is no user {name} here"))
            .because(refuses)
            .cured_by(format!("slurm_user = \"{}\" in agent.toml, and that user on this node", slurm.name)),
    }
}

fn agent(facts: &NodeFacts) -> Vec<Finding> {
    const CHECK: &str = "agent";
    let unit = &facts.agent;
    if !unit.is_loaded() {
        return vec![Finding::problem(CHECK, format!("there is no {AGENT}")).cured_by(REINSTALL)];
    }
    let state = unit.get("ActiveState");
    let mut findings = Vec::new();
    if state != "active" {
        findings.push(
            Finding::problem(CHECK, format!("{AGENT} is {state}"))
                .because("nobody takes orders here, and none that is under way goes on")
                .cured_by("`systemctl start slurm-rollout-agent`; `journalctl -u slurm-rollout-agent`"),
        );
    }
    if !unit.is_enabled() {
        findings.push(
            Finding::problem(CHECK, format!("{AGENT} is {}", unit.get("UnitFileState")))
                .because("after a boot nothing proves the node, and its gate stays shut")
                .cured_by("`systemctl enable slurm-rollout-agent`"),
        );
    }
    match &facts.answer {
        Ok(status) if status.version != facts.version => findings.push(
            Finding::warning(CHECK, format!("{} is running, {} is installed", status.version, facts.version))
                .because("the agent is not restarted in the middle of an order")
                .cured_by(
                    "`systemctl restart slurm-rollout-agent` when no order is under way, or the next reboot",
                ),
        ),
        Ok(status) if status.node != facts.node.name => findings.push(
            Finding::problem(CHECK, format!("{} answers on the agent's port", status.node))
                .because("it still has the configuration that it was started with")
                .cured_by("`systemctl restart slurm-rollout-agent`"),
        ),
        Ok(_) => {}
        Err(why) if state == "active" => findings.push(
            Finding::problem(CHECK, format!("no answer on its TCP port: {why}"))
                .because("the controller cannot order it")
                .cured_by("`journalctl -u slurm-rollout-agent`; listen in agent.toml"),
        ),
        Err(_) => {}
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} is active, enabled, and answers", facts.version)));
    }
    findings
}

fn gate(facts: &NodeFacts) -> Vec<Finding> {
    const CHECK: &str = "gate";
    let (name, slurmd) = &facts.slurmd;
    let open = "slurmd starts on a node that is not proven, and Slurm gives it jobs";
    if !slurmd.is_loaded() {
        return vec![
            Finding::problem(CHECK, format!("there is no {name}"))
                .because(
                    "the agent stops it before it changes the node, and starts it when the node is proven",
                )
                .cured_by("install slurmd, or set slurmd_unit in agent.toml"),
        ];
    }
    if !facts.gate.is_loaded() {
        return vec![
            Finding::problem(CHECK, format!("there is no {GATE}")).because(open).cured_by(REINSTALL),
        ];
    }
    let missing: Vec<&str> =
        ["Requires", "After"].into_iter().filter(|key| !slurmd.lists(key, GATE)).collect();
    if !missing.is_empty() {
        let cure = match facts.drop_in {
            true => "`systemctl daemon-reload`".to_owned(),
            false => format!("{REINSTALL}; it brings {name}.d/slurm-rollout.conf"),
        };
        let what = format!("{name} has no {}={GATE}", missing.join("= and no "));
        return vec![Finding::problem(CHECK, what).because(open).cured_by(cure)];
    }
    let dir = &facts.state_dir.0;
    let unset = unset_for(&facts.gate_file, dir);
    if !unset.is_empty() {
        return vec![
            Finding::problem(
                CHECK,
                format!("{GATE} does not look at {dir}: it has no {}", unset.join(" and no ")),
            )
            .because(open)
            .cured_by(format!("remove the drop-ins that `systemctl cat {GATE}` shows; else {REINSTALL}")),
        ];
    }
    vec![Finding::ok(CHECK, format!("{name} starts only when {GATE} lets it, by the ledger in {dir}"))]
}

/// Returns the settings that the gate's unit lacks for the ledger in a directory. An empty value removes the ones
/// before it, as in systemd.
fn unset_for(unit_file: &str, dir: &str) -> Vec<String> {
    let mut settings: Vec<&str> = Vec::new();
    for line in unit_file.lines().map(str::trim) {
        match line.split_once('=') {
            Some((key, "")) => settings.retain(|set| !set.starts_with(&format!("{key}="))),
            Some(_) => settings.push(line),
            None => {}
        }
    }
    let needed = [
        format!("ConditionPathExists=|{dir}/order.json"),
        format!("ConditionPathExists=|!{dir}/reserve"),
        format!("RequiresMountsFor={dir}"),
    ];
    needed.into_iter().filter(|needed| !settings.contains(&needed.as_str())).collect()
}

fn rescue(unit: &Unit) -> Finding {
    const CHECK: &str = "rescue";
    let why = "an agent that does not come up after its own update is then not undone: the node stays out of service";
    if !unit.is_loaded() {
        return Finding::warning(CHECK, format!("there is no {RESCUE}")).because(why).cured_by(REINSTALL);
    }
    match unit.is_enabled() {
        true => Finding::ok(CHECK, format!("{RESCUE} is enabled")),
        false => Finding::warning(CHECK, format!("{RESCUE} is {}", unit.get("UnitFileState")))
            .because(why)
            .cured_by(format!("`systemctl enable {RESCUE}`")),
    }
}

fn restarts_count_as_boots(facts: &NodeFacts) -> Option<Finding> {
    reports_each_start_as_a_boot(&facts.slurmd_arguments).then(|| {
        Finding::warning("slurmd", "slurmd runs with -b")
            .because(
                "every start of slurmd then looks like a boot to Slurm: one in the middle of an update counts as the \
                 reboot that is waited for",
            )
            .cured_by("take -b out of SLURMD_OPTIONS (/etc/default/slurmd, /etc/sysconfig/slurmd)")
    })
}

/// Returns whether slurmd's arguments contain `-b`, alone or with other letters.
fn reports_each_start_as_a_boot(arguments: &[String]) -> bool {
    /// Options of slurmd whose value may be in the same word.
    const WITH_VALUE: &str = "ABdfFILnN";
    let short =
        arguments.iter().filter_map(|word| word.strip_prefix('-')).filter(|word| !word.starts_with('-'));
    short
        .into_iter()
        .any(|letters| letters.chars().take_while(|c| !WITH_VALUE.contains(*c)).any(|c| c == 'b'))
}

/// Checks that a node without a lasting ledger is held back until its state has been restored.
fn volatile(gate_knows: bool) -> Finding {
    const CHECK: &str = "volatile-ledger";
    if gate_knows {
        return Finding::ok(CHECK, "after a boot slurmd waits until it is known what this node should be");
    }
    Finding::problem(CHECK, format!("ledger = \"volatile\" is not in {VOLATILE}"))
        .because(
            "the gate's unit knows by that file that it has to wait: slurmd starts unproven after each boot",
        )
        .cured_by(format!("write that line into {VOLATILE}"))
}

fn state_dir(path: &str, dir: &Result<StateDir, String>, volatile: bool) -> Finding {
    const CHECK: &str = "state-directory";
    let loses = "what an order has changed, and how to undo it, stands there: lost with a boot, nobody knows what the node is";
    match dir {
        Err(why) => Finding::problem(CHECK, format!("{path}: {why}"))
            .because("no order can be written down, so none is taken")
            .cured_by(format!("install -d -m 700 {path}")),
        Ok(dir) if !dir.is_dir => Finding::problem(CHECK, format!("{path} is no directory")).because(loses),
        Ok(dir) if dir.uid != 0 || dir.mode & 0o077 != 0 => {
            let what = format!("{path} has mode {:04o} and belongs to uid {}", dir.mode & 0o7777, dir.uid);
            Finding::problem(CHECK, what)
                .because("who can write there decides what root does at the next start of the agent")
                .cured_by(format!("chown -R root:root {path} && chmod 700 {path}"))
        }
        Ok(StateDir { on: FileSystem::Memory(kind), .. }) if volatile => {
            Finding::ok(CHECK, format!("{path} is root's alone, on {kind}, as ledger = \"volatile\" says"))
        }
        Ok(StateDir { on: FileSystem::Memory(kind), .. }) => {
            Finding::warning(CHECK, format!("{path} is on {kind}, which a boot empties"))
                .because(loses)
                .cured_by(format!(
                    "mount a file system of the node's own on {path} (/etc/fstab or a mount unit, which the gate waits for); \
                     on a node without a disk, ledger = \"volatile\""
                ))
        }
        Ok(_) => Finding::ok(CHECK, format!("{path} is root's alone, and not in memory")),
    }
}

fn ledger(ledger: &Result<Option<Ledger>, String>, dir: &str) -> Finding {
    const CHECK: &str = "ledger";
    let finding = |ledger: &Ledger, level| {
        let ok = Finding::ok(CHECK, format!("{}: {}", ledger.subject(), ledger.phase.name()));
        Finding { level, ..ok }
    };
    match ledger {
        Ok(None) => Finding::ok(CHECK, "no order yet"),
        Ok(Some(ledger)) if ledger.is_settled() => finding(ledger, Level::Ok),
        Ok(Some(ledger)) if ledger.phase.is_settled() => finding(ledger, Level::Warning)
            .because(format!(
                "slurmd is kept down until Slurm has recorded the node's drain again: {}",
                ledger.drained.as_deref().unwrap_or_default()
            ))
            .cured_by("start slurmctld, or see why `scontrol show node` fails here: the agent tries again by itself"),
        Ok(Some(ledger)) if ledger.phase == Phase::Held => finding(ledger, Level::Warning)
            .because(format!(
                "slurmd is kept down until an admin decides: {}",
                reason::cause(ledger.error.as_deref())
            ))
            .cured_by("mend the cause, then `slurm-rollout-agent retry`; or `slurm-rollout-agent release`"),
        Ok(Some(ledger)) => finding(ledger, Level::Warning)
            .because("an order is under way: slurmd is down, and the node reboots by itself"),
        Err(why) => Finding::problem(CHECK, why.clone())
            .because("nobody knows what the node is: slurmd stays down and no order is taken")
            .cured_by(format!(
                "see that the node is as it should be; then `rm {dir}/order.json` and \
                 `systemctl restart slurm-rollout-agent slurmd`"
            )),
    }
}

#[cfg(test)]
mod tests;
