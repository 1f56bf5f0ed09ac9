//! Limits: of the site, floors, exclusive sets, groups and windows.

use super::*;

#[test]
fn limits_and_groups() {
    let site = start_running(ClusterSpec { base: Base::Forky, ..nodes(6) });
    in_cases(|cases| {
        cases.check("two rollouts under one limit", || two_rollouts_under_one_limit(&site));
        cases.check("a floor while another admin drains nodes", || a_floor_with_other_drains(&site));
        cases.check("groups and mutexes, as xCAT takes them", || groups_as_xcat_takes_them(&site));
        cases.check("a window closes midway", || a_window_closes(&site));
    });
}

fn set_limits(site: &Site, limits: &str) {
    site.cluster.controller().write_file(LIMITS, limits, 0o644).unwrap();
    order(site, &["config", "check"]);
}

fn two_rollouts_under_one_limit(site: &Site) {
    set_limits(site, "[limits]\nmax_out = 1\n");
    let strategy = "[strategy]\nmax_out = 3\n";
    let ((), seen) = with_users(site, || {
        run(site, "one", &link_to("one", "cn[01-02]", strategy));
        run(site, "two", &link_to("two", "cn[03-04]", strategy));
        wait_updated(site, "one", &["cn01", "cn02"]);
        wait_updated(site, "two", &["cn03", "cn04"]);
    });
    assert_eq!(seen.most(), 1, "{seen:?}");
    set_limits(site, "");
}

fn a_floor_with_other_drains(site: &Site) {
    let strategy = "[strategy]\nmax_out = 3\n[[strategy.floor]]\npartition = \"all\"\navailable = 5\n";
    drain(site, "cn06", "bad fan");
    let ((), seen) = with_users(site, || {
        run(site, "floor", &link_to("floor", "cn[01-02]", strategy));
        wait_why(site, "cn01", "floor of partition all: 5 must stay available, 5 are");
        std::thread::sleep(A_WHILE);
        assert_eq!(requested(site, "floor"), [""; 0]);
        undrain(site, "cn06");
        wait_updated(site, "floor", &["cn01", "cn02"]);
    });
    assert_eq!(seen.most(), 1, "{seen:?}");
}

/// At most four nodes at a time, two groups that exclude each other, and one of them comes back in order.
fn groups_as_xcat_takes_them(site: &Site) {
    let strategy = r#"[strategy]
preset = "updateall"
step = 4
[[strategy.group]]
name = "ns1"
nodes = "cn[01-02]"
bring_up = ["cn02"]
[[strategy.group]]
name = "ns2"
nodes = "cn[03-04]"
[[strategy.exclusive]]
groups = ["ns[1-2]"]
"#;
    let ((), seen) = with_users(site, || {
        run(site, "groups", &link_to("groups", "cn[01-05]", strategy));
        wait_updated(site, "groups", &["cn01", "cn02", "cn03", "cn04", "cn05"]);
    });
    assert!(!seen.together(&["cn01", "cn02"], &["cn03", "cn04"]), "{seen:?}");
    assert!(seen.together(&["cn01"], &["cn02"]) && seen.together(&["cn03"], &["cn04"]), "{seen:?}");
    assert!(seen.most() <= 4, "{seen:?}");
    let is_back = line_of(site, "groups", "seen", "cn02");
    assert!(is_back < line_of(site, "groups", "requested", "cn01"), "cn02 comes back first");
}

/// cn01 is on its way when the window closes, and finishes. cn02 waits for a job, and returns to service.
fn a_window_closes(site: &Site) {
    let hour = |minutes: i64| {
        let at = format!("{minutes:+} minutes");
        site.cluster.controller().run(&["date", "-u", "-d", &at, "+%H:%M"]).unwrap().trim().to_owned()
    };
    let window = |from: i64, to: i64| {
        let (from, to) = (hour(from), hour(to));
        format!("[limits]\nwindow = [{{ from = \"{from}\", to = \"{to}\", zone = \"Etc/UTC\" }}]\n")
    };
    set_limits(site, &window(-60, 60));
    let controller = site.cluster.controller();
    let script = "until [ -e /run/job-may-end ]; do sleep 0.2; done";
    let argv = [
        "sbatch",
        "--parsable",
        "--time=5",
        "--chdir=/tmp",
        "--output=/dev/null",
        "-w",
        "cn02",
        "--wrap",
        script,
    ];
    controller.run(&argv).unwrap();
    site.cluster.wait_state("cn02", |state| state.starts_with("ALLOCATED"), MINUTES).unwrap();
    run(site, "night", &link_to("night", "cn[01-02]", "[strategy]\nmax_out = 2\n"));
    site.cluster.wait_state("cn02", |state| state.contains("REBOOT_REQUESTED"), MINUTES).unwrap();
    site.cluster.wait_state("cn01", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    set_limits(site, &window(-180, -120));
    site.cluster.wait_state("cn02", |state| state == "ALLOCATED", MINUTES).unwrap();
    wait_updated(site, "night", &["cn01"]);
    wait_why(site, "cn02", "window opens");
    site.cluster.node("cn02").run(&["touch", "/run/job-may-end"]).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
    std::thread::sleep(A_WHILE);
    assert_eq!(site.cluster.node("cn02").run(&["readlink", LINK]).unwrap().trim(), "/opt/app/groups");
    set_limits(site, "");
    wait_updated(site, "night", &["cn02"]);
}
