//! The main job on a real cluster: what is staged is what the nodes become, while jobs run on.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, Product, Site, TOOL_1_1};

const MINUTES: Duration = Duration::from_secs(240);

fn site(base: Base) -> Site {
    let spec = ClusterSpec { base, nodes: 4, ..ClusterSpec::default() };
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
}

/// Scenario 1: idle nodes first, busy ones when their jobs have ended; all changed and in service; no job lost.
fn four_nodes_two_with_jobs(base: Base) {
    let site = site(base);
    let cluster = &site.cluster;
    let ids: Vec<_> = cluster.compute_nodes().iter().map(|node| node.boot_id().unwrap()).collect();
    let submit = |node: &str| {
        let job = cluster.controller().run(&[
            "sbatch",
            "--parsable",
            "--chdir=/tmp",
            "--output=/dev/null",
            "-w",
            node,
            "--wrap",
            "sleep 30; touch /root/job-done",
        ]);
        job.unwrap().trim().to_owned()
    };
    let jobs = [submit("cn03"), submit("cn04")];
    for node in ["cn03", "cn04"] {
        cluster.wait_state(node, |state| state.starts_with("ALLOCATED"), MINUTES).unwrap();
    }
    let said = site.stage(TOOL_1_1).unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=tool-1.1 cn[01-04]"), "{said}");
    site.reboot("cn[01-04]").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for node in ["cn03", "cn04"] {
        assert_eq!(site.phase("tool-1.1", node).unwrap().phase, "draining");
        assert!(cluster.node_state(node).unwrap().starts_with("ALLOCATED"));
    }
    site.wait_idle(&["cn03", "cn04"], MINUTES).unwrap();
    for (node, id) in cluster.compute_nodes().iter().zip(ids) {
        assert_ne!(node.boot_id().unwrap(), id);
        assert_eq!(node.boot_count(), 2);
        assert_eq!(site.tool(node.name()).unwrap(), "/opt/app/2 1.1");
    }
    for node in ["cn03", "cn04"] {
        assert!(
            cluster.node(node).exec(&["test", "-e", "/root/job-done"]).unwrap().success(),
            "the job on {node}"
        );
    }
    for job in jobs {
        let text = cluster.scontrol(&["show", "job", "-o", &job]).unwrap();
        for word in ["JobState=COMPLETED", "Restarts=0", "ExitCode=0:0"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    for line in site.status("tool-1.1").unwrap() {
        assert_eq!(
            (line.phase.as_str(), line.slurm_state.as_deref(), line.note),
            ("updated", Some("IDLE"), None)
        );
    }
}

#[test]
fn four_nodes_two_with_jobs_slurm_24_11() {
    four_nodes_two_with_jobs(Base::Trixie);
}

#[test]
fn four_nodes_two_with_jobs_slurm_22_05() {
    four_nodes_two_with_jobs(Base::Bookworm);
}

#[test]
fn four_nodes_two_with_jobs_slurm_26_05() {
    four_nodes_two_with_jobs(Base::Forky);
}
