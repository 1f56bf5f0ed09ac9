//! Tests with the real apt-get and dpkg of this machine, on a private root and with a private repository.

use super::apt::Apt;
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::{apply_with, observe_with, undo_with, verify_with};
use rollout_core::rollout::manifest::{Manager, Packages};
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
            "-oDpkg::Options::=--log=/dev/null".to_owned(),
            "-oAPT::Sandbox::User=root".to_owned(),
        ];
        let apt = Apt::in_root(&apt_root, &[format!("--root={}", root.display())]);
        let cache = UndoCache::in_dir(dir.path());
        let lab = Self { dir, apt, cache };
        for version in ["1:1.0", "1:1.1"] {
            lab.build("alpha", version, "");
            lab.build("beta", version, &format!("Depends: alpha (= {version})\n"));
        }
        lab.build("gamma", "1", "Conflicts: beta\n");
        lab.publish();
        apply_with(&lab.apt, &lab.wanted(&["alpha=1:1.0", "beta=1:1.0"], &[]), &[], &lab.cache).unwrap();
        lab.cache.remove().unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, name: &str, version: &str, more: &str) {
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
        }
    }
}

const OLD: [&str; 2] = ["alpha:all=1:1.0", "beta:all=1:1.0"];
const NEW: [&str; 2] = ["alpha:all=1:1.1", "beta:all=1:1.1"];

#[test]
fn an_upgrade_and_the_way_back_without_the_mirror() {
    let lab = Lab::new();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    let before = observe_with(&lab.apt).unwrap();
    assert_eq!(before, OLD);
    replace(&lab.path("root/etc/alpha"), b"by the admin", 0o644).unwrap();
    let after = apply_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(
        (&after.added[..], &after.removed[..]),
        (&NEW.map(str::to_owned)[..], &OLD.map(str::to_owned)[..])
    );
    apply_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    verify_with(&lab.apt, &wanted, &after).unwrap();

    for file in fs::read_dir(lab.path("repo")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    undo_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    undo_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD);
    assert_eq!(fs::read_to_string(lab.path("root/etc/alpha")).unwrap(), "by the admin");
}

#[test]
fn nothing_is_removed_that_the_manifest_does_not_say() {
    let lab = Lab::new();
    let before = observe_with(&lab.apt).unwrap();
    let wanted = lab.wanted(&["gamma"], &[]);
    let error = apply_with(&lab.apt, &wanted, &before, &lab.cache).unwrap_err().to_string();
    assert!(error.starts_with("installing gamma with apt-get: ") && error.contains("`remove`"), "{error}");
    undo_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD);

    let wanted = lab.wanted(&["gamma"], &["bet?"]);
    let after = apply_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    verify_with(&lab.apt, &wanted, &after).unwrap();
    let now = ["alpha:all=1:1.0", "beta:all=1:1.0 [config-files]", "gamma:all=1"];
    assert_eq!(lab.apt.installed().unwrap(), now);
    undo_with(&lab.apt, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), OLD, "not even gamma's configuration files are left");
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let lab = Lab::new();
    let wanted = lab.wanted(&["alpha=1:1.1", "nosuch"], &["beta"]);
    let error = apply_with(&lab.apt, &wanted, &[], &lab.cache).unwrap_err().to_string();
    assert!(error.contains("Unable to locate package nosuch"), "{error}");
    assert_eq!(lab.apt.installed().unwrap(), OLD);
}
