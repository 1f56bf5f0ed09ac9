//! Tests with the real apt-get and dpkg of this machine, on a private root and with a private repository.

mod surroundings;

use super::apt::Apt;
use super::surroundings::System;
use super::tests::step;
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::{ChangeError, Site, verify_with};
use rollout_core::agent::record::After;
use rollout_core::protocol::rehearsal::ChangeReport;
use rollout_core::rollout::manifest::{Allowance, Manager, Packages};
use rollout_core::time_limit::TimeLimit;
use rollout_host::durable::replace;
use rollout_host::run::{Program, is_program};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Lab {
    dir: tempfile::TempDir,
    apt: Apt,
    cache: UndoCache,
    system: System,
}

impl Lab {
    /// Makes a root with alpha and beta 1:1.0 installed, and a repository with 1:1.0 and 1:1.1.
    fn new() -> Self {
        for program in ["/usr/bin/apt-get", "/usr/bin/dpkg-deb", "/usr/bin/dpkg-scanpackages"] {
            assert!(is_program(Path::new(program)), "{program} is missing: apt-get install dpkg-dev");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let directories = [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/log/apt",
            "etc/apt/preferences.d",
            "etc/apt/trusted.gpg.d",
        ];
        for name in directories {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::create_dir(dir.path().join("repo")).unwrap();
        replace(&root.join("var/lib/dpkg/status"), b"", 0o644).unwrap();
        let source = format!("deb [trusted=yes] file:{}/repo ./\n", dir.path().display());
        replace(&root.join("etc/apt/sources.list"), source.as_bytes(), 0o644).unwrap();
        let apt_root = [
            format!("-oDir={}", root.display()),
            format!("-oDir::State::status={}/var/lib/dpkg/status", root.display()),
            format!("-oDpkg::Options::=--root={}", root.display()),
            "-oDpkg::Options::=--force-not-root".to_owned(),
            // Scripts run without a shell in the root.
            "-oDpkg::Options::=--force-script-chrootless".to_owned(),
            "-oDpkg::Options::=--log=/dev/null".to_owned(),
            "-oAPT::Sandbox::User=root".to_owned(),
        ];
        let apt = Apt::in_root(&apt_root, &[format!("--root={}", root.display())]);
        let cache = UndoCache::in_dir(dir.path());
        let system = System { root, kernel: "1.0".to_owned(), loader: None };
        let lab = Self { dir, apt, cache, system };
        for version in ["1:1.0", "1:1.1"] {
            lab.build("alpha", version, "");
            lab.build("beta", version, &format!("Depends: alpha (= {version})\n"));
        }
        lab.build("gamma", "1", "Conflicts: beta\n");
        lab.publish();
        lab.apply(&lab.wanted(&["alpha=1:1.0", "beta=1:1.0"], &[]), &[]).unwrap();
        lab.cache.remove().unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, name: &str, version: &str, more: &str) {
        self.build_from(name, version, more, None);
    }

    fn build_with_script(&self, name: &str, version: &str, postinst: &str) {
        self.build_from(name, version, "", Some(postinst));
    }

    fn build_from(&self, name: &str, version: &str, more: &str, postinst: Option<&str>) {
        let tree = self.path("build");
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir(tree.join("etc")).unwrap();
        let write = |file: &str, text: &str| replace(&tree.join(file), text.as_bytes(), 0o644).unwrap();
        let who = "Maintainer: nobody <nobody@example.invalid>\nDescription: test\n";
        write(
            "DEBIAN/control",
            &format!("Package: {name}\nVersion: {version}\nArchitecture: all\n{more}{who}"),
        );
        write("DEBIAN/conffiles", &format!("/etc/{name}\n"));
        if let Some(script) = postinst {
            replace(&tree.join("DEBIAN/postinst"), script.as_bytes(), 0o755).unwrap();
        }
        write(&format!("etc/{name}"), version);
        let file = self.path("repo").join(format!("{name}_{}.deb", version.replace(':', "-")));
        Program::new("/usr/bin/dpkg-deb", Duration::from_secs(60))
            .arg("-b")
            .arg(tree)
            .arg(file)
            .run()
            .unwrap();
    }

    fn publish(&self) {
        let repo = self.path("repo");
        let scan = Program::new("/usr/bin/env", Duration::from_secs(60)).arg("-C").arg(&repo);
        let packages = scan.args(["/usr/bin/dpkg-scanpackages", "-m", "."]).run().unwrap().stdout;
        replace(&repo.join("Packages"), packages.as_bytes(), 0o644).unwrap();
    }

    fn wanted(&self, install: &[&str], remove: &[&str]) -> Packages {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect();
        Packages {
            install: list(install),
            remove: list(remove),
            manager: Some(Manager::Apt),
            timeout: TimeLimit::from_secs(120),
            ..Packages::default()
        }
    }

    fn with<T>(&self, wanted: &Packages, run: impl FnOnce(Site<'_>) -> T) -> T {
        let tool = self.apt.clone().for_change(wanted);
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
        verify_with(&self.apt, wanted, after, &self.system.kernel)
    }
}

const OLD: [&str; 2] = ["alpha:all=1:1.0", "beta:all=1:1.0"];
const NEW: [&str; 2] = ["alpha:all=1:1.1", "beta:all=1:1.1"];

#[test]
fn a_rehearsal_names_versions_space_and_the_way_back_and_changes_nothing() {
    let lab = Lab::new();
    let limit = Duration::from_secs(600);
    let rehearse = |wanted: &Packages| lab.with(wanted, |site| site.rehearse(wanted, limit));
    assert_eq!(rehearse(&lab.wanted(&["beta=1:1.0"], &[])).unwrap(), ChangeReport::default());
    let upgrade = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    let report = rehearse(&upgrade).unwrap();
    let steps = [step("alpha", "1:1.0", "1:1.1"), step("beta", "1:1.0", "1:1.1")];
    assert_eq!(
        (&report.steps[..], report.trouble.len(), report.notes.len()),
        (&steps[..], 0, 0),
        "{report:?}"
    );
    assert!(!report.disk.is_empty(), "{report:?}");
    let removal = rehearse(&lab.wanted(&["gamma"], &["beta"])).unwrap();
    assert_eq!(removal.steps, [step("beta", "1:1.0", ""), step("gamma", "", "1")]);
    let error = rehearse(&lab.wanted(&["nosuch"], &[])).unwrap_err().to_string();
    assert!(error.contains("nosuch"), "{error}");

    fs::remove_file(lab.path("repo/alpha_1-1.0.deb")).unwrap();
    lab.publish();
    let report = rehearse(&upgrade).unwrap();
    assert!(report.trouble.len() == 1 && report.trouble[0].contains("alpha:all=1:1.0"), "{report:?}");
    assert!(!report.trouble[0].contains("beta:all"), "{report:?}");
    assert_eq!(lab.apt.installed().unwrap(), OLD);
    assert!(!lab.path("undo").exists(), "nothing is kept");
}

#[test]
fn an_upgrade_and_the_way_back_without_the_mirror() {
    let lab = Lab::new();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    let before = lab.observe();
    assert_eq!(before, OLD);
    replace(&lab.path("root/etc/alpha"), b"by the admin", 0o644).unwrap();
    let after = lab.apply(&wanted, &before).unwrap();
    assert_eq!(
        (&after.added[..], &after.removed[..]),
        (&NEW.map(str::to_owned)[..], &OLD.map(str::to_owned)[..])
    );
    lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();

    for file in fs::read_dir(lab.path("repo")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    lab.undo(&wanted, &before).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD);
    assert_eq!(fs::read_to_string(lab.path("root/etc/alpha")).unwrap(), "by the admin");
}

#[test]
fn nothing_is_removed_that_the_manifest_does_not_say() {
    let lab = Lab::new();
    let before = lab.observe();
    let wanted = lab.wanted(&["gamma"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.starts_with("installing gamma with apt-get: ") && error.contains("`remove`"), "{error}");
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD);

    let wanted = lab.wanted(&["gamma"], &["bet?"]);
    let after = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();
    let now = ["alpha:all=1:1.0", "beta:all=1:1.0 [config-files]", "gamma:all=1"];
    assert_eq!(lab.apt.installed().unwrap(), now);
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD, "not even gamma's configuration files are left");
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let lab = Lab::new();
    let wanted = lab.wanted(&["alpha=1:1.1", "nosuch"], &["beta"]);
    let error = lab.apply(&wanted, &[]).unwrap_err().to_string();
    assert!(error.contains("Unable to locate package nosuch"), "{error}");
    assert_eq!(lab.apt.installed().unwrap(), OLD);
}
