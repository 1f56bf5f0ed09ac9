//! Tests with the real dnf and rpm of this machine, on a private root and with a private repository.

use super::dnf::Dnf;
use super::rpm::Rpm;
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::{apply_with, observe_with, undo_with, verify_old_with, verify_with};
use rollout_core::rollout::manifest::{Manager, Packages};
use rollout_core::time_limit::TimeLimit;
use rollout_host::run::{Program, is_program};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Spec of a package. `beta` needs `alpha` in its own version; alpha's %post hangs if /slow exists.
const SPEC: &str = "Name: NAME\nVersion: VERSION\nRelease: 1\nSummary: test\nLicense: none\nBuildArch: noarch\nMORE\n\
    %description\ntest\n%install\nmkdir -p %{buildroot}/opt\necho VERSION > %{buildroot}/opt/NAME\n%files\n/opt/NAME\n\
    %post -p <lua>\nif posix.access('/slow') then posix.sleep(60) end\n";

const DNF: &str = "/usr/bin/dnf";
/// Used if TEST_DNF5 is set: with both installed, the tests run with one at a time.
const DNF5: &str = "/usr/bin/dnf5";

struct Lab {
    dir: tempfile::TempDir,
    dnf: Dnf,
    cache: UndoCache,
}

impl Lab {
    /// Makes a root with alpha and beta 1.0 installed, and a repository with 1.0 and 1.1.
    fn new() -> Self {
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
        for name in ["root", "repo", "cache", "none"] {
            fs::create_dir(path(name)).unwrap();
        }
        let root = [
            format!("--installroot={}", path("root").display()),
            format!("--repofrompath=lab,file://{}", path("repo").display()),
            format!("--setopt=reposdir={}", path("none").display()),
            format!("--setopt=cachedir={}", path("cache").display()),
            "--releasever=1".to_owned(),
            "--nogpgcheck".to_owned(),
        ];
        let rpm = Rpm::in_root(&path("root"));
        let flavour = super::detect::flavour(Path::new(dnf));
        let dnf = Dnf::in_root(dnf, flavour, &root, rpm);
        let cache = UndoCache::in_dir(dir.path());
        let lab = Self { dnf, cache, dir };
        for version in ["1.0", "1.1"] {
            lab.build("alpha", version, "");
            lab.build("beta", version, &format!("Requires: alpha = {version}"));
        }
        lab.publish();
        apply_with(&lab.dnf, &lab.wanted(&["beta-1.0"], &[]), &[], &lab.cache).unwrap();
        lab.cache.remove().unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, name: &str, version: &str, more: &str) {
        let spec = SPEC.replace("NAME", name).replace("VERSION", version).replace("MORE", more);
        let file = self.path("build.spec");
        rollout_host::durable::replace(&file, spec.as_bytes(), 0o644).unwrap();
        let define = |key: &str, value: &Path| format!("--define={key} {}", value.display());
        let program = Program::new("/usr/bin/rpmbuild", Duration::from_secs(60)).args(["-bb", "--quiet"]);
        let program =
            program.arg(define("_topdir", &self.path("build"))).arg(define("_rpmdir", &self.path("repo")));
        program.arg(file).run().unwrap();
    }

    fn publish(&self) {
        Program::new("/usr/bin/createrepo_c", Duration::from_secs(60)).arg(self.path("repo")).run().unwrap();
    }

    fn wanted(&self, install: &[&str], remove: &[&str]) -> Packages {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect();
        Packages {
            install: list(install),
            remove: list(remove),
            manager: Some(Manager::Dnf),
            timeout: TimeLimit::from_secs(120),
        }
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
    let before = observe_with(&lab.dnf).unwrap();
    assert_eq!(before, OLD);
    let after = apply_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(
        (after.added, after.removed),
        (NEW.map(str::to_owned).to_vec(), OLD.map(str::to_owned).to_vec())
    );
    let again = apply_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    verify_with(&lab.dnf, &wanted, &again).unwrap();
    assert_eq!(lab.versions(), [version("1.1"), version("1.1")]);
    let error = verify_old_with(&lab.dnf, &before).unwrap_err().to_string();
    assert!(error.contains("missing: alpha-0:1.0-1.noarch"), "{error}");

    fs::remove_dir_all(lab.path("repo")).unwrap();
    undo_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    undo_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    assert_eq!(lab.versions(), [version("1.0"), version("1.0")]);
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let lab = Lab::new();
    let error =
        apply_with(&lab.dnf, &lab.wanted(&["alpha-1.1", "nosuch"], &["beta"]), &[], &lab.cache).unwrap_err();
    assert!(error.to_string().starts_with("installing alpha-1.1 nosuch with dnf"), "{error}");
    assert!(error.to_string().contains("nosuch"), "{error}");
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
}

#[test]
fn one_that_goes_takes_along_what_needs_it_and_both_come_back() {
    let lab = Lab::new();
    let before = observe_with(&lab.dnf).unwrap();
    // The package to install needs the package to remove.
    let wanted = lab.wanted(&["beta-1.1"], &["alp*"]);
    let error = apply_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap_err().to_string();
    assert!(error.ends_with("still installed: alpha-0:1.1-1.noarch"), "{error}");
    undo_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);

    let wanted = lab.wanted(&[], &["alp*"]);
    let after = apply_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    verify_with(&lab.dnf, &wanted, &after).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), Vec::<String>::new());
    undo_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
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
    let before = observe_with(&lab.dnf).unwrap();
    let slow = lab.path("root/slow");
    fs::create_dir(&slow).unwrap();
    let hurried = Packages { timeout: TimeLimit::from_secs(20), ..lab.wanted(&["beta-1.1"], &[]) };
    let error = apply_with(&lab.dnf, &hurried, &before, &lab.cache).unwrap_err().to_string();
    assert!(error.contains("not done within 20 s, killed"), "{error}");
    let now = lab.dnf.installed().unwrap();
    assert!(now.contains(&OLD[0].to_owned()) && now.contains(&NEW[0].to_owned()), "{now:?}");
    fs::remove_dir(&slow).unwrap();

    let wanted = lab.wanted(&["beta-1.1"], &[]);
    if forward {
        let after = apply_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
        verify_with(&lab.dnf, &wanted, &after).unwrap();
        assert_eq!(lab.dnf.installed().unwrap(), NEW);
    }
    undo_with(&lab.dnf, &wanted, &before, &lab.cache).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    assert_eq!(lab.versions(), [version("1.0"), version("1.0")]);
}

#[test]
fn a_stranger_of_the_same_name_is_not_kept() {
    let lab = Lab::new();
    let before = observe_with(&lab.dnf).unwrap();
    lab.build("alpha", "1.0", "URL: http://example.invalid/rebuilt");
    lab.publish();
    apply_with(&lab.dnf, &lab.wanted(&["beta-1.1"], &[]), &before, &lab.cache).unwrap();
    let names: Vec<_> =
        fs::read_dir(lab.path("undo/files")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let is_cached = |name: &str| names.iter().any(|file| file.to_string_lossy().starts_with(name));
    assert!(is_cached("beta-1.0") && !is_cached("alpha"), "{names:?}");
}
