//! A small agent in memory that uses the ledger and `step` as node-agent's driver does, on a node whose disk, boots and
//! changes are numbers. Orders, failures, crashes and power cuts come at any point and in any order; after each write to
//! the disk the rules that nobody may break are checked.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rollout_core::agent::ledger::{After, Before, Gate, Ledger, Record, Verdict, consider, gate};
use rollout_core::agent::phase::{Action, Event, Phase, step};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::{Change, DesiredState, Manifest};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

const ME: &str = "n1";

/// More than any run needs that ends at all.
const ENOUGH: usize = 2000;

/// What happens at the next point at which something can come between.
#[derive(Debug, Clone)]
enum Op {
    /// The work goes on.
    Goes,
    /// What is tried there fails.
    Fails,
    /// The agent dies and is started again.
    Crash,
    /// So does the node.
    PowerCut,
    /// The node dies, and its disk comes back as it was after an earlier write.
    DiskFromBackup(usize),
    /// An order comes.
    Order(Wanted),
}

#[derive(Debug, Clone)]
enum Wanted {
    Apply {
        rollout: u8,
        hold: bool,
    },
    Reboot,
    Retry,
    Release,
    /// An order for another node.
    Foreign,
    /// One that was sent before.
    Again(usize),
}

/// The agent's process is gone, and what it had in memory with it.
struct Died;

struct Node {
    script: VecDeque<Op>,
    /// The newest ledger on disk, and all that ever were there.
    disk: Option<Ledger>,
    written: Vec<Option<Ledger>>,
    boot: u32,
    /// Where the node's two links point.
    links: [String; 2],
    /// Where they pointed when the order under way was taken.
    before: [String; 2],
    /// In which boot a link was last switched.
    switched_in: Option<u32>,
    sent: Vec<Order>,
    accepted: BTreeSet<OrderId>,
    /// Whether an admin's order is being taken, which alone ends a hold.
    admin: bool,
    /// Whether the disk has always kept what was written.
    honest: bool,
    points: usize,
    phases: BTreeSet<Phase>,
}

fn desired(rollout: u8, hold: bool) -> DesiredState {
    let on_failure = if hold { "hold" } else { "rollback" };
    let text = format!(
        "name='r{rollout}'\nnodes='{ME}'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/v{rollout}'\n\
         [[change]]\nkind='symlink'\npath='/b'\ntarget='/w{rollout}'\n[verify]\non_failure='{on_failure}'\n"
    );
    Manifest::parse(&text).unwrap().desired
}

fn target(change: &Change) -> &str {
    match change {
        Change::Symlink(link) => link.target.as_ref().unwrap(),
        Change::Packages(_) | Change::Image(_) => panic!("only links here"),
    }
}

fn changes(ledger: &Ledger) -> Vec<Change> {
    match &ledger.order.kind {
        OrderKind::Apply(apply) => apply.desired.changes.clone(),
        _ => Vec::new(),
    }
}

impl Node {
    fn new(script: Vec<Op>) -> Self {
        let links = ["/old".to_owned(), "/older".to_owned()];
        Self {
            script: script.into(),
            disk: None,
            written: vec![None],
            boot: 1,
            before: links.clone(),
            links,
            switched_in: None,
            sent: Vec::new(),
            accepted: BTreeSet::new(),
            admin: false,
            honest: true,
            points: 0,
            phases: BTreeSet::new(),
        }
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    fn now_s(&self) -> u64 {
        self.points as u64
    }

    /// Lives through the script, and then on, undisturbed, until nothing is left to do.
    fn live(&mut self) {
        while let Err(Died) = self.run_agent() {
            self.check_gate();
        }
        let phase = self.disk.as_ref().map(|ledger| ledger.phase);
        assert!(phase.is_none_or(|phase| phase.is_settled() || phase == Phase::Held), "ends {phase:?}");
    }

    /// node-agent's `Driver::drive`, from the start of the process until it dies or nothing more comes.
    fn run_agent(&mut self) -> Result<(), Died> {
        let mut current = self.disk.clone();
        let mut event = current.as_mut().map(|ledger| ledger.started(&self.boot_id()));
        loop {
            let action = match (event.take(), current.as_mut()) {
                (Some(event), Some(ledger)) => {
                    let (phase, action) =
                        step(Some(ledger.phase), event).expect("every event of the agent has a place");
                    ledger.enter(phase, &self.boot_id(), self.now_s());
                    self.write(ledger);
                    action
                }
                _ => {
                    let Some(order) = self.wait_for_order()? else { return Ok(()) };
                    let Some(action) = self.take(&mut current, &order) else { continue };
                    action
                }
            };
            let ledger = current.as_mut().expect("an action has its ledger");
            event = self.perform(action, ledger)?;
        }
    }

    fn wait_for_order(&mut self) -> Result<Option<Order>, Died> {
        loop {
            match self.next_op() {
                None => return Ok(None),
                Some(Op::Goes | Op::Fails) => {}
                Some(Op::Order(wanted)) => {
                    if let Some(order) = self.order(&wanted) {
                        return Ok(Some(order));
                    }
                }
                Some(death) => return Err(self.die(&death)),
            }
        }
    }

    /// node-agent's `Driver::take`.
    fn take(&mut self, current: &mut Option<Ledger>, order: &Order) -> Option<Action> {
        let Verdict::Accept(event) = consider(current.as_ref(), order, ME) else { return None };
        assert!(order.nodes.contains(ME), "an order for another node was taken");
        assert!(!self.honest || self.accepted.insert(order.id.clone()), "{} was taken twice", order.id);
        let last = current.as_ref().map(|ledger| ledger.phase);
        let (phase, action) = step(last, event).expect("what is accepted has a place");
        let boot_id = self.boot_id();
        self.admin = matches!(order.kind, OrderKind::Retry | OrderKind::Release);
        let ledger = match (&order.kind, current.clone()) {
            (OrderKind::Retry, Some(mut held)) => {
                // An admin says that nothing of it is left: this is what the node was, then.
                self.before = self.links.clone();
                held.begin_again(order.id.clone(), &boot_id, 0);
                held.enter(phase, &boot_id, self.now_s());
                held
            }
            (OrderKind::Release, Some(mut held)) => {
                held.remember(order.id.clone());
                held.enter(phase, &boot_id, self.now_s());
                held
            }
            (_, last) => {
                let under_way = last.as_ref().is_some_and(|last| !last.phase.is_settled());
                assert!(!under_way, "two orders under way: {last:?} and {order:?}");
                self.before = self.links.clone();
                Ledger::begin(order.clone(), phase, &boot_id, self.now_s(), last.as_ref())
            }
        };
        self.write(&ledger);
        self.admin = false;
        *current = Some(ledger);
        Some(action)
    }

    /// node-agent's `Hands::perform`.
    fn perform(&mut self, action: Action, ledger: &mut Ledger) -> Result<Option<Event>, Died> {
        Ok(match action {
            Action::Apply => Some(match self.apply(ledger)? {
                Ok(()) => Event::Applied,
                Err(why) => failed(ledger, &why, Event::ApplyFailed),
            }),
            Action::Reboot => {
                if self.goes_well(ledger)? {
                    self.boot += 1;
                    return Err(Died);
                }
                Some(failed(ledger, "it does not reboot", Event::RebootFailed))
            }
            Action::Verify => Some(match self.verify(ledger)? {
                Ok(()) => Event::Verified,
                Err(why) => failed(ledger, &why, Event::VerifyFailed),
            }),
            Action::Undo => Some(match self.undo(ledger)? {
                Ok(()) => Event::Undone { reboot_due: ledger.reboot_due(&self.boot_id(), true) },
                Err(why) => failed(ledger, &why, Event::UndoFailed),
            }),
            Action::VerifyOld => Some(match self.verify_old(ledger)? {
                Ok(()) => ledger.old_proven(),
                Err(why) => failed(ledger, &why, Event::OldNotProven),
            }),
            Action::Hold | Action::OpenGate => None,
        })
    }

    fn apply(&mut self, ledger: &mut Ledger) -> Result<Result<(), String>, Died> {
        if matches!(ledger.order.kind, OrderKind::Apply(_)) && !self.goes_well(ledger)? {
            return Ok(Err("slurmd cannot be stopped".to_owned()));
        }
        for (index, change) in changes(ledger).iter().enumerate() {
            match ledger.records.get(index) {
                Some(Record { after: Some(_), .. }) => continue,
                Some(Record { after: None, .. }) => {}
                None => {
                    let so = self.links[index] == target(change);
                    let before = Before::Symlink { target: Some(self.links[index].clone()) };
                    ledger.records.push(Record { before, after: so.then(|| after(false)) });
                    self.write(ledger);
                    if so {
                        continue;
                    }
                }
            }
            if !self.goes_well(ledger)? {
                // The second one fails half done.
                if index == 1 {
                    self.switch(index, target(change));
                }
                return Ok(Err(format!("change {} failed", index + 1)));
            }
            self.switch(index, target(change));
            self.may_die(ledger)?;
            ledger.records[index].after = Some(after(true));
            self.write(ledger);
        }
        Ok(Ok(()))
    }

    fn verify(&mut self, ledger: &Ledger) -> Result<Result<(), String>, Died> {
        let goes_well = self.goes_well(ledger)?;
        let changes = changes(ledger);
        let whole = ledger.records.len() == changes.len()
            && ledger.records.iter().all(|record| record.after.is_some());
        let so = changes.iter().zip(&self.links).all(|(change, link)| target(change) == link);
        Ok(if goes_well && whole && so { Ok(()) } else { Err("not what was staged".to_owned()) })
    }

    fn undo(&mut self, ledger: &Ledger) -> Result<Result<(), String>, Died> {
        if !self.goes_well(ledger)? {
            return Ok(Err("slurmd cannot be stopped".to_owned()));
        }
        for (index, record) in ledger.records.iter().enumerate().rev() {
            if record.after.as_ref().is_some_and(|after| !after.changed) {
                continue;
            }
            if !self.goes_well(ledger)? {
                return Ok(Err(format!("change {} cannot be undone", index + 1)));
            }
            self.switch(index, old_target(record));
        }
        self.may_die(ledger)?;
        Ok(Ok(()))
    }

    fn verify_old(&mut self, ledger: &Ledger) -> Result<Result<(), String>, Died> {
        let goes_well = self.goes_well(ledger)?;
        let so = ledger.records.iter().zip(&self.links).all(|(record, link)| old_target(record) == link);
        Ok(if goes_well && so { Ok(()) } else { Err("not what it was".to_owned()) })
    }

    fn switch(&mut self, index: usize, target: &str) {
        if self.links[index] != target {
            target.clone_into(&mut self.links[index]);
            self.switched_in = Some(self.boot);
        }
    }

    /// A point at which orders come, things fail and agents die while an action is being carried out.
    fn goes_well(&mut self, ledger: &Ledger) -> Result<bool, Died> {
        loop {
            match self.next_op() {
                None | Some(Op::Goes) => return Ok(true),
                Some(Op::Fails) => return Ok(false),
                Some(Op::Order(wanted)) => {
                    if let Some(order) = self.order(&wanted) {
                        let verdict = consider(Some(ledger), &order, ME);
                        assert!(
                            !matches!(verdict, Verdict::Accept(_)),
                            "{verdict:?} while {:?}",
                            ledger.phase
                        );
                    }
                }
                Some(death) => return Err(self.die(&death)),
            }
        }
    }

    fn may_die(&mut self, ledger: &Ledger) -> Result<(), Died> {
        self.goes_well(ledger).map(|_| ())
    }

    fn next_op(&mut self) -> Option<Op> {
        self.points += 1;
        assert!(self.points < ENOUGH, "goes round and round: {:?}", self.disk);
        self.script.pop_front()
    }

    fn die(&mut self, how: &Op) -> Died {
        match how {
            Op::PowerCut => self.boot += 1,
            Op::DiskFromBackup(back) => {
                self.boot += 1;
                self.honest = false;
                self.disk = self.written[back % self.written.len()].clone();
            }
            _ => {}
        }
        Died
    }

    fn order(&mut self, wanted: &Wanted) -> Option<Order> {
        let back = GiveBack { resume_if_late: true, drained: None };
        let what = match wanted {
            Wanted::Again(index) => return self.sent.get(index % self.sent.len().max(1)).cloned(),
            Wanted::Apply { rollout, hold } => OrderKind::Apply(Apply {
                rollout: format!("r{rollout}"),
                desired: desired(*rollout, *hold),
                give_back: back,
            }),
            Wanted::Reboot | Wanted::Foreign => OrderKind::Reboot(back.into()),
            Wanted::Retry => OrderKind::Retry,
            Wanted::Release => OrderKind::Release,
        };
        let nodes = if matches!(wanted, Wanted::Foreign) { "n2" } else { "n[1-2]" };
        let id = OrderId::from_random(self.sent.len() as u128);
        let order = Order::new(id, NodeSet::parse(nodes).unwrap(), what);
        self.sent.push(order.clone());
        Some(order)
    }

    /// Makes the ledger last, and checks what must hold of one that follows another.
    fn write(&mut self, ledger: &Ledger) {
        // As it is on disk.
        let text = serde_json::to_string(ledger).unwrap();
        let ledger: Ledger = serde_json::from_str(&text).unwrap();
        if let Some(last) = &self.disk {
            if last.phase == Phase::Held && ledger.phase != Phase::Held {
                assert!(self.admin, "a hold was ended by {:?}", ledger.order);
            }
            if !last.phase.is_settled() {
                assert_eq!(last.order, ledger.order, "two orders under way");
            }
        }
        let settles =
            self.disk.as_ref().is_none_or(|last| last.phase != ledger.phase) && ledger.phase.is_settled();
        if settles && self.honest {
            self.check_settled(&ledger);
        }
        if self.honest {
            assert_eq!(ledger.seen.len(), self.accepted.len());
            assert_eq!(ledger.seen.iter().collect::<BTreeSet<_>>(), self.accepted.iter().collect());
        }
        if ledger.phase == Phase::Held {
            assert!(ledger.error.is_some(), "held without a reason");
        }
        self.phases.insert(ledger.phase);
        self.written.push(Some(ledger.clone()));
        self.disk = Some(ledger);
        self.check_gate();
    }

    fn check_settled(&self, ledger: &Ledger) {
        match ledger.phase {
            Phase::Updated => {
                for (change, link) in changes(ledger).iter().zip(&self.links) {
                    assert_eq!(target(change), link, "updated, and not what was staged");
                }
            }
            Phase::RolledBack => {
                assert_eq!(self.links, self.before, "rolled back, and not what it was");
                assert!(ledger.error.is_some(), "rolled back without a reason");
                assert!(!ledger.status().changed, "nothing counts as changed after it was undone");
            }
            _ => return,
        }
        assert_ne!(
            ledger.ordered_boot_id,
            self.boot_id(),
            "{:?} without the boot that Slurm waits for",
            ledger.phase
        );
        assert_ne!(
            self.switched_in,
            Some(self.boot),
            "{:?} without a boot since the last change",
            ledger.phase
        );
    }

    fn check_gate(&self) {
        let open = gate(self.disk.as_ref(), None, &self.boot_id()) == Gate::Open;
        let settled = self.disk.as_ref().is_none_or(|ledger| ledger.phase.is_settled());
        assert_eq!(open, settled, "{:?}", self.disk);
    }
}

fn after(changed: bool) -> After {
    After { changed, added: Vec::new(), removed: Vec::new() }
}

fn old_target(record: &Record) -> &str {
    match &record.before {
        Before::Symlink { target } => target.as_deref().unwrap_or_default(),
        Before::Packages { .. } | Before::InImage | Before::Image { .. } => panic!("only links here"),
    }
}

fn failed(ledger: &mut Ledger, why: &str, event: Event) -> Event {
    ledger.fail(why);
    event
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        4 => (0..2_u8, any::<bool>()).prop_map(|(rollout, hold)| Wanted::Apply { rollout, hold }),
        2 => Just(Wanted::Reboot),
        2 => Just(Wanted::Retry),
        1 => Just(Wanted::Release),
        1 => Just(Wanted::Foreign),
        2 => any::<usize>().prop_map(Wanted::Again),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Goes),
        3 => Just(Op::Fails),
        3 => Just(Op::Crash),
        2 => Just(Op::PowerCut),
        6 => wanted().prop_map(Op::Order),
    ]
}

fn op_with_bad_disk() -> impl Strategy<Value = Op> {
    prop_oneof![9 => op(), 1 => any::<usize>().prop_map(Op::DiskFromBackup)]
}

/// Runs many lives and says which phases they came through: properties of lives that never happen prove nothing.
fn many_lives(ops: impl Strategy<Value = Op>) -> BTreeSet<Phase> {
    let phases = RefCell::new(BTreeSet::new());
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(ops, 0..60), |script| {
        let mut node = Node::new(script);
        node.live();
        phases.borrow_mut().append(&mut node.phases);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    phases.into_inner()
}

#[test]
fn crashes_and_orders_at_any_point_break_no_rule() {
    assert_eq!(many_lives(op()), Phase::ALL.into_iter().collect());
}

#[test]
fn a_disk_that_comes_back_old_opens_no_gate_and_ends_no_hold() {
    assert_eq!(many_lives(op_with_bad_disk()), Phase::ALL.into_iter().collect());
}

/// The same life, cut off at each of its points in turn, by a crash and by a power cut, ends in the same place.
#[test]
fn a_cut_at_any_single_point_ends_where_the_undisturbed_order_ends() {
    let order = |hold| Op::Order(Wanted::Apply { rollout: 1, hold });
    let end = |script: Vec<Op>| {
        let mut node = Node::new(script);
        node.live();
        (node.disk.map(|ledger| ledger.phase), node.links)
    };
    // slurmd, two changes with two points each, the reboot, verify; then slurmd, two undos, undone, the reboot, verify.
    let (goes, fails) = (Op::Goes, Op::Fails);
    let forward = vec![goes.clone(); 7];
    let verify_fails = [vec![goes.clone(); 6], vec![fails], vec![goes; 6]].concat();
    for (hold, rest) in [(false, forward), (false, verify_fails.clone()), (true, verify_fails)] {
        let plain = end([vec![order(hold)], rest.clone()].concat());
        for (at, cut) in (0..rest.len()).flat_map(|at| [(at, Op::Crash), (at, Op::PowerCut)]) {
            // What has not failed by then goes well.
            let mut script = vec![order(hold)];
            script.extend_from_slice(&rest[..at]);
            script.push(cut);
            let fails_later = rest[at..].iter().any(|op| matches!(op, Op::Fails));
            let (phase, links) = end(script.clone());
            if fails_later {
                assert_eq!(phase, Some(Phase::Updated), "nothing failed then: {script:?}");
            } else {
                assert_eq!((phase, links), plain, "{script:?}");
            }
        }
    }
}

#[test]
fn the_same_order_again_changes_nothing_however_often_it_comes() {
    let mut script = vec![Op::Order(Wanted::Reboot)];
    for _ in 0..8 {
        script.extend([Op::Order(Wanted::Again(0)), Op::Goes, Op::Order(Wanted::Again(0)), Op::Crash]);
    }
    let mut node = Node::new(script);
    node.live();
    assert_eq!(node.boot, 2, "one order, one boot");
    assert_eq!(node.accepted.len(), 1);
}
