//! RebootProgram itself: its binary, every way in which it is started, and its work when something is broken. Here
//! slurmctld's own RebootProgram does nothing; ours is run by hand as SlurmUser.

mod broken;
mod started;

use crate::prelude::*;
use rollout_core::rollout::journal::{NodeRecords, Progress, lines, replay};

/// Boots a cluster on which handed-over nodes get no order until the test runs RebootProgram.
fn site(spec: ClusterSpec) -> Site {
    let change = |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file(NO_PROGRAM, DOES_NOTHING, 0o755)?;
        }
        root.run(&["mkdir", "-p", "/opt/2"]).map(drop)
    };
    let spec = ClusterSpec { prepare: prepare(change), resume_timeout_s: 600, ..spec };
    let spec = ClusterSpec { reboot_program: NO_PROGRAM.into(), ..Product::build().unwrap().install(spec) };
    Site { cluster: Cluster::start(&spec).unwrap() }
}

fn controller(site: &Site) -> &Node {
    site.cluster.controller()
}

/// A manifest that needs no package manager.
fn link(nodes: &str) -> Manifest {
    Manifest::new("link", nodes).symlink("/opt/current", "/opt/2")
}

/// Has Slurm hand over nodes, given as a list and by their names.
fn hand_over(site: &Site, list: &str, names: &[&str]) {
    site.reboot(list).unwrap();
    for name in names {
        site.cluster.wait_state(name, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
}

/// Runs RebootProgram as SlurmUser. Its own deadline is 10 s; if it hangs it is ended after 30 s.
fn run(site: &Site, args: &[&str]) -> Output {
    let mut argv = vec!["timeout", "30", REBOOT_PROGRAM];
    argv.extend(args);
    controller(site).exec_as("slurm", &argv).unwrap()
}

/// Lines of RebootProgram in syslog.
fn said(site: &Site) -> String {
    let journalctl = ["journalctl", "--no-pager", "-o", "cat", "-t", "slurm-rollout-reboot-program"];
    controller(site).run(&journalctl).unwrap()
}

fn wait_said(site: &Site, what: &str) {
    until(&format!("{what:?} in syslog"), MINUTES, || Ok(said(site)), |said| said.contains(what)).unwrap();
}

/// Journal of the nodes that had nothing staged.
fn plain_reboots(site: &Site) -> NodeRecords {
    let journal = controller(site).read_file(&format!("{CONTROLLER_STATE_DIR}/plain-reboots")).unwrap();
    replay(&lines(&journal).collect::<Vec<_>>())
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.code, Some(code), "{:.4000}", output.stderr);
}

/// (1) Static, small, and without name service modules, which a static program must not load.
#[test]
fn it_is_static_and_small_and_looks_up_no_names() {
    let program = Product::build().unwrap().reboot_program().unwrap();
    assert!(program.len() < 2_400_000, "{} bytes", program.len());
    let number = |at: usize, size: usize| {
        program[at..at + size].iter().rev().fold(0_usize, |number, byte| (number << 8) | usize::from(*byte))
    };
    assert_eq!(&program[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    // Program headers: 1 is a loaded segment, 2 the dynamic section, 3 the interpreter.
    let headers: Vec<usize> = (0..number(56, 2)).map(|n| number(32, 8) + n * number(54, 2)).collect();
    assert!(headers.iter().any(|at| number(*at, 4) == 1));
    assert!(!headers.iter().any(|at| number(*at, 4) == 3), "it names an interpreter");
    for at in headers.into_iter().filter(|at| number(*at, 4) == 2) {
        let (from, size) = (number(at + 8, 8), number(at + 32, 8));
        let needed = (from..from + size).step_by(16).filter(|entry| number(*entry, 8) == 1).count();
        assert_eq!(needed, 0, "it needs libraries");
    }
    let has = |text: &str| program.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(has("/usr/bin/getent"), "the search works");
    for forbidden in ["getaddrinfo", "libnss", "nsswitch", "gai.conf", "/etc/passwd"] {
        assert!(!has(forbidden), "{forbidden}");
    }
}

/// (8) Two thousand silent nodes in one argument, and behind them one that answers.
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
    // A router that takes packets and answers nothing.
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
        assert_eq!(record.progress, Progress::Unreachable, "{name}");
        let why = record.why.as_deref().unwrap_or("");
        assert!(why.contains("no answer"), "{name}: {why}");
    }
    for name in ["a-dead-node-0001", "a-dead-node-0251", "a-dead-node-2000"] {
        site.wait_reason(name, "slurm-rollout plain reboot: not ordered: no answer").unwrap();
    }
    site.cluster.node("cn01").wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}
