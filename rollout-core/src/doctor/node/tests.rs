use super::*;
use crate::doctor::Level::{Ok as Fine, Problem, Warning};
use crate::hostlist::NodeSet;
use crate::protocol::order::{GiveBack, Order, OrderId, OrderKind};

fn unit(text: &str) -> Unit {
    Unit::parse(&text.replace("; ", "\n"))
}

const DIR: &str = "/var/lib/slurm-rollout-agent";

/// The shipped unit of the gate, as `systemctl cat` prints it.
const GATE_FILE: &str = concat!(
    "# /usr/lib/systemd/system/slurm-rollout-gate.service\n",
    include_str!("../../../../packaging/systemd/slurm-rollout-gate.service")
);

fn good() -> NodeFacts {
    NodeFacts {
        node: NodeName { name: "n1".into(), source: NameSource::HostName },
        known_to_slurm: Ok(true),
        slurm_conf: SlurmConfSource::File,
        slurm_user: Some(SlurmUser { name: "slurm".into(), uid: 64030 }),
        configured_user: ("slurm".into(), Some(64030)),
        agent: unit("LoadState=loaded; ActiveState=active; UnitFileState=enabled"),
        gate: unit("LoadState=loaded; ActiveState=inactive; UnitFileState=static"),
        gate_file: GATE_FILE.to_owned(),
        rescue: unit("LoadState=loaded; UnitFileState=enabled"),
        slurmd: (
            "slurmd.service".into(),
            unit(&format!(
                "LoadState=loaded; Requires=sysinit.target {GATE}; After=munge.service {GATE} a.mount"
            )),
        ),
        drop_in: true,
        slurmd_arguments: vec!["--systemd".into()],
        answer: Ok(AgentStatus {
            version: "0.1.0".into(),
            node: "n1".into(),
            boot_id: "b".into(),
            uptime_s: 60,
            clock_s: Some(1),
            order: None,
            ..AgentStatus::default()
        }),
        probe: Probe::Accepted,
        version: "0.1.0".into(),
        order_key: None,
        sealing: Ok(()),
        state_dir: (
            DIR.into(),
            Ok(StateDir { uid: 0, mode: 0o40700, is_dir: true, on: FileSystem::Lasting }),
        ),
        volatile: None,
        ledger: Ok(None),
        managers: vec!["dnf".into()],
    }
}

/// Findings other than ok.
fn wrong(facts: &NodeFacts) -> Vec<Finding> {
    node(facts).into_iter().filter(|finding| finding.level != Fine).collect()
}

#[test]
fn a_node_as_it_should_be() {
    assert_eq!(wrong(&good()), []);
    assert_eq!(wrong(&NodeFacts { managers: Vec::new(), ..good() }), [], "symlinks need no package manager");
    let configless = NodeFacts { slurm_conf: SlurmConfSource::Server("ctl:6817".into()), ..good() };
    assert_eq!(wrong(&configless), []);
}

#[test]
fn the_source_of_the_name_and_the_trial_order_are_reported() {
    let what = |facts: &NodeFacts, check: &str| {
        let found = node(facts).into_iter().find(|finding| finding.check == check);
        found.map(|finding| (finding.level, finding.what)).unwrap()
    };
    for (source, word) in [
        (NameSource::Key, "node_name"),
        (NameSource::Option, "-N of slurmd"),
        (NameSource::NodeHostName, "NodeHostName"),
        (NameSource::NodeAddr, "NodeAddr"),
        (NameSource::HostName, "host name"),
        (NameSource::HostNameUntilAsked("x".into()), "could not be asked"),
        (NameSource::Remembered, "found last"),
    ] {
        let facts = NodeFacts { node: NodeName { name: "n1".into(), source }, ..good() };
        let (level, what) = what(&facts, "node-name");
        assert!(level == Fine && what.contains(word), "{what}");
    }
    let refused = NodeFacts { probe: Probe::Refused("MUNGE: Invalid credential".into()), ..good() };
    assert_eq!(what(&good(), "orders").0, Fine);
    assert_eq!(what(&refused, "orders").0, Problem);
    let silent = NodeFacts { probe: Probe::NoAnswer("slow".into()), ..good() };
    assert_eq!(what(&silent, "orders").0, Warning);
}

#[test]
fn every_fault_is_one_finding_with_what_to_do() {
    let answer = |version: &str, node: &str| {
        Ok(AgentStatus { version: version.into(), node: node.into(), ..good().answer.unwrap() })
    };
    let slurmd = |text: &str| ("slurmd.service".to_owned(), unit(text));
    let only_requires = slurmd(&format!("LoadState=loaded; Requires={GATE}; After="));
    let neither = slurmd("LoadState=loaded; Requires=; After=");
    let dir = |uid, mode, on| (DIR.to_owned(), Ok(StateDir { uid, mode, is_dir: true, on }));
    let drop_in =
        |lines: &str| format!("{GATE_FILE}\n# /etc/systemd/system/{GATE}.d/a.conf\n[Unit]\n{lines}\n");
    let cases = [
        (
            NodeFacts {
                gate_file: drop_in("ConditionPathExists=\nConditionPathExists=|/srv/ledger/order.json"),
                ..good()
            },
            Problem,
            "no ConditionPathExists=|/var/lib/slurm-rollout-agent/order.json",
            "systemctl cat",
        ),
        (
            NodeFacts { gate_file: drop_in("RequiresMountsFor="), ..good() },
            Problem,
            "no RequiresMountsFor=/var/lib/slurm-rollout-agent",
            "drop-ins",
        ),
        (NodeFacts { gate_file: String::new(), ..good() }, Problem, "does not look at /var/lib", "reinstall"),
        (NodeFacts { known_to_slurm: Ok(false), ..good() }, Problem, "Slurm has no node n1", "node_name"),
        (NodeFacts { known_to_slurm: Err("away".into()), ..good() }, Warning, "away", "scontrol ping"),
        (
            NodeFacts { slurm_conf: SlurmConfSource::Slurmd, ..good() },
            Warning,
            "only while slurmd runs",
            "conf_server",
        ),
        (
            NodeFacts { configured_user: ("slurm".into(), None), ..good() },
            Problem,
            "no user slurm",
            "slurm_user",
        ),
        (NodeFacts { configured_user: ("nobody".into(), Some(9)), ..good() }, Problem, "uid 9", "\"slurm\""),
        (NodeFacts { sealing: Err("munged is gone".into()), ..good() }, Problem, "munged is gone", "munge"),
        (
            NodeFacts { order_key: Some("/k".into()), sealing: Err("the key /k: gone".into()), ..good() },
            Problem,
            "the key /k: gone",
            "order_key",
        ),
        (
            NodeFacts { agent: unit("LoadState=not-found"), ..good() },
            Problem,
            "there is no slurm-r",
            "reinstall",
        ),
        (
            NodeFacts {
                agent: unit("LoadState=loaded; ActiveState=active; UnitFileState=disabled"),
                ..good()
            },
            Problem,
            "is disabled",
            "systemctl enable",
        ),
        (
            NodeFacts {
                agent: unit("LoadState=loaded; ActiveState=failed; UnitFileState=enabled"),
                answer: Err("refused".into()),
                ..good()
            },
            Problem,
            "is failed",
            "systemctl start",
        ),
        (NodeFacts { answer: Err("refused".into()), ..good() }, Problem, "TCP port: refused", "journalctl"),
        (NodeFacts { answer: answer("0.0.9", "n1"), ..good() }, Warning, "0.0.9 is running", "restart"),
        (NodeFacts { answer: answer("0.1.0", "n2"), ..good() }, Problem, "n2 answers", "restart"),
        (
            NodeFacts { slurmd: slurmd("LoadState=not-found"), ..good() },
            Problem,
            "no slurmd.service",
            "slurmd_unit",
        ),
        (
            NodeFacts { gate: unit("LoadState=not-found"), ..good() },
            Problem,
            "no slurm-rollout-gate",
            "reinstall",
        ),
        (NodeFacts { slurmd: only_requires, ..good() }, Problem, "no After=slurm-r", "daemon-reload"),
        (
            NodeFacts { slurmd: neither, drop_in: false, ..good() },
            Problem,
            "no Requires= and no After=",
            "reinstall",
        ),
        (
            NodeFacts { rescue: unit("LoadState=not-found"), ..good() },
            Warning,
            "no slurm-rollout-rescue",
            "reinstall",
        ),
        (
            NodeFacts { rescue: unit("LoadState=loaded; UnitFileState=disabled"), ..good() },
            Warning,
            "is disabled",
            "systemctl enable slurm-rollout-rescue",
        ),
        (NodeFacts { slurmd_arguments: vec!["-Db".into()], ..good() }, Warning, "-b", "SLURMD_OPTIONS"),
        (
            NodeFacts { state_dir: (DIR.into(), Err("is not there".into())), ..good() },
            Problem,
            "not there",
            "install -d",
        ),
        (NodeFacts { state_dir: dir(0, 0o755, FileSystem::Lasting), ..good() }, Problem, "0755", "chmod 700"),
        (NodeFacts { state_dir: dir(5, 0o700, FileSystem::Lasting), ..good() }, Problem, "uid 5", "chown"),
        (
            NodeFacts { state_dir: dir(0, 0o700, FileSystem::Memory("tmpfs".into())), ..good() },
            Warning,
            "on tmpfs",
            "fstab",
        ),
        (NodeFacts { ledger: Err("torn".into()), ..good() }, Problem, "torn", "rm /var/lib"),
    ];
    for (facts, level, what, cure) in cases {
        let found = wrong(&facts);
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        assert_eq!(found[0].level, level, "{found:?}");
        assert!(found[0].what.contains(what), "{what}: {found:?}");
        assert!(found[0].cure.as_ref().unwrap().contains(cure), "{cure}: {found:?}");
    }
}

#[test]
fn what_the_ledger_says() {
    for phase in Phase::ALL {
        let order = Order::new(
            OrderId::from_random(1),
            NodeSet::parse("n1").unwrap(),
            OrderKind::Reboot(GiveBack { resume_if_late: true, drained: None }.into()),
        );
        let ledger = Ledger::begin(order, phase, "b", 1, None);
        let drained = Ledger { drained: Some("bad disk".to_owned()), ..ledger.clone() };
        let found = wrong(&NodeFacts { ledger: Ok(Some(ledger)), ..good() });
        assert_eq!(found.len(), usize::from(!phase.is_settled()), "{phase:?}: {found:?}");
        assert!(found.iter().all(|finding| finding.level == Warning));
        // A released node is given back once its drain is kept.
        let found = wrong(&NodeFacts { ledger: Ok(Some(drained)), ..good() });
        let is_back = phase.is_settled() && phase != Phase::Released;
        assert_eq!(found.len(), usize::from(!is_back), "{phase:?}: {found:?}");
        let names_it = |finding: &Finding| finding.why.as_ref().is_some_and(|why| why.contains("bad disk"));
        assert_eq!(found.iter().any(names_it), phase == Phase::Released, "{found:?}");
    }
}

#[test]
fn dash_b_is_found_wherever_slurmd_would_find_it() {
    for (arguments, found) in [
        ("-b", true),
        ("-D -b", true),
        ("-Db", true),
        ("--systemd -sb", true),
        ("-D -f /etc/b", false),
        ("-f/etc/slurm.conf.b", false),
        ("-N b", false),
        ("-Nb", false),
        ("--debug b", false),
        ("-Z --conf-server ctl-b", false),
        ("", false),
    ] {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        assert_eq!(reports_each_start_as_a_boot(&words), found, "{arguments}");
    }
}

#[test]
fn a_node_without_a_disk_is_held_back_by_the_gate() {
    let on = |volatile| {
        let mut facts = NodeFacts { volatile, ..good() };
        facts.state_dir.1.as_mut().unwrap().on = FileSystem::Memory("overlay on tmpfs".into());
        let findings = node(&facts);
        let levels =
            findings.iter().filter(|f| matches!(f.check.as_str(), "state-directory" | "volatile-ledger"));
        levels.map(|finding| finding.level).collect::<Vec<_>>()
    };
    assert_eq!(on(None), [Level::Warning]);
    assert_eq!(on(Some(true)), [Level::Ok, Level::Ok]);
    assert_eq!(on(Some(false)), [Level::Ok, Level::Problem]);
}
