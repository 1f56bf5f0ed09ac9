//! A cluster as sites have them, see [`make_untidy`]. Its repositories are signed, and the one with the updates drops
//! old versions, which the site keeps in a vault.

use crate::prelude::*;

/// Entry of the vault, from which its nodes were installed.
const VAULT_ENTRY: &str = "/etc/yum.repos.d/vault.repo";

struct Untidy {
    site: Site,
    vault: RpmRepository,
}

fn start_untidy() -> Untidy {
    let other = |version: &str| Package::new("other", version).file("/usr/share/other", version, 0o644);
    let tool = |version: &str| {
        Package::new("tool", version).file("/usr/share/tool/version", &format!("{version}\n"), 0o644)
    };
    let key = SigningKey::new().unwrap();
    let vault = RpmRepository::build_signed("vault", &[tool("1.0"), other("1")], &key).unwrap();
    let updates = RpmRepository::build_signed("updates", &[tool("1.1"), other("2")], &key).unwrap();
    let first = vault.clone();
    let change = move |root: &NodeRoot| {
        if root.is_controller() {
            make_untidy_controller(root)?;
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        make_untidy(root)?;
        first.install_in(root)?;
        // gpg would leave an agent behind that is no process of the node's.
        root.run(&["dnf", "-y", "--setopt=vault.repo_gpgcheck=0", "install", "tool", "other"])?;
        root.run(&["rm", VAULT_ENTRY])?;
        updates.install_in(root)?;
        root.run(&["mkdir", "-p", "/opt/app/1", "/opt/app/2"])?;
        root.run(&["ln", "-s", "/opt/app/1", "/opt/app/current"]).map(drop)
    };
    let slurmctld_parameters = vec!["enable_configless".to_owned()];
    let spec = ClusterSpec { slurmctld_parameters, prepare: prepare(change), ..nodes(3) };
    Untidy { site: start(spec), vault }
}

fn version_of_other(node: &Node) -> String {
    node.run(&["rpm", "-q", "--qf", "%{VERSION}", "other"]).unwrap()
}

/// cn02 is found by its host name, and the others by the option of slurmd.
fn nodes_find_their_names(site: &Site) {
    for (node, origin) in [
        ("cn01", "from -N of slurmd"),
        ("cn02", "by NodeHostName in Slurm's configuration"),
        ("cn03", "from -N of slurmd"),
    ] {
        let machine = site.cluster.node(node);
        assert_eq!(machine.run(&["hostname"]).unwrap().trim(), format!("node-of-{node}"));
        let words = format!("{node}, which Slurm knows; {origin}");
        let doctor = || machine.exec(&[AGENT_PATH, "doctor"]);
        until(&words, MINUTES, doctor, |output| output.stdout.contains(&words)).unwrap();
        let own_name = format!("\"node\":\"{node}\"");
        let status = || Ok(machine.run(&[AGENT_PATH, "status"])?.replace(' ', ""));
        until(&own_name, MINUTES, status, |status| status.contains(&own_name)).unwrap();
    }
}

/// No repository offers the installed version: nothing is changed.
fn a_change_without_a_way_back_is_refused(site: &Site) {
    site.stage(Manifest::new("one-way", "cn01").packages("dnf", &["tool-1.1"])).unwrap();
    site.reboot("cn01").unwrap();
    let note = site.wait_end("one-way", "cn01", "rolled-back").unwrap();
    assert!(note.contains("no repository offers tool-0:1.0-1.noarch any more"), "{note}");
    assert!(note.contains("nothing was changed") && note.contains("no-rollback"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);

    // Unsigned files are refused here.
    let node = site.cluster.node("cn01");
    let unsign = "cp $(find /srv/rpm-repository-updates -name 'tool-*.rpm') /root/unsigned.rpm; \
                  rpmsign --delsign /root/unsigned.rpm";
    node.run(&["sh", "-ec", unsign]).unwrap();
    let install = ["dnf", "-y", "--disablerepo=*", "install", "/root/unsigned.rpm"];
    let refused = node.exec(&install).unwrap();
    let words = [refused.stdout.as_str(), &refused.stderr].concat();
    assert!(!refused.success() && words.contains("GPG check FAILED"), "{refused:?}");
}

/// The vault is disabled, as sites have it, and the manifest enables it. cn01 is updated; cn02 was drained, and stays
/// so; cn03 fails its proof and goes back, although another program has upgraded a package meanwhile.
fn with_the_vault_it_works(untidy: &Untidy) {
    let site = &untidy.site;
    site.cluster.scontrol(&["update", "nodename=cn02", "state=drain", "reason=bad disk"]).unwrap();
    for node in site.cluster.compute_nodes() {
        untidy.vault.install_on(node).unwrap();
        node.run(&["sed", "-i", "s/^enabled=1/enabled=0/", VAULT_ENTRY]).unwrap();
        node.write_file(UPDATE_AT_BOOT, "", 0o644).unwrap();
    }
    let manifest = Manifest::tool("1.1")
        .nodes("cn[01-03]")
        .with("enable_repos", &["vault"])
        .verify_with("mounts", &[AUTOMOUNT])
        .verify_with("timeout", "5s")
        .verify_also(&["/usr/bin/test", "!", "-e", "/etc/fails"]);
    site.cluster.node("cn03").write_file("/etc/fails", "", 0o644).unwrap();
    site.stage(manifest).unwrap();
    site.reboot("cn[01-03]").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    site.wait_phase("tool-1.1", "cn02", "updated").unwrap();
    site.wait_phase("tool-1.1", "cn03", "rolled-back").unwrap();
    site.wait_idle(&["cn01", "cn03"], MINUTES).unwrap();
    site.wait_reason("cn02", "bad disk").unwrap();
    site.cluster.node("cn02").wait_active("slurmd.service").unwrap();
    for (node, tool) in [("cn01", NEW_TOOL), ("cn02", NEW_TOOL), ("cn03", OLD_TOOL)] {
        assert_eq!(site.tool(node).unwrap(), tool, "{node}");
        let other = version_of_other(site.cluster.node(node));
        assert_eq!(other, "2", "{node}: neither undone nor a reason to hold");
    }
}

/// With no order under way, the node comes back by itself.
fn a_power_cut(site: &Site) {
    let cn01 = site.cluster.node("cn01");
    let boots = cn01.boot_count();
    cn01.power_cut();
    cn01.power_on();
    cn01.wait_boots(boots + 1, MINUTES).unwrap();
    cn01.wait_active("slurmd.service").unwrap();
    site.cluster.wait_state("cn01", |state| !state.contains("NOT_RESPONDING"), MINUTES).unwrap();
    site.cluster.scontrol(&["update", "nodename=cn01", "state=resume"]).ok();
}

/// The old version comes from the vault, which the rollout had enabled.
fn an_undo(site: &Site) {
    site.rollout(&["undo", "tool-1.1", "cn[01-02]"]).unwrap().into_stdout().unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("undo-tool-1.1", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    assert_eq!(version_of_other(site.cluster.node("cn01")), "2");
}

#[test]
fn rollouts_on_untidy_nodes() {
    let untidy = &start_untidy();
    let site = &untidy.site;
    in_cases(|cases| {
        cases.check("names of nodes", || nodes_find_their_names(site));
        cases.check("without a way back", || a_change_without_a_way_back_is_refused(site));
        cases.check("with the vault", || with_the_vault_it_works(untidy));
        cases.check("names after boots", || nodes_find_their_names(site));
        cases.check("a power cut", || a_power_cut(site));
        cases.check("an undo", || an_undo(site));
    });
}
