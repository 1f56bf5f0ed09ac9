//! Rollouts that run themselves, while the jobs of users come and go.

mod controllers;
mod hooks;
mod limits;
mod qualification;
mod reserved;
mod steering;
mod stragglers;
mod users;
mod watch;
mod waves;

use crate::prelude::*;
use users::with_users;
use watch::watched;

/// Link that all rollouts here change. It leads to `/opt/app/0` at first.
const LINK: &str = "/opt/app/current";

/// File of limits that apply to all rollouts.
const LIMITS: &str = "/etc/slurm-rollout/controller.d/limits.toml";

/// Three looks of the executor: it has had every opportunity.
const A_WHILE: Duration = Duration::from_secs(9);

/// Boots a cluster on which started rollouts run.
fn start_running(spec: ClusterSpec) -> Site {
    let change = |root: &NodeRoot| {
        if root.is_controller() {
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        root.run(&["mkdir", "-p", "/opt/app/0"])?;
        root.run(&["ln", "-s", "/opt/app/0", LINK]).map(drop)
    };
    start(ClusterSpec { prepare: prepare(change), ..spec })
}

/// A manifest that has the link lead to a directory with the rollout's name.
fn link_to(name: &str, nodes: &str, strategy: &str) -> Manifest {
    Manifest::new(name, nodes).symlink(LINK, &format!("/opt/app/{name}")).strategy(strategy)
}

/// Stages a rollout, for whose link there is a directory on each node then, and starts it.
fn run(site: &Site, name: &str, manifest: &Manifest) {
    for node in site.cluster.compute_nodes() {
        node.write_file(&format!("/opt/app/{name}/version"), name, 0o644).unwrap();
    }
    site.stage(manifest).unwrap();
    order(site, &["start", name]);
}

/// Runs a command that must succeed, and returns its output.
fn order(site: &Site, words: &[&str]) -> String {
    site.rollout(words).unwrap().into_stdout().unwrap()
}

fn scontrol(site: &Site, words: &[&str]) {
    site.cluster.scontrol(words).unwrap();
}

fn drain(site: &Site, node: &str, reason: &str) {
    let node = format!("nodename={node}");
    scontrol(site, &["update", &node, "state=drain", &format!("reason={reason}")]);
}

fn undrain(site: &Site, node: &str) {
    scontrol(site, &["update", &format!("nodename={node}"), "state=resume"]);
}

/// Returns the answer of `why` for a node.
fn why(site: &Site, node: &str) -> String {
    order(site, &["why", node])
}

fn wait_why(site: &Site, node: &str, words: &str) {
    let what = format!("{words:?} as the reason of {node}");
    until(&what, MINUTES, || Ok(why(site, node)), |why| why.contains(words)).unwrap();
}

/// Waits until the status of a rollout has these words.
fn wait_status(site: &Site, name: &str, words: &str) -> String {
    let status = || Ok(site.rollout(&["status", name])?.stdout);
    until(&format!("{words:?} in the status of {name}"), MINUTES, status, |text| text.contains(words))
        .unwrap()
}

/// Waits until each of these nodes is updated and leads its link to the rollout's directory.
fn wait_updated(site: &Site, name: &str, nodes: &[&str]) {
    for node in nodes {
        site.wait_end(name, node, "updated").unwrap();
        let link = site.cluster.node(node).run(&["readlink", LINK]).unwrap();
        assert_eq!(link.trim(), format!("/opt/app/{name}"), "{node}");
    }
}

/// Returns the lines of a kind in a rollout's journal, as their nodes, with the number of the line.
fn lines(site: &Site, name: &str, is: &str) -> Vec<(usize, Vec<String>)> {
    let journal = site.journal(name).unwrap();
    let of_kind = journal.iter().enumerate().filter(|(_, line)| line["is"] == is);
    let nodes = |line: &serde_json::Value| match line["nodes"].as_str().unwrap_or_default() {
        // The line is about the rollout as a whole.
        "" => Vec::new(),
        nodes => rollout_core::hostlist::expand(nodes).unwrap(),
    };
    of_kind.map(|(number, line)| (number, nodes(line))).collect()
}

/// Returns the nodes that were requested, in that order.
fn requested(site: &Site, name: &str) -> Vec<String> {
    lines(site, name, "requested").into_iter().flat_map(|(_, nodes)| nodes).collect()
}

/// Returns the number of a node's first line of a kind. Panics if there is none.
fn line_of(site: &Site, name: &str, is: &str, node: &str) -> usize {
    let lines = lines(site, name, is);
    let line = lines.iter().find(|(_, nodes)| nodes.iter().any(|name| name == node));
    line.unwrap_or_else(|| panic!("no line {is} of {node} in {lines:?}")).0
}
