//! A rollout that breaks the agent itself: the copy of the agent that took the order carries on and goes back.

use crate::prelude::*;

/// Breaks the agent of each node in a different way: it exits at once; it reports ready and never answers, and its gate
/// never ends; its unit is nonsense.
const BREAK: &str = r#"
cp -p /usr/sbin/slurm-rollout-agent /root/agent
case $(cat /etc/hostname) in
cn01) printf '#!/bin/sh\nexit 1\n' >/root/broken ;;
cn02) printf '#!/bin/sh\nsystemd-notify --ready\nexec sleep 10000\n' >/root/broken ;;
cn03) printf '[Service]\nExecStart=relative\n' >/usr/lib/systemd/system/slurm-rollout-agent.service
    cp /root/agent /root/broken ;;
esac
chmod 755 /root/broken
mv -f /root/broken /usr/sbin/slurm-rollout-agent
"#;

/// Restores the agent on all nodes but the last. The older package does this.
const MEND: &str = r#"
if [ -e /root/agent ] && [ "$(cat /etc/hostname)" != cn03 ]; then
    mv -f /root/agent /usr/sbin/slurm-rollout-agent
fi
"#;

#[test]
fn a_rollout_that_breaks_the_agent_goes_back() {
    let tool = |version, script| Package::new("tool", version).scriptlet(Scriptlet::AfterInstall, script);
    let repository = RpmRepository::build(&[tool("1.0", MEND), tool("1.1", BREAK)]).unwrap();
    let prepare = prepare_nodes(move |root| {
        repository.install_in(root)?;
        root.run(&["dnf", "-y", "install", "tool-1.0"]).map(drop)
    });
    let site = start(ClusterSpec { prepare, ..nodes(3) });
    let boots = |name: &str| site.cluster.node(name).boot_count();
    let before = ["cn01", "cn02"].map(boots);
    site.stage(Manifest::new("breaks-the-agent", "cn[01-03]").packages("dnf", &["tool-1.1"])).unwrap();
    site.reboot("cn[01-03]").unwrap();

    // If the undo brings a good agent back, everything is as before.
    for (name, before) in ["cn01", "cn02"].into_iter().zip(before) {
        let node = site.cluster.node(name);
        let note = site.wait_phase("breaks-the-agent", name, "rolled-back").unwrap();
        assert!(note.contains("slurm-rollout-agent has not answered for 60 s while rebooting"), "{note}");
        site.wait_idle(&[name], MINUTES).unwrap();
        assert_eq!(boots(name), before + 2);
        let version = node.run(&["rpm", "-q", "--qf", "%{VERSION}", "tool"]).unwrap();
        assert_eq!(version, "1.0");
        node.wait_file(RESCUE_PATH, false).unwrap();
        node.wait_property(RESCUE_UNIT, "ActiveState", "inactive").unwrap();
    }

    // If it does not, the node is kept out of service, and the copy takes the admin's orders.
    let note = site.wait_phase("breaks-the-agent", "cn03", "held").unwrap();
    assert!(note.contains("(`systemctl status slurm-rollout-agent.service`)"), "{note}");
    let reason = site.wait_reason("cn03", "held: ").unwrap();
    assert!(reason.starts_with("slurm-rollout breaks-the-agent: held: "), "{reason}");
    let node = site.cluster.node("cn03");
    assert!(!node.is_active("slurmd.service").unwrap());
    node.run(&[AGENT_PATH, "release"]).unwrap();
    site.wait_idle(&["cn03"], MINUTES).unwrap();
    site.wait_phase("breaks-the-agent", "cn03", "released").unwrap();
}
