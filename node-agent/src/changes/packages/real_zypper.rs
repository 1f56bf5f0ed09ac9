//! Tests with the real zypper and rpm of this machine, on a private root and with a private repository.

use super::real_rpm as workshop;
use super::rpm::Rpm;
use super::surroundings::System;
use super::tests::step;
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::zypper::{ZYPPER, Zypper};
use super::{ChangeError, Site, verify_with};
use rollout_core::agent::record::After;
use rollout_core::protocol::rehearsal::ChangeReport;
use rollout_core::rollout::manifest::{Allowance, Manager, Packages};
use rollout_core::time_limit::TimeLimit;
use rollout_host::durable::replace;
use rollout_host::run::is_program;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

struct Lab {
    dir: tempfile::TempDir,
    zypper: Zypper,
    cache: UndoCache,
    system: System,
}

const OLD: [&str; 2] = ["alpha-0:1.0-1.noarch", "beta-0:1.0-1.noarch"];
const NEW: [&str; 2] = ["alpha-0:1.1-1.noarch", "beta-0:1.1-1.noarch"];

impl Lab {
    /// Makes a root with alpha and beta 1.0 installed, and a repository with 1.0 and 1.1. `beta` needs `alpha` in its
    /// own version.
    fn new() -> Self {
        for program in [ZYPPER, "/usr/bin/rpm", "/usr/bin/rpmbuild", "/usr/bin/createrepo_c"] {
            assert!(
                is_program(Path::new(program)),
                "{program} is missing: apt-get install zypper rpm createrepo-c"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/zypp/repos.d")).unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        let zypper = Zypper::in_root(&root);
        let cache = UndoCache::in_dir(dir.path());
        let system = System { root, kernel: "1.0".to_owned(), loader: None };
        let lab = Self { zypper, cache, system, dir };
        lab.repository("lab", "enabled=1", &lab.path("repo"));
        for version in ["1.0", "1.1"] {
            lab.build("alpha", version, "");
            lab.build("beta", version, &format!("Requires: alpha = {version}"));
        }
        workshop::publish(lab.dir.path());
        lab.apply(&lab.wanted(&["beta-1.0"], &[]), &[]).unwrap();
        lab.cache.remove().unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn repository(&self, id: &str, lines: &str, directory: &Path) {
        let text =
            format!("[{id}]\nname={id}\ngpgcheck=0\n{lines}\nbaseurl=file://{}\n", directory.display());
        self.write(&format!("etc/zypp/repos.d/{id}.repo"), &text);
    }

    fn build(&self, name: &str, version: &str, more: &str) {
        workshop::build(self.dir.path(), name, version, more, ("", ""));
    }

    fn withdraw(&self, file: &str) {
        fs::remove_file(self.path("repo/noarch").join(file)).unwrap();
        workshop::publish(self.dir.path());
    }

    fn wanted(&self, install: &[&str], remove: &[&str]) -> Packages {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect();
        Packages {
            install: list(install),
            remove: list(remove),
            manager: Some(Manager::Zypper),
            timeout: TimeLimit::from_secs(120),
            ..Packages::default()
        }
    }

    fn with<T>(&self, wanted: &Packages, run: impl FnOnce(Site<'_>) -> T) -> T {
        let tool = self.zypper.clone().for_change(wanted);
        run(Site { tool: &tool, cache: &self.cache, system: &self.system })
    }

    fn observe(&self) -> Vec<String> {
        self.with(&Packages::default(), |site| site.observe()).unwrap()
    }

    fn apply(&self, wanted: &Packages, before: &[String]) -> Result<After, ChangeError> {
        self.with(wanted, |site| site.apply(wanted, before))
    }

    fn undo(&self, wanted: &Packages, before: &[String]) -> Result<(), ChangeError> {
        self.with(wanted, |site| site.undo(wanted, before))
    }

    /// Undoes a change, and checks that it can be done twice and is proven. Returns the notes.
    fn undone(&self, wanted: &Packages, before: &[String]) -> Vec<String> {
        self.undo(wanted, before).unwrap();
        self.undo(wanted, before).unwrap();
        assert_eq!(self.zypper.installed().unwrap(), before);
        self.with(wanted, |site| site.verify_old(before)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        replace(&path, text.as_bytes(), 0o644).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("root").join(name)).unwrap_or_else(|error| format!("{name}: {error}"))
    }

    /// Runs zypper as somebody else would.
    fn zypper(&self, arguments: &[&str]) {
        let output = self.zypper.by_hand(Duration::from_secs(60)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
    }
}

fn list(packages: &[&str]) -> Vec<String> {
    packages.iter().map(|package| (*package).to_owned()).collect()
}

#[test]
fn a_rehearsal_names_versions_space_and_the_way_back_and_changes_nothing() {
    let lab = Lab::new();
    let limit = Duration::from_secs(600);
    let rehearse = |wanted: &Packages| lab.with(wanted, |site| site.rehearse(wanted, limit));
    assert_eq!(rehearse(&lab.wanted(&["beta-1.0"], &[])).unwrap(), ChangeReport::default());
    let upgrade = lab.wanted(&["beta-1.1"], &[]);
    let report = rehearse(&upgrade).unwrap();
    let steps = [step("alpha.noarch", "1.0-1", "1.1-1"), step("beta.noarch", "1.0-1", "1.1-1")];
    assert_eq!(
        (&report.steps[..], report.trouble.len(), report.notes.len()),
        (&steps[..], 0, 0),
        "{report:?}"
    );
    assert!(!report.disk.is_empty(), "{report:?}");
    let removal = rehearse(&lab.wanted(&[], &["alpha"])).unwrap();
    assert_eq!(removal.steps, [step("alpha.noarch", "1.0-1", ""), step("beta.noarch", "1.0-1", "")]);
    let error = rehearse(&lab.wanted(&["nosuch"], &[])).unwrap_err().to_string();
    assert!(error.contains("nosuch"), "{error}");

    lab.withdraw("alpha-1.0-1.noarch.rpm");
    let report = rehearse(&upgrade).unwrap();
    assert!(report.trouble.len() == 1 && report.trouble[0].contains("alpha-0:1.0-1.noarch"), "{report:?}");
    assert_eq!(lab.zypper.installed().unwrap(), OLD);
    assert!(!lab.path("undo").exists(), "nothing is kept");
}

#[test]
fn an_upgrade_and_the_way_back_without_the_mirror() {
    let lab = Lab::new();
    for file in ["etc/alpha.conf", "etc/beta.kept"] {
        lab.write(file, "by the admin");
    }
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let before = lab.observe();
    assert_eq!(before, OLD);
    let reasons = lab.zypper.reasons().unwrap();
    assert_eq!(reasons.keys().collect::<Vec<_>>(), ["alpha.*"]);
    let after = lab.apply(&wanted, &before).unwrap();
    assert_eq!((&after.added, &after.removed), (&list(&NEW), &list(&OLD)));
    verify_with(&lab.zypper, &wanted, &after, "1.0").unwrap();

    fs::remove_dir_all(lab.path("repo")).unwrap();
    assert_eq!(lab.undone(&wanted, &before), Vec::<String>::new());
    assert_eq!(lab.read("opt/beta"), "1.0\n");
    assert_eq!(
        (lab.read("etc/alpha.conf"), lab.read("etc/beta.kept")),
        ("by the admin".into(), "by the admin".into())
    );
    assert_eq!(lab.zypper.reasons().unwrap(), reasons);
}

#[test]
fn a_downgrade_takes_along_what_it_needs() {
    let lab = Lab::new();
    lab.apply(&lab.wanted(&["beta=1.1"], &[]), &lab.observe()).unwrap();
    let before = lab.observe();
    assert_eq!(before, NEW);
    let wanted = lab.wanted(&["beta=1.0"], &[]);
    let after = lab.apply(&wanted, &before).unwrap();
    verify_with(&lab.zypper, &wanted, &after, "1.0").unwrap();
    assert_eq!(lab.zypper.installed().unwrap(), OLD);
    lab.undone(&wanted, &before);
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let lab = Lab::new();
    let error = lab.apply(&lab.wanted(&["alpha-1.1", "nosuch"], &["beta"]), &[]).unwrap_err().to_string();
    assert!(error.contains("with zypper: No provider of 'nosuch' found") && error.contains("104"), "{error}");
    assert_eq!(lab.zypper.installed().unwrap(), OLD);
}

#[test]
fn one_that_goes_takes_along_what_needs_it_and_both_come_back() {
    let lab = Lab::new();
    // rpmdb2solv fails on an empty database.
    lab.build("other", "1", "");
    workshop::publish(lab.dir.path());
    lab.zypper(&["refresh"]);
    lab.zypper(&["install", "other"]);
    let before = lab.observe();
    let reasons = lab.zypper.reasons().unwrap();
    let wanted = lab.wanted(&[], &["alp*"]);
    let after = lab.apply(&wanted, &before).unwrap();
    verify_with(&lab.zypper, &wanted, &after, "1.0").unwrap();
    assert_eq!(lab.zypper.installed().unwrap(), ["other-0:1-1.noarch"]);
    assert!(lab.zypper.reasons().unwrap().is_empty());
    lab.undone(&wanted, &before);
    assert_eq!(lab.zypper.reasons().unwrap(), reasons);
}

#[test]
fn locks_hold_unless_the_manifest_lifts_them() {
    let lab = Lab::new();
    lab.zypper(&["addlock", "alpha"]);
    let locks = lab.read("etc/zypp/locks");
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("allow = [\"excluded\"]"), "{error}");
    let allowed = Packages { allow: [Allowance::Excluded].into(), ..wanted };
    lab.apply(&allowed, &before).unwrap();
    assert_eq!(lab.zypper.installed().unwrap(), NEW);
    assert_eq!(lab.read("etc/zypp/locks"), locks);
    lab.undone(&allowed, &before);
    assert_eq!(lab.read("etc/zypp/locks"), locks);
}

#[test]
fn repositories_are_those_of_the_manifest() {
    let lab = Lab::new();
    lab.repository("dead", "enabled=1", Path::new("/nonexistent"));
    lab.repository("lab", "enabled=0", &lab.path("repo"));
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("Skipping repository 'dead'") && error.contains("beta-1.1"), "{error}");
    let enabled = Packages { enable_repos: vec!["lab".to_owned()], ..wanted.clone() };
    lab.apply(&enabled, &before).unwrap();
    lab.undone(&enabled, &before);

    lab.repository("lab", "enabled=1", &lab.path("repo"));
    let before = lab.observe();
    let disabled = |globs: &[&str]| Packages { disable_repos: list(globs), ..wanted.clone() };
    for globs in [&["l*"][..], &["*"]] {
        let error = lab.apply(&disabled(globs), &before).unwrap_err().to_string();
        assert!(error.contains("beta-1.1"), "{error}");
    }
    let other = Packages { enable_repos: vec!["lab".to_owned()], ..disabled(&["*"]) };
    lab.apply(&other, &before).unwrap();
    lab.undone(&other, &before);
}

#[test]
fn a_change_that_could_not_be_undone_is_refused_before_anything_is_changed() {
    let lab = Lab::new();
    let before = lab.observe();
    lab.withdraw("alpha-1.0-1.noarch.rpm");
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("alpha-0:1.0-1.noarch") && error.contains("no-rollback"), "{error}");
    assert!(!error.contains("beta-0:1.0"), "beta is kept: {error}");
    assert_eq!(lab.zypper.installed().unwrap(), OLD);
    lab.undone(&wanted, &before);
}

/// A different build of the same version is not kept, and comes back from the repository.
#[test]
fn a_stranger_of_the_same_name_is_not_kept() {
    let lab = Lab::new();
    let before = lab.observe();
    lab.build("alpha", "1.0", "URL: http://example.invalid/rebuilt");
    workshop::publish(lab.dir.path());
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    lab.apply(&wanted, &before).unwrap();
    let kept = Rpm::in_root(&lab.path("root")).cached_files(&lab.cache).unwrap();
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["beta-0:1.0-1.noarch"]);
    lab.undone(&wanted, &before);
}

#[test]
fn failed_scriptlets_are_no_silent_success_and_a_note_on_the_way_back() {
    let lab = Lab::new();
    let before = lab.observe();
    lab.write("fail", "");
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("%post(alpha-1.1-1.noarch)") && error.contains("failed-scriptlets"), "{error}");
    let notes = lab.undone(&wanted, &before);
    assert!(
        notes.iter().any(|note| note.contains("on the way back") && note.contains("%post(alpha-1.0")),
        "{notes:?}"
    );
}

#[test]
fn a_held_lock_is_waited_for() {
    let lab = Lab::new();
    let slow = "/opt/slow-extra\n%pre -p <lua>\nposix.sleep(10)";
    workshop::build(lab.dir.path(), "slow", "1", "", ("touch %{buildroot}/opt/slow-extra", slow));
    workshop::publish(lab.dir.path());
    lab.zypper(&["refresh"]);
    let before = lab.observe();
    let other = lab.zypper.by_hand(Duration::from_secs(60)).args(["install", "slow"]);
    let other = thread::spawn(move || other.output());
    while lab.read("run/zypp.pid").trim().parse::<u32>().is_err() {
        thread::sleep(Duration::from_millis(50));
    }
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let hurried = Packages { timeout: TimeLimit::from_secs(1), ..wanted.clone() };
    let error = lab.apply(&hurried, &before).unwrap_err().to_string();
    assert!(error.contains("lock"), "{error}");
    lab.apply(&wanted, &before).unwrap();
    assert!(other.join().unwrap().unwrap().status.success());
    assert!(lab.zypper.installed().unwrap().contains(&NEW[1].to_owned()));
}

#[test]
fn kernels_stay_beside_each_other() {
    let lab = Lab::new();
    for version in ["5", "6"] {
        workshop::build(
            lab.dir.path(),
            "kernel-default",
            version,
            "Provides: multiversion(kernel)",
            (
                &format!(
                    "mkdir -p %{{buildroot}}/lib/modules/{version}\ntouch %{{buildroot}}/lib/modules/{version}/vmlinuz\nrm -r %{{buildroot}}/opt %{{buildroot}}/etc %{{buildroot}}/usr\nmkdir -p %{{buildroot}}/opt %{{buildroot}}/etc %{{buildroot}}/usr/lib/systemd/system; touch %{{buildroot}}/opt/kernel-default %{{buildroot}}/etc/kernel-default.conf %{{buildroot}}/etc/kernel-default.kept %{{buildroot}}/usr/lib/systemd/system/kernel-default.service"
                ),
                &format!("/lib/modules/{version}/vmlinuz"),
            ),
        );
    }
    workshop::publish(lab.dir.path());
    lab.write("etc/zypp/zypp.conf", "[main]\nmultiversion = provides:multiversion(kernel)\n");
    lab.zypper(&["--plus-content=lab", "refresh"]);
    lab.zypper(&["install", "kernel-default=5"]);
    let before = lab.observe();
    let wanted = lab.wanted(&["kernel-default=6"], &["kernel-default-5"]);
    let after = lab.apply(&wanted, &before).unwrap();
    assert_eq!(after.kernels, ["6"]);
    assert_eq!(after.removed, ["kernel-default-0:5-1.noarch"]);
    lab.undone(&wanted, &before);
}

fn interrupt(forward: bool) {
    let lab = Lab::new();
    let before = lab.observe();
    lab.write("slow", "");
    let hurried = Packages { timeout: TimeLimit::from_secs(15), ..lab.wanted(&["beta-1.1"], &[]) };
    let error = lab.apply(&hurried, &before).unwrap_err().to_string();
    assert!(error.contains("not done within 15 s, killed"), "{error}");
    assert_ne!(lab.zypper.installed().unwrap(), before);
    fs::remove_file(lab.path("root/slow")).unwrap();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    if forward {
        let after = lab.apply(&wanted, &before).unwrap();
        verify_with(&lab.zypper, &wanted, &after, "1.0").unwrap();
        assert_eq!(lab.zypper.installed().unwrap(), NEW);
    }
    lab.undone(&wanted, &before);
    assert_eq!(lab.read("opt/alpha"), "1.0\n");
}

#[test]
fn an_interrupted_transaction_is_finished() {
    interrupt(true);
}

#[test]
fn an_interrupted_transaction_is_taken_back() {
    interrupt(false);
}
