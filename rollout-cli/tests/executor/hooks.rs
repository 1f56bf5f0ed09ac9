//! Hooks, called by the executor.

use crate::site::{Site, tick};
use rollout_cli::executor::{Executor, Tick};
use rollout_core::rollout::journal::Entry;
use rollout_host::process::{Stat, environment, pids};
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Writes a program, and returns its path.
fn program(site: &Site, name: &str, script: &str) -> String {
    let path = site.path("bin").join(name);
    let text = format!("#!/bin/sh\n{}\n", script.replace("DIR", &site.path("").display().to_string()));
    rollout_host::durable::replace(&path, text.as_bytes(), 0o755).unwrap();
    path.display().to_string()
}

/// Returns a site whose rollout has hooks: `MOMENT SCRIPT KEYS` each. The scripts are written first.
fn site(strategy: &str, hooks: &[(&str, &str, &str)]) -> Site {
    Site::started_with(|site| {
        let mut text = format!("[strategy]\n{strategy}\n");
        for (number, (when, script, keys)) in (1..).zip(hooks) {
            let path = program(site, &format!("hook{number}"), script);
            text.push_str(&format!(
                "[[strategy.hook]]\nwhen = '{when}'\ncommand = ['{path}', 'it']\n{keys}\n"
            ));
        }
        text
    })
}

/// Ticks until a line of the journal contains these words.
fn tick_until(site: &Site, executor: &mut Executor, words: &str) {
    let begin = Instant::now();
    while !site.journal().iter().any(|line| line.contains(words)) {
        assert!(begin.elapsed() < LIMIT, "{words}: {:#?}", site.journal());
        if let Tick::Done(report) = executor.tick().unwrap() {
            assert_eq!(report.failed, [""; 0]);
        }
        thread::sleep(PAUSE);
    }
}

fn read(site: &Site, name: &str) -> String {
    fs::read_to_string(site.path(name)).unwrap_or_default()
}

/// Returns the number of lines of the journal that contain these words.
fn count(site: &Site, words: &str) -> usize {
    site.journal().iter().filter(|line| line.contains(words)).count()
}

/// Returns whether a hook of the site runs.
fn runs(site: &Site) -> bool {
    let entry = format!("SLURM_ROLLOUT_STATE_DIR={}", site.path("state").display());
    pids().any(|pid| environment(pid).contains(&entry) && Stat::of(pid).is_some_and(|stat| !stat.has_ended))
}

#[test]
fn a_node_is_requested_after_its_hook_and_comes_back_before_the_next() {
    let script =
        "cat > DIR/in.$1.$$ && cat DIR/in.$1.$$ >> DIR/calls.hook; echo >> DIR/calls.hook; echo moved";
    let site = site(
        "",
        &[("before-request", script, "nodes = 'n[1-2]'"), ("updated", "exit 0", ""), ("ended", script, "")],
    );
    let mut executor = site.executor();
    let first = ["driver: its hooks are awaited", "driver: n1 hook hook1 (before-request) called"];
    assert_eq!(tick(&mut executor).done, first);
    assert_eq!((site.calls(), site.out()), (vec![], vec![]));
    tick_until(&site, &mut executor, "n1 hook hook1 (before-request) succeeded");
    let (_, why) = site.run("why n1");
    assert!(why.contains("n1: driver: being requested now"), "{why}");
    tick_until(&site, &mut executor, "n1 reboot requested");
    let input: serde_json::Value =
        serde_json::from_str(read(&site, "calls.hook").lines().next().unwrap()).unwrap();
    let expected = serde_json::json!({
        "version": 1, "rollout": "driver", "hook": "hook1", "when": "before-request", "run": 1, "attempt": 1,
        "state": "running", "wave": 1, "waves": 1, "nodelist": "n1",
        "nodes": [{ "name": "n1", "phase": "staged" }],
        "changes": [{ "kind": "symlink", "path": "/a", "target": "/b" }],
    });
    assert_eq!(input, expected);
    // The next node waits for the hook after the update of this one.
    tick(&mut executor);
    site.advance();
    site.advance();
    assert!(site.rollout().records["n1"].is_settled());
    let done = tick(&mut executor).done;
    assert!(done.iter().any(|line| line == "driver: n1 hook hook2 (updated) called"), "{done:?}");
    assert!(!done.iter().any(|line| line.contains("n2")), "{done:?}");
    let (_, why) = site.run("why n[1-2]");
    assert!(why.contains("n1: driver: waits for the hook hook2"), "{why}");
    let begin = Instant::now();
    while !site.is_updated() {
        assert!(begin.elapsed() < LIMIT, "{:#?}", site.journal());
        let _ = executor.tick().unwrap();
        site.advance();
        thread::sleep(PAUSE);
    }
    assert_eq!(executor.tick().unwrap(), Tick::Idle);
    let journal = site.journal();
    for node in ["n1", "n2", "n3", "n4", "n5", "n6"] {
        let at = |words: &str| journal.iter().position(|line| *line == format!("{node} {words}"));
        let (hook, requested) =
            (at("hook hook1 (before-request) succeeded"), at("reboot requested from Slurm"));
        assert!(requested.is_some() && (hook < requested), "{node}: {journal:#?}");
        assert_eq!(hook.is_some(), ["n1", "n2"].contains(&node));
        assert_eq!(count(&site, &format!("{node} hook hook2 (updated) succeeded")), 1);
    }
    assert_eq!(journal.last().unwrap(), "its hooks are over");
    let last = read(&site, "calls.hook");
    let ended: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!((&ended["state"], &ended["nodelist"]), (&"done".into(), &"n[1-6]".into()));
    let (_, shown) = site.run("show driver");
    assert!(shown.contains("\nn1 hook hook1 (before-request) called:\n  moved\n"), "{shown}");
    let (_, json) = site.run("show driver --json");
    assert!(json.contains("\"1\": \"moved\\n\""), "{json}");
}

#[test]
fn a_hook_that_fails_keeps_its_node_from_being_requested() {
    let site = site("", &[("before-request", "echo one; echo no backup >&2; exit 3", "")]);
    let mut executor = site.executor();
    tick_until(&site, &mut executor, "halted: hook hook1: exit code 3: no backup");
    assert_eq!((site.calls(), site.out()), (vec![], vec![]));
    let failed = "n1 hook hook1 (before-request) failed: exit code 3: no backup";
    assert_eq!(count(&site, failed), 1);
    let (_, status) = site.run("status driver");
    for words in ["halted since", "a hook failed: hook hook1 for n1: exit code 3: no backup"] {
        assert!(status.contains(words), "{status}");
    }
    let (_, history) = site.run("history");
    assert!(history.contains("a hook failed: hook hook1 for n1: exit code 3: no backup"), "{history}");
    let (_, shown) = site.run("show driver");
    assert!(shown.contains("(before-request) called:\n  one\n  no backup\n"), "{shown}");
    // Corrected and resumed, it is called again.
    program(&site, "hook1", "exit 0");
    site.decide(rollout_core::controller::conduct::resume);
    tick_until(&site, &mut executor, "n1 reboot requested from Slurm");
    assert_eq!(count(&site, "n1 hook hook1 (before-request) called"), 2);
}

#[test]
fn a_hook_that_hangs_is_killed_and_holds_nothing_up() {
    let hang = "echo begun; sleep 1000 & wait";
    let keys = "timeout = '2s'\non_failure = 'fail'\nnodes = 'n1'";
    let site = site("max_out = 2\nhalt.failed = 9", &[("before-request", hang, keys)]);
    let mut executor = site.executor();
    let begin = Instant::now();
    let done = tick(&mut executor).done;
    assert!(done.iter().any(|line| line == "driver: n2 reboot requested from Slurm"), "{done:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "it is not waited for");
    tick_until(
        &site,
        &mut executor,
        "n1 hook hook1 (before-request) failed: not over within 2 s, and killed: begun",
    );
    assert!(!runs(&site));
    tick(&mut executor);
    let (_, why) = site.run("why n1");
    assert!(why.contains("failed by a hook: not over within 2 s, and killed: begun"), "{why}");
    assert_eq!(count(&site, "n1 reboot requested"), 0);
}

#[test]
fn a_program_that_others_can_change_is_not_called() {
    let site = site("", &[("before-request", "exit 0", "on_failure = 'halt'")]);
    let path = site.path("bin/hook1");
    let set_mode = |mode| {
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let manifest = site.path("new.toml");
    let text = format!(
        "name = 'new'\nnodes = 'n1'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n\
         [[strategy.hook]]\nwhen = 'failed'\ncommand = ['{}']\n",
        path.display()
    );
    fs::write(&manifest, text).unwrap();
    let mut executor = site.executor();
    for (mode, why) in
        [(0o777, "is writable for its group or for all"), (0o644, "is not executable: chmod +x it")]
    {
        set_mode(mode);
        let (code, refused) = site.run(&format!("stage --dry-run {}", manifest.display()));
        assert!(code == 1 && refused.contains("hook hook1: ") && refused.contains(why), "{refused}");
        tick_until(&site, &mut executor, why);
        tick_until(&site, &mut executor, "halted: hook hook1");
        site.decide(rollout_core::controller::conduct::resume);
    }
    assert_eq!(site.out(), [""; 0]);
}

#[test]
fn hooks_end_with_their_executor_and_are_called_again() {
    let site = site("", &[("before-request", "echo $$ >> DIR/begun; exec sleep 1000", "")]);
    let mut executor = site.executor();
    for attempt in 1..=3 {
        tick_until(
            &site,
            &mut executor,
            &if attempt == 1 { "called".to_owned() } else { format!("attempt {attempt}") },
        );
        let begin = Instant::now();
        while read(&site, "begun").lines().count() < attempt {
            assert!(begin.elapsed() < LIMIT);
            thread::sleep(PAUSE);
        }
        assert!(runs(&site));
        executor.finish().unwrap();
        assert!(!runs(&site));
        executor = site.executor();
    }
    let again = "n1 hook hook1 (before-request) to be called again: its executor ended";
    tick_until(&site, &mut executor, "n1 hook hook1 (before-request) failed: its executor ended");
    assert_eq!((count(&site, again), count(&site, "hook1 (before-request) called")), (2, 3));
    tick_until(&site, &mut executor, "halted");
    assert_eq!((site.out(), read(&site, "begun").lines().count()), (vec![], 3));
}

#[test]
fn a_hook_that_somebody_kills_is_called_again() {
    let site =
        site("", &[("before-request", "[ -e DIR/killed ] && exit 0; touch DIR/killed; kill -9 $$", "")]);
    let mut executor = site.executor();
    tick_until(&site, &mut executor, "n1 hook hook1 (before-request) to be called again: ended by signal 9");
    tick_until(&site, &mut executor, "n1 hook hook1 (before-request) called, attempt 2");
    tick_until(&site, &mut executor, "n1 reboot requested");
}

/// Every node has its hooks before and after, whatever kills the executor: `reconcile --wait` dies at each call of Slurm
/// that changes anything, and in the middle of hooks.
#[test]
fn hooks_survive_the_death_of_their_executor_at_any_step() {
    let script = "sleep 0.3; echo done >> DIR/done.$1";
    let site = site(
        "max_out = 2",
        &[("before-request", script, "max_nodes = 1"), ("updated", script, ""), ("ended", script, "")],
    );
    let begin = Instant::now();
    let (mut kills, mut executor, mut calls) = (0, None::<Child>, 0);
    while !site.is_updated() {
        assert!(begin.elapsed() < LIMIT, "{kills} kills: {:#?}", site.journal());
        if executor.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
            if kills < 6 {
                fs::write(site.path("die"), if kills % 2 == 0 { "before" } else { "after" }).unwrap();
            }
            kills += 1;
            let mut command = site.command("reconcile --wait");
            executor = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
        let called = count(&site, ") called");
        if called > calls && kills < 12 && called % 3 == 0 {
            executor.iter_mut().for_each(|child| child.kill().unwrap());
        }
        calls = called;
        for (name, record) in &site.rollout().records {
            let is_requested = record.request.is_some();
            let words = format!("{name} hook hook1 (before-request) succeeded");
            assert!(!is_requested || count(&site, &words) >= 1, "{:#?}", site.journal());
        }
        site.advance();
        thread::sleep(PAUSE);
    }
    if let Some(mut child) = executor {
        child.wait().unwrap();
    }
    assert!(kills > 3, "{kills}");
    assert!(!runs(&site) && site.out().is_empty());
    let lines = site.store.rollout("driver").unwrap().lines;
    for node in ["n1", "n2", "n3", "n4", "n5", "n6"] {
        let succeeded = |hook: &str| {
            let is_end = |entry: &Entry| matches!(entry, Entry::HookEnded { nodes, hook: of, error: None, .. } if nodes.contains(node) && of == hook);
            lines.iter().filter(|line| is_end(&line.entry)).count()
        };
        assert_eq!((succeeded("hook1"), succeeded("hook2")), (1, 1), "{node}: {:#?}", site.journal());
    }
    assert_eq!(count(&site, "hook hook3 (ended) succeeded"), 1);
}
