//! `rehearse`: what agents would do, with the real package manager, and without a trace on their nodes.

use crate::prelude::*;

const LINK: &str = "/opt/app/current";

/// Runs `rehearse` on a manifest, with further words, and returns its output if it ends with this code.
fn rehearse(site: &Site, manifest: &Manifest, words: &[&str], code: i32) -> String {
    let controller = site.cluster.active_controller();
    controller.write_file("/root/rehearse.toml", manifest.to_string(), 0o644).unwrap();
    let done = site.rollout(&[&["rehearse", "/root/rehearse.toml"], words].concat()).unwrap();
    assert_eq!(done.code, Some(code), "{done:?}");
    done.stdout
}

fn link(name: &str, nodes: &str, target: &str) -> Manifest {
    Manifest::new(name, nodes).symlink(LINK, target)
}

/// For a cluster of [`Site::with_tool`] with four nodes that have the old state.
pub(crate) fn reports_and_leaves_no_trace(site: &Site) {
    let manifest = Manifest::tool("1.1");
    let text = rehearse(site, &manifest, &["-N", "cn01"], 3);
    for line in [
        "tool-1.1: trouble on 1\n",
        "\ncn01: trouble\n",
        "  symlink: /opt/app/current: /opt/app/1 -> /opt/app/2\n",
        "  packages: tool.noarch: 1.0-1 -> 1.1-1\n",
        "  verify: /usr/bin/grep -q ^1.1$ /usr/share/tool/version fails today: ",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    // The command proves the new version, so that it has to fail today.
    let text = rehearse(site, &manifest, &["--no-verify", "-N", "cn[02-03]"], 4);
    assert!(text.starts_with("tool-1.1: would change on 2\n\ncn[02-03]: would change\n"), "{text}");
    let text = rehearse(site, &link("gone", "cn[01-02]", "/opt/app/none"), &[], 3);
    assert!(text.contains("\ncn[01-02]: trouble\n") && text.contains("cannot be reached"), "{text}");
    let text = rehearse(site, &link("same", "cn[01-02]", "/opt/app/1"), &[], 0);
    assert_eq!(text, "same: nothing to do on 2\n\ncn[01-02]: nothing to do\n");
    of_a_staged_rollout(site);
    with_a_silent_node(site);
    for node in site.cluster.compute_nodes() {
        assert_eq!(site.tool(node.name()).unwrap(), OLD_TOOL);
        assert_eq!(node.boot_count(), 1);
        for path in [ORDER_FILE, "/var/lib/slurm-rollout-agent/undo"] {
            assert!(!node.exec(&["test", "-e", path]).unwrap().success(), "{path} on {}", node.name());
        }
    }
}

fn of_a_staged_rollout(site: &Site) {
    site.stage(link("linked", "cn[01-02]", "/opt/app/2")).unwrap();
    let done = site.rollout(&["rehearse", "linked"]).unwrap();
    assert_eq!(done.code, Some(4), "{done:?}");
    // SlurmUser may, and others may not: agents run commands as root for it.
    let controller = site.cluster.active_controller();
    let by = |user: &str| controller.exec_as(user, &["slurm-rollout", "rehearse", "linked"]).unwrap();
    assert_eq!(by("slurm").code, Some(4));
    let refused = by("daemon");
    assert!(refused.code == Some(1) && refused.stderr.contains("only root and SlurmUser"), "{refused:?}");
    let others = site.rollout(&["rehearse", "linked", "-N", "cn[02-03]"]).unwrap();
    assert!(others.code == Some(1) && others.stderr.contains("linked is not for cn03"), "{others:?}");
    site.rollout(&["unstage", "linked"]).unwrap().into_stdout().unwrap();
}

fn with_a_silent_node(site: &Site) {
    let silent = site.cluster.node("cn04");
    freeze_agent(silent);
    let text = rehearse(site, &link("silent", "cn[03-04]", "/opt/app/2"), &["--json"], 3);
    replace_frozen_agent(silent);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["rollout"], &json["verdict"]), (&"silent".into(), &"trouble".into()), "{text}");
    let groups = json["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{text}");
    assert_eq!((&groups[0]["nodes"], &groups[0]["verdict"]), (&"cn04".into(), &"trouble".into()), "{text}");
    assert!(groups[0]["no_report"].as_str().unwrap().starts_with("no answer from its agent"), "{text}");
    assert_eq!(
        (&groups[1]["nodes"], &groups[1]["verdict"]),
        (&"cn03".into(), &"would-change".into()),
        "{text}"
    );
    assert_eq!(groups[1]["changes"][0]["steps"][0]["to"], "/opt/app/2", "{text}");
}
