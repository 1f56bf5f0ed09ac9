//! RebootProgram itself: what it is made of, how every Slurm and worse starts it, and what it does when things are not
//! as they should be. Here slurmctld's own RebootProgram does nothing; ours is run by hand as SlurmUser.

use std::sync::Arc;
use std::time::Duration;

use rollout_core::journal::{Fold, Stand, fold, lines};
use rollout_lab::{Cluster, ClusterSpec, Node, NodeRoot, Output, Product, REBOOT_PROGRAM, Site, until};

const MINUTES: Duration = Duration::from_secs(240);
/// SlurmUser on Debian.
const SLURM: &str = "64030:64030";
/// slurmctld's RebootProgram here.
const NOTHING: &str = "/usr/libexec/lab/nothing";
const STATE: &str = "/var/lib/slurm-rollout";

/// A manifest that needs no package manager.
const LINK: &str = r#"
name = "link"
nodes = "cn[01-02]"
[[change]]
kind = "symlink"
path = "/opt/current"
target = "/opt/2"
"#;

/// Becomes RebootProgram in the way that its first argument names.
const BECOME: &str = r#"
import os, signal, sys
how, argv, environment = sys.argv[1], sys.argv[2:], dict(os.environ)
if how == "as slurmctld 22.05":
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in range(1, 32) if 0x897a27 >> (n - 1) & 1})
    os.closerange(0, 3)
elif how == "as slurmctld 26.05":
    environment = {"SLURM_CONF": "/etc/slurm/slurm.conf"}
elif how == "closed pipes, ignored signals":
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.dup2(write, 2)
elif how == "no environment, no way to the directory":
    environment = {}
    os.mkdir("/tmp/locked")
    os.chdir("/tmp/locked")
    os.chmod("/tmp/locked", 0)
os.execve(argv[0], argv, environment)
"#;

/// Writes down how its process was when it was started, and becomes scontrol. No shell: those change their signals.
const SCONTROL: &str = r#"#!/usr/bin/perl
open(my $status, "<", "/proc/self/status");
open(my $signals, ">>", "/var/log/slurm/signals");
print $signals grep { /^Sig(Blk|Ign)/ } <$status>;
close($signals);
exec("/usr/bin/scontrol", @ARGV);
"#;

/// Answers every question for a name with one address.
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

/// Sends lines until nobody takes more.
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

/// A site on which Slurm hands nodes over and nobody takes them, until the test runs RebootProgram.
fn site(spec: ClusterSpec) -> Site {
    let prepare = |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file(NOTHING, "#!/bin/sh\n", 0o755)?;
        }
        root.run(&["mkdir", "-p", "/opt/2"]).map(drop)
    };
    let spec = ClusterSpec { prepare: Some(Arc::new(prepare)), resume_timeout_s: 600, ..spec };
    let spec = ClusterSpec { reboot_program: NOTHING.into(), ..Product::build().unwrap().install(spec) };
    Site { cluster: Cluster::start(&spec).unwrap() }
}

fn controller(site: &Site) -> &Node {
    site.cluster.controller()
}

/// Has Slurm hand over nodes, each of which must be known by its name.
fn hand_over(site: &Site, list: &str, names: &[&str]) {
    site.reboot(list).unwrap();
    for name in names {
        site.cluster.wait_state(name, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
}

/// Runs RebootProgram as SlurmUser. Its own deadline is 10 s; one that hangs is ended after 30.
fn run(site: &Site, args: &[&str]) -> Output {
    let mut argv = vec!["timeout", "30", REBOOT_PROGRAM];
    argv.extend(args);
    controller(site).exec_as("slurm", &argv).unwrap()
}

fn run_how(site: &Site, how: &str, args: &[&str]) -> Output {
    let mut argv = vec!["timeout", "30", "python3", "-c", BECOME, how, REBOOT_PROGRAM];
    argv.extend(args);
    controller(site).exec_as("slurm", &argv).unwrap()
}

/// What it has said to syslog.
fn said(site: &Site) -> String {
    let journalctl = ["journalctl", "--no-pager", "-o", "cat", "-t", "slurm-rollout-reboot-program"];
    controller(site).run(&journalctl).unwrap()
}

fn wait_said(site: &Site, what: &str) {
    until(&format!("{what:?} in syslog"), MINUTES, || Ok(said(site)), |said| said.contains(what)).unwrap();
}

/// Where the nodes stand that had nothing staged.
fn plain_reboots(site: &Site) -> Fold {
    let journal = controller(site).read_file(&format!("{STATE}/plain-reboots")).unwrap();
    fold(&lines(&journal).collect::<Vec<_>>())
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.code, Some(code), "{:.4000}", output.stderr);
}

/// (1) Static, small, and without name service modules, which a static program must not load.
#[test]
fn it_is_static_and_small_and_looks_up_no_names() {
    let program = Product::build().unwrap().reboot_program().unwrap();
    assert!(program.len() < 3_000_000, "{} bytes", program.len());
    let number = |at: usize, size: usize| {
        program[at..at + size].iter().rev().fold(0_usize, |number, byte| (number << 8) | usize::from(*byte))
    };
    assert_eq!(&program[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    // Program headers: 1 is what is loaded, 2 the dynamic section, 3 the interpreter.
    let headers: Vec<usize> = (0..number(56, 2)).map(|n| number(32, 8) + n * number(54, 2)).collect();
    assert!(headers.iter().any(|at| number(*at, 4) == 1));
    assert!(!headers.iter().any(|at| number(*at, 4) == 3), "it names an interpreter");
    for at in headers.into_iter().filter(|at| number(*at, 4) == 2) {
        let (from, size) = (number(at + 8, 8), number(at + 32, 8));
        let needed = (from..from + size).step_by(16).filter(|entry| number(*entry, 8) == 1).count();
        assert_eq!(needed, 0, "it needs libraries");
    }
    let has = |text: &str| program.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(has("/usr/bin/getent"), "this search finds what is there");
    for forbidden in ["getaddrinfo", "libnss", "nsswitch", "gai.conf", "/etc/passwd"] {
        assert!(!has(forbidden), "{forbidden}");
    }
}

/// (2) to (4): every way to be started, each on a node of its own.
#[test]
fn it_does_its_work_however_it_is_started() {
    let site = site(ClusterSpec { nodes: 7, ..ClusterSpec::default() });
    let names = site.cluster.node_names();
    let ctl = controller(&site);
    ctl.write_file("/usr/libexec/lab/scontrol", SCONTROL, 0o755).unwrap();
    ctl.write_file("/etc/lab.toml", "scontrol = '/usr/libexec/lab/scontrol'\n", 0o644).unwrap();
    ctl.run(&["chown", "slurm:", "/var/log/slurm"]).unwrap();
    site.stage(&LINK.replace("cn[01-02]", "cn07")).unwrap();
    hand_over(&site, "cn[01-07]", &names);

    let flat = run_how(&site, "as slurmctld 22.05", &["--config", "/etc/lab.toml", "cn01,cn02"]);
    assert_code(&flat, 0);
    wait_said(&site, "cn[01-02]: 2 of 2 ordered");
    let ranged = run_how(&site, "as slurmctld 26.05", &["--config=/etc/lab.toml", "cn[03-04]", "nps4,snc"]);
    assert_code(&ranged, 0);
    wait_said(&site, "cn[03-04]: 2 of 2 ordered");
    let args = ["--config", "/etc/lab.toml", "cn05"];
    assert_code(&run_how(&site, "closed pipes, ignored signals", &args), 0);
    wait_said(&site, "cn05: 1 of 1 ordered");
    assert_code(&run_how(&site, "no environment, no way to the directory", &["cn06"]), 0);
    wait_said(&site, "cn06: 1 of 1 ordered");
    assert!(!said(&site).contains("cannot"), "{}", said(&site));

    // What it starts is not to suffer from how it was started: 3 calls, each with a mask and what is ignored.
    let signals = ctl.read_file("/var/log/slurm/signals").unwrap();
    let values = |key: &str| -> Vec<u64> {
        let found = signals.lines().filter_map(|line| line.strip_prefix(key));
        found.map(|value| u64::from_str_radix(value.trim(), 16).unwrap()).collect()
    };
    assert_eq!(values("SigBlk:"), [0, 0, 0]);
    // SIGINT, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD
    let ours = (1 << 1) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 16);
    assert_eq!(values("SigIgn:").iter().map(|ignored| ignored & ours).collect::<Vec<_>>(), [0, 0, 0]);

    the_empty_chroot(&site);

    for node in site.cluster.compute_nodes() {
        node.wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(&names, MINUTES).unwrap();
    for node in site.cluster.compute_nodes() {
        assert_eq!(node.boot_count(), 2);
    }
    assert_eq!(site.cluster.node("cn07").run(&["readlink", "/opt/current"]).unwrap(), "/opt/2\n");
    assert_eq!(site.phase("link", "cn07").unwrap().phase, "updated");
    let plain = plain_reboots(&site);
    assert_eq!(plain.keys().map(String::as_str).collect::<Vec<_>>(), names[..6]);
}

/// Nothing is there but the program, its state directory with a staged rollout, and munged's socket.
fn the_empty_chroot(site: &Site) {
    let ctl = controller(site);
    let script = format!(
        "cd /srv && mkdir -p empty{STATE} empty/run/munge && cp {REBOOT_PROGRAM} empty/ && \
         mount --bind {STATE} empty{STATE} && mount --bind /run/munge empty/run/munge && ls empty"
    );
    assert_eq!(ctl.run(&["sh", "-ec", &script]).unwrap(), "reboot-program\nrun\nvar\n");
    let user = format!("--userspec={SLURM}");
    let chroot = ["timeout", "30", "chroot", &user, "--groups=", "/srv/empty", "/reboot-program", "cn07"];
    let output = ctl.exec(&chroot).unwrap();
    assert_code(&output, 0);
    assert!(output.stderr.contains("cn07: 1 of 1 ordered"), "{output:?}");
    assert!(output.stderr.contains("Slurm cannot be asked, going by what it said last"), "{output:?}");
}

/// (5) to (7): what is not to be ordered, what is broken, and names instead of addresses.
#[test]
fn it_orders_what_it_should_and_says_what_it_could_not() {
    let site = site(ClusterSpec { nodes: 5, ..ClusterSpec::default() });
    only_what_slurm_handed_over(&site);
    called_wrongly(&site);
    syslog_that_is_stuck(&site);

    let names = site.cluster.node_names();
    site.stage(&LINK.replace("cn[01-02]", "cn[01-05]")).unwrap();
    hand_over(&site, "cn[01-05]", &names);
    without_scontrol(&site);
    without_munge(&site);
    without_a_state_directory(&site);
    addresses_that_are_names(&site);

    for node in site.cluster.compute_nodes() {
        node.wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(&names, MINUTES).unwrap();
    for line in site.status("link").unwrap() {
        assert_eq!(line.phase, "updated", "{line:?}");
        assert_eq!(site.cluster.node(&line.node).boot_count(), 2);
    }
}

fn only_what_slurm_handed_over(site: &Site) {
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
        let agent = site.cluster.node(name).journal("slurm-rollout-agent.service").unwrap();
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

/// slurmctld 22.05 to 25.11 wait for the program, and nothing else goes on if enough of them hang.
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

/// Then slurmctld's word has to do, and the addresses that Slurm gave last.
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
    let line = site.phase("link", "cn04").unwrap();
    assert_eq!(line.phase, "unreachable");
    assert!(line.note.as_deref().unwrap_or("").contains("cannot be sealed"), "{line:?}");
}

fn without_a_state_directory(site: &Site) {
    let ctl = controller(site);
    let boots = site.cluster.node("cn05").boot_count();
    let nothing_ordered = |how: &str| {
        let output = run(site, &["cn05"]);
        ctl.run(&["umount", STATE]).unwrap();
        assert_code(&output, 2);
        let why = "cn05: slurm-rollout RebootProgram: not ordered: /var/lib/slurm-rollout/";
        assert!(output.stderr.contains(why) && output.stderr.contains(how), "{how}: {output:?}");
        wait_said(site, why);
        let agent = site.cluster.node("cn05").journal("slurm-rollout-agent.service").unwrap();
        assert!(!agent.contains("order"), "{agent}");
        assert_eq!(site.cluster.node("cn05").boot_count(), boots);
        let reason = site.reason("cn05").unwrap();
        assert!(
            reason.starts_with("slurm-rollout RebootProgram: not ordered: ") && reason.contains(how),
            "{reason}"
        );
    };
    let read_only = format!("mount --bind {STATE} {STATE} && mount -o remount,bind,ro {STATE}");
    ctl.run(&["sh", "-ec", &read_only]).unwrap();
    nothing_ordered("Read-only file system");
    // The journal is brought to the end of a page: within it there is room even on a full disk.
    let full = format!(
        "cp -a {STATE} /root/state; mount -t tmpfs -o size=256k,mode=755,uid=64030,gid=64030 full {STATE}; \
         cp -a /root/state/. {STATE}/; journal={STATE}/rollouts/link/journal; \
         yes '' | head -c $((4096 - $(stat -c %s $journal) % 4096)) >>$journal; \
         cat /dev/zero >{STATE}/filler || true"
    );
    ctl.run(&["sh", "-ec", &full]).unwrap();
    nothing_ordered("No space left on device");
    let line = site.phase("link", "cn05").unwrap();
    assert_eq!(line.phase, "staged", "{line:?}");
}

/// NodeAddr is a name: one of /etc/hosts, then one that only the site's name service knows. These nodes could not be
/// ordered before; with nothing in the way any more they are.
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

/// (8) Two thousand nodes in one argument, none of which answers, and behind them one that does.
#[test]
fn two_thousand_dead_nodes_hold_up_nobody() {
    // Half of them refuse connections, half are silent.
    let dead: String = (0..8)
        .map(|block| {
            let (first, last) = (block * 250 + 1, block * 250 + 250);
            let network = if block % 2 == 0 { "127.1" } else { "10.78" };
            format!(
                "NodeName=a-dead-node-[{first:04}-{last:04}] NodeAddr={network}.{block}.[1-250] State=DOWN \
                 CPUs=1 RealMemory=500\n"
            )
        })
        .collect();
    let site = site(ClusterSpec { nodes: 1, slurm_conf_extra: dead, ..ClusterSpec::default() });
    let ctl = controller(&site);
    // A router that takes packets and says nothing.
    let silence = "ip neighbour replace 10.77.0.99 lladdr 02:00:0a:4d:00:99 dev host0 nud permanent
                   ip route add 10.78.0.0/16 via 10.77.0.99";
    ctl.run(&["sh", "-ec", silence]).unwrap();
    hand_over(&site, "a-dead-node-[0001-2000],cn01", &["cn01", "a-dead-node-0001", "a-dead-node-2000"]);
    let names: Vec<String> = (1..=2000).map(|n| format!("a-dead-node-{n:04}")).collect();
    let list = format!("{},cn01", names.join(","));
    assert!(list.len() > 30_000);

    let output = run(&site, &[&list]);
    assert_code(&output, 1);
    assert!(output.stderr.contains("1 of 2001 ordered"), "{output:?}");
    let plain = plain_reboots(&site);
    assert_eq!(plain.len(), 2001);
    for name in &names {
        let record = &plain[name];
        assert_eq!(record.stand, Stand::Unreachable, "{name}");
        let why = record.why.as_deref().unwrap_or("");
        assert!(why.contains("no answer"), "{name}: {why}");
    }
    for name in ["a-dead-node-0001", "a-dead-node-0251", "a-dead-node-2000"] {
        let reason = site.reason(name).unwrap();
        assert!(reason.starts_with("slurm-rollout plain reboot: not ordered: no answer"), "{reason}");
    }
    site.cluster.node("cn01").wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}
