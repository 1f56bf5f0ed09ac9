//! Hooks: a service moves to its backup before its node is requested, and back after its update.

use super::*;

const PATH: &str = "/opt/service.sh";

/// Moves the service of the nodes, and records that. SlurmUser runs it. Jobs that it was told to refuse are failures.
const SCRIPT: &str = "#!/bin/sh
input=$(cat)
echo \"$1 $input\" >> /tmp/service.log
echo \"moved $1\"
[ ! -e /tmp/service-refuses ] || { echo 'no backup' >&2; exit 3; }
";

#[test]
fn hooks_around_a_node() {
    let site = start_running(nodes(2));
    site.cluster.controller().write_file(PATH, SCRIPT, 0o755).unwrap();
    in_cases(|cases| {
        cases.check("a service moves away and back", || a_service_moves_away_and_back(&site));
        cases.check("a hook that fails", || a_hook_that_fails(&site));
        cases.check("a hook whose executor is killed", || a_hook_whose_executor_is_killed(&site));
    });
}

fn with_hooks(name: &str, hooks: &[(&str, &str)]) -> Manifest {
    let mut keys = "[strategy]\norder = \"as-written\"\n".to_owned();
    for (when, argument) in hooks {
        keys.push_str(&format!(
            "[[strategy.hook]]\nwhen = \"{when}\"\ncommand = [\"{PATH}\", \"{argument}\"]\n"
        ));
    }
    link_to(name, "cn[01-02]", &keys)
}

/// Returns the calls so far, as the argument of each and its nodes.
fn calls(site: &Site) -> Vec<(String, String)> {
    let log = site.cluster.controller().run(&["cat", "/tmp/service.log"]).unwrap();
    let call = |line: &str| {
        let (argument, input) = line.split_once(' ').unwrap();
        let input: serde_json::Value = serde_json::from_str(input).unwrap();
        (argument.to_owned(), input["nodelist"].as_str().unwrap().to_owned())
    };
    log.lines().map(call).collect()
}

fn forget(site: &Site) {
    site.cluster.controller().run(&["rm", "-f", "/tmp/service.log", "/tmp/service-refuses"]).unwrap();
}

fn a_service_moves_away_and_back(site: &Site) {
    forget(site);
    let hooks = [("before-request", "away"), ("updated", "back"), ("ended", "over")];
    run(site, "service", &with_hooks("service", &hooks));
    wait_updated(site, "service", &["cn01", "cn02"]);
    until("the last hook", MINUTES, || Ok(calls(site)), |calls| calls.len() == 5).unwrap();
    let expected =
        [("away", "cn01"), ("back", "cn01"), ("away", "cn02"), ("back", "cn02"), ("over", "cn[01-02]")];
    let expected = expected.map(|(argument, nodes)| (argument.to_owned(), nodes.to_owned()));
    assert_eq!(calls(site), expected, "one node at a time, and its service with it");
    // Its end is written in the next tick.
    let ended = || Ok(lines(site, "service", "hook-ended").len());
    until("the end of the last hook", MINUTES, ended, |count| *count == 5).unwrap();
    assert_eq!(lines(site, "service", "hook-started").len(), 5);
    for node in ["cn01", "cn02"] {
        let ended = line_of(site, "service", "hook-ended", node);
        assert!(ended < line_of(site, "service", "requested", node));
    }
    let shown = order(site, &["show", "service"]);
    assert!(shown.contains("cn01 hook service.sh (before-request) called:\n  moved away\n"), "{shown}");
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
}

fn a_hook_that_fails(site: &Site) {
    forget(site);
    site.cluster.controller().run(&["touch", "/tmp/service-refuses"]).unwrap();
    run(site, "stays", &with_hooks("stays", &[("before-request", "away"), ("halted", "told")]));
    let status = wait_status(site, "stays", "halted since");
    assert!(status.contains("hook service.sh: exit code 3: no backup"), "{status}");
    std::thread::sleep(A_WHILE);
    assert_eq!(requested(site, "stays"), [""; 0]);
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
    assert!(calls(site).iter().any(|(argument, _)| argument == "told"));
    let shown = order(site, &["show", "stays"]);
    assert!(shown.contains("  moved away\n  no backup\n"), "{shown}");
    forget(site);
    order(site, &["resume", "stays"]);
    wait_updated(site, "stays", &["cn01", "cn02"]);
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
}

/// The first attempt hangs, and its process ends with the executor. The second one goes well.
fn a_hook_whose_executor_is_killed(site: &Site) {
    forget(site);
    let hangs = "#!/bin/sh\n[ -e /tmp/hook-began ] || { touch /tmp/hook-began; exec sleep 1000; }\n";
    site.cluster.controller().write_file("/opt/hangs.sh", hangs, 0o755).unwrap();
    let hook =
        "[[strategy.hook]]\nwhen = \"before-request\"\ncommand = [\"/opt/hangs.sh\"]\ntimeout = \"30m\"\n";
    run(site, "again", &link_to("again", "cn01", &format!("[strategy]\n{hook}")));
    wait_why(site, "cn01", "waits for the hook hangs.sh, which runs since");
    let controller = site.cluster.controller();
    until("the hook", MINUTES, || controller.run(&["ls", "/tmp"]), |files| files.contains("hook-began"))
        .unwrap();
    controller.run(&["systemctl", "kill", "-s", "KILL", "slurm-rollout-reconcile.service"]).unwrap();
    wait_updated(site, "again", &["cn01"]);
    assert_eq!(lines(site, "again", "hook-started").len(), 2);
    site.wait_idle(&["cn01"], MINUTES).unwrap();
}
