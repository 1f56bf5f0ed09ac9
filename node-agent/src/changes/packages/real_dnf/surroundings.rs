//! State beside the packages that an undo restores, and state that it leaves to others.

use super::*;
use crate::changes::image::Files;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

/// Undoes a change, and checks that it can be done twice and is proven.
fn undone(lab: &Lab, wanted: &Packages, before: &[String]) {
    lab.undo(wanted, before).unwrap();
    lab.undo(wanted, before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), before);
    assert_eq!(lab.verify_old(before).unwrap(), Vec::<String>::new());
}

#[test]
fn configuration_files_come_back_as_the_admin_left_them() {
    let lab = Lab::new();
    for wanted in [lab.wanted(&["beta-1.1"], &[]), lab.wanted(&[], &["alpha"])] {
        let files = ["etc/alpha.conf", "etc/alpha.kept", "etc/beta.conf", "etc/beta.kept"];
        for file in files {
            lab.write(file, "by the admin");
        }
        let before = lab.observe();
        lab.apply(&wanted, &before).unwrap();
        undone(&lab, &wanted, &before);
        for file in files {
            assert_eq!(lab.read(file), "by the admin", "{file} of {wanted:?}");
        }
        let names = fs::read_dir(lab.path("root/etc")).unwrap().map(|e| e.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".rpm")).collect();
        assert!(left.is_empty(), "{left:?} of {wanted:?}");
        lab.cache.remove().unwrap();
    }
}

#[test]
fn units_are_enabled_again() {
    let lab = Lab::new();
    let wants = lab.path("root/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let link = wants.join("alpha.service");
    symlink("/usr/lib/systemd/system/alpha.service", &link).unwrap();
    let before = lab.observe();
    let wanted = lab.wanted(&[], &["alpha"]);
    lab.apply(&wanted, &before).unwrap();
    assert!(fs::symlink_metadata(&link).is_err(), "the scriptlet disables it");
    undone(&lab, &wanted, &before);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/usr/lib/systemd/system/alpha.service"));
}

#[test]
fn reasons_are_restored() {
    let lab = Lab::new();
    let before = lab.observe();
    let reasons = lab.dnf.reasons().unwrap();
    assert_eq!(reasons.get("alpha.noarch").map(String::as_str), Some("dependency"));
    let wanted = lab.wanted(&[], &["alpha"]);
    lab.apply(&wanted, &before).unwrap();
    undone(&lab, &wanted, &before);
    assert_eq!(lab.dnf.reasons().unwrap(), reasons);
}

#[test]
fn what_others_change_meanwhile_stays_and_is_reported() {
    let lab = Lab::new();
    lab.build("other", "1", "");
    lab.publish();
    lab.dnf(&["--refresh", "install", "other-1"]);
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let after = lab.apply(&wanted, &before).unwrap();
    lab.build("other", "2", "");
    lab.withdraw("other-1-1.noarch.rpm");
    lab.dnf(&["--refresh", "install", "other-2"]);
    lab.verify(&wanted, &after).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.versions(), [version("1.0"), version("1.0")]);
    assert!(lab.dnf.installed().unwrap().contains(&"other-0:2-1.noarch".to_owned()));
    let drift = lab.verify_old(&before).unwrap();
    assert!(drift.len() == 1 && drift[0].contains("other-0:2-1.noarch"), "{drift:?}");
}

#[test]
fn what_others_change_is_no_reason_to_hold_a_node_on_which_nothing_was_done() {
    let lab = Lab::new();
    lab.build("other", "1", "");
    lab.publish();
    let before = lab.observe();
    lab.dnf(&["--refresh", "install", "other"]);
    lab.undo(&lab.wanted(&["beta-1.1"], &[]), &before).unwrap();
    assert!(lab.dnf.installed().unwrap().contains(&"other-0:1-1.noarch".to_owned()));
    assert_eq!(lab.verify_old(&before).unwrap().len(), 1);
}

/// Packages of a site that are not signed are installed from a repository that checks none, and come back from files.
#[test]
fn files_that_are_proven_need_no_signature() {
    let lab = Lab::configured("localpkg_gpgcheck=True");
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    lab.apply(&wanted, &before).unwrap();
    lab.withdraw("alpha-1.0-1.noarch.rpm");
    lab.withdraw("beta-1.0-1.noarch.rpm");
    undone(&lab, &wanted, &before);
}

#[test]
fn protected_packages_that_came_go_again() {
    let lab = Lab::configured("protected_packages=newtool");
    lab.build("newtool", "1", "");
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["beta-1.1", "newtool"], &[]);
    lab.apply(&wanted, &before).unwrap();
    undone(&lab, &wanted, &before);
}

/// A boot loader whose default the tests set.
struct Fake(Arc<Mutex<Option<String>>>);

impl Loader for Fake {
    fn booted_entry(&self, _: &str) -> Option<String> {
        None
    }
    fn files(&self) -> Files {
        Files::SystemdBoot
    }
    fn name(&self) -> &'static str {
        "fake"
    }
    fn check(&self, _: &str) -> Result<(), ChangeError> {
        Ok(())
    }
    fn default_entry(&self) -> Result<Option<String>, ChangeError> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        *self.0.lock().unwrap() = entry.map(str::to_owned);
        Ok(())
    }
    fn next_entry(&self) -> Result<Option<String>, ChangeError> {
        Ok(None)
    }
    fn set_next(&self, _: Option<&str>) -> Result<(), ChangeError> {
        Ok(())
    }
}

#[test]
fn a_kernel_must_run_and_the_old_one_is_the_default_again() {
    let mut lab = Lab::new();
    let default = Arc::new(Mutex::new(Some("old".to_owned())));
    lab.system.loader = Some(Box::new(Fake(Arc::clone(&default))));
    let kernel = "mkdir -p %{buildroot}/lib/modules/9.9\ntouch %{buildroot}/lib/modules/9.9/vmlinuz";
    lab.build_with("kernel", "9.9", "", (kernel, "/lib/modules/9.9/vmlinuz"));
    lab.publish();
    let before = lab.observe();
    let wanted = lab.wanted(&["kernel-9.9"], &[]);
    let after = lab.apply(&wanted, &before).unwrap();
    assert_eq!(after.kernels, ["9.9"]);
    let error = lab.verify(&wanted, &after).unwrap_err().to_string();
    assert!(error.contains("the node runs 1.0, and the change installed 9.9"), "{error}");
    let other = Packages { allow: [Allowance::OtherKernel].into(), ..wanted.clone() };
    lab.verify(&other, &after).unwrap();

    // As scripts of kernels do it.
    *default.lock().unwrap() = Some("new".to_owned());
    lab.system.kernel = "9.9".to_owned();
    lab.verify(&wanted, &after).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(default.lock().unwrap().as_deref(), Some("old"));
    let error = lab.verify_old(&before).unwrap_err().to_string();
    assert!(error.contains("the node runs 9.9, not 1.0"), "{error}");
    lab.system.kernel = "1.0".to_owned();
    lab.verify_old(&before).unwrap();
    *default.lock().unwrap() = None;
    assert!(lab.verify_old(&before).unwrap_err().to_string().contains("it is not set, not old"));
}
