//! The verbs that steer started rollouts, on a state directory without Slurm.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start programs of its own"
)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A site below a temporary directory, with a rollout that is staged for cn[1-4].
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let dir = site.dir();
        std::fs::create_dir(dir.join("state")).unwrap();
        let keys = format!("state_dir = {:?}\nscontrol = \"/bin/false\"\n", dir.join("state"));
        std::fs::write(dir.join("controller.toml"), keys + "deliver = \"never\"\n").unwrap();
        let manifest = "name = 'driver'\nnodes = 'cn[1-4]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n\
             [strategy]\nwaves = [2]\n";
        std::fs::write(dir.join("driver.toml"), manifest).unwrap();
        site.done("stage driver.toml");
        site
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Runs `slurm-rollout`. Returns its exit code, output and errors.
    fn run(&self, arguments: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_slurm-rollout"))
            .args(["--config", &self.dir().join("controller.toml").display().to_string()])
            .args(arguments.split(' '))
            .env("SUDO_USER", "ann")
            .current_dir(self.dir())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Runs a verb that succeeds. Returns its output.
    fn done(&self, arguments: &str) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments}: {out}{err}");
        out
    }

    /// Runs a verb that fails. Returns the last line of its errors.
    fn refused(&self, arguments: &str) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 1, "{arguments}: {out}{err}");
        err.lines().last().unwrap_or_default().trim_start_matches("slurm-rollout: ").to_owned()
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{arguments} --json"))).unwrap()
    }

    /// Appends a line to the journal, as the executor does.
    fn journal(&self, line: Value) {
        let path = self.dir().join("state/rollouts/driver/journal");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        let mut line = line;
        (line["t_ms"], line["by"]) = (json!(2_000_000_000_000_u64), json!("reconcile"));
        writeln!(file, "{line}").unwrap();
    }

    /// Returns whether `reconcile` was woken up since the last call.
    fn was_woken(&self) -> bool {
        std::fs::remove_file(self.dir().join("state/watch")).is_ok()
    }
}

#[test]
fn a_rollout_is_started_steered_and_stopped() {
    let site = Site::new();
    assert!(!site.was_woken());
    assert!(site.done("history").ends_with("  4 staged\n"));
    assert!(site.refused("pause driver").starts_with("driver: is not started; `slurm-rollout start driver`"));
    assert_eq!(site.done("start driver"), "driver: started for 4 nodes: cn[1-4]\n");
    assert!(site.was_woken());
    let again = site.done("start driver");
    assert!(again.starts_with("driver: is running already, by ann@"), "{again}");
    assert!(site.was_woken(), "it may have died");
    assert!(site.done("status driver").starts_with("driver: running since 2"));
    assert_eq!(site.json("status")[0]["conduct"], "running");
    assert!(site.refused("undo driver").contains("first `slurm-rollout stop driver`"));

    let paused = site.json("pause driver --why noise");
    assert_eq!((&paused["rollout"], &paused["changed"]), (&json!("driver"), &json!(true)));
    assert_eq!((&paused["conduct"]["state"], &paused["conduct"]["why"]), (&json!("paused"), &json!("noise")));
    assert!(paused["conduct"]["by"].as_str().unwrap().starts_with("ann@"));
    assert_eq!(site.json("pause driver")["changed"], false);
    let status = site.done("status");
    assert!(
        status.starts_with("driver: paused since 2")
            && status.contains(": noise\n  `slurm-rollout resume driver` has it go on\n\nROLLOUT "),
        "{status}"
    );
    assert!(site.refused("start driver").ends_with("(noise); `slurm-rollout resume driver`"));
    assert_eq!(
        site.done("approve driver 1"),
        "driver: wave 1 approved; it is paused, `slurm-rollout resume driver`\n"
    );
    assert_eq!(site.run("approve driver first").0, 2);
    assert_eq!(site.done("resume driver"), "driver: resumed\n");

    site.journal(json!({ "is": "halted", "why": "2 nodes failed" }));
    let history = site.done("history");
    assert!(
        history.contains("halted since 2") && history.contains(": 2 nodes failed; wave 1 of 2, 4 staged"),
        "{history}"
    );
    let past = &site.json("history")[0];
    assert_eq!(
        (&past["conduct"]["state"], &past["wave"]),
        (&json!("halted"), &json!({ "number": 1, "of": 2 }))
    );
    let status = site.done("status driver");
    assert!(
        status
            .contains("\n  once the cause is gone: `slurm-rollout retry NODES` for nodes that failed, then"),
        "{status}"
    );
    assert!(site.done("resume driver").contains("failures so far no longer count"));

    site.journal(json!({ "is": "requested", "nodes": "cn1", "way": "asap" }));
    let (code, out, err) = site.run("unstage driver cn[1-2]");
    assert_eq!((code, out.as_str()), (1, "driver: cn2 unstaged\n"));
    assert!(
        err.contains("cn1: its reboot is requested from Slurm; first `scontrol cancel_reboot cn1`"),
        "{err}"
    );
    let stopped = site.json("stop driver");
    assert_eq!((&stopped["unstaged"], &stopped["conduct"]["state"]), (&json!("cn[3-4]"), &json!("stopped")));
    assert!(site.done("stop driver").starts_with("driver: is stopped already, by ann@"));
    assert!(site.refused("start driver").starts_with("driver: was stopped by ann@"));
    assert!(site.refused("resume driver").starts_with("driver: was stopped by ann@"));
    // The executor withdraws the request, and the rest is unstaged.
    site.journal(json!({ "is": "withdrawn", "nodes": "cn1", "why": "stopped" }));
    assert!(site.done("stop driver").ends_with("driver: cn1 unstaged\n"));
    let shown = site.done("show driver");
    for event in ["started", "paused: noise", "wave 1 approved", "halted: 2 nodes failed", "stopped"] {
        assert!(shown.lines().any(|line| line.ends_with(&format!("  {event}"))), "{event}: {shown}");
    }
}

#[test]
fn a_site_is_frozen_and_thawed() {
    let site = Site::new();
    assert_eq!(site.done("thaw"), "this site was not frozen\n");
    let frozen = site.done("freeze --why smoke");
    assert!(frozen.starts_with("this site is frozen by ann@") && frozen.contains(" (smoke): "), "{frozen}");
    assert!(site.was_woken());
    let started = site.json("start driver");
    assert_eq!(
        (&started["conduct"]["state"], &started["frozen"]["why"]),
        (&json!("running"), &json!("smoke"))
    );
    assert!(
        started["report"].as_str().unwrap().ends_with("no reboot is requested before `slurm-rollout thaw`")
    );
    let again = site.json("freeze --why other");
    assert_eq!((&again["changed"], &again["frozen"]["why"]), (&json!(false), &json!("smoke")));
    let status = site.done("status");
    assert!(status.contains("\nthis site is frozen by ann@"), "{status}");
    let thawed = site.json("thaw");
    assert_eq!((&thawed["changed"], &thawed["frozen"]), (&json!(true), &Value::Null));
    assert!(!site.done("status").contains("frozen"));
    assert_eq!(site.json("resume driver")["changed"], false);
}

#[test]
fn a_rollout_that_would_come_after_one_that_never_was_is_not_started() {
    let site = Site::new();
    let stage = |name: &str, node: &str, after: &str| {
        let text = format!(
            "name = '{name}'\nnodes = '{node}'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n\
             [strategy]\nafter = '{after}'\n"
        );
        std::fs::write(site.dir().join("manifest.toml"), text).unwrap();
    };
    stage("image", "cn5", "drver");
    let (code, out, _) = site.run("plan manifest.toml");
    let why = "strategy.after: drver: no such rollout was ever staged; similar: driver";
    assert_eq!(code, 3, "{out}");
    assert!(out.starts_with(&format!("image: would be refused: {why}\n")), "{out}");
    site.done("stage manifest.toml");
    let (code, out, _) = site.run("plan image --json");
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &plan["refused"]), (3, &json!([why])), "{out}");
    let refused = site.refused("start image");
    assert_eq!(
        refused,
        format!("image: {why}; stage that one first, or unstage image and correct its manifest")
    );
    assert!(site.done("show image").contains("staged") && !site.was_woken());
    // One that is over is no mistake. Neither is an id.
    site.done("unstage image");
    site.done("unstage driver");
    for (number, after) in ["driver", "driver@1", "image@1"].iter().enumerate() {
        let name = format!("next{number}");
        stage(&name, &format!("cn{number}"), after);
        site.done("stage manifest.toml");
        assert!(site.done(&format!("start {name}")).starts_with(&format!("{name}: started for 1 node")));
    }
}
