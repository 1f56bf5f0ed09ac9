//! What fails goes back to what was before, and says why; what is held stays out of service until an admin says so.

use std::time::Duration;

use rollout_lab::{ClusterSpec, Product, Site, TOOL_1_1, until};

const MINUTES: Duration = Duration::from_secs(240);

fn site(nodes: u8) -> Site {
    let spec = ClusterSpec { nodes, ..ClusterSpec::default() };
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
}

/// Makes tool-1.1 unknown on a node: its repository has only what is installed.
fn without_the_new_version(site: &Site, node: &str) {
    let node = site.cluster.node(node);
    node.run(&["sh", "-c", "rm $(find /srv/rpm-repository -name 'tool-1.1*.rpm')"]).unwrap();
    node.run(&["createrepo_c", "--quiet", "/srv/rpm-repository"]).unwrap();
}

/// Scenario 4, with both ends that a manifest can give it.
#[test]
fn a_package_that_does_not_exist_on_one_node_of_four() {
    let site = site(4);
    without_the_new_version(&site, "cn02");
    for on_failure in ["rollback", "hold"] {
        let name = format!("tool-{on_failure}");
        let manifest = TOOL_1_1.replace("tool-1.1\"\nnodes", &format!("{name}\"\nnodes"));
        site.stage(&format!("{manifest}on_failure = \"{on_failure}\"\n")).unwrap();
        let boots = site.cluster.node("cn02").boot_count();
        site.reboot("cn[01-04]").unwrap();
        let reason = until(
            "a Reason with the cause",
            MINUTES,
            || site.reason("cn02"),
            |reason| reason.contains("tool-1.1"),
        );
        let reason = reason.unwrap();
        assert!(reason.starts_with(&format!("slurm-rollout {name}: ")), "{reason}");
        site.wait_idle(&["cn01", "cn03", "cn04"], MINUTES).unwrap();
        for node in ["cn01", "cn03", "cn04"] {
            assert_eq!(site.phase(&name, node).unwrap().phase, "updated");
            assert_eq!(site.tool(node).unwrap(), "/opt/app/2 1.1");
        }
        site.cluster.node("cn02").wait_boots(boots + 1, MINUTES).unwrap();
        let phase = if on_failure == "hold" { "held" } else { "rolled-back" };
        let line = until(phase, MINUTES, || site.phase(&name, "cn02"), |line| line.phase == phase).unwrap();
        assert!(line.note.as_deref().unwrap_or("").contains("tool-1.1"), "{line:?}");
        assert_eq!(site.tool("cn02").unwrap(), "/opt/app/1 1.0");
        let status = site.rollout(&["status", &name]).unwrap();
        assert_eq!(status.code, Some(3), "a node needs attention");
        if on_failure == "rollback" {
            site.wait_idle(&["cn02"], MINUTES).unwrap();
            // Back to where all began, for the second round.
            for node in ["cn01", "cn03", "cn04"] {
                let node = site.cluster.node(node);
                node.run(&["dnf", "-y", "downgrade", "tool-1.0"]).unwrap();
                node.run(&["ln", "-sfn", "/opt/app/1", "/opt/app/current"]).unwrap();
            }
        } else {
            let reason = site.reason("cn02").unwrap();
            assert!(reason.contains("held: ") && reason.contains("tool-1.1"), "{reason}");
            assert!(site.cluster.node_state("cn02").unwrap().starts_with("DOWN"));
            // Given back as it is, on an admin's word.
            site.rollout(&["release", "cn02"]).unwrap().into_stdout().unwrap();
            site.wait_idle(&["cn02"], MINUTES).unwrap();
            assert_eq!(site.phase(&name, "cn02").unwrap().phase, "released");
        }
    }
}

/// Scenario 5: a verify command that fails after the boot.
#[test]
fn a_verify_that_fails_after_the_boot() {
    let site = site(2);
    let verify = "commands = [[\"/usr/bin/test\", \"-e\", \"/etc/licence\"]]";
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    let manifest = |name: &str, node: &str, on_failure: &str| {
        let head =
            head.replace("\"tool-1.1\"\nnodes", &format!("\"{name}\"\nnodes")).replace("cn[01-04]", node);
        format!("{head}{verify}\non_failure = \"{on_failure}\"\n")
    };
    site.stage(&manifest("rollback", "cn01", "rollback")).unwrap();
    site.stage(&manifest("hold", "cn02", "hold")).unwrap();
    site.reboot("cn[01-02]").unwrap();

    // A second reboot, and back in service on the old version.
    let back = site.cluster.node("cn01");
    back.wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), "/opt/app/1 1.0");
    let line = site.phase("rollback", "cn01").unwrap();
    assert_eq!(line.phase, "rolled-back");
    assert!(line.note.as_deref().unwrap_or("").contains("/usr/bin/test -e /etc/licence"), "{line:?}");
    assert_eq!(back.boot_count(), 3);

    // Held: slurmd never starts, no job lands there.
    let held = site.cluster.node("cn02");
    until("held", MINUTES, || site.phase("hold", "cn02"), |line| line.phase == "held").unwrap();
    let reason = until("its Reason", MINUTES, || site.reason("cn02"), |reason| reason.contains("held: "));
    assert!(reason.unwrap().contains("/etc/licence"));
    assert_eq!(site.tool("cn02").unwrap(), "/opt/app/1 1.0");
    assert!(!held.exec(&["systemctl", "start", "slurmd"]).unwrap().success(), "the gate");
    assert!(!held.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    let job = site.cluster.controller().exec(&["srun", "--immediate=3", "-w", "cn02", "true"]).unwrap();
    assert!(!job.success(), "{job:?}");
    // Neither does it after a reboot of its own.
    let boots = held.boot_count();
    let _ = held.exec(&["systemctl", "reboot"]);
    held.wait_boots(boots + 1, MINUTES).unwrap();
    held.wait_booted(MINUTES).unwrap();
    assert!(!held.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    assert_eq!(site.phase("hold", "cn02").unwrap().phase, "held");

    // The cause is mended, and the order carried out once more.
    held.write_file("/etc/licence", "valid", 0o644).unwrap();
    let refused = site.rollout(&["retry", "cn01"]).unwrap();
    assert!(refused.success(), "{refused:?}");
    assert!(refused.stdout.contains("cn01 staged again"), "{refused:?}");
    site.rollout(&["retry", "cn02"]).unwrap().into_stdout().unwrap();
    held.wait_boots(boots + 2, MINUTES).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    assert_eq!(site.tool("cn02").unwrap(), "/opt/app/2 1.1");
    assert_eq!(site.phase("hold", "cn02").unwrap().phase, "updated");
    let job = site.cluster.controller().exec(&["srun", "-w", "cn02", "hostname"]).unwrap();
    assert_eq!(job.stdout, "cn02\n");
}
