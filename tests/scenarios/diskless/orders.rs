//! Orders of nodes without a disk that the controller does not know to be taken: it dies, cannot record the answer, or
//! sends another order. No such node comes into service unproven.

use super::{boot_file, manifest, running, site_with};
use crate::prelude::*;

const PROVIDER: &str = "/etc/slurm-rollout/set-image";

/// Content of a provider that runs `after_first` once the first node has its boot file, and `at_end` after the last
/// one.
fn provider(after_first: &str, at_end: &str) -> String {
    format!(
        "#!/bin/sh\n\
         set -eu\n\
         nodes=$(grep -o '\"name\":\"[^\"]*\"' | cut -d'\"' -f4)\n\
         lock={CONTROLLER_STATE_DIR}/lock\n\
         case $1 in\n\
         read) printf '{{\"nodes\":{{'; separator=\n\
               for node in $nodes; do printf '%s\"%s\":{{\"saved\":\"none\"}}' \"$separator\" $node; separator=,; done\n\
               echo '}}}}' ;;\n\
         set) for node in $nodes; do echo 'boot compute-2' >{BOOT_DIRECTORY}/$node.boot; {after_first}; done; {at_end} ;;\n\
         put-back) for node in $nodes; do rm -f {BOOT_DIRECTORY}/$node.boot; done ;;\n\
         esac\n"
    )
}

/// Boots nodes whose boot files a site's own program writes.
fn site_with_provider(nodes: u8, after_first: &str, at_end: &str) -> Site {
    let provider = provider(after_first, at_end);
    site_with(nodes, move |root| {
        root.write_file(IMAGES_CONFIG_FILE, format!("[command]\nprogram = \"{PROVIDER}\"\n"), 0o644)?;
        root.write_file(PROVIDER, &provider, 0o755)
    })
}

fn command(nodes: &str) -> Manifest {
    Manifest::new("image-2", nodes).image("command", "compute", "2")
}

/// The controller dies after one of two nodes has got its image and before any has been ordered.
#[test]
fn the_controller_dies_between_boot_source_and_order() {
    let site = site_with_provider(2, "sleep 60", "true");
    let controller = site.cluster.controller();
    site.stage(command("cn[01-02]")).unwrap();
    site.reboot("cn[01-02]").unwrap();
    until("one is given it", MINUTES, || Ok(boot_file(&site, "cn01").success()), |given| *given).unwrap();
    controller.power_cut();
    controller.write_file(PROVIDER, provider("true", "true"), 0o755).unwrap();
    controller.power_on();
    for node in ["cn01", "cn02"] {
        site.wait_phase("image-2", node, "updated").unwrap();
        assert_eq!((running(&site, node).as_str(), site.cluster.node(node).boot_count()), ("2", 2));
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
}

/// The agent takes the order, and its answer does not reach the journal: the lock is held until the node has long
/// booted. The node is in the new image then, and must be proven before it comes into service.
#[test]
fn the_answer_is_not_recorded() {
    let hold =
        "setsid flock $lock sleep 15 </dev/null >/dev/null 2>&1 & while flock -n $lock true; do :; done";
    let site = site_with_provider(1, "true", hold);
    // /run is empty after a boot: the file is left by the proof of this boot.
    site.stage(command("cn01").verify_script("touch /run/proven")).unwrap();
    site.reboot("cn01").unwrap();
    let cn01 = site.cluster.node("cn01");
    cn01.wait_boots(2, MINUTES).unwrap();
    let answers = |lines: &Vec<serde_json::Value>| lines.iter().any(|line| line["ordered"].is_object());
    assert!(!answers(&site.journal("image-2").unwrap()), "the order was recorded");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert!(cn01.has("/run/proven").unwrap(), "in service and not proven");
    assert_eq!((running(&site, "cn01").as_str(), cn01.boot_count()), ("2", 2));
    site.wait_phase("image-2", "cn01", "updated").unwrap();
    assert!(boot_file(&site, "cn01").success(), "a proven image stays");
}

/// A node is handed over a second time while its order is under way, and loses power in the middle of its proof.
#[test]
fn a_second_hand_over_while_the_order_is_under_way() {
    let site = super::site(1);
    let prove = "until [ -e /run/go ]; do sleep 0.2; done; touch /run/proven";
    site.stage(manifest("2", "cn01").verify_script(prove)).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("image-2", "cn01", "verifying").unwrap();
    // An admin takes the first reboot back, and Slurm hands the node over once more: at once, as it is DOWN.
    for change in [&["state=resume"][..], &["state=down", "reason=impatience"]] {
        site.cluster.scontrol(&[&["update", "nodename=cn01"], change].concat()).unwrap();
    }
    site.reboot("cn01").unwrap();
    let log = ["journalctl", "--no-pager", "-o", "cat", "-t", "slurm-rollout-reboot-program"];
    let second = |log: &String| log.contains("its boot source still belongs to an earlier order");
    until("the second hand-over", MINUTES, || site.cluster.controller().run(&log), second).unwrap();
    let cn01 = site.cluster.node("cn01");
    cn01.power_cut();
    cn01.power_on();
    // The boot ends only with the proof.
    until("the boot", MINUTES, || Ok(cn01.boot_count()), |boots| *boots == 3).unwrap();
    site.wait_phase("image-2", "cn01", "verifying").unwrap();
    assert!(!cn01.is_active("slurmd.service").unwrap(), "in service and not proven");
    cn01.write_file("/run/go", "", 0o644).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert!(cn01.has("/run/proven").unwrap(), "in service and not proven");
    assert_eq!((running(&site, "cn01").as_str(), cn01.boot_count()), ("2", 3));
    site.wait_phase("image-2", "cn01", "updated").unwrap();
}
