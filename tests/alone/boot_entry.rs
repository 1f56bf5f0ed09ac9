//! Images that are entries of the node's own boot loader, in virtual machines: real GRUB and systemd-boot, real power
//! cuts. Slurm is not in them; an order comes in by the agent's Unix socket, which is root's.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, OrderStatus};
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_lab::{BootLoader, Manifest, Output, Product, VirtualMachine, until};

/// A machine boots in some ten seconds if it has a processor to itself.
const MINUTES: Duration = Duration::from_secs(600);
/// Limit of one answer.
const SECONDS: Duration = Duration::from_secs(5);

struct Machine {
    machine: VirtualMachine,
    /// Prints what the boot loader boots by default and what it boots next, a line each.
    settings: &'static str,
    orders: u128,
}

impl Machine {
    fn boot(loader: BootLoader) -> Machine {
        let machine = VirtualMachine::new(&Product::build().unwrap(), loader).unwrap();
        machine.power_on().unwrap();
        let settings = match loader {
            BootLoader::Grub => {
                "grub-editenv list | sed -n s/^saved_entry=//p; grub-editenv list | sed -n s/^next_entry=//p"
            }
            BootLoader::SystemdBoot => {
                "cd /sys/firmware/efi/efivars; for name in Default OneShot; do \
                 cat LoaderEntry$name-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f 2>/dev/null | tail -c +5 | tr -d '\\0'; echo; done"
            }
        };
        Machine { machine, settings, orders: 0 }
    }

    /// Orders an image by the name of an entry, as RebootProgram would.
    fn order(&mut self, entry: &str) {
        self.orders += 1;
        let manifest = Manifest::new("compute-2", "vm01")
            .image("boot-entry", "compute", "2")
            .value("entry", entry)
            .verify(&["/usr/bin/grep", "-q", "root=/dev/vda3", "/proc/cmdline"]);
        let back = GiveBack { resume_if_late: false, drained: None };
        let apply = Apply {
            rollout: "compute-2".into(),
            desired: rollout_core::rollout::manifest::Manifest::parse(&manifest.to_string()).unwrap().desired,
            give_back: back,
        };
        let id = OrderId::from_random(self.orders);
        let order = Order::new(id, NodeSet::parse("vm01").unwrap(), OrderKind::Apply(apply));
        let post = format!(
            "curl -sS --unix-socket /run/slurm-rollout/agent.sock --json @- http://localhost/v1/order <<'END'\n{}\nEND\n",
            serde_json::to_string(&order).unwrap()
        );
        let answer = self.machine.run(&post, MINUTES).unwrap();
        assert!(answer.contains("accepted"), "{answer}");
    }

    /// Waits for a status of the agent. The machine may boot meanwhile.
    fn status(&self, what: &str, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let ask = || self.machine.ask("slurm-rollout-agent status", SECONDS);
        let read = |output: &Output| serde_json::from_str(&output.stdout).ok();
        let fits =
            |output: &Option<Output>| output.as_ref().and_then(read).is_some_and(|status| wanted(&status));
        until(what, MINUTES, ask, fits).unwrap().as_ref().and_then(read).unwrap()
    }

    /// Waits for the agent and returns the system that runs.
    fn running(&self) -> String {
        self.status("the agent", |_| true).running.map(|running| running.name()).unwrap()
    }

    /// Waits until the order has ended and returns its end and the system that runs.
    fn settled(&self) -> (OrderStatus, String) {
        let number = OrderId::from_random(self.orders);
        let status = self.status("the end of the order", |status| {
            status.order.as_ref().is_some_and(|order| {
                order.id == number && (order.phase.is_settled() || order.phase == Phase::Held)
            })
        });
        (status.order.unwrap(), status.running.map(|running| running.name()).unwrap())
    }

    /// Default and next entry.
    fn settings(&self) -> Vec<String> {
        let said = self.machine.run(self.settings, MINUTES).unwrap();
        said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn boot_id(&self) -> String {
        self.machine.run("cat /proc/sys/kernel/random/boot_id", MINUTES).unwrap()
    }
}

/// `old` is the loader's default; the others are entries.
fn tried_once(loader: BootLoader, old: Option<&str>, new: &str, hangs: &str) {
    let mut vm = Machine::boot(loader);
    assert_eq!(vm.running(), "compute 1");
    let before: Vec<String> = old.into_iter().map(str::to_owned).collect();
    assert_eq!(vm.settings(), before);

    // The entry does not exist: nothing is tried. Slurm still waits for a boot.
    vm.order("others>no-such");
    let (order, running) = vm.settled();
    assert_eq!((order.phase, running.as_str()), (Phase::RolledBack, "compute 1"), "{order:?}");
    assert!(order.error.unwrap().contains("no-such"));

    // The new system hangs. The power is cut, and the node is back in the old one, as it was.
    vm.order(hangs);
    let hung = || Ok(vm.machine.console());
    until("the hang", MINUTES, hung, |console| console.contains("this system hangs")).unwrap();
    vm.machine.power_cut();
    vm.machine.power_on().unwrap();
    let back = vm.boot_id();
    let (order, running) = vm.settled();
    assert_eq!((order.phase, running.as_str()), (Phase::RolledBack, "compute 1"), "{order:?}");
    let why = order.error.unwrap();
    assert!(
        why.contains("came back in the system from before: os-release says compute 1, not compute 2"),
        "{why}"
    );
    assert_eq!(vm.settings(), before);
    assert_eq!(vm.boot_id(), back, "it had booted the right system: no further boot");

    // The new system comes up, and is the default from then on.
    vm.order(new);
    let (order, running) = vm.settled();
    assert_eq!((order.phase, running.as_str()), (Phase::Updated, "compute 2"), "{order:?}");
    assert_eq!(vm.settings(), [new]);
    vm.machine.power_cut();
    vm.machine.power_on().unwrap();
    assert_eq!(vm.running(), "compute 2");
}

#[test]
fn an_entry_of_grub_is_tried_once() {
    tried_once(BootLoader::Grub, Some("old"), "others>new", "others>Compute 2 that hangs");
}

#[test]
fn an_entry_of_systemd_boot_is_tried_once() {
    tried_once(BootLoader::SystemdBoot, None, "compute-2.conf", "compute-hang.conf");
}
