//! Nodes without a disk: each boot begins with an empty upper layer on the image that the boot server names. They
//! keep no ledger, and the controller tells them after their boot what they should be.

mod orders;

use crate::prelude::*;

const TEMPLATE: &str = "#!lab\n# {node}, {ip}\nboot {image}-{version}\n";

/// Two images that work, one that panics, and one that is not what the boot server calls it.
fn images() -> Vec<NetImage> {
    let made_for = |version: &str| NetImage::new("compute", version).with_file("/opt/app/version", version);
    let broken = NetImage { boots: false, ..NetImage::new("compute", "3") };
    let other = NetImage { served_as: "compute-4".into(), ..NetImage::new("compute", "3.9") };
    vec![made_for("1"), made_for("2"), broken, other]
}

fn site(nodes: u8) -> Site {
    site_with(nodes, |root| {
        root.write_file(IMAGES_CONFIG_FILE, BOOT_FILE_CONFIG, 0o644)?;
        root.write_file(BOOT_TEMPLATE_FILE, TEMPLATE, 0o644)
    })
}

/// Boots nodes whose boot sources are changed as `configure` sets up on the controller.
fn site_with(nodes: u8, configure: impl Fn(&NodeRoot) -> Result<()> + Send + Sync + 'static) -> Site {
    let change = move |root: &NodeRoot| {
        if root.is_controller() {
            configure(root)?;
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        make_ledger_volatile(root)
    };
    let spec = ClusterSpec {
        nodes,
        images: images(),
        disks: false,
        prepare: prepare(change),
        ..ClusterSpec::default()
    };
    start(spec)
}

fn manifest(version: &str, nodes: &str) -> Manifest {
    Manifest::new(&format!("image-{version}"), nodes).image("boot-file", "compute", version)
}

fn running(site: &Site, node: &str) -> String {
    let text = site.cluster.node(node).run(&["cat", "/usr/lib/os-release"]).unwrap();
    text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).unwrap().to_owned()
}

fn boot_file(site: &Site, node: &str) -> Output {
    site.cluster.controller().exec(&["cat", &format!("{BOOT_DIRECTORY}/{node}.boot")]).unwrap()
}

/// Four nodes, two with jobs, from image 1 to image 2, and back by staging the old one; a plain reboot in between.
#[test]
fn from_image_to_image_and_back_while_jobs_run() {
    let site = site(4);
    let all = ["cn01", "cn02", "cn03", "cn04"];
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node).unwrap());
    let said = site.stage(manifest("2", "cn[01-04]")).unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=image-2 cn[01-04]"), "{said}");
    assert!(!boot_file(&site, "cn01").success(), "nothing before the hand-over");
    site.reboot("cn[01-04]").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    // Staged, wanted and running image.
    let images = |node: &str| -> Result<Vec<String>> {
        let shown = site.rollout(&["status", "-N", "image-2"])?.stdout;
        let images = shown.split("STAGED").nth(1).unwrap_or_default();
        let line = images.lines().find(|line| line.starts_with(node)).unwrap_or_default();
        let cells = line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty());
        Ok(cells.skip(2).collect())
    };
    for (node, expected) in
        [("cn01", ["-", "compute 2", "compute 2"]), ("cn03", ["compute 2", "compute 1", "compute 1"])]
    {
        until("the images in status", MINUTES, || images(node), |images| *images == expected).unwrap();
    }
    assert!(!boot_file(&site, "cn03").success(), "its job still runs, and what if it reboots by itself?");
    jobs.iter().for_each(|job| job.let_end(&site).unwrap());
    site.wait_idle(&all, MINUTES).unwrap();
    for job in jobs {
        job.ended_well(&site).unwrap();
    }
    for node in all {
        assert_eq!((running(&site, node).as_str(), site.cluster.node(node).boot_count()), ("2", 2));
        site.wait_phase("image-2", node, "updated").unwrap();
    }
    let text = boot_file(&site, "cn01").stdout;
    assert!(text.contains("# cn01, 10.") && text.ends_with("boot compute-2\n"), "{text}");

    // Without a staged change the node waits only for the controller's instructions.
    site.reboot_to_idle("cn01").unwrap();
    assert_eq!(running(&site, "cn01"), "2");
    // It waits for nothing if Slurm knows of no reboot.
    let cn02 = site.cluster.node("cn02");
    cn02.power_cut();
    cn02.power_on();
    cn02.wait_boots(3, MINUTES).unwrap();
    cn02.wait_journal(AGENT_UNIT, "Slurm expects nothing of this node").unwrap();

    site.stage(manifest("1", "cn[01-04]")).unwrap();
    site.cluster.wait_state("cn02", |state| !state.contains("NOT_RESPONDING"), MINUTES).unwrap();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=resume"]).ok();
    site.reboot("cn[01-04]").unwrap();
    for node in all {
        site.wait_phase("image-1", node, "updated").unwrap();
        assert_eq!(running(&site, node), "1");
    }
    site.wait_idle(&all, MINUTES).unwrap();
}

/// An image that does not boot: the node's boot source is put back when its time is over, so that a power cycle is
/// enough. The node comes back as it was, and is held.
#[test]
fn an_image_that_does_not_boot() {
    let site = site(1);
    let cn01 = site.cluster.node("cn01");
    site.stage(manifest("3", "cn01").with("boot_timeout", "20s").on_failure("hold")).unwrap();
    site.reboot("cn01").unwrap();
    until("it is gone", MINUTES, || Ok(cn01.is_running()), |running| !running && cn01.boot_count() == 2)
        .unwrap();
    assert!(boot_file(&site, "cn01").stdout.contains("boot compute-3"));
    let reason = site.wait_reason("cn01", "power-cycle").unwrap();
    assert!(reason.starts_with("slurm-rollout image-3: the node was not back in time"), "{reason}");
    let is_there = || Ok(boot_file(&site, "cn01").success());
    until("no boot file, as before", MINUTES, is_there, |there| !there).unwrap();
    cn01.power_on();
    let note = site.wait_phase("image-3", "cn01", "held").unwrap();
    assert!(note.contains("not back in time"), "{note}");
    assert_eq!(running(&site, "cn01"), "1");
    assert!(!cn01.is_active("slurmd.service").unwrap());
    site.wait_reason("cn01", "held: ").unwrap();
    // Its ledger is in memory only, and the node is still held after a power cut.
    cn01.power_cut();
    cn01.power_on();
    cn01.wait_boots(4, MINUTES).unwrap();
    // The phase alone may be the journal's.
    cn01.wait_property(AGENT_UNIT, "StatusText", "image-3: held").unwrap();
    site.wait_phase("image-3", "cn01", "held").unwrap();
    assert!(!cn01.is_active("slurmd.service").unwrap());
    // Mended on the boot server: the node gets its image once more.
    let image = site.cluster.directory().join("images/compute-3");
    std::fs::remove_file(image.join("panic")).unwrap();
    site.rollout(&["retry", "cn01"]).unwrap().into_stdout().unwrap();
    site.wait_phase("image-3", "cn01", "updated").unwrap();
    assert_eq!(running(&site, "cn01"), "3");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}

/// An image that boots and is not the one that was staged: the node goes back by itself.
#[test]
fn an_image_that_is_another() {
    let site = site(1);
    site.stage(manifest("4", "cn01")).unwrap();
    site.reboot("cn01").unwrap();
    let note = site.wait_phase("image-4", "cn01", "rolled-back").unwrap();
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((running(&site, "cn01").as_str(), site.cluster.node("cn01").boot_count()), ("1", 3));
    assert!(!boot_file(&site, "cn01").success(), "there was none before");

    // Held instead, and released by an admin.
    site.stage(manifest("4", "cn01").named("held").on_failure("hold")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("held", "cn01", "held").unwrap();
    site.rollout(&["release", "cn01"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    site.wait_phase("held", "cn01", "released").unwrap();
}

/// The boot server's directory is full, and later not writable: the node is not ordered, and runs on as it was.
#[test]
fn a_boot_server_that_cannot_be_written() {
    let site = site(1);
    let controller = site.cluster.controller();
    site.stage(manifest("2", "cn01")).unwrap();
    let fill = "mkdir /run/full; mount -t tmpfs -o nr_inodes=1,mode=777 full /run/full; \
                mount --bind /run/full /srv/boot";
    controller.run(&["sh", "-ec", fill]).unwrap();
    site.reboot("cn01").unwrap();
    let why = site.wait_reason("cn01", "not ordered").unwrap();
    assert!(why.contains("/srv/boot/cn01.boot") && why.contains("No space left"), "{why}");
    assert_eq!(
        site.wait_phase("image-2", "cn01", "unreachable").unwrap().matches("compute 2 is not given").count(),
        1
    );
    assert_eq!(site.cluster.node("cn01").boot_count(), 1);

    // `stage` refuses what it can know beforehand.
    let foreign = manifest("2", "cn01").named("foreign").with("arch", "riscv64");
    let said = site.stage(foreign).unwrap_err().to_string();
    assert!(said.contains("cn01: the image is for riscv64"), "{said}");
    controller.run(&["umount", "/srv/boot"]).unwrap();
    controller.run(&["chown", "root", "/srv/boot"]).unwrap();
    let said = site.stage(manifest("2", "cn01").named("again")).unwrap_err().to_string();
    assert!(said.contains("slurm cannot write there"), "{said}");
    controller.run(&["chown", "slurm", "/srv/boot"]).unwrap();
    // Slurm still waits for the node, and reconcile sends the order.
    site.wait_phase("image-2", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), "2");
    let shown = || Ok(site.rollout(&["show", "image-2"])?.stdout);
    let is_running = |shown: &String| {
        let images = shown.split("RUNNING").nth(1).unwrap_or_default();
        images.contains("cn01") && images.matches("compute 2").count() == 2
    };
    until("the images in show", MINUTES, shown, is_running).unwrap();

    // Its ledger is gone; the journal has the way back.
    let said = site.rollout(&["undo", "image-2"]).unwrap().into_stdout().unwrap();
    assert!(said.contains("reason=undo-image-2 cn01"), "{said}");
    site.reboot("cn01").unwrap();
    site.wait_phase("undo-image-2", "cn01", "updated").unwrap();
    assert_eq!(running(&site, "cn01"), "1");
    assert!(!boot_file(&site, "cn01").success(), "there was none before");
}

/// No controller tells the nodes what they should be: one starts slurmd when its time is over, the other one is held
/// and takes later instructions.
#[test]
fn nodes_that_nobody_tells() {
    let change = |root: &NodeRoot| {
        let then = match root.name() {
            "cn01" => "open",
            "cn02" => "hold",
            _ => return Ok(()),
        };
        let text = format!("ledger = \"volatile\"\ngate_timeout = \"3s\"\non_gate_timeout = \"{then}\"\n");
        root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", text, 0o644)
    };
    let spec = ClusterSpec { images: images(), disks: false, prepare: prepare(change), ..nodes(2) };
    let site = start(spec);
    site.reboot("cn[01-02]").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let why = "nobody said within 3s what this node should be";
    site.cluster.node("cn01").wait_journal(AGENT_UNIT, &format!("slurmd may start: {why}")).unwrap();
    site.wait_reason("cn02", why).unwrap();
    let cn02 = site.cluster.node("cn02");
    assert!(!cn02.is_active("slurmd.service").unwrap());
    let found = cn02.exec(&["slurm-rollout-agent", "doctor"]).unwrap().stdout;
    assert!(found.contains("slurmd waits until it is known what this node should be"), "{found}");
    site.rollout(&["reconcile", "--wait"]).unwrap().into_stdout().unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}
