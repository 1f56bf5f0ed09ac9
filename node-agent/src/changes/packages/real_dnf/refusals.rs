//! Changes that a site's configuration or its repositories prevent, and keys of the manifest that lift that.

use super::*;

fn allowing(wanted: Packages, allowance: Allowance) -> Packages {
    Packages { allow: [allowance].into(), ..wanted }
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
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    lab.undo(&wanted, &before).unwrap();
    lab.verify_old(&before).unwrap();

    let accepted = allowing(wanted, Allowance::NoRollback);
    let after = lab.apply(&accepted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), NEW);
    assert!(after.notes.len() == 1 && after.notes[0].contains("alpha-0:1.0-1.noarch"), "{:?}", after.notes);
    assert!(lab.undo(&accepted, &before).is_err());
}

#[test]
fn an_excluded_package_is_reported_as_excluded_and_can_be_allowed() {
    let lab = Lab::configured("");
    let main = "[main]\ngpgcheck=1\nexcludepkgs=alpha*,beta*\n";
    replace(&lab.path("dnf.conf"), main.as_bytes(), 0o644).unwrap();
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("filtered out by exclude filtering for argument: beta-1.1"), "{error}");
    let allowed = allowing(wanted, Allowance::Excluded);
    lab.apply(&allowed, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), NEW);
    lab.undo(&allowed, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
}

#[test]
fn a_dead_repository_that_is_not_needed_does_no_harm() {
    let lab = Lab::new();
    lab.repository("dead", "baseurl=http://127.0.0.1:1/\nskip_if_unavailable=0");
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    lab.apply(&wanted, &before).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    let error = lab.apply(&lab.wanted(&["nosuch"], &[]), &lab.observe()).unwrap_err().to_string();
    assert!(error.contains("Ignoring repositories: dead") && error.contains("nosuch"), "{error}");
}

#[test]
fn disabled_repositories_and_options_are_those_of_the_manifest() {
    let lab = Lab::new();
    fs::rename(lab.path("repos/lab.repo"), lab.path("repos/other.repo")).unwrap();
    lab.repository("lab", &format!("enabled=0\nbaseurl=file://{}", lab.path("repo").display()));
    fs::remove_file(lab.path("repos/other.repo")).unwrap();
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("beta-1.1"), "{error}");
    let enabled = Packages { enable_repos: vec!["lab".to_owned()], ..wanted };
    lab.apply(&enabled, &before).unwrap();
    lab.undo(&enabled, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
    let excluded = Packages { options: vec!["--exclude=beta*".to_owned()], ..enabled };
    assert!(lab.apply(&excluded, &lab.observe()).unwrap_err().to_string().contains("beta-1.1"));
}

#[test]
fn a_failed_scriptlet_is_no_silent_success() {
    let lab = Lab::new();
    let before = lab.observe();
    lab.write("fail", "");
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("POSTIN scriptlet in rpm package alpha"), "{error}");
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);

    let before = lab.observe();
    let allowed = allowing(wanted, Allowance::FailedScriptlets);
    let after = lab.apply(&allowed, &before).unwrap();
    assert!(after.notes.iter().any(|note| note.contains("package alpha")), "{:?}", after.notes);
}

/// Documents of a module with two streams, each with a version of `driver`.
fn module(stream: &str, version: &str) -> String {
    format!(
        "---\ndocument: modulemd\nversion: 2\ndata:\n  name: driver\n  stream: {stream}\n  version: 1\n  context: c0ffee42\n  \
         arch: noarch\n  summary: test\n  description: test\n  license:\n    module: [MIT]\n  artifacts:\n    rpms:\n    - \
         driver-0:{version}-1.noarch\n...\n"
    )
}

/// Publishes the module and its packages, of which the node's metadata knows nothing yet.
fn publish_module(lab: &Lab) {
    let label = |stream: &str| format!("ModularityLabel: driver:{stream}:1:c0ffee42");
    lab.build("driver", "570", &label("570"));
    lab.build("driver", "580", &label("580"));
    let documents = lab.path("modules.yaml");
    replace(&documents, (module("570", "570") + &module("580", "580")).as_bytes(), 0o644).unwrap();
    lab.publish();
    let add = Program::new("/usr/bin/modifyrepo_c", Duration::from_secs(60)).arg("--mdtype=modules");
    add.arg(&documents).arg(lab.path("repo/repodata")).run().unwrap();
}

#[test]
fn a_stream_that_was_published_just_now_is_enabled_and_not_left_behind() {
    let lab = Lab::new();
    publish_module(&lab);
    let before = lab.observe();
    let wanted = Packages { modules: vec!["driver:580".to_owned()], ..lab.wanted(&["driver-580"], &[]) };
    let after = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();
    assert!(lab.dnf.is_enabled("driver:580"));
    for _ in 0..2 {
        lab.undo(&wanted, &before).unwrap();
        assert_eq!(lab.dnf.installed().unwrap(), before);
        assert_eq!(lab.verify_old(&before).unwrap(), Vec::<String>::new());
        assert!(!lab.path("root/etc/dnf/modules.d/driver.module").exists(), "there was no such file");
    }
    // Its packages are hidden again by the default of the module: none.
    assert!(lab.apply(&lab.wanted(&["driver-580"], &[]), &lab.observe()).is_err());
}

#[test]
fn module_streams_are_switched_and_switched_back() {
    let lab = Lab::new();
    publish_module(&lab);
    lab.dnf(&["--refresh", "module", "enable", "driver:570"]);
    lab.dnf(&["install", "driver"]);
    let before = lab.observe();
    assert!(before.contains(&"driver-0:570-1.noarch".to_owned()), "{before:?}");

    let error = lab.apply(&lab.wanted(&["driver-580"], &[]), &before).unwrap_err().to_string();
    assert!(error.contains("filtered out by modular filtering"), "{error}");
    let before = lab.observe();
    let wanted = Packages { modules: vec!["driver:580".to_owned()], ..lab.wanted(&["driver-580"], &[]) };
    let after = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();
    assert!(lab.dnf.is_enabled("driver:580"));
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), before);
    assert!(lab.dnf.is_enabled("driver:570") && !lab.dnf.is_enabled("driver:580"));
}

/// dnf 4 reads the list of packages, waits for rpm's lock, and goes on with that list.
#[test]
fn a_transaction_of_others_is_not_met_with_an_old_list() {
    let lab = Lab::new();
    let before = lab.observe();
    let slow = "/opt/slow-extra\n%pre -p <lua>\nposix.sleep(8)";
    lab.build_with("slow", "1", "", ("touch %{buildroot}/opt/slow-extra", slow));
    let file = |name: &str| lab.path("repo/noarch").join(name);
    let root = format!("--root={}", lab.path("root").display());
    let other = Program::new("/usr/bin/rpm", Duration::from_secs(60)).args([&root, "-U"]);
    let others = ["slow-1-1.noarch.rpm", "alpha-1.1-1.noarch.rpm", "beta-1.1-1.noarch.rpm"];
    let other = other.args(others.map(file));
    let other = std::thread::spawn(move || other.output());
    std::thread::sleep(Duration::from_secs(2));
    let after = lab.apply(&lab.wanted(&["beta-1.1"], &[]), &before).unwrap();
    assert!(other.join().unwrap().unwrap().status.success());
    assert!(!after.changed, "it was the other process: {after:?}");
}
