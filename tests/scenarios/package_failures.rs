//! A package manager that fails, hangs, finds its lock held or the disk full: the node goes back, and the cause is
//! named in the tool's own words.

use crate::prelude::*;

/// Twice the size of the disk that the nodes have at /small.
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

/// A package whose installation fails, and the words of the note for dnf and for apt.
struct Case {
    package: &'static str,
    /// The locks are held.
    locked: bool,
    /// Time limit of the change. Short only for a package manager that never ends.
    timeout: &'static str,
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
    Case {
        package: "failing",
        locked: false,
        timeout: "5m",
        dnf_says: "scriptlet",
        apt_says: "exit status 7",
    },
    Case {
        package: "hanging",
        locked: false,
        timeout: "8s",
        dnf_says: "not done within",
        apt_says: "not done within",
    },
    Case { package: "tool", locked: true, timeout: "20s", dnf_says: "transaction", apt_says: "lock" },
    Case { package: "large", locked: false, timeout: "5m", dnf_says: "space", apt_says: "space" },
];

fn goes_back_with_the_cause(manager: &'static str) {
    let (rpm, deb) = (RpmRepository::build(&packages()).unwrap(), DebRepository::build(&packages()).unwrap());
    let prepare = prepare_nodes(move |root| {
        rpm.install_in(root)?;
        deb.install_in(root)?;
        root.write_file("/etc/fstab", "tmpfs /small tmpfs size=8m 0 0\n", 0o644)?;
        root.run(&["mkdir", "/small"]).map(drop)
    });
    let site = start(ClusterSpec { prepare, ..nodes(4) });
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
        let manifest = Manifest::new(case.package, node.name()).packages(manager, &[case.package]);
        site.stage(manifest.with("timeout", case.timeout)).unwrap();
    }
    site.reboot("cn[01-04]").unwrap();
    in_cases(|cases| {
        for ((node, case), before) in site.cluster.compute_nodes().iter().zip(&CASES).zip(before) {
            cases.check(case.package, || {
                let says = if manager == "apt" { case.apt_says } else { case.dnf_says };
                let note = site.wait_end(case.package, node.name(), "rolled-back").unwrap();
                assert!(note.contains(says), "{note}");
                site.wait_idle(&[node.name()], MINUTES).unwrap();
                assert_eq!(list(node), before);
                assert_eq!(node.boot_count(), 2);
            });
        }
    });
}

#[test]
fn dnf_fails_and_the_node_goes_back() {
    goes_back_with_the_cause("dnf");
}

#[test]
fn apt_fails_and_the_node_goes_back() {
    goes_back_with_the_cause("apt");
}
