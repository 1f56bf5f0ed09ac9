use super::*;

mod blocks;
mod verify_job;
mod waves;

const HEAD: &str =
    "name = 'driver'\nnodes = 'cn[001-100]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";

fn nodes(list: &str) -> NodeSet {
    NodeSet::parse(list).unwrap()
}

/// Returns the strategy of a rollout of cn[001-100], without the header of its table.
fn parse(keys: &str) -> Result<Strategy, String> {
    let text = format!("{HEAD}[strategy]\n{keys}");
    of_manifest(&text, &nodes("cn[001-100]")).map_err(|error| error.to_string())
}

fn assert_refused(cases: &[(&str, &str)]) {
    for (keys, named) in cases {
        let error = parse(keys).expect_err(keys);
        assert!(error.contains(named), "{keys}:\n{error}\ndoes not name {named:?}");
    }
}

#[test]
fn without_a_table_one_node_is_taken_at_a_time_and_the_first_failure_halts() {
    let default = of_manifest(HEAD, &nodes("cn[001-100]")).unwrap();
    assert_eq!(parse(""), Ok(default.clone()));
    assert_eq!((default.max_out, default.soak, default.down), (1, Duration::ZERO, Down::Skip));
    assert_eq!(default.halt, Halt { failed: 1, same_error: None, lost: None });
    assert_eq!(default.jobs, Jobs { wait: Wait::Asap, deadline: None });
    assert_eq!(default.waves, [Wave { label: "100%".to_owned(), named: None, end: 100, approve: false }]);
    assert_eq!((default.order, default.after, default.nodes.len()), (Order::SoonestFree, None, 100));
    assert!(default.windows.is_always_open() && default.never.is_empty() && default.groups.is_empty());
}

#[test]
fn reads_a_whole_table() {
    let strategy = parse(
        r#"
        max_out = "5%"
        waves   = ["1", "10%", "100%"]
        soak    = "30m"
        approve = ["1"]
        order   = "by-group"
        down    = "include"
        after   = "firmware@2"
        never   = "cn[099-100],login1"
        [strategy.jobs]
        wait    = "end"
        at_most = "7d"
        then    = "requeue"
        warn    = "2h"
        [strategy.halt]
        failed     = "4%"
        same_error = 2
        lost       = 3
        [[strategy.floor]]
        partition = "gpu"
        available = "80%"
        [[strategy.exclusive]]
        groups  = ["ns[1-2]"]
        at_once = 1
        [[strategy.group]]
        name     = "ns2"
        nodes    = "cn[010-012]"
        bring_up = ["cn012"]
        [[strategy.group]]
        name  = "ns1"
        nodes = "cn[001-002]"
        [[strategy.window]]
        days = "Mon..Thu"
        from = "20:00"
        to   = "06:00"
        zone = "Europe/Berlin"
        "#,
    )
    .unwrap();
    assert_eq!((strategy.max_out, strategy.nodes.len(), strategy.never), (4, 98, nodes("cn[099-100]")));
    assert_eq!((strategy.soak, strategy.down), (Duration::from_secs(1800), Down::Include));
    assert_eq!(strategy.after.as_deref(), Some("firmware@2"));
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let deadline = Deadline { at_most: hours(7 * 24), then: Then::Requeue, warn: Some(hours(2)) };
    assert_eq!(strategy.jobs, Jobs { wait: Wait::End, deadline: Some(deadline) });
    assert_eq!(strategy.halt, Halt { failed: 3, same_error: Some(2), lost: Some(3) });
    assert_eq!(strategy.floors.len(), 1);
    assert_eq!(strategy.exclusive[0].members, [nodes("cn[001-002]"), nodes("cn[010-012]")]);
    assert_eq!(strategy.sequence[..6], ["cn010", "cn011", "cn012", "cn001", "cn002", "cn003"]);
    assert_eq!(strategy.sequence.len(), 98);
    assert!(!strategy.windows.is_always_open());
}

#[test]
fn the_order_as_written_is_that_of_the_manifest() {
    let text = "nodes = 'cn[5,3],gpu1,cn[3-6]'\n[strategy]\norder = 'as-written'\nnever = 'cn6'\n";
    let strategy = of_manifest(text, &nodes("cn[3-6],gpu1")).unwrap();
    assert_eq!(strategy.sequence, ["cn5", "cn3", "gpu1", "cn4"]);
    let strategy = of_manifest(text, &nodes("cn[3-4],x1")).unwrap();
    assert_eq!(strategy.sequence, ["cn3", "cn4", "x1"], "the nodes of the rollout count");
}

#[test]
fn presets_are_settings_that_other_keys_replace() {
    let crus = parse("preset = 'crus'\nstep = 40").unwrap();
    assert_eq!((crus.max_out, crus.soak, crus.halt.failed), (40, Duration::ZERO, 1));
    assert_eq!(crus.waves.iter().map(|wave| wave.end).collect::<Vec<_>>(), [40, 80, 100]);
    assert_eq!(parse("preset = 'crus'\nstep = '40%'"), Ok(crus.clone()));
    let crus = parse("preset = 'crus'\nstep = 40\nmax_out = 10\nsoak = '1h'\napprove = ['40']").unwrap();
    assert_eq!((crus.max_out, crus.soak.as_secs(), crus.waves[0].approve), (10, 3600, true));
    assert_eq!(parse("preset = 'crus'\nstep = 40\nwaves = ['1']").unwrap().waves.len(), 2);
    assert_eq!(parse("preset = 'one-at-a-time'"), parse(""));
    let all = parse("preset = 'updateall'\nstep = 20").unwrap();
    assert_eq!((all.max_out, all.waves.len()), (20, 1));
    assert_eq!(Ok(all), parse("max_out = 20"));
    assert_eq!(parse("preset = 'updateall'\nstep = 200").unwrap().max_out, 100);
    assert_refused(&[
        ("preset = 'crus'", "strategy.step: missing"),
        ("preset = 'updateall'", "strategy.step: missing"),
        ("preset = 'one-at-a-time'\nstep = 2", "strategy.step: only for"),
        ("step = 2", "strategy.step: only for"),
        ("preset = 'kured'", "one of `crus`, `one-at-a-time`, `updateall`"),
    ]);
}

#[test]
fn nodes_reach_a_wave_once_those_before_are_full() {
    let waves = parse("waves = ['1', '10%', '50%']").unwrap().waves;
    for (begun, wave) in [(0, 1), (1, 1), (2, 2), (10, 2), (11, 3), (50, 3), (51, 4), (100, 4), (200, 4)] {
        assert_eq!(reached(&waves, begun), wave, "{begun}");
    }
}

#[test]
fn a_crus_step_of_one_among_thousands_of_nodes_is_no_work() {
    let text = "nodes = 'cn[00001-60000]'\n[strategy]\npreset = 'crus'\nstep = 1\n";
    let strategy = of_manifest(text, &nodes("cn[00001-60000]")).unwrap();
    assert_eq!((strategy.waves.len(), strategy.waves[59_999].end), (60_000, 60_000));
}

#[test]
fn amounts_refer_to_the_nodes_that_may_be_taken() {
    for (keys, max_out) in [
        ("max_out = '5%'", 5),
        ("max_out = '1%'\nnever = 'cn[002-100]'", 1),
        ("max_out = '50%'\nnever = 'cn[001-099]'", 1),
        ("max_out = 7\nnever = 'cn[001-097]'", 3),
        ("max_out = '19%'\nnever = 'cn[001-090]'", 1),
    ] {
        assert_eq!(parse(keys).unwrap().max_out, max_out, "{keys}");
    }
}

#[test]
fn refuses_values_with_their_key() {
    assert_refused(&[
        ("max_out = 0", "line 8, column 11"),
        ("max_out = '0%'", "no amount"),
        ("max_out = '101%'", "no amount"),
        ("max_outt = 1", "line 8, column 1"),
        ("max_outt = 1", "expected one of `preset`, `step`, `max_out`, `waves`"),
        ("soak = '30'", "no period"),
        ("order = 'random'", "soonest-free"),
        ("down = 'no'", "`skip`, `include`, `cancel`"),
        ("never = 'cn[001-'", "strategy.never"),
        ("never = 'cn[001-100]'", "strategy.never: no node"),
        ("after = ''", "strategy.after"),
        ("after = 'a b'", "strategy.after"),
        ("after = 'a@'", "strategy.after"),
        ("after = 'a@b'", "strategy.after"),
        ("after = 'driver'", "strategy.after: a rollout cannot come after itself"),
        ("jobs.wait = 'never'", "`asap`, `idle`, `end`"),
        ("jobs.then = 'cancel'", "strategy.jobs.then: then without at_most"),
        ("jobs.warn = '1h'", "strategy.jobs.warn: warn without at_most"),
        ("jobs = { at_most = '2h', warn = '1h' }", "strategy.jobs.warn: nothing happens"),
        ("jobs = { at_most = '2h', then = 'cancel', warn = '2h' }", "strategy.jobs.warn: not shorter"),
        ("halt.same_error = 2", "strategy.halt.same_error: 2 nodes, but halt.failed halts at 1"),
        ("halt = { failed = '3%', lost = 4 }", "strategy.halt.lost: 4 nodes, but halt.failed halts at 3"),
        ("halt.failed = 0", "count from 1"),
        ("halt.faild = 1", "`failed`, `same_error`, `lost`"),
        ("window = [{ from = '20:00', zone = 'UTC' }]", "strategy.window[1].to: from without to"),
        ("window = [{ zone = 'Mars/Olympus' }]", "line 8, column 20"),
    ]);
    let error = of_manifest(&" ".repeat(MAX_BYTES + 1), &nodes("cn1")).unwrap_err();
    assert!(matches!(error, ManifestError::TooLong(_)));
    let error = of_manifest("strategy = 3", &nodes("cn1")).unwrap_err().to_string();
    assert!(error.contains("line 1, column 12"), "{error}");
}

#[test]
fn other_keys_are_not_looked_at() {
    let text = "nodes = 'cn[1-2]'\n[verify]\nunknown = 1\n[strategy]\nmax_out = 2\n";
    assert_eq!(of_manifest(text, &nodes("cn[1-2]")).unwrap().max_out, 2);
}
