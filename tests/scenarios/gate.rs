//! The gate before slurmd, with the systemd of every base: shut while a node is not proven, and without effect
//! otherwise.

use crate::prelude::*;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{GiveBack, Order, OrderId, OrderKind};

/// Runs systemctl, which must fail, and returns its stderr.
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

/// Ledger of a held node.
fn held() -> String {
    let what = OrderKind::Reboot(GiveBack { resume_if_late: true, drained: None }.into());
    let order = Order::new(OrderId::from_random(7), NodeSet::parse("cn01").unwrap(), what);
    let mut ledger = Ledger::begin(order, Phase::Held, "an-earlier-boot", 1, None);
    ledger.fail("the lab says so");
    serde_json::to_string(&ledger).unwrap()
}

fn the_units_are_in_order(node: &Node) {
    // slurmd.service brings the drop-in with it.
    let verify = node
        .exec(&[
            "systemd-analyze",
            "--man=no",
            "verify",
            AGENT_UNIT,
            RESCUE_UNIT,
            GATE_UNIT,
            "slurmd.service",
        ])
        .unwrap();
    assert!(verify.success(), "{verify:?}");
    assert!(!verify.stderr.contains("slurm-rollout"), "{}", verify.stderr);
    let after = node.property("slurmd.service", "After").unwrap();
    assert!(after.split(' ').any(|unit| unit == GATE_UNIT), "{after}");
    assert_eq!(node.property("slurmd.service", "Requires").unwrap().matches(GATE_UNIT).count(), 1);
    assert_eq!(node.property(AGENT_UNIT, "Type").unwrap(), "notify");
    node.wait_property(AGENT_UNIT, "StatusText", "no order yet").unwrap();
}

/// A node without an order does not need the agent, not even its program.
fn no_order_no_gate(node: &Node) {
    node.run(&["mv", AGENT_PATH, "/root/agent"]).unwrap();
    reboot(node);
    assert!(node.is_active("slurmd.service").unwrap());
    assert!(!node.is_active(AGENT_UNIT).unwrap());
    assert_eq!(node.property(GATE_UNIT, "ConditionResult").unwrap(), "no");
    assert_eq!(node.journal(GATE_UNIT).unwrap().matches("status=203").count(), 0);
    node.run(&["cp", "/root/agent", AGENT_PATH]).unwrap();
    node.run(&["chmod", "644", AGENT_PATH]).unwrap();
    systemctl(node, &["restart", "slurmd"]);
    assert!(node.is_active("slurmd.service").unwrap());
    node.run(&["chmod", "755", AGENT_PATH]).unwrap();
    node.wait_active(AGENT_UNIT).unwrap();
}

/// A held node stays out of service over boots, until an admin releases it.
fn held_stays_held(site: &Site, node: &Node) {
    systemctl(node, &["stop", AGENT_UNIT]);
    node.write_file(ORDER_FILE, held(), 0o600).unwrap();
    reboot(node);
    assert!(!node.is_active("slurmd.service").unwrap());
    assert_eq!(node.property(GATE_UNIT, "ActiveState").unwrap(), "failed");
    node.wait_journal(GATE_UNIT, "slurmd is kept down: plain reboot: held: the lab says so").unwrap();
    node.wait_property(AGENT_UNIT, "StatusText", "plain reboot: held").unwrap();
    let reason = site.wait_reason("cn01", "held: ").unwrap();
    assert_eq!(reason, "slurm-rollout plain reboot: held: the lab says so");

    let said = fails(node, &["start", "slurmd"]);
    assert!(said.contains("dependency"), "{said}");
    // The same without the agent's program.
    node.run(&["mv", AGENT_PATH, "/root/agent"]).unwrap();
    fails(node, &["start", "slurmd"]);
    assert!(!node.is_active("slurmd.service").unwrap());
    node.run(&["mv", "/root/agent", AGENT_PATH]).unwrap();

    // The emergency command that the documentation, the unit and --help name.
    let help = node.run(&[AGENT_PATH, "--help"]).unwrap();
    let command = "systemctl start --job-mode=ignore-dependencies slurmd";
    assert!(help.contains(command), "{help}");
    node.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    node.wait_active("slurmd.service").unwrap();
    assert_eq!(node.property(AGENT_UNIT, "StatusText").unwrap(), "plain reboot: held");
    systemctl(node, &["stop", "slurmd"]);

    node.run(&[AGENT_PATH, "release"]).unwrap();
    node.wait_active("slurmd.service").unwrap();
    node.wait_property(AGENT_UNIT, "StatusText", "plain reboot: released").unwrap();
    node.wait_file(ORDER_FILE, false).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}

/// With a ledger that cannot be read the state of the node is unknown: no slurmd and no order, and the reason is given.
fn a_broken_ledger_shuts_the_gate(site: &Site, node: &Node) {
    systemctl(node, &["stop", "slurmd"]);
    node.write_file(ORDER_FILE, &held()[..100], 0o600).unwrap();
    systemctl(node, &["restart", AGENT_UNIT]);
    fails(node, &["start", "slurmd"]);
    node.wait_journal(GATE_UNIT, "order.json: cannot be understood").unwrap();
    assert!(node.is_active(AGENT_UNIT).unwrap());
    node.wait_property(AGENT_UNIT, "StatusText", "no order is taken: the ledger cannot be read").unwrap();
    node.run(&[AGENT_PATH, "status"]).unwrap();
    let retry = node.exec(&[AGENT_PATH, "retry"]).unwrap();
    assert_eq!(retry.code, Some(1));
    assert!(retry.stderr.contains("order.json: cannot be understood"), "{retry:?}");

    // A node that is DOWN is handed over at once.
    let (boots, pid) = (node.boot_count(), node.property(AGENT_UNIT, "MainPID").unwrap());
    site.cluster.scontrol(&["update", "node=cn01", "state=down", "reason=broken"]).unwrap();
    site.reboot("cn01").unwrap();
    let reason = site.wait_reason("cn01", "order.json: cannot be understood").unwrap();
    assert!(reason.starts_with("slurm-rollout plain reboot: refused: "), "{reason}");
    assert_eq!((node.boot_count(), node.property(AGENT_UNIT, "MainPID").unwrap()), (boots, pid));
    assert!(!node.is_active("slurmd.service").unwrap());

    // The remedy that the message names helps.
    node.run(&["rm", ORDER_FILE]).unwrap();
    systemctl(node, &["restart", "slurm-rollout-agent", "slurmd"]);
    assert!(node.is_active("slurmd.service").unwrap());
    node.wait_property(AGENT_UNIT, "StatusText", "plain reboot: released").unwrap();
}

/// The ledger is on a file system of its own that is mounted late: slurmd waits for it, and does not start without it.
fn a_late_ledger(node: &Node) {
    let late = |command: &str| {
        format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n"
        )
    };
    let service = "/etc/systemd/system/late.service";
    let fstab = "/srv/ledger /var/lib/slurm-rollout-agent none \
                 bind,nofail,x-systemd.requires=late.service,x-systemd.after=late.service 0 0\n";
    node.run(&["sh", "-ec", "cp /etc/fstab /root/fstab 2>/dev/null || : >/root/fstab"]).unwrap();
    systemctl(node, &["stop", AGENT_UNIT]);
    node.run(&["sh", "-ec", "mkdir -m 700 /srv/ledger; mv /var/lib/slurm-rollout-agent/* /srv/ledger"])
        .unwrap();
    node.write_file("/etc/fstab", fstab, 0o644).unwrap();
    node.write_file(service, late("/usr/bin/sleep 8"), 0o644).unwrap();
    node.write_file("/srv/ledger/order.json", held(), 0o600).unwrap();
    reboot(node);
    node.wait_property(AGENT_UNIT, "StatusText", "plain reboot: held").unwrap();
    node.wait_journal(GATE_UNIT, "slurmd is kept down: plain reboot: held: the lab says so").unwrap();
    assert!(!node.is_active("slurmd.service").unwrap());

    node.write_file(service, late("/usr/bin/false"), 0o644).unwrap();
    reboot(node);
    fails(node, &["start", "slurmd"]);
    assert!(!node.is_active("slurmd.service").unwrap());
    assert!(!node.is_active(AGENT_UNIT).unwrap());

    node.run(&["sh", "-ec", "mv /root/fstab /etc/fstab; mv /srv/ledger/* /var/lib/slurm-rollout-agent"])
        .unwrap();
    node.run(&["rm", service, ORDER_FILE]).unwrap();
    reboot(node);
    node.wait_active("slurmd.service").unwrap();
}

fn the_gate(base: Base) {
    let spec = ClusterSpec { base, nodes: 1, return_to_service: 2, ..ClusterSpec::default() };
    let site = start(spec);
    let node = site.cluster.node("cn01");
    in_cases(|cases| {
        cases.check("the units are in order", || the_units_are_in_order(node));
        cases.check("no order, no gate", || no_order_no_gate(node));
        cases.check("held stays held", || held_stays_held(&site, node));
        cases.check("a broken ledger shuts the gate", || a_broken_ledger_shuts_the_gate(&site, node));
        cases.check("a late ledger", || a_late_ledger(node));
    });
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
