//! Images via the site's own program: real programs, working and broken.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_control::boot::{BootNode, BootSource, CommandConfig, provider};
use rollout_control::config::Config;
use rollout_core::rollout::image::{Image, Via};
use rollout_core::time_limit::TimeLimit;
use rollout_host::durable::replace;
use rollout_host::run::Program;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Much longer than anything here takes, because these tests assert nothing about speed.
const LONG: Duration = Duration::from_secs(120);

fn soon() -> Instant {
    Instant::now() + LONG
}

/// A program of a site, in a directory of its own.
struct Site {
    dir: tempfile::TempDir,
    limit: TimeLimit,
}

impl Site {
    /// Writes the program. `body` is shell, with the verb in `$1` and the directory in `$dir`.
    fn new(body: &str) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), limit: TimeLimit::from_secs(60) };
        let text = format!("#!/bin/sh\ndir={}\n{body}\n", site.dir.path().display());
        let draft = site.dir.path().join("draft");
        replace(&draft, text.as_bytes(), 0o644).unwrap();
        // A different process writes the program. If this one did, a child of a parallel test could inherit the open
        // file, and the kernel runs no file that is open for writing.
        let install = Program::new("/usr/bin/install", LONG).args(["-m", "755"]);
        install.arg(draft).arg(site.program()).run().unwrap();
        site
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("set-image")
    }

    fn source(&self) -> Box<dyn BootSource> {
        let command = CommandConfig { program: self.program(), time_limit: self.limit };
        provider(Via::Command, &Config { command: Some(command), ..Config::default() }).unwrap()
    }

    /// Returns the input of the program when it was called with this verb.
    fn read_by(&self, verb: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir.path().join(verb)).unwrap()).unwrap()
    }
}

fn image() -> Image {
    toml::from_str("via = 'command'\nimage = 'compute'\nversion = '2'\nvalues = { profile = 'blue' }")
        .unwrap()
}

fn nodes() -> Vec<BootNode> {
    let node = |name: &str, mac: &str| BootNode {
        name: name.to_owned(),
        values: [("mac".to_owned(), mac.to_owned())].into(),
    };
    vec![node("cn01", "02:00:00:00:00:01"), node("cn02", "02:00:00:00:00:02")]
}

fn back() -> Vec<(BootNode, Value)> {
    nodes().into_iter().zip([json!({ "profile": "red" }), Value::Null]).collect()
}

#[test]
fn it_is_asked_and_told_as_documented() {
    let site = Site::new(
        r#"[ $# = 1 ] || exit 9
cat >"$dir/$1"
case $1 in
check) echo '{"doubts": ["blue is old\u0007"]}' ;;
read) echo '{"nodes": {"cn01": {"saved": {"profile": "red"}}, "cn02": {"saved": null}}}' ;;
esac"#,
    );
    let source = site.source();
    assert_eq!(source.check(&image(), &nodes(), soon()).unwrap(), ["blue is old"]);
    let saved = source.read(&nodes(), soon());
    assert_eq!(
        (saved["cn01"].clone(), saved["cn02"].clone()),
        (Ok(json!({ "profile": "red" })), Ok(Value::Null))
    );
    assert!(source.set(&image(), &nodes(), soon()).values().all(Result::is_ok));
    assert!(source.put_back(&back(), soon()).values().all(Result::is_ok));

    let asked = json!([
        { "name": "cn01", "values": { "mac": "02:00:00:00:00:01" } },
        { "name": "cn02", "values": { "mac": "02:00:00:00:00:02" } },
    ]);
    let read = site.read_by("read");
    assert_eq!((&read["nodes"], read.get("image"), read.get("service")), (&asked, None, None));
    assert!(read["within_ms"].as_u64().unwrap() <= 60_000);
    for verb in ["check", "set"] {
        let read = site.read_by(verb);
        assert_eq!(read["nodes"], asked);
        assert_eq!(
            (&read["image"]["version"], &read["image"]["values"]["profile"]),
            (&json!("2"), &json!("blue"))
        );
    }
    let read = site.read_by("put-back");
    assert_eq!(read["nodes"][0]["saved"], json!({ "profile": "red" }));
    assert_eq!(read["nodes"][1].get("saved"), Some(&Value::Null));
}

/// Our own program talks to services, and is called in the same way.
#[test]
fn what_is_not_configured_or_not_there_is_told() {
    for via in [Via::Bss, Via::Bos, Via::BootService, Via::Command] {
        let why = provider(via, &Config::default()).err().unwrap();
        assert_eq!(
            why,
            format!("via \"{via}\" is not configured: controller.toml has no table [{}]", via.table())
        );
    }
    let via = provider(Via::Ostree, &Config::default()).err().unwrap();
    assert_eq!(via, "via \"ostree\" works on the nodes");
    if std::path::Path::new("/usr/libexec/slurm-rollout/boot-service").exists() {
        return;
    }
    for via in [Via::Bss, Via::Bos, Via::BootService] {
        let table = format!("{} = {{ url = 'https://service' }}", via.table());
        let config: Config = toml::from_str(&table).unwrap();
        let why = provider(via, &config).unwrap().read(&nodes(), soon())["cn01"].clone().unwrap_err();
        assert!(why.starts_with("/usr/libexec/slurm-rollout/boot-service: No such file"), "{why}");
    }
}

#[test]
fn what_it_says_of_a_node_counts_for_that_node() {
    // Exit code 0, with an error for one node.
    let site = Site::new(r#"printf %s '{"nodes": {"cn02": {"error": "no such\n machine"}}}'"#);
    let outcomes = site.source().set(&image(), &nodes(), soon());
    assert_eq!(outcomes["cn01"], Ok(()));
    assert_eq!(outcomes["cn02"], Err("no such machine".to_owned()));
    let outcomes = site.source().read(&nodes(), soon());
    assert!(outcomes["cn01"].clone().unwrap_err().contains("read said nothing of this node"));
    // A different exit code, which concerns all other nodes.
    let site = Site::new(
        r#"echo '{"nodes": {"cn02": {"error": "no such machine"}}}'; echo no database >&2; exit 3"#,
    );
    let outcomes = site.source().put_back(&back(), soon());
    let why = outcomes["cn01"].clone().unwrap_err();
    assert!(why.contains("set-image put-back ended with exit code 3: no database"), "{why}");
    assert_eq!(outcomes["cn02"], Err("no such machine".to_owned()));
}

#[test]
fn one_that_fails_is_quoted() {
    let site = Site::new("echo 'to people'; echo 'wwctl: no\nsuch profile' >&2; exit 1");
    let source = site.source();
    for why in [
        source.check(&image(), &nodes(), soon()).unwrap_err(),
        source.read(&nodes(), soon())["cn01"].clone().unwrap_err(),
        source.set(&image(), &nodes(), soon())["cn02"].clone().unwrap_err(),
        source.put_back(&back(), soon())["cn02"].clone().unwrap_err(),
    ] {
        assert!(why.contains("ended with exit code 1: wwctl: no such profile"), "{why}");
    }
}

#[test]
fn one_that_talks_nonsense_has_set_nothing() {
    for (text, expected) in [
        ("all is well", "what is no answer"),
        (r#"{"nodes": {"cn01": {"eror": "x"}}}"#, "unknown field `eror`"),
        (r#"{"nodes": ["cn01"]}"#, "what is no answer"),
        (r#"{"nodes": {"cn01": {"error": "x"}}} {}"#, "trailing"),
        (r#"{"nodes": {"cn1": {"error": "x"}}}"#, "speaks of \"cn1\", which it was not asked for"),
    ] {
        let site = Site::new(&format!("cat >/dev/null; cat <<'E'\n{text}\nE"));
        for outcome in site.source().set(&image(), &nodes(), soon()).into_values() {
            let why = outcome.unwrap_err();
            assert!(why.contains("set-image set") && why.contains(expected), "{why}");
        }
    }
    let site = Site::new(r#"echo '{"error": "no such profile"}'"#);
    assert_eq!(site.source().check(&image(), &nodes(), soon()), Err("no such profile".to_owned()));
    let why = Site::new("echo ok").source().check(&image(), &nodes(), soon()).unwrap_err();
    assert!(why.contains("what is no answer") && why.ends_with("ok"), "{why}");
    // Endless output is cut off.
    let why = Site::new("exec yes").source().set(&image(), &nodes(), soon())["cn01"].clone().unwrap_err();
    assert!(why.contains("printed more than") && why.chars().count() < 3000, "{}", why.chars().count());
}

#[test]
fn one_that_hangs_is_killed_with_what_it_started() {
    let stubborn = r#"trap '' TERM; sleep 1000 & echo $! >"$dir/child"; echo waiting >&2; wait"#;
    for of_its_own in [true, false] {
        let mut site = Site::new(stubborn);
        let begun = Instant::now();
        let until = if of_its_own { soon() } else { begun + Duration::from_secs(4) };
        if of_its_own {
            site.limit = TimeLimit::from_secs(1);
        }
        let why = site.source().set(&image(), &nodes(), until)["cn01"].clone().unwrap_err();
        assert!(why.contains("did not end within") && why.contains("killed: waiting"), "{why}");
        assert!(begun.elapsed() < LONG);
        let child = std::fs::read_to_string(site.dir.path().join("child")).unwrap();
        // A killed process may exist for a moment.
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while lives() {
            assert!(begun.elapsed() < LONG, "it lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let site = Site::new("echo called >\"$dir/called\"");
    let why = site.source().set(&image(), &nodes(), Instant::now())["cn01"].clone().unwrap_err();
    assert!(why.contains("in time") && !site.dir.path().join("called").exists(), "{why}");
}

#[test]
fn a_program_that_others_may_change_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new("echo called >\"$dir/called\"");
    let refused = |expected: &str| {
        let why = site.source().check(&image(), &nodes(), soon()).unwrap_err();
        assert!(why.contains("set-image") && why.contains(expected), "{why}");
        assert!(site.source().read(&nodes(), soon())["cn01"].is_err());
        assert!(!site.dir.path().join("called").exists());
    };
    let mode = |mode| std::fs::set_permissions(site.program(), PermissionsExt::from_mode(mode)).unwrap();
    for writable in [0o775, 0o757] {
        mode(writable);
        refused("writable for its group or for all");
    }
    mode(0o755);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(site.program(), Some(65534), None).unwrap();
        refused("belongs to uid 65534: chown root it");
        std::os::unix::fs::chown(site.program(), Some(0), None).unwrap();
    }
    mode(0o644);
    refused("cannot be started");
    std::fs::remove_file(site.program()).unwrap();
    refused("No such file");
    std::fs::create_dir(site.program()).unwrap();
    refused("is no program");
}

/// Ten thousand nodes are more than an argument or a pipe holds.
#[test]
fn it_is_told_of_as_many_nodes_as_there_are() {
    let site = Site::new(r#"cat >"$dir/$1""#);
    let many: Vec<BootNode> =
        (0..10_000).map(|n| BootNode { name: format!("cn{n:05}"), ..nodes().remove(0) }).collect();
    let outcomes = site.source().set(&image(), &many, soon());
    assert!(outcomes.len() == 10_000 && outcomes.values().all(Result::is_ok));
    assert_eq!(site.read_by("set")["nodes"].as_array().unwrap().len(), 10_000);
    let unread = Site::new("exit 0").source().set(&image(), &many, soon());
    assert!(unread.values().all(Result::is_ok));
}
