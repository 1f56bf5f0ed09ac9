//! The verbs that show plans.

use crate::site::{Site, tick};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use serde_json::Value;
use std::fs;

fn json(site: &Site, arguments: &str) -> Value {
    let (code, out) = site.run(arguments);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments}: {code}: {error}: {out}"))
}

#[test]
fn plan_shows_how_a_rollout_would_go_and_changes_nothing() {
    let site = Site::new("");
    let (code, out) = site.run("plan driver");
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("driver: not started; this is how it would go\n"), "{out}");
    assert!(out.contains("at most 1 out at once: 1 of batch\n"), "{out}");
    assert!(out.contains("\nWAVE  NODES  FROM"), "{out}");
    assert!(!out.contains("HANDED OVER") && site.run("plan -N driver").1.contains("HANDED OVER"));
    let plan = json(&site, "plan --json driver");
    assert_eq!(plan["forecast"]["visits"].as_array().unwrap().len(), 6);
    assert_eq!(plan["waiting"]["n1"][0]["is"], "now");
    assert_eq!(site.journal(), Vec::<String>::new());
    assert_eq!(site.calls(), Vec::<String>::new());
}

#[test]
fn plan_takes_a_manifest_and_tells_what_would_be_refused() {
    let site = Site::new("");
    let manifest = |nodes: &str| {
        format!(
            "name = 'other'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
        )
    };
    for (nodes, refused) in [("n[1-2]", "n[1-2]"), ("n[8-9]", "Slurm has no n[8-9]")] {
        fs::write(site.path("other.toml"), manifest(nodes)).unwrap();
        let (code, out) = site.run("plan other.toml");
        assert_eq!(code, 3, "{out}");
        assert!(out.contains("would be refused: ") && out.contains(refused), "{out}");
    }
    fs::write(site.path("other.toml"), "name = 'other'\n").unwrap();
    assert_eq!(site.run("plan other.toml").0, 1);
    assert_eq!(site.run("plan missing").0, 1);
}

#[test]
fn stage_and_plan_warn_of_a_change_that_cannot_be_undone() {
    let site = Site::new("");
    let command =
        "[[change]]\nkind = 'command'\nname = 'bios'\nversion = '2'\nprobe = ['/fw']\napply = ['/fw']\n";
    let warning = "warning: bios cannot be undone: the change has no `undo`";
    for (undo, is_warned) in [("undo = ['/fw']\n", false), ("", true)] {
        fs::write(site.path("other.toml"), format!("name = 'other'\nnodes = 'n[8-9]'\n{command}{undo}"))
            .unwrap();
        let (_, out) = site.run("plan other.toml");
        assert_eq!(out.contains(&format!("other: {warning}")), is_warned, "{out}");
        let without_undo = json(&site, "plan --json other.toml")["without_undo"].as_array().unwrap().len();
        assert_eq!(without_undo, usize::from(is_warned));
        fs::write(site.path("other.toml"), format!("name = 'other'\nnodes = 'n6'\n{command}{undo}")).unwrap();
        let (_, out) = site.run("stage --dry-run other.toml");
        assert_eq!(out.contains(warning), is_warned, "{out}");
    }
}

#[test]
fn rehearse_lists_nodes_whose_agents_give_no_report() {
    let site = Site::new("");
    let manifest =
        "name = 'other'\nnodes = 'n[2-3]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";
    fs::write(site.path("other.toml"), manifest).unwrap();
    for (arguments, expected, beginning) in [
        ("rehearse driver -N n1", 3, "driver: trouble on 1\n\nn1: trouble\n  no report: "),
        ("rehearse other.toml --no-verify", 3, "other: trouble on 2\n\nn[2-3]: trouble\n  no report: "),
        ("rehearse driver -N n[1,9]", 1, ""),
        ("rehearse missing", 1, ""),
    ] {
        let (code, out) = site.run(arguments);
        assert!(code == expected && out.starts_with(beginning), "{arguments}: {code} {out}");
    }
    assert_eq!(site.run("status driver").0, 0, "nothing is recorded");
}

#[test]
fn why_and_status_show_the_plan_of_a_started_rollout() {
    let site = Site::started("");
    let (code, out) = site.run("why n1 n2");
    assert_eq!((code, out.as_str()), (0, "n1: driver: being requested now\nn2: driver: max_out 1 of 1\n"));
    let (_, of_rollout) = site.run("why driver");
    assert!(of_rollout.starts_with(&out) && of_rollout.lines().count() == 6, "{of_rollout}");
    tick(&mut site.executor());
    let (_, out) = site.run("why n[1-2]");
    assert!(out.starts_with("n1: driver: requested, and Slurm is about to reboot it\n"), "{out}");
    let why = json(&site, "why --json n2");
    assert_eq!((&why[0]["node"], &why[0]["why"][0]["is"]), (&"n2".into(), &"max-out".into()), "{why}");
    assert_eq!(why[0]["why"][0]["text"], "max_out 1 of 1");
    let (_, out) = site.run("status");
    assert!(out.contains("\n  0 of 6 updated, 1 requested, 5 waiting, over about "), "{out}");
    site.advance();
    site.advance();
    let (_, out) = site.run("why n1");
    assert_eq!(out, "n1: driver: updated\n");
}

#[test]
fn why_tells_of_nodes_without_a_started_rollout() {
    let site = Site::new("");
    site.store.unstage("driver", Some(&NodeSet::parse("n6").unwrap())).unwrap();
    let (_, out) = site.run("why n1 n6");
    let expected = "n1: driver: staged; `slurm-rollout start driver`, or `scontrol reboot` it\n\
                    n6: no rollout is staged for it\n";
    assert_eq!(out, expected);
    assert_eq!(site.run("why driver").1.lines().count(), 5, "those that wait");
    site.add_past("over", 5);
    let (code, out) = site.run("why over");
    assert!(code == 1 && out.contains("over: is over: none of its nodes waits"), "{code}: {out}");
}

/// Ten thousand of them take longer than Slurm.
#[test]
fn status_asks_only_agents_that_may_know_of_another_phase() {
    let site = Site::new("");
    let first = |arguments: &str| site.run(arguments).1.lines().nth(1).unwrap_or_default().to_owned();
    let (in_short, in_full) = (first("status driver"), first("status -N driver"));
    assert!(in_short.contains("staged") && !in_short.contains("agent: "), "{in_short}");
    assert!(in_full.contains("staged") && in_full.contains("agent: "), "{in_full}");
    let order = OrderId::from_random(1);
    let (nodes, until_ms) = (NodeSet::parse("n1").unwrap(), u64::MAX);
    let lines = [
        Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms },
        Entry::Ordered { nodes, order, volatile: false },
    ];
    site.store.record(Some("driver"), lines.to_vec()).unwrap();
    let (_, out) = site.run("status driver");
    let ordered = out.lines().find(|line| line.contains("ordered")).unwrap();
    assert!(ordered.contains(" n1 ") && ordered.contains("agent: "), "{out}");
}

#[test]
fn status_watches_until_the_rollout_is_over() {
    let site = Site::started("");
    site.store.unstage("driver", None).unwrap();
    let (code, out) = site.run("status --watch driver");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("driver: done"), "{out}");
    assert_eq!(site.run("status --watch --json").0, 2);
}
