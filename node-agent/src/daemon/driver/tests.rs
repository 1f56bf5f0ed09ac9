//! Lives of a driver and its executor with real files, on a [`FakeNode`].

mod rehearsal;
mod several_boots;
mod slurmd;

use super::*;
use crate::daemon::fake_node::{Death, FakeNode};
use crate::state;
use rollout_core::agent::Identity;
use rollout_core::agent::phase::Phase;
use rollout_core::agent::record::Before;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{
    Apply, GiveBack, LocalHandOver, Order, OrderId, OrderKind, PlainReboot, PreStage, RestoreLedger,
};
use rollout_core::rollout::manifest::{DesiredState, Manifest};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

const LINKS: &str = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/new-a'\n\
                     [[change]]\nkind='symlink'\npath='/b'\ntarget='/new-b'\n";
const IMAGE: &str = "[[change]]\nkind='image'\nvia='boot-file'\nimage='i1'\nboot_timeout='60s'\n";
const HOLD: &str = "[verify]\non_failure='hold'\n";
const BACK: GiveBack = GiveBack { resume_if_late: true, drained: None };

/// End of one life of the agent.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing is left to do.
    Idle,
    /// It died, or its node did.
    Died,
    /// It cannot write its state.
    Stopped(String),
}

struct Rig {
    dir: TempDir,
    node: Arc<FakeNode>,
    volatile: bool,
    /// Slurm waits for the node's reboot.
    is_expected: bool,
    stands_in: Option<String>,
    last_rehearsal: LastRehearsal,
}

fn desired(changes: &str) -> DesiredState {
    Manifest::parse(&format!("name='r'\nnodes='n1'\n{changes}")).unwrap().desired
}

fn order(number: u128, kind: OrderKind) -> Order {
    Order::new(OrderId::from_random(number), NodeSet::parse("n1").unwrap(), kind)
}

fn apply(number: u128, changes: &str) -> Order {
    let (rollout, desired) = (format!("r{number}"), desired(changes));
    order(number, OrderKind::Apply(Apply { rollout, desired, give_back: BACK }))
}

fn id(number: u128) -> Option<OrderId> {
    Some(OrderId::from_random(number))
}

fn accepted(number: u128) -> Answer {
    Answer::Accepted { volatile: false, order: id(number) }
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Arc::new(FakeNode::new(dir.path()));
        let last_rehearsal = LastRehearsal::default();
        Self { dir, node, volatile: false, is_expected: false, stands_in: None, last_rehearsal }
    }

    /// Runs the agent until it ends. `sender` gets the channel for orders on a thread of its own.
    fn run<T: Send>(&self, sender: impl FnOnce(mpsc::Sender<Request>) -> T + Send) -> (End, T) {
        let identity = Identity {
            node: "n1".to_owned(),
            boot_id: self.node.boot_id(),
            volatile: self.volatile,
            running: Some(self.node.running_image()),
        };
        let found = state::read(self.dir.path(), &identity).unwrap();
        let agent = Agent::start(identity.clone(), found);
        let tools = Arc::clone(&self.node);
        let executor = Executor::new(tools, self.dir.path(), identity, self.stands_in.clone());
        let (publish, published) = watch::channel(Published::default());
        let (send, requests) = mpsc::channel(16);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || sender(send));
            let lived = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    let waiting = agent.waits_for_instructions().then(|| {
                        let instructed = Arc::new(AtomicBool::new(false));
                        let is_expected = self.is_expected;
                        let asking = tokio::spawn(async move {
                            if is_expected {
                                std::future::pending::<()>().await;
                            }
                            Some("Slurm expects nothing of this node".to_owned())
                        });
                        WaitForInstructions { asking, instructed }
                    });
                    let driver = Driver::new(agent, executor, self.dir.path(), requests, publish, waiting);
                    driver.with_last_rehearsal(self.last_rehearsal.clone()).drive().await
                })
            }));
            drop(published);
            let end = match lived {
                Ok(Ok(())) => End::Idle,
                Ok(Err(error)) => End::Stopped(error.to_string()),
                Err(payload) if payload.is::<Death>() => End::Died,
                Err(bug) => resume_unwind(bug),
            };
            (end, sending.join().unwrap())
        })
    }

    /// Lives once and gives these orders one after another. Returns the answers; none if the agent died before.
    fn life(&self, orders: &[Order]) -> (End, Vec<Option<Answer>>) {
        self.run(|send| orders.iter().map(|order| ask(&send, order)).collect())
    }

    /// Starts the agent anew until nothing is left to do.
    fn live_on(&self) {
        for _ in 0..40 {
            if self.life(&[]).0 == End::Idle {
                return;
            }
        }
        panic!("goes round and round: {:?}", self.node.state());
    }

    fn ledger(&self) -> Ledger {
        LedgerFile::in_dir(self.dir.path()).newest("n1").unwrap().unwrap()
    }

    fn links(&self) -> Vec<String> {
        self.node.state().links.values().cloned().collect()
    }

    fn used(&self, name: &str) -> usize {
        self.node.state().used.iter().filter(|used| used.as_str() == name).count()
    }
}

fn ask(send: &mpsc::Sender<Request>, order: &Order) -> Option<Answer> {
    let (answer, answered) = oneshot::channel();
    send.blocking_send(Request { order: order.clone(), answer }).ok()?;
    answered.blocking_recv().ok()
}

#[test]
fn an_order_is_answered_applied_proven_and_given_back() {
    let rig = Rig::new();
    assert_eq!(rig.life(&[apply(1, LINKS)]), (End::Died, vec![Some(accepted(1))]));
    assert_eq!((rig.ledger().phase, rig.links()), (Phase::Rebooting, vec!["/new-a".into(), "/new-b".into()]));
    rig.live_on();
    let state = rig.node.state();
    let used: Vec<&str> = state.used.iter().map(String::as_str).collect();
    let expected = "stop slurmd,observe,make,observe,make,reboot,verify,verify,verify node,confirm,confirm,\
                    look for a drain,look for a drain,start slurmd,clean up,start slurmd,take back";
    assert_eq!(used.join(","), expected);
    assert!(state.slurmd_runs && state.boot == 2);
    drop(state);
    assert_eq!(rig.ledger().phase, Phase::Updated);
    assert!(rig.ledger().changes_made().is_some_and(|changes| changes.made.len() == 2));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a directory in the way of the ledger's temporary file")]
fn an_order_that_cannot_be_written_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    let in_the_way = |name: &str| rig.dir.path().join(format!(".{name}.{}.new", std::process::id()));
    std::fs::create_dir_all(in_the_way("order.json").join("x")).unwrap();
    std::fs::create_dir_all(in_the_way("staged.json").join("x")).unwrap();
    let pre_stage = PreStage { rollout: "r2".into(), desired: desired(LINKS), drained: None };
    let orders = [apply(1, LINKS), order(2, OrderKind::PreStage(pre_stage))];
    let (end, answers) = rig.life(&orders);
    assert_eq!(end, End::Idle);
    for (answer, file) in answers.into_iter().zip(["order.json", "staged.json"]) {
        let Some(Answer::Refused { why, order: None, transient: true }) = answer else {
            panic!("{answer:?}")
        };
        assert!(why.contains(&format!("{file}: cannot be written: ")), "{why}");
    }
    assert!(rig.node.state().used.is_empty());
    for name in ["order.json", "staged.json"] {
        std::fs::remove_dir_all(in_the_way(name)).unwrap();
    }
    assert_eq!(rig.life(&orders[..1]).1, [Some(accepted(1))], "the same order is taken then");
    // An action whose outcome cannot be written ends the agent. The next one continues.
    std::fs::create_dir_all(in_the_way("order.json").join("x")).unwrap();
    assert!(matches!(rig.life(&[]).0, End::Stopped(why) if why.contains("order.json")));
    let told = |used: &String| {
        used.starts_with("reason r1: the agent cannot go on: ") && used.contains("order.json")
    };
    assert!(rig.node.state().used.iter().any(told), "{:?}", rig.node.state().used);
    std::fs::remove_dir_all(in_the_way("order.json")).unwrap();
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Updated);
}

#[test]
fn a_failure_at_any_tool_goes_back_or_holds_the_node() {
    let old = ["/old-a", "/old-b"];
    for (broken, phase, slurmd_runs) in [
        // It runs on, as it did before: nothing was changed.
        ("stop slurmd", Phase::Held, true),
        ("observe", Phase::RolledBack, true),
        ("make", Phase::RolledBack, true),
        ("reboot", Phase::Held, false),
        ("verify", Phase::RolledBack, true),
        ("verify node", Phase::RolledBack, true),
        ("confirm", Phase::RolledBack, true),
    ] {
        let rig = Rig::new();
        rig.node.state().broken.insert(broken);
        rig.life(&[apply(1, LINKS)]);
        rig.live_on();
        let ledger = rig.ledger();
        assert_eq!((ledger.phase, rig.node.state().slurmd_runs), (phase, slurmd_runs), "{broken}");
        assert!(ledger.reason().contains(broken), "{:?}", ledger.error);
        if phase == Phase::RolledBack {
            assert_eq!(rig.links(), old, "{broken}");
            let going_back = format!("reason r1: going back: {}", ledger.reason());
            assert_eq!(rig.used(&going_back), 1, "{:?}", rig.node.state().used);
        }
    }
    let rig = Rig::new();
    rig.node.state().broken.extend(["verify", "verify old"]);
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Held, "it is not proven to be what it was");
}

#[test]
fn a_death_before_or_after_any_tool_ends_where_the_undisturbed_order_ends() {
    for (broken, phase, links) in [
        (None, Phase::Updated, ["/new-a", "/new-b"]),
        (Some("verify node"), Phase::RolledBack, ["/old-a", "/old-b"]),
    ] {
        for (after, loses_power) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut deaths = 0;
            for number in 1.. {
                let rig = Rig::new();
                rig.node.state().broken.extend(broken);
                (rig.node.state().dies_at, rig.node.state().loses_power) =
                    (Some((number, after)), loses_power);
                assert_eq!(rig.life(&[apply(1, LINKS)]).1, [Some(accepted(1))]);
                rig.live_on();
                let what = format!("{broken:?} {number} {after} {loses_power}: {:?}", rig.node.state().used);
                assert_eq!(
                    (rig.ledger().phase, rig.links()),
                    (phase, links.map(str::to_owned).to_vec()),
                    "{what}"
                );
                assert!(rig.node.state().slurmd_runs || number > 12, "{what}");
                if rig.node.state().dies_at.is_some() {
                    break;
                }
                deaths += 1;
            }
            assert!(deaths >= 15, "{deaths}");
        }
    }
}

#[test]
fn a_held_node_waits_for_its_admin() {
    let rig = Rig::new();
    rig.node.state().broken.insert("verify node");
    rig.life(&[apply(1, &format!("{LINKS}{HOLD}"))]);
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.links()), (Phase::Held, vec!["/old-a".into(), "/old-b".into()]));
    let (end, answers) = rig.life(&[apply(2, LINKS), order(3, OrderKind::Retry)]);
    let Some(Some(Answer::Refused { why, order: held_by, .. })) = answers.first() else {
        panic!("{answers:?}")
    };
    assert!(why.starts_with("held by r1: verify node is broken") && *held_by == id(1), "{why}");
    assert_eq!((end, &answers[1]), (End::Died, &Some(accepted(1))), "the held order is carried out");
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Held);
    assert_eq!(rig.life(&[order(4, OrderKind::Release)]).1, [Some(accepted(1))]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Released);
    assert!(rig.node.state().slurmd_runs);
    // The same orders again are known by their ids.
    let (_, answers) = rig.life(&[order(3, OrderKind::Retry), order(4, OrderKind::Release)]);
    for (answer, number) in answers.into_iter().zip([3, 4]) {
        assert!(matches!(answer, Some(Answer::Refused { order, .. }) if order == id(number)));
    }
}

#[test]
fn orders_are_answered_while_another_is_carried_out() {
    let rig = Rig::new();
    rig.life(&[apply(1, IMAGE)]);
    rig.node.state().broken.insert("verify node");
    rig.node.state().boots = "i0".to_owned();
    // The image was not booted: the undo waits for the controller, which restores the boot source.
    let (end, answers) = rig.run(|send| {
        let restored = order(9, OrderKind::BootRestored { order: OrderId::from_random(1) });
        let mut answers = Vec::new();
        loop {
            let same = ask(&send, &order(8, apply(1, IMAGE).kind));
            let other = ask(&send, &apply(7, LINKS));
            let answer = ask(&send, &restored);
            if matches!(answer, Some(Answer::Accepted { .. })) {
                answers.extend([same, other, answer]);
                return answers;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(end, End::Idle, "the node never left its old image, so it needs no boot");
    assert!(matches!(
        &answers[0],
        Some(Answer::UnderWay { order, rollout, .. }) if *order == id(1) && rollout.as_deref() == Some("r1")
    ));
    assert!(matches!(&answers[1], Some(Answer::Refused { .. })), "{answers:?}");
    assert_eq!(answers[2], Some(accepted(1)));
    assert_eq!((rig.ledger().phase, rig.node.state().boot), (Phase::RolledBack, 2));
}

#[test]
fn an_order_whose_sender_has_hung_up_is_not_carried_out() {
    let rig = Rig::new();
    let (end, ()) = rig.run(|send| {
        let (answer, answered) = oneshot::channel();
        drop(answered);
        send.blocking_send(Request { order: apply(1, LINKS), answer }).unwrap();
    });
    assert_eq!((end, LedgerFile::in_dir(rig.dir.path()).newest("n1").unwrap()), (End::Idle, None));
}

#[test]
fn an_order_waits_a_moment_for_a_node_that_slurm_is_about_to_accept() {
    let rig = Rig::new();
    rig.life(&[apply(1, LINKS)]);
    // Slurm has accepted the node, and hands it over once more.
    let (end, answer) = rig.run(|send| {
        while !matches!(rig.ledger().phase, Phase::Registering | Phase::Updated) {
            std::thread::yield_now();
        }
        ask(&send, &apply(2, LINKS))
    });
    assert_eq!((end, answer), (End::Died, Some(accepted(2))));
    rig.live_on();
    assert_eq!(rig.ledger().order.rollout(), Some("r2"));
}

#[test]
fn a_pre_staged_order_is_carried_out_when_slurmd_hands_the_node_over() {
    let rig = Rig::new();
    let pre_stage =
        PreStage { rollout: "r1".into(), desired: desired(LINKS), drained: Some("bad disk".into()) };
    let plain = PlainReboot { give_back: BACK, features: Some("gpu".into()) };
    let hand_over = |number, apply| {
        order(number, OrderKind::LocalHandOver(LocalHandOver { apply, plain: plain.clone() }))
    };
    let (end, answers) = rig.life(&[order(1, OrderKind::PreStage(pre_stage)), hand_over(2, true)]);
    assert_eq!((end, answers), (End::Died, vec![Some(accepted(1)), Some(accepted(1))]));
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.links()), (Phase::Updated, vec!["/new-a".into(), "/new-b".into()]));
    assert_eq!(rig.node.state().drain_kept.as_deref(), Some("bad disk"));
    assert_eq!(rig.life(&[hand_over(3, true)]), (End::Died, vec![Some(accepted(3))]), "a plain reboot");
    assert_eq!(rig.used("set features"), 1);
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.node.state().boot), (Phase::Updated, 3));
}

#[test]
fn a_drain_that_somebody_else_set_is_kept() {
    // Shown by Slurm, or known from the order; proven, gone back, or released.
    for (shown, known, broken, phase) in [
        (Some("bad fan"), None, None, Phase::Updated),
        (None, Some("bad disk"), None, Phase::Updated),
        (Some("bad fan"), Some("bad disk"), Some("verify node"), Phase::RolledBack),
        (None, Some("bad disk"), Some("reboot"), Phase::Released),
    ] {
        let rig = Rig::new();
        rig.node.state().drain_shown = shown.map(str::to_owned);
        rig.node.state().broken.extend(broken);
        let mut first = apply(1, LINKS);
        if let OrderKind::Apply(apply) = &mut first.kind {
            apply.give_back.drained = known.map(str::to_owned);
        }
        rig.life(&[first]);
        rig.live_on();
        if phase == Phase::Released {
            rig.life(&[order(2, OrderKind::Release)]);
            rig.live_on();
        }
        assert_eq!(rig.ledger().phase, phase);
        assert_eq!(rig.node.state().drain_kept.as_deref(), shown.or(known), "{phase:?}");
        assert_eq!(rig.used("take back"), 0, "Slurm must not resume it");
        // An admin undrains the node. The agent starts again and leaves it so.
        rig.node.state().drain_kept = None;
        rig.live_on();
        assert_eq!(rig.node.state().drain_kept, None, "{phase:?}");
    }
}

#[test]
fn a_node_without_a_ledger_is_restored_or_admitted() {
    let mut rig = Rig::new();
    rig.volatile = true;
    let admitted = |rig: &Rig| LedgerFile::in_dir(rig.dir.path()).is_admitted(&rig.node.boot_id());
    assert!(!admitted(&rig));
    // Nobody sends instructions until Slurm expects nothing of the node.
    rig.run(|send| {
        std::thread::sleep(Duration::from_secs(1));
        drop(send);
    });
    assert!(admitted(&rig));
    let answer = Answer::Accepted { volatile: true, order: id(1) };
    assert_eq!(rig.life(&[apply(1, IMAGE)]), (End::Died, vec![Some(answer.clone())]));
    // The boot takes the ledger with it, and leads to the new image.
    let fresh = tempfile::tempdir().unwrap();
    let node = FakeNode::new(fresh.path());
    (node.state().boot, node.state().running) = (2, "i1".to_owned());
    let running = rollout_core::rollout::image::Running { image: Some("i0".into()), ..Default::default() };
    let restore = RestoreLedger {
        order: Box::new(apply(1, IMAGE).kind),
        phase: Phase::Rebooting,
        boot_id: "boot-1".to_owned(),
        ordered_s: None,
        running: Some(running),
        error: None,
    };
    let mut rig = Rig { dir: fresh, node: Arc::new(node), volatile: true, is_expected: true, ..Rig::new() };
    let restoring = order(1, OrderKind::RestoreLedger(restore));
    assert_eq!(rig.life(std::slice::from_ref(&restoring)), (End::Idle, vec![Some(answer)]));
    let ledger = rig.ledger();
    assert_eq!(
        (ledger.phase, ledger.order.id.clone(), admitted(&rig)),
        (Phase::Updated, OrderId::from_random(1), true)
    );
    assert!(matches!(ledger.records[0].before, Before::Image { .. }));
    assert!(matches!(rig.life(&[restoring]).1[..], [Some(Answer::Refused { .. })]), "it is restored once");
    rig.volatile = false;
}

#[test]
fn an_agent_that_stands_in_for_the_installed_one_proves_nothing() {
    let mut rig = Rig::new();
    rig.life(&[apply(1, LINKS)]);
    rig.stands_in = Some("the installed agent is silent".to_owned());
    rig.live_on();
    let ledger = rig.ledger();
    assert_eq!((ledger.phase, rig.links()), (Phase::Held, vec!["/old-a".into(), "/old-b".into()]));
    assert!(ledger.reason().starts_with("the installed agent is silent"), "{:?}", ledger.error);
}

#[test]
fn the_server_is_told_what_the_agent_stands_at() {
    let rig = Rig::new();
    let pre_stage = PreStage { rollout: "r5".into(), desired: desired(LINKS), drained: None };
    rig.life(&[order(5, OrderKind::PreStage(pre_stage))]);
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    let identity =
        Identity { node: "n1".to_owned(), boot_id: rig.node.boot_id(), volatile: false, running: None };
    let agent = Agent::start(identity.clone(), state::read(rig.dir.path(), &identity).unwrap());
    let Published { status, changes_made, trouble } = Published::of(&agent);
    assert_eq!(status.order.map(|order| (order.id, order.phase)), id(1).map(|id| (id, Phase::Updated)));
    assert_eq!((status.staged.as_deref(), status.awaits, trouble), (Some("r5"), false, None));
    assert_eq!(changes_made[0].rollout, "r1");
}
