use super::*;
use crate::doctor::Level::{Ok as Fine, Problem, Warning};

fn config(lines: &str) -> SlurmConfig {
    SlurmConfig::parse(&lines.replace("; ", "\n"))
}

fn levels(findings: &[Finding]) -> Vec<crate::doctor::Level> {
    findings.iter().map(|finding| finding.level).collect()
}

#[test]
fn slurmd_is_neither_newer_nor_much_older_than_slurmctld() {
    for (controller, node, level, word) in [
        ("22.05.8", "22.05.2", None, ""),
        ("22.05.8", "20.11.9", None, ""),
        ("22.05.8", "20.02.1", Some(Problem), "too old"),
        ("22.05.8", "23.02.0", Some(Problem), "newer"),
        ("24.05.3", "23.02.8", None, ""),
        ("24.05.3", "22.05.8", Some(Problem), "too old"),
        ("24.11.5", "23.02.8", None, ""),
        ("24.11.5", "22.05.8", Some(Problem), "too old"),
        ("26.05.5", "24.11.0", None, ""),
        ("26.05.5", "24.05.0", Some(Problem), "too old"),
        ("26.05.5", "26.11.0-0rc1", Some(Problem), "newer"),
        ("26.05.5", "(null)", None, ""),
    ] {
        let node = NodeInfo { name: "n1".into(), version: Some(node.into()), ..NodeInfo::default() };
        let findings =
            versions(&config(&format!("SLURM_VERSION = {controller}")), std::slice::from_ref(&node));
        let expected: Vec<_> = [Fine].into_iter().chain(level).collect();
        assert_eq!(levels(&findings), expected, "{controller} {node:?}");
        assert!(findings.last().unwrap().what.contains(word));
    }
}

#[test]
fn releases_that_nobody_has_tried_are_a_warning() {
    for (version, level) in
        [("21.08.8", Warning), ("22.05.0", Fine), ("26.05.9", Fine), ("26.11.0", Warning), ("x", Warning)]
    {
        assert_eq!(
            levels(&versions(&config(&format!("SLURM_VERSION={version}")), &[])),
            [level],
            "{version}"
        );
    }
}

#[test]
fn nodes_of_one_version_are_one_line() {
    let node = |n: u32| NodeInfo {
        name: format!("n{n}"),
        version: Some("25.05.1".to_owned()),
        ..NodeInfo::default()
    };
    let nodes: Vec<_> = (1..=3000).map(node).collect();
    let findings = versions(&config("SLURM_VERSION = 24.11.5"), &nodes);
    assert_eq!(findings.len(), 2);
    assert_eq!(findings[1].nodes.as_ref().unwrap().to_string(), "n[1-3000]");
}

#[test]
fn reboot_programs_as_slurm_reads_them() {
    let file = |path: &str, arguments: &[&str]| Program::File {
        path: path.to_owned(),
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
    };
    for (version, value, expected) in [
        ("24.11.5", "(null)", Program::Unset),
        ("24.11.5", "/a/b", file("/a/b", &[])),
        ("24.11.5", "/a/b --config /c", file("/a/b", &["--config", "/c"])),
        ("24.11.5", "reboot", Program::Invalid("reboot".into())),
        ("26.05.5", "rollout", Program::PowerAction("rollout".into())),
        ("26.05.5", "a b", Program::Invalid("a b".into())),
    ] {
        let config = config(&format!("SLURM_VERSION = {version}; RebootProgram = {value}"));
        assert_eq!(program(&config), expected, "{version} {value}");
    }
}

#[test]
fn what_is_said_of_reboot_programs() {
    let action = |on_controller| Some(PowerAction { on_controller, program: "/p".to_owned() });
    let here = "SlurmctldParameters = Reboot_from_controller";
    for (version, value, more, action, expected, word) in [
        ("24.11.5", "(null)", here, None, &[Problem][..], "not set"),
        ("24.11.5", REBOOT_PROGRAM_PATH, here, None, &[Fine, Fine], REBOOT_PROGRAM_PATH),
        ("24.11.5", REBOOT_PROGRAM_PATH, "", None, &[Fine, Problem], REBOOT_PROGRAM_PATH),
        ("25.11.7", "/p --config /c", here, None, &[Problem, Fine], "has arguments"),
        ("26.05.5", "/p --config /c", here, None, &[Fine, Fine], "/p --config /c"),
        ("25.11.7", "reboot", here, None, &[Problem], "no absolute path"),
        ("26.05.5", "rollout", "", None, &[Warning], "was not found"),
        ("26.05.5", "rollout", "", action(true), &[Fine], "slurmctld runs /p"),
        ("26.05.5", "rollout", here, action(false), &[Problem], "Location=slurmd"),
        ("24.11.5", "/usr/libexec/slurm-rollout/reboot-node", "", None, &[Fine, Fine], "reboot-node"),
        (
            "26.05.5",
            "/usr/libexec/slurm-rollout/reboot-program --plain",
            here,
            None,
            &[Fine, Fine],
            "--plain",
        ),
    ] {
        let config = config(&format!("SLURM_VERSION = {version}; RebootProgram = {value}; {more}"));
        let findings = reboot_program(&config, action.as_ref());
        assert_eq!(levels(&findings), expected, "{version} {value} {more}: {findings:?}");
        assert!(findings[0].what.contains(word), "{findings:?}");
    }
    let findings = reboot_program(&config("RebootProgram=/p; SlurmctldParameters=a,b"), None);
    assert!(findings[1].cure.as_ref().unwrap().contains("SlurmctldParameters=a,b,reboot_from_controller"));
}

#[test]
fn power_actions_are_found_in_slurm_conf() {
    let text = "#PowerAction=x Location=slurmd Program=/no\n\
                PowerAction=Other Location=slurmd Program=/bin/other\n\
                poweraction=Rollout location=SlurmCtld \\\n  program=\"/p --config /c\" # ours\n";
    let found = power_action(text, "rollout").unwrap();
    assert_eq!(found, PowerAction { on_controller: true, program: "/p --config /c".into() });
    assert!(!power_action(text, "other").unwrap().on_controller);
    assert_eq!(power_action(text, "x"), None);
    assert_eq!(power_action("PowerAction=y Program=/no-location", "y"), None);
}

#[test]
fn resume_timeout_is_held_against_what_orders_took() {
    for (value, took, level, word) in [
        ("1800 sec", &[][..], Fine, "1800 s"),
        ("60 sec", &[], Warning, "default"),
        ("60 sec", &[20], Warning, "default"),
        ("1800 sec", &[5, 900], Fine, "15 min (n1)"),
        ("1800 sec", &[901], Warning, "15 min 1 s (n0)"),
        ("1800 sec", &[1801, 4], Problem, "30 min 1 s (n0)"),
        ("5 sec", &[30], Problem, "took 30 s"),
        ("INFINITE", &[100_000], Fine, "INFINITE"),
        ("65535 sec", &[100_000], Fine, "INFINITE"),
        ("(null)", &[1], Warning, "does not say"),
    ] {
        let took: Vec<_> = took.iter().enumerate().map(|(n, s)| (format!("n{n}"), *s)).collect();
        let config = config(&format!("SLURM_VERSION = 24.11.5; ResumeTimeout = {value}"));
        let findings = resume_timeout(&config, &took, 10);
        assert_eq!(levels(&findings), [level], "{value} {took:?}");
        assert!(findings[0].what.contains(word), "{findings:?}");
        assert_eq!(findings[0].cure.is_some(), level != Fine && value != "(null)");
    }
    let long = resume_timeout(&config("ResumeTimeout = 60 sec"), &[("n1".into(), 1000)], 10);
    assert!(long[0].cure.as_ref().unwrap().contains("ResumeTimeout=2040"), "{long:?}");
}

#[test]
fn slurm_26_05_must_not_kill_reboot_program_within_its_deadline() {
    for (version, resume, suspend, deadline, problem) in [
        ("25.11.7", 5, 5, 10, false),
        ("26.05.5", 5, 30, 10, false),
        ("26.05.5", 5, 10, 10, true),
        ("26.05.5", 1800, 30, 10, false),
    ] {
        let config = config(&format!(
            "SLURM_VERSION = {version}; ResumeTimeout = {resume} sec; SuspendTimeout = {suspend} sec"
        ));
        let found =
            resume_timeout(&config, &[], deadline).iter().any(|f| f.what.contains("kills RebootProgram"));
        assert_eq!(found, problem, "{version} {resume} {suspend} {deadline}");
    }
}

#[test]
fn return_to_service_2_is_a_warning() {
    for (value, level) in [("0", Fine), ("1", Fine), ("2", Warning), ("(null)", Warning)] {
        assert_eq!(return_to_service(&config(&format!("ReturnToService = {value}"))).level, level, "{value}");
    }
}

#[test]
fn drains_right_before_a_reboot_need_json() {
    let on_controller =
        format!("RebootProgram = {REBOOT_PROGRAM_PATH}\nSlurmctldParameters = reboot_from_controller\n");
    let on_nodes = "RebootProgram = /usr/libexec/slurm-rollout/reboot-node\n";
    let old = format!("{on_controller}SLURM_VERSION = 22.05.8\n");
    let failed = || Some(Err("unrecognized option".to_owned()));
    let (ok, warning) = (Some(Fine), Some(Warning));
    for (config, tells, level, loses) in [
        (on_controller.as_str(), Some(Ok(())), ok, false),
        (&on_controller, failed(), warning, true),
        (&on_controller, None, None, false),
        // Neither has a cure.
        (&old, failed(), ok, true),
        (on_nodes, Some(Ok(())), ok, true),
    ] {
        let finding = drains(&SlurmConfig::parse(config), tells.clone());
        assert_eq!(finding.as_ref().map(|finding| finding.level), level, "{config} {tells:?}");
        assert_eq!(
            finding.is_some_and(|finding| finding.what.contains("may be lost")),
            loses,
            "{config} {tells:?}"
        );
    }
    for (config, apply, is_problem) in [
        (on_controller.as_str(), ApplyBy::Named, false),
        (on_nodes, ApplyBy::Named, true),
        (on_nodes, ApplyBy::Any, false),
    ] {
        assert_eq!(apply_by(&SlurmConfig::parse(config), apply).is_some(), is_problem, "{config} {apply:?}");
    }
    let by = ["root".to_owned(), "slurm".to_owned()];
    for (user, is_warned) in
        [("slurm(64030)", false), ("root(0)", false), ("hpc(64030)", true), ("(null)", false)]
    {
        let config = SlurmConfig::parse(&format!("SlurmUser = {user}\n"));
        assert_eq!(reboot_clears_by(&config, &by).is_some(), is_warned, "{user}");
    }
}
