//! A node in memory: its disk, boots, links and image as values; Slurm and the controller as far as they concern it.

use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Phase;
use rollout_core::agent::pre_staged::PreStaged;
use rollout_core::agent::{Agent, Identity, OnDisk};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{
    Apply, GiveBack, LocalHandOver, Order, OrderId, OrderKind, PreStage, RestoreLedger, UpdateDrain,
};
use rollout_core::rollout::image::Running;
use rollout_core::rollout::manifest::{Change, DesiredState, Manifest};
use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;

pub const ME: &str = "n1";

/// More points than any run needs that ends at all.
const ENOUGH: usize = 2000;

/// An occurrence at the next point at which something can intervene.
#[derive(Debug, Clone)]
pub enum Op {
    Proceed,
    /// The attempt at this point fails.
    Fail,
    /// The agent dies and is started again.
    Crash,
    /// The node dies and boots.
    PowerCut,
    /// The node dies, and its disk comes back as it was after an earlier write.
    DiskFromBackup(usize),
    /// The next write fails.
    DiskFull,
    /// An admin drains the node with this Reason, or undrains it.
    Drain(Option<u8>),
    Order(Wanted),
}

#[derive(Debug, Clone)]
pub enum Wanted {
    Links {
        rollout: u8,
        hold: bool,
    },
    Image {
        rollout: u8,
        hold: bool,
    },
    /// A link, and firmware that may need two boots.
    Firmware {
        rollout: u8,
        hold: bool,
    },
    Reboot,
    Retry,
    Release,
    PreStage {
        rollout: u8,
        hold: bool,
    },
    DropPreStaged {
        rollout: u8,
    },
    UpdateDrain,
    HandOver {
        apply: bool,
    },
    Restore,
    /// An order for another node.
    Foreign,
    /// An order that was sent before.
    Again(usize),
}

/// A fault that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    SecondChange,
    Verify,
}

/// The agent's process is gone, together with its memory.
pub struct Died;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub ledger: Option<Ledger>,
    pub staged: PreStaged,
    pub admitted_boot: Option<String>,
}

/// Drains in Slurm. A Reason that a reboot request has replaced is `None`.
#[derive(Debug, Default)]
pub struct Slurm {
    pub drained: bool,
    pub reason: Option<String>,
    pub reboot_issued: bool,
    /// The drain has been looked at for the last time before slurmd registers. A drain in this moment is lost in Slurm.
    pub looked_at: bool,
    /// The drain that an admin expects to find in the end.
    pub expected: Option<String>,
}

/// Firmware of the node, by version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Firmware {
    pub active: u8,
    /// The version that the next boot makes active.
    pub flashed: u8,
}

/// The controller's knowledge of the order under way.
#[derive(Debug, Clone)]
pub struct Sent {
    pub order: Order,
    pub boot_id: String,
    pub running: String,
    /// The image that the boot source led to before, if it was changed.
    pub booted: Option<String>,
    /// The failure for which the boot source was restored.
    pub restored: Option<String>,
    pub held: Option<String>,
}

pub struct Node {
    pub script: VecDeque<Op>,
    pub volatile: bool,
    pub fault: Option<Fault>,
    pub disk: Disk,
    /// All states of the disk that ever were.
    pub written: Vec<Disk>,
    pub disk_full: bool,
    pub boot: u32,
    pub links: [String; 2],
    pub running: String,
    /// The image that the next boot leads to.
    pub boots: String,
    pub firmware: Firmware,
    /// The links and the firmware when the order under way was accepted.
    pub before: ([String; 2], Firmware),
    /// The boot in which a link was last switched.
    pub switched_in: Option<u32>,
    /// The boot in which Slurm answered that it does not accept the node.
    pub refused_in: Option<u32>,
    pub slurm: Slurm,
    pub sent: Vec<Order>,
    pub controller: Option<Sent>,
    /// The pre-staged order and the drain that its agent was told.
    pub told: Option<(OrderId, Option<String>)>,
    pub accepted: BTreeSet<OrderId>,
    /// An admin's order is being accepted, which alone ends a hold.
    pub admin: bool,
    /// The disk has always kept what was written.
    pub honest: bool,
    pub points: usize,
    pub phases: BTreeSet<Phase>,
}

impl Node {
    pub fn new(script: Vec<Op>, volatile: bool) -> Self {
        let links = ["/old".to_owned(), "/older".to_owned()];
        Self {
            script: script.into(),
            volatile,
            fault: None,
            disk: Disk::default(),
            written: vec![Disk::default()],
            disk_full: false,
            boot: 1,
            firmware: Firmware::default(),
            before: (links.clone(), Firmware::default()),
            links,
            running: "i0".to_owned(),
            boots: "i0".to_owned(),
            switched_in: None,
            refused_in: None,
            slurm: Slurm::default(),
            sent: Vec::new(),
            controller: None,
            told: None,
            accepted: BTreeSet::new(),
            admin: false,
            honest: true,
            points: 0,
            phases: BTreeSet::new(),
        }
    }

    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    pub fn now_s(&self) -> u64 {
        self.points as u64
    }

    /// Returns an agent that has just started on this disk.
    pub fn start_agent(&self) -> Agent {
        let boot_id = self.boot_id();
        let admitted = self.disk.admitted_boot.as_ref() == Some(&boot_id);
        let Disk { ledger, staged, .. } = self.disk.clone();
        let (node, running) = (ME.to_owned(), Some(self.running_image()));
        let identity = Identity { node, boot_id, volatile: self.volatile, running };
        Agent::start(identity, OnDisk { ledger, staged, admitted })
    }

    /// Returns the running image as the node reports it.
    pub fn running_image(&self) -> Running {
        Running { image: Some(self.running.clone()), ..Running::default() }
    }

    pub fn switch(&mut self, index: usize, target: &str) {
        if self.links[index] != target {
            target.clone_into(&mut self.links[index]);
            self.switched_in = Some(self.boot);
        }
    }

    /// Flashes firmware, which the next boot makes active.
    pub fn flash(&mut self, version: u8) {
        if self.firmware.flashed != version {
            self.firmware.flashed = version;
            self.switched_in = Some(self.boot);
        }
    }

    /// Flashes the next version on the way to this one: none may be left out.
    pub fn flash_towards(&mut self, version: u8) {
        let active = self.firmware.active;
        self.flash(if version > active { version.min(active + 2) } else { version });
    }

    /// Boots the node. A volatile one loses its disk.
    pub fn reboot(&mut self) {
        self.boot += 1;
        self.running.clone_from(&self.boots);
        self.firmware.active = self.firmware.flashed;
        if self.volatile {
            self.disk = Disk::default();
            self.expect_restored_drain();
        }
    }

    /// Notes the drain that the controller restores with a lost ledger: the one that it knows from the order. An admin
    /// may have removed that since, and Slurm shows this only until the node has registered.
    fn expect_restored_drain(&mut self) {
        let known = self.controller.as_ref().and_then(|sent| sent.order.give_back()?.drained.clone());
        if !self.slurm.reboot_issued && self.slurm.reason.is_none() && known.is_some() {
            self.slurm.expected = known;
        }
    }

    pub fn next_op(&mut self) -> Option<Op> {
        self.points += 1;
        assert!(self.points < ENOUGH, "goes round and round: {:?}", self.disk.ledger);
        self.script.pop_front()
    }

    pub fn die(&mut self, how: &Op) -> Died {
        match how {
            Op::PowerCut => self.reboot(),
            Op::DiskFromBackup(back) => {
                self.reboot();
                self.honest = false;
                self.disk = self.written[back % self.written.len()].clone();
            }
            _ => {}
        }
        Died
    }

    pub fn drain(&mut self, reason: Option<u8>) {
        let slurm = &mut self.slurm;
        let unseen = slurm.reboot_issued && slurm.looked_at;
        // An undrained node shows nothing once its reboot is taken back, so a known drain would come back.
        let order_under_way = self.controller.is_some()
            || self.disk.ledger.as_ref().is_some_and(|ledger| !ledger.phase.is_settled());
        if unseen || (reason.is_none() && order_under_way && !slurm.reboot_issued) {
            return;
        }
        slurm.drained = reason.is_some();
        slurm.reason = reason.map(|number| format!("bad disk {number}"));
        slurm.expected.clone_from(&slurm.reason);
    }

    /// Builds an order. `None` if nobody would send it now.
    pub fn order(&mut self, wanted: &Wanted) -> Option<Order> {
        let give_back = GiveBack { resume_if_late: true, drained: self.slurm.reason.clone() };
        let kind = match wanted {
            Wanted::Again(index) => return self.sent.get(index % self.sent.len().max(1)).cloned(),
            // One order at a time changes the boot source.
            Wanted::Image { .. } if self.controller.is_some() => return None,
            // The controller has not heard of the end of its order: it restores that first.
            Wanted::Links { .. } | Wanted::Firmware { .. } | Wanted::Reboot
                if self.controller.is_some() && self.disk.ledger.is_none() =>
            {
                return None;
            }
            // No slurmd of a node without a disk runs RebootProgram.
            Wanted::PreStage { .. } | Wanted::HandOver { .. } if self.volatile => return None,
            Wanted::Links { rollout, hold } => apply(*rollout, links(*rollout, *hold), give_back),
            Wanted::Image { rollout, hold } => apply(*rollout, image(*rollout, *hold), give_back),
            Wanted::Firmware { rollout, hold } => apply(*rollout, firmware(*rollout, *hold), give_back),
            Wanted::Reboot | Wanted::Foreign => OrderKind::Reboot(give_back.into()),
            Wanted::Retry => OrderKind::Retry,
            Wanted::Release => OrderKind::Release,
            Wanted::PreStage { rollout, hold } => OrderKind::PreStage(PreStage {
                rollout: format!("r{rollout}"),
                desired: links(*rollout, *hold),
                drained: self.slurm.reason.clone(),
            }),
            Wanted::DropPreStaged { rollout } => OrderKind::DropPreStaged { rollout: format!("r{rollout}") },
            Wanted::UpdateDrain => OrderKind::UpdateDrain(UpdateDrain {
                order: self.told.as_ref()?.0.clone(),
                reason: self.slurm.reason.clone(),
            }),
            Wanted::HandOver { apply } => {
                let plain = GiveBack { resume_if_late: true, drained: None }.into();
                OrderKind::LocalHandOver(LocalHandOver { apply: *apply, plain })
            }
            Wanted::Restore => return self.restoring(),
        };
        let nodes = match wanted {
            Wanted::Foreign => "n2",
            Wanted::HandOver { .. } => ME,
            _ => "n[1-2]",
        };
        Some(self.send(nodes, kind))
    }

    pub fn send(&mut self, nodes: &str, kind: OrderKind) -> Order {
        let id = OrderId::from_random(self.sent.len() as u128);
        let order = Order::new(id, NodeSet::parse(nodes).unwrap(), kind);
        self.sent.push(order.clone());
        order
    }

    /// Builds the order that restores the ledger, as `controller::follow_up` does.
    pub fn restoring(&self) -> Option<Order> {
        let sent = self.controller.as_ref()?;
        let (phase, error) = match (&sent.held, &sent.restored) {
            (Some(why), _) => (Phase::Held, Some(why.clone())),
            (None, Some(why)) => (Phase::RebootingBack, Some(why.clone())),
            (None, None) => (Phase::Rebooting, None),
        };
        let running = Running { image: Some(sent.running.clone()), ..Running::default() };
        let restore = RestoreLedger {
            order: Box::new(sent.order.kind.clone()),
            phase,
            boot_id: sent.boot_id.clone(),
            ordered_s: None,
            running: Some(running),
            error,
        };
        let (id, nodes) = (sent.order.id.clone(), sent.order.nodes.clone());
        Some(Order::new(id, nodes, OrderKind::RestoreLedger(restore)))
    }
}

fn apply(rollout: u8, desired: DesiredState, give_back: GiveBack) -> OrderKind {
    OrderKind::Apply(Apply { rollout: format!("r{rollout}"), desired, give_back })
}

fn links(rollout: u8, hold: bool) -> DesiredState {
    static ALL: LazyLock<[DesiredState; 4]> = LazyLock::new(|| {
        each(|rollout| {
            format!(
                "[[change]]\nkind='symlink'\npath='/a'\ntarget='/v{rollout}'\n\
                 [[change]]\nkind='symlink'\npath='/b'\ntarget='/w{rollout}'\n"
            )
        })
    });
    ALL[usize::from(rollout) * 2 + usize::from(hold)].clone()
}

fn image(rollout: u8, hold: bool) -> DesiredState {
    static ALL: LazyLock<[DesiredState; 4]> = LazyLock::new(|| {
        each(|rollout| format!("[[change]]\nkind='image'\nvia='boot-file'\nimage='i{}'\n", rollout + 1))
    });
    ALL[usize::from(rollout) * 2 + usize::from(hold)].clone()
}

fn firmware(rollout: u8, hold: bool) -> DesiredState {
    static ALL: LazyLock<[DesiredState; 4]> = LazyLock::new(|| {
        each(|rollout| {
            format!(
                "[[change]]\nkind='symlink'\npath='/a'\ntarget='/v{rollout}'\n\
                 [[change]]\nkind='command'\nname='fw'\nversion='{}'\nprobe=['/probe']\napply=['/apply']\n\
                 undo=['/undo']\nboots=2\n",
                2 * rollout + 2
            )
        })
    });
    ALL[usize::from(rollout) * 2 + usize::from(hold)].clone()
}

/// Returns the desired states of both rollouts, without and with `hold`.
fn each(changes: impl Fn(usize) -> String) -> [DesiredState; 4] {
    std::array::from_fn(|index| {
        let changes = changes(index / 2);
        let on_failure = ["rollback", "hold"][index % 2];
        let text = format!("name='r'\nnodes='{ME}'\n{changes}[verify]\non_failure='{on_failure}'\n");
        Manifest::parse(&text).unwrap().desired
    })
}

pub fn image_of(order: &Order) -> Option<String> {
    match &order.kind {
        OrderKind::Apply(apply) => apply.desired.image().map(|image| image.image.clone()),
        _ => None,
    }
}

pub fn target(change: &Change) -> &str {
    match change {
        Change::Symlink(link) => link.target.as_deref().unwrap(),
        Change::Packages(_) | Change::Image(_) | Change::KernelArgs(_) | Change::Command(_) => {
            panic!("no link")
        }
    }
}

/// Returns a version of the firmware in an order or a ledger.
pub fn version(text: &str) -> u8 {
    text.parse().unwrap()
}
