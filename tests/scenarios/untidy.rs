//! A cluster as sites have them, see [`make_untidy`].

use crate::prelude::*;

fn site() -> Site {
    let other = |version: &str| Package::new("other", version).file("/usr/share/other", version, 0o644);
    let tool = |version: &str| {
        Package::new("tool", version).file("/usr/share/tool/version", &format!("{version}\n"), 0o644)
    };
    let packages = [tool("1.0"), tool("1.1"), other("1"), other("2")];
    let repository = RpmRepository::build(&packages).unwrap();
    let change = move |root: &NodeRoot| {
        if root.is_controller() {
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        repository.install_in(root)?;
        root.run(&["dnf", "-y", "install", "tool-1.0", "other-1"])?;
        root.run(&["mkdir", "-p", "/opt/app/1", "/opt/app/2"])?;
        root.run(&["ln", "-s", "/opt/app/1", "/opt/app/current"])?;
        make_untidy(root)
    };
    let slurmctld_parameters = vec!["enable_configless".to_owned()];
    start(ClusterSpec { slurmctld_parameters, prepare: prepare(change), ..nodes(3) })
}

/// cn01 is updated; cn02 was drained, and stays so; cn03 fails its proof and goes back, although another program has
/// upgraded a package meanwhile. A power cut and an undo follow.
#[test]
fn a_rollout_on_untidy_nodes() {
    let site = site();
    let all = ["cn01", "cn02", "cn03"];
    site.cluster.scontrol(&["update", "nodename=cn02", "state=drain", "reason=bad disk"]).unwrap();
    for node in all {
        site.cluster.node(node).write_file(UPDATE_AT_BOOT, "", 0o644).unwrap();
    }
    let manifest = Manifest::tool("1.1")
        .nodes("cn[01-03]")
        .verify_with("mounts", &[AUTOMOUNT])
        .verify_with("timeout", "5s");
    let manifest = manifest.verify_also(&["/usr/bin/test", "!", "-e", "/etc/fails"]);
    site.cluster.node("cn03").write_file("/etc/fails", "", 0o644).unwrap();
    site.stage(manifest).unwrap();
    site.reboot("cn[01-03]").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    site.wait_phase("tool-1.1", "cn02", "updated").unwrap();
    site.wait_phase("tool-1.1", "cn03", "rolled-back").unwrap();
    site.wait_idle(&["cn01", "cn03"], MINUTES).unwrap();
    site.wait_reason("cn02", "bad disk").unwrap();
    site.cluster.node("cn02").wait_active("slurmd.service").unwrap();
    assert_eq!(
        (site.tool("cn01").unwrap().as_str(), site.tool("cn03").unwrap().as_str()),
        (NEW_TOOL, OLD_TOOL)
    );
    let other =
        |node: &str| site.cluster.node(node).run(&["rpm", "-q", "--qf", "%{VERSION}", "other"]).unwrap();
    for node in all {
        assert_eq!(other(node), "2", "{node}: neither undone nor a reason to hold");
    }

    // A power cut while nothing is under way: the node comes back by itself.
    let cn01 = site.cluster.node("cn01");
    cn01.power_cut();
    cn01.power_on();
    cn01.wait_boots(3, MINUTES).unwrap();
    cn01.wait_active("slurmd.service").unwrap();
    site.cluster.wait_state("cn01", |state| !state.contains("NOT_RESPONDING"), MINUTES).unwrap();
    site.cluster.scontrol(&["update", "nodename=cn01", "state=resume"]).ok();

    site.rollout(&["undo", "tool-1.1"]).unwrap().into_stdout().unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("undo-tool-1.1", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((site.tool("cn01").unwrap().as_str(), other("cn01").as_str()), (OLD_TOOL, "2"));
}
