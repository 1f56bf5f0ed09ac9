//! The changes that return a node to its state before a rollout, computed from the changes in its ledger.
//!
//! An undo is a rollout like any other. It names links, versions and images outright, so that an admin can read it
//! first.

use crate::agent::changes_made::{ChangeMade, NodeChanges};
use crate::agent::record::name_and_arch;
use crate::rollout::image::{Image, Proof, Running};
use crate::rollout::kernel_args::{self, KernelArgs};
use crate::rollout::manifest::{Change, DesiredState, Manager, Packages, Symlink, Verify};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the desired state that undoes a rollout on a node, without the commands that verified the rollout. `None` if
/// the rollout changed nothing.
///
/// # Errors
/// Returns the reason if it cannot be computed.
pub fn reverse(desired: &DesiredState, past: &NodeChanges) -> Result<Option<DesiredState>, String> {
    let changes = past.made.iter().rev().map(|made| back(desired, past, made));
    let mut changes = changes.collect::<Result<Vec<Change>, String>>()?;
    // A manifest has them behind its packages, on the way back as well: a kernel that comes back gets the arguments, and
    // commands come last.
    changes.sort_by_key(|change| match change {
        Change::Packages(_) | Change::Symlink(_) | Change::Image(_) => 0,
        Change::KernelArgs(_) => 1,
        Change::Command(_) => 2,
    });
    if changes.is_empty() {
        return Ok(None);
    }
    let verify = Verify { commands: Vec::new(), ..desired.verify.clone() };
    Ok(Some(DesiredState { changes, reboot: desired.reboot.clone(), verify }))
}

fn back(desired: &DesiredState, past: &NodeChanges, made: &ChangeMade) -> Result<Change, String> {
    match made {
        ChangeMade::Symlink { path, before } => {
            let absent = before.is_none();
            Ok(Change::Symlink(Symlink { path: path.clone(), target: before.clone(), absent }))
        }
        ChangeMade::Packages { manager, added, removed, beside } => {
            let old: BTreeSet<_> = removed.iter().map(|old| name_and_arch(*manager, old)).collect();
            // A version that is replaced by an older one needs no removal, unless both can be installed.
            let stays = |package: &&String| {
                beside.contains(package) || !old.contains(&name_and_arch(*manager, package))
            };
            let remove = added.iter().filter(stays).map(|package| removal(*manager, package));
            let there = desired.changes.iter().find_map(|change| match change {
                Change::Packages(packages) => Some(packages),
                _ => None,
            });
            // Repositories, options and lifted restrictions apply to the way back as well. A module stream does not: it
            // is the new one.
            Ok(Change::Packages(Packages {
                install: removed.clone(),
                remove: remove.collect(),
                manager: Some(*manager),
                modules: Vec::new(),
                ..there.ok_or("the rollout changes no packages")?.clone()
            }))
        }
        ChangeMade::KernelArgs { added, removed, kept } => {
            arguments_back(added, &[&removed[..], kept].concat()).map(Change::KernelArgs)
        }
        ChangeMade::Image { running, saved } => {
            let image = desired.image().ok_or("the rollout changes no image")?;
            image_back(image, &past.rollout, running, saved.as_deref()).map(Change::Image)
        }
        ChangeMade::Command { name, before, .. } => {
            let command = desired.commands().find(|command| command.name == *name);
            let command = command.ok_or_else(|| format!("the rollout does not change {name}"))?;
            command.back(before).map(Change::Command)
        }
    }
}

fn arguments_back(added: &[String], before: &[String]) -> Result<KernelArgs, String> {
    let mut add: Vec<String> = Vec::new();
    for word in before {
        if let Some(why) = kernel_args::problem(word) {
            return Err(format!(
                "the kernel's argument {word:?} cannot be given back by a rollout ({why}): write it into the boot \
                 loader's files by hand"
            ));
        }
        if !add.contains(word) {
            add.push(word.clone());
        }
    }
    let remove = added.iter().filter(|word| !add.contains(word)).cloned().collect();
    Ok(KernelArgs { add, remove })
}

fn image_back(image: &Image, rollout: &str, running: &Running, saved: Option<&str>) -> Result<Image, String> {
    // The new image may have the same name, so one without a version, or without a name, is proven by its kernel.
    let named = running.image.is_some();
    let by_kernel = !named || running.version.is_none() && !running.kernel.is_empty();
    let proof = Proof {
        os_release: named,
        kernel: by_kernel.then(|| running.kernel.clone()),
        ostree: running.ostree.clone(),
        ..Proof::default()
    };
    let restores = image.via.is_on_controller().then(|| rollout.to_owned());
    let mut back = Image {
        image: running.image.clone().unwrap_or_else(|| "before".to_owned()),
        version: running.version.clone(),
        values: BTreeMap::new(),
        proof,
        restores,
        ..image.clone()
    };
    if !image.via.is_on_controller() {
        back.values = image.via.values_back(saved, running)?;
    }
    Ok(back)
}

/// apt removes by name, and dnf and zypper may have several versions of one name.
fn removal(manager: Manager, package: &str) -> String {
    match manager {
        Manager::Apt => name_and_arch(manager, package).0.to_owned(),
        Manager::Dnf | Manager::Dnf5 | Manager::Zypper => package.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::manifest::Manifest;

    const WHOLE: &str = r#"
name = "driver"
nodes = "n1"
[[change]]
kind = "image"
via = "boot-file"
image = "compute"
version = "2"
[[change]]
kind = "packages"
install = ["driver-580*"]
timeout = "7m"
[[change]]
kind = "symlink"
path = "/opt/slurm"
target = "/opt/slurm-25"
[verify]
commands = [["/usr/sbin/nhc"]]
mounts = ["/scratch"]
on_failure = "hold"
"#;

    fn past(made: Vec<ChangeMade>) -> NodeChanges {
        NodeChanges { rollout: "driver".into(), made }
    }

    fn running(image: Option<&str>) -> Running {
        Running { image: image.map(str::to_owned), version: None, kernel: "6.1".into(), ostree: None }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_way_back_names_what_was_there() {
        let desired = Manifest::parse(WHOLE).unwrap().desired;
        let packages = ChangeMade::Packages {
            manager: Manager::Dnf,
            added: strings(&["driver-0:580.1-1.x86_64", "extra-lib-0:1-1.noarch"]),
            removed: strings(&["driver-0:570.2-1.x86_64"]),
            beside: Vec::new(),
        };
        let link = ChangeMade::Symlink { path: "/opt/slurm".into(), before: None };
        let image = ChangeMade::Image { running: running(Some("compute-old")), saved: None };
        let back = reverse(&desired, &past(vec![image, packages, link])).unwrap().unwrap();
        back.check().unwrap();
        let [Change::Symlink(link), Change::Packages(packages), Change::Image(image)] = &back.changes[..]
        else {
            panic!("{back:?}");
        };
        assert!(link.absent && link.target.is_none());
        assert_eq!(packages.install, ["driver-0:570.2-1.x86_64"]);
        assert_eq!(packages.remove, ["extra-lib-0:1-1.noarch"]);
        assert_eq!(packages.timeout.to_string(), "7m");
        assert_eq!((image.image.as_str(), image.restores.as_deref()), ("compute-old", Some("driver")));
        assert_eq!((back.verify.commands.len(), back.verify.mounts.len()), (0, 1));
        assert_eq!(reverse(&desired, &past(Vec::new())), Ok(None));
    }

    #[test]
    fn arguments_that_went_come_back() {
        let desired = Manifest::parse(WHOLE).unwrap().desired;
        let back = |added: &[&str], removed: &[&str], kept: &[&str]| {
            let [added, removed, kept] = [added, removed, kept].map(strings);
            let back =
                reverse(&desired, &past(vec![ChangeMade::KernelArgs { added, removed, kept }]))?.unwrap();
            back.check().unwrap();
            let [Change::KernelArgs(args)] = &back.changes[..] else { panic!("{back:?}") };
            Ok::<_, String>(args.clone())
        };
        for (added, removed, kept, now, before) in [
            (&["m=off"][..], &["m=auto", "quiet"][..], &[][..], "root=1 ro m=off", "root=1 ro m=auto quiet"),
            // A word was there twice.
            (&[], &["a=1", "a=1"], &[], "ro", "ro a=1"),
            // The bare word stands for all of its values, and one was there before.
            (&["nosmt"], &[], &["nosmt=force"], "nosmt=force ro nosmt", "nosmt=force ro"),
        ] {
            assert_eq!(back(added, removed, kept).unwrap().edited(now), before);
        }
        for word in ["dyndbg=\"file a.c +p\"", "root=$x"] {
            let error = back(&[], &[word], &[]).unwrap_err();
            assert!(error.contains(&format!("{word:?}")) && error.contains("by hand"), "{error}");
        }
    }

    #[test]
    fn packages_go_back_before_the_arguments_of_the_kernel() {
        let desired = "name='r'\nnodes='n1'\n[[change]]\nkind='packages'\ninstall=['tool=1.1']\n\
                       [[change]]\nkind='kernel-args'\nadd=['a']\n";
        let desired = Manifest::parse(desired).unwrap().desired;
        let packages = ChangeMade::Packages {
            manager: Manager::Apt,
            added: strings(&["tool:all=1.1"]),
            removed: strings(&["tool:all=1.0"]),
            beside: Vec::new(),
        };
        let args = ChangeMade::KernelArgs { added: strings(&["a"]), removed: Vec::new(), kept: Vec::new() };
        let back = reverse(&desired, &past(vec![packages, args])).unwrap().unwrap();
        back.check().unwrap();
        assert!(matches!(&back.changes[..], [Change::Packages(_), Change::KernelArgs(_)]), "{back:?}");
    }

    #[test]
    fn commands_go_back_last_and_only_with_an_undo() {
        let command = |name: &str, undo: &str| {
            format!(
                "[[change]]\nkind='command'\nname='{name}'\nversion='2'\nprobe=['/p']\napply=['/to']\n{undo}"
            )
        };
        let link = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
        let (bios, nic) = (command("bios", "undo=['/from']\n"), command("nic", ""));
        let manifest = format!("name='r'\nnodes='n1'\n{link}{bios}{nic}");
        let desired = Manifest::parse(&manifest).unwrap().desired;
        let made = |name: &str, before: &str| ChangeMade::Command {
            name: name.into(),
            before: before.into(),
            after: "2".into(),
        };
        let link = ChangeMade::Symlink { path: "/a".into(), before: Some("/old".into()) };
        let back = reverse(&desired, &past(vec![link.clone(), made("bios", "1.9")])).unwrap().unwrap();
        back.check().unwrap();
        let [Change::Symlink(_), Change::Command(bios)] = &back.changes[..] else { panic!("{back:?}") };
        assert_eq!(
            (bios.version.as_str(), &bios.apply, &bios.undo),
            ("1.9", &strings(&["/from"]), &strings(&["/to"]))
        );
        let why = reverse(&desired, &past(vec![link, made("nic", "1")])).unwrap_err();
        assert!(why.contains("nic cannot be taken back from 2 to 1"), "{why}");
    }

    #[test]
    fn apt_removes_by_name_and_an_image_without_a_name_is_its_kernel() {
        let desired = Manifest::parse(WHOLE).unwrap().desired;
        let packages = ChangeMade::Packages {
            manager: Manager::Apt,
            added: strings(&["tool:amd64=1.1", "new:all=1"]),
            removed: strings(&["tool:amd64=1.0"]),
            beside: Vec::new(),
        };
        let image = ChangeMade::Image { running: running(None), saved: None };
        let back = reverse(&desired, &past(vec![image, packages])).unwrap().unwrap();
        back.check().unwrap();
        let [Change::Packages(packages), Change::Image(image)] = &back.changes[..] else {
            panic!("{back:?}")
        };
        assert_eq!(
            (packages.install.as_slice(), packages.remove.as_slice()),
            (&strings(&["tool:amd64=1.0"])[..], &strings(&["new:all"])[..])
        );
        assert_eq!((image.proof.os_release, image.proof.kernel.as_deref()), (false, Some("6.1")));
    }

    #[test]
    fn a_version_that_replaced_no_other_is_removed() {
        let desired = Manifest::parse(WHOLE).unwrap().desired;
        let added = strings(&["kernel-0:6.2-1.x86_64", "driver-0:580-1.x86_64"]);
        // The kernel of 5.9 made room: 6.0 and 6.1 stayed.
        let removed = strings(&["kernel-0:5.9-1.x86_64", "driver-0:570-1.x86_64"]);
        let made = ChangeMade::Packages {
            manager: Manager::Dnf,
            added,
            removed: removed.clone(),
            beside: strings(&["kernel-0:6.2-1.x86_64"]),
        };
        let back = reverse(&desired, &past(vec![made])).unwrap().unwrap();
        back.check().unwrap();
        let [Change::Packages(packages)] = &back.changes[..] else { panic!("{back:?}") };
        assert_eq!((&packages.install, &packages.remove), (&removed, &strings(&["kernel-0:6.2-1.x86_64"])));
    }

    #[test]
    fn an_image_is_proven_by_more_than_a_name_that_others_have() {
        let image = Manifest::parse(WHOLE).unwrap().desired.image().unwrap().clone();
        for (name, version, kernel, os_release, by_kernel) in [
            (Some("compute"), Some("1"), "6.1", true, None),
            (Some("compute"), None, "6.1", true, Some("6.1")),
            (Some("compute"), None, "", true, None),
            (None, Some("1"), "6.1", false, Some("6.1")),
            (None, None, "6.1", false, Some("6.1")),
        ] {
            let version = version.map(str::to_owned);
            let running = Running { version, kernel: kernel.to_owned(), ..running(name) };
            let proof = image_back(&image, "driver", &running, None).unwrap().proof;
            assert_eq!((proof.os_release, proof.kernel.as_deref()), (os_release, by_kernel), "{running:?}");
        }
    }
}
