use super::*;

const WHOLE: &str = r#"
name  = "driver-580"
nodes = "cn[001-128],gpu[01-16]"
[[change]]
kind    = "packages"
install = ["slurm-slurmd-24.11.5", "nvidia-driver-580*"]
remove  = ["nvidia-driver-570*"]
[[change]]
kind   = "symlink"
path   = "/opt/slurm/current"
target = "/opt/slurm/24.11.5"
[reboot]
method  = "systemd"
timeout = "10m"
[verify]
commands   = [["/usr/sbin/nhc"]]
mounts     = ["/scratch"]
timeout    = "5m"
on_failure = "hold"
"#;

#[test]
fn reads_a_whole_manifest_and_fills_in_defaults() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    assert_eq!(manifest.nodes.len(), 144);
    assert_eq!(manifest.desired.changes.len(), 2);
    assert_eq!(manifest.desired.verify.on_failure, OnFailure::Hold);
    let short = "name='a'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
    let manifest = Manifest::parse(short).unwrap();
    assert_eq!(manifest.desired.reboot.timeout.to_string(), "10m");
    assert_eq!(manifest.desired.verify.on_failure, OnFailure::Rollback);
}

#[test]
fn an_aim_survives_json() {
    let desired = Manifest::parse(WHOLE).unwrap().desired;
    let back: DesiredState = serde_json::from_str(&serde_json::to_string(&desired).unwrap()).unwrap();
    assert_eq!(back, desired);
}

#[test]
fn a_manifest_that_is_written_is_read_as_the_same() {
    let keys = "kind = \"packages\"\nenable_repos = [\"crb\"]\nmodules = [\"driver:580\"]\noptions = [\"--nobest\"]\n\
                allow = [\"excluded\", \"held\", \"no-rollback\", \"failed-scriptlets\", \"other-kernel\"]";
    let manifest = Manifest::parse(&WHOLE.replacen("kind    = \"packages\"", keys, 1)).unwrap();
    let text = manifest.to_toml().unwrap();
    assert_eq!(Manifest::parse(&text).unwrap(), manifest, "{text}");
}

/// (text replaced in WHOLE, replacement, what the error must name)
const REFUSED: &[(&str, &str, &str)] = &[
    ("name  = \"driver-580\"", "", "name"),
    ("driver-580\"\nnodes", "a b\"\nnodes", "name: \"a b\""),
    ("driver-580\"\nnodes", ".hidden\"\nnodes", "name"),
    ("cn[001-128],gpu[01-16]", "cn[001-", "nodes"),
    ("cn[001-128],gpu[01-16]", "", "nodes"),
    ("path   =", "pth    =", "pth"),
    ("[reboot]", "[rebot]", "rebot"),
    ("/opt/slurm/current", "opt/slurm/current", "change[2].path"),
    ("/opt/slurm/current", "/opt/../etc/passwd", "change[2].path"),
    ("/opt/slurm/current", "/opt/slurm/", "change[2].path"),
    ("\"/opt/slurm/current\"", "\"/\"", "change[2].path"),
    ("/opt/slurm/24.11.5", "24.11.5", "change[2].target"),
    ("/opt/slurm/24.11.5", "/opt/slurm/current", "change[2].target"),
    ("slurm-slurmd-24.11.5", "--nogpgcheck", "change[1].install[1]"),
    ("slurm-slurmd-24.11.5", "", "change[1].install[1]"),
    ("slurm-slurmd-24.11.5", "/tmp/evil.rpm", "change[1].install[1]"),
    ("slurm-slurmd-24.11.5", "a; reboot", "change[1].install[1]"),
    ("nvidia-driver-570*", "nvidia-driver-580*", "both installed and removed"),
    ("/usr/sbin/nhc", "nhc", "verify.commands[1]"),
    ("method  = \"systemd\"", "command = [\"kexec\"]", "reboot.command"),
    ("[[\"/usr/sbin/nhc\"]]", "[[]]", "verify.commands[1]"),
    ("\"/scratch\"", "\"scratch\"", "verify.mounts[1]"),
    ("\"hold\"", "\"panic\"", "panic"),
    ("\"10m\"", "\"10\"", "time limit"),
    ("\"systemd\"", "\"kexec\"", "kexec"),
    ("kind   = \"symlink\"", "kind = \"commands\"", "unknown variant `commands`"),
    ("kind    = \"packages\"", "kind = \"packages\"\nmanager = \"pip\"", "pip"),
    ("kind    = \"packages\"", "kind = \"packages\"\nallow = [\"everything\"]", "everything"),
    ("kind    = \"packages\"", "kind = \"packages\"\nmodules = [\"driver\"]", "change[1].modules[1]"),
    ("kind    = \"packages\"", "kind = \"packages\"\nenable_repos = [\"a b\"]", "change[1].enable_repos[1]"),
    ("kind    = \"packages\"", "kind = \"packages\"\noptions = [\"--nogpgcheck\"]", "change[1].options[1]"),
];

#[test]
fn refuses_with_the_key_and_the_reason() {
    for (from, to, named) in REFUSED {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from}");
        let error = Manifest::parse(&text).expect_err(to).to_string();
        assert!(error.contains(named), "{to:?} gave {error:?}, which does not name {named:?}");
    }
}

#[test]
fn refuses_two_changes_on_one_path_or_of_packages_and_no_change_at_all() {
    let packages = "[[change]]\nkind='packages'\ninstall=['a']\n";
    let error =
        Manifest::parse(&format!("name='x'\nnodes='n1'\n{packages}{packages}")).unwrap_err().to_string();
    assert!(error.contains("change[2]") && error.contains("into one"), "{error}");
    let link = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
    let error = Manifest::parse(&format!("name='x'\nnodes='n1'\n{link}{link}")).unwrap_err().to_string();
    assert!(error.contains("change[2].path") && error.contains("twice"), "{error}");
    let error = Manifest::parse("name='x'\nnodes='n1'\n").unwrap_err().to_string();
    assert!(error.contains("[[change]]"), "{error}");
    assert!(matches!(Manifest::parse(&" ".repeat(MAX_BYTES + 1)), Err(ManifestError::TooLong(_))));
}

#[test]
fn arguments_of_the_kernel_come_after_packages_and_without_an_image() {
    let args =
        "[[change]]\nkind = \"kernel-args\"\nadd = [\"mitigations=off\"]\nremove = [\"mitigations\"]\n";
    let packages = "[[change]]\nkind = \"packages\"\ninstall = [\"kernel\"]\n";
    let image = "[[change]]\nkind = \"image\"\nvia = \"bos\"\nimage = \"i\"\n";
    let parse =
        |changes: &[&str]| Manifest::parse(&format!("name = \"a\"\nnodes = \"n1\"\n{}", changes.concat()));
    let manifest = parse(&[packages, args]).unwrap();
    assert_eq!(Manifest::parse(&manifest.to_toml().unwrap()).unwrap(), manifest);
    for (changes, word) in [
        (&[args, packages][..], "before it"),
        (&[args, args], "a second kernel-args change"),
        (&[args, image], "brings the arguments"),
        (&[image, args], "brings the arguments"),
        (&["[[change]]\nkind = \"kernel-args\"\n"], "no arguments to add"),
        (&["[[change]]\nkind = \"kernel-args\"\nadd = [\"a b\"]\n"], "change[1].add"),
    ] {
        let error = parse(changes).unwrap_err().to_string();
        assert!(error.contains(word), "{changes:?}: {error}");
    }
}

#[test]
fn a_strategy_changes_neither_the_desired_state_nor_the_nodes() {
    let plain = Manifest::parse(WHOLE).unwrap();
    for strategy in [
        "[strategy]\nmax_out = \"5%\"\n[strategy.halt]\nfailed = 2\n[[strategy.floor]]\npartition = \"gpu\"\n",
        "[strategy]\nkey_of_a_later_version = [{ a = 2026-11-27 }, 1.5]\n",
        "[strategy]\n",
    ] {
        let manifest = Manifest::parse(&format!("{WHOLE}{strategy}")).unwrap();
        assert_eq!(manifest, plain);
        let order = |manifest: &Manifest| serde_json::to_string(&manifest.desired).unwrap();
        assert_eq!(order(&manifest), order(&plain));
    }
    assert!(Manifest::parse(&format!("{WHOLE}[strategie]\n")).is_err());
    assert!(Manifest::parse(&format!("{WHOLE}[strategy]\na = 1\na = 2\n")).is_err(), "it still is TOML");
}
