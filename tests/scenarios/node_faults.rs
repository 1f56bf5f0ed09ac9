//! Faults of a node that are not the change's fault. docs/faults.md has the outcome of each.

use crate::prelude::*;

/// Verify script that waits for the test.
const UNTIL_GO: &str = "while [ ! -e /run/go ]; do sleep 0.2; done";

/// cn01 boots without munged, cn02 without a network, cn03 has no slurmd, cn04 cannot write its ledger: first its file
/// system is read-only, then full.
#[test]
fn a_node_that_lacks_something() {
    let site = start_with_tool(nodes(4));
    let cluster = &site.cluster;
    let [cn01, cn02, cn03, cn04] = ["cn01", "cn02", "cn03", "cn04"].map(|name| cluster.node(name));
    cn01.run(&["systemctl", "mask", "munge.service"]).unwrap();
    cn03.run(&[
        "sh",
        "-ec",
        "systemctl stop slurmd; mv /usr/lib/systemd/system/slurmd.service /root; \
                            systemctl daemon-reload",
    ])
    .unwrap();
    cn04.run(&["mount", "--bind", NODE_STATE_DIR, NODE_STATE_DIR]).unwrap();
    cn04.run(&["mount", "-o", "remount,bind,ro", NODE_STATE_DIR]).unwrap();
    // Slurm waits for ever for a node without slurmd; a node that is DOWN is rebooted at once.
    cluster.scontrol(&["update", "nodename=cn03", "state=down", "reason=test"]).unwrap();
    site.stage(Manifest::tool("1.1")).unwrap();
    site.reboot("cn[01-04]").unwrap();

    // No room for the ledger: nothing is done, the Reason has the cause, and the order is sent again.
    let reason = site.wait_reason("cn04", "Read-only file system").unwrap();
    assert!(reason.starts_with("slurm-rollout tool-1.1: not ordered: refused for now: "), "{reason}");
    assert!(site.wait_phase("tool-1.1", "cn04", "unreachable").unwrap().contains("order.json"));

    // It is cut off before its boot.
    cluster.drop_packets("cn02", true).unwrap();
    let reconcile = || site.rollout(&["reconcile"]);
    let refused = |cause: &str| {
        let is_refused =
            |output: &Output| output.stderr.contains("refused for now: ") && output.stderr.contains(cause);
        until(cause, MINUTES, reconcile, is_refused).unwrap();
        assert_eq!(cn04.boot_count(), 1, "{cause}");
    };
    refused("Read-only file system");
    let full = format!(
        "umount {NODE_STATE_DIR}; mount -t tmpfs -o size=64k full {NODE_STATE_DIR}; \
         cat /dev/zero >{NODE_STATE_DIR}/zeros || true"
    );
    cn04.run(&["sh", "-ec", &full]).unwrap();
    refused("No space left on device");
    cn04.run(&["umount", NODE_STATE_DIR]).unwrap();
    // Mended, the node gets it by the same hand-over.
    let is_ordered =
        |output: &Output| output.stdout.contains("cn04: handed over by Slurm and never told: ordered now");
    until("the order to cn04", MINUTES, reconcile, is_ordered).unwrap();

    // No registration is due without slurmd.
    cn03.wait_property(AGENT_UNIT, "StatusText", "tool-1.1: updated").unwrap();
    // Without an answer of Slurm's the node is not updated, and slurmd is not started.
    for node in [cn01, cn02] {
        node.wait_property(AGENT_UNIT, "StatusText", "tool-1.1: verifying").unwrap();
        assert!(!node.has(LAST_FILE).unwrap());
        assert!(!node.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    }
    cluster.drop_packets("cn02", false).unwrap();
    cn01.run(&["systemctl", "unmask", "munge.service"]).unwrap();
    cn01.run(&["systemctl", "start", "munge.service"]).unwrap();
    let put_back =
        "mv /root/slurmd.service /usr/lib/systemd/system/; systemctl daemon-reload; systemctl start slurmd";
    cn03.run(&["sh", "-ec", put_back]).unwrap();
    for node in ["cn01", "cn02", "cn03", "cn04"] {
        site.wait_idle(&[node], MINUTES).unwrap();
        assert_eq!(site.tool(node).unwrap(), NEW_TOOL, "{node}");
        site.wait_phase("tool-1.1", node, "updated").unwrap();
    }
    assert_eq!(cn04.boot_count(), 2);
}

/// The agent's port is taken: the agent logs it and tries again, and slurmd is not affected. A second agent exits.
#[test]
fn an_agent_whose_port_is_taken() {
    let site = start_with_tool(nodes(1));
    let node = site.cluster.node("cn01");
    let second = node.exec(&["/usr/sbin/slurm-rollout-agent"]).unwrap();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("6821: cannot listen: Address already in use"), "{second:?}");
    assert!(node.is_active(AGENT_UNIT).unwrap());

    node.run(&["systemctl", "stop", AGENT_UNIT]).unwrap();
    let thief = "import socket, time; s = socket.socket(socket.AF_INET6); s.bind(('::', 6821)); s.listen(); time.sleep(10000)";
    node.run(&["systemd-run", "--unit=thief", "python3", "-c", thief]).unwrap();
    until("the thief", MINUTES, || node.run(&["ss", "-ltn"]), |open| open.contains(":6821")).unwrap();
    let _ = node.exec(&["systemctl", "start", "--no-block", AGENT_UNIT]).unwrap();
    let tried = || node.property(AGENT_UNIT, "NRestarts");
    until("two tries", MINUTES, tried, |count| count.parse::<u32>().is_ok_and(|n| n >= 2)).unwrap();
    node.wait_journal(AGENT_UNIT, "6821: cannot listen: Address already in use").unwrap();
    node.run(&["systemctl", "restart", "slurmd"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    node.run(&["systemctl", "stop", "thief"]).unwrap();
    node.wait_active(AGENT_UNIT).unwrap();
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
}

/// The disk of a node in the middle of an order is copied to a different node, for which the ledger is wrong.
#[test]
fn a_copied_disk() {
    let site = start_with_tool(nodes(2));
    let (cn01, cn02) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    site.stage(Manifest::tool("1.1").nodes("cn01").verify_script(UNTIL_GO)).unwrap();
    site.reboot("cn01").unwrap();
    let ledger = until(
        "its boot",
        MINUTES,
        || cn01.read_file(&format!("{NODE_STATE_DIR}/order.json")),
        |ledger| cn01.boot_count() == 2 && ledger.contains("\"verifying\""),
    );
    cn02.run(&["systemctl", "stop", AGENT_UNIT]).unwrap();
    cn02.write_file(&format!("{NODE_STATE_DIR}/order.json"), ledger.unwrap(), 0o600).unwrap();
    cn02.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
    cn02.wait_property(AGENT_UNIT, "StatusText", "no order is taken: the ledger cannot be read").unwrap();
    cn02.wait_journal(AGENT_UNIT, "is of cn01, and this is cn02: was the disk copied?").unwrap();
    // slurmd no longer comes up there, and no order is taken.
    let boots = cn02.boot_count();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=down", "reason=test"]).unwrap();
    site.reboot("cn02").unwrap();
    let reason = site.wait_reason("cn02", "refused").unwrap();
    assert!(reason.contains("was the disk copied?"), "{reason}");
    assert_eq!(cn02.boot_count(), boots);
    // The remedy that the message names.
    cn02.run(&["rm", &format!("{NODE_STATE_DIR}/order.json")]).unwrap();
    cn02.run(&["systemctl", "restart", "slurm-rollout-agent", "slurmd"]).unwrap();
    cn01.run(&["touch", "/run/go"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}

/// The node boots and is proven, but has less than slurm.conf promises: Slurm refuses its registration. This is no
/// success, and the node goes back.
#[test]
fn a_node_whose_registration_slurm_refuses() {
    let site = start_with_tool(nodes(1));
    let (cn01, controller) = (site.cluster.node("cn01"), site.cluster.controller());
    let manifest = Manifest::tool("1.1").nodes("cn01").verify_script(UNTIL_GO);
    site.stage(manifest.verify_with("registration_timeout", "15s")).unwrap();
    site.reboot("cn01").unwrap();
    let up = || cn01.exec(&["systemctl", "is-active", AGENT_UNIT]);
    until("its boot", MINUTES, up, |output| cn01.boot_count() == 2 && output.success()).unwrap();
    let memory = |from: &str, to: &str| {
        let edit = format!("s/^\\(NodeName=.*RealMemory=\\){from}$/\\1{to}/");
        for host in [controller, cn01] {
            host.run(&["sed", "-i", &edit, "/etc/slurm/slurm.conf"]).unwrap();
        }
        site.reconfigure().unwrap();
    };
    memory("500", "500000000");
    cn01.run(&["touch", "/run/go"]).unwrap();
    site.wait_phase("tool-1.1", "cn01", "registering").unwrap();
    let note = site.wait_phase("tool-1.1", "cn01", "rolled-back").unwrap();
    assert!(note.contains("INVALID_REG") && note.contains("RealMemory"), "{note}");
    assert_eq!((site.tool("cn01").unwrap().as_str(), cn01.boot_count()), (OLD_TOOL, 3));
    let status = || site.rollout(&["status", "tool-1.1"]);
    until("the exit code of status", MINUTES, status, |status| status.code == Some(3)).unwrap();
    // Not during a reconfigure: a slurmd that re-executes itself for it may miss the signal to stop.
    cn01.run(&["systemctl", "stop", "slurmd"]).unwrap();
    memory("500000000", "500");
    cn01.run(&["systemctl", "start", "slurmd"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}

/// An order comes while the node is going down for another reason and its agent is gone. Slurm takes that boot for
/// the one that it waits for; nothing is applied, and the change stays staged.
#[test]
fn an_order_while_the_node_shuts_down() {
    let site = start_with_tool(nodes(1));
    let node = site.cluster.node("cn01");
    // The shutdown lasts until the test lets it end.
    let slow = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\nTimeoutStopSec=900\n\
         ExecStop=/usr/bin/sh -c '{UNTIL_GO}'\n"
    );
    node.write_file("/run/systemd/system/slow.service", slow, 0o644).unwrap();
    node.run(&["systemctl", "daemon-reload"]).unwrap();
    node.run(&["systemctl", "start", "slow"]).unwrap();
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    node.run(&["systemctl", "reboot"]).unwrap();
    let agent = || node.exec(&["systemctl", "is-active", AGENT_UNIT]);
    until("the agent is gone", MINUTES, agent, |output| !output.success()).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "unreachable").unwrap();
    assert_eq!(node.boot_count(), 1);
    node.run(&["touch", "/run/go"]).unwrap();
    node.wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!((node.boot_count(), site.tool("cn01").unwrap().as_str()), (2, OLD_TOOL));
    site.reboot("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}

/// No room for the new link: the node goes back.
#[test]
fn a_disk_that_is_full_where_the_link_is() {
    let site = start_with_tool(nodes(1));
    let node = site.cluster.node("cn01");
    let full = "mkdir /full; mount -t tmpfs -o nr_inodes=3 full /full; ln -s /opt/app/1 /full/link; touch /full/last";
    node.run(&["sh", "-ec", full]).unwrap();
    site.stage(Manifest::new("tool-1.1", "cn01").symlink("/full/link", "/opt/app/2")).unwrap();
    site.reboot("cn01").unwrap();
    let reason = site.wait_reason("cn01", "No space left").unwrap();
    assert!(reason.contains("change 1 (symlink)"), "{reason}");
    // The file system was in memory, and its link is gone with it: the old state of the node cannot be proven.
    let note = site.wait_phase("tool-1.1", "cn01", "held").unwrap();
    assert!(note.contains("No space left on device"), "{note}");
}
