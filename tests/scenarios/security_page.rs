//! Files and processes as docs/security.md has them, on a cluster that has carried out an order.

use crate::prelude::*;

/// Files that exist only at times; all other files must exist.
const AT_TIMES: [&str; 17] = [
    "rescue-agent",
    "order.json",
    "staged.json",
    "undo",
    "drains.json",
    "left-by-reboots.json",
    "used-limits.json",
    "closed",
    "archive",
    "boot-sources.json",
    "freeze.json",
    "lease.json",
    "watch",
    "admitted",
    "slurm-rollout-notice",
    "hooks",
    "hooks/*",
];

/// Returns path, owner and mode of each file in the table below this line.
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

/// Returns the files below these directories that are in no row.
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
    let prepare = prepare(|root| root.run(&["mkdir", "-p", "/opt/2"]).map(drop));
    let site = start(ClusterSpec { prepare, ..nodes(1) });
    let (controller, node) = (site.cluster.controller(), site.cluster.node("cn01"));
    site.reboot_to_idle("cn01").unwrap();
    // Files of this rollout are made by root and then written by SlurmUser.
    site.stage(Manifest::new("link", "cn01").symlink("/opt/current", "/opt/2")).unwrap();
    site.reboot_to_idle("cn01").unwrap();
    site.wait_phase("link", "cn01", "updated").unwrap();

    let rows = documented("On the controller:");
    are_as_documented(controller, &rows);
    assert_eq!(others(controller, &rows, &["/var/lib/slurm-rollout"]), [""; 0]);
    let rows = documented("On a node:");
    are_as_documented(node, &rows);
    let directories = ["/var/lib/slurm-rollout-agent", "/run/slurm-rollout"];
    assert_eq!(others(node, &rows, &directories), [""; 0]);

    let agent = node.property(AGENT_UNIT, "MainPID").unwrap();
    assert_eq!(node.run(&["ps", "-o", "user=", "-p", &agent]).unwrap().trim(), "root");
    assert_eq!(controller.property("slurm-rollout-reconcile.service", "User").unwrap(), "slurm");
    // RebootProgram runs as the same user.
    let slurmctld = controller.run(&["ps", "-o", "user=", "-C", "slurmctld"]).unwrap();
    assert!(!slurmctld.is_empty() && slurmctld.lines().all(|user| user.trim() == "slurm"), "{slurmctld}");
}
