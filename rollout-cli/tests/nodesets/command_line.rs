//! Node sets on the command line of `slurm-rollout` and in a manifest that it stages.

use super::site::config;
use super::write;
use std::path::Path;
use std::process::Command;

/// Runs `slurm-rollout` in a site whose files are all below `dir`. Returns its exit code, output and errors.
fn slurm_rollout(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_slurm-rollout"))
        .args(["--config", &dir.join("controller.toml").display().to_string()])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let keys = format!(
        "state_dir = {:?}\nscontrol = {:?}\nclustershell_dir = {:?}\ndeliver = \"never\"\n",
        dir.path().join("state"),
        config.scontrol,
        config.clustershell_dir,
    );
    let manifest = |nodes: &str| {
        format!(
            "name = 'driver'\nnodes = '{nodes}' # these\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
        )
    };
    write(
        dir.path(),
        &[
            ("controller.toml", &keys),
            ("groups", "compute: cn[01-02]\n"),
            ("set.toml", &manifest("@compute,@state:drain!cn02")),
            ("same.toml", &manifest("cn01 cn03")),
            ("typo.toml", &manifest("cn01,@typo")),
            ("none.toml", &manifest("@compute!cn[01-02]")),
        ],
    );
    dir
}

#[test]
fn a_staged_node_set_is_the_nodes_that_it_was() {
    let site = site();
    let dir = site.path();
    let (code, out, err) = slurm_rollout(dir, &["stage", "--dry-run", "set.toml"]);
    assert_eq!((code, out.as_str()), (0, "driver: would be staged for 2 nodes: cn[01,03]\n"), "{err}");
    let (code, out, err) = slurm_rollout(dir, &["stage", "set.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("driver: staged for 2 nodes: cn[01,03]\n"), "{out}");
    assert!(out.ends_with("reason=driver cn[01,03]\nor:    slurm-rollout start driver\n"), "{out}");

    // The group has other nodes now, and the rollout has not.
    write(dir, &[("groups", "compute: cn02\n")]);
    let (_, out, _) = slurm_rollout(dir, &["show", "driver"]);
    let shown =
        "# nodes was \"@compute,@state:drain!cn02\" when this was staged.\nnodes = \"cn[01,03]\" # these\n";
    assert!(out.contains(shown) && out.contains("cn[01,03]"), "{out}");
    let (code, out, err) = slurm_rollout(dir, &["stage", "same.toml"]);
    assert!(out.starts_with("driver: is staged already for 2 nodes: cn[01,03]\n"), "{code} {out} {err}");

    let (code, out, err) = slurm_rollout(dir, &["status", "--json", "@partition:main!@st:down"]);
    assert!(code == 0 && out.contains("\"cn01\"") && !out.contains("\"cn03\""), "{out} {err}");
    let (code, out, err) = slurm_rollout(dir, &["unstage", "driver", "@sp:gpu"]);
    assert_eq!((code, out.as_str()), (0, "driver: cn01 unstaged\n"), "{err}");
}

#[test]
fn an_unknown_group_is_an_error_everywhere() {
    let site = site();
    let dir = site.path();
    let place = format!("@local:typo: no such group: {}/groups has only compute\n", dir.display());
    let no_set = "\"@typo\" is neither a hostlist nor a node set: ";
    for (arguments, error) in [
        (&["stage", "typo.toml"][..], format!("typo.toml: nodes: {place}")),
        (&["stage", "--dry-run", "typo.toml"], format!("typo.toml: nodes: {place}")),
        (&["unstage", "driver", "@typo"], format!("{no_set}{place}")),
        (&["undo", "driver", "@typo"], format!("{no_set}{place}")),
        (&["retry", "@typo"], format!("{no_set}{place}")),
        (&["release", "@typo"], format!("{no_set}{place}")),
        (&["doctor", "@typo"], format!("{no_set}{place}")),
        (&["status", "@typo"], format!("no such rollout, and {no_set}{place}")),
    ] {
        let (code, _, err) = slurm_rollout(dir, arguments);
        assert_eq!((code, err), (1, format!("slurm-rollout: {error}")), "{arguments:?}");
    }
    let (code, _, err) = slurm_rollout(dir, &["stage", "none.toml"]);
    let none = "slurm-rollout: none.toml: nodes: \"@compute!cn[01-02]\" stands for no node at present\n";
    assert_eq!((code, err.as_str()), (1, none));
}
