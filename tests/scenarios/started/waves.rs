//! Waves, approvals, halts, and the ways in which other systems take nodes.

use super::*;

#[test]
fn waves_and_halts() {
    let site = start_running(nodes(6));
    in_cases(|cases| {
        cases.check("a canary is approved", || a_canary_is_approved(&site));
        cases.check("two equal errors halt it", || two_equal_errors_halt_it(&site));
        cases.check("batches, as CRUS takes them", || batches_as_crus_takes_them(&site));
        cases.check("one at a time", || one_at_a_time(&site));
        cases.check("jobs at their deadline", || jobs_at_their_deadline(&site));
    });
}

fn a_canary_is_approved(site: &Site) {
    let strategy = r#"[strategy]
max_out = 2
waves = ["1", "100%"]
soak = "5s"
approve = ["1"]
"#;
    let ((), seen) = with_users(site, || {
        run(site, "canary", &link_to("canary", "cn[01-04]", strategy));
        let status = wait_status(site, "canary", "approval wanted after wave 1");
        assert!(status.contains("wave 2 of 2, 1 of 4 updated, 3 waiting"), "{status}");
        std::thread::sleep(A_WHILE);
        assert_eq!(requested(site, "canary").len(), 1);
        order(site, &["approve", "canary", "1"]);
        wait_updated(site, "canary", &["cn01", "cn02", "cn03", "cn04"]);
    });
    assert!(seen.most() <= 2, "{seen:?}");
    assert_eq!(requested(site, "canary").len(), 4);
}

fn two_equal_errors_halt_it(site: &Site) {
    let strategy = "[strategy.halt]\nfailed = 4\nsame_error = 2\n";
    let manifest =
        link_to("bad", "cn[01-05]", strategy).verify(&["/usr/bin/false"]).verify_with("timeout", "1s");
    let ((), seen) = with_users(site, || {
        run(site, "bad", &manifest);
        let status = wait_status(site, "bad", "halted since");
        assert!(status.contains("2 nodes failed with"), "{status}");
        std::thread::sleep(A_WHILE);
        assert_eq!(requested(site, "bad").len(), 2, "the third node is never requested");
        wait_why(site, "cn05", "halted: 2 nodes failed with");
        order(site, &["stop", "bad"]);
        let unstaged = || Ok(lines(site, "bad", "unstaged"));
        until("the others unstaged", MINUTES, unstaged, |lines| {
            lines.iter().any(|(_, nodes)| nodes.len() == 3)
        })
        .unwrap();
    });
    assert_eq!(seen.most(), 1, "{seen:?}");
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
    for node in site.cluster.compute_nodes() {
        assert_ne!(node.run(&["readlink", LINK]).unwrap().trim(), "/opt/app/bad", "{}", node.name());
    }
}

/// The second batch is not begun after a failure in the first one. The failed nodes are the next rollout's.
fn batches_as_crus_takes_them(site: &Site) {
    let strategy = "[strategy]\npreset = \"crus\"\nstep = 2\norder = \"as-written\"\n";
    let fails = site.cluster.node("cn02");
    fails.write_file("/etc/fails", "", 0o644).unwrap();
    let manifest = |name: &str, nodes: &str| {
        link_to(name, nodes, strategy)
            .verify(&["/usr/bin/test", "!", "-e", "/etc/fails"])
            .verify_with("timeout", "1s")
    };
    let ((), seen) = with_users(site, || {
        run(site, "crus", &manifest("crus", "cn[01-04]"));
        wait_status(site, "crus", "halted since");
        wait_updated(site, "crus", &["cn01"]);
        assert_eq!(requested(site, "crus"), ["cn01", "cn02"]);
        order(site, &["resume", "crus"]);
        wait_updated(site, "crus", &["cn03", "cn04"]);
        let failed: Vec<String> = site
            .status("crus")
            .unwrap()
            .into_iter()
            .filter(|line| line.phase == "rolled-back")
            .map(|line| line.node)
            .collect();
        assert_eq!(failed, ["cn02"]);
        fails.run(&["rm", "/etc/fails"]).unwrap();
        run(site, "crus-failed", &manifest("crus-failed", &failed.join(",")));
        wait_updated(site, "crus-failed", &["cn02"]);
    });
    assert!(seen.most() <= 2, "{seen:?}");
}

/// Dolphin's update, and the default.
fn one_at_a_time(site: &Site) {
    let ((), seen) = with_users(site, || {
        let strategy = "[strategy]\npreset = \"one-at-a-time\"\norder = \"as-written\"\n";
        run(site, "single", &link_to("single", "cn03,cn01,cn02", strategy));
        wait_updated(site, "single", &["cn01", "cn02", "cn03"]);
    });
    assert_eq!(seen.most(), 1, "{seen:?}");
    assert_eq!(requested(site, "single"), ["cn03", "cn01", "cn02"]);
}

/// The job on cn01 is requeued after a warning. The one on cn02 cannot be requeued, and stays.
fn jobs_at_their_deadline(site: &Site) {
    let strategy = r#"[strategy]
max_out = 2
[strategy.jobs]
at_most = "15s"
then = "requeue"
warn = "10s"
"#;
    let controller = site.cluster.controller();
    let submit = |node: &str, requeue: &str| {
        let argv =
            ["sbatch", "--parsable", requeue, "--time=60", "--chdir=/tmp", "--output=/root/job", "-w", node];
        let argv = [&argv[..], &["--wrap", "until [ -e /run/job-may-end ]; do sleep 0.2; done"]].concat();
        let id = controller.run(&argv).unwrap().trim().to_owned();
        site.cluster.wait_state(node, |state| state.starts_with("ALLOCATED"), MINUTES).unwrap();
        id
    };
    let shows = |id: &str, words: &[&str]| {
        let show = || site.cluster.scontrol(&["show", "job", "-o", id]);
        let has_all = |text: &String| words.iter().all(|word| text.contains(word));
        until(&format!("{words:?} of job {id}"), MINUTES, show, has_all).unwrap();
    };
    let (requeued, stays) = (submit("cn01", "--requeue"), submit("cn02", "--no-requeue"));
    run(site, "due", &link_to("due", "cn[01-02]", strategy));
    shows(&requeued, &["JobState=PENDING", "Restarts=1"]);
    let output = site.cluster.node("cn01").read_file("/root/job").unwrap();
    assert!(output.contains("due"), "the users are told: {output}");
    wait_updated(site, "due", &["cn01"]);
    assert!(line_of(site, "due", "warned", "cn01") < line_of(site, "due", "ended", "cn01"));
    wait_why(site, "cn02", "was to be requeued");
    site.cluster.wait_state("cn02", |state| state == "ALLOCATED", MINUTES).unwrap();
    shows(&stays, &["JobState=RUNNING", "Restarts=0"]);
    site.cluster.node("cn02").run(&["touch", "/run/job-may-end"]).unwrap();
    shows(&stays, &["JobState=COMPLETED", "ExitCode=0:0"]);
    wait_updated(site, "due", &["cn02"]);
    controller.run(&["scancel", &requeued]).unwrap();
}
