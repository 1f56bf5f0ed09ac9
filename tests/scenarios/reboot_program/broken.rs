//! Broken surroundings: the program orders the nodes that it can and reports the others.

use super::{assert_code, controller, hand_over, link, run, site, wait_said};
use crate::prelude::*;

/// Answers every DNS query with one address.
const DNS: &str = r#"
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
open("/run/dns-is-up", "w")
while True:
    question, asker = server.recvfrom(512)
    end = question.index(0, 12) + 5
    name_and_type = question[12:end]
    is_a = name_and_type[-4:-2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(sys.argv[1]) if is_a else b""
    head = question[:2] + b"\x85\x80\0\1\0" + bytes([is_a]) + b"\0\0\0\0"
    server.sendto(head + name_and_type + answer, asker)
"#;

/// Sends lines until the socket is full.
const FILL_SYSLOG: &str = r#"
import socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log")
log.setblocking(False)
count = 0
try:
    while True:
        log.send(b"<30>lab: filling")
        count += 1
except BlockingIOError:
    print(count)
"#;

/// (5) to (7): nodes that must not be ordered, broken surroundings, and names instead of addresses.
#[test]
fn it_orders_what_it_should_and_says_what_it_could_not() {
    let site = &site(nodes(5));
    in_cases(|cases| {
        cases.check("nodes that were not handed over", || only_nodes_that_slurm_handed_over(site));
        cases.check("called wrongly", || called_wrongly(site));
        cases.check("syslog that is stuck", || syslog_that_is_stuck(site));
        site.stage(link("cn[01-05]")).unwrap();
        hand_over(site, "cn[01-05]", &site.cluster.node_names());
        cases.check("without scontrol", || without_scontrol(site));
        cases.check("without munge", || without_munge(site));
        cases.check("without a state directory", || without_a_state_directory(site));
        cases.check("addresses that are names", || addresses_that_are_names(site));
        cases.check("all nodes are updated", || all_are_updated(site));
    });
}

fn all_are_updated(site: &Site) {
    for node in site.cluster.compute_nodes() {
        node.wait_boots(2, MINUTES).unwrap();
        site.wait_idle(&[node.name()], MINUTES).unwrap();
        site.wait_phase("link", node.name(), "updated").unwrap();
        assert_eq!(node.boot_count(), 2);
    }
}

fn only_nodes_that_slurm_handed_over(site: &Site) {
    let job =
        ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "-w", "cn02", "--wrap", "sleep 600"];
    let job = controller(site).run(&job).unwrap();
    site.cluster.wait_state("cn02", |state| state.starts_with("ALLOCATED"), MINUTES).unwrap();
    for (list, folded) in [("cn01", "cn01"), ("cn02", "cn02"), ("cn01,cn02", "cn[01-02]")] {
        let output = run(site, &[list]);
        assert_code(&output, 2);
        let why = format!("{folded}: not ordered: Slurm has not handed the node over");
        assert!(output.stderr.contains(&why), "{output:?}");
        wait_said(site, &why);
    }
    let output = run(site, &["cn[01-03],nope[7-9]"]);
    assert_code(&output, 2);
    assert!(output.stderr.contains("nope[7-9]: not ordered: Slurm does not know this node"), "{output:?}");
    assert!(output.stderr.contains("0 of 6 ordered"), "{output:?}");
    for name in ["cn01", "cn02", "cn03"] {
        let agent = site.cluster.node(name).journal(AGENT_UNIT).unwrap();
        assert!(!agent.contains("order"), "{agent}");
        assert_eq!(site.reason(name).unwrap(), "");
    }
    let text = site.cluster.scontrol(&["show", "job", "-o", job.trim()]).unwrap();
    assert!(text.contains("JobState=RUNNING") && text.contains("Restarts=0"), "{text}");
    controller(site).run(&["scancel", job.trim()]).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}

fn called_wrongly(site: &Site) {
    let ctl = controller(site);
    ctl.write_file("/etc/wrong.toml", "\nagent_prot = 6821\n", 0o644).unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&[], "no nodes were given: slurm.conf needs SlurmctldParameters=reboot_from_controller"),
        (&["cn[01-"], "the nodes are no hostlist: "),
        (&[""], "the nodes are no hostlist: "),
        (&["--force", "cn01"], "unknown option --force"),
        (&["cn01", "features", "more"], "more arguments than nodes and features: more"),
        (&["cn01", "--config"], "--config needs a file"),
        (&["--config", "/etc/wrong.toml", "cn01"], "cn01: nothing ordered: /etc/wrong.toml: "),
    ];
    for (args, why) in cases {
        let output = run(site, args);
        assert_code(&output, 2);
        assert!(output.stderr.contains(why), "{args:?}: {output:?}");
        wait_said(site, why);
    }
    let help = run(site, &["--help"]);
    assert_code(&help, 0);
    assert!(help.stdout.starts_with("Usage: reboot-program ") && help.stderr.is_empty(), "{help:?}");
}

/// slurmctld 22.05 to 25.11 wait for the program, and stop all other work if enough of these programs hang.
fn syslog_that_is_stuck(site: &Site) {
    let ctl = controller(site);
    let journald = |signal: &str| {
        ctl.run(&["systemctl", "kill", &format!("--signal={signal}"), "systemd-journald"]).unwrap();
    };
    journald("STOP");
    let filled = ctl.run(&["python3", "-c", FILL_SYSLOG]);
    let output = run(site, &["cn01,nope[1-99]"]);
    journald("CONT");
    assert!(filled.unwrap().trim().parse::<u32>().unwrap() > 0);
    assert_code(&output, 2);
    assert!(output.stderr.contains("0 of 100 ordered"), "{output:?}");
}

/// The program relies on slurmctld's list, and on the addresses that Slurm gave last.
fn without_scontrol(site: &Site) {
    let ctl = controller(site);
    let cases = [
        ("cn01", "no-such-scontrol", "", "cannot be started"),
        ("cn02", "hanging-scontrol", "#!/bin/sh\nexec sleep 1000\n", "did not"),
        ("cn03", "stubborn-scontrol", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n", "did not"),
    ];
    for (node, name, script, why) in cases {
        let path = format!("/usr/libexec/lab/{name}");
        if !script.is_empty() {
            ctl.write_file(&path, script, 0o755).unwrap();
        }
        ctl.write_file("/etc/scontrol.toml", format!("scontrol = '{path}'\n"), 0o644).unwrap();
        let output = run(site, &["--config", "/etc/scontrol.toml", node]);
        assert_code(&output, 0);
        assert!(output.stderr.contains(&format!("{node}: 1 of 1 ordered")), "{output:?}");
        let warned =
            output.stderr.lines().any(|line| line.contains("Slurm cannot be asked") && line.contains(why));
        assert!(warned, "{output:?}");
    }
}

fn without_munge(site: &Site) {
    let ctl = controller(site);
    ctl.run(&["systemctl", "stop", "munge"]).unwrap();
    let output = run(site, &["cn04"]);
    ctl.run(&["systemctl", "start", "munge"]).unwrap();
    assert_code(&output, 2);
    let why = "cn04: slurm-rollout link: not ordered: the order cannot be sealed: munged at ";
    assert!(output.stderr.contains(why), "{output:?}");
    wait_said(site, why);
    assert_eq!(site.cluster.node("cn04").boot_count(), 1);
    let note = site.wait_phase("link", "cn04", "unreachable").unwrap();
    assert!(note.contains("cannot be sealed"), "{note}");
}

fn without_a_state_directory(site: &Site) {
    let ctl = controller(site);
    let boots = site.cluster.node("cn05").boot_count();
    let nothing_ordered = |how: &str| {
        let output = run(site, &["cn05"]);
        ctl.run(&["umount", CONTROLLER_STATE_DIR]).unwrap();
        assert_code(&output, 2);
        let why = "cn05: slurm-rollout RebootProgram: not ordered: /var/lib/slurm-rollout/";
        assert!(output.stderr.contains(why) && output.stderr.contains(how), "{how}: {output:?}");
        wait_said(site, why);
        let agent = site.cluster.node("cn05").journal(AGENT_UNIT).unwrap();
        assert!(!agent.contains("order"), "{agent}");
        assert_eq!(site.cluster.node("cn05").boot_count(), boots);
        let reason = site.wait_reason("cn05", how).unwrap();
        assert!(reason.starts_with("slurm-rollout RebootProgram: not ordered: "), "{reason}");
    };
    let read_only = format!(
        "mount --bind {CONTROLLER_STATE_DIR} {CONTROLLER_STATE_DIR} && mount -o remount,bind,ro {CONTROLLER_STATE_DIR}"
    );
    ctl.run(&["sh", "-ec", &read_only]).unwrap();
    nothing_ordered("Read-only file system");
    // The journal is brought to the end of a page: within it there is room even on a full disk.
    let full = format!(
        "cp -a {CONTROLLER_STATE_DIR} /root/state; mount -t tmpfs -o size=256k,mode=755,uid=64030,gid=64030 full {CONTROLLER_STATE_DIR}; \
         cp -a /root/state/. {CONTROLLER_STATE_DIR}/; journal={CONTROLLER_STATE_DIR}/rollouts/link/journal; \
         yes '' | head -c $((4096 - $(stat -c %s $journal) % 4096)) >>$journal; \
         cat /dev/zero >{CONTROLLER_STATE_DIR}/filler || true"
    );
    ctl.run(&["sh", "-ec", &full]).unwrap();
    nothing_ordered("No space left on device");
    site.wait_phase("link", "cn05", "staged").unwrap();
}

/// NodeAddr is a name: one of /etc/hosts, then one of the site's name service only. These nodes could not be ordered
/// before; nothing prevents it now.
fn addresses_that_are_names(site: &Site) {
    let ctl = controller(site);
    let address = site.cluster.node("cn05").address().to_string();
    ctl.write_file("/etc/resolv.conf", "nameserver 127.0.0.1\n", 0o644).unwrap();
    let _dns = ctl.spawn(&["python3", "-c", DNS, &address]).unwrap();
    until("DNS", MINUTES, || ctl.exec(&["test", "-e", "/run/dns-is-up"]), Output::success).unwrap();
    let hosts = ctl.read_file("/etc/hosts").unwrap();
    assert!(hosts.contains(" cn04\n") && !hosts.contains("five"), "{hosts}");
    for (node, name) in [("cn04", "cn04"), ("cn05", "five.lab")] {
        site.cluster.scontrol(&["update", &format!("node={node}"), &format!("nodeaddr={name}")]).unwrap();
        let shown = site.cluster.scontrol(&["show", "node", "-o", node]).unwrap();
        assert!(shown.contains(&format!("NodeAddr={name} ")), "{shown}");
        let output = run(site, &[node]);
        assert_code(&output, 0);
        assert!(output.stderr.contains(&format!("{node}: 1 of 1 ordered")), "{output:?}");
    }
    site.cluster.node("cn05").wait_boots(2, MINUTES).unwrap();
    site.cluster.scontrol(&["update", "node=cn05", &format!("nodeaddr={address}")]).unwrap();
}
