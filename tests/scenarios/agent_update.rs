//! A rollout whose change is a newer slurm-rollout-agent: the agent replaces itself, and what is not proven afterwards is
//! undone, also by an agent that does not come up.

// Here, since both wait most of their time: for agents that stay silent.
mod rescue;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{
    AGENT, Base, BuiltPackages, ClusterSpec, DebRepository, Format, Node, NodeRoot, Product, Repacked,
    RpmRepository, Site, until,
};

const MINUTES: Duration = Duration::from_secs(300);
const UNIT: &str = "slurm-rollout-agent.service";
const RESCUE: &str = "slurm-rollout-rescue.service";
const BINARY: &str = "/usr/sbin/slurm-rollout-agent";

/// Passes with every agent.
const GOOD: &str = "/usr/bin/true";

/// A cluster on 0.1.0 whose repositories have 0.1.0 and 0.2.0.
struct Update {
    site: Site,
    format: Format,
    old: String,
    new: String,
}

fn begin(base: Base, format: Format, nodes: u8, newer: &Path) -> Update {
    let old = BuiltPackages::build().unwrap().agent(format).to_owned();
    let files = [old.clone(), newer.to_owned()];
    let rpm = RpmRepository::build_with(&[], if format == Format::Rpm { &files } else { &[] }).unwrap();
    let deb = DebRepository::build_with(&[], if format == Format::Deb { &files } else { &[] }).unwrap();
    let prepare = move |root: &NodeRoot| {
        if root.is_controller() {
            return Ok(());
        }
        match format {
            Format::Deb => deb.install_in(root),
            Format::Rpm => rpm.install_in(root),
        }
    };
    let spec = ClusterSpec { base, nodes, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap().with(format), spec).unwrap();
    Update { site, format, old: format.version(&old).unwrap(), new: format.version(newer).unwrap() }
}

fn newer(format: Format) -> std::path::PathBuf {
    BuiltPackages::build_version("0.2.0").unwrap().agent(format).to_owned()
}

impl Update {
    /// Stages 0.2.0 for all nodes, proven by this command, and has Slurm hand them over.
    fn roll_out(&self, verify: &str) {
        let Update { site, format, new, .. } = self;
        let names = site.cluster.node_names();
        let (nodes, command) = (names.join(","), verify.replace(' ', "\", \""));
        let manifest = format!(
            "name = \"agent\"\nnodes = \"{nodes}\"\n[[change]]\nkind = \"packages\"\nmanager = \"{}\"\n\
             install = [\"{}\"]\n[verify]\ncommands = [[\"{command}\"]]\n",
            format.manager(),
            format.exactly(AGENT, new),
        );
        for node in site.cluster.compute_nodes() {
            self.is_whole(node, &self.old);
        }
        site.stage(&manifest).unwrap();
        site.reboot(&nodes).unwrap();
    }

    /// The node has this version, and its agent answers with it.
    fn is_whole(&self, node: &Node, version: &str) {
        assert_eq!(self.format.installed(node, AGENT).unwrap(), version, "{}", node.name());
        let answers = || self.site.agent_version(node.name());
        let of = version.split('-').next().unwrap_or_default();
        until("the agent's version", MINUTES, answers, |answer| answer == of).unwrap();
        let left = node.run(&["ls", "-A", "/var/lib/slurm-rollout-agent"]).unwrap();
        assert!(!left.contains("order.json") && !left.contains("undo"), "{left}");
        assert!(!node.exec(&["test", "-e", "/usr/libexec/slurm-rollout/rescue-agent"]).unwrap().success());
        let damaged = match self.format {
            Format::Deb => node.run(&["dpkg", "--audit"]).unwrap(),
            Format::Rpm => node.exec(&["rpm", "-V", AGENT]).unwrap().stdout,
        };
        assert_eq!(damaged, "");
    }

    /// Waits until a node is in service on the old version; gives the note of it.
    fn went_back(&self, node: &Node) -> String {
        let phase = || self.site.phase("agent", node.name());
        let line = until("rolled back", MINUTES, phase, |line| {
            ["rolled-back", "held"].contains(&line.phase.as_str())
        });
        let line = line.unwrap();
        assert_eq!(line.phase, "rolled-back", "{line:?}\n{}", node.journal("slurm-rollout-*").unwrap());
        self.site.wait_idle(&[node.name()], MINUTES).unwrap();
        self.is_whole(node, &self.old);
        assert_eq!(node.boot_count(), 3, "there and back");
        line.note.unwrap_or_default()
    }
}

/// The versions that agents gave when they started, in the node's journal; each once where it is repeated.
fn versions_that_ran(node: &Node, unit: &str) -> Vec<String> {
    let journal = node.journal(unit).unwrap();
    let version =
        |line: &str| line.split_once("]: slurm-rollout-agent ")?.1.split_once(" on ")?.0.to_owned().into();
    let mut versions: Vec<String> = journal.lines().filter_map(version).collect();
    versions.dedup();
    versions
}

fn every_agent_replaces_itself(base: Base, format: Format) {
    let update = begin(base, format, 4, &newer(format));
    let site = &update.site;
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node, Duration::from_secs(20)).unwrap());
    update.roll_out(GOOD);
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for job in &jobs {
        assert_eq!(site.phase("agent", &job.node).unwrap().phase, "draining");
    }
    site.wait_idle(&["cn03", "cn04"], MINUTES).unwrap();
    for job in &jobs {
        job.ended_well(site).unwrap();
    }
    for node in site.cluster.compute_nodes() {
        let line = site.phase("agent", node.name()).unwrap();
        assert_eq!((line.phase.as_str(), line.note), ("updated", None), "{}", node.name());
        assert_eq!(node.boot_count(), 2);
        update.is_whole(node, &update.new);
        assert_eq!(versions_that_ran(node, UNIT), ["0.1.0", "0.2.0"]);
    }
}

#[test]
fn every_agent_replaces_itself_by_dnf() {
    every_agent_replaces_itself(Base::Trixie, Format::Rpm);
}

#[test]
fn every_agent_replaces_itself_by_apt() {
    every_agent_replaces_itself(Base::Bookworm, Format::Deb);
}

/// 0.1.0 writes the ledger, 0.2.0 reads it, proves nothing, and undoes itself; 0.1.0 reads the ledger again and proves.
fn a_new_agent_undoes_itself(base: Base, format: Format) {
    let update = begin(base, format, 2, &newer(format));
    update.roll_out("/usr/bin/test -e /etc/nope");
    for node in update.site.cluster.compute_nodes() {
        let note = update.went_back(node);
        assert!(note.contains("/usr/bin/test -e /etc/nope"), "{note}");
        assert_eq!(versions_that_ran(node, UNIT), ["0.1.0", "0.2.0", "0.1.0"]);
    }
}

#[test]
fn a_new_agent_undoes_itself_by_dnf() {
    a_new_agent_undoes_itself(Base::Forky, Format::Rpm);
}

#[test]
fn a_new_agent_undoes_itself_by_apt() {
    a_new_agent_undoes_itself(Base::Trixie, Format::Deb);
}

/// 0.2.0 with a file that keeps its agent from working. The rescue brings the old one back.
fn a_broken_agent_is_undone(base: Base, format: Format, path: &str, content: &str, mode: u32) {
    let broken = Repacked::build(format, &newer(format), &[(path, content, mode)]).unwrap();
    let update = begin(base, format, 2, &broken.file);
    update.roll_out(GOOD);
    for node in update.site.cluster.compute_nodes() {
        let note = update.went_back(node);
        assert!(note.contains("slurm-rollout-agent has not answered"), "{note}");
        assert_eq!(versions_that_ran(node, RESCUE), ["0.1.0"], "the copy of the agent that took the order");
    }
}

const EXITS: &str = "#!/bin/sh\nexit 1\n";

#[test]
fn a_program_that_exits_at_once_by_apt() {
    a_broken_agent_is_undone(Base::Forky, Format::Deb, BINARY, EXITS, 0o755);
}

#[test]
fn a_program_that_exits_at_once_by_dnf() {
    a_broken_agent_is_undone(Base::Bookworm, Format::Rpm, BINARY, EXITS, 0o755);
}

#[test]
fn a_damaged_unit() {
    let unit = "[Unit]\nDescription=damaged\n[Service\nExecStart=\n";
    let path = format!("/usr/lib/systemd/system/{UNIT}");
    a_broken_agent_is_undone(Base::Trixie, Format::Deb, &path, unit, 0o644);
}

#[test]
fn a_program_that_says_ready_and_does_nothing() {
    let program = "#!/usr/bin/python3\nimport os, socket, time\naddress = os.environ.get('NOTIFY_SOCKET', '')\n\
                   if address:\n    address = address.replace('@', '\\0', 1)\n    \
                   socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', address)\n\
                   while True:\n    time.sleep(1000)\n";
    a_broken_agent_is_undone(Base::Trixie, Format::Deb, BINARY, program, 0o755);
}
