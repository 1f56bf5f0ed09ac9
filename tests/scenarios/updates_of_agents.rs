//! A rollout whose change is a newer slurm-rollout-agent: the agent replaces itself. If the new one is not proven, it
//! is undone, even if it does not come up.

// A child of this module because both spend most of their time waiting for agents that stay silent.
mod rescue;

use std::path::Path;

use crate::prelude::*;

/// Verify command that passes with every agent.
const GOOD: &[&str] = &["/usr/bin/true"];

/// A cluster on 0.1.0 with 0.1.0 and 0.2.0 in its repositories.
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
    let prepare = prepare_nodes(move |root| match format {
        Format::Deb => deb.install_in(root),
        Format::Rpm => rpm.install_in(root),
    });
    let spec = ClusterSpec { base, nodes, prepare, ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap().with(format), spec).unwrap();
    Update { site, format, old: format.version(&old).unwrap(), new: format.version(newer).unwrap() }
}

fn newer(format: Format) -> std::path::PathBuf {
    BuiltPackages::build_version("0.2.0").unwrap().agent(format).to_owned()
}

impl Update {
    /// Stages 0.2.0 for all nodes, proven by this command, and has Slurm hand them over.
    fn roll_out(&self, verify: &[&str]) {
        let Update { site, format, new, .. } = self;
        let nodes = site.cluster.node_names().join(",");
        let manifest = Manifest::new("agent", &nodes)
            .packages(format.manager(), &[&format.exactly(AGENT_PACKAGE, new)])
            .verify(verify);
        for node in site.cluster.compute_nodes() {
            self.is_whole(node, &self.old);
        }
        site.stage(&manifest).unwrap();
        site.reboot(&nodes).unwrap();
    }

    /// Asserts that the node has this version, that its agent answers with it, and that nothing is left of an order.
    fn is_whole(&self, node: &Node, version: &str) {
        assert_eq!(self.format.installed(node, AGENT_PACKAGE).unwrap(), version, "{}", node.name());
        let of = version.split('-').next().unwrap_or_default();
        self.site.wait_agent_version(node.name(), of).unwrap();
        // The agent tidies up when slurmd may start already.
        for path in [ORDER_FILE, "/var/lib/slurm-rollout-agent/undo", RESCUE_PATH] {
            node.wait_file(path, false).unwrap();
        }
        let damaged = match self.format {
            Format::Deb => node.run(&["dpkg", "--audit"]).unwrap(),
            Format::Rpm => node.exec(&["rpm", "-V", AGENT_PACKAGE]).unwrap().stdout,
        };
        assert_eq!(damaged, "");
    }

    /// Waits until a node is in service on the old version and returns the note.
    fn went_back(&self, node: &Node) -> String {
        let note = self.site.wait_end("agent", node.name(), "rolled-back").unwrap();
        self.site.wait_idle(&[node.name()], MINUTES).unwrap();
        self.is_whole(node, &self.old);
        assert_eq!(node.boot_count(), 3, "there and back");
        note
    }
}

/// Waits until these versions have started, as agents log them; repetitions count once.
fn wait_versions_that_ran(node: &Node, unit: &str, expected: &[&str]) {
    let version =
        |line: &str| line.split_once("]: slurm-rollout-agent ")?.1.split_once(" on ")?.0.to_owned().into();
    let versions = || {
        let journal = node.journal(unit)?;
        let mut versions: Vec<String> = journal.lines().filter_map(version).collect();
        versions.dedup();
        Ok(versions)
    };
    until("the versions that ran", MINUTES, versions, |versions| versions == expected).unwrap();
}

fn every_agent_replaces_itself(base: Base, format: Format) {
    let update = begin(base, format, 4, &newer(format));
    let site = &update.site;
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node).unwrap());
    update.roll_out(GOOD);
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for job in &jobs {
        site.wait_phase("agent", &job.node, "draining").unwrap();
        job.let_end(site).unwrap();
    }
    site.wait_idle(&["cn03", "cn04"], MINUTES).unwrap();
    for job in &jobs {
        job.ended_well(site).unwrap();
    }
    for node in site.cluster.compute_nodes() {
        assert_eq!(site.wait_phase("agent", node.name(), "updated").unwrap(), "", "{}", node.name());
        assert_eq!(node.boot_count(), 2);
        update.is_whole(node, &update.new);
        wait_versions_that_ran(node, AGENT_UNIT, &["0.1.0", "0.2.0"]);
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

/// 0.1.0 writes the ledger; 0.2.0 reads it, fails the proof and undoes itself; 0.1.0 reads the ledger again and proves.
fn a_new_agent_undoes_itself(base: Base, format: Format) {
    let update = begin(base, format, 2, &newer(format));
    update.roll_out(&["/usr/bin/test", "-e", "/etc/nope"]);
    for node in update.site.cluster.compute_nodes() {
        let note = update.went_back(node);
        assert!(note.contains("/usr/bin/test -e /etc/nope"), "{note}");
        wait_versions_that_ran(node, AGENT_UNIT, &["0.1.0", "0.2.0", "0.1.0"]);
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

/// 0.2.0 has a file that keeps its agent from working. The rescue brings the old one back.
fn a_broken_agent_is_undone(base: Base, format: Format, path: &str, content: &str, mode: u32) {
    let broken = Repacked::build(format, &newer(format), &[(path, content, mode)]).unwrap();
    let update = begin(base, format, 2, &broken.file);
    update.roll_out(GOOD);
    for node in update.site.cluster.compute_nodes() {
        let note = update.went_back(node);
        assert!(note.contains("slurm-rollout-agent has not answered"), "{note}");
        // The copy of the agent that took the order.
        wait_versions_that_ran(node, RESCUE_UNIT, &["0.1.0"]);
    }
}

const EXITS: &str = "#!/bin/sh\nexit 1\n";

#[test]
fn a_program_that_exits_at_once_by_apt() {
    a_broken_agent_is_undone(Base::Forky, Format::Deb, AGENT_PATH, EXITS, 0o755);
}

#[test]
fn a_program_that_exits_at_once_by_dnf() {
    a_broken_agent_is_undone(Base::Bookworm, Format::Rpm, AGENT_PATH, EXITS, 0o755);
}

#[test]
fn a_damaged_unit() {
    let unit = "[Unit]\nDescription=damaged\n[Service\nExecStart=\n";
    let path = format!("/usr/lib/systemd/system/{AGENT_UNIT}");
    a_broken_agent_is_undone(Base::Trixie, Format::Deb, &path, unit, 0o644);
}

#[test]
fn a_program_that_says_ready_and_does_nothing() {
    let program = "#!/usr/bin/python3\nimport os, socket, time\naddress = os.environ.get('NOTIFY_SOCKET', '')\n\
                   if address:\n    address = address.replace('@', '\\0', 1)\n    \
                   socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', address)\n\
                   while True:\n    time.sleep(1000)\n";
    a_broken_agent_is_undone(Base::Trixie, Format::Deb, AGENT_PATH, program, 0o755);
}
