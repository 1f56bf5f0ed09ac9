//! A rollout that breaks the agent itself: the copy of the agent that took the order carries on, and goes back.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{ClusterSpec, NodeRoot, Package, Product, RpmRepository, Scriptlet, Site, until};

const MINUTES: Duration = Duration::from_secs(400);
const AGENT: &str = "/usr/sbin/slurm-rollout-agent";
const COPY: &str = "/usr/libexec/slurm-rollout/rescue-agent";
const RESCUE: &str = "slurm-rollout-rescue.service";

/// Each node's agent is broken in another way: it ends at once; it says that it is ready and never answers, and its
/// gate never ends; its unit is nonsense.
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

/// What the older package brings back, on all nodes but the last.
const MEND: &str = r#"
if [ -e /root/agent ] && [ "$(cat /etc/hostname)" != cn03 ]; then
    mv -f /root/agent /usr/sbin/slurm-rollout-agent
fi
"#;

const MANIFEST: &str = r#"
name = "breaks-the-agent"
nodes = "cn[01-03]"
[[change]]
kind = "packages"
manager = "dnf"
install = ["tool-1.1"]
"#;

#[test]
fn a_rollout_that_breaks_the_agent_goes_back() {
    let tool = |version, script| Package::new("tool", version).scriptlet(Scriptlet::AfterInstall, script);
    let repository = RpmRepository::build(&[tool("1.0", MEND), tool("1.1", BREAK)]).unwrap();
    let prepare = move |root: &NodeRoot| {
        if !root.is_controller() {
            repository.install_in(root)?;
            root.run(&["dnf", "-y", "install", "tool-1.0"])?;
        }
        Ok(())
    };
    let spec = ClusterSpec { nodes: 3, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let boots = |name: &str| site.cluster.node(name).boot_count();
    let before = ["cn01", "cn02"].map(boots);
    site.stage(MANIFEST).unwrap();
    site.reboot("cn[01-03]").unwrap();

    // Where the undo brings a good agent back, all is as before.
    for (name, before) in ["cn01", "cn02"].into_iter().zip(before) {
        let node = site.cluster.node(name);
        let ended = until(
            "rolled back",
            MINUTES,
            || site.phase("breaks-the-agent", name),
            |line| line.phase == "rolled-back",
        );
        let note = ended.unwrap().note.unwrap();
        assert!(note.contains("slurm-rollout-agent has not answered for 60 s while rebooting"), "{note}");
        site.wait_idle(&[name], MINUTES).unwrap();
        assert_eq!(boots(name), before + 2);
        let version = node.run(&["rpm", "-q", "--qf", "%{VERSION}", "tool"]).unwrap();
        assert_eq!(version, "1.0");
        assert!(!node.exec(&["test", "-e", COPY]).unwrap().success(), "the copy is gone");
        let rescue = || node.run(&["systemctl", "show", "--value", "-p", "ActiveState", RESCUE]);
        until("nobody stands in", MINUTES, rescue, |state| state.trim() == "inactive").unwrap();
    }

    // Where it does not, the node is kept out of service, and the copy takes the admin's orders.
    let held = until("held", MINUTES, || site.phase("breaks-the-agent", "cn03"), |line| line.phase == "held");
    let note = held.unwrap().note.unwrap();
    assert!(note.contains("(`systemctl status slurm-rollout-agent.service`)"), "{note}");
    assert!(site.reason("cn03").unwrap().starts_with("slurm-rollout breaks-the-agent: held: "));
    let node = site.cluster.node("cn03");
    assert!(!node.exec(&["systemctl", "is-active", "slurmd"]).unwrap().success());
    node.run(&[AGENT, "release"]).unwrap();
    site.wait_idle(&["cn03"], MINUTES).unwrap();
    assert_eq!(site.phase("breaks-the-agent", "cn03").unwrap().phase, "released");
}
