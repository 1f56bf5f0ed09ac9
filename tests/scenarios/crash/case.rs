//! A case: one order on one node, the faults that strike it, and its end.

use super::{NEW_PACKAGES, OLD_PACKAGES};
use crate::prelude::*;

/// Fault that strikes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// SIGKILL of the agent.
    Kill,
    /// Power off, power on.
    Cut,
}

/// Place at which the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At a failpoint of the agent.
    Failpoint(&'static str),
    /// While this script of the package runs on the way forward.
    Script(&'static str),
    /// While it runs on the way back.
    ScriptOfUndo(&'static str),
    Nowhere,
}

/// End of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Updated,
    RolledBack,
    Held,
}

/// Proof of the order, and what follows if it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Good,
    /// The node is rebooted by force after 10 s.
    GoodByForce,
    Bad,
    BadAndHeld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Dnf,
    Dnf5,
    Apt,
}

/// One order on one node.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) manager: Manager,
    pub(super) place: Place,
    /// One after the other, each at the same place.
    pub(super) blows: Vec<Blow>,
    pub(super) proof: Proof,
    pub(super) end: End,
    /// State of the node in the end.
    pub(super) is: &'static str,
    /// Cause in status and Reason.
    pub(super) says: &'static str,
    /// Number of reboots by the agent.
    pub(super) reboots: u32,
}

impl Manager {
    /// Its name in a manifest.
    pub(super) fn name(self) -> &'static str {
        match self {
            Manager::Dnf => "dnf",
            Manager::Dnf5 => "dnf5",
            Manager::Apt => "apt",
        }
    }

    /// Directory of its packages' files below /usr/share.
    pub(super) fn dir(self) -> &'static str {
        match self {
            Manager::Dnf | Manager::Dnf5 => "rpm-tool",
            Manager::Apt => "deb-tool",
        }
    }
}

impl Case {
    /// The order succeeds.
    pub(super) fn forward(place: Place, blows: &[Blow]) -> Case {
        let place_name = match place {
            Place::Failpoint(name) => name.into(),
            Place::Script(name) => format!("in-{name}"),
            Place::ScriptOfUndo(name) => format!("undo-in-{name}"),
            Place::Nowhere => "undisturbed".into(),
        };
        let blow_names = blows.iter().map(|blow| format!("-{blow:?}").to_lowercase());
        Case {
            name: std::iter::once(place_name).chain(blow_names).collect(),
            manager: Manager::Dnf,
            place,
            blows: blows.to_vec(),
            proof: Proof::Good,
            end: End::Updated,
            is: NEW_PACKAGES,
            says: "",
            reboots: 1,
        }
    }

    /// The node boots with the changes, fails, and goes back.
    pub(super) fn back(place: Place, blows: &[Blow]) -> Case {
        let case = Case::forward(place, blows);
        let name = format!("back-{}", case.name);
        Case {
            name,
            proof: Proof::Bad,
            end: End::RolledBack,
            is: OLD_PACKAGES,
            says: "/usr/bin/false",
            reboots: 2,
            ..case
        }
    }

    /// The same, and the node is held.
    pub(super) fn held(place: Place, blows: &[Blow]) -> Case {
        let case = Case::back(place, blows);
        Case { name: format!("held-{}", case.name), proof: Proof::BadAndHeld, end: End::Held, ..case }
    }

    /// With this package manager.
    pub(super) fn with(self, manager: Manager) -> Case {
        Case { name: format!("{}-{}", manager.name(), self.name), manager, ..self }
    }

    /// Manifest of this case for one node.
    pub(super) fn manifest(&self, node: &str) -> Manifest {
        let equals = if self.manager == Manager::Apt { "=" } else { "-" };
        let [tool, data] = ["tool", "tool-data"].map(|name| format!("{name}{equals}1.1"));
        let manifest = Manifest::new(&self.name, node)
            .symlink("/opt/app/current", "/opt/app/2")
            .packages(self.manager.name(), &[&tool, &data]);
        let version = format!("/usr/share/{}/version", self.manager.dir());
        let good = ["/usr/bin/grep", "-q", "^1.1$", version.as_str()];
        match self.proof {
            Proof::Good => manifest.verify(&good),
            Proof::GoodByForce => manifest.verify(&good).reboot_timeout("10s"),
            Proof::Bad => manifest.verify(&["/usr/bin/false"]).verify_with("timeout", "1s"),
            Proof::BadAndHeld => {
                manifest.verify(&["/usr/bin/false"]).verify_with("timeout", "1s").on_failure("hold")
            }
        }
    }

    /// Number of boots: a cut is one more boot, except when the node was about to reboot.
    pub(super) fn boots(&self) -> u32 {
        let cuts = self.blows.iter().filter(|blow| **blow == Blow::Cut).count() as u32;
        match self.place {
            Place::Failpoint("rebooting" | "rebooting-back") => self.reboots,
            Place::Failpoint(_) | Place::Script(_) | Place::ScriptOfUndo(_) | Place::Nowhere => {
                self.reboots + cuts
            }
        }
    }
}
