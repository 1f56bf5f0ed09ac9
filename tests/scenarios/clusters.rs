//! The lab itself, and its promises to the scenarios.

// A test may panic, and starts no part of the product.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::prelude::*;

const MARKED: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn every_base_makes_an_idle_cluster() {
    in_cases(|cases| {
        for base in Base::ALL {
            cases.check(base.suite(), || an_idle_cluster(base));
        }
    });
}

fn an_idle_cluster(base: Base) {
    let prepared = Instant::now();
    base.prepare().unwrap();
    let started = Instant::now();
    let spec = ClusterSpec { base, nodes: 4, node_addr: NodeAddr::Name, ..ClusterSpec::default() };
    let cluster = Cluster::start(&spec).unwrap();
    let idle = Instant::now();
    println!("{}", cluster.scontrol(&["--version"]).unwrap().trim());
    let ids: Vec<_> = cluster.compute_nodes().iter().map(|node| node.boot_id().unwrap()).collect();
    cluster.scontrol(&["reboot", "ASAP", "nextstate=resume", "cn[01-04]"]).unwrap();
    for (node, id) in cluster.compute_nodes().iter().zip(ids) {
        cluster.wait_state(node.name(), |state| state == "IDLE", MINUTES).unwrap();
        assert_ne!(node.boot_id().unwrap(), id);
        assert_eq!(node.boot_count(), 2);
    }
    let rebooted = Instant::now();
    println!(
        "{base:?}: base {:.1?}, start {:.1?}, reboot {:.1?}",
        started - prepared,
        idle - started,
        rebooted - idle
    );
}

#[test]
fn slurmctld_runs_what_was_installed_for_it() {
    in_cases(|cases| {
        for base in Base::ALL {
            cases.check(base.suite(), || slurmctld_runs_its_program(base));
        }
    });
}

fn slurmctld_runs_its_program(base: Base) {
    let program = "/usr/libexec/lab/record";
    let prepare: Prepare = Arc::new(move |root| {
        if root.is_controller() {
            root.write_file(program, "#!/bin/sh\necho \"$*\" >/var/log/slurm/called\n", 0o755)?;
        }
        root.write_file("/etc/systemd/system/marked.service", MARKED, 0o644)
    });
    let cluster = Cluster::start(&ClusterSpec {
        base,
        reboot_program: program.into(),
        reboot_from_controller: true,
        slurmctld_parameters: vec!["power_save_interval=1".into()],
        prepare: Some(prepare),
        node_files: vec![File::new("/etc/os-release", "/etc/from-host", 0o600)],
        enable_units_on_nodes: vec!["marked.service".into()],
        ..ClusterSpec::default()
    })
    .unwrap();
    let node = cluster.node("cn02");
    assert_eq!(node.run(&["stat", "-c", "%a", "/etc/from-host"]).unwrap(), "600\n");
    node.wait_booted(MINUTES).unwrap();
    assert_eq!(node.run(&["systemctl", "is-active", "marked.service"]).unwrap(), "active\n");
    assert!(!cluster.controller().exec(&["systemctl", "is-active", "marked.service"]).unwrap().success());
    cluster.scontrol(&["reboot", "ASAP", "nextstate=resume", "cn[01-02]"]).unwrap();
    cluster.wait_state("cn02", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    let until = Instant::now() + MINUTES;
    let called = loop {
        match cluster.controller().read_file("/var/log/slurm/called") {
            Ok(called) if !called.is_empty() => break called,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(["cn01,cn02\n", "cn[01-02]\n"].contains(&called.as_str()), "{called}");
}

#[test]
fn no_unit_fails_in_a_container() {
    in_cases(|cases| {
        for base in Base::ALL {
            cases.check(base.suite(), || no_unit_fails(base));
        }
    });
}

fn no_unit_fails(base: Base) {
    let cluster = Cluster::start(&ClusterSpec { base, ..nodes(1) }).unwrap();
    for node in [cluster.controller(), cluster.node("cn01")] {
        node.wait_booted(MINUTES).unwrap();
        assert_eq!(node.run(&["systemctl", "--failed", "--plain", "--no-legend"]).unwrap(), "", "{base:?}");
        println!("{}", node.run(&["systemd-analyze"]).unwrap());
    }
}

#[test]
fn a_power_cut_is_the_end_of_a_boot_and_only_of_that() {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    let node = cluster.node("cn01");
    node.write_file("/root/kept", "on disk", 0o600).unwrap();
    let id = node.boot_id().unwrap();
    let job = node.spawn(&["sleep", "1000"]).unwrap();
    node.power_cut();
    assert!(!node.is_running());
    assert!(node.run(&["true"]).is_err());
    assert_eq!(node.read_file("/root/kept").unwrap(), "on disk");
    node.write_file("/etc/while-off", "written while off", 0o644).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!node.is_running() && !job.is_running());
    assert_eq!(node.boot_count(), 1);
    node.power_on();
    node.wait_boots(2, MINUTES).unwrap();
    assert_ne!(node.boot_id().unwrap(), id);
    assert_eq!(node.read_file("/etc/while-off").unwrap(), "written while off");
}

/// A container that ends stops all its processes for a moment, those that came in from outside included.
#[test]
fn commands_that_run_do_not_hold_up_a_reboot() {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    let node = cluster.node("cn01");
    let jobs: Vec<_> = (0..5).map(|_| node.spawn(&["sleep", "1000"]).unwrap()).collect();
    for boot in 2..=6 {
        node.exec(&["systemctl", "reboot"]).unwrap();
        node.wait_boots(boot, MINUTES).unwrap();
    }
    assert!(jobs.iter().all(|job| !job.is_running()));
}

#[test]
fn a_node_that_powers_itself_off_stays_off() {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    let node = cluster.node("cn01");
    node.exec(&["systemctl", "poweroff"]).unwrap();
    let until = Instant::now() + MINUTES;
    while node.is_running() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(!node.is_running());
    assert_eq!(node.boot_count(), 1);
}

#[test]
fn dropped_packets_are_lost_in_silence_over_boots_until_they_are_not() {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    let (controller, node) = (cluster.controller(), cluster.node("cn01"));
    let connect = format!("exec 3<>/dev/tcp/{}/6818", node.address());
    let connect = ["timeout", "5", "bash", "-c", connect.as_str()];
    let connects = || Ok(controller.exec(&connect)?.success());
    until("a connection", MINUTES, connects, |connects| *connects).unwrap();
    cluster.drop_packets("cn01", true).unwrap();
    // 124 is timeout's: neither refused nor unreachable.
    assert_eq!(controller.exec(&connect).unwrap().code, Some(124));
    cluster.drop_packets("cn01", false).unwrap();
    until("a connection", MINUTES, connects, |connects| *connects).unwrap();
    cluster.drop_packets("cn01", true).unwrap();
    node.exec(&["systemctl", "reboot"]).unwrap();
    node.wait_boots(2, MINUTES).unwrap();
    assert_eq!(controller.exec(&connect).unwrap().code, Some(124));
    cluster.drop_packets("cn01", false).unwrap();
    cluster.wait_state("cn01", |state| state == "IDLE" || state == "DOWN", MINUTES).unwrap();
    until("a connection", MINUTES, connects, |connects| *connects).unwrap();
}

#[test]
fn clusters_do_not_see_each_other() {
    let start = || Cluster::start(&nodes(1)).unwrap();
    let other = std::thread::spawn(start);
    let (one, other) = (start(), other.join().unwrap());
    one.node("cn01").write_file("/root/mine", "", 0o600).unwrap();
    assert!(other.node("cn01").read_file("/root/mine").is_err());
    one.scontrol(&["update", "node=cn01", "state=drain", "reason=mine"]).unwrap();
    assert_eq!(one.node_state("cn01").unwrap(), "IDLE+DRAIN");
    assert_eq!(other.node_state("cn01").unwrap(), "IDLE");
    drop(one);
    assert_eq!(other.node_state("cn01").unwrap(), "IDLE");
}

#[test]
fn commands_run_as_whom_and_how_they_are_told() {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    let controller = cluster.controller();
    assert_eq!(controller.exec_as("slurm", &["id", "-un"]).unwrap().stdout, "slurm\n");
    let told = controller.command(&["sh", "-c", "echo $SLURM_TIME_FORMAT; id -u"]).unwrap();
    let told = told.env("SLURM_TIME_FORMAT", "%s").user("slurm").run().unwrap();
    assert_eq!(told, "%s\n64030\n");
    let failed = controller.exec(&["sh", "-c", "echo said >&2; exit 3"]).unwrap();
    assert_eq!((failed.code, failed.stderr.as_str()), (Some(3), "said\n"));
    assert!(controller.run(&["false"]).unwrap_err().to_string().contains("`false` ended with Some(1)"));
    let hung = controller.command(&["sleep", "100"]).unwrap().limit(Duration::from_millis(200)).output();
    assert!(hung.unwrap_err().to_string().contains("the end of `sleep 100`"));
    // A process in the background does not hold the command.
    let started = Instant::now();
    assert_eq!(controller.run(&["sh", "-c", "sleep 100 & echo x"]).unwrap(), "x\n");
    assert!(started.elapsed() < Duration::from_secs(50));
}

#[test]
fn hostnames_are_what_each_scontrol_says() {
    for base in Base::ALL {
        let (names, _) = base.scontrol_show_hostnames("cn[01-03,7]").unwrap();
        assert_eq!(names, ["cn01", "cn02", "cn03", "cn7"]);
        let (names, said) = base.scontrol_show_hostnames("cn[3-1]").unwrap();
        assert!(!said.is_empty(), "{names:?}");
    }
}

/// Variable of the process that is killed, which is this test program once more: the file for its cluster's directory.
const HOLDER: &str = "LAB_HOLDER";

fn hold_a_cluster(told: &str) {
    let cluster = Cluster::start(&nodes(1)).unwrap();
    std::fs::write(told, cluster.directory().to_str().unwrap()).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_holder_leaves_nothing() {
    if let Ok(told) = std::env::var(HOLDER) {
        return hold_a_cluster(&told);
    }
    let told = std::env::temp_dir().join(format!("lab-holder-{}", std::process::id()));
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "clusters::a_killed_holder_leaves_nothing"])
        .env(HOLDER, &told)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let until = Instant::now() + MINUTES;
        while !done() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("the holder's cluster", &|| std::fs::read_to_string(&told).is_ok_and(|text| !text.is_empty()));
    let directory = std::fs::read_to_string(&told).unwrap();
    std::fs::remove_file(&told).unwrap();
    assert!(!processes_that_name(&directory).is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait("the end of its processes", &|| processes_that_name(&directory).is_empty());
    wait("the end of its directory", &|| !Path::new(&directory).exists());
    let id = Path::new(&directory).file_name().unwrap();
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        assert!(!Path::new(hierarchy).join("rollout-lab").join(id).exists());
    }
}

/// The processes with this directory in their command line or among their mounts.
fn processes_that_name(directory: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let names = |file: &Path| {
        std::fs::read(file).is_ok_and(|content| String::from_utf8_lossy(&content).contains(directory))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let process = entry.path();
        entry.file_name() != own.as_str()
            && (names(&process.join("cmdline")) || names(&process.join("mountinfo")))
    });
    processes.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
