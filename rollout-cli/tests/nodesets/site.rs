//! The groups of a site: ClusterShell's files and commands, and Slurm.

use super::clustershell::GROUPS_CONF;
use super::write;
use rollout_cli::groups::SiteGroups;
use rollout_control::config::Config;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SLURM: &str = "\
NodeName=cn01 AvailableFeatures=a100,ib NodeAddr=127.9.0.1 NodeHostName=cn01 State=IDLE Partitions=main,gpu
NodeName=cn02 AvailableFeatures=ib NodeAddr=127.9.0.2 NodeHostName=cn02 State=ALLOCATED Partitions=main
NodeName=cn03 NodeAddr=127.9.0.3 NodeHostName=cn03 State=DOWN+DRAIN Partitions=main
";

/// Writes a scontrol that prints nodes, and returns a configuration with it.
pub(super) fn config(dir: &Path) -> Config {
    let scontrol = dir.join("scontrol");
    let script = format!("#!/bin/sh\n[ \"$2\" = node ] || exit 1\ncat <<'END'\n{SLURM}END\n");
    write(dir, &[("scontrol", &script)]);
    std::fs::set_permissions(&scontrol, std::fs::Permissions::from_mode(0o755)).unwrap();
    Config { clustershell_dir: dir.to_owned(), scontrol, ..Config::default() }
}

fn resolved(config: &Config, text: &str) -> String {
    match SiteGroups::new(config).resolve(text) {
        Ok(nodes) => nodes.to_string(),
        Err(error) => {
            format!("error: {error}").replace(&config.clustershell_dir.display().to_string(), "DIR")
        }
    }
}

fn check(config: &Config, table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(resolved(config, text), *expected, "{text}");
    }
}

#[test]
fn slurm_makes_groups_without_any_file() {
    let dir = tempfile::tempdir().unwrap();
    check(
        &config(dir.path()),
        &[
            ("cn[01-02]", "cn[01-02]"),
            ("@partition:gpu", "cn01"),
            ("@sp:main!@state:drain", "cn[01-02]"),
            ("@feature:ib&@st:alloc", "cn02"),
            ("@partition:*", "cn[01-03]"),
            ("@state:idle!cn01", "error: \"@state:idle!cn01\" stands for no node at present"),
            (
                "@partition:typo",
                "error: @partition:typo: no node in Slurm has this partition; there are gpu, main",
            ),
            (
                "@gpu",
                "error: @gpu: there is no default source of groups in DIR; Slurm's groups are @partition:NAME, \
                 @feature:NAME and @state:NAME",
            ),
            (
                "@racks:r1",
                "error: @racks:r1: no such source of groups: DIR has no source of groups, and Slurm's are partition, \
                 feature and state",
            ),
        ],
    );
}

#[test]
fn files_are_found_as_clustershell_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    write(dir.path(), &[("groups", "io: n[1-2]\nadm: @io!n1\n")]);
    check(&config, &[("@adm", "n2"), ("@local:*", "n[1-2]")]);

    write(
        dir.path(),
        &[
            ("groups.conf", GROUPS_CONF),
            ("groups.d/local.cfg", "other: n9\n"),
            ("groups.d/b.yaml", "racks:\n  r1: n[1-4]\n  r2: '@r1&@local:io'\n"),
            ("more/c.yaml", "partition:\n  main: n8\n"),
            ("groups.d/c.yaml.example", "unused: {\n"),
            ("groups.conf.d/cmd.conf", "[cmd,other]\nmap: echo $SOURCE-$GROUP\nlist: echo a 'b[1-2]'\n"),
            ("groups.conf.d/pipe.conf", "[pipe]\nmap: echo $GROUP | sort\nall: true\n"),
        ],
    );
    check(
        &config,
        &[
            ("@adm", "n2"),
            ("@racks:r2", "n[1-2]"),
            ("@racks:*!@local:*", "n[3-4]"),
            ("@cmd:gpu,@other:x", "cmd-gpu,other-x"),
            ("@cmd:*", "cmd-a,cmd-b[1-2]"),
            // A source of the site's own comes before that of the same name that Slurm makes.
            ("@partition:main", "n8"),
            ("@feature:a100", "cn01"),
            ("@typo", "error: @local:typo: no such group: DIR/groups has only adm, io"),
            (
                "@pipe:x",
                "error: @pipe:x: DIR/groups.conf.d/pipe.conf: [pipe] map: the command needs a shell (|), which \
                 slurm-rollout does not start; put it into a script and name that, or write the groups into a file of \
                 groups.d",
            ),
            ("@pipe:*", "error: \"@pipe:*\" stands for no node at present"),
            (
                "@no:x",
                "error: @no:x: no such source of groups: DIR has only cmd, other, pipe, racks, partition, local, and \
                 Slurm's are partition, feature and state",
            ),
        ],
    );
    std::fs::remove_file(dir.path().join("groups")).unwrap();
    check(&config, &[("@other,@local:*", "n9")]);
}

#[test]
fn a_program_that_prints_nothing_knows_no_such_group() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let conf = "[Main]\nconfdir: $CFGDIR\n[a]\nmap: true\n[b]\nmap: no-such-program-of-ours\n";
    write(dir.path(), &[("groups.conf", conf)]);
    // The directory of further files is the one of groups.conf, which is then read twice.
    let twice = "error: @a:x: the source a is in DIR/groups.conf and in DIR/groups.conf; remove one";
    check(&config, &[("@a:x", twice)]);
    write(dir.path(), &[("groups.conf", &conf.replace("confdir: $CFGDIR\n", ""))]);
    check(
        &config,
        &[
            (
                "n1!@x",
                "error: @a:x: DIR/groups.conf: [a] map of x printed no node: the group is unknown or empty",
            ),
            (
                "@b:x",
                "error: @b:x: DIR/groups.conf: [b] map: no-such-program-of-ours is not in \
                 /usr/sbin:/usr/bin:/sbin:/bin and not beside scontrol; write its absolute path",
            ),
            (
                "@b:*",
                "error: @b:*: DIR/groups.conf: [b] it has neither all nor list, so it has no set of all nodes",
            ),
        ],
    );
}

#[test]
fn commands_that_others_can_choose_are_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let conf = "[Main]\ndefault: a\n[a]\nmap: $CFGDIR/map $GROUP\n";
    write(dir.path(), &[("groups.conf", conf), ("map", "#!/bin/sh\necho n1 n2\n")]);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("map", 0o755);
    check(&config, &[("@x", "n[1-2]")]);
    mode("map", 0o775);
    let why = "is writable for its group or for all: chmod go-w it";
    check(&config, &[("@x", &format!("error: @a:x: DIR/groups.conf: [a] map: DIR/map: {why}"))]);
    mode("map", 0o755);
    mode("groups.conf", 0o666);
    check(&config, &[("@x", &format!("error: @a:x: DIR/groups.conf: its commands are not run: {why}"))]);
}

#[test]
fn mistakes_in_files_name_the_file() {
    for (files, error) in [
        (
            &[("groups.conf", "default: x\n")][..],
            "DIR/groups.conf: line 1: it stands before the first [section]",
        ),
        (
            &[("groups.conf", "[Main]\ndefault: x\n")],
            "DIR/groups.conf: the default source \"x\" does not exist",
        ),
        (
            &[("groups.conf", GROUPS_CONF), ("groups.d/a.yaml", "a:\n  - b\n")],
            "DIR/groups.d/a.yaml: line 2: a map of groups is missing",
        ),
        (
            &[("groups.conf", GROUPS_CONF), ("groups.d/a.yaml", "local: {a: b}\n")],
            "the source local is in DIR/groups.d/a.yaml and in DIR/groups.d/local.cfg; remove one",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        write(dir.path(), files);
        // An error in any file makes every group unknown. A hostlist needs no group.
        check(&config, &[("@sp:main", &format!("error: @sp:main: {error}")), ("cn01", "cn01")]);
    }
}
