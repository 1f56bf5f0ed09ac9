//! State beside the packages that an undo restores, locks that it waits for, and changes that are refused.

use super::*;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::collections::BTreeMap;
use std::fs::File;
use std::thread;

fn allowing(wanted: Packages, allowance: Allowance) -> Packages {
    Packages { allow: [allowance].into(), ..wanted }
}

fn undone(lab: &Lab, wanted: &Packages, before: &[String]) {
    lab.undo(wanted, before).unwrap();
    lab.undo(wanted, before).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), before);
    assert_eq!(lab.verify_old(before).unwrap(), Vec::<String>::new());
}

#[test]
fn configuration_files_and_marks_come_back() {
    let lab = Lab::new();
    let budget = super::super::TimeBudget::new(Duration::from_secs(60));
    lab.apt.mark("auto", &["alpha".to_owned()], budget).unwrap();
    let marks = lab.apt.reasons().unwrap();
    assert_eq!(marks, BTreeMap::from([("alpha".to_owned(), "auto".to_owned())]));
    for wanted in [lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]), lab.wanted(&[], &["alpha", "beta"])] {
        let file = lab.path("root/etc/alpha");
        replace(&file, b"by the admin", 0o640).unwrap();
        let before = lab.observe();
        lab.apply(&wanted, &before).unwrap();
        undone(&lab, &wanted, &before);
        assert_eq!(fs::read_to_string(&file).unwrap(), "by the admin");
        assert!(!lab.path("root/etc/alpha.dpkg-dist").exists());
        assert_eq!(lab.apt.reasons().unwrap(), marks, "{wanted:?}");
    }
}

#[test]
fn a_held_package_is_changed_on_request_and_stays_held() {
    let lab = Lab::new();
    let held = ["alpha:all".to_owned()];
    let budget = super::super::TimeBudget::new(Duration::from_secs(60));
    lab.apt.hold(&held, &[], budget).unwrap();
    let is_held = || lab.apt.held().unwrap().into_iter().collect::<Vec<_>>();
    let before = lab.observe();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("Held packages") && error.contains("allow = [\"held\"]"), "{error}");
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(is_held(), held);

    let allowed = allowing(wanted, Allowance::Held);
    let after = lab.apply(&allowed, &before).unwrap();
    lab.verify(&allowed, &after).unwrap();
    assert_eq!((lab.apt.installed().unwrap(), is_held()), (NEW.map(str::to_owned).to_vec(), held.to_vec()));
    undone(&lab, &allowed, &before);
    assert_eq!(is_held(), held);

    let removal = allowing(lab.wanted(&[], &["alpha", "beta"]), Allowance::Held);
    let before = lab.observe();
    lab.apply(&removal, &before).unwrap();
    undone(&lab, &removal, &before);
    assert_eq!(is_held(), held);
}

#[test]
fn essential_and_protected_packages_that_came_go_again() {
    let lab = Lab::new();
    lab.build("essential", "1", "Essential: yes\n");
    lab.build("protected", "1", "Protected: yes\n");
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["essential", "protected"], &[]);
    lab.apply(&wanted, &before).unwrap();
    undone(&lab, &wanted, &before);
}

#[test]
fn a_change_that_could_not_be_undone_is_refused_before_anything_is_changed() {
    let lab = Lab::new();
    fs::remove_file(lab.path("repo/alpha_1-1.0.deb")).unwrap();
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("alpha:all=1:1.0") && error.contains("no-rollback"), "{error}");
    assert_eq!(lab.apt.installed().unwrap(), OLD);
    let after = lab.apply(&allowing(wanted, Allowance::NoRollback), &before).unwrap();
    assert!(after.notes[0].contains("alpha:all=1:1.0"), "{:?}", after.notes);
}

#[test]
fn what_others_change_meanwhile_stays() {
    let lab = Lab::new();
    lab.build("other", "1", "");
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    lab.apply(&wanted, &before).unwrap();
    let others = UndoCache::in_dir(&lab.path("others"));
    let site = Site { tool: &lab.apt, cache: &others, system: &lab.system };
    site.apply(&lab.wanted(&["other"], &[]), &lab.apt.installed().unwrap()).unwrap();
    lab.undo(&wanted, &before).unwrap();
    let now = [&OLD[..], &["other:all=1"]].concat();
    assert_eq!(lab.apt.installed().unwrap(), now);
    let drift = lab.verify_old(&before).unwrap();
    assert!(drift.len() == 1 && drift[0].contains("other:all=1"), "{drift:?}");
}

#[test]
fn what_others_changed_after_the_node_was_observed_is_what_comes_back() {
    let lab = Lab::new();
    for version in ["1", "2", "3"] {
        lab.build("other", version, "");
    }
    lab.publish();
    let others = UndoCache::in_dir(&lab.path("others"));
    let site = Site { tool: &lab.apt, cache: &others, system: &lab.system };
    let install = |spec: &str| {
        site.apply(&lab.wanted(&[spec], &[]), &lab.apt.installed().unwrap()).unwrap();
        others.remove().unwrap();
    };
    install("other=1");
    let before = lab.observe();
    install("other=2");
    let wanted = lab.wanted(&["other=3"], &[]);
    lab.apply(&wanted, &before).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.apt.installed().unwrap(), [&OLD[..], &["other:all=2"]].concat());
    assert_eq!(lab.verify_old(&before).unwrap().len(), 1);
}

/// Holds dpkg's lock as another package manager does, until the file is closed.
fn lock(lab: &Lab) -> File {
    let path = lab.path("root/var/lib/dpkg/lock-frontend");
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    let whole = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&whole)).unwrap();
    file
}

/// [`TimeBudget`](super::super::TimeBudget) has the test for how long.
#[test]
fn the_way_back_waits_for_a_lock() {
    let lab = Lab::new();
    let before = lab.observe();
    let wanted = lab.wanted(&["alpha=1:1.1", "beta=1:1.1"], &[]);
    lab.apply(&wanted, &before).unwrap();
    let held = lock(&lab);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_secs(5));
            drop(held);
        });
        lab.undo(&wanted, &before).unwrap();
    });
    assert_eq!(lab.apt.installed().unwrap(), OLD);
}

/// dpkg waits for the script, and dies of the pipe to apt-get then.
#[test]
fn the_script_that_an_apt_get_leaves_when_it_is_killed_ends_before_the_way_back() {
    let lab = Lab::new();
    let done = lab.path("done");
    let kill = "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $$))";
    let postinst = format!("#!/bin/sh\n[ -e {0} ] && exit 0\n{kill}\nsleep 3\n>{0}\n", done.display());
    lab.build_with_script("slow", "1", &postinst);
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["slow"], &[]);
    let error = lab.apply(&wanted, &before).unwrap_err().to_string();
    assert!(error.contains("was killed"), "{error}");
    assert!(done.exists(), "the script is done when the outcome is reported");
    undone(&lab, &wanted, &before);
}
