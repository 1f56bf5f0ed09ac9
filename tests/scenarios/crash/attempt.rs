//! A case as a node carries it out: begin, strike, and all that must hold in the end.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

use super::case::{Blow, Case, End, Manager, Place};
use super::{OLD_PACKAGES, SLEEP_IN, SLEEPS};
use crate::prelude::*;

const POLL: Duration = Duration::from_millis(100);

/// A case on a node.
pub(super) struct Attempt<'a> {
    site: &'a Site,
    node: &'a Node,
    case: &'a Case,
    boots: u32,
    slurmd_starts: usize,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin(site: &'a Site, node: &'a Node, case: &'a Case) -> Result<Attempt<'a>> {
        // One file on the controller.
        static STAGING: Mutex<()> = Mutex::new(());
        node.run(&["rm", "-f", SLEEPS, AT_FAILPOINT])?;
        let mut attempt = Attempt { site, node, case, boots: node.boot_count(), slurmd_starts: 0 };
        attempt.slurmd_starts = attempt.count_slurmd_starts()?;
        attempt.arm()?;
        {
            let _staging = STAGING.lock().unwrap();
            site.stage(case.manifest(node.name()))?;
        }
        site.reboot(node.name())?;
        Ok(attempt)
    }

    pub(super) fn see_through(&self) -> Result<()> {
        self.wait_at(&Place::Nowhere)?;
        if let Place::ScriptOfUndo(script) = self.case.place {
            self.wait_at(&Place::Failpoint("undoing"))?;
            self.node.write_file(SLEEP_IN, script, 0o644)?;
            strike(self.node, Blow::Kill)?;
        }
        for (index, blow) in self.case.blows.iter().enumerate() {
            self.wait_at(&self.case.place)?;
            if index + 1 < self.case.blows.len() {
                self.arm()?;
            }
            strike(self.node, *blow)?;
        }
        match self.case.end {
            End::Updated => self.ends_in_service("updated"),
            End::RolledBack => self.ends_in_service("rolled-back"),
            End::Held => self.ends_held(),
        }?;
        self.as_at_first()
    }

    /// Makes the node stop at the place.
    fn arm(&self) -> Result<()> {
        // Before the file that the agent looks for: it may be running already.
        self.node.exec(&["rm", "-f", AT_FAILPOINT])?;
        match self.case.place {
            Place::Failpoint(name) => self.node.write_file(FAILPOINT, name, 0o600),
            Place::Script(name) => self.node.write_file(SLEEP_IN, name, 0o644),
            Place::ScriptOfUndo(_) => self.node.write_file(FAILPOINT, "undoing", 0o600),
            Place::Nowhere => Ok(()),
        }
    }

    fn wait_at(&self, place: &Place) -> Result<()> {
        let end = Instant::now() + MINUTES;
        let there = || match place {
            Place::Failpoint(_) => {
                let hit = !self.file(FAILPOINT).exists();
                // /run is not seen from outside.
                hit && self.node.exec(&["test", "-e", AT_FAILPOINT]).is_ok_and(|output| output.success())
            }
            Place::Script(_) | Place::ScriptOfUndo(_) => self.file(SLEEPS).exists(),
            // The order was taken.
            Place::Nowhere => self.stands().is_ok(),
        };
        while !there() {
            ensure(Instant::now() < end, || format!("never at {place:?}; {}", self.whereabouts()))?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until Slurm has the node back, and checks everything then.
    fn ends_in_service(&self, phase: &str) -> Result<()> {
        let (node, name) = (self.node, self.node.name());
        let end = Instant::now() + MINUTES;
        loop {
            let state = self.site.cluster.node_state(name)?;
            // In this order: a settled ledger stays settled.
            let stands = self.stands()?;
            // Slurm has accepted the node, and the agent sees that in a moment. After a power cut in that moment, Slurm
            // shows the node as it was before.
            let is_accepted = || {
                self.case.place == Place::Failpoint("registering")
                    || self.ledger("order.json").is_none_or(|ledger| ledger["registering"] == true)
            };
            if state == "IDLE" && !(stands == "verifying" && is_accepted()) {
                ensure(stands == phase, || format!("IDLE, and {stands}"))?;
                break;
            }
            ensure(stands != "held", || format!("held: {}", self.whereabouts()))?;
            ensure(Instant::now() < end, || format!("not in service: {}", self.whereabouts()))?;
            std::thread::sleep(10 * POLL);
        }
        // The agent tidies up when slurmd may start already.
        let tidy =
            || self.ledger("order.json").is_none() && !self.file(&format!("{NODE_STATE_DIR}/undo")).exists();
        until("tidying up", MINUTES, || Ok(tidy()), |tidy| *tidy)?;
        equal("the node", &self.is()?, self.case.is)?;
        let note = self.site.wait_phase(&self.case.name, name, phase)?;
        ensure(note.contains(self.case.says) && self.case.says.is_empty() == note.is_empty(), || {
            format!("note {note}")
        })?;
        self.is_whole()?;
        equal("boots", &(node.boot_count() - self.boots), &self.case.boots())?;
        // slurmd was started once, after all was proven. After a power cut behind that point it starts at the next
        // boot, too.
        let starts = self.count_slurmd_starts()? - self.slurmd_starts;
        let may_run = matches!(self.case.place, Place::Failpoint("registering" | "settled"));
        let settled_twice = may_run && self.case.blows == [Blow::Cut];
        ensure(starts == 1 || settled_twice && starts == 2, || format!("slurmd was started {starts} times"))?;
        let since = self.ledger("last.json").unwrap_or_default()["since_s"].as_u64();
        let argv =
            ["systemctl", "show", "slurmd", "--value", "--timestamp=unix", "-p", "ExecMainStartTimestamp"];
        let started = node.run(&argv)?.trim().trim_start_matches('@').parse().ok();
        // Its start is the last part of the proof of an update.
        ensure(phase == "updated" || since.is_some() && started >= since, || {
            format!("settled at {since:?}, slurmd at {started:?}")
        })
    }

    /// Asserts that the node stays out of service with a Reason, also over a second fault, until an admin releases it.
    fn ends_held(&self) -> Result<()> {
        let name = self.node.name();
        let is_held = || {
            self.site.wait_phase(&self.case.name, name, "held")?;
            let says_why = |reason: &String| reason.contains("held: ") && reason.contains(self.case.says);
            until("its Reason", MINUTES, || self.site.reason(name), says_why)?;
            equal("the node", &self.is()?, self.case.is)?;
            let slurmd = self.node.exec(&["systemctl", "is-active", "slurmd"])?;
            ensure(!slurmd.success(), || "slurmd runs on a held node".into())?;
            let out_of_service = |state: &str| state.contains("DOWN") || state.contains("DRAIN");
            self.site.cluster.wait_state(name, out_of_service, MINUTES).map(drop)
        };
        is_held()?;
        equal("boots", &(self.node.boot_count() - self.boots), &self.case.boots())?;
        strike(self.node, self.case.blows[0])?;
        self.node.wait_active(AGENT_UNIT)?;
        is_held()?;
        equal("starts of slurmd", &self.count_slurmd_starts()?, &self.slurmd_starts)?;
        self.site.rollout(&["release", name])?.into_stdout()?;
        self.site.wait_idle(&[name], MINUTES)?;
        self.is_whole()
    }

    /// State of the node: the link's target and the packages, with dpkg's state of packages that are not whole.
    fn is(&self) -> Result<String> {
        let link = self.node.run(&["readlink", "/opt/app/current"])?;
        let packages = match self.case.manager {
            Manager::Dnf | Manager::Dnf5 => {
                self.node.run(&["rpm", "-q", "--qf", "%{NAME}=%{VERSION}\n", "tool", "tool-data"])?
            }
            Manager::Apt => {
                let format = "${Package}=${Version}${db:Status-Abbrev}\n";
                self.node.run(&["dpkg-query", "-W", "-f", format, "tool", "tool-data"])?.replace("ii ", "")
            }
        };
        let words: Vec<&str> =
            std::iter::once(link.as_str()).chain(packages.lines()).map(str::trim).collect();
        Ok(words.join(" "))
    }

    /// Asserts that nothing is incomplete, and that nothing is left behind.
    fn is_whole(&self) -> Result<()> {
        equal("/opt/app", &self.node.run(&["ls", "-A", "/opt/app"])?, "1\n2\ncurrent\n")?;
        let kept = self.node.run(&["ls", "-A", NODE_STATE_DIR])?;
        equal(NODE_STATE_DIR, &kept, "last.json\nreserve\n")?;
        let version = if self.is()?.contains("tool=1.0") { "1.0" } else { "1.1" };
        let dir = self.case.manager.dir();
        let files =
            format!("cd /usr/share && ls -A {dir} {dir}-data && cat {dir}/version {dir}-data/version");
        let wanted =
            format!("{dir}:\nonly-in-{version}\nversion\n\n{dir}-data:\nversion\n{version}\n{version}\n");
        equal("the packages' files", &self.node.run(&["sh", "-c", &files])?, &wanted)?;
        let damaged = match self.case.manager {
            Manager::Dnf | Manager::Dnf5 => {
                self.node.run(&["sh", "-c", "rpm -V tool tool-data && rpmdb --verifydb"])?
            }
            Manager::Apt => self.node.run(&["dpkg", "--audit"])?,
        };
        equal("damage", &damaged, "")
    }

    /// Restores the node for the next case.
    fn as_at_first(&self) -> Result<()> {
        if self.is()? == OLD_PACKAGES {
            return Ok(());
        }
        self.node.run(&["ln", "-sfn", "/opt/app/1", "/opt/app/current"])?;
        let back = match self.case.manager {
            Manager::Dnf | Manager::Dnf5 => {
                "rpm -U --oldpackage --replacepkgs $(find /srv/rpm-repository -name 'tool*-1.0-*.rpm')"
            }
            Manager::Apt => "apt-get -qq -y --allow-downgrades install tool=1.0 tool-data=1.0",
        };
        self.node.run(&["sh", "-c", back])?;
        equal("the node", &self.is()?, OLD_PACKAGES)
    }

    /// The phase in the newest ledger, whether the node is up or not.
    fn stands(&self) -> Result<String> {
        let ledger = self.ledger("order.json").or_else(|| self.ledger("last.json")).unwrap_or_default();
        let rollout = ledger["order"]["what"].to_string();
        ensure(rollout.contains(&format!("\"{}\"", self.case.name)), || format!("a ledger of {rollout}"))?;
        Ok(ledger["phase"].as_str().unwrap_or_default().to_owned())
    }

    fn ledger(&self, name: &str) -> Option<Value> {
        let text = std::fs::read(self.file(&format!("{NODE_STATE_DIR}/{name}"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn count_slurmd_starts(&self) -> Result<usize> {
        let log = self.node.read_file("/var/log/slurm/slurmd.log")?;
        Ok(log.lines().filter(|line| line.contains("slurmd version") && line.contains("started")).count())
    }

    /// Path of a file of the node's as seen from outside, without a process.
    fn file(&self, path: &str) -> PathBuf {
        self.node.root().join(path.trim_start_matches('/'))
    }

    fn whereabouts(&self) -> String {
        let state = self.site.cluster.node_state(self.node.name());
        format!("ledger {:?}, Slurm {state:?}, node {:?}", self.stands(), self.is())
    }
}

fn strike(node: &Node, blow: Blow) -> Result<()> {
    match blow {
        Blow::Kill => {
            let argv = ["systemctl", "kill", "-s", "KILL", "--kill-whom=main", "slurm-rollout-agent"];
            node.run(&argv).map(drop)
        }
        Blow::Cut => {
            node.power_cut();
            node.power_on();
            Ok(())
        }
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(what())) }
}

fn equal<T: PartialEq<U> + std::fmt::Debug + ?Sized, U: std::fmt::Debug + ?Sized>(
    what: &str,
    found: &T,
    wanted: &U,
) -> Result<()> {
    ensure(found == wanted, || format!("{what}: {found:?}, not {wanted:?}"))
}

fn wrong(what: String) -> LabError {
    LabError::Setup(what)
}
