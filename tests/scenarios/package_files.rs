//! Content and quality of the packages: files, versions, linters, and a build without a network.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::prelude::*;

/// All files of `slurm-rollout`. First in which kind: `rpm`, `deb`, or `-` for both. Then what it is: `f` a file, `d` a
/// directory, `l` a link, `c` configuration that an admin may change, `g` a file that is made later.
///
/// Debian's packages do not name whose a directory is, but make it when they are installed; licences are in
/// `copyright`.
const CONTROLLER_FILES: &str = "
-   d 0755 root:root   /etc/slurm-rollout
-   d 0755 root:root   /etc/slurm-rollout/controller.d
-   c 0644 root:root   /etc/slurm-rollout/controller.toml
-   f 0755 root:root   /usr/bin/slurm-rollout
-   f 0644 root:root   /usr/lib/sysusers.d/slurm-rollout.conf
-   f 0644 root:root   /usr/lib/tmpfiles.d/slurm-rollout.conf
-   d 0755 root:root   /usr/libexec/slurm-rollout
-   f 0755 root:root   /usr/libexec/slurm-rollout/boot-service
-   f 0755 root:root   /usr/libexec/slurm-rollout/reboot-program
-   f 0644 root:root   /usr/lib/systemd/system-preset/80-slurm-rollout.preset
-   f 0644 root:root   /usr/lib/systemd/system/slurm-rollout-reconcile.path
-   f 0644 root:root   /usr/lib/systemd/system/slurm-rollout-reconcile.service
-   f 0644 root:root   /usr/lib/systemd/system/slurm-rollout-reconcile.timer
-   f 0644 root:root   /usr/share/bash-completion/completions/slurm-rollout
-   d 0755 root:root   /usr/share/doc/slurm-rollout
rpm f 0644 root:root   /usr/share/doc/slurm-rollout/CHANGELOG.md
deb f 0644 root:root   /usr/share/doc/slurm-rollout/changelog.gz
deb f 0644 root:root   /usr/share/doc/slurm-rollout/changelog.Debian.gz
deb f 0644 root:root   /usr/share/doc/slurm-rollout/copyright
-   f 0644 root:root   /usr/share/doc/slurm-rollout/README.md
-   d 0755 root:root   /usr/share/doc/slurm-rollout/docs
rpm d 0755 root:root   /usr/share/fish
rpm d 0755 root:root   /usr/share/fish/vendor_completions.d
-   f 0644 root:root   /usr/share/fish/vendor_completions.d/slurm-rollout.fish
rpm d 0755 root:root   /usr/share/licenses/slurm-rollout
rpm f 0644 root:root   /usr/share/licenses/slurm-rollout/LICENSE
deb f 0644 root:root   /usr/share/lintian/overrides/slurm-rollout
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-approve.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-archive.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-config.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-config-check.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-doctor.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-freeze.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-history.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-pause.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-plan.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-power.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-reconcile.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-rehearse.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-release.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-resume.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-retry.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-show.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-stage.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-start.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-status.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-stop.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-thaw.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-undo.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-unstage.1.gz
-   f 0644 root:root   /usr/share/man/man1/slurm-rollout-why.1.gz
-   f 0644 root:root   /usr/share/man/man5/slurm-rollout-controller.toml.5.gz
-   f 0644 root:root   /usr/share/man/man5/slurm-rollout-manifest.5.gz
-   f 0644 root:root   /usr/share/man/man8/slurm-rollout-reboot-program.8.gz
-   d 0755 root:root   /usr/share/slurm-rollout
-   d 0755 root:root   /usr/share/slurm-rollout/slurm-conf-snippets
-   f 0644 root:root   /usr/share/slurm-rollout/slurm-conf-snippets/power_action.conf
-   f 0644 root:root   /usr/share/slurm-rollout/slurm-conf-snippets/power_action_by_slurmd.conf
-   f 0644 root:root   /usr/share/slurm-rollout/slurm-conf-snippets/reboot_by_slurmd.conf
-   f 0644 root:root   /usr/share/slurm-rollout/slurm-conf-snippets/reboot_from_controller.conf
rpm d 0755 root:root   /usr/share/zsh
rpm d 0755 root:root   /usr/share/zsh/site-functions
rpm f 0644 root:root   /usr/share/zsh/site-functions/_slurm-rollout
deb f 0644 root:root   /usr/share/zsh/vendor-completions/_slurm-rollout
rpm g 0755 slurm:slurm /var/lib/slurm-rollout
";

/// All files of `slurm-rollout-agent`.
const AGENT_FILES: &str = "
-   d 0755 root:root /etc/slurm-rollout
-   d 0755 root:root /etc/slurm-rollout/agent.d
-   c 0644 root:root /etc/slurm-rollout/agent.toml
-   f 0644 root:root /usr/lib/systemd/system-preset/80-slurm-rollout-agent.preset
-   f 0644 root:root /usr/lib/systemd/system/slurm-rollout-agent.service
-   f 0644 root:root /usr/lib/systemd/system/slurm-rollout-gate.service
-   f 0644 root:root /usr/lib/systemd/system/slurm-rollout-rescue.service
-   d 0755 root:root /usr/lib/systemd/system/slurmd.service.d
-   f 0644 root:root /usr/lib/systemd/system/slurmd.service.d/slurm-rollout.conf
-   d 0755 root:root /usr/libexec/slurm-rollout
-   l 0777 root:root /usr/libexec/slurm-rollout/reboot-node
rpm g 0755 root:root /usr/libexec/slurm-rollout/rescue-agent
-   f 0755 root:root /usr/sbin/slurm-rollout-agent
-   d 0755 root:root /usr/share/doc/slurm-rollout-agent
rpm f 0644 root:root /usr/share/doc/slurm-rollout-agent/CHANGELOG.md
deb f 0644 root:root /usr/share/doc/slurm-rollout-agent/changelog.gz
deb f 0644 root:root /usr/share/doc/slurm-rollout-agent/changelog.Debian.gz
deb f 0644 root:root /usr/share/doc/slurm-rollout-agent/copyright
rpm d 0755 root:root /usr/share/licenses/slurm-rollout-agent
rpm f 0644 root:root /usr/share/licenses/slurm-rollout-agent/LICENSE
deb f 0644 root:root /usr/share/lintian/overrides/slurm-rollout-agent
-   f 0644 root:root /usr/share/man/man5/slurm-rollout-agent.toml.5.gz
-   f 0644 root:root /usr/share/man/man8/slurm-rollout-agent.8.gz
rpm d 0700 root:root /var/lib/slurm-rollout-agent
";

/// A table's lines for one kind, in the form of [`files_of_rpm`], and for the controller what `docs/` holds.
fn expected(table: &str, kind: &str) -> BTreeSet<String> {
    let lines = table.lines().filter_map(|line| line.split_once(' '));
    let mine = lines.filter(|(of, _)| *of == kind || *of == "-");
    let spaces_once = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all: BTreeSet<String> = mine.map(|(_, line)| spaces_once(line)).collect();
    if table == CONTROLLER_FILES {
        for page in fs::read_dir(workspace().join("docs")).unwrap() {
            let name = page.unwrap().file_name().into_string().unwrap();
            all.insert(format!("f 0644 root:root /usr/share/doc/slurm-rollout/docs/{name}"));
        }
    }
    all
}

/// Each file as `kind mode user:group path`.
fn files_of_rpm(package: &Path) -> BTreeSet<String> {
    let format = "[%{FILEMODES:octal}|%{FILEFLAGS:fflags}|%{FILEUSERNAME}:%{FILEGROUPNAME}|%{FILENAMES}\n]";
    let listed = run(&["rpm", "-qp", "--queryformat", format, text(package)]);
    let describe = |line: &str| {
        let [mode, flags, owner, path] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        let kind = match (mode & 0o170_000, flags) {
            (0o040_000 | 0o100_000, "g") => "g",
            (0o040_000, _) => "d",
            (0o120_000, _) => "l",
            (0o100_000, "cn") => "c",
            (0o100_000, "" | "d" | "l") => "f",
            _ => panic!("{line}"),
        };
        format!("{kind} {:04o} {owner} {path}", mode & 0o7777)
    };
    listed.lines().map(describe).collect()
}

/// The same. A deb names every directory on the way; those that are not ours belong to others as well.
fn files_of_deb(package: &Path) -> BTreeSet<String> {
    let control =
        run(&["sh", "-c", r#"dpkg-deb --ctrl-tarfile "$1" | tar -xO ./conffiles"#, "sh", text(package)]);
    let configuration: BTreeSet<&str> = control.lines().collect();
    let listed =
        run(&["sh", "-c", r#"dpkg-deb --fsys-tarfile "$1" | tar -t --verbose"#, "sh", text(package)]);
    let describe = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let path = fields[5].trim_start_matches('.').trim_end_matches('/');
        let kind = match fields[0].as_bytes()[0] {
            b'd' if !path.contains("slurm") => return None,
            b'd' => "d",
            b'l' => "l",
            b'-' if configuration.contains(path) => "c",
            b'-' => "f",
            _ => panic!("{line}"),
        };
        let bit = |(at, letter): (usize, char)| if letter == '-' { 0 } else { 0o400 >> at };
        let mode: u32 = fields[0][1..10].chars().enumerate().map(bit).sum();
        Some(format!("{kind} {mode:04o} {} {path}", fields[1].replace('/', ":")))
    };
    listed.lines().filter_map(describe).collect()
}

#[test]
fn the_packages_hold_these_files_and_no_others() {
    let built = BuiltPackages::build().unwrap();
    for (table, rpm, deb) in [
        (CONTROLLER_FILES, &built.controller_rpm, &built.controller_deb),
        (AGENT_FILES, &built.agent_rpm, &built.agent_deb),
    ] {
        for (kind, package, found) in [("rpm", rpm, files_of_rpm(rpm)), ("deb", deb, files_of_deb(deb))] {
            let expected = expected(table, kind);
            let missing: Vec<_> = expected.difference(&found).collect();
            let unexpected: Vec<_> = found.difference(&expected).collect();
            let package = package.display();
            assert!(
                missing.is_empty() && unexpected.is_empty(),
                "{package}: missing {missing:#?}, unexpected {unexpected:#?}"
            );
        }
    }
}

#[test]
fn reboot_program_is_small_and_needs_no_library_in_either_kind() {
    let built = BuiltPackages::build().unwrap();
    let program = "./usr/libexec/slurm-rollout/reboot-program";
    let from_rpm = r#"rpm2cpio "$1" | cpio --quiet -i --to-stdout "$2" >"$3""#;
    let from_deb = r#"dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" >"$3""#;
    for (script, package) in [(from_rpm, &built.controller_rpm), (from_deb, &built.controller_deb)] {
        let file = built.directory.join(format!("reboot-program-{}", std::process::id()));
        run(&["sh", "-c", script, "sh", text(package), program, text(&file)]);
        let elf = run(&["readelf", "--wide", "--file-header", "--program-headers", "--dynamic", text(&file)]);
        let bytes = fs::metadata(&file).unwrap().len();
        fs::remove_file(&file).unwrap();
        assert!(bytes < 1_950_000, "{package:?}: {bytes} bytes");
        assert!(elf.contains("Class:"), "{elf}");
        assert!(!elf.contains("INTERP") && !elf.contains("(NEEDED)"), "{package:?}: {elf}");
    }
}

#[test]
fn there_is_one_version() {
    let newer = BuiltPackages::build_version("0.2.0").unwrap();
    for built in [BuiltPackages::build().unwrap(), newer] {
        let version = &built.version;
        let read = |path: &str| fs::read_to_string(built.source.join(path)).unwrap();
        let spec = read("packaging/rpm/slurm-rollout.spec");
        assert!(spec.lines().any(|line| line.split_whitespace().eq(["Version:", version])), "spec");
        let newest = spec.split_once("%changelog\n").unwrap().1.lines().next().unwrap();
        assert!(newest.ends_with(&format!("> - {version}-1")), "{newest}");
        let debian = read("packaging/deb/changelog");
        assert!(debian.starts_with(&format!("slurm-rollout ({version}-1) ")), "{debian}");
        let changes = read("CHANGELOG.md");
        let heading = changes.lines().find(|line| line.starts_with("## [") && !line.contains("Unreleased"));
        assert!(heading.unwrap().starts_with(&format!("## [{version}] - ")), "{heading:?}");
        for rpm in [&built.controller_rpm, &built.agent_rpm, &built.source_rpm] {
            assert_eq!(run(&["rpm", "-qp", "--queryformat", "%{VERSION}", text(rpm)]), *version);
        }
        for deb in [&built.controller_deb, &built.agent_deb] {
            assert_eq!(run(&["dpkg-deb", "--field", text(deb), "Version"]).trim(), format!("{version}-1"));
        }
    }
}

#[test]
fn what_is_built_already_is_not_built_again() {
    let built = BuiltPackages::build().unwrap();
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = made(&built.agent_rpm).max(made(&built.agent_deb));
    let again = BuiltPackages::build().unwrap();
    assert_eq!(made(&again.agent_rpm).max(made(&again.agent_deb)), before);
}

#[test]
fn rpmlint_has_nothing_to_say_that_is_not_answered() {
    let built = BuiltPackages::build().unwrap();
    let answers = workspace().join("packaging/rpm/rpmlint.toml");
    let spec = workspace().join("packaging/rpm/slurm-rollout.spec");
    let packages = [&built.controller_rpm, &built.agent_rpm, &built.source_rpm, &spec].map(|path| text(path));
    let said = output(&[&["rpmlint", "-c", text(&answers)], &packages[..]].concat());
    assert!(said.stdout.contains("3 packages and 1 specfiles checked"), "{said:?}");
    let remarks: Vec<_> = remarks(&said, &built, &[": W: ", ": E: "]);
    assert!(remarks.is_empty(), "{remarks:#?}");
}

#[test]
fn lintian_has_nothing_to_say_that_is_not_answered() {
    let built = BuiltPackages::build().unwrap();
    let packages = [&built.controller_deb, &built.agent_deb].map(|path| text(path));
    // With an override's reason, so that it is seen to have run.
    let said = output(&[&["lintian", "--allow-root", "--show-overrides"], &packages[..]].concat());
    assert!(said.stdout.contains("O: slurm-rollout"), "{said:?}");
    let remarks = remarks(&said, &built, &["W: ", "E: "]);
    assert!(remarks.is_empty(), "{remarks:#?}");
}

/// The lines with remarks. For the lab, agent and CLI may be static, which is not what is shipped.
fn remarks(said: &Output, built: &BuiltPackages, marks: &[&str]) -> Vec<String> {
    let of_the_lab = |line: &str| {
        let tags = ["statically-linked-binary", "shared-library-lacks-prerequisites"];
        let programs = ["/usr/bin/slurm-rollout", "/usr/sbin/slurm-rollout-agent"];
        built.is_static
            && tags.iter().any(|tag| line.contains(tag))
            && programs.iter().any(|program| line.contains(program.trim_start_matches('/')))
    };
    let lines = said.stdout.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
    lines.filter(|line| !of_the_lab(line)).map(String::from).collect()
}

#[test]
fn the_source_rpm_builds_without_a_network_and_without_a_cache_of_crates() {
    let built = BuiltPackages::build().unwrap();
    let place = built.directory.join("rebuild");
    let _ = fs::remove_dir_all(&place);
    let empty = place.join("cargo-home");
    fs::create_dir_all(&empty).unwrap();
    let top = format!("_topdir {}", text(&place));
    let mut argv = vec!["unshare", "--net", "rpmbuild", "--quiet", "--rebuild", "--nodeps", "--define", &top];
    if built.is_static {
        argv.extend(["--with", "static"]);
    }
    argv.push(text(&built.source_rpm));
    let mut command = Command::new(&argv)
        .env("CARGO_HOME", text(&empty))
        .env("CARGO_TARGET_DIR", text(&built.target_directory))
        .limit(20 * MINUTES);
    for name in ["PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Ok(value) = std::env::var(name) {
            command = command.env(name, &value);
        }
    }
    // Crates that were compiled from the same tarball are not compiled again.
    let alone = built.lock_target_directory().unwrap();
    command.run().unwrap();
    drop(alone);
    let machine = std::env::consts::ARCH;
    let (packages, version) = (place.join("RPMS").join(machine), &built.version);
    for (name, original) in
        [("slurm-rollout", &built.controller_rpm), ("slurm-rollout-agent", &built.agent_rpm)]
    {
        let again = packages.join(format!("{name}-{version}-1.{machine}.rpm"));
        // Debian's rpm compresses no manual pages unless it is helped to.
        let plain = |path: &Path| -> BTreeSet<String> {
            files_of_rpm(path).iter().map(|line| line.trim_end_matches(".gz").to_string()).collect()
        };
        assert_eq!(plain(&again), plain(original));
    }
    fs::remove_dir_all(&place).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(argv: &[&str]) -> String {
    Command::new(argv).run().unwrap()
}

fn output(argv: &[&str]) -> Output {
    Command::new(argv).limit(MINUTES).output().unwrap()
}
