//! Tests with the real dnf and rpm of this machine, on a private root and with a private repository.

mod refusals;
mod signatures;
mod surroundings;

use super::dnf::Dnf;
use super::real_rpm as workshop;
use super::rpm::Rpm;
use super::surroundings::System;
use super::tests::step;
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::{ChangeError, Site, verify_with};
use crate::changes::image::Loader;
use rollout_core::agent::record::After;
use rollout_core::protocol::rehearsal::ChangeReport;
use rollout_core::rollout::manifest::{Allowance, Manager, Packages};
use rollout_core::time_limit::TimeLimit;
use rollout_host::durable::replace;
use rollout_host::run::{Program, is_program};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DNF: &str = "/usr/bin/dnf";
/// Used if TEST_DNF5 is set: with both installed, the tests run with one at a time.
const DNF5: &str = "/usr/bin/dnf5";

struct Lab {
    dir: tempfile::TempDir,
    dnf: Dnf,
    cache: UndoCache,
    system: System,
}

impl Lab {
    /// Makes a root with alpha and beta 1.0 installed, and a repository with 1.0 and 1.1.
    fn new() -> Self {
        Self::configured("")
    }

    /// The same with further lines in dnf.conf.
    fn configured(main: &str) -> Self {
        let dnf =
            if is_program(Path::new(DNF5)) && std::env::var_os("TEST_DNF5").is_some() { DNF5 } else { DNF };
        for program in [dnf, "/usr/bin/rpm", "/usr/bin/rpmbuild", "/usr/bin/createrepo_c"] {
            assert!(
                is_program(Path::new(program)),
                "{program} is missing: apt-get install dnf rpm createrepo-c"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["root", "repo", "cache", "repos"] {
            fs::create_dir(path(name)).unwrap();
        }
        let main = format!("[main]\ngpgcheck=1\n{main}\n");
        replace(&path("dnf.conf"), main.as_bytes(), 0o644).unwrap();
        let root = [
            format!("--config={}", path("dnf.conf").display()),
            format!("--installroot={}", path("root").display()),
            format!("--setopt=reposdir={}", path("repos").display()),
            format!("--setopt=cachedir={}", path("cache").display()),
            "--releasever=1".to_owned(),
        ];
        let rpm = Rpm::in_root(&path("root"));
        let flavour = super::detect::flavour(Path::new(dnf));
        let dnf = Dnf::in_root(dnf, flavour, &root, rpm);
        let cache = UndoCache::in_dir(dir.path());
        let system = System { root: path("root"), kernel: "1.0".to_owned(), loader: None };
        let lab = Self { dnf, cache, system, dir };
        lab.repository("lab", &format!("baseurl=file://{}", lab.path("repo").display()));
        for version in ["1.0", "1.1"] {
            lab.build("alpha", version, "");
            lab.build("beta", version, &format!("Requires: alpha = {version}"));
        }
        lab.publish();
        lab.apply(&lab.wanted(&["beta-1.0"], &[]), &[]).unwrap();
        lab.cache.remove().unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a repository of unsigned packages.
    fn repository(&self, id: &str, lines: &str) {
        let text = format!("[{id}]\nname={id}\ngpgcheck=0\n{lines}\n");
        replace(&self.path("repos").join(format!("{id}.repo")), text.as_bytes(), 0o644).unwrap();
    }

    fn build(&self, name: &str, version: &str, more: &str) {
        self.build_with(name, version, more, ("", ""));
    }

    /// Builds a package with further commands in %install and further lines in %files.
    fn build_with(&self, name: &str, version: &str, more: &str, further: (&str, &str)) {
        workshop::build(self.dir.path(), name, version, more, further);
    }

    fn publish(&self) {
        workshop::publish(self.dir.path());
    }

    /// Removes a version of a package from the repository.
    fn withdraw(&self, file: &str) {
        fs::remove_file(self.path("repo/noarch").join(file)).unwrap();
        self.publish();
    }

    fn wanted(&self, install: &[&str], remove: &[&str]) -> Packages {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect();
        Packages {
            install: list(install),
            remove: list(remove),
            manager: Some(Manager::Dnf),
            timeout: TimeLimit::from_secs(120),
            ..Packages::default()
        }
    }

    fn with<T>(&self, wanted: &Packages, run: impl FnOnce(Site<'_>) -> T) -> T {
        let tool = self.dnf.clone().for_change(wanted);
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

    fn verify_old(&self, before: &[String]) -> Result<Vec<String>, ChangeError> {
        self.with(&Packages::default(), |site| site.verify_old(before))
    }

    fn verify(&self, wanted: &Packages, after: &After) -> Result<(), ChangeError> {
        verify_with(&self.dnf, wanted, after, &self.system.kernel)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        replace(&path, text.as_bytes(), 0o644).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("root").join(name)).unwrap_or_else(|error| format!("{name}: {error}"))
    }

    /// Runs dnf as somebody else would.
    fn dnf(&self, arguments: &[&str]) -> String {
        let run = |limit| self.dnf.clone().by_hand(limit).args(arguments);
        let output = run(Duration::from_secs(60)).output().unwrap();
        assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
        output.stdout
    }

    fn versions(&self) -> [Option<String>; 2] {
        let read = |name: &str| fs::read_to_string(self.path("root/opt").join(name)).ok();
        ["alpha", "beta"].map(|name| read(name).map(|text| text.trim().to_owned()))
    }
}

const OLD: [&str; 2] = ["alpha-0:1.0-1.noarch", "beta-0:1.0-1.noarch"];
const NEW: [&str; 2] = ["alpha-0:1.1-1.noarch", "beta-0:1.1-1.noarch"];

fn version(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_upgrade_and_the_way_back_without_the_mirror() {
    let lab = Lab::new();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let before = lab.observe();
    assert_eq!(before, OLD);
    let after = lab.apply(&wanted, &before).unwrap();
    assert_eq!(
        (after.added, after.removed),
        (NEW.map(str::to_owned).to_vec(), OLD.map(str::to_owned).to_vec())
    );
    let again = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &again).unwrap();
    assert_eq!(lab.versions(), [version("1.1"), version("1.1")]);
    let error = lab.verify_old(&before).unwrap_err().to_string();
    assert!(error.contains("missing: alpha-0:1.0-1.noarch"), "{error}");

    fs::remove_dir_all(lab.path("repo")).unwrap();
    lab.undo(&wanted, &before).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    assert_eq!(lab.versions(), [version("1.0"), version("1.0")]);
}

#[test]
fn a_rehearsal_names_versions_space_and_the_way_back_and_changes_nothing() {
    let lab = Lab::new();
    // A busy machine needs a minute for each run of dnf.
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
    let report = rehearse(&Packages { allow: [Allowance::NoRollback].into(), ..upgrade }).unwrap();
    assert!(report.trouble.is_empty() && report.notes[0].contains("alpha-0:1.0-1.noarch"), "{report:?}");
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    assert!(!lab.path("undo").exists(), "nothing is kept");
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let lab = Lab::new();
    let error = lab.apply(&lab.wanted(&["alpha-1.1", "nosuch"], &["beta"]), &[]).unwrap_err();
    assert!(error.to_string().starts_with("installing alpha-1.1 nosuch with dnf"), "{error}");
    assert!(error.to_string().contains("nosuch"), "{error}");
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
}

#[test]
fn one_that_goes_takes_along_what_needs_it_and_both_come_back() {
    let lab = Lab::new();
    let before = lab.observe();
    // The package to install needs the package to remove.
    let wanted = lab.wanted(&["beta-1.1"], &["alp*"]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.ends_with("still installed: alpha-0:1.1-1.noarch"), "{error}");
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);

    let wanted = lab.wanted(&[], &["alp*"]);
    let after = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), Vec::<String>::new());
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
}

#[test]
fn an_interrupted_transaction_is_finished() {
    interrupt(true);
}

#[test]
fn an_interrupted_transaction_is_taken_back() {
    interrupt(false);
}

fn interrupt(forward: bool) {
    let lab = Lab::new();
    let before = lab.observe();
    let slow = lab.path("root/slow");
    fs::create_dir(&slow).unwrap();
    let hurried = Packages { timeout: TimeLimit::from_secs(20), ..lab.wanted(&["beta-1.1"], &[]) };
    let error = lab.apply(&hurried, &before).unwrap_err().to_string();
    assert!(error.contains("not done within 20 s, killed"), "{error}");
    let now = lab.dnf.installed().unwrap();
    assert!(now.contains(&OLD[0].to_owned()) && now.contains(&NEW[0].to_owned()), "{now:?}");
    fs::remove_dir(&slow).unwrap();

    let wanted = lab.wanted(&["beta-1.1"], &[]);
    if forward {
        let after = lab.apply(&wanted, &before).unwrap();
        lab.verify(&wanted, &after).unwrap();
        assert_eq!(lab.dnf.installed().unwrap(), NEW);
    }
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    assert_eq!(lab.versions(), [version("1.0"), version("1.0")]);
}

#[test]
fn a_stranger_of_the_same_name_is_not_kept() {
    let lab = Lab::new();
    let before = lab.observe();
    lab.build("alpha", "1.0", "URL: http://example.invalid/rebuilt");
    lab.publish();
    lab.apply(&lab.wanted(&["beta-1.1"], &[]), &before).unwrap();
    let names: Vec<_> =
        fs::read_dir(lab.path("undo/files")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let is_cached = |name: &str| names.iter().any(|file| file.to_string_lossy().starts_with(name));
    assert!(is_cached("beta-1.0") && !is_cached("alpha"), "{names:?}");
}
