//! Every way in which Slurm hands nodes over: RebootProgram run by slurmctld (all other tests) and by slurmd, actions of
//! Slurm 26.05 on both sides, and reboots that jobs ask for.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, NodeRoot, Product, Site, TOOL_1_1, until, workspace};

const MINUTES: Duration = Duration::from_secs(240);
const REBOOT_NODE: &str = "/usr/libexec/slurm-rollout/reboot-node";
const OLD: &str = "/opt/app/1 1.0";
const NEW: &str = "/opt/app/2 1.1";

/// What the snippets set.
const KEYS: [&str; 5] =
    ["RebootProgram", "ResumeTimeout", "ReturnToService", "SlurmctldParameters", "PowerAction"];

/// A site with `tool`, whose slurm.conf has this snippet of ours.
fn site(base: Base, nodes: u8, snippet: &'static str) -> Site {
    site_with(base, nodes, snippet, |_| Ok(()))
}

/// The same, and what `change` makes of each root. Before the boot, not by a reconfigure: a slurmd that just starts itself
/// anew for one may not hear that it is to stop, and nodes would take long to reboot.
fn site_with(
    base: Base,
    nodes: u8,
    snippet: &'static str,
    change: impl Fn(&NodeRoot) -> rollout_lab::Result<()> + Send + Sync + 'static,
) -> Site {
    let prepare = move |root: &NodeRoot| {
        let remove: String = KEYS.iter().map(|key| format!("/^{key}=/d;")).collect();
        root.run(&["sed", "-i", &remove, "/etc/slurm/slurm.conf"])?;
        let include = format!("echo 'Include /etc/slurm/{snippet}' >>/etc/slurm/slurm.conf");
        root.run(&["sh", "-c", &include])?;
        let source = workspace().join("slurm-conf-snippets").join(snippet);
        root.copy_in(&source, &format!("/etc/slurm/{snippet}"), 0o644)?;
        change(root)
    };
    let spec = ClusterSpec { base, nodes, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let log = site.cluster.slurmctld_log().unwrap();
    let complaint =
        log.lines().find(|line| line.contains("error") && KEYS.iter().any(|key| line.contains(key)));
    assert_eq!(complaint, None);
    site
}

fn manifest(nodes: &str) -> String {
    TOOL_1_1.replace("cn[01-04]", nodes)
}

fn wait_phase(site: &Site, node: &str, phase: &str) {
    until(phase, MINUTES, || site.phase("tool-1.1", node), |line| line.phase == phase).unwrap();
}

/// slurmd runs RebootProgram. What is staged is with the agents before; one that was down gets it when it is back.
fn run_by_slurmd(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let image = "name = \"image\"\nnodes = \"cn01\"\n[[change]]\nkind = \"image\"\nvia = \"boot-file\"\nimage = \"x\"\n";
    let said = site.stage(image).unwrap_err().to_string();
    assert!(said.contains("slurmd runs RebootProgram"), "{said}");
    let cn03 = site.cluster.node("cn03");
    cn03.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    let staged = site.stage(&manifest("cn[01-03]")).unwrap();
    assert!(staged.contains("the agents of cn[01-02] have it"), "{staged}");
    for (node, note) in [("cn01", "its agent has it"), ("cn03", "agent: ")] {
        let line = site.phase("tool-1.1", node).unwrap();
        assert!(line.phase == "staged" && line.note.as_deref().unwrap_or("").contains(note), "{line:?}");
    }
    cn03.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    let told = site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!(told, "tool-1.1: given to the agents of cn03\n");
    // What is called off is called off at the agents.
    site.rollout(&["unstage", "tool-1.1", "cn02"]).unwrap().into_stdout().unwrap();
    let boots: Vec<u32> = site.cluster.compute_nodes().iter().map(|node| node.boot_count()).collect();
    site.reboot("cn[01-03]").unwrap();
    for (node, before) in site.cluster.compute_nodes().iter().zip(boots) {
        node.wait_boots(before + 1, MINUTES).unwrap();
    }
    site.wait_idle(&["cn01", "cn02", "cn03"], MINUTES).unwrap();
    for (node, is) in [("cn01", NEW), ("cn02", OLD), ("cn03", NEW)] {
        assert_eq!(site.tool(node).unwrap(), is, "{node}");
    }
    for node in ["cn01", "cn03"] {
        wait_phase(&site, node, "updated");
    }
    // Nothing is applied twice: the next one is a plain reboot. And called by hand the program does nothing.
    let cn01 = site.cluster.node("cn01");
    let boots = cn01.boot_count();
    cn01.run(&[REBOOT_NODE]).unwrap();
    let refused = || cn01.journal("slurm-rollout-agent.service");
    let said = "Slurm has not handed the node over";
    until("a word of it", MINUTES, refused, |journal| journal.contains(said)).unwrap();
    assert_eq!(cn01.boot_count(), boots);
    site.reboot("cn01").unwrap();
    cn01.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

#[test]
fn run_by_slurmd_22_05() {
    run_by_slurmd(Base::Bookworm);
}

#[test]
fn run_by_slurmd_24_11() {
    run_by_slurmd(Base::Trixie);
}

#[test]
fn run_by_slurmd_26_05() {
    run_by_slurmd(Base::Forky);
}

/// Orders that the node never got are sent by reconcile, once; and an order that it got is none of reconcile's.
fn lost_on_the_node(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let [cn01, cn02, cn03] = ["cn01", "cn02", "cn03"].map(|name| site.cluster.node(name));
    let wait = "test $(hostname) != cn03 || while [ ! -e /run/go ]; do sleep 0.2; done";
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    let verify = format!("commands = [[\"/usr/bin/sh\", \"-ec\", \"{wait}\"]]\n");
    site.stage(&format!("{}{verify}", head.replace("cn[01-04]", "cn01,cn03"))).unwrap();
    // cn01's agent is down. On cn02, for which nothing is staged, slurmd is killed before the agent hears anything.
    cn01.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    let away = format!("mv {REBOOT_NODE} /root/reboot-node");
    cn02.run(&["sh", "-ec", &away]).unwrap();
    cn02.write_file(REBOOT_NODE, "#!/bin/sh\ntouch /run/asked\nsleep 10000\n", 0o755).unwrap();
    site.reboot("cn[01-03]").unwrap();
    until("slurmd", MINUTES, || cn02.exec(&["test", "-e", "/run/asked"]), rollout_lab::Output::success)
        .unwrap();
    cn02.run(&["systemctl", "kill", "-s", "KILL", "slurmd"]).unwrap();
    cn02.run(&["mv", "/root/reboot-node", REBOOT_NODE]).unwrap();
    let said = "slurm-rollout RebootProgram: not ordered: ";
    until("a Reason", MINUTES, || site.reason("cn01"), |reason| reason.starts_with(said)).unwrap();
    wait_phase(&site, "cn03", "verifying");
    // As long as they are silent, or do what they should, there is nothing to say.
    let quiet = || site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    let ordered = |node: &str| format!("{node}: handed over by Slurm and never told: ordered now\n");
    until("cn02 is ordered", MINUTES, || Ok(quiet()), |said| *said == ordered("cn02")).unwrap();
    assert_eq!(quiet(), "");
    cn01.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    until("cn01 is ordered", MINUTES, || Ok(quiet()), |said| *said == ordered("cn01")).unwrap();
    for node in [cn01, cn02] {
        node.wait_boots(2, MINUTES).unwrap();
    }
    cn03.run(&["touch", "/run/go"]).unwrap();
    site.wait_idle(&["cn01", "cn02", "cn03"], MINUTES).unwrap();
    for (node, is) in [(cn01, NEW), (cn02, OLD), (cn03, NEW)] {
        assert_eq!((site.tool(node.name()).unwrap().as_str(), node.boot_count()), (is, 2), "{}", node.name());
        let journal = node.journal("slurm-rollout-agent.service").unwrap();
        assert_eq!(journal.matches(" taken").count(), 1, "{journal}");
    }
    for node in ["cn01", "cn03"] {
        wait_phase(&site, node, "updated");
    }
    assert_eq!(quiet(), "");
}

#[test]
fn lost_on_the_node_22_05() {
    lost_on_the_node(Base::Bookworm);
}

#[test]
fn lost_on_the_node_24_11() {
    lost_on_the_node(Base::Trixie);
}

/// Where slurmd runs RebootProgram, agents are told of drains with what is staged, and when one is set or taken away later.
fn drains_on_the_node(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let set = |node: &str, how: &[&str]| {
        let node = format!("nodename={node}");
        site.cluster.scontrol(&[&["update", &node], how].concat()).unwrap();
    };
    set("cn01", &["state=drain", "reason=bad disk"]);
    set("cn03", &["state=drain", "reason=bad DIMM"]);
    site.stage(&manifest("cn[01-03]")).unwrap();
    set("cn02", &["state=drain", "reason=bad fan"]);
    set("cn03", &["state=resume"]);
    // As its timer does.
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    site.reboot("cn[01-03]").unwrap();
    for node in ["cn01", "cn02", "cn03"] {
        wait_phase(&site, node, "updated");
        assert_eq!(site.tool(node).unwrap(), NEW, "{node}");
    }
    site.wait_idle(&["cn03"], MINUTES).unwrap();
    for (node, reason) in [("cn01", "bad disk"), ("cn02", "bad fan")] {
        let up = || site.cluster.node(node).exec(&["systemctl", "is-active", "slurmd"]);
        until("slurmd", MINUTES, up, rollout_lab::Output::success).unwrap();
        site.cluster.wait_state(node, |state| state == "IDLE+DRAIN", MINUTES).unwrap();
        // More than the node that nobody drained took to come into service.
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(site.cluster.node_state(node).unwrap(), "IDLE+DRAIN", "{node}");
        assert_eq!(site.reason(node).unwrap(), reason, "{node}");
        assert_eq!(site.cluster.node(node).boot_count(), 2, "{node}");
    }
}

#[test]
fn drains_on_the_node_22_05() {
    drains_on_the_node(Base::Bookworm);
}

#[test]
fn drains_on_the_node_24_11() {
    drains_on_the_node(Base::Trixie);
}

#[test]
fn drains_on_the_node_26_05() {
    drains_on_the_node(Base::Forky);
}

/// A job that wants its node rebooted gets a plain reboot, whatever is staged. Both kinds of hand-over.
fn for_a_job(base: Base) {
    for_a_job_with(base, "reboot_from_controller.conf");
    for_a_job_with(base, "reboot_by_slurmd.conf");
}

fn for_a_job_with(base: Base, snippet: &'static str) {
    let site = site(base, 1, snippet);
    site.stage(&manifest("cn01")).unwrap();
    let node = site.cluster.node("cn01");
    let boots = node.boot_count();
    let job = ["sbatch", "--reboot", "--output=/dev/null", "--wrap", "true"];
    site.cluster.controller().run(&job).unwrap();
    node.wait_boots(boots + 1, MINUTES).unwrap();
    let done = || site.cluster.controller().run(&["squeue", "--noheader"]);
    until("the job", MINUTES, done, |jobs| jobs.trim().is_empty()).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD);
    assert_eq!(site.phase("tool-1.1", "cn01").unwrap().phase, "staged");
    // It is still there for the admin's reboot.
    site.reboot("cn01").unwrap();
    node.wait_boots(boots + 2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

#[test]
fn for_a_job_22_05() {
    for_a_job(Base::Bookworm);
}

#[test]
fn for_a_job_24_11() {
    for_a_job(Base::Trixie);
}

#[test]
fn for_a_job_26_05() {
    for_a_job(Base::Forky);
}

/// In single lines: Slurm 22.05 knows no list of features. And no NodeName has them as its Features: slurmctld would take
/// all of them for active, and refuse a node that has one.
const HELPERS: &str = "Feature=quad Helper=/usr/local/sbin/mode\nFeature=flat Helper=/usr/local/sbin/mode\n\
                       MutuallyExclusive=quad,flat\n";

/// Tells the mode that the node has, and, where slurmd sets features, sets it.
const MODE_HELPER: &str = "#!/bin/sh\nif [ $# -gt 0 ]; then echo \"$1\" >/etc/mode; else cat /etc/mode; fi\n";

/// A job that wants a feature for which its node has to boot: the reboot is plain, whatever is staged, and the job finds
/// the feature. Where slurmctld runs RebootProgram the agent has it set, and else slurmd does.
fn with_features(base: Base, snippet: &'static str) {
    let site = site_with(base, 1, snippet, |root| {
        let plugin = "echo NodeFeaturesPlugins=node_features/helpers >>/etc/slurm/slurm.conf";
        root.run(&["sh", "-c", plugin])?;
        root.write_file("/etc/slurm/helpers.conf", HELPERS, 0o644)?;
        root.write_file("/usr/local/sbin/mode", MODE_HELPER, 0o755)?;
        root.write_file("/etc/mode", "quad\n", 0o644)
    });
    let node = site.cluster.node("cn01");
    let by_agent = snippet == "reboot_from_controller.conf";
    if by_agent {
        node.write_file("/usr/local/sbin/set-mode", "#!/bin/sh\necho \"$@\" >/etc/mode\n", 0o755).unwrap();
        let config = "features_program = \"/usr/local/sbin/set-mode\"\n";
        node.write_file("/etc/slurm-rollout/agent.d/features.toml", config, 0o644).unwrap();
        node.run(&["systemctl", "restart", "slurm-rollout-agent"]).unwrap();
    }
    site.stage(&manifest("cn01")).unwrap();
    // The second one would find the feature, but wants a boot.
    for (reboot, feature) in [(None, "flat"), (Some("--reboot"), "flat")] {
        let boots = node.boot_count();
        let job = [&format!("--constraint={feature}"), "--output=/root/mode", "--wrap", "cat /etc/mode"];
        let argv: Vec<&str> = std::iter::once("sbatch").chain(reboot).chain(job).collect();
        site.cluster.controller().run(&argv).unwrap();
        node.wait_boots(boots + 1, MINUTES).unwrap();
        let done = || site.cluster.controller().run(&["squeue", "--noheader"]);
        until("the job", MINUTES, done, |jobs| jobs.trim().is_empty()).unwrap();
        site.wait_idle(&["cn01"], MINUTES).unwrap();
        assert_eq!(node.read_file("/root/mode").unwrap(), format!("{feature}\n"));
        let info = site.cluster.scontrol(&["show", "node", "cn01"]).unwrap();
        let active = format!("ActiveFeatures={feature}");
        assert!(info.contains("AvailableFeatures=quad,flat") && info.contains(&active), "{info}");
        assert_eq!((node.boot_count(), site.tool("cn01").unwrap().as_str()), (boots + 1, OLD));
    }
    assert_eq!(site.phase("tool-1.1", "cn01").unwrap().phase, "staged");
}

#[test]
fn features_of_a_job_24_11() {
    with_features(Base::Trixie, "reboot_from_controller.conf");
}

#[test]
fn features_of_a_job_by_slurmd_24_11() {
    with_features(Base::Trixie, "reboot_by_slurmd.conf");
}

#[test]
fn features_of_a_job_22_05() {
    with_features(Base::Bookworm, "reboot_from_controller.conf");
}

#[test]
fn features_of_a_job_26_05() {
    with_features(Base::Forky, "reboot_from_controller.conf");
}

/// `scontrol reboot action=rollout` applies what is staged, and a plain `scontrol reboot` stays plain.
fn by_action(snippet: &'static str) {
    let site = site(Base::Forky, 2, snippet);
    if snippet == "power_action_by_slurmd.conf" {
        let drop_in = "/etc/slurm-rollout/controller.d/deliver.toml";
        site.cluster.controller().write_file(drop_in, "deliver = \"always\"\n", 0o644).unwrap();
    }
    site.stage(&manifest("cn[01-02]")).unwrap();
    let cn02 = site.cluster.node("cn02");
    let boots = cn02.boot_count();
    // It stays plain when it is lost, too.
    cn02.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    site.reboot("cn02").unwrap();
    let action = ["reboot", "action=rollout", "ASAP", "nextstate=resume", "reason=update", "cn01"];
    site.cluster.scontrol(&action).unwrap();
    let not_ordered = |reason: &String| reason.contains(": not ordered: ");
    until("a Reason", MINUTES, || site.reason("cn02"), not_ordered).unwrap();
    cn02.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    let again = || site.rollout(&["reconcile"]);
    until("the lost order", MINUTES, again, |said| said.stdout.contains("cn02: handed over by Slurm"))
        .unwrap();
    cn02.wait_boots(boots + 1, MINUTES).unwrap();
    wait_phase(&site, "cn01", "updated");
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    assert_eq!((site.tool("cn01").unwrap().as_str(), site.tool("cn02").unwrap().as_str()), (NEW, OLD));
    assert_eq!(site.phase("tool-1.1", "cn02").unwrap().phase, "staged");
}

#[test]
fn an_action_of_slurmctld_applies_and_a_plain_reboot_does_not() {
    by_action("power_action.conf");
}

#[test]
fn an_action_of_slurmd_applies_and_a_plain_reboot_does_not() {
    by_action("power_action_by_slurmd.conf");
}

/// The other choice: RebootProgram is the action, and every reboot applies.
#[test]
fn every_reboot_is_the_action() {
    let every = "s,^RebootProgram=.*,RebootProgram=rollout,";
    let site = site_with(Base::Forky, 1, "power_action.conf", move |root| {
        root.run(&["sed", "-i", every, "/etc/slurm/power_action.conf"]).map(drop)
    });
    site.stage(&manifest("cn01")).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "cn01", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}
