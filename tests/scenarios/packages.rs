//! The lab's repositories, with the package managers of every base.

use std::time::Instant;

use crate::prelude::*;

fn packages() -> Vec<Package> {
    let tool = |version: &str| {
        Package::new("tool", version)
            .file("/usr/share/tool/version", &format!("{version}\n"), 0o644)
            .scriptlet(Scriptlet::AfterInstall, "echo 100% >/run/tool-installed")
    };
    let broken = Package::new("broken", "1.0")
        .requires("tool")
        .scriptlet(Scriptlet::BeforeInstall, "echo no >&2; exit 1");
    vec![tool("1.0"), tool("1.1"), broken]
}

fn version(node: &Node) -> String {
    node.read_file("/usr/share/tool/version").unwrap_or_default().trim().to_string()
}

fn step(node: &Node, command: &str, wanted: &str) {
    let started = Instant::now();
    let argv: Vec<&str> = command.split(' ').collect();
    let said = node.run(&argv).unwrap();
    println!("{command}: {:.1?}", started.elapsed());
    assert_eq!(version(node), wanted, "{said}");
}

#[test]
fn every_package_manager_installs_upgrades_and_goes_back() {
    let started = Instant::now();
    let rpm = RpmRepository::build(&packages()).unwrap();
    let built = Instant::now();
    let deb = DebRepository::build(&packages()).unwrap();
    println!("rpm repository {:.1?}, deb repository {:.1?}", built - started, built.elapsed());
    in_cases(|cases| {
        for base in Base::ALL {
            cases.check(base.suite(), || all_managers_of(base, &rpm, &deb));
        }
    });
}

fn all_managers_of(base: Base, rpm: &RpmRepository, deb: &DebRepository) {
    let cluster = Cluster::start(&ClusterSpec { base, nodes: 1, ..ClusterSpec::default() }).unwrap();
    let node = cluster.node("cn01");
    rpm.install_on(node).unwrap();
    deb.install_on(node).unwrap();
    step(node, "dnf -y install tool-1.0", "1.0");
    assert_eq!(node.read_file("/run/tool-installed").unwrap(), "100%\n");
    step(node, "dnf -y upgrade", "1.1");
    step(node, "dnf -y history undo last", "1.0");
    assert!(!node.exec(&["dnf", "-y", "install", "broken"]).unwrap().success());
    step(node, "dnf -y remove tool", "");
    if base == Base::Forky {
        step(node, "dnf5 -y install tool-1.0", "1.0");
        step(node, "dnf5 -y upgrade", "1.1");
        step(node, "dnf5 -y history undo last", "1.0");
        step(node, "dnf5 -y remove tool", "");
    }
    step(node, "zypper -n install tool-1.0", "1.0");
    step(node, "zypper -n update", "1.1");
    step(node, "zypper -n install --oldpackage tool-1.0", "1.0");
    step(node, "zypper -n remove tool", "");
    step(node, "apt-get -qq -y install tool=1.0", "1.0");
    step(node, "apt-get -qq -y upgrade", "1.1");
    step(node, "apt-get -qq -y --allow-downgrades install tool=1.0", "1.0");
    assert!(!node.exec(&["apt-get", "-qq", "-y", "install", "broken"]).unwrap().success());
    step(node, "apt-get -qq -y remove tool", "");
}
