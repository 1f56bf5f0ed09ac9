//! Scenario 6: the agent is killed, or the node's power is cut, at every place where that can matter. The node ends
//! updated or rolled back, never in between, and is never lost without a Reason.
//!
//! Each case is one order on one node. The nodes of a cluster take the next case as soon as they are done with one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollout_lab::{
    AT_FAILPOINT, Base, ClusterSpec, DebRepository, FAILPOINT, LabError, Node, Package, Product, Result,
    RpmRepository, Scriptlet, Site, TOOL_1_1, until,
};
use serde_json::Value;

const MINUTES: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);

/// The agent's directory on a node.
const STATE: &str = "/var/lib/slurm-rollout-agent";
/// Names the script of the package at which its transaction stops for a while.
const SLEEP_IN: &str = "/root/sleep-in";
/// There since it has stopped.
const SLEEPS: &str = "/root/sleeps";

const OLD: &str = "/opt/app/1 tool=1.0 tool-data=1.0";
const NEW: &str = "/opt/app/2 tool=1.1 tool-data=1.1";

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// SIGKILL of the agent.
    Kill,
    /// Power off, power on.
    Cut,
}

/// Where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where the agent says so.
    Failpoint(&'static str),
    /// While this script of the package runs on the way forward.
    Script(&'static str),
    /// While it runs on the way back.
    ScriptOfUndo(&'static str),
    Nowhere,
}

/// How the order ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Updated,
    RolledBack,
    Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Dnf,
    Dnf5,
    Apt,
}

/// One order on one node.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    manager: Manager,
    place: Place,
    /// One after the other, each at the same place.
    blows: Vec<Blow>,
    /// What the manifest has from `commands` on.
    verify: &'static str,
    end: End,
    /// What the node is then.
    is: &'static str,
    /// What status and Reason say of the cause.
    says: &'static str,
    /// How often the agent reboots the node.
    reboots: u32,
}

const GOOD: &str = r#"commands = [["/usr/bin/grep", "-q", "^1.1$", "/usr/share/DIR/version"]]"#;
const BAD: &str = r#"commands = [["/usr/bin/false"]]"#;
const BAD_AND_HELD: &str = r#"commands = [["/usr/bin/false"]]
on_failure = "hold""#;
const GOOD_BY_FORCE: &str = r#"commands = [["/usr/bin/grep", "-q", "^1.1$", "/usr/share/DIR/version"]]
[reboot]
timeout = "10s""#;

impl Manager {
    /// Its name in a manifest.
    fn name(self) -> &'static str {
        match self {
            Manager::Dnf => "dnf",
            Manager::Dnf5 => "dnf5",
            Manager::Apt => "apt",
        }
    }

    /// Where its packages have their files, below /usr/share.
    fn dir(self) -> &'static str {
        match self {
            Manager::Dnf | Manager::Dnf5 => "rpm-tool",
            Manager::Apt => "deb-tool",
        }
    }
}

impl Case {
    /// The node gets there.
    fn forward(place: Place, blows: &[Blow]) -> Case {
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
            verify: GOOD,
            end: End::Updated,
            is: NEW,
            says: "",
            reboots: 1,
        }
    }

    /// The node boots with the changes, fails, and goes back.
    fn back(place: Place, blows: &[Blow]) -> Case {
        let case = Case::forward(place, blows);
        let name = format!("back-{}", case.name);
        Case { name, verify: BAD, end: End::RolledBack, is: OLD, says: "/usr/bin/false", reboots: 2, ..case }
    }

    /// The same, and is kept.
    fn held(place: Place, blows: &[Blow]) -> Case {
        let case = Case::back(place, blows);
        Case { name: format!("held-{}", case.name), verify: BAD_AND_HELD, end: End::Held, ..case }
    }

    /// With this package manager.
    fn with(self, manager: Manager) -> Case {
        Case { name: format!("{}-{}", manager.name(), self.name), manager, ..self }
    }

    /// TOOL_1_1 for one node, with the case's name, package manager and verification.
    fn manifest(&self, node: &str) -> String {
        let (head, _) = TOOL_1_1.split_once("commands").unwrap();
        let equals = if self.manager == Manager::Apt { "=" } else { "-" };
        let head = head
            .replace("\"tool-1.1\"\nnodes", &format!("\"{}\"\nnodes", self.name))
            .replace("cn[01-04]", node)
            .replace("\"dnf\"", &format!("\"{}\"", self.manager.name()))
            .replace("[\"tool-1.1\"]", &format!("[\"tool{equals}1.1\", \"tool-data{equals}1.1\"]"));
        format!("{head}{}\n", self.verify.replace("DIR", self.manager.dir()))
    }

    /// How often the node boots: a cut is one more boot, but where the node was about to reboot.
    fn boots(&self) -> u32 {
        let cuts = self.blows.iter().filter(|blow| **blow == Blow::Cut).count() as u32;
        match self.place {
            Place::Failpoint("rebooting" | "rebooting-back") => self.reboots,
            Place::Failpoint(_) | Place::Script(_) | Place::ScriptOfUndo(_) | Place::Nowhere => {
                self.reboots + cuts
            }
        }
    }
}

/// 1.0 and 1.1 of `tool`, whose scripts can be made to take their time, and of `tool-data`, which it needs.
fn packages(dir: &str, relation: impl Fn(&str) -> String) -> Vec<Package> {
    let script = |name: &str| {
        format!(
            "if [ \"$(cat {SLEEP_IN} 2>/dev/null)\" = {name} ]; then\nrm {SLEEP_IN}\necho 1 >{SLEEPS}\nsleep 8\nfi\necho done"
        )
    };
    let file = |version: &str| (format!("/usr/share/{dir}"), format!("{version}\n"));
    let of = |version: &str| {
        let (directory, content) = file(version);
        let tool = Package::new("tool", version)
            .requires(&relation(version))
            .file(&format!("{directory}/version"), &content, 0o644)
            .file(&format!("{directory}/only-in-{version}"), "", 0o644)
            .scriptlet(Scriptlet::BeforeInstall, &script("pre"))
            .scriptlet(Scriptlet::AfterInstall, &script("post"))
            .scriptlet(Scriptlet::BeforeRemove, &script("preun"))
            .scriptlet(Scriptlet::AfterRemove, &script("postun"));
        let data =
            Package::new("tool-data", version).file(&format!("{directory}-data/version"), &content, 0o644);
        [tool, data]
    };
    ["1.0", "1.1"].into_iter().flat_map(of).collect()
}

/// A cluster with 1.0 of these packages, twice: as RPM and as deb.
fn site(base: Base, nodes: u8) -> Site {
    let rpm = packages("rpm-tool", |version| format!("tool-data = {version}"));
    let deb = packages("deb-tool", |version| format!("tool-data (= {version})"));
    let (rpm, deb) = (RpmRepository::build(&rpm).unwrap(), DebRepository::build(&deb).unwrap());
    let spec = ClusterSpec {
        base,
        nodes,
        // A node that Slurm gives up on is another scenario.
        resume_timeout_s: 900,
        // A slurmd that should not have started would have its node IDLE at once.
        return_to_service: 2,
        prepare: Some(Arc::new(move |root| {
            if !root.is_controller() {
                rpm.install_in(root)?;
                deb.install_in(root)?;
                root.run(&["dnf", "-y", "install", "tool-1.0"])?;
                root.run(&["apt-get", "-qq", "-y", "install", "tool=1.0", "tool-data=1.0"])?;
                root.run(&["mkdir", "-p", "/opt/app/1", "/opt/app/2"])?;
                root.run(&["ln", "-s", "/opt/app/1", "/opt/app/current"])?;
            }
            Ok(())
        })),
        ..ClusterSpec::default()
    };
    Site::start(&Product::build_with_failpoints().unwrap(), spec).unwrap()
}

/// Has every case done by one of the nodes; panics in the end if any went wrong.
fn run(site: &Site, cases: Vec<Case>) {
    let cases = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for node in site.cluster.compute_nodes() {
            let (cases, failed) = (&cases, &failed);
            scope.spawn(move || {
                // Two statements: a lock in the condition of a loop is held for its body.
                let next = || cases.lock().unwrap().next();
                while let Some(case) = next() {
                    let begun = Instant::now();
                    let done = Attempt::begin(site, node, &case).and_then(|attempt| attempt.see_through());
                    println!("{:4.0?} s {} {}", begun.elapsed().as_secs_f32(), node.name(), case.name);
                    if let Err(error) = done {
                        let journal = node.journal("slurm-rollout-*").unwrap_or_else(|e| e.to_string());
                        let directory = site.cluster.directory().display();
                        failed.lock().unwrap().push(format!(
                            "{} on {directory}/{}: {error}\n{journal}",
                            case.name,
                            node.name()
                        ));
                        // Nobody knows what it is now.
                        return;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n\n"));
    assert!(cases.into_inner().unwrap().next().is_none());
}

/// A case on a node.
struct Attempt<'a> {
    site: &'a Site,
    node: &'a Node,
    case: &'a Case,
    boots: u32,
    slurmd_starts: usize,
}

impl<'a> Attempt<'a> {
    fn begin(site: &'a Site, node: &'a Node, case: &'a Case) -> Result<Attempt<'a>> {
        // One file on the controller.
        static STAGING: Mutex<()> = Mutex::new(());
        node.run(&["rm", "-f", SLEEPS, AT_FAILPOINT])?;
        let mut attempt = Attempt { site, node, case, boots: node.boot_count(), slurmd_starts: 0 };
        attempt.slurmd_starts = attempt.count_slurmd_starts()?;
        attempt.arm()?;
        {
            let _staging = STAGING.lock().unwrap();
            site.stage(&case.manifest(node.name()))?;
        }
        site.reboot(node.name())?;
        Ok(attempt)
    }

    fn see_through(&self) -> Result<()> {
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

    /// Has the node stop at the place.
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

    /// Waits until Slurm has the node back, and looks at everything then.
    fn ends_in_service(&self, phase: &str) -> Result<()> {
        let (node, name) = (self.node, self.node.name());
        let end = Instant::now() + MINUTES;
        loop {
            let state = self.site.cluster.node_state(name)?;
            // In this order: what is settled stays so.
            let stands = self.stands()?;
            if state == "IDLE" {
                ensure(stands == phase, || format!("IDLE, and {stands}"))?;
                break;
            }
            ensure(stands != "held", || format!("held: {}", self.whereabouts()))?;
            ensure(Instant::now() < end, || format!("not in service: {}", self.whereabouts()))?;
            std::thread::sleep(10 * POLL);
        }
        // Its last steps come when the gate is open already.
        let tidy = || self.ledger("order.json").is_none() && !self.file(&format!("{STATE}/undo")).exists();
        until("tidying up", MINUTES, || Ok(tidy()), |tidy| *tidy)?;
        equal("the node", &self.is()?, self.case.is)?;
        let line = until(phase, MINUTES, || self.site.phase(&self.case.name, name), |l| l.phase == phase)?;
        let note = line.note.unwrap_or_default();
        ensure(note.contains(self.case.says) && self.case.says.is_empty() == note.is_empty(), || {
            format!("note {note}")
        })?;
        self.is_whole()?;
        equal("boots", &(node.boot_count() - self.boots), &self.case.boots())?;
        // slurmd was started once, when all was settled. With the power cut behind that point, at the next boot, too.
        let starts = self.count_slurmd_starts()? - self.slurmd_starts;
        let settled_twice = self.case.place == Place::Failpoint("settled") && self.case.blows == [Blow::Cut];
        ensure(starts == 1 || settled_twice && starts == 2, || format!("slurmd was started {starts} times"))?;
        let since = self.ledger("last.json").unwrap_or_default()["since_s"].as_u64();
        let argv =
            ["systemctl", "show", "slurmd", "--value", "--timestamp=unix", "-p", "ExecMainStartTimestamp"];
        let started = node.run(&argv)?.trim().trim_start_matches('@').parse().ok();
        ensure(since.is_some() && started >= since, || format!("settled at {since:?}, slurmd at {started:?}"))
    }

    /// Kept out of service with a Reason, whatever happens to it then, until an admin gives it back.
    fn ends_held(&self) -> Result<()> {
        let name = self.node.name();
        let is_held = || {
            until("held", MINUTES, || self.site.phase(&self.case.name, name), |line| line.phase == "held")?;
            let told = |reason: &String| reason.contains("held: ") && reason.contains(self.case.says);
            until("its Reason", MINUTES, || self.site.reason(name), told)?;
            equal("the node", &self.is()?, self.case.is)?;
            let slurmd = self.node.exec(&["systemctl", "is-active", "slurmd"])?;
            ensure(!slurmd.success(), || "slurmd runs on a held node".into())?;
            let state = self.site.cluster.node_state(name)?;
            ensure(state.contains("DOWN") || state.contains("DRAIN"), || format!("held, and {state}"))
        };
        is_held()?;
        equal("boots", &(self.node.boot_count() - self.boots), &self.case.boots())?;
        strike(self.node, self.case.blows[0])?;
        let agent = || self.node.exec(&["systemctl", "is-active", "slurm-rollout-agent"]);
        until("the agent", MINUTES, agent, |output| output.success())?;
        is_held()?;
        equal("starts of slurmd", &self.count_slurmd_starts()?, &self.slurmd_starts)?;
        self.site.rollout(&["release", name])?.into_stdout()?;
        self.site.wait_idle(&[name], MINUTES)?;
        self.is_whole()
    }

    /// What the node is: the link's target and the packages, with dpkg's state of those that are not whole.
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

    /// Nothing is half there, and nothing is left behind.
    fn is_whole(&self) -> Result<()> {
        equal("/opt/app", &self.node.run(&["ls", "-A", "/opt/app"])?, "1\n2\ncurrent\n")?;
        let kept = self.node.run(&["ls", "-A", STATE])?;
        equal(STATE, &kept, "last.json\nreserve\n")?;
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

    /// Makes the node one for the next case.
    fn as_at_first(&self) -> Result<()> {
        if self.is()? == OLD {
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
        equal("the node", &self.is()?, OLD)
    }

    /// The phase in the newest ledger, whether the node is up or not.
    fn stands(&self) -> Result<String> {
        let ledger = self.ledger("order.json").or_else(|| self.ledger("last.json")).unwrap_or_default();
        let rollout = ledger["order"]["what"].to_string();
        ensure(rollout.contains(&format!("\"{}\"", self.case.name)), || format!("a ledger of {rollout}"))?;
        Ok(ledger["phase"].as_str().unwrap_or_default().to_owned())
    }

    fn ledger(&self, name: &str) -> Option<Value> {
        let text = std::fs::read(self.file(&format!("{STATE}/{name}"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn count_slurmd_starts(&self) -> Result<usize> {
        let log = self.node.read_file("/var/log/slurm/slurmd.log")?;
        Ok(log.lines().filter(|line| line.contains("slurmd version") && line.contains("started")).count())
    }

    /// A file of the node's, seen from outside. Costs no process.
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

fn ensure(so: bool, what: impl FnOnce() -> String) -> Result<()> {
    if so { Ok(()) } else { Err(wrong(what())) }
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

const FORWARD: [&str; 11] = [
    "accepted",
    "slurmd-stopped",
    "recorded-1",
    "made-1",
    "recorded-2",
    "made-2",
    "applied",
    "rebooting",
    "verifying",
    "verified",
    "settled",
];
const BACK: [&str; 7] =
    ["undoing", "undone-2", "undone-1", "undone", "rebooting-back", "verifying-old", "settled"];

/// Between all steps, on both ways, and while held.
#[test]
fn at_every_step() {
    let mut cases = Vec::new();
    for blow in [Blow::Cut, Blow::Kill] {
        cases.extend(BACK.map(|place| Case::back(Place::Failpoint(place), &[blow])));
    }
    cases.push(Case::held(Place::Failpoint("undone-2"), &[Blow::Cut]));
    cases.push(Case::held(Place::Failpoint("verifying-old"), &[Blow::Kill]));
    for blow in [Blow::Cut, Blow::Kill] {
        cases.extend(FORWARD.map(|place| Case::forward(Place::Failpoint(place), &[blow])));
    }
    run(&site(Base::Trixie, 8), cases);
}

/// While these scripts of the package run, on the way forward and on the way back.
fn in_scripts(manager: Manager, forward: &[&'static str], back: &[&'static str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for blow in [Blow::Cut, Blow::Kill] {
        cases.extend(back.iter().map(|script| Case::back(Place::ScriptOfUndo(script), &[blow])));
        cases.extend(forward.iter().map(|script| Case::forward(Place::Script(script), &[blow])));
    }
    cases.into_iter().map(|case| case.with(manager)).collect()
}

/// In the middle of a package transaction. A package manager outlives an agent that is killed, and the next agent waits
/// for it; nothing outlives the power.
#[test]
fn in_the_middle_of_a_transaction() {
    let all = ["pre", "post", "preun", "postun"];
    let both = [Manager::Dnf, Manager::Apt].map(|manager| in_scripts(manager, &all, &["post", "preun"]));
    run(&site(Base::Trixie, 8), both.concat());
}

#[test]
fn in_the_middle_of_a_transaction_of_dnf5() {
    run(&site(Base::Forky, 4), in_scripts(Manager::Dnf5, &["post", "preun"], &["post"]));
}

/// What is interrupted again and again is given up: the node goes back, or is held where that is interrupted, too.
#[test]
fn three_times_at_the_same_step() {
    use Blow::{Cut, Kill};
    let gives_up = |case: Case, end: End, is, says, reboots| Case { end, is, says, reboots, ..case };
    run(
        &site(Base::Trixie, 4),
        vec![
            gives_up(
                Case::back(Place::Failpoint("verifying-old"), &[Kill, Kill, Cut]),
                End::Held,
                OLD,
                "interrupted 3 times while verifying-old",
                2,
            ),
            gives_up(
                Case::back(Place::Failpoint("undone-2"), &[Kill, Cut, Kill]),
                End::Held,
                "/opt/app/2 tool=1.0 tool-data=1.0",
                "interrupted 3 times while undoing",
                1,
            ),
            gives_up(
                Case::forward(Place::Failpoint("verifying"), &[Kill, Kill, Kill]),
                End::RolledBack,
                OLD,
                "interrupted 3 times while verifying",
                2,
            ),
            gives_up(
                Case::forward(Place::Failpoint("recorded-2"), &[Kill, Cut, Kill]),
                End::RolledBack,
                OLD,
                "interrupted 3 times while applying",
                1,
            ),
        ],
    );
}

/// A unit that never stops holds up a reboot for the manifest's time, and an inhibitor for none.
#[test]
fn nothing_keeps_the_node_from_rebooting() {
    let site = site(Base::Trixie, 2);
    let hangs = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
                 ExecStop=/bin/sleep infinity\nTimeoutStopSec=infinity\n";
    for node in site.cluster.compute_nodes() {
        node.write_file("/etc/systemd/system/hangs.service", hangs, 0o644).unwrap();
    }
    let [hanging, inhibited] = site.cluster.compute_nodes() else { panic!("two nodes") };
    hanging.run(&["systemctl", "start", "hangs"]).unwrap();
    let inhibit = ["systemd-inhibit", "--what=shutdown", "--mode=block", "sleep", "infinity"];
    let _inhibitor = inhibited.spawn(&inhibit).unwrap();
    let inhibitors = || inhibited.run(&["systemd-inhibit", "--list"]);
    until("an inhibitor", MINUTES, inhibitors, |list| list.contains("sleep infinity")).unwrap();

    let [by_force, orderly] = [(GOOD_BY_FORCE, "by-force"), (GOOD, "orderly")].map(|(verify, name)| Case {
        verify,
        name: name.into(),
        ..Case::forward(Place::Nowhere, &[])
    });
    for (node, case) in [(hanging, by_force), (inhibited, orderly)] {
        Attempt::begin(&site, node, &case).unwrap().see_through().unwrap();
    }
    let journal = hanging.journal("hangs").unwrap();
    assert!(journal.contains("Stopping hangs") && !journal.contains("Stopped hangs"), "{journal}");
    let journal = inhibited.journal("slurm-rollout-agent").unwrap();
    assert!(journal.contains("Stopped slurm-rollout-agent"), "an orderly shutdown: {journal}");
}
