//! A program of the site.

use super::{boot_file, manifest, running, site};
use crate::prelude::*;

/// Program of the site.
pub(super) const PATH: &str = "/etc/slurm-rollout/set-image";
const CONFIG: &str = "[command]\nprogram = \"/etc/slurm-rollout/set-image\"\n";
/// Sets the file that the boot server reads.
pub(super) const SET_IMAGE: &str = r#"#!/usr/bin/python3
import json, pathlib, sys

verb, asked = sys.argv[1], json.load(sys.stdin)
answers = {}
for node in asked["nodes"]:
    name = node["name"]
    file = pathlib.Path(f"/srv/boot/{name}.boot")
    if verb == "read":
        answers[name] = {"saved": file.read_text() if file.exists() else None}
    elif verb == "set" and pathlib.Path(f"/srv/boot/{name}.locked").exists():
        answers[name] = {"error": f"{name} is locked by its owner"}
    elif verb == "set":
        file.write_text("boot " + asked["image"]["values"]["served"] + "\n")
    elif verb == "put-back" and node["saved"] is None:
        file.unlink(missing_ok=True)
    elif verb == "put-back":
        file.write_text(node["saved"])
json.dump({"doubts": []} if verb == "check" else {"nodes": answers}, sys.stdout)
"#;

/// From 1 to 2; then an image that is a different one and goes back; then one that the program does not give to one
/// of the nodes: first with an error for that node, then by failing.
#[test]
fn a_program_of_the_site() {
    let site = &site(CONFIG, "");
    in_cases(|cases| {
        cases.check("another image on both", || another_image(site));
        cases.check("a different image goes back", || a_different_image_goes_back(site));
        cases.check("an error for one node", || an_error_for_one_node(site));
        cases.check("a program that fails", || a_program_that_fails(site));
    });
}

fn roll_out(site: &Site, version: &str, nodes: &str) {
    let served = format!("compute-{version}");
    site.stage(manifest("command", version, nodes).value("served", &served)).unwrap();
    site.reboot(nodes).unwrap();
}

fn another_image(site: &Site) {
    roll_out(site, "2", "cn[01-02]");
    for node in ["cn01", "cn02"] {
        site.wait_phase("image-2", node, "updated").unwrap();
        assert_eq!(running(site, node), ("2".to_owned(), 2));
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
}

fn a_different_image_goes_back(site: &Site) {
    roll_out(site, "4", "cn01");
    let note = site.wait_phase("image-4", "cn01", "rolled-back").unwrap();
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    assert_eq!(running(site, "cn01"), ("2".to_owned(), 4));
    assert_eq!(boot_file(site, "cn01"), "boot compute-2\n");
}

fn an_error_for_one_node(site: &Site) {
    site.cluster.controller().run(&["touch", &format!("{BOOT_DIRECTORY}/cn02.locked")]).unwrap();
    roll_out(site, "1", "cn[01-02]");
    site.wait_phase("image-1", "cn01", "updated").unwrap();
    assert_eq!(running(site, "cn01"), ("1".to_owned(), 5));
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let reason = site.wait_reason("cn02", "cn02 is locked by its owner").unwrap();
    assert!(
        reason.starts_with("slurm-rollout image-1: not ordered: compute 1 is not given to it"),
        "{reason}"
    );
    let note = site.wait_phase("image-1", "cn02", "unreachable").unwrap();
    assert!(note.contains("cn02 is locked by its owner"), "{note}");
}

/// Reconcile tries the node again; it gets its image when the program works.
fn a_program_that_fails(site: &Site) {
    let controller = site.cluster.controller();
    let fails = "#!/bin/sh\n[ $1 != set ] || { echo no licence is left >&2; exit 3; }\n\
                 exec python3 /usr/local/lib/set-image $1\n";
    controller.write_file("/usr/local/lib/set-image", SET_IMAGE, 0o644).unwrap();
    controller.write_file(PATH, fails, 0o755).unwrap();
    controller.run(&["rm", &format!("{BOOT_DIRECTORY}/cn02.locked")]).unwrap();
    site.rollout(&["reconcile"]).unwrap();
    site.wait_reason("cn02", "no licence is left").unwrap();
    assert_eq!(running(site, "cn02"), ("2".to_owned(), 2));
    assert_eq!(boot_file(site, "cn02"), "boot compute-2\n");
    controller.write_file(PATH, SET_IMAGE, 0o755).unwrap();
    site.rollout(&["reconcile"]).unwrap();
    site.wait_phase("image-1", "cn02", "updated").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    assert_eq!(running(site, "cn02"), ("1".to_owned(), 3));
}
