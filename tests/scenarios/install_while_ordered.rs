//! The agent's package is upgraded and removed while an order is unsettled: the one waits, the other is refused.

use std::time::Duration;

use rollout_lab::{
    AGENT, AT_FAILPOINT, Base, BuiltPackages, ClusterSpec, FAILPOINT, Format, Node, Product, Site, TOOL_1_1,
    until,
};

const MINUTES: Duration = Duration::from_secs(240);
const UNIT: &str = "slurm-rollout-agent.service";

fn pid(node: &Node) -> String {
    node.run(&["systemctl", "show", "--value", "-p", "MainPID", UNIT]).unwrap().trim().to_owned()
}

/// cn01 is held, and cn02 has its first change half made.
fn two_unsettled_orders(base: Base, format: Format) -> Site {
    let spec = ClusterSpec { base, nodes: 2, ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build_with_failpoints().unwrap().with(format), spec).unwrap();
    let (head, _) = TOOL_1_1.split_once("[verify]").unwrap();
    let for_one = |name: &str, node: &str| {
        head.replace("\"tool-1.1\"\nnodes", &format!("\"{name}\"\nnodes")).replace("cn[01-04]", node)
    };
    let fails = "[verify]\ncommands = [[\"/usr/bin/false\"]]\non_failure = \"hold\"\n";
    site.stage(&format!("{}{fails}", for_one("hold", "cn01"))).unwrap();
    site.stage(&for_one("half", "cn02")).unwrap();
    let half = site.cluster.node("cn02");
    half.write_file(FAILPOINT, "recorded-1", 0o600).unwrap();
    site.reboot("cn[01-02]").unwrap();
    until("the failpoint", MINUTES, || half.read_file(AT_FAILPOINT), |_| true).unwrap();
    until("held", MINUTES, || site.phase("hold", "cn01"), |line| line.phase == "held").unwrap();
    site
}

fn removal_is_refused(node: &Node, format: Format) {
    let agent = pid(node);
    let output = format.remove(node, AGENT).unwrap();
    assert!(!output.success(), "{output:?}");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("slurm-rollout-agent release"), "{said}");
    assert!(said.contains("order.json"), "{said}");
    assert_eq!(pid(node), agent);
    let unit = ["systemctl", "is-enabled", UNIT];
    assert_eq!(node.run(&unit).unwrap(), "enabled\n");
    assert!(format.installed(node, AGENT).unwrap().starts_with("0.1.0"));
}

fn upgrade_waits(site: &Site, node: &Node, format: Format) {
    let newer = BuiltPackages::build_version("0.2.0").unwrap().agent(format).to_owned();
    let agent = pid(node);
    let output = format.install(node, &[newer]).unwrap();
    assert!(output.success(), "{output:?}");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("reboot"), "{said}");
    assert!(format.installed(node, AGENT).unwrap().starts_with("0.2.0"));
    assert_eq!(pid(node), agent, "not restarted");
    assert_eq!(site.agent_version(node.name()).unwrap(), "0.1.0");
}

fn while_ordered(base: Base, format: Format) {
    let site = two_unsettled_orders(base, format);
    let (held, half) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    for node in [held, half] {
        removal_is_refused(node, format);
        upgrade_waits(&site, node, format);
    }

    // The new agent goes on where the old one was.
    half.run(&["systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT]).unwrap();
    half.wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    assert_eq!(site.phase("half", "cn02").unwrap().phase, "updated");
    assert_eq!(site.tool("cn02").unwrap(), "/opt/app/2 1.1");
    assert_eq!(site.agent_version("cn02").unwrap(), "0.2.0");

    // The old one ends its order, and the reboot after that is the new one's.
    let boots = held.boot_count();
    site.rollout(&["release", "cn01"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.phase("hold", "cn01").unwrap().phase, "released");
    assert_eq!(site.tool("cn01").unwrap(), "/opt/app/1 1.0");
    site.reboot("cn01").unwrap();
    held.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.agent_version("cn01").unwrap(), "0.2.0");
    let output = format.remove(held, AGENT).unwrap();
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
