//! A package manager that fails, hangs, finds its lock held or the disk full: the node goes back, and the cause is named
//! in the tool's own words.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{
    ClusterSpec, DebRepository, Node, NodeRoot, Package, Product, RpmRepository, Scriptlet, Site, until,
};

const MINUTES: Duration = Duration::from_secs(120);

/// Twice what fits onto the disk of 8 MiB that the nodes have at /small.
const LARGE: usize = 16 * 1024 * 1024;

fn packages() -> Vec<Package> {
    let large: String = (0..LARGE).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
    vec![
        Package::new("tool", "1.0"),
        Package::new("failing", "1.0")
            .scriptlet(Scriptlet::BeforeInstall, "echo licence expired >&2; exit 7"),
        Package::new("hanging", "1.0")
            .scriptlet(Scriptlet::AfterInstall, "echo waiting for godot; sleep 1000"),
        Package::new("large", "1.0").file("/small/large", &large, 0o644),
    ]
}

/// What is installed, whether somebody holds the lock, and what the note must say, for dnf and for apt.
struct Case {
    package: &'static str,
    locked: bool,
    dnf_says: &'static str,
    apt_says: &'static str,
}

/// Holds the locks as the package managers themselves do, until the node reboots.
const HOLD: &str = "\
import fcntl, time
held = []
for name in ('/var/lib/dpkg/lock-frontend', '/var/lib/rpm/.rpm.lock', '/usr/lib/sysimage/rpm/.rpm.lock'):
    try:
        held.append(open(name, 'a'))
        fcntl.lockf(held[-1], fcntl.LOCK_EX)
    except OSError:
        pass
open('/run/held', 'w')
time.sleep(10000)
";

const CASES: [Case; 4] = [
    Case { package: "failing", locked: false, dnf_says: "scriptlet", apt_says: "exit status 7" },
    Case { package: "hanging", locked: false, dnf_says: "not done within", apt_says: "not done within" },
    Case { package: "tool", locked: true, dnf_says: "transaction", apt_says: "lock" },
    Case { package: "large", locked: false, dnf_says: "space", apt_says: "space" },
];

fn goes_back_with_the_cause(manager: &'static str) {
    let (rpm, deb) = (RpmRepository::build(&packages()).unwrap(), DebRepository::build(&packages()).unwrap());
    let prepare = move |root: &NodeRoot| {
        if root.is_controller() {
            return Ok(());
        }
        rpm.install_in(root)?;
        deb.install_in(root)?;
        root.write_file("/etc/fstab", "tmpfs /small tmpfs size=8m 0 0\n", 0o644)?;
        root.run(&["mkdir", "/small"]).map(drop)
    };
    let spec = ClusterSpec { nodes: 4, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let list = |node: &Node| {
        let list = "rpm -qa | sort; dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\\n'";
        node.run(&["sh", "-c", list]).unwrap()
    };
    let mut before = Vec::new();
    for (node, case) in site.cluster.compute_nodes().iter().zip(&CASES) {
        before.push(list(node));
        if case.locked {
            node.write_file("/root/hold.py", HOLD, 0o644).unwrap();
            node.run(&["systemd-run", "--unit=hold", "python3", "/root/hold.py"]).unwrap();
            until("the lock", MINUTES, || node.read_file("/run/held"), |_| true).unwrap();
        }
        let manifest = format!(
            "name = \"{}\"\nnodes = \"{}\"\n[[change]]\nkind = \"packages\"\nmanager = \"{manager}\"\n\
             install = [\"{}\"]\ntimeout = \"8s\"\n",
            case.package,
            node.name(),
            case.package
        );
        site.stage(&manifest).unwrap();
    }
    site.reboot("cn[01-04]").unwrap();
    for (index, (node, case)) in site.cluster.compute_nodes().iter().zip(&CASES).enumerate() {
        let says = if manager == "apt" { case.apt_says } else { case.dnf_says };
        let back = until(
            "rolled back",
            MINUTES,
            || site.phase(case.package, node.name()),
            |line| line.phase == "rolled-back" || line.phase == "held",
        );
        let back = back.unwrap();
        let note = back.note.clone().unwrap_or_default();
        assert_eq!(back.phase, "rolled-back", "{note}");
        assert!(note.contains(says), "{}: {note}", case.package);
        site.wait_idle(&[node.name()], MINUTES).unwrap();
        assert_eq!(list(node), before[index], "{}", case.package);
        assert_eq!(node.boot_count(), 2, "{}", case.package);
    }
}

#[test]
fn dnf_fails_and_the_node_goes_back() {
    goes_back_with_the_cause("dnf");
}

#[test]
fn apt_fails_and_the_node_goes_back() {
    goes_back_with_the_cause("apt");
}
