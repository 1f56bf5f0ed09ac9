//! Images that are entries of the node's own boot loader, and arguments of its kernel, in virtual machines: real GRUB
//! and systemd-boot, real power cuts. Slurm is not in them; an order comes in by the agent's Unix socket, which is
//! root's.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, OrderStatus};
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::{self, DesiredState};
use rollout_core::rollout::undo;
use rollout_lab::{BootLoader, DebRepository, Manifest, Output, Package, Product, VirtualMachine, until};

/// A boot takes more than a minute if two processors emulate two machines.
const MINUTES: Duration = Duration::from_secs(600);
/// Limit of one answer.
const SECONDS: Duration = Duration::from_secs(5);

struct Machine {
    machine: VirtualMachine,
    /// Prints what the boot loader boots by default and what it boots next, a line each.
    settings: &'static str,
    /// The files that hold the kernel's arguments, and one that is there only while an entry is tried.
    files: &'static str,
    orders: u128,
}

impl Machine {
    fn boot(loader: BootLoader) -> Machine {
        let machine = VirtualMachine::new(&Product::build().unwrap(), loader).unwrap();
        machine.power_on().unwrap();
        let (settings, files) = match loader {
            BootLoader::Grub => (
                "grub-editenv list | sed -n s/^saved_entry=//p; grub-editenv list | sed -n s/^next_entry=//p",
                "/etc/default/grub /boot/grub/custom.cfg",
            ),
            BootLoader::SystemdBoot => (
                "cd /sys/firmware/efi/efivars; for name in Default OneShot; do \
                 cat LoaderEntry$name-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f 2>/dev/null | tail -c +5 | tr -d '\\0'; echo; done",
                "/boot/loader/entries/* /etc/kernel/cmdline",
            ),
        };
        Machine { machine, settings, files, orders: 0 }
    }

    /// Orders an image by the name of an entry.
    fn order_image(&mut self, entry: &str) {
        let manifest = Manifest::new("compute-2", "vm01")
            .image("boot-entry", "compute", "2")
            .value("entry", entry)
            .verify(&["/usr/bin/grep", "-q", "root=/dev/vda3", "/proc/cmdline"]);
        self.order("compute-2", &desired(&manifest));
    }

    /// Orders a change, as RebootProgram would.
    fn order(&mut self, rollout: &str, desired: &DesiredState) {
        self.orders += 1;
        let back = GiveBack { resume_if_late: false, drained: None };
        let apply = Apply { rollout: rollout.into(), desired: desired.clone(), give_back: back };
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

    /// Returns the kernel's command line.
    fn line(&self) -> String {
        self.machine.run("cat /proc/cmdline", MINUTES).unwrap()
    }

    /// Returns the texts of the files that hold the kernel's arguments.
    fn files(&self) -> String {
        self.machine.run(&format!("tail -n +1 {} 2>&1 || true", self.files), MINUTES).unwrap()
    }

    /// Returns the installed version of `tool`, or nothing.
    fn tool(&self) -> String {
        self.machine.run("cat /usr/share/tool/version || true", MINUTES).unwrap()
    }

    /// Returns the changes that a rollout made.
    fn changes_of(&self, rollout: &str) -> NodeChanges {
        let ask = "curl -sS --unix-socket /run/slurm-rollout/agent.sock http://localhost/v1/past";
        let past = self.machine.run(ask, MINUTES).unwrap();
        let past: Vec<NodeChanges> = serde_json::from_str(&past).unwrap();
        past.into_iter().find(|changes| changes.rollout == rollout).unwrap()
    }

    fn boot_id(&self) -> String {
        self.machine.run("cat /proc/sys/kernel/random/boot_id", MINUTES).unwrap()
    }
}

fn desired(manifest: &Manifest) -> DesiredState {
    manifest::Manifest::parse(&manifest.to_string()).unwrap().desired
}

/// `old` is the loader's default; the others are entries. A boot takes more than a minute, so only one of the machines
/// has an entry that hangs.
fn tried_once(loader: BootLoader, old: Option<&str>, new: &str, hangs: Option<&str>) -> Machine {
    let mut vm = Machine::boot(loader);
    assert_eq!(vm.running(), "compute 1");
    let before: Vec<String> = old.into_iter().map(str::to_owned).collect();
    assert_eq!(vm.settings(), before);

    // The entry does not exist: nothing is tried. Slurm still waits for a boot.
    vm.order_image("others>no-such");
    let (order, running) = vm.settled();
    assert_eq!((order.phase, running.as_str()), (Phase::RolledBack, "compute 1"), "{order:?}");
    assert!(order.error.unwrap().contains("no-such"));

    if let Some(entry) = hangs {
        // The new system hangs. The power is cut, and the node is back in the old one, as it was.
        vm.order_image(entry);
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
    }

    // The new system comes up, and is the default from then on, as the boots of `arguments` show.
    vm.order_image(new);
    let (order, running) = vm.settled();
    assert_eq!((order.phase, running.as_str()), (Phase::Updated, "compute 2"), "{order:?}");
    assert_eq!(vm.settings(), [new]);
    vm
}

fn tool(version: &str) -> Package {
    Package::new("tool", version).file("/usr/share/tool/version", &format!("{version}\n"), 0o644)
}

/// Arguments are tried and become permanent. With a `package`, each order changes that too; others fail, and the node
/// boots the permanent ones; an undo restores it all.
fn arguments(mut vm: Machine, package: bool) {
    let (old_line, old_files, settings) = (vm.line(), vm.files(), vm.settings());
    let has = |line: &str, argument: &str| line.split_whitespace().any(|word| word == argument);
    assert!(
        has(&old_line, "systemd.show_status=0") && old_files.contains("systemd.show_status=0"),
        "{old_line}"
    );
    if package {
        let repository = DebRepository::build(&[tool("1.0"), tool("1.1")]).unwrap();
        vm.machine.install_repository(&repository, MINUTES).unwrap();
    }
    let tools = |version: &str| if package { format!("{version}\n") } else { String::new() };
    let manifest = |name: &str, version: &str| match package {
        true => Manifest::new(name, "vm01").packages("apt", &[&format!("tool={version}")]),
        false => Manifest::new(name, "vm01"),
    };

    let args = manifest("args", "1.0").kernel_args(&["lab.one=1"], &["systemd.show_status"]);
    let args = desired(&args.verify(&["/usr/bin/grep", "-q", "lab.one=1", "/proc/cmdline"]));
    vm.order("args", &args);
    let (order, _) = vm.settled();
    assert_eq!((order.phase, vm.settings()), (Phase::Updated, settings.clone()), "{order:?}");
    let (new_line, new_files) = (vm.line(), vm.files());
    assert!(has(&new_line, "lab.one=1") && !new_line.contains("show_status"), "{new_line}");
    assert!(new_files.contains("lab.one=1"), "{new_files}");
    assert_eq!(vm.tool(), tools("1.0"));

    assert_eq!(vm.running(), "compute 2");
    if !package {
        return;
    }

    // The entry that booted this system is gone already. The one by default has the arguments as well.
    let more = manifest("more-args", "1.1").kernel_args(&["lab.two=2"], &["lab.one"]);
    let more = more.verify_script("cp /proc/cmdline /opt/tried; exit 7").verify_with("timeout", "10s");
    vm.order("more-args", &desired(&more));
    let (order, _) = vm.settled();
    assert_eq!((order.phase, vm.settings()), (Phase::RolledBack, settings.clone()), "{order:?}");
    let why = order.error.unwrap();
    assert!(why.contains("exit code 7"), "{why}");
    let tried = vm.machine.run("cat /opt/tried", MINUTES).unwrap();
    assert!(has(&tried, "lab.two=2") && !has(&tried, "lab.one=1"), "{tried}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((words(&vm.line()), vm.files()), (words(&new_line), new_files));
    assert_eq!(vm.tool(), tools("1.0"));

    let back = undo::reverse(&args, &vm.changes_of("args")).unwrap().unwrap();
    back.check().unwrap();
    vm.order("undo-args", &back);
    let (order, _) = vm.settled();
    assert_eq!((order.phase, vm.settings()), (Phase::Updated, settings), "{order:?}");
    assert_eq!((words(&vm.line()), vm.files()), (words(&old_line), old_files));
    assert_eq!(vm.tool(), "");
}

#[test]
fn an_entry_of_grub_is_tried_once_and_so_are_arguments() {
    let vm = tried_once(BootLoader::Grub, Some("old"), "others>new", Some("others>Compute 2 that hangs"));
    arguments(vm, false);
}

#[test]
fn an_entry_of_systemd_boot_is_tried_once_and_so_are_arguments_with_a_package() {
    let vm = tried_once(BootLoader::SystemdBoot, None, "compute-2.conf", None);
    arguments(vm, true);
}
