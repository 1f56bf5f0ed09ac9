//! A change of packages through each package manager: made as staged, and undone to exactly the packages from before.

use crate::prelude::*;

/// `tool` 1.1 needs a package that 1.0 does not; `extra` is there to be removed, and takes `plugin` with it.
fn packages() -> Vec<Package> {
    vec![
        Package::new("tool", "1.0"),
        Package::new("tool", "1.1").requires("tool-data"),
        Package::new("tool-data", "1.0"),
        Package::new("extra", "1.0"),
        Package::new("plugin", "1.0").requires("extra"),
    ]
}

struct Case {
    base: Base,
    manager: &'static str,
    old: &'static [&'static str],
    new: &'static str,
    list: &'static [&'static str],
}

const DNF_OLD: &[&str] = &["tool-1.0", "extra", "plugin"];
const RPM_LIST: &[&str] = &["sh", "-c", "rpm -qa | sort"];

const CASES: [Case; 4] = [
    Case { base: Base::Trixie, manager: "dnf", old: DNF_OLD, new: "tool-1.1", list: RPM_LIST },
    Case { base: Base::Forky, manager: "dnf5", old: DNF_OLD, new: "tool-1.1", list: RPM_LIST },
    Case {
        base: Base::Trixie,
        manager: "apt",
        old: &["tool=1.0", "extra", "plugin"],
        new: "tool=1.1",
        list: &["dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${db:Status-Abbrev}\\n"],
    },
    Case {
        base: Base::Trixie,
        manager: "zypper",
        old: &["lab-system", "tool-1.0", "extra", "plugin"],
        new: "tool=1.1",
        list: RPM_LIST,
    },
];

fn made_and_undone(case: &Case) {
    let (rpm, deb) = (RpmRepository::build(&packages()).unwrap(), DebRepository::build(&packages()).unwrap());
    let (manager, old) = (case.manager, case.old);
    let prepare = prepare_nodes(move |root| {
        rpm.install_in(root)?;
        deb.install_in(root)?;
        let (program, unattended) = match manager {
            "apt" => ("apt-get", "-y"),
            "zypper" => ("zypper", "-n"),
            dnf => (dnf, "-y"),
        };
        let argv: Vec<&str> =
            [program, unattended, "install"].into_iter().chain(old.iter().copied()).collect();
        root.run(&argv).map(drop)
    });
    let site = start(ClusterSpec { base: case.base, prepare, ..nodes(2) });
    let list = |node: &Node| node.run(case.list).unwrap();
    let before = list(site.cluster.node("cn01"));
    assert_eq!(list(site.cluster.node("cn02")), before);
    let stage = |name: &str, node: &str, verify: &str| {
        let manifest = Manifest::new(name, node).packages(manager, &[case.new]).with("remove", &["extra"]);
        site.stage(manifest.verify(&[verify]).verify_with("timeout", "2s")).unwrap()
    };
    stage("good", "cn01", "/usr/bin/true");
    stage("bad", "cn02", "/usr/bin/false");
    site.reboot("cn[01-02]").unwrap();
    site.cluster.node("cn02").wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();

    site.wait_phase("good", "cn01", "updated").unwrap();
    let after = list(site.cluster.node("cn01"));
    for there in ["tool-data", "1.1"] {
        assert!(after.contains(there), "{after}");
    }
    for gone in ["extra", "plugin"] {
        assert!(!after.lines().any(|line| line.starts_with(gone)), "{after}");
    }
    let note = site.wait_phase("bad", "cn02", "rolled-back").unwrap();
    assert!(note.contains("/usr/bin/false"), "{note}");
    assert_eq!(list(site.cluster.node("cn02")), before, "exactly what was before");
}

#[test]
fn dnf_4_makes_and_undoes() {
    made_and_undone(&CASES[0]);
}

#[test]
fn dnf_5_makes_and_undoes() {
    made_and_undone(&CASES[1]);
}

#[test]
fn apt_makes_and_undoes() {
    made_and_undone(&CASES[2]);
}

#[test]
fn zypper_makes_and_undoes() {
    made_and_undone(&CASES[3]);
}
