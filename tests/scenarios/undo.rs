//! `slurm-rollout undo`: a rollout that did well is taken back, with what the ledgers and the journal have of it.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{
    BOOT_DIRECTORY, ClusterSpec, DebRepository, NetImage, NodeRoot, Package, Product, Site, TOOL_1_1, until,
};

const MINUTES: Duration = Duration::from_secs(240);
const BOOT_FILE: &str = "[boot_file]\ndirectory = \"/srv/boot\"\nname = \"{node}.boot\"\n\
                         template = \"/etc/slurm-rollout/boot.template\"\n";

fn reach(site: &Site, rollout: &str, node: &str) {
    site.reboot(node).unwrap();
    until("updated", MINUTES, || site.phase(rollout, node), |line| line.phase == "updated").unwrap();
    site.wait_idle(&[node], MINUTES).unwrap();
}

/// A package of dnf and a link, which one of two nodes did not have before; then a package of apt.
#[test]
fn packages_and_links() {
    let tool = |version| Package::new("deb-tool", version).file("/usr/share/deb-tool", version, 0o644);
    let deb = DebRepository::build(&[tool("1.0"), tool("1.1"), Package::new("extra", "1.0")]).unwrap();
    let prepare = move |root: &NodeRoot| {
        if root.is_controller() {
            return Ok(());
        }
        deb.install_in(root)?;
        root.run(&["apt-get", "-y", "install", "deb-tool=1.0"]).map(drop)
    };
    let spec = ClusterSpec { nodes: 2, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let cn02 = site.cluster.node("cn02");
    cn02.run(&["rm", "/opt/app/current"]).unwrap();
    let undo = |args: &[&str]| site.rollout(&[&["undo"], args].concat()).unwrap();

    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn[01-02]")).unwrap();
    assert!(undo(&["tool-1.1"]).stderr.contains("cn[01-02]: nothing to undo"));
    site.reboot("cn[01-02]").unwrap();
    for node in ["cn01", "cn02"] {
        until("updated", MINUTES, || site.phase("tool-1.1", node), |line| line.phase == "updated").unwrap();
        site.wait_idle(&[node], MINUTES).unwrap();
    }
    let apt = "name = \"deb\"\nnodes = \"cn01\"\n[[change]]\nkind = \"packages\"\nmanager = \"apt\"\n\
               install = [\"deb-tool=1.1\", \"extra\"]\n";
    site.stage(apt).unwrap();
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

    // What was undone is no reason any more, but it was the last thing that cn01 had.
    let said = undo(&["tool-1.1"]);
    assert!(said.stderr.contains("cn01: has had undo-deb since"), "{said:?}");
    assert!(said.stdout.contains("undo-tool-1.1: staged for cn02"), "{said:?}");
    reach(&site, "undo-tool-1.1", "cn02");
    assert_eq!(cn02.run(&["rpm", "-q", "--qf", "%{VERSION}", "tool"]).unwrap(), "1.0");
    assert!(!cn02.exec(&["readlink", "/opt/app/current"]).unwrap().success(), "there was none");
}

/// Image, link and package in one manifest, on a node that boots over the network and has a disk; and all of it undone.
#[test]
fn image_and_link_and_package_on_a_node_with_a_disk() {
    let prepare = |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file("/etc/slurm-rollout/controller.d/images.toml", BOOT_FILE, 0o644)?;
            root.write_file("/etc/slurm-rollout/boot.template", "boot {image}-{version}\n", 0o644)?;
            root.write_file("/etc/slurm-rollout/boot.before", "boot compute-1\n", 0o644)?;
            return root.enable_units(&["slurm-rollout-reconcile.timer"]);
        }
        Ok(())
    };
    let images = vec![NetImage::new("compute", "1"), NetImage::new("compute", "2")];
    let spec = ClusterSpec { nodes: 1, images, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let controller = site.cluster.controller();
    let served = format!("{BOOT_DIRECTORY}/cn01.boot");
    controller.run(&["install", "-o", "slurm", "/etc/slurm-rollout/boot.before", &served]).unwrap();
    let image =
        "[[change]]\nkind = \"image\"\nvia = \"boot-file\"\nimage = \"compute\"\nversion = \"2\"\n[verify]";
    let whole = TOOL_1_1.replace("cn[01-04]", "cn01").replace("[verify]", image);
    let state = || {
        let text = site.cluster.node("cn01").run(&["grep", "IMAGE_VERSION", "/usr/lib/os-release"]).unwrap();
        format!("{} {}", text.trim(), site.tool("cn01").unwrap())
    };
    assert_eq!(state(), "IMAGE_VERSION=1 /opt/app/1 1.0");
    site.stage(&whole).unwrap();
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
