//! `slurm-rollout undo`: a successful rollout is taken back with the records of the ledgers and the journal.

use crate::prelude::*;

fn reach(site: &Site, rollout: &str, node: &str) {
    site.reboot(node).unwrap();
    site.wait_phase(rollout, node, "updated").unwrap();
    site.wait_idle(&[node], MINUTES).unwrap();
}

/// A package of dnf and a link that one of two nodes did not have before; then a package of apt.
#[test]
fn packages_and_links() {
    let tool = |version| Package::new("deb-tool", version).file("/usr/share/deb-tool", version, 0o644);
    let deb = DebRepository::build(&[tool("1.0"), tool("1.1"), Package::new("extra", "1.0")]).unwrap();
    let prepare = prepare_nodes(move |root| {
        deb.install_in(root)?;
        root.run(&["apt-get", "-y", "install", "deb-tool=1.0"]).map(drop)
    });
    let site = start_with_tool(ClusterSpec { prepare, ..nodes(2) });
    let cn02 = site.cluster.node("cn02");
    cn02.run(&["rm", "/opt/app/current"]).unwrap();
    let undo = |args: &[&str]| site.rollout(&[&["undo"], args].concat()).unwrap();

    site.stage(Manifest::tool("1.1").nodes("cn[01-02]")).unwrap();
    assert!(undo(&["tool-1.1"]).stderr.contains("cn[01-02]: nothing to undo"));
    site.reboot("cn[01-02]").unwrap();
    for node in ["cn01", "cn02"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
        site.wait_idle(&[node], MINUTES).unwrap();
    }
    site.stage(Manifest::new("deb", "cn01").packages("apt", &["deb-tool=1.1", "extra"])).unwrap();
    reach(&site, "deb", "cn01");
    let deb_tool = || site.cluster.node("cn01").read_file("/usr/share/deb-tool").unwrap();
    assert_eq!(deb_tool(), "1.1");

    let said = undo(&["tool-1.1", "cn01"]);
    assert!(
        said.code == Some(1) && said.stderr.contains("cn01: has had deb since, undo that first"),
        "{said:?}"
    );
    let said = undo(&["deb", "--dry-run"]).into_stdout().unwrap();
    assert!(
        said.contains("install = [\"deb-tool:all=1.0\"]") && said.contains("remove = [\"extra:all\"]"),
        "{said}"
    );
    let said = undo(&["deb"]).into_stdout().unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=undo-deb cn01"), "{said}");
    reach(&site, "undo-deb", "cn01");
    assert_eq!(deb_tool(), "1.0");
    assert!(!site.cluster.node("cn01").exec(&["dpkg", "-L", "extra"]).unwrap().success());

    // The rollout `deb` has left nothing on cn01, and does not stand in the way.
    let said = undo(&["tool-1.1", "cn01", "--dry-run"]).into_stdout().unwrap();
    assert!(said.contains("/opt/app/current"), "{said}");
    let said = undo(&["tool-1.1", "cn02"]).into_stdout().unwrap();
    assert!(said.contains("undo-tool-1.1: staged for cn02"), "{said}");
    reach(&site, "undo-tool-1.1", "cn02");
    assert_eq!(cn02.run(&["rpm", "-q", "--qf", "%{VERSION}", "tool"]).unwrap(), "1.0");
    assert!(!cn02.exec(&["readlink", "/opt/app/current"]).unwrap().success(), "there was none");
}

/// Image, link and package in one manifest, on a node that boots over the network and has a disk; and all of it undone.
#[test]
fn image_and_link_and_package_on_a_node_with_a_disk() {
    let change = |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file(IMAGES_CONFIG_FILE, BOOT_FILE_CONFIG, 0o644)?;
            root.write_file(BOOT_TEMPLATE_FILE, "boot {image}-{version}\n", 0o644)?;
            root.write_file("/etc/slurm-rollout/boot.before", "boot compute-1\n", 0o644)?;
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        Ok(())
    };
    let images = vec![NetImage::new("compute", "1"), NetImage::new("compute", "2")];
    let site = start_with_tool(ClusterSpec { images, prepare: prepare(change), ..nodes(1) });
    let controller = site.cluster.controller();
    let served = format!("{BOOT_DIRECTORY}/cn01.boot");
    controller.run(&["install", "-o", "slurm", "/etc/slurm-rollout/boot.before", &served]).unwrap();
    let state = || {
        let text = site.cluster.node("cn01").run(&["grep", "IMAGE_VERSION", "/usr/lib/os-release"]).unwrap();
        format!("{} {}", text.trim(), site.tool("cn01").unwrap())
    };
    assert_eq!(state(), "IMAGE_VERSION=1 /opt/app/1 1.0");
    site.stage(Manifest::tool("1.1").nodes("cn01").image("boot-file", "compute", "2")).unwrap();
    reach(&site, "tool-1.1", "cn01");
    assert_eq!(state(), "IMAGE_VERSION=2 /opt/app/2 1.1");
    assert_eq!(site.cluster.node("cn01").boot_count(), 2);
    let said = site.rollout(&["undo", "tool-1.1"]).unwrap().into_stdout().unwrap();
    assert!(said.contains("undo-tool-1.1: staged for cn01"), "{said}");
    assert_eq!(controller.read_file(&served).unwrap(), "boot compute-2\n", "not before the hand-over");
    reach(&site, "undo-tool-1.1", "cn01");
    assert_eq!(state(), "IMAGE_VERSION=1 /opt/app/1 1.0");
    assert_eq!(controller.read_file(&served).unwrap(), "boot compute-1\n");
}
