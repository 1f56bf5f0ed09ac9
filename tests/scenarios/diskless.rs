//! Nodes without a disk: each boot begins with an empty upper layer on the image that the boot server names. They keep no
//! ledger, and are told after their boot what they should be.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{BOOT_DIRECTORY, ClusterSpec, NetImage, NodeRoot, Output, Product, Site, until};

const MINUTES: Duration = Duration::from_secs(240);
const TIMER: &str = "slurm-rollout-reconcile.timer";
const CONFIG: &str = "[boot_file]\ndirectory = \"/srv/boot\"\nname = \"{node}.boot\"\n\
                      template = \"/etc/slurm-rollout/boot.template\"\n";
const TEMPLATE: &str = "#!lab\n# {node}, {ip}\nboot {image}-{version}\n";

/// Two images that work, one that panics, and one that is not what the boot server calls it.
fn images() -> Vec<NetImage> {
    let made_for = |version: &str| NetImage::new("compute", version).with_file("/opt/app/version", version);
    let broken = NetImage { boots: false, ..NetImage::new("compute", "3") };
    let other = NetImage { served_as: "compute-4".into(), ..NetImage::new("compute", "3.9") };
    vec![made_for("1"), made_for("2"), broken, other]
}

fn site(nodes: u8) -> Site {
    let prepare = |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file("/etc/slurm-rollout/controller.d/images.toml", CONFIG, 0o644)?;
            root.write_file("/etc/slurm-rollout/boot.template", TEMPLATE, 0o644)?;
            return root.enable_units(&[TIMER]);
        }
        root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", "ledger = \"volatile\"\n", 0o644)
    };
    let spec = ClusterSpec {
        nodes,
        images: images(),
        disks: false,
        prepare: Some(Arc::new(prepare)),
        ..ClusterSpec::default()
    };
    Site::start(&Product::build().unwrap(), spec).unwrap()
}

fn manifest(version: &str, nodes: &str, more: &str) -> String {
    format!(
        "name = \"image-{version}\"\nnodes = \"{nodes}\"\n[[change]]\nkind = \"image\"\nvia = \"boot-file\"\n\
         image = \"compute\"\nversion = \"{version}\"\n{more}"
    )
}

fn running(site: &Site, node: &str) -> String {
    let text = site.cluster.node(node).run(&["cat", "/usr/lib/os-release"]).unwrap();
    text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).unwrap().to_owned()
}

fn wait_phase(site: &Site, rollout: &str, node: &str, phase: &str) -> String {
    let seen = until(phase, MINUTES, || site.phase(rollout, node), |line| line.phase == phase);
    seen.unwrap().note.unwrap_or_default()
}

fn boot_file(site: &Site, node: &str) -> Output {
    site.cluster.controller().exec(&["cat", &format!("{BOOT_DIRECTORY}/{node}.boot")]).unwrap()
}

/// Four nodes, two with jobs, from image 1 to image 2, and back by staging the old one; a plain reboot in between.
#[test]
fn from_image_to_image_and_back_while_jobs_run() {
    let site = site(4);
    let all = ["cn01", "cn02", "cn03", "cn04"];
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node, Duration::from_secs(25)).unwrap());
    let said = site.stage(&manifest("2", "cn[01-04]", "")).unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=image-2 cn[01-04]"), "{said}");
    assert!(!boot_file(&site, "cn01").success(), "nothing before the hand-over");
    site.reboot("cn[01-04]").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    let shown = site.rollout(&["status", "-N", "image-2"]).unwrap().stdout;
    let line = |node: &str| -> Vec<String> {
        let images = shown.split("STAGED").nth(1).unwrap();
        let line = images.lines().find(|line| line.starts_with(node)).unwrap_or_else(|| panic!("{shown}"));
        line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    };
    assert_eq!(line("cn01")[2..], ["-", "compute 2", "compute 2"], "{shown}");
    assert_eq!(line("cn03")[2..], ["compute 2", "compute 1", "compute 1"], "{shown}");
    assert!(!boot_file(&site, "cn03").success(), "its job still runs, and what if it reboots by itself?");
    site.wait_idle(&all, MINUTES).unwrap();
    for job in jobs {
        job.ended_well(&site).unwrap();
    }
    for node in all {
        assert_eq!((running(&site, node).as_str(), site.cluster.node(node).boot_count()), ("2", 2));
        assert_eq!(site.phase("image-2", node).unwrap().phase, "updated");
    }
    let text = boot_file(&site, "cn01").stdout;
    assert!(text.contains("# cn01, 10.") && text.ends_with("boot compute-2\n"), "{text}");

    // Nothing is staged, and nothing is waited for but the word of the controller.
    site.reboot("cn01").unwrap();
    site.cluster.node("cn01").wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), "2");
    // Nor is anything waited for where Slurm knows of no reboot.
    let cn02 = site.cluster.node("cn02");
    cn02.power_cut();
    cn02.power_on();
    cn02.wait_boots(3, MINUTES).unwrap();
    let journal = || cn02.journal("slurm-rollout-agent.service");
    until("what it found", MINUTES, journal, |text| text.contains("Slurm expects nothing of this node"))
        .unwrap();

    site.stage(&manifest("1", "cn[01-04]", "")).unwrap();
    until(
        "cn02 is back",
        MINUTES,
        || site.cluster.node_state("cn02"),
        |state| !state.contains("NOT_RESPONDING"),
    )
    .unwrap();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=resume"]).ok();
    site.reboot("cn[01-04]").unwrap();
    for node in all {
        wait_phase(&site, "image-1", node, "updated");
        assert_eq!(running(&site, node), "1");
    }
    site.wait_idle(&all, MINUTES).unwrap();
}

/// An image that does not boot: what the node had is put back when its time is over, so that a power cycle is all it takes;
/// it comes back as it was, and is held.
#[test]
fn an_image_that_does_not_boot() {
    let site = site(1);
    let cn01 = site.cluster.node("cn01");
    let hold = "boot_timeout = \"20s\"\n[verify]\non_failure = \"hold\"\n";
    site.stage(&manifest("3", "cn01", hold)).unwrap();
    site.reboot("cn01").unwrap();
    until("it is gone", MINUTES, || Ok(cn01.is_running()), |running| !running && cn01.boot_count() == 2)
        .unwrap();
    assert!(boot_file(&site, "cn01").stdout.contains("boot compute-3"));
    let reason =
        until("Slurm is told", MINUTES, || site.reason("cn01"), |reason| reason.contains("power-cycle"))
            .unwrap();
    assert!(reason.starts_with("slurm-rollout image-3: the node was not back in time"), "{reason}");
    assert!(!boot_file(&site, "cn01").success(), "there was none before");
    cn01.power_on();
    let note = wait_phase(&site, "image-3", "cn01", "held");
    assert!(note.contains("not back in time"), "{note}");
    assert_eq!(running(&site, "cn01"), "1");
    assert!(!cn01.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    until("the Reason", MINUTES, || site.reason("cn01"), |reason| reason.contains("held: ")).unwrap();
    // Its ledger is in memory only, and it is held all the same.
    cn01.power_cut();
    cn01.power_on();
    cn01.wait_boots(4, MINUTES).unwrap();
    wait_phase(&site, "image-3", "cn01", "held");
    assert!(!cn01.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    // Mended on the boot server: the node is given its image once more.
    let image = site.cluster.directory().join("images/compute-3");
    std::fs::remove_file(image.join("panic")).unwrap();
    site.rollout(&["retry", "cn01"]).unwrap().into_stdout().unwrap();
    wait_phase(&site, "image-3", "cn01", "updated");
    assert_eq!(running(&site, "cn01"), "3");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}

/// An image that boots and is another than was staged: the node goes back by itself.
#[test]
fn an_image_that_is_another() {
    let site = site(1);
    site.stage(&manifest("4", "cn01", "")).unwrap();
    site.reboot("cn01").unwrap();
    let note = wait_phase(&site, "image-4", "cn01", "rolled-back");
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((running(&site, "cn01").as_str(), site.cluster.node("cn01").boot_count()), ("1", 3));
    assert!(!boot_file(&site, "cn01").success(), "there was none before");

    // Held instead, and given back on an admin's word.
    let held = manifest("4", "cn01", "[verify]\non_failure = \"hold\"\n").replace("image-4", "held");
    site.stage(&held).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "held", "cn01", "held");
    site.rollout(&["release", "cn01"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    wait_phase(&site, "held", "cn01", "released");
}

/// The boot server's directory is full, and then nobody may write there: the node is not ordered, and runs on as it was.
#[test]
fn a_boot_server_that_cannot_be_written() {
    let site = site(1);
    let controller = site.cluster.controller();
    site.stage(&manifest("2", "cn01", "")).unwrap();
    let fill = "mkdir /run/full; mount -t tmpfs -o nr_inodes=1,mode=777 full /run/full; \
                mount --bind /run/full /srv/boot";
    controller.run(&["sh", "-ec", fill]).unwrap();
    site.reboot("cn01").unwrap();
    let reason = || site.reason("cn01");
    let why = until("the Reason", MINUTES, reason, |reason| reason.contains("not ordered")).unwrap();
    assert!(why.contains("/srv/boot/cn01.boot") && why.contains("No space left"), "{why}");
    assert_eq!(
        wait_phase(&site, "image-2", "cn01", "unreachable").matches("compute 2 is not given").count(),
        1
    );
    assert_eq!(site.cluster.node("cn01").boot_count(), 1);

    // What stage would have said, and says now.
    let foreign = manifest("2", "cn01", "arch = \"riscv64\"\n").replace("image-2", "foreign");
    let said = site.stage(&foreign).unwrap_err().to_string();
    assert!(said.contains("cn01: the image is for riscv64"), "{said}");
    controller.run(&["umount", "/srv/boot"]).unwrap();
    controller.run(&["chown", "root", "/srv/boot"]).unwrap();
    let said = site.stage(&manifest("2", "cn01", "").replace("image-2", "again")).unwrap_err().to_string();
    assert!(said.contains("slurm cannot write there"), "{said}");
    controller.run(&["chown", "slurm", "/srv/boot"]).unwrap();
    // Slurm still waits for the node, and reconcile sends the order.
    wait_phase(&site, "image-2", "cn01", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), "2");
    let shown = site.rollout(&["show", "image-2"]).unwrap().stdout;
    let images = shown.split("RUNNING").nth(1).unwrap();
    assert!(images.contains("cn01") && images.matches("compute 2").count() == 2, "{shown}");

    // Its ledger is gone, and the journal knows the way back.
    let said = site.rollout(&["undo", "image-2"]).unwrap().into_stdout().unwrap();
    assert!(said.contains("reason=undo-image-2 cn01"), "{said}");
    site.reboot("cn01").unwrap();
    wait_phase(&site, "undo-image-2", "cn01", "updated");
    assert_eq!(running(&site, "cn01"), "1");
    assert!(!boot_file(&site, "cn01").success(), "there was none before");
}

/// No controller's side says what the nodes should be: one starts slurmd when its time is over, the other one is held, and
/// takes what it is told later.
#[test]
fn nodes_that_nobody_tells() {
    let prepare = |root: &NodeRoot| {
        let then = match root.name() {
            "cn01" => "open",
            "cn02" => "hold",
            _ => return Ok(()),
        };
        let text = format!("ledger = \"volatile\"\ngate_timeout = \"3s\"\non_gate_timeout = \"{then}\"\n");
        root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", text, 0o644)
    };
    let (images, disks, prepare) = (images(), false, Some(Arc::new(prepare) as _));
    let spec = ClusterSpec { nodes: 2, images, disks, prepare, ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    site.reboot("cn[01-02]").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let said = site.cluster.node("cn01").journal("slurm-rollout-agent.service").unwrap();
    assert!(said.contains("slurmd may start: nobody said within 3s what this node should be"), "{said}");
    let held = |reason: &String| reason.contains("nobody said within 3s what this node should be");
    until("the Reason", MINUTES, || site.reason("cn02"), held).unwrap();
    let cn02 = site.cluster.node("cn02");
    assert!(!cn02.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    let found = cn02.exec(&["slurm-rollout-agent", "doctor"]).unwrap().stdout;
    assert!(found.contains("slurmd waits until it is known what this node should be"), "{found}");
    site.rollout(&["reconcile", "--wait"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}

/// The controller dies when one of two nodes has been given its image and none has been ordered.
#[test]
fn a_controller_that_dies_between_boot_file_and_order() {
    let site = site(2);
    let controller = site.cluster.controller();
    site.stage(&manifest("2", "cn[01-02]", "")).unwrap();
    let template = "/etc/slurm-rollout/boot.template";
    let once =
        format!("rm {template}; mkfifo -m 644 {template}; echo 'boot {{image}}-{{version}}' >{template}");
    let _writing = controller.spawn(&["sh", "-ec", &once]).unwrap();
    site.reboot("cn[01-02]").unwrap();
    until("one is given it", MINUTES, || Ok(boot_file(&site, "cn01").success()), |given| *given).unwrap();
    controller.power_cut();
    controller.write_file(template, TEMPLATE, 0o644).unwrap();
    controller.power_on();
    for node in ["cn01", "cn02"] {
        wait_phase(&site, "image-2", node, "updated");
        assert_eq!((running(&site, node).as_str(), site.cluster.node(node).boot_count()), ("2", 2));
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
}
