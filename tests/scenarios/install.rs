//! The built packages on a cluster that never had them: installed, upgraded, removed, installed again, by apt and by
//! dnf.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::prelude::*;

const AGENT_CONFIG: &str = "/etc/slurm-rollout/agent.toml";

/// A cluster ready for packages of a format, and the packages.
struct Bare {
    site: Site,
    format: Format,
    built: BuiltPackages,
}

fn bare(base: Base, format: Format) -> Bare {
    let spec = ClusterSpec { base, nodes: 2, ..ClusterSpec::default() };
    Bare {
        site: Site::without_packages(spec, format).unwrap(),
        format,
        built: BuiltPackages::build().unwrap(),
    }
}

impl Bare {
    fn install(&self, node: &Node, package: &str) -> String {
        let built = &self.built;
        let file =
            if package == AGENT_PACKAGE { built.agent(self.format) } else { built.controller(self.format) };
        self.install_file(node, file.to_owned())
    }

    fn install_file(&self, node: &Node, file: PathBuf) -> String {
        let output = self.format.install(node, &[file]).unwrap();
        assert!(output.success(), "{output:?}");
        output.stdout + &output.stderr
    }

    fn everywhere(&self) {
        self.install(self.site.cluster.controller(), CONTROLLER_PACKAGE);
        for node in self.site.cluster.compute_nodes() {
            self.install(node, AGENT_PACKAGE);
        }
    }
}

fn pid(node: &Node, unit: &str) -> String {
    node.property(unit, "MainPID").unwrap()
}

/// Files in all places in which a package may put something.
fn files(node: &Node) -> BTreeSet<String> {
    let not = [
        "/var/lib/dpkg",
        "/var/lib/apt",
        "/var/lib/rpm",
        "/var/lib/dnf",
        "/var/lib/systemd",
        "/var/cache",
        "/var/log",
    ];
    let mut script = "find /etc /opt /usr /var -xdev".to_owned();
    for path in not {
        script.push_str(&format!(" -path {path} -prune -o"));
    }
    let found = node.run(&["sh", "-c", &format!("{script} -print")]).unwrap();
    // Files that a node writes while it runs.
    let passing = |path: &str| {
        ["/var/spool/", "/var/lib/munge/", "/var/tmp/", "/var/lib/private"]
            .iter()
            .any(|at| path.starts_with(at))
            || path.contains("/__pycache__")
    };
    found.lines().filter(|path| !passing(path)).map(str::to_owned).collect()
}

/// Asserts owner, group and mode.
fn is(node: &Node, path: &str, wanted: &str) {
    let found = node.run(&["stat", "-c", "%U %G %a", path]).unwrap();
    assert_eq!(found.trim(), wanted, "{path}");
}

fn the_controller_has_its_files(node: &Node) {
    is(node, "/usr/bin/slurm-rollout", "root root 755");
    is(node, "/usr/libexec/slurm-rollout/reboot-program", "root root 755");
    is(node, "/usr/libexec/slurm-rollout", "root root 755");
    is(node, "/etc/slurm-rollout/controller.toml", "root root 644");
    is(node, "/etc/slurm-rollout/controller.d", "root root 755");
    is(node, "/var/lib/slurm-rollout", "slurm slurm 755");
    let write = node.exec_as("slurm", &["touch", "/var/lib/slurm-rollout/written"]).unwrap();
    assert!(write.success(), "{write:?}");
    node.run(&["rm", "/var/lib/slurm-rollout/written"]).unwrap();
}

fn the_node_has_its_files(node: &Node) {
    is(node, "/usr/sbin/slurm-rollout-agent", "root root 755");
    is(node, "/usr/libexec/slurm-rollout", "root root 755");
    is(node, AGENT_CONFIG, "root root 644");
    is(node, "/etc/slurm-rollout/agent.d", "root root 755");
    is(node, "/var/lib/slurm-rollout-agent", "root root 700");
    for unit in [AGENT_UNIT, "slurm-rollout-gate.service", "slurm-rollout-rescue.service"] {
        is(node, &format!("/usr/lib/systemd/system/{unit}"), "root root 644");
    }
    for unit in [AGENT_UNIT, "slurm-rollout-rescue.service"] {
        assert_eq!(node.property(unit, "UnitFileState").unwrap(), "enabled", "{unit}");
    }
    node.wait_active(AGENT_UNIT).unwrap();
    node.wait_property(AGENT_UNIT, "StatusText", "no order yet").unwrap();
    assert!(node.property("slurmd.service", "Requires").unwrap().contains("slurm-rollout-gate.service"));
}

/// `scontrol reboot` of one node, with nothing staged.
fn a_plain_reboot_works(site: &Site, node: &Node) {
    site.reboot_to_idle(node.name()).unwrap();
    node.wait_journal(AGENT_UNIT, "plain reboot: order").unwrap();
}

fn installed(bare: &Bare) {
    let (site, controller) = (&bare.site, bare.site.cluster.controller());
    let daemons = || {
        let mut pids = vec![pid(controller, "slurmctld.service"), pid(controller, "munge.service")];
        for node in site.cluster.compute_nodes() {
            pids.extend([pid(node, "slurmd.service"), pid(node, "munge.service")]);
        }
        pids
    };
    let before = daemons();
    bare.everywhere();
    assert_eq!(daemons(), before, "nothing else is restarted");
    if bare.format == Format::Rpm {
        // No RPM starts a service; a preset enables this one.
        for node in site.cluster.compute_nodes() {
            node.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
        }
    }
    the_controller_has_its_files(controller);
    for node in site.cluster.compute_nodes() {
        the_node_has_its_files(node);
    }
    // Slurm 26.05 looks at RebootProgram only when it reads slurm.conf, which named it before it was installed.
    site.reconfigure().unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    a_plain_reboot_works(site, site.cluster.node("cn01"));
}

/// 0.2.0 with a different agent.toml, on a node whose own was edited.
fn upgraded(bare: &Bare, node: &Node) {
    let newer = BuiltPackages::build_version("0.2.0").unwrap().agent(bare.format).to_owned();
    let newer = Repacked::build(bare.format, &newer, &[(AGENT_CONFIG, "# Of 0.2.0.\n", 0o644)]).unwrap();
    let edited = "# Mine.\nslurm_user = \"slurm\"\n";
    node.write_file(AGENT_CONFIG, edited, 0o644).unwrap();
    let (agent, slurmd) = (pid(node, AGENT_UNIT), pid(node, "slurmd.service"));
    assert!(bare.site.agent_version(node.name()).unwrap().starts_with("0.1.0"));
    bare.install_file(node, newer.file.clone());
    assert!(bare.format.installed(node, AGENT_PACKAGE).unwrap().starts_with("0.2.0"));
    bare.site.wait_agent_version(node.name(), "0.2.0").unwrap();
    assert_ne!(pid(node, AGENT_UNIT), agent, "restarted");
    assert_eq!(pid(node, "slurmd.service"), slurmd);
    assert_eq!(node.read_file(AGENT_CONFIG).unwrap(), edited);
    let beside = match bare.format {
        Format::Deb => format!("{AGENT_CONFIG}.dpkg-dist"),
        Format::Rpm => format!("{AGENT_CONFIG}.rpmnew"),
    };
    assert_eq!(node.read_file(&beside).unwrap(), "# Of 0.2.0.\n");
    node.run(&["rm", &beside]).unwrap();
}

/// slurmd needs none of the removed files; only files that an admin may have written stay.
fn removed(bare: &Bare, node: &Node, before: &BTreeSet<String>) {
    let slurmd = pid(node, "slurmd.service");
    let output = bare.format.remove(node, AGENT_PACKAGE).unwrap();
    assert!(output.success(), "{output:?}");
    assert_eq!(pid(node, "slurmd.service"), slurmd);
    assert_eq!(node.property(AGENT_UNIT, "LoadState").unwrap(), "not-found");
    assert_eq!(node.property("slurm-rollout-rescue.service", "LoadState").unwrap(), "not-found");
    assert!(!node.property("slurmd.service", "Requires").unwrap().contains("slurm-rollout"));
    let processes = || Ok(node.exec(&["pgrep", "-f", "slurm-rollout"])?.success());
    until("the end of its processes", MINUTES, processes, |running| !running).unwrap();
    for _ in 0..2 {
        node.run(&["systemctl", "restart", "slurmd"]).unwrap();
    }
    node.wait_active("slurmd.service").unwrap();
    let left: Vec<String> = files(node).difference(before).cloned().collect();
    // Debian counts which units are enabled as configuration.
    let links = "/etc/systemd/system/multi-user.target.wants/slurm-rollout-";
    let may_stay = |path: &String| {
        path.starts_with("/etc/slurm-rollout")
            || path.starts_with("/var/lib/slurm-rollout-agent")
            || bare.format == Format::Deb && path.starts_with(links)
    };
    assert!(left.iter().all(may_stay), "{left:?}");
    let last = "/var/lib/slurm-rollout-agent/last.json".to_owned();
    assert!(left.contains(&last), "{left:?}");
}

fn reinstalled(bare: &Bare, node: &Node) {
    let last = || {
        let text = node.read_file("/var/lib/slurm-rollout-agent/last.json").unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["order"].clone()
    };
    let before = last();
    bare.install(node, AGENT_PACKAGE);
    if bare.format == Format::Rpm {
        node.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
    }
    node.wait_active(AGENT_UNIT).unwrap();
    node.wait_property(AGENT_UNIT, "StatusText", "plain reboot: updated").unwrap();
    assert_eq!(last(), before);
    bare.site.wait_idle(&[node.name()], MINUTES).unwrap();
    a_plain_reboot_works(&bare.site, node);
}

/// `apt purge` leaves nothing; an RPM's state is removed by hand.
fn purged(bare: &Bare, node: &Node, before: &BTreeSet<String>) {
    if bare.format == Format::Deb {
        node.run(&["apt-get", "-y", "purge", AGENT_PACKAGE]).unwrap();
        let left: Vec<String> = files(node).difference(before).cloned().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn a_life(base: Base, format: Format) {
    let bare = bare(base, format);
    let (cn01, cn02) = (bare.site.cluster.node("cn01"), bare.site.cluster.node("cn02"));
    let before = files(cn01);
    installed(&bare);
    upgraded(&bare, cn02);
    removed(&bare, cn01, &before);
    reinstalled(&bare, cn01);
    purged(&bare, cn01, &before);
}

#[test]
fn a_life_by_apt_slurm_22_05() {
    a_life(Base::Bookworm, Format::Deb);
}

#[test]
fn a_life_by_dnf_slurm_24_11() {
    a_life(Base::Trixie, Format::Rpm);
}

#[test]
fn installed_by_dnf_slurm_26_05() {
    installed(&bare(Base::Forky, Format::Rpm));
}
