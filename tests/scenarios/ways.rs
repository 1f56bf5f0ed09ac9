//! Every way in which Slurm hands nodes over: RebootProgram run by slurmctld (all other scenarios) and by slurmd,
//! actions of Slurm 26.05 on both sides, and reboots for jobs.

mod actions;
mod by_slurmd;
mod for_jobs;

use crate::prelude::*;

/// Boots a cluster with `tool` and with this snippet in slurm.conf.
fn site(base: Base, nodes: u8, snippet: &'static str) -> Site {
    site_with(base, nodes, snippet, |_| Ok(()))
}

/// The same, after `change` of each root. Before the boot, not by a reconfigure: a slurmd that re-executes itself for
/// one may miss the signal to stop, and nodes would take long to reboot.
fn site_with(
    base: Base,
    nodes: u8,
    snippet: &'static str,
    change: impl Fn(&NodeRoot) -> Result<()> + Send + Sync + 'static,
) -> Site {
    let include = move |root: &NodeRoot| {
        remove_snippet_keys(root)?;
        let include = format!("echo 'Include /etc/slurm/{snippet}' >>/etc/slurm/slurm.conf");
        root.run(&["sh", "-c", &include])?;
        let source = workspace().join("slurm-conf-snippets").join(snippet);
        root.copy_in(&source, &format!("/etc/slurm/{snippet}"), 0o644)?;
        change(root)
    };
    let spec = ClusterSpec { base, nodes, prepare: prepare(include), ..ClusterSpec::default() };
    let site = start_with_tool(spec);
    let log = site.cluster.slurmctld_log().unwrap();
    let complaint =
        log.lines().find(|line| line.contains("error") && SNIPPET_KEYS.iter().any(|key| line.contains(key)));
    assert_eq!(complaint, None);
    site
}

fn manifest(nodes: &str) -> Manifest {
    Manifest::tool("1.1").nodes(nodes)
}
