use super::*;
use crate::daemon::fake_node::FakeNode;
use rollout_core::agent::phase::Phase;
use rollout_core::agent::registration::BeforeStart;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::node::NodeInfo;
use std::time::Duration;

const BACK: GiveBack = GiveBack { resume_if_late: true, drained: None };

struct Rig {
    dir: tempfile::TempDir,
    node: Arc<FakeNode>,
    executor: Executor,
}

fn rig(volatile: bool) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(FakeNode::new(dir.path()));
    let identity = Identity { node: "n1".to_owned(), boot_id: "boot-1".to_owned(), volatile, running: None };
    let executor = Executor::new(Arc::<FakeNode>::clone(&node), dir.path(), identity, None);
    Rig { dir, node, executor }
}

fn ledger(changes: &str, phase: Phase) -> Ledger {
    let desired = |text: &str| Manifest::parse(&format!("name='r'\nnodes='n1'\n{text}")).unwrap().desired;
    let kind = match changes {
        "" => OrderKind::Reboot(BACK.into()),
        _ => OrderKind::Apply(Apply { rollout: "r".to_owned(), desired: desired(changes), give_back: BACK }),
    };
    let order = Order::new(OrderId::from_random(1), NodeSet::parse("n1").unwrap(), kind);
    Ledger::begin(order, phase, "boot-0", 1, None)
}

#[test]
fn a_change_that_is_already_made_is_recorded_and_left_alone() {
    let Rig { dir, node, executor } = rig(false);
    let changes = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/old-a'\n\
                   [[change]]\nkind='symlink'\npath='/b'\ntarget='/new-b'\n";
    let mut ledger = ledger(changes, Phase::Applying);
    let outcome = executor.perform(Action::Apply, &mut ledger, &BootRestored::default()).unwrap();
    assert_eq!(outcome, Outcome::Applied);
    assert_eq!(node.state().used, ["stop slurmd", "observe", "observe", "make"]);
    assert_eq!(
        LedgerFile::in_dir(dir.path()).unsettled().unwrap(),
        Some(ledger.clone()),
        "all of it is on disk"
    );
    node.state().used.clear();
    executor.perform(Action::Undo, &mut ledger, &BootRestored::default()).unwrap();
    assert_eq!(node.state().used[1..], ["stop slurmd", "undo"], "only the second one is undone");
}

#[test]
fn a_volatile_node_refuses_changes_that_it_would_lose() {
    let Rig { dir: _dir, node, executor } = rig(true);
    let mut ledger = ledger("[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n", Phase::Applying);
    let outcome = executor.perform(Action::Apply, &mut ledger, &BootRestored::default()).unwrap();
    assert!(matches!(outcome, Outcome::Failed(why) if why.contains("keeps nothing over a boot")));
    assert_eq!(node.state().used, ["stop slurmd"]);
}

#[test]
fn an_undo_waits_for_the_boot_source_and_fails_without_it() {
    let Rig { node, executor, .. } = rig(false);
    let image = "[[change]]\nkind='image'\nvia='boot-file'\nimage='i1'\nboot_timeout='1s'\n";
    let mut ledger = ledger(image, Phase::Undoing);
    let late = executor.perform(Action::Undo, &mut ledger, &BootRestored::default()).unwrap();
    assert!(matches!(late, Outcome::Failed(why) if why.contains("was not put back within 1s")));
    let restored = BootRestored::default();
    restored.notify();
    let outcome = executor.perform(Action::Undo, &mut ledger, &restored).unwrap();
    assert_eq!(outcome, Outcome::Undone { runs_as_before: true });
    assert!(node.state().used[0].starts_with("reason r: going back: "));
}

#[test]
fn the_boot_service_gets_its_time_before_the_agent_reboots() {
    let bos = "[[change]]\nkind='image'\nvia='bos'\nimage='i1'\n";
    let kexec = "reboot.command=['/sbin/kexec', '-e']\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
    for (changes, phase, used) in [
        (bos, Phase::Rebooting, vec!["wait for reboot"]),
        (bos, Phase::RebootingBack, vec!["wait for reboot", "reboot"]),
        ("", Phase::Rebooting, vec!["reboot"]),
        (kexec, Phase::Rebooting, vec!["reboot command"]),
        (kexec, Phase::RebootingBack, vec!["reboot"]),
    ] {
        let Rig { node, executor, .. } = rig(false);
        node.state().broken.extend(["reboot", "reboot command"]);
        let mut ledger = ledger(changes, phase);
        let outcome = executor.perform(Action::Reboot, &mut ledger, &BootRestored::default()).unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)));
        assert_eq!(node.state().used, used, "{changes} {phase:?}");
    }
}

#[test]
fn a_copy_of_the_agent_gives_up_only_a_node_that_slurm_has_not_accepted() {
    for (accepted, runs, silence_s) in
        [(true, true, 0), (false, false, 0), (true, true, 7200), (false, false, 7200)]
    {
        let Rig { dir, node, executor } = rig(false);
        node.state().silent_until = Duration::from_secs(silence_s);
        let copy = Executor { stands_in: Some("the installed agent is silent".to_owned()), ..executor };
        node.state().registered_s = if accepted { 2 } else { 0 };
        let mut ledger = ledger("[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n", Phase::Registering);
        let before = NodeInfo { slurmd_start_s: Some(0), ..NodeInfo::default() };
        ledger.before_start = Some(BeforeStart::from(&before));
        copy.file.write(&ledger).unwrap();
        let outcome = copy.perform(Action::Register, &mut ledger, &BootRestored::default()).unwrap();
        assert_eq!(outcome == Outcome::Registered, accepted, "{outcome:?}");
        assert_eq!(node.state().used.contains(&"start slurmd".to_owned()), runs);
        drop(dir);
    }
}
