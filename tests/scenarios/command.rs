//! Changes of kind `command`: a fake firmware tool that keeps its versions in files. A version that was flashed is active
//! from the next boot on.

use crate::prelude::*;

const FW: &str = "/usr/local/sbin/fw";

/// Files in its directory make it fail (`broken`), hang (`hangs`), flash one version after another (`steps`), or keep
/// the active version at boot (`stuck`).
const TOOL: &str = r#"#!/bin/sh -eu
cd /var/lib/fw
case $1 in
show)
    cat active ;;
flash)
    echo "flash $SLURM_ROLLOUT_NAME $SLURM_ROLLOUT_VERSION" >>log
    if [ -e broken ]; then echo "no power supply" >&2; exit 7; fi
    if [ -e hangs ]; then echo "block 7"; sleep 1000; fi
    if [ -e steps ]; then echo $(($(cat active) + 1)) >flashed; else echo "$SLURM_ROLLOUT_VERSION" >flashed; fi ;;
restore)
    echo "restore $SLURM_ROLLOUT_NAME $SLURM_ROLLOUT_VERSION" >>log
    echo "$SLURM_ROLLOUT_VERSION" >flashed ;;
boot)
    if [ -e flashed ] && ! [ -e stuck ]; then mv flashed active; fi ;;
esac
"#;

const AT_BOOT: &str = "[Unit]\nBefore=slurm-rollout-agent.service\n[Service]\nType=oneshot\n\
                       ExecStart=/usr/local/sbin/fw boot\n[Install]\nWantedBy=multi-user.target\n";

/// Nodes with version 1.
fn with_firmware(count: u8) -> ClusterSpec {
    let prepare = prepare_nodes(|root| {
        root.write_file(FW, TOOL, 0o755)?;
        root.write_file("/var/lib/fw/active", "1\n", 0o644)?;
        root.write_file("/etc/systemd/system/fw-boot.service", AT_BOOT, 0o644)?;
        root.enable_units(&["fw-boot.service"])
    });
    ClusterSpec { prepare, ..nodes(count) }
}

fn firmware(name: &str, nodes: &str, version: &str) -> Manifest {
    Manifest::new(name, nodes).command("bios", version, &[FW, "show"], &[FW, "flash"])
}

fn with_undo(manifest: Manifest) -> Manifest {
    manifest.with("undo", &[FW, "restore"])
}

fn active(site: &Site, node: &str) -> String {
    site.cluster.node(node).read_file("/var/lib/fw/active").unwrap().trim().to_owned()
}

fn log(site: &Site, node: &str) -> Vec<String> {
    let log = site.cluster.node(node).read_file("/var/lib/fw/log").unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn set(site: &Site, node: &str, flag: &str) {
    site.cluster.node(node).write_file(&format!("/var/lib/fw/{flag}"), "", 0o644).unwrap();
}

/// From 1 to 2 on four nodes by `scontrol reboot`. The tool fails on one of them, which goes back; the others are undone
/// afterwards.
#[test]
fn firmware_of_four_nodes_there_and_back() {
    let site = start(with_firmware(4));
    set(&site, "cn02", "broken");
    site.stage(with_undo(firmware("bios-2", "cn[01-04]", "2"))).unwrap();
    let said = site.rollout(&["rehearse", "bios-2"]).unwrap();
    assert!(said.code == Some(4) && said.stdout.contains("bios: 1 -> 2"), "{said:?}");
    assert!(log(&site, "cn01").is_empty(), "a rehearsal flashes nothing");
    site.reboot("cn[01-04]").unwrap();
    for node in ["cn01", "cn03", "cn04"] {
        site.wait_phase("bios-2", node, "updated").unwrap();
        site.wait_idle(&[node], MINUTES).unwrap();
        assert_eq!((active(&site, node), site.cluster.node(node).boot_count()), ("2".into(), 2));
        assert_eq!(log(&site, node), ["flash bios 2"]);
    }
    let note = site.wait_phase("bios-2", "cn02", "rolled-back").unwrap();
    assert!(
        note.contains("change 1 (command): changing bios to 2") && note.contains("no power supply"),
        "{note}"
    );
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    assert_eq!(
        (active(&site, "cn02"), log(&site, "cn02").last().unwrap().as_str()),
        ("1".into(), "restore bios 1")
    );

    let said = site.rollout(&["undo", "bios-2"]).unwrap();
    assert!(said.code == Some(1) && said.stderr.contains("cn02: nothing to undo"), "{said:?}");
    assert!(said.stdout.contains("undo-bios-2: staged for cn[01,03-04]"), "{said:?}");
    site.reboot("cn[01,03-04]").unwrap();
    for node in ["cn01", "cn03", "cn04"] {
        site.wait_phase("undo-bios-2", node, "updated").unwrap();
        site.wait_idle(&[node], MINUTES).unwrap();
        assert_eq!(
            (active(&site, node), log(&site, node)),
            ("1".into(), vec!["flash bios 2".into(), "restore bios 1".into()])
        );
    }
}

/// Several boots in one visit, a tool that hangs, and changes without an undo.
#[test]
fn firmware_that_takes_two_boots_hangs_or_cannot_be_undone() {
    let site = start(with_firmware(4));
    set(&site, "cn01", "steps");
    set(&site, "cn02", "hangs");
    set(&site, "cn03", "stuck");
    site.stage(with_undo(firmware("two-boots", "cn01", "3")).with("boots", &2)).unwrap();
    site.stage(with_undo(firmware("hangs", "cn02", "2")).with("timeout", "3s")).unwrap();
    let controller = site.cluster.controller();
    let no_undo = firmware("no-undo", "cn[03-04]", "2").verify_with("timeout", "3s");
    controller.write_file("/root/no-undo.toml", no_undo.to_string(), 0o644).unwrap();
    let said = site.rollout(&["stage", "/root/no-undo.toml"]).unwrap();
    assert!(said.success() && said.stderr.contains("warning: bios cannot be undone"), "{said:?}");
    let said = site.rollout(&["plan", "no-undo"]).unwrap();
    assert!(said.stdout.contains("no-undo: warning: bios cannot be undone"), "{said:?}");
    site.reboot("cn[01-04]").unwrap();
    in_cases(|cases| {
        cases.check("two boots", || {
            site.wait_phase("two-boots", "cn01", "updated").unwrap();
            site.wait_idle(&["cn01"], MINUTES).unwrap();
            assert_eq!((active(&site, "cn01"), site.cluster.node("cn01").boot_count()), ("3".into(), 3));
            assert_eq!(log(&site, "cn01"), ["flash bios 3", "flash bios 3"]);
        });
        cases.check("a tool that hangs", || {
            let note = site.wait_phase("hangs", "cn02", "rolled-back").unwrap();
            assert!(note.contains("did not end within 3 s and was killed: block 7"), "{note}");
            site.wait_idle(&["cn02"], MINUTES).unwrap();
            let sleeping = site.cluster.node("cn02").exec(&["pgrep", "-x", "sleep", "-a"]).unwrap();
            assert!(!sleeping.stdout.contains("sleep 1000"), "{sleeping:?}");
        });
        cases.check("a version that does not come, without an undo", || {
            let note = site.wait_phase("no-undo", "cn03", "held").unwrap();
            assert!(note.contains("it is 1, not 2") && note.contains("has no `undo`"), "{note}");
            site.wait_reason("cn03", "held: ").unwrap();
            site.rollout(&["release", "cn03"]).unwrap().into_stdout().unwrap();
            site.wait_idle(&["cn03"], MINUTES).unwrap();
        });
        cases.check("an undo that is not there", || {
            site.wait_phase("no-undo", "cn04", "updated").unwrap();
            let said = site.rollout(&["undo", "no-undo", "cn04"]).unwrap();
            let why = "cn04: bios cannot be taken back from 2 to 1";
            assert!(said.code == Some(1) && said.stderr.contains(why), "{said:?}");
        });
    });
}

/// The agent is killed, and the power cut, once `apply` was recorded and once it is done.
#[test]
fn firmware_is_flashed_again_after_a_crash() {
    let spec = ClusterSpec { resume_timeout_s: 900, ..with_firmware(4) };
    let site = Site::start(&Product::build_with_failpoints().unwrap(), spec).unwrap();
    let blows = [
        ("cn01", "recorded-1", false),
        ("cn02", "made-1", false),
        ("cn03", "recorded-1", true),
        ("cn04", "made-1", true),
    ];
    for (node, place, _) in blows {
        site.cluster.node(node).write_file(FAILPOINT, place, 0o600).unwrap();
    }
    site.stage(with_undo(firmware("bios-2", "cn[01-04]", "2"))).unwrap();
    site.reboot("cn[01-04]").unwrap();
    for (name, _, cut) in blows {
        let node = site.cluster.node(name);
        until(
            "the failpoint",
            MINUTES,
            || Ok(node.exec(&["test", "-e", AT_FAILPOINT]).is_ok_and(|output| output.success())),
            |there| *there,
        )
        .unwrap();
        if cut {
            node.power_cut();
            node.power_on();
        } else {
            node.run(&["systemctl", "kill", "-s", "KILL", "--kill-whom=main", AGENT_UNIT]).unwrap();
        }
    }
    for (name, place, cut) in blows {
        site.wait_phase("bios-2", name, "updated").unwrap();
        site.wait_idle(&[name], MINUTES).unwrap();
        assert_eq!(active(&site, name), "2");
        // The version that was flashed is active after the power cut, so that is all.
        let flashed = if place == "made-1" && !cut { 2 } else { 1 };
        assert_eq!(log(&site, name).len(), flashed, "{name} {place} {cut}");
    }
}
