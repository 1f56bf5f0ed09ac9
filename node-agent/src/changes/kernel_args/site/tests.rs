#![allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]

use super::*;
use std::cell::RefCell;

#[derive(Default)]
struct State {
    default: Option<String>,
    next: Option<String>,
    kernelopts: Option<String>,
}

struct Fake {
    files: Files,
    booted: Option<&'static str>,
    cannot_try: bool,
    state: RefCell<State>,
}

impl Loader for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn check(&self, _: &str) -> Result<(), ChangeError> {
        Ok(())
    }
    fn default_entry(&self) -> Result<Option<String>, ChangeError> {
        Ok(self.state.borrow().default.clone())
    }
    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        self.state.borrow_mut().default = entry.map(str::to_owned);
        Ok(())
    }
    fn next_entry(&self) -> Result<Option<String>, ChangeError> {
        Ok(self.state.borrow().next.clone())
    }
    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        self.state.borrow_mut().next = entry.map(str::to_owned);
        Ok(())
    }
    fn booted_entry(&self, _: &str) -> Option<String> {
        self.booted.map(str::to_owned)
    }
    fn files(&self) -> Files {
        self.files.clone()
    }
    fn cannot_try_once(&self) -> Result<Option<String>, ChangeError> {
        Ok(self.cannot_try.then(|| "it is on LVM".to_owned()))
    }
    fn variable(&self, _: &str) -> Result<Option<String>, ChangeError> {
        Ok(self.state.borrow().kernelopts.clone())
    }
    fn set_variable(&self, _: &str, value: Option<&str>) -> Result<(), ChangeError> {
        self.state.borrow_mut().kernelopts = value.map(str::to_owned);
        Ok(())
    }
}

/// A scratch root directory with a boot loader.
struct Lab {
    root: tempfile::TempDir,
    loader: Fake,
}

const RUNNING: &str = "BOOT_IMAGE=/vmlinuz-5.14 root=UUID=1 ro quiet\n";

/// Writes a menu of the arguments in /etc/default/grub, as grub-mkconfig does.
const MKCONFIG: &str = "#!/bin/sh\n. ROOT/etc/default/grub\nfor file in ROOT/etc/default/grub.d/*.cfg; do . $file; done\n\
    sed \"s|ARGS|$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT|\" ROOT/template > \"$2\"\n";

const TEMPLATE: &str = "set default=\"${saved_entry}\"\nmenuentry 'Debian' --id debian {\n\tlinux /vmlinuz-5.14 root=UUID=1 \
    ro ARGS\n\tinitrd /initrd-5.14\n}\nsubmenu 'More' --id more {\n\tmenuentry 'Old' --id old {\n\t\tlinux /vmlinuz-5.13 \
    root=UUID=1 ro ARGS\n\t}\n}\n";

fn entry(root: &str, version: &str, options: &str) -> String {
    format!(
        "title Linux {version}\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initrd-{version}\noptions root=UUID={root} {options}\n"
    )
}

impl Lab {
    fn new(
        files: &[(&str, &str)],
        loader: impl FnOnce(&Path) -> (Files, Option<&'static str>, Option<&str>),
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text.replace("ROOT", root.path().to_str().unwrap())).unwrap();
        }
        let (files, booted, default) = loader(root.path());
        let state = State { default: default.map(str::to_owned), ..State::default() };
        Self { root, loader: Fake { files, booted, cannot_try: false, state: state.into() } }
    }

    fn debian() -> Self {
        let lab = Self::new(
            &[
                (
                    "etc/default/grub",
                    "GRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=\"\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n",
                ),
                ("etc/default/grub.d/site.cfg", "GRUB_TIMEOUT=1\n"),
                ("boot/grub/grub.cfg", &TEMPLATE.replace("ARGS", " quiet")),
                ("boot/grub/custom.cfg", "# the site's own\n"),
                ("template", TEMPLATE),
                ("mkconfig", MKCONFIG),
            ],
            |root| {
                let configuration = root.join("boot/grub/grub.cfg");
                (Files::Grub { configuration, mkconfig: root.join("mkconfig") }, None, None)
            },
        );
        fs::set_permissions(lab.root.path().join("mkconfig"), fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    fn red_hat() -> Self {
        Self::new(
            &[
                ("boot/grub2/grub.cfg", "set default=\"${saved_entry}\"\ninsmod blscfg\nblscfg\n"),
                ("boot/loader/entries/id-5.13.conf", &entry("1", "5.13", "ro quiet")),
                ("boot/loader/entries/id-5.14.conf", &entry("1", "5.14", "ro quiet $tuned_params")),
                ("boot/loader/entries/other-6.conf", &entry("2", "6", "ro quiet")),
                ("etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\"\n"),
                ("etc/kernel/cmdline", "root=UUID=1 ro quiet\n"),
            ],
            |root| {
                let configuration = root.join("boot/grub2/grub.cfg");
                (
                    Files::Grub { configuration, mkconfig: "/bin/false".into() },
                    Some("id-5.14"),
                    Some("id-5.14"),
                )
            },
        )
    }

    fn systemd_boot() -> Self {
        Self::new(
            &[
                ("efi/loader/entries/id-5.13.conf", &entry("1", "5.13", "ro quiet")),
                ("efi/loader/entries/id-5.14.conf", &entry("1", "5.14", "ro quiet")),
                ("usr/lib/kernel/cmdline", "root=UUID=1 ro quiet\n"),
            ],
            |_| (Files::SystemdBoot, Some("id-5.14.conf"), None),
        )
    }

    fn site(&self) -> Site<'_> {
        Site { root: self.root.path(), loader: &self.loader, running: RUNNING.to_owned() }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_default()
    }

    /// Returns all files, and the boot loader's settings.
    fn everything(&self) -> (Vec<(PathBuf, String)>, [Option<String>; 3]) {
        let (mut files, mut directories) = (Vec::new(), vec![self.root.path().to_owned()]);
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => directories.push(path),
                    false => files.push((path.clone(), fs::read_to_string(&path).unwrap())),
                }
            }
        }
        files.sort();
        let state = self.loader.state.borrow();
        (files, [state.default.clone(), state.next.clone(), state.kernelopts.clone()])
    }
}

fn args() -> KernelArgs {
    KernelArgs { add: vec!["nosmt".into()], remove: vec!["quiet".into()] }
}

fn labs() -> [(&'static str, Lab); 3] {
    [("Debian", Lab::debian()), ("Red Hat", Lab::red_hat()), ("systemd-boot", Lab::systemd_boot())]
}

#[test]
fn nothing_lasting_is_written_before_the_proof() {
    for (name, lab) in labs() {
        let (before, site) = (lab.everything(), lab.site());
        assert!(!site.is_satisfied(&args()).unwrap(), "{name}");
        let saved = site.observe(None).unwrap();
        assert_eq!(lab.everything(), before, "{name}");
        for _ in 0..2 {
            let after = site.apply(&args(), &saved).unwrap();
            assert_eq!((&after.added, &after.removed), (&args().add, &args().remove), "{name}");
            assert!(after.notes.is_empty(), "{name}");
        }
        let (files, [_, next, _]) = lab.everything();
        assert!(next.unwrap().starts_with(TRIAL), "{name}");
        let changed: Vec<_> = files.iter().filter(|file| !before.0.contains(file)).collect();
        assert_eq!(changed.len(), 1, "{name}: {changed:?}");
        let (_, trial) = changed[0];
        assert!(
            trial.contains("vmlinuz-5.14") && trial.contains("nosmt") && !trial.contains("quiet"),
            "{name}: {trial}"
        );
        assert_eq!(trial.matches("nosmt").count(), 1, "{name}: {trial}");
        site.before_reboot(&saved).unwrap();
        site.undo(&saved).unwrap();
        site.undo(&saved).unwrap();
        site.verify_old(&saved).unwrap();
        assert_eq!(lab.everything(), before, "{name}");
    }
}

#[test]
fn proven_arguments_last_and_can_be_taken_back_exactly() {
    for (name, lab) in labs() {
        let (before, site) = (lab.everything(), lab.site());
        let saved = site.observe(None).unwrap();
        site.apply(&args(), &saved).unwrap();
        site.before_reboot(&saved).unwrap();
        lab.loader.set_next(None).unwrap();
        for _ in 0..2 {
            site.confirm(&args(), &saved).unwrap();
        }
        assert!(site.is_satisfied(&args()).unwrap(), "{name}");
        let settings = lab.everything().1;
        assert_eq!(settings, before.1, "{name}");
        site.undo(&saved).unwrap();
        site.verify_old(&saved).unwrap();
        assert_eq!(lab.everything(), before, "{name}");
    }
}

/// The next order comes before the next boot: the one entry that booted the system is gone.
/// Has the arguments tried by systemd-boot, booted and proven, twice as after a crash.
fn prove(lab: &mut Lab) {
    let saved = lab.site().observe(None).unwrap();
    lab.site().apply(&args(), &saved).unwrap();
    lab.loader.booted = Some(TRIAL_FILE);
    lab.loader.set_next(None).unwrap();
    for _ in 0..2 {
        lab.site().confirm(&args(), &saved).unwrap();
    }
}

#[test]
fn arguments_are_changed_again_in_the_boot_that_proved_them() {
    let mut lab = Lab::systemd_boot();
    lab.loader.set_default(Some("id-5.14.conf")).unwrap();
    let before = lab.everything();
    prove(&mut lab);
    let back = KernelArgs { add: args().remove, remove: args().add };
    assert!(lab.site().is_satisfied(&args()).unwrap() && !lab.site().is_satisfied(&back).unwrap());
    let saved = lab.site().observe(None).unwrap();
    lab.site().apply(&back, &saved).unwrap();
    assert_eq!(
        texts::value(&lab.text(&format!("efi/loader/entries/{TRIAL_FILE}")), "options"),
        "root=UUID=1 ro quiet"
    );
    lab.loader.set_next(None).unwrap();
    lab.site().confirm(&back, &saved).unwrap();
    let entries = |(files, _): &(Vec<(PathBuf, String)>, _)| -> Vec<_> {
        files.iter().filter(|(path, _)| path.to_string_lossy().contains("entries")).cloned().collect()
    };
    assert_eq!(entries(&lab.everything()), entries(&before));
}

#[test]
fn all_files_for_present_and_later_kernels_are_edited() {
    let (debian, red_hat, systemd_boot) = (Lab::debian(), Lab::red_hat(), Lab::systemd_boot());
    for lab in [&debian, &red_hat, &systemd_boot] {
        let saved = lab.site().observe(None).unwrap();
        lab.site().confirm(&args(), &saved).unwrap();
    }
    let menu = debian.text("boot/grub/grub.cfg");
    assert_eq!((menu.matches("nosmt").count(), menu.matches("quiet").count()), (2, 0), "{menu}");
    assert_eq!(debian.text("boot/grub/custom.cfg"), "# the site's own\n");
    let options = |text: &str| texts::value(text, "options");
    assert_eq!(
        options(&red_hat.text("boot/loader/entries/id-5.14.conf")),
        "root=UUID=1 ro $tuned_params nosmt"
    );
    assert_eq!(options(&red_hat.text("boot/loader/entries/id-5.13.conf")), "root=UUID=1 ro nosmt");
    assert_eq!(options(&red_hat.text("boot/loader/entries/other-6.conf")), "root=UUID=2 ro quiet");
    assert_eq!(red_hat.text("etc/default/grub"), "GRUB_CMDLINE_LINUX=\"nosmt\"\n");
    assert_eq!(red_hat.text("etc/kernel/cmdline"), "root=UUID=1 ro nosmt\n");
    assert_eq!(options(&systemd_boot.text("efi/loader/entries/id-5.14.conf")), "root=UUID=1 ro nosmt");
    assert_eq!(systemd_boot.text("etc/kernel/cmdline"), "root=UUID=1 ro nosmt\n");
}

#[test]
fn a_kernel_installed_before_is_tried_and_a_power_cycle_leads_to_the_old_one() {
    let lab = Lab::red_hat();
    let first = BootDefault { default: Some("id-5.13".into()), booted: Some("id-5.13".into()) };
    let saved = lab.site().observe(Some(&first)).unwrap();
    lab.site().apply(&args(), &saved).unwrap();
    assert!(lab.text("boot/grub2/custom.cfg").contains("vmlinuz-5.14"));
    lab.site().before_reboot(&saved).unwrap();
    assert_eq!(lab.loader.default_entry().unwrap().as_deref(), Some("id-5.13"));
    lab.site().confirm(&args(), &saved).unwrap();
    assert_eq!(lab.loader.default_entry().unwrap().as_deref(), Some("id-5.14"), "the proven one");
    lab.site().undo(&saved).unwrap();
    assert_eq!(
        lab.loader.default_entry().unwrap().as_deref(),
        Some("id-5.13"),
        "the one before the first change"
    );
    lab.site().verify_old(&saved).unwrap();
}

#[test]
fn a_loader_that_cannot_try_once_gets_the_arguments_for_good_with_a_note() {
    let mut lab = Lab::debian();
    lab.loader.cannot_try = true;
    let before = lab.everything();
    let saved = lab.site().observe(None).unwrap();
    let after = lab.site().apply(&args(), &saved).unwrap();
    assert!(after.notes[0].contains("it is on LVM"), "{after:?}");
    assert!(lab.site().is_satisfied(&args()).unwrap() && lab.everything().1[1].is_none());
    lab.site().undo(&saved).unwrap();
    assert_eq!(lab.everything(), before);
}

#[test]
fn arguments_in_the_environment_block_are_edited_there() {
    let lab = Lab::red_hat();
    let entry = "title Linux 5.14\nlinux /vmlinuz-5.14\noptions $kernelopts $tuned_params\n";
    fs::write(lab.root.path().join("boot/loader/entries/id-5.14.conf"), entry).unwrap();
    let error = lab.site().is_satisfied(&args()).unwrap_err().to_string();
    assert!(error.contains("grub2-mkconfig"), "{error}");
    lab.loader.set_variable("kernelopts", Some("root=UUID=1 ro quiet")).unwrap();
    let before = lab.everything();
    let saved = lab.site().observe(None).unwrap();
    lab.site().apply(&args(), &saved).unwrap();
    assert!(
        lab.text("boot/grub2/custom.cfg")
            .contains("linux /vmlinuz-5.14 root=UUID=1 ro $tuned_params nosmt\n")
    );
    lab.site().confirm(&args(), &saved).unwrap();
    assert_eq!(lab.loader.variable("").unwrap().as_deref(), Some("root=UUID=1 ro nosmt"));
    assert_eq!(lab.text("boot/loader/entries/id-5.14.conf"), entry);
    lab.site().undo(&saved).unwrap();
    assert_eq!(lab.everything(), before);
}

#[test]
fn an_argument_that_comes_from_elsewhere_and_a_unified_image_are_refused() {
    let lab = Lab::debian();
    let template = TEMPLATE.replace("ARGS", "ARGS fixed");
    fs::write(lab.root.path().join("template"), template).unwrap();
    let before = lab.everything();
    let fixed = KernelArgs { add: vec!["a".into()], remove: vec!["fixed".into()] };
    let saved = lab.site().observe(None).unwrap();
    let error = lab.site().confirm(&fixed, &saved).unwrap_err().to_string();
    assert!(error.contains("fixed is still in it"), "{error}");
    lab.site().undo(&saved).unwrap();
    assert_eq!(lab.everything(), before);

    let mut lab = Lab::systemd_boot();
    lab.loader.booted = Some("linux.efi");
    assert!(lab.site().observe(None).unwrap_err().to_string().contains("unified kernel image"));
}

#[test]
fn a_menu_that_cannot_be_written_leaves_the_old_one() {
    let fixed = KernelArgs { add: vec!["a".into()], remove: vec!["fixed".into()] };
    for (mkconfig, template, args, cause) in [
        ("#!/bin/sh\necho torn > \"$2\"\nexit 1\n", TEMPLATE.to_owned(), args(), "exit code 1"),
        ("#!/bin/sh\n: > \"$2\"\n", TEMPLATE.to_owned(), args(), "has no entry"),
        ("#!/bin/sh\n", TEMPLATE.to_owned(), args(), "it wrote nothing"),
        // Its default entry would not have the arguments.
        (MKCONFIG, TEMPLATE.replace("ARGS", "ARGS fixed"), fixed, "fixed is still in it"),
    ] {
        let lab = Lab::debian();
        let path = |name: &str| lab.root.path().join(name);
        fs::write(path("template"), template).unwrap();
        let menu = lab.text("boot/grub/grub.cfg");
        let saved = lab.site().observe(None).unwrap();
        fs::write(path("mkconfig"), mkconfig.replace("ROOT", lab.root.path().to_str().unwrap())).unwrap();
        let error = lab.site().confirm(&args, &saved).unwrap_err().to_string();
        assert!(error.contains(cause), "{error}");
        assert_eq!(lab.text("boot/grub/grub.cfg"), menu, "{cause}");
        let left: Vec<_> =
            fs::read_dir(path("boot/grub")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(
            left.iter().all(|name| ["grub.cfg", "custom.cfg"].contains(&name.to_str().unwrap())),
            "{left:?}"
        );
    }
}

#[test]
fn a_file_without_a_final_newline_gets_the_entry_on_a_line_of_its_own() {
    let lab = Lab::debian();
    fs::write(lab.root.path().join("boot/grub/custom.cfg"), "set timeout=1").unwrap();
    let saved = lab.site().observe(None).unwrap();
    lab.site().apply(&args(), &saved).unwrap();
    let custom = lab.text("boot/grub/custom.cfg");
    assert!(custom.starts_with(&format!("set timeout=1\nmenuentry '{TRIAL}'")), "{custom}");
    lab.site().undo(&saved).unwrap();
    assert_eq!(lab.text("boot/grub/custom.cfg"), "set timeout=1");
}

/// The boot partition has the entries of another system, or none, and the EFI system partition those of this one.
#[test]
fn the_entry_that_was_tried_is_looked_for_where_it_was_written() {
    for others in [None, Some(entry("2", "6", "ro quiet"))] {
        let mut lab = Lab::systemd_boot();
        let other = lab.root.path().join("boot/loader/entries");
        fs::create_dir_all(&other).unwrap();
        if let Some(text) = &others {
            fs::write(other.join("other.conf"), text).unwrap();
        }
        lab.loader.set_default(Some("id-5.14.conf")).unwrap();
        prove(&mut lab);
        assert!(lab.site().is_satisfied(&args()).unwrap());
        let options = texts::value(&lab.text("efi/loader/entries/id-5.14.conf"), "options");
        assert_eq!(options, "root=UUID=1 ro nosmt");
        assert!(!lab.root.path().join("efi/loader/entries").join(TRIAL_FILE).exists());
        assert_eq!(others.unwrap_or_default(), lab.text("boot/loader/entries/other.conf"));
    }
}
