//! Faults of a node that are not the change's fault. What becomes of the node in each is in docs/faults.md.

use std::time::Duration;

use rollout_lab::{ClusterSpec, Node, Product, Site, TOOL_1_1, until};

const MINUTES: Duration = Duration::from_secs(300);
const AGENT: &str = "slurm-rollout-agent.service";
const STATE: &str = "/var/lib/slurm-rollout-agent";
const OLD: &str = "/opt/app/1 1.0";
const NEW: &str = "/opt/app/2 1.1";

fn site(nodes: u8) -> Site {
    let spec = ClusterSpec { nodes, ..ClusterSpec::default() };
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
}

fn wait_phase(site: &Site, node: &str, phase: &str) -> String {
    let line = until(phase, MINUTES, || site.phase("tool-1.1", node), |line| line.phase == phase);
    line.unwrap().note.unwrap_or_default()
}

fn property(node: &Node, name: &str) -> String {
    node.run(&["systemctl", "show", "--value", "-p", name, AGENT]).unwrap().trim().to_owned()
}

/// cn01 boots without munged, cn02 without a network, cn03 has no slurmd, cn04 cannot write to its disk.
#[test]
fn a_node_that_lacks_something() {
    let site = site(4);
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
    cn04.run(&["mount", "--bind", STATE, STATE]).unwrap();
    cn04.run(&["mount", "-o", "remount,bind,ro", STATE]).unwrap();
    // Without slurmd Slurm would wait for it for ever; a node that is DOWN is rebooted at once.
    cluster.scontrol(&["update", "nodename=cn03", "state=down", "reason=test"]).unwrap();
    site.stage(TOOL_1_1).unwrap();
    site.reboot("cn[01-04]").unwrap();

    // No room for the ledger: nothing is done, and the Reason says why.
    let reason = until("a Reason", MINUTES, || site.reason("cn04"), |r| r.contains("Read-only file system"));
    assert!(reason.unwrap().starts_with("slurm-rollout tool-1.1: refused: "));
    assert_eq!((wait_phase(&site, "cn04", "failed").contains("order.json"), cn04.boot_count()), (true, 1));

    cluster.drop_packets("cn02", true).unwrap();
    // Proven without Slurm; whether somebody drained it meanwhile nobody can say, and is asked for a minute.
    for node in [cn01, cn02, cn03] {
        let settled = || node.exec(&["test", "-e", &format!("{STATE}/last.json")]);
        until("settled", MINUTES, settled, |output| node.boot_count() == 2 && output.success()).unwrap();
        assert_eq!(property(node, "StatusText"), "tool-1.1: updated");
    }
    cluster.drop_packets("cn02", false).unwrap();
    cn01.run(&["systemctl", "unmask", "munge.service"]).unwrap();
    // slurmd gives up where there is no munged, and nobody starts it again.
    cn01.run(&["systemctl", "start", "munge.service", "slurmd.service"]).unwrap();
    let put_back =
        "mv /root/slurmd.service /usr/lib/systemd/system/; systemctl daemon-reload; systemctl start slurmd";
    cn03.run(&["sh", "-ec", put_back]).unwrap();
    for node in ["cn01", "cn02", "cn03"] {
        site.wait_idle(&[node], MINUTES).unwrap();
        assert_eq!(site.tool(node).unwrap(), NEW, "{node}");
        wait_phase(&site, node, "updated");
    }

    // Mended, the node gets it by the same hand-over.
    cn04.run(&["umount", STATE]).unwrap();
    assert_eq!(site.tool("cn04").unwrap(), OLD);
    cluster.scontrol(&["update", "nodename=cn04", "state=resume"]).unwrap();
    site.wait_idle(&["cn04"], MINUTES).unwrap();
    site.reboot("cn04").unwrap();
    wait_phase(&site, "cn04", "updated");
    site.wait_idle(&["cn04"], MINUTES).unwrap();
    assert_eq!(site.tool("cn04").unwrap(), NEW);
}

/// The agent's port is taken: it says so and tries again, and slurmd is none the worse. A second agent ends by itself.
#[test]
fn an_agent_whose_port_is_taken() {
    let site = site(1);
    let node = site.cluster.node("cn01");
    let second = node.exec(&["/usr/sbin/slurm-rollout-agent"]).unwrap();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("6821: cannot listen: Address already in use"), "{second:?}");
    assert_eq!(property(node, "ActiveState"), "active");

    node.run(&["systemctl", "stop", AGENT]).unwrap();
    let thief = "import socket, time; s = socket.socket(socket.AF_INET6); s.bind(('::', 6821)); s.listen(); time.sleep(10000)";
    node.run(&["systemd-run", "--unit=thief", "python3", "-c", thief]).unwrap();
    until("the thief", MINUTES, || node.run(&["ss", "-ltn"]), |open| open.contains(":6821")).unwrap();
    let _ = node.exec(&["systemctl", "start", "--no-block", AGENT]).unwrap();
    let tried = || node.run(&["systemctl", "show", "--value", "-p", "NRestarts", AGENT]);
    until("two tries", MINUTES, tried, |count| count.trim().parse::<u32>().is_ok_and(|n| n >= 2)).unwrap();
    assert!(node.journal(AGENT).unwrap().contains("6821: cannot listen: Address already in use"));
    node.run(&["systemctl", "restart", "slurmd"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    node.run(&["systemctl", "stop", "thief"]).unwrap();
    until("the agent", MINUTES, || Ok(property(node, "ActiveState")), |state| state == "active").unwrap();
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn01")).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "cn01", "updated");
}

/// The disk of a node in the middle of an order is copied to another one: what the ledger says is not true there.
#[test]
fn a_copied_disk() {
    let site = site(2);
    let (cn01, cn02) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    let verify = "commands = [[\"/usr/bin/sh\", \"-c\", \"while [ ! -e /run/go ]; do sleep 0.2; done\"]]\n";
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    site.stage(&format!("{}{verify}", head.replace("cn[01-04]", "cn01"))).unwrap();
    site.reboot("cn01").unwrap();
    let ledger = until(
        "its boot",
        MINUTES,
        || cn01.read_file(&format!("{STATE}/order.json")),
        |ledger| cn01.boot_count() == 2 && ledger.contains("\"verifying\""),
    );
    cn02.run(&["systemctl", "stop", AGENT]).unwrap();
    cn02.write_file(&format!("{STATE}/order.json"), ledger.unwrap(), 0o600).unwrap();
    cn02.run(&["systemctl", "start", AGENT]).unwrap();
    assert_eq!(property(cn02, "StatusText"), "no order is taken: the ledger cannot be read");
    let said = cn02.journal(AGENT).unwrap();
    assert!(said.contains("is of cn01, and this is cn02: was the disk copied?"), "{said}");
    // slurmd does not come up there any more, and no order is taken.
    let boots = cn02.boot_count();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=down", "reason=test"]).unwrap();
    site.reboot("cn02").unwrap();
    let reason = until("a Reason", MINUTES, || site.reason("cn02"), |reason| reason.contains("refused"));
    assert!(reason.unwrap().contains("was the disk copied?"));
    assert_eq!(cn02.boot_count(), boots);
    // As the message says.
    cn02.run(&["rm", &format!("{STATE}/order.json")]).unwrap();
    cn02.run(&["systemctl", "restart", "slurm-rollout-agent", "slurmd"]).unwrap();
    cn01.run(&["touch", "/run/go"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

/// The node boots and is proven, and then has less than slurm.conf says of it: Slurm refuses its registration, and
/// never takes it back by itself. That is no success.
#[test]
fn a_node_whose_registration_slurm_refuses() {
    let site = site(1);
    let (cn01, controller) = (site.cluster.node("cn01"), site.cluster.controller());
    let verify = "commands = [[\"/usr/bin/sh\", \"-c\", \"while [ ! -e /run/go ]; do sleep 0.2; done\"]]\n";
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    site.stage(&format!("{}{verify}", head.replace("cn[01-04]", "cn01"))).unwrap();
    site.reboot("cn01").unwrap();
    let up = || cn01.exec(&["systemctl", "is-active", AGENT]);
    until("its boot", MINUTES, up, |output| cn01.boot_count() == 2 && output.success()).unwrap();
    let memory = |from: &str, to: &str| {
        let edit = format!("s/^\\(NodeName=.*RealMemory=\\){from}$/\\1{to}/");
        for host in [controller, cn01] {
            host.run(&["sed", "-i", &edit, "/etc/slurm/slurm.conf"]).unwrap();
        }
        site.cluster.scontrol(&["reconfigure"]).unwrap();
    };
    memory("500", "500000000");
    cn01.run(&["touch", "/run/go"]).unwrap();
    let note = wait_phase(&site, "cn01", "failed");
    assert!(note.starts_with("Slurm refuses its registration: ") && note.contains("RealMemory"), "{note}");
    assert_eq!(site.rollout(&["status", "tool-1.1"]).unwrap().code, Some(3));
    // Not while a reconfigure is done: a slurmd that just starts itself anew for it may not hear that it is to stop.
    cn01.run(&["systemctl", "stop", "slurmd"]).unwrap();
    memory("500000000", "500");
    cn01.run(&["systemctl", "start", "slurmd"]).unwrap();
    wait_phase(&site, "cn01", "updated");
}

/// An order comes while the node is going down for another reason, its agent gone already. Slurm takes that boot for the
/// one that it waits for; nothing is applied, and what is staged still is.
#[test]
fn an_order_while_the_node_shuts_down() {
    let site = site(1);
    let node = site.cluster.node("cn01");
    let slow =
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\nExecStop=/usr/bin/sleep 15\n";
    node.write_file("/run/systemd/system/slow.service", slow, 0o644).unwrap();
    node.run(&["systemctl", "daemon-reload"]).unwrap();
    node.run(&["systemctl", "start", "slow"]).unwrap();
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn01")).unwrap();
    node.run(&["systemctl", "reboot"]).unwrap();
    let agent = || node.exec(&["systemctl", "is-active", AGENT]);
    until("the agent is gone", MINUTES, agent, |output| !output.success()).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "cn01", "unreachable");
    assert_eq!(node.boot_count(), 1);
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!((node.boot_count(), site.tool("cn01").unwrap().as_str()), (2, OLD));
    site.reboot("cn01").unwrap();
    wait_phase(&site, "cn01", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

/// No room for the new link: the node goes back.
#[test]
fn a_disk_that_is_full_where_the_link_is() {
    let site = site(1);
    let node = site.cluster.node("cn01");
    let full = "mkdir /full; mount -t tmpfs -o nr_inodes=3 full /full; ln -s /opt/app/1 /full/link; touch /full/last";
    node.run(&["sh", "-ec", full]).unwrap();
    let manifest = "name = \"tool-1.1\"\nnodes = \"cn01\"\n[[change]]\nkind = \"symlink\"\n\
                    path = \"/full/link\"\ntarget = \"/opt/app/2\"\n";
    site.stage(manifest).unwrap();
    site.reboot("cn01").unwrap();
    let why = until("going back", MINUTES, || site.reason("cn01"), |reason| reason.contains("No space left"));
    assert!(why.unwrap().contains("change 1 (symlink)"));
    // The file system was in memory, and its link is gone with it: the node cannot be proven to be what it was.
    let note = wait_phase(&site, "cn01", "held");
    assert!(note.contains("No space left on device"), "{note}");
}
