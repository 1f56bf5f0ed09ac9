//! What docs/security.md says of files and processes, on a cluster that has carried out an order.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{ClusterSpec, Node, NodeRoot, Product, Site, workspace};

const MINUTES: Duration = Duration::from_secs(240);

/// What is there only at times; all other files must be.
const AT_TIMES: [&str; 8] = [
    "rescue-agent",
    "order.json",
    "staged.json",
    "undo",
    "drains.json",
    "boot-sources.json",
    "watch",
    "admitted",
];

const LINK: &str = r#"
name = "link"
nodes = "cn01"
[[change]]
kind = "symlink"
path = "/opt/current"
target = "/opt/2"
"#;

/// Path, owner and mode of each file in the table below this line.
fn documented(below: &str) -> Vec<[String; 3]> {
    let page = std::fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let (_, table) = page.split_once(&format!("\n{below}\n\n")).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| -> [String; 3] {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        [cells[1], cells[2], cells[3]].map(String::from)
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(rows.len() > 10, "{rows:?}");
    rows
}

fn are_as_documented(node: &Node, rows: &[[String; 3]]) {
    for [path, owner, mode] in rows {
        let seen = node.exec(&["sh", "-c", &format!("stat -c '%U:%G %04a' {path}")]).unwrap();
        if AT_TIMES.iter().any(|name| path.ends_with(name)) && !seen.success() {
            continue;
        }
        assert_eq!(
            seen.stdout.trim(),
            format!("{owner} {mode}"),
            "{path} on {}: {}",
            node.name(),
            seen.stderr
        );
    }
}

/// What there is below these directories and in no row.
fn others(node: &Node, rows: &[[String; 3]], directories: &[&str]) -> Vec<String> {
    let found = node.run(&[&["find"], directories].concat()).unwrap();
    let is_in = |path: &str| {
        let in_row = |[row, ..]: &[String; 3]| {
            let (row, path): (Vec<_>, Vec<_>) = (row.split('/').collect(), path.split('/').collect());
            row.len() == path.len() && row.iter().zip(path).all(|(row, part)| *row == "*" || *row == part)
        };
        rows.iter().any(in_row)
    };
    found.lines().filter(|path| !is_in(path)).map(String::from).collect()
}

#[test]
fn files_and_processes_are_as_the_page_says() {
    let prepare = |root: &NodeRoot| root.run(&["mkdir", "-p", "/opt/2"]).map(drop);
    let spec = ClusterSpec { nodes: 1, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let (controller, node) = (site.cluster.controller(), site.cluster.node("cn01"));
    site.reboot("cn01").unwrap();
    node.wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    // Made by root, written on by SlurmUser.
    site.stage(LINK).unwrap();
    site.reboot("cn01").unwrap();
    node.wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.phase("link", "cn01").unwrap().phase, "updated");

    let rows = documented("On the controller:");
    are_as_documented(controller, &rows);
    assert_eq!(others(controller, &rows, &["/var/lib/slurm-rollout"]), [""; 0]);
    let rows = documented("On a node:");
    are_as_documented(node, &rows);
    let directories = ["/var/lib/slurm-rollout-agent", "/run/slurm-rollout"];
    assert_eq!(others(node, &rows, &directories), [""; 0]);

    let show = |node: &Node, unit: &str, what: &str| {
        node.run(&["systemctl", "show", "--value", "-p", what, unit]).unwrap().trim().to_owned()
    };
    let agent = show(node, "slurm-rollout-agent.service", "MainPID");
    assert_eq!(node.run(&["ps", "-o", "user=", "-p", &agent]).unwrap().trim(), "root");
    assert_eq!(show(controller, "slurm-rollout-reconcile.service", "User"), "slurm");
    // And its RebootProgram with it.
    let slurmctld = controller.run(&["ps", "-o", "user=", "-C", "slurmctld"]).unwrap();
    assert!(!slurmctld.is_empty() && slurmctld.lines().all(|user| user.trim() == "slurm"), "{slurmctld}");
}
