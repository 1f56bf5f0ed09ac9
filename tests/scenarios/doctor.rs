//! `doctor` and `config check`: a cluster as it should be has no findings, and each fault that is really made is found,
//! with its cure. One cluster for the oldest and the newest version of Slurm, and the faults as its cases.

use crate::prelude::*;
use rollout_core::doctor::{Finding, Level, Report};

const CONTROLLER_CONFIG: &str = "/etc/slurm-rollout/controller.toml";
const SLURM_CONF: &str = "/etc/slurm/slurm.conf";
const DROP_IN: &str = "/usr/lib/systemd/system/slurmd.service.d/slurm-rollout.conf";

/// A change that takes longer than the ResumeTimeout that this test sets.
fn slow() -> Manifest {
    Manifest::new("slow", "cn01").symlink("/opt/slow", "/usr").verify(&["/usr/bin/sleep", "20"])
}

/// Report and exit code of a doctor.
#[derive(Debug)]
struct Visit {
    code: Option<i32>,
    report: Report,
}

impl Visit {
    fn of(output: Output) -> Result<Visit> {
        let unread = |error| LabError::Setup(format!("doctor: {error}: {} {}", output.stdout, output.stderr));
        let report: Report = serde_json::from_str(&output.stdout).map_err(unread)?;
        Ok(Visit { code: output.code, report })
    }

    fn find(&self, level: Level, check: &str, words: &str) -> Option<&Finding> {
        let same = |finding: &&Finding| finding.level == level && finding.check == check;
        self.report.findings.iter().filter(same).find(|finding| finding.what.contains(words))
    }

    fn is_well(&self) -> bool {
        self.code == Some(0) && self.report.problems == 0 && self.report.warnings == 0
    }
}

fn visit(site: &Site) -> Result<Visit> {
    Visit::of(site.rollout(&["doctor", "--json"])?)
}

fn visit_node(node: &Node) -> Result<Visit> {
    Visit::of(node.exec(&[AGENT_PATH, "doctor", "--json"])?)
}

/// Visits until a finding is there: Slurm may be busy with a configuration. Checks the exit code and that there is a
/// cure.
fn found(visit: impl Fn() -> Result<Visit>, level: Level, check: &str, words: &str) -> Finding {
    let visit =
        until(words, MINUTES, visit, |visit: &Visit| visit.find(level, check, words).is_some()).unwrap();
    let code = if visit.report.problems > 0 { 3 } else { 0 };
    assert_eq!(visit.code, Some(code), "{visit:#?}");
    let finding = visit.find(level, check, words).unwrap().clone();
    assert!(finding.cure.is_some(), "{finding:?}");
    finding
}

fn problem(site: &Site, check: &str, words: &str) -> Finding {
    found(|| visit(site), Level::Problem, check, words)
}

fn problem_on(node: &Node, check: &str, words: &str) -> Finding {
    found(|| visit_node(node), Level::Problem, check, words)
}

fn well(site: &Site) {
    until("a cluster without fault", MINUTES, || visit(site), Visit::is_well).unwrap();
}

fn well_on(node: &Node) {
    until("a node without fault", MINUTES, || visit_node(node), Visit::is_well).unwrap();
}

fn sh(node: &Node, script: &str) -> String {
    node.run(&["sh", "-ec", script]).unwrap()
}

/// Edits slurm.conf on the controller, and has slurmctld read it.
fn edit_slurm_conf(site: &Site, script: &str) {
    site.cluster.controller().run(&["sed", "-i", "-e", script, SLURM_CONF]).unwrap();
    site.reconfigure().unwrap();
}

fn cure(finding: &Finding) -> &str {
    finding.cure.as_deref().unwrap_or("")
}

fn a_cluster_as_it_should_be(site: &Site) {
    well(site);
    well_on(site.cluster.node("cn01"));
    for user in ["slurm", "daemon"] {
        let visit = || site.cluster.controller().exec_as(user, &["slurm-rollout", "doctor"]);
        let is_well = |output: &Output| {
            let ends_well = output.code == Some(0) && output.stdout.ends_with(" ok\n");
            ends_well && output.stdout.contains("2 of 2 answer")
        };
        until(user, MINUTES, visit, is_well).unwrap();
    }
    let controller = site.cluster.controller();
    controller.run(&["systemctl", "stop", RECONCILE_TIMER]).unwrap();
    problem(site, "reconcile", "slurm-rollout-reconcile.timer is inactive");
    controller.run(&["systemctl", "start", RECONCILE_TIMER]).unwrap();
    well(site);
    let unknown = Visit::of(site.rollout(&["doctor", "--json", "cn[01-03]"]).unwrap()).unwrap();
    let finding = unknown.find(Level::Problem, "agents", "Slurm has no such nodes").unwrap();
    assert_eq!(finding.nodes.as_ref().unwrap().to_string(), "cn03");
    let unfit = site.rollout(&["doctor", "cn[01"]).unwrap();
    assert_eq!(unfit.code, Some(1), "{unfit:?}");
}

fn a_configuration_with_mistakes(site: &Site) {
    let controller = site.cluster.controller();
    let check = site.rollout(&["config", "check"]).unwrap();
    assert_eq!(check.code, Some(0), "{check:?}");
    let line = |key: &str| check.stdout.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("agent_port").ends_with("= 6821  # default"), "{check:?}");

    controller.write_file(CONTROLLER_CONFIG, "# ours\nagent_prt = 6821\n", 0o644).unwrap();
    controller.write_file("/etc/slurm-rollout/controller.d/10.toml", "deadline = '2s'\n", 0o644).unwrap();
    let unknown =
        format!("{CONTROLLER_CONFIG}: line 2, column 1: agent_prt: unknown key; did you mean agent_port?");
    let too_short =
        "/etc/slurm-rollout/controller.d/10.toml: line 1, column 1: deadline: deadline 2s is shorter";
    for mistake in [&unknown, too_short] {
        assert!(cure(&problem(site, "configuration", mistake)).contains("config check"));
    }
    let check = site.rollout(&["config", "check"]).unwrap();
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains(&unknown) && check.stdout.contains(too_short), "{check:?}");
    let json = site.rollout(&["config", "check", "--json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["mistakes"][0]["line"], &json["mistakes"][0]["key"]), (&2.into(), &"agent_prt".into()));
    // All other programs refuse it, in the same words.
    let status = site.rollout(&["status"]).unwrap();
    assert!(status.code == Some(1) && status.stderr.contains(&unknown), "{status:?}");
    let program = controller.exec_as("slurm", &[REBOOT_PROGRAM, "cn01"]).unwrap();
    assert!(program.code == Some(2) && program.stderr.contains(&unknown), "{program:?}");
    sh(controller, &format!("rm -r {CONTROLLER_CONFIG} /etc/slurm-rollout/controller.d"));

    let node = site.cluster.node("cn01");
    node.write_file("/etc/slurm-rollout/agent.toml", "listen = '[::]:0'\n", 0o644).unwrap();
    problem_on(node, "configuration", "agent.toml: line 1, column 1: listen: port 0");
    let check = node.exec(&[AGENT_PATH, "config", "check"]).unwrap();
    assert_eq!(check.code, Some(1), "{check:?}");
    sh(node, "rm /etc/slurm-rollout/agent.toml");
    let check = node.exec(&[AGENT_PATH, "config", "check"]).unwrap();
    let line = check.stdout.lines().find(|line| line.starts_with("slurm_user ")).unwrap_or_default();
    assert!(check.code == Some(0) && line.ends_with("= \"slurm\"  # default"), "{check:?}");
}

fn the_program_that_slurmctld_runs(site: &Site, base: Base) {
    let controller = site.cluster.controller();
    for (fault, words, mend) in [
        ("chmod g+w P", "is writable for its group", "chmod 755 P"),
        ("chmod 744 P", "is not executable for SlurmUser slurm", "chmod 755 P"),
        ("chown slurm P", "belongs to uid", "chown root P"),
        ("chmod 700 /usr/libexec/slurm-rollout", "cannot be entered", "chmod 755 /usr/libexec/slurm-rollout"),
        ("mv P P.away", "is not there", "mv P.away P"),
        ("mv P P.away; cp /bin/true P", "is not slurm-rollout's", "mv P.away P"),
    ] {
        sh(controller, &fault.replace('P', REBOOT_PROGRAM));
        problem(site, "reboot-program", words);
        sh(controller, &mend.replace('P', REBOOT_PROGRAM));
    }
    // Slurm 22.05 does not read the program that it runs.
    sh(controller, &format!("chmod 711 {REBOOT_PROGRAM}"));
    let level = if base == Base::Bookworm { Level::Warning } else { Level::Problem };
    found(|| visit(site), level, "reboot-program", "is not readable");
    sh(controller, &format!("chmod 755 {REBOOT_PROGRAM}"));

    edit_slurm_conf(site, "s/reboot_from_controller/max_powered_nodes=99/");
    let finding = problem(site, "reboot-from-controller", "has no reboot_from_controller");
    assert!(cure(&finding).contains(",reboot_from_controller"), "{finding:?}");
    edit_slurm_conf(site, "s/max_powered_nodes=99/reboot_from_controller/");

    edit_slurm_conf(site, "s/^RebootProgram=/#&/");
    problem(site, "reboot-program", "RebootProgram is not set");
    edit_slurm_conf(site, "s/^#RebootProgram=/RebootProgram=/");

    edit_slurm_conf(site, "s/^ReturnToService=.*/ReturnToService=2/");
    found(|| visit(site), Level::Warning, "return-to-service", "ReturnToService is 2");
    edit_slurm_conf(site, "s/^ReturnToService=.*/ReturnToService=1/");

    if base == Base::Forky {
        power_actions(site);
    }
    well(site);
}

fn power_actions(site: &Site) {
    // The finding about a program that others may write is true.
    let controller = site.cluster.controller();
    sh(controller, &format!("chmod g+w {REBOOT_PROGRAM}"));
    let finding = problem(site, "reboot-program", "is writable for its group");
    assert!(finding.why.unwrap().contains("fails with \"Invalid power action\""));
    let refused = controller.exec(&["scontrol", "reboot", "cn01"]).unwrap();
    assert!(refused.stderr.contains("Invalid power action"), "{refused:?}");
    sh(controller, &format!("chmod 755 {REBOOT_PROGRAM}"));
    let line = |location: &str| {
        format!(
            "s,^RebootProgram=.*,PowerAction=rollout Location={location} Program={REBOOT_PROGRAM}\\nRebootProgram=rollout,"
        )
    };
    edit_slurm_conf(site, &line("slurmctld"));
    let is_seen = |visit: &Visit| {
        visit
            .find(Level::Ok, "reboot-program", "rollout is the name of a PowerAction: slurmctld runs")
            .is_some()
    };
    let seen = until("the PowerAction", MINUTES, || visit(site), is_seen).unwrap();
    assert!(
        seen.find(Level::Ok, "reboot-program", &format!("{REBOOT_PROGRAM} is root's")).is_some(),
        "{seen:#?}"
    );
    let back = format!("/^PowerAction=/d; s,^RebootProgram=.*,RebootProgram={REBOOT_PROGRAM},");
    edit_slurm_conf(site, &back);
}

fn the_state_directory(site: &Site) {
    let controller = site.cluster.controller();
    for (fault, words) in [
        ("chown root S", "belongs to uid 0, not to SlurmUser slurm"),
        ("chmod 555 S", "SlurmUser slurm cannot write into"),
        ("chmod 777 S", "is writable for its group or for all"),
        ("chown root S/rollouts/slow/journal", "such as /var/lib/slurm-rollout/rollouts/slow/journal"),
        ("mv S S.away", "is not there"),
    ] {
        sh(controller, &fault.replace('S', CONTROLLER_STATE_DIR));
        problem(site, "state-directory", words);
        let mend = "if [ -d S.away ]; then mv S.away S; fi; chown -R slurm: S; chmod 755 S";
        sh(controller, &mend.replace('S', CONTROLLER_STATE_DIR));
    }
    // A fault that modes do not show is found by a trial.
    let read_only = "mount --bind S S; mount -o remount,bind,ro S".replace('S', CONTROLLER_STATE_DIR);
    sh(controller, &read_only);
    problem(site, "state-directory", "SlurmUser slurm cannot write into");
    sh(controller, &format!("umount {CONTROLLER_STATE_DIR}"));
    well(site);
}

fn agents_that_do_not_answer(site: &Site) {
    let (cn01, cn02) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    cn01.run(&["systemctl", "disable", "--now", AGENT_UNIT]).unwrap();
    site.cluster.drop_packets("cn02", true).unwrap();
    let refused = problem(site, "agents", "no agent listens on TCP port 6821");
    assert_eq!(refused.nodes.as_ref().unwrap().to_string(), "cn01");
    assert!(cure(&refused).contains("systemctl enable --now slurm-rollout-agent"), "{refused:?}");
    let silent = problem(site, "agents", "do not answer on TCP port 6821");
    assert_eq!(silent.nodes.as_ref().unwrap().to_string(), "cn02");
    problem_on(cn01, "agent", "slurm-rollout-agent.service is inactive");
    problem_on(cn01, "agent", "slurm-rollout-agent.service is disabled");
    // A node that is down in Slurm is only a warning.
    site.cluster.scontrol(&["update", "nodename=cn02", "state=down", "reason=lab"]).unwrap();
    let known = found(|| visit(site), Level::Warning, "agents", "DOWN in Slurm, and do not answer");
    assert_eq!(known.nodes.as_ref().unwrap().to_string(), "cn02");

    cn01.run(&["systemctl", "enable", "--now", AGENT_UNIT]).unwrap();
    site.cluster.drop_packets("cn02", false).unwrap();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=resume"]).unwrap();
    cn02.run(&["systemctl", "restart", "slurmd"]).unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    well(site);
}

fn a_ledger_that_cannot_be_read(site: &Site) {
    let node = site.cluster.node("cn01");
    node.write_file(ORDER_FILE, "{ \"version\": 1", 0o600).unwrap();
    node.run(&["systemctl", "restart", AGENT_UNIT]).unwrap();
    let finding = problem(site, "agents", "takes no order: /var/lib/slurm-rollout-agent/order.json");
    assert_eq!(finding.nodes.as_ref().unwrap().to_string(), "cn01");
    problem_on(node, "ledger", "order.json: cannot be understood");
    let note = |line: &NodeLine| line.note.clone().unwrap_or_default();
    let says_why = |line: &NodeLine| note(line).starts_with("agent: /var/lib/slurm-rollout-agent/order.json");
    until("the note", MINUTES, || site.phase("slow", "cn01"), says_why).unwrap();
    node.run(&["rm", ORDER_FILE]).unwrap();
    node.run(&["systemctl", "restart", AGENT_UNIT]).unwrap();
    well_on(node);
    well(site);
}

/// An order that takes longer than ResumeTimeout: known from the agent's ledger.
fn a_resume_timeout_that_is_too_short(site: &Site) {
    // Slurm 22.05 compares the time of slurm.conf in whole seconds: of two changes in one second it sees only the
    // first, and would still have slurmd run the program.
    std::thread::sleep(Duration::from_secs(2));
    edit_slurm_conf(site, "s/^ResumeTimeout=.*/ResumeTimeout=15/");
    site.stage(slow()).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("slow", "cn01", "updated").unwrap();
    // Slurm 22.05 forgets nextstate if it is reconfigured while a node reboots: the node would stay drained.
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let finding =
        problem(site, "resume-timeout", "ResumeTimeout is 15 s; the longest of the last orders took");
    assert!(finding.what.ends_with("(cn01)") && cure(&finding).contains("ResumeTimeout=1800"), "{finding:?}");
    edit_slurm_conf(site, "s/^ResumeTimeout=.*/ResumeTimeout=60/");
    let default = found(|| visit(site), Level::Warning, "resume-timeout", "ResumeTimeout is 60 s");
    assert!(default.what.contains("took"), "{default:?}");
    edit_slurm_conf(site, "s/^ResumeTimeout=.*/ResumeTimeout=INFINITE/");
    let infinite =
        |visit: &Visit| visit.find(Level::Ok, "resume-timeout", "ResumeTimeout is INFINITE").is_some();
    until("INFINITE", MINUTES, || visit(site), infinite).unwrap();
    edit_slurm_conf(site, "s/^ResumeTimeout=.*/ResumeTimeout=1800/");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    well(site);
}

fn the_gate_and_what_else_a_node_needs(site: &Site) {
    let node = site.cluster.node("cn01");
    sh(node, &format!("mv {DROP_IN} /root/drop-in; systemctl daemon-reload"));
    let finding = problem_on(node, "gate", "slurmd.service has no Requires= and no After=slurm-rollout-gate");
    assert!(cure(&finding).contains("reinstall slurm-rollout-agent"), "{finding:?}");
    sh(node, &format!("mv /root/drop-in {DROP_IN}"));
    well_on_after_reload(node);

    sh(node, "chmod 755 /var/lib/slurm-rollout-agent");
    problem_on(node, "state-directory", "has mode 0755");
    sh(
        node,
        "chmod 700 /var/lib/slurm-rollout-agent; mount -t tmpfs -o mode=700 lab /var/lib/slurm-rollout-agent",
    );
    found(|| visit_node(node), Level::Warning, "state-directory", "is on tmpfs");
    sh(node, "umount /var/lib/slurm-rollout-agent");

    sh(node, "systemctl disable slurm-rollout-rescue.service");
    found(|| visit_node(node), Level::Warning, "rescue", "is disabled");
    sh(node, "systemctl enable slurm-rollout-rescue.service");

    node.write_file("/etc/slurm-rollout/agent.toml", "node_name = 'cn77'\nslurm_user = 'daemon'\n", 0o644)
        .unwrap();
    problem_on(node, "node-name", "Slurm has no node cn77");
    problem_on(node, "slurm-user", "daemon has uid 1 here, and SlurmUser is slurm(");
    sh(node, "rm -r /etc/slurm-rollout");

    // With -b slurmd reports every start as a boot.
    let dropin = "[Service]\nEnvironment=SLURMD_OPTIONS=-b\n";
    node.write_file("/run/systemd/system/slurmd.service.d/lab.conf", dropin, 0o644).unwrap();
    sh(node, "systemctl daemon-reload; systemctl restart slurmd");
    found(|| visit_node(node), Level::Warning, "slurmd", "slurmd runs with -b");
    sh(
        node,
        "rm /run/systemd/system/slurmd.service.d/lab.conf; systemctl daemon-reload; systemctl restart slurmd",
    );

    let alone = node.exec_as("daemon", &[AGENT_PATH, "doctor"]).unwrap();
    assert!(alone.code == Some(1) && alone.stderr.contains("has to be run by root"), "{alone:?}");
    well_on(node);
}

/// systemd does not apply the drop-in before a reload.
fn well_on_after_reload(node: &Node) {
    let finding = problem_on(node, "gate", "slurmd.service has no Requires= and no After=slurm-rollout-gate");
    assert_eq!(finding.cure.as_deref(), Some("`systemctl daemon-reload`"));
    sh(node, "systemctl daemon-reload");
    well_on(node);
}

fn without_munge_and_without_slurmctld(site: &Site) {
    let node = site.cluster.node("cn01");
    node.run(&["systemctl", "stop", "munge"]).unwrap();
    problem_on(node, "munge", "munged at /run/munge/munge.socket.2 does not answer");
    node.run(&["systemctl", "restart", "munge", "slurmd"]).unwrap();
    well_on(node);

    let other_key =
        "cp -a /etc/munge/munge.key /root/munge.key; head -c 1024 /dev/urandom >/etc/munge/munge.key";
    sh(node, &format!("{other_key}; systemctl restart munge"));
    let finding = problem(site, "orders", "MUNGE: Invalid credential");
    assert_eq!(finding.nodes.as_ref().unwrap().to_string(), "cn01");
    sh(node, "mv /root/munge.key /etc/munge/munge.key; systemctl restart munge slurmd");
    well(site);

    let controller = site.cluster.controller();
    controller.run(&["systemctl", "stop", "munge"]).unwrap();
    problem(site, "munge", "munged at /run/munge/munge.socket.2 does not answer");
    problem(site, "slurmctld", "scontrol");
    controller.run(&["systemctl", "start", "munge"]).unwrap();
    controller.run(&["systemctl", "stop", "slurmctld"]).unwrap();
    problem(site, "slurmctld", "scontrol");
    // At the address that Slurm gave last.
    let answers = |visit: &Visit| visit.find(Level::Ok, "agents", "1 of 1 answer").is_some();
    until("an agent without Slurm", MINUTES, || visit(site), answers).unwrap();
    controller.run(&["systemctl", "start", "slurmctld"]).unwrap();
    well(site);
}

/// Two nodes on one host: neither `stage` nor the agent takes one for the host.
fn several_slurmds_on_a_host(site: &Site) {
    let (controller, node) = (site.cluster.controller(), site.cluster.node("cn01"));
    site.cluster.scontrol(&["update", "nodename=cn02", "nodehostname=cn01"]).unwrap();
    let manifest = slow().named("shared").to_string();
    controller.write_file("/root/shared.toml", manifest, 0o644).unwrap();
    let refused = site.rollout(&["stage", "--dry-run", "/root/shared.toml"]).unwrap();
    let words = "nodes: cn[01-02] are on one host, cn01 (NodeHostName)";
    assert!(refused.code == Some(1) && refused.stderr.contains(words), "{refused:?}");
    site.cluster.scontrol(&["update", "nodename=cn02", "nodehostname=cn02"]).unwrap();
    site.rollout(&["stage", "--dry-run", "/root/shared.toml"]).unwrap().into_stdout().unwrap();

    let twin = "NodeName=twin NodeHostName=cn01 NodeAddr=10.77.0.11 Port=7001";
    sh(node, &format!("cp -a {SLURM_CONF} /root/slurm.conf; echo '{twin}' >>{SLURM_CONF}"));
    node.run(&["systemctl", "restart", AGENT_UNIT]).unwrap();
    let words = "Slurm's configuration has several nodes on this host, cn01: cn01,twin";
    problem_on(node, "node-name", words);
    problem(site, "agents", &format!("takes no order: {words}"));
    sh(node, &format!("mv /root/slurm.conf {SLURM_CONF}"));
    node.run(&["systemctl", "restart", AGENT_UNIT]).unwrap();
    well_on(node);
    well(site);
}

/// The CLI on a node: it leaves out the controller's checks and includes the node's own doctor.
fn on_a_node(site: &Site) {
    let node = site.cluster.node("cn02");
    let cli = site.cluster.controller().root().join("usr/bin/slurm-rollout");
    node.copy_in(&cli, "/usr/bin/slurm-rollout", 0o755).unwrap();
    let visit = || Visit::of(node.exec(&["/usr/bin/slurm-rollout", "doctor", "--json"])?);
    let left_out = found(visit, Level::Warning, "this-host", "cn02 is no SlurmctldHost");
    assert_eq!(left_out.cure.as_deref(), Some("run it on ctl as well"));
    let is_well = |visit: &Visit| {
        let gate = visit.find(Level::Ok, "node gate", "slurmd.service starts only when");
        let name = visit.find(Level::Ok, "node node-name", "cn02, which Slurm knows");
        visit.code == Some(0) && gate.is_some() && name.is_some()
    };
    until("a node without fault", MINUTES, visit, is_well).unwrap();
    let user = node.exec_as("daemon", &["/usr/bin/slurm-rollout", "doctor"]).unwrap();
    assert!(user.code == Some(0) && user.stdout.contains("was left out: it is for root"), "{user:?}");
}

fn doctor(base: Base) {
    // The timer is active, and does nothing while the test damages the state directory.
    let timer = |root: &NodeRoot| {
        if !root.is_controller() {
            return Ok(());
        }
        let path = format!("/etc/systemd/system/{RECONCILE_TIMER}.d/later.conf");
        root.write_file(&path, "[Timer]\nOnBootSec=\nOnActiveSec=1d\n", 0o644)?;
        root.enable_units(&[RECONCILE_TIMER])
    };
    let site = &start(ClusterSpec { base, prepare: prepare(timer), ..nodes(2) });
    in_cases(|cases| {
        cases.check("a cluster as it should be", || a_cluster_as_it_should_be(site));
        cases.check("a configuration with mistakes", || a_configuration_with_mistakes(site));
        cases.check("the program that slurmctld runs", || the_program_that_slurmctld_runs(site, base));
        cases.check("a ResumeTimeout that is too short", || a_resume_timeout_that_is_too_short(site));
        cases.check("the state directory", || the_state_directory(site));
        cases.check("agents that do not answer", || agents_that_do_not_answer(site));
        cases.check("a ledger that cannot be read", || a_ledger_that_cannot_be_read(site));
        cases.check("the gate and what else a node needs", || the_gate_and_what_else_a_node_needs(site));
        cases.check("without munge, without slurmctld", || without_munge_and_without_slurmctld(site));
        cases.check("several slurmds on a host", || several_slurmds_on_a_host(site));
        cases.check("the command on a node", || on_a_node(site));
    });
}

#[test]
fn doctor_with_slurm_22_05() {
    doctor(Base::Bookworm);
}

#[test]
fn doctor_with_slurm_26_05() {
    doctor(Base::Forky);
}
