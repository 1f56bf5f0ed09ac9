//! A firmware tool of shell scripts: it keeps the active version, and the one that the next boot activates, in files.

#![allow(clippy::disallowed_methods, reason = "files of a fake tool")]

use super::*;
use rollout_core::rollout::manifest::{Change, Manifest};
use std::os::unix::fs::PermissionsExt;

const LIMIT: Duration = Duration::from_secs(20);

struct Firmware(tempfile::TempDir);

impl Firmware {
    /// Version 1 is active.
    fn new() -> Self {
        let firmware = Self(tempfile::tempdir().unwrap());
        firmware.write("active", "1\n");
        let dir = firmware.0.path().display();
        firmware.script("probe", &format!("test \"$SLURM_ROLLOUT_NAME\" = bios && exec cat {dir}/active"));
        let flash = format!(
            "test \"$SLURM_ROLLOUT_NAME\" = bios\n\
             echo \"${{0##*/}} $SLURM_ROLLOUT_VERSION\" >> {dir}/log\n\
             echo \"$SLURM_ROLLOUT_VERSION\" > {dir}/flashed"
        );
        firmware.script("apply", &flash);
        firmware.script("undo", &flash);
        firmware
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn script(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\nset -e\n{script}\n"));
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn boot(&self) {
        let flashed = self.read("flashed");
        if !flashed.is_empty() {
            self.write("active", &flashed);
        }
    }

    /// To version 2.
    fn change(&self) -> CommandChange {
        let [probe, apply, undo] = ["probe", "apply", "undo"].map(|name| self.path(name));
        let text = format!(
            "name='r'\nnodes='n1'\n[[change]]\nkind='command'\nname='bios'\nversion='2'\nprobe=['{probe}']\n\
             apply=['{apply}']\nundo=['{undo}']\ntimeout='20s'\n"
        );
        match Manifest::parse(&text).unwrap().desired.changes.pop() {
            Some(Change::Command(command)) => command,
            other => panic!("{other:?}"),
        }
    }
}

fn state_dir() -> &'static Path {
    Path::new("/nonexistent")
}

fn version(version: &str) -> Before {
    Before::Command { version: version.to_owned() }
}

#[test]
fn there_and_back_each_with_a_boot_and_repeated_after_an_interruption() {
    let firmware = Firmware::new();
    let change = firmware.change();
    assert!(!change.is_satisfied().unwrap());
    let before = change.observe(state_dir(), None).unwrap();
    assert_eq!(before, version("1"));
    for _ in 0..2 {
        // Nobody can tell that it was flashed, so it is flashed again.
        let after = change.apply(&before, state_dir()).unwrap();
        assert!(after.changed && change.is_another_boot_due().unwrap());
        assert!(change.verify(&before, &after).unwrap_err().to_string().contains("it is 1, not 2"));
    }
    firmware.boot();
    assert!(change.is_satisfied().unwrap() && !change.is_another_boot_due().unwrap());
    // In its new boot, it is known.
    let after = change.apply(&before, state_dir()).unwrap();
    assert!(after.changed, "it is another than before the order");
    change.verify(&before, &after).unwrap();
    for _ in 0..2 {
        change.undo(&before, state_dir()).unwrap();
        assert!(change.verify_old(&before, state_dir()).unwrap_err().to_string().contains("it is 2, not 1"));
    }
    firmware.boot();
    change.verify_old(&before, state_dir()).unwrap();
    assert_eq!(firmware.read("log"), "apply 2\napply 2\nundo 1\nundo 1\n");
}

#[test]
fn what_has_the_version_is_left_alone() {
    let firmware = Firmware::new();
    firmware.write("active", " 2 \n");
    let change = firmware.change();
    assert!(change.is_satisfied().unwrap());
    assert_eq!(change.apply(&version("2"), state_dir()).unwrap(), After::unchanged());
    assert_eq!(change.rehearse(state_dir(), LIMIT).unwrap(), ChangeReport::default());
    assert_eq!(firmware.read("log"), "");
}

#[test]
fn an_undo_that_does_not_bring_the_old_version_is_not_believed() {
    let firmware = Firmware::new();
    let change = firmware.change();
    firmware.write("active", "2\n");
    firmware.script("undo", "exit 0");
    change.undo(&version("1"), state_dir()).unwrap();
    firmware.boot();
    assert!(
        change.verify_old(&version("1"), state_dir()).unwrap_err().to_string().contains("it is 2, not 1")
    );
    firmware.script("undo", "echo locked >&2; exit 3");
    let error = change.undo(&version("1"), state_dir()).unwrap_err().to_string();
    assert!(
        error.starts_with("taking back bios to 1: ") && error.ends_with("exit code 3: locked"),
        "{error}"
    );
}

#[test]
fn without_an_undo_nothing_is_taken_for_undone() {
    let firmware = Firmware::new();
    let change = CommandChange { undo: Vec::new(), ..firmware.change() };
    for (active, shown) in [("1", "the version is 1, and was 1"), ("1\n2", "is not known, and was 1")] {
        firmware.write("active", active);
        let error = change.undo(&version("1"), state_dir()).unwrap_err().to_string();
        assert!(error.contains("has no `undo`") && error.contains(shown), "{error}");
    }
    firmware.write("active", "1");
    let report = change.rehearse(state_dir(), LIMIT).unwrap();
    assert!(report.notes[0].starts_with("no way back: the change of bios"), "{report:?}");
    let step = Step { what: "bios".to_owned(), from: Some("1".to_owned()), to: Some("2".to_owned()) };
    assert_eq!((report.steps, report.trouble.len()), (vec![step], 0));
    let report = firmware.change().rehearse(state_dir(), LIMIT).unwrap();
    assert_eq!((report.steps.len(), report.notes.len()), (1, 0));
    assert_eq!(firmware.read("log"), "", "a rehearsal changes nothing");
}

#[test]
fn one_that_fails_is_reported_with_its_output_and_one_that_hangs_is_killed() {
    let firmware = Firmware::new();
    firmware.script("apply", "echo writing; echo no power supply >&2; exit 5");
    let change = firmware.change();
    let error = change.apply(&version("1"), state_dir()).unwrap_err().to_string();
    assert!(
        error.starts_with("changing bios to 2: ") && error.ends_with("exit code 5: no power supply"),
        "{error}"
    );
    let pid = firmware.path("pid");
    firmware.script("apply", &format!("sleep 1000 & echo $! > {pid}; echo block 7; wait"));
    let hanging =
        CommandChange { timeout: rollout_core::time_limit::TimeLimit::from_secs(2), ..firmware.change() };
    let error = hanging.apply(&version("1"), state_dir()).unwrap_err().to_string();
    assert!(error.contains("did not end within 2 s and was killed: block 7"), "{error}");
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", firmware.read("pid").trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "what it started goes on: {stat}");
}

#[test]
fn a_probe_that_prints_no_version_stops_everything() {
    let firmware = Firmware::new();
    let change = firmware.change();
    for (script, word) in [
        ("exit 0", "printed nothing"),
        ("echo 1; echo 2", "more than one line"),
        ("echo 2; echo no device >&2; exit 1", "exit code 1: no device"),
    ] {
        firmware.script("probe", script);
        let errors = [
            change.is_satisfied().map(drop).unwrap_err(),
            change.observe(state_dir(), None).map(drop).unwrap_err(),
            change.apply(&version("1"), state_dir()).map(drop).unwrap_err(),
            change.is_another_boot_due().map(drop).unwrap_err(),
            change.verify(&version("1"), &After::unchanged()).unwrap_err(),
            change.verify_old(&version("1"), state_dir()).map(drop).unwrap_err(),
        ];
        for error in errors {
            let error = error.to_string();
            assert!(error.contains("version of bios") && error.contains(word), "{error}");
        }
        assert!(change.rehearse(state_dir(), LIMIT).unwrap().trouble[0].contains(word));
    }
    assert_eq!(firmware.read("log"), "");
}

#[test]
fn a_program_that_is_missing_is_found_before_anything_is_changed() {
    let firmware = Firmware::new();
    for missing in ["probe", "apply", "undo"] {
        let mut change = firmware.change();
        let command = match missing {
            "probe" => &mut change.probe,
            "apply" => &mut change.apply,
            _ => &mut change.undo,
        };
        *command = vec![firmware.path("none")];
        let error = change.is_satisfied().unwrap_err().to_string();
        assert!(error.contains(&firmware.path("none")), "{error}");
        let report = change.rehearse(state_dir(), LIMIT).unwrap();
        assert_eq!((report.steps.len(), report.trouble), (1, vec![error]));
    }
    firmware.write("apply", "no program");
    std::fs::set_permissions(firmware.path("apply"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(firmware.change().is_satisfied().unwrap_err().to_string().contains("may not execute"));
}

#[test]
fn a_record_of_a_different_kind_is_refused() {
    let firmware = Firmware::new();
    let change = firmware.change();
    for error in [
        change.apply(&Before::InImage, state_dir()).map(drop).unwrap_err(),
        change.undo(&Before::InImage, state_dir()).unwrap_err(),
        change.verify_old(&Before::InImage, state_dir()).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().ends_with("is of another kind of change"), "{error}");
    }
    assert_eq!(firmware.read("log"), "");
}
