//! Nodes without a disk: each boot begins with an empty upper layer on the image that the boot server names. They keep no
//! ledger, and are told after their boot what they should be.

// A test may panic.
#![allow(clippy::unwrap_used)]

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
    let spec =
        ClusterSpec { nodes, images: images(), prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
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
