//! The agent's package is upgraded and removed while an order is unsettled: the upgrade waits, the removal is refused.

use crate::prelude::*;

fn pid(node: &Node) -> String {
    node.property(AGENT_UNIT, "MainPID").unwrap()
}

/// Boots a cluster on which cn01 is held and cn02 has its first change half made.
fn two_unsettled_orders(base: Base, format: Format) -> Site {
    let spec = ClusterSpec { base, ..nodes(2) };
    let site = Site::with_tool(&Product::build_with_failpoints().unwrap().with(format), spec).unwrap();
    let fails = Manifest::tool("1.1").named("hold").nodes("cn01").verify(&["/usr/bin/false"]);
    let fails = fails.verify_with("timeout", "2s").on_failure("hold");
    site.stage(fails).unwrap();
    site.stage(Manifest::tool("1.1").named("half").nodes("cn02")).unwrap();
    let half = site.cluster.node("cn02");
    half.write_file(FAILPOINT, "recorded-1", 0o600).unwrap();
    site.reboot("cn[01-02]").unwrap();
    until("the failpoint", MINUTES, || half.read_file(AT_FAILPOINT), |_| true).unwrap();
    site.wait_phase("hold", "cn01", "held").unwrap();
    site
}

fn removal_is_refused(node: &Node, format: Format) {
    let agent = pid(node);
    let output = format.remove(node, AGENT_PACKAGE).unwrap();
    assert!(!output.success(), "{output:?}");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("slurm-rollout-agent release"), "{said}");
    assert!(said.contains("order.json"), "{said}");
    assert_eq!(pid(node), agent);
    let unit = ["systemctl", "is-enabled", AGENT_UNIT];
    assert_eq!(node.run(&unit).unwrap(), "enabled\n");
    assert!(format.installed(node, AGENT_PACKAGE).unwrap().starts_with("0.1.0"));
}

fn upgrade_waits(site: &Site, node: &Node, format: Format) {
    let newer = BuiltPackages::build_version("0.2.0").unwrap().agent(format).to_owned();
    let agent = pid(node);
    let output = format.install(node, &[newer]).unwrap();
    assert!(output.success(), "{output:?}");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("reboot"), "{said}");
    assert!(format.installed(node, AGENT_PACKAGE).unwrap().starts_with("0.2.0"));
    assert_eq!(pid(node), agent, "not restarted");
    assert_eq!(site.agent_version(node.name()).unwrap(), "0.1.0");
}

fn while_ordered(base: Base, format: Format) {
    // It takes minutes, which the order does not have.
    BuiltPackages::build_version("0.2.0").unwrap();
    let site = two_unsettled_orders(base, format);
    let (held, half) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    in_cases(|cases| {
        for node in [held, half] {
            cases.check(&format!("removal on {}", node.name()), || removal_is_refused(node, format));
            cases.check(&format!("upgrade on {}", node.name()), || upgrade_waits(&site, node, format));
        }
        cases.check("the new agent continues the order", || goes_on(&site, half));
        cases.check("the old agent ends its order", || ends(&site, held, format));
    });
}

/// The new agent continues at the step of the old one.
fn goes_on(site: &Site, half: &Node) {
    half.run(&["systemctl", "kill", "-s", "KILL", "--kill-whom=main", AGENT_UNIT]).unwrap();
    half.wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    site.wait_phase("half", "cn02", "updated").unwrap();
    assert_eq!(site.tool("cn02").unwrap(), NEW_TOOL);
    site.wait_agent_version("cn02", "0.2.0").unwrap();
}

/// The old agent ends its order, and the new one runs after the next reboot.
fn ends(site: &Site, held: &Node, format: Format) {
    site.rollout(&["release", "cn01"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    site.wait_phase("hold", "cn01", "released").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    site.reboot_to_idle("cn01").unwrap();
    site.wait_agent_version("cn01", "0.2.0").unwrap();
    let output = format.remove(held, AGENT_PACKAGE).unwrap();
    assert!(output.success(), "{output:?}");
}

#[test]
fn apt_while_ordered() {
    while_ordered(Base::Trixie, Format::Deb);
}

#[test]
fn dnf_while_ordered() {
    while_ordered(Base::Bookworm, Format::Rpm);
}
