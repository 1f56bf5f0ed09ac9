//! The gate before slurmd, with the systemd of every base: shut while a node is not proven, and otherwise not there.

use std::time::Duration;

use rollout_core::hostlist::NodeSet;
use rollout_core::ledger::Ledger;
use rollout_core::order::{Order, OrderId, Return, What};
use rollout_core::phase::Phase;
use rollout_lab::{Base, ClusterSpec, Node, Product, Result, Site, until};

const MINUTES: Duration = Duration::from_secs(240);
const AGENT: &str = "slurm-rollout-agent.service";
const RESCUE: &str = "slurm-rollout-rescue.service";
const GATE: &str = "slurm-rollout-gate.service";
const BINARY: &str = "/usr/sbin/slurm-rollout-agent";
const ORDER: &str = "/var/lib/slurm-rollout-agent/order.json";

fn property(node: &Node, unit: &str, name: &str) -> Result<String> {
    let value = node.run(&["systemctl", "show", "--value", "-p", name, unit])?;
    Ok(value.trim().to_owned())
}

fn is_active(node: &Node, unit: &str) -> bool {
    property(node, unit, "ActiveState").unwrap() == "active"
}

fn wait_property(node: &Node, unit: &str, name: &str, wanted: &str) {
    until(&format!("{unit}: {name}={wanted}"), MINUTES, || property(node, unit, name), |is| is == wanted)
        .unwrap();
}

/// systemctl, which must fail.
fn fails(node: &Node, args: &[&str]) -> String {
    let argv: Vec<&str> = std::iter::once("systemctl").chain(args.iter().copied()).collect();
    let output = node.exec(&argv).unwrap();
    assert!(!output.success(), "{args:?}: {output:?}");
    output.stderr
}

fn systemctl(node: &Node, args: &[&str]) {
    let argv: Vec<&str> = std::iter::once("systemctl").chain(args.iter().copied()).collect();
    node.run(&argv).unwrap();
}

fn reboot(node: &Node) {
    let boots = node.boot_count();
    // The node may be gone before this has ended.
    let _ = node.exec(&["systemctl", "reboot"]);
    node.wait_boots(boots + 1, MINUTES).unwrap();
}

/// A ledger of a node that an order left held.
fn held() -> String {
    let what = What::Reboot(Return { resume_if_late: true, drained: None }.into());
    let order = Order::new(OrderId::from_random(7), NodeSet::parse("cn01").unwrap(), what);
    let mut ledger = Ledger::begin(order, Phase::Held, "an-earlier-boot", 1, None);
    ledger.fail("the lab says so");
    serde_json::to_string(&ledger).unwrap()
}

fn the_units_are_in_order(node: &Node) {
    // slurmd.service brings the drop-in with it.
    let verify =
        node.exec(&["systemd-analyze", "--man=no", "verify", AGENT, RESCUE, GATE, "slurmd.service"]).unwrap();
    assert!(verify.success(), "{verify:?}");
    assert!(!verify.stderr.contains("slurm-rollout"), "{}", verify.stderr);
    let after = property(node, "slurmd.service", "After").unwrap();
    assert!(after.split(' ').any(|unit| unit == GATE), "{after}");
    assert_eq!(property(node, "slurmd.service", "Requires").unwrap().matches(GATE).count(), 1);
    assert_eq!(property(node, AGENT, "Type").unwrap(), "notify");
    assert_eq!(property(node, AGENT, "StatusText").unwrap(), "no order yet");
}

/// A node without an order never needs the agent, not so much as to be there.
fn no_order_no_gate(node: &Node) {
    node.run(&["mv", BINARY, "/root/agent"]).unwrap();
    reboot(node);
    assert!(is_active(node, "slurmd.service"));
    assert!(!is_active(node, AGENT));
    assert_eq!(property(node, GATE, "ConditionResult").unwrap(), "no");
    assert_eq!(node.journal(GATE).unwrap().matches("status=203").count(), 0);
    node.run(&["cp", "/root/agent", BINARY]).unwrap();
    node.run(&["chmod", "644", BINARY]).unwrap();
    systemctl(node, &["restart", "slurmd"]);
    assert!(is_active(node, "slurmd.service"));
    node.run(&["chmod", "755", BINARY]).unwrap();
    wait_property(node, AGENT, "ActiveState", "active");
}

/// A held node stays out of service over boots and until somebody says otherwise.
fn held_stays_held(site: &Site, node: &Node) {
    systemctl(node, &["stop", AGENT]);
    node.write_file(ORDER, held(), 0o600).unwrap();
    reboot(node);
    assert!(!is_active(node, "slurmd.service"));
    assert_eq!(property(node, GATE, "ActiveState").unwrap(), "failed");
    let why = node.journal(GATE).unwrap();
    assert!(why.contains("slurmd is kept down: plain reboot: held: the lab says so"), "{why}");
    wait_property(node, AGENT, "StatusText", "plain reboot: held");
    let reason = until("its Reason", MINUTES, || site.reason("cn01"), |reason| reason.contains("held: "));
    assert_eq!(reason.unwrap(), "slurm-rollout plain reboot: held: the lab says so");

    let said = fails(node, &["start", "slurmd"]);
    assert!(said.contains("dependency"), "{said}");
    // Also without the agent's program.
    node.run(&["mv", BINARY, "/root/agent"]).unwrap();
    fails(node, &["start", "slurmd"]);
    assert!(!is_active(node, "slurmd.service"));
    node.run(&["mv", "/root/agent", BINARY]).unwrap();

    // The emergency command that the documentation, the unit and --help name.
    let help = node.run(&[BINARY, "--help"]).unwrap();
    let command = "systemctl start --job-mode=ignore-dependencies slurmd";
    assert!(help.contains(command), "{help}");
    node.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    wait_property(node, "slurmd.service", "ActiveState", "active");
    assert_eq!(property(node, AGENT, "StatusText").unwrap(), "plain reboot: held");
    systemctl(node, &["stop", "slurmd"]);

    node.run(&[BINARY, "release"]).unwrap();
    wait_property(node, "slurmd.service", "ActiveState", "active");
    wait_property(node, AGENT, "StatusText", "plain reboot: released");
    assert!(!node.exec(&["test", "-e", ORDER]).unwrap().success());
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}

/// With a ledger that nobody can read nobody knows what the node is: no slurmd, and no order, with the reason.
fn a_broken_ledger_shuts_the_gate(site: &Site, node: &Node) {
    systemctl(node, &["stop", "slurmd"]);
    node.write_file(ORDER, &held()[..100], 0o600).unwrap();
    systemctl(node, &["restart", AGENT]);
    fails(node, &["start", "slurmd"]);
    let why = node.journal(GATE).unwrap();
    assert!(why.contains("order.json: cannot be understood"), "{why}");
    assert!(is_active(node, AGENT));
    wait_property(node, AGENT, "StatusText", "no order is taken: the ledger cannot be read");
    node.run(&[BINARY, "status"]).unwrap();
    let retry = node.exec(&[BINARY, "retry"]).unwrap();
    assert_eq!(retry.code, Some(1));
    assert!(retry.stderr.contains("order.json: cannot be understood"), "{retry:?}");

    // A node that is DOWN is handed over at once.
    let (boots, pid) = (node.boot_count(), property(node, AGENT, "MainPID").unwrap());
    site.cluster.scontrol(&["update", "node=cn01", "state=down", "reason=broken"]).unwrap();
    site.reboot("cn01").unwrap();
    let understood = |reason: &String| reason.contains("order.json: cannot be understood");
    let reason = until("its Reason", MINUTES, || site.reason("cn01"), understood).unwrap();
    assert!(reason.starts_with("slurm-rollout plain reboot: refused: "), "{reason}");
    assert_eq!((node.boot_count(), property(node, AGENT, "MainPID").unwrap()), (boots, pid));
    assert!(!is_active(node, "slurmd.service"));

    // What the message says helps.
    node.run(&["rm", ORDER]).unwrap();
    systemctl(node, &["restart", "slurm-rollout-agent", "slurmd"]);
    assert!(is_active(node, "slurmd.service"));
    assert_eq!(property(node, AGENT, "StatusText").unwrap(), "plain reboot: released");
}

fn the_gate(base: Base) {
    let spec = ClusterSpec { base, nodes: 1, return_to_service: 2, ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let node = site.cluster.node("cn01");
    the_units_are_in_order(node);
    no_order_no_gate(node);
    held_stays_held(&site, node);
    a_broken_ledger_shuts_the_gate(&site, node);
}

#[test]
fn the_gate_with_systemd_252() {
    the_gate(Base::Bookworm);
}

#[test]
fn the_gate_with_systemd_257() {
    the_gate(Base::Trixie);
}

#[test]
fn the_gate_with_systemd_262() {
    the_gate(Base::Forky);
}
