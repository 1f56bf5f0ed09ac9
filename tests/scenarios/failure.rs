//! Failures: the node goes back to its old version and reports the cause; a held node stays out of service until an
//! admin releases it.

use crate::prelude::*;

/// Removes tool-1.1 from the repository of a node.
fn without_the_new_version(site: &Site, node: &str) {
    let node = site.cluster.node(node);
    node.run(&["sh", "-c", "rm $(find /srv/rpm-repository -name 'tool-1.1*.rpm')"]).unwrap();
    node.run(&["createrepo_c", "--quiet", "/srv/rpm-repository"]).unwrap();
}

/// Scenario 4, with both ends that a manifest can give it.
#[test]
fn a_package_that_does_not_exist_on_one_node_of_four() {
    let site = start_with_tool(nodes(4));
    without_the_new_version(&site, "cn02");
    in_cases(|cases| {
        cases.check("rollback", || {
            fails_on_cn02_only(&site, "tool-rollback", "rollback", "rolled-back");
            site.wait_idle(&["cn02"], MINUTES).unwrap();
        });
        for node in ["cn01", "cn03", "cn04"].map(|name| site.cluster.node(name)) {
            node.run(&["dnf", "-y", "downgrade", "tool-1.0"]).unwrap();
            node.run(&["ln", "-sfn", "/opt/app/1", "/opt/app/current"]).unwrap();
        }
        cases.check("hold", || {
            fails_on_cn02_only(&site, "tool-hold", "hold", "held");
            let reason = site.wait_reason("cn02", "held: ").unwrap();
            assert!(reason.contains("tool-1.1"), "{reason}");
            site.cluster.wait_state("cn02", |state| state.starts_with("DOWN"), MINUTES).unwrap();
            // An admin gives it back as it is.
            site.rollout(&["release", "cn02"]).unwrap().into_stdout().unwrap();
            site.wait_idle(&["cn02"], MINUTES).unwrap();
            site.wait_phase("tool-hold", "cn02", "released").unwrap();
        });
    });
}

fn fails_on_cn02_only(site: &Site, name: &str, on_failure: &str, phase: &str) {
    let cn02 = site.cluster.node("cn02");
    site.stage(Manifest::tool("1.1").named(name).on_failure(on_failure)).unwrap();
    let boots = cn02.boot_count();
    site.reboot("cn[01-04]").unwrap();
    let reason = site.wait_reason("cn02", "tool-1.1").unwrap();
    assert!(reason.starts_with(&format!("slurm-rollout {name}: ")), "{reason}");
    site.wait_idle(&["cn01", "cn03", "cn04"], MINUTES).unwrap();
    for node in ["cn01", "cn03", "cn04"] {
        site.wait_phase(name, node, "updated").unwrap();
        assert_eq!(site.tool(node).unwrap(), NEW_TOOL);
    }
    cn02.wait_boots(boots + 1, MINUTES).unwrap();
    let note = site.wait_phase(name, "cn02", phase).unwrap();
    assert!(note.contains("tool-1.1"), "{note}");
    assert_eq!(site.tool("cn02").unwrap(), OLD_TOOL);
    // 3: a node needs attention.
    let status = || site.rollout(&["status", name]);
    until("the exit code of status", MINUTES, status, |status| status.code == Some(3)).unwrap();
}

/// Scenario 5: a verify command that fails after the boot.
#[test]
fn a_verify_that_fails_after_the_boot() {
    let site = start_with_tool(nodes(2));
    let manifest = Manifest::tool("1.1").verify(&["/usr/bin/test", "-e", "/etc/licence"]);
    let manifest = manifest.verify_with("timeout", "2s");
    site.stage(manifest.clone().named("rollback").nodes("cn01").on_failure("rollback")).unwrap();
    site.stage(manifest.named("hold").nodes("cn02").on_failure("hold")).unwrap();
    site.reboot("cn[01-02]").unwrap();
    in_cases(|cases| {
        cases.check("back in service on the old version", || goes_back(&site));
        cases.check("held", || is_held(&site));
        cases.check("retried", || is_retried(&site));
    });
}

/// A second reboot, and cn01 is back in service on the old version.
fn goes_back(site: &Site) {
    let node = site.cluster.node("cn01");
    node.wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    let note = site.wait_phase("rollback", "cn01", "rolled-back").unwrap();
    assert!(note.contains("/usr/bin/test -e /etc/licence"), "{note}");
    assert!(note.contains("(tried 2 times)") || note.contains("(tried 3 times)"), "{note}");
    assert_eq!(node.boot_count(), 3);
}

/// slurmd never starts on cn02, so no job lands there.
fn is_held(site: &Site) {
    let node = site.cluster.node("cn02");
    site.wait_phase("hold", "cn02", "held").unwrap();
    let reason = site.wait_reason("cn02", "held: ").unwrap();
    assert!(reason.contains("/etc/licence"), "{reason}");
    assert_eq!(site.tool("cn02").unwrap(), OLD_TOOL);
    assert!(!node.exec(&["systemctl", "start", "slurmd"]).unwrap().success(), "the gate");
    assert!(!node.is_active("slurmd.service").unwrap());
    let job = site.cluster.controller().exec(&["srun", "--immediate=3", "-w", "cn02", "true"]).unwrap();
    assert!(!job.success(), "{job:?}");
    // The same holds after a reboot of its own.
    let boots = node.boot_count();
    let _ = node.exec(&["systemctl", "reboot"]);
    node.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_phase("hold", "cn02", "held").unwrap();
    assert!(!node.is_active("slurmd.service").unwrap());
}

/// The cause is mended: cn01 is staged again, and cn02 carries its order out once more.
fn is_retried(site: &Site) {
    let node = site.cluster.node("cn02");
    node.write_file("/etc/licence", "valid", 0o644).unwrap();
    let staged = site.rollout(&["retry", "cn01"]).unwrap();
    assert!(staged.success() && staged.stdout.contains("cn01 staged again"), "{staged:?}");
    let boots = node.boot_count();
    site.rollout(&["retry", "cn02"]).unwrap().into_stdout().unwrap();
    node.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    assert_eq!(site.tool("cn02").unwrap(), NEW_TOOL);
    site.wait_phase("hold", "cn02", "updated").unwrap();
    let job = site.cluster.controller().exec(&["srun", "-w", "cn02", "hostname"]).unwrap();
    assert_eq!(job.stdout, "cn02\n");
}

/// Changes one link on one node.
fn link(name: &str, node: &str) -> Manifest {
    Manifest::new(name, node).symlink("/opt/app/current", "/opt/app/2")
}

/// Proofs that need time, and proofs that never come.
#[test]
fn proofs_are_patient_and_the_last_one_is_slurms() {
    let site = start_with_tool(nodes(4));
    let [cn01, cn02, cn03, cn04] = ["cn01", "cn02", "cn03", "cn04"].map(|name| site.cluster.node(name));
    // slurmd does not start with the new target.
    let needs = "[Service]\nExecStartPre=/usr/bin/test ! -e /opt/app/current/broken\n";
    cn01.write_file("/etc/systemd/system/slurmd.service.d/needs.conf", needs, 0o644).unwrap();
    cn01.run(&["touch", "/opt/app/2/broken"]).unwrap();
    cn01.run(&["systemctl", "daemon-reload"]).unwrap();
    // A script of the site, and not systemd, starts slurmd.
    let script = "[Unit]\nAfter=network-online.target\n[Service]\nType=oneshot\n\
                  ExecStart=/usr/bin/systemctl start --no-block slurmd\n[Install]\nWantedBy=multi-user.target\n";
    cn02.write_file("/etc/systemd/system/site.service", script, 0o644).unwrap();
    cn02.run(&["systemctl", "disable", "slurmd"]).unwrap();
    cn02.run(&["systemctl", "enable", "site"]).unwrap();
    // The server behind an automount is gone.
    let mount = "[Mount]\nWhat=/dev/gone\nWhere=/scratch\nType=ext4\n";
    cn04.write_file("/etc/systemd/system/scratch.mount", mount, 0o644).unwrap();
    let automount = "[Automount]\nWhere=/scratch\n[Install]\nWantedBy=multi-user.target\n";
    cn04.write_file("/etc/systemd/system/scratch.automount", automount, 0o644).unwrap();
    cn04.run(&["systemctl", "enable", "scratch.automount"]).unwrap();

    site.stage(link("slurmd", "cn01").verify_with("registration_timeout", "15s")).unwrap();
    site.stage(link("disabled", "cn02")).unwrap();
    let late = "echo >>/run/tries; test $(wc -l </run/tries) -ge 3";
    site.stage(link("late", "cn03").verify_script(late).verify_with("mounts", &["/proc"])).unwrap();
    site.stage(link("automount", "cn04").verify_with("mounts", &["/scratch"]).verify_with("timeout", "5s"))
        .unwrap();
    site.reboot("cn[01-04]").unwrap();
    in_cases(|cases| {
        cases.check("a slurmd that cannot start", || {
            site.wait_phase("slurmd", "cn01", "registering").unwrap();
            let note = site.wait_phase("slurmd", "cn01", "rolled-back").unwrap();
            assert!(note.contains("slurmd does not stay up within 15s"), "{note}");
            site.wait_idle(&["cn01"], MINUTES).unwrap();
            assert_eq!(cn01.boot_count(), 3);
        });
        cases.check("a slurmd that a script starts", || {
            site.wait_phase("disabled", "cn02", "updated").unwrap();
            site.wait_idle(&["cn02"], MINUTES).unwrap();
            assert_eq!(cn02.property("slurmd.service", "UnitFileState").unwrap(), "disabled");
        });
        cases.check("a command that fails for a while", || {
            site.wait_phase("late", "cn03", "updated").unwrap();
            assert_eq!(
                (cn03.run(&["wc", "-l", "/run/tries"]).unwrap(), cn03.boot_count()),
                ("3 /run/tries\n".into(), 2)
            );
        });
        cases.check("an automount without its server", || {
            let note = site.wait_phase("automount", "cn04", "rolled-back").unwrap();
            assert!(note.contains("/scratch is not mounted"), "{note}");
            assert_eq!(cn04.boot_count(), 3);
        });
    });
}
