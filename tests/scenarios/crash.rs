//! Scenario 6: the agent is killed, or the node's power is cut, at every place that can matter. The node ends updated
//! or rolled back, never in between, and is never lost without a Reason.
//!
//! Each case is one order on one node. Each node of a cluster takes the next case as soon as it is done with one. All
//! failures are reported at the end.

mod attempt;
mod case;

use std::sync::Mutex;
use std::time::Instant;

use crate::prelude::*;
use attempt::Attempt;
use case::{Blow, Case, End, Manager, Place, Proof};

/// Names the script of the package at which its transaction stops for a while.
const SLEEP_IN: &str = "/root/sleep-in";
/// Exists once the transaction has stopped.
const SLEEPS: &str = "/root/sleeps";

const OLD_PACKAGES: &str = "/opt/app/1 tool=1.0 tool-data=1.0";
const NEW_PACKAGES: &str = "/opt/app/2 tool=1.1 tool-data=1.1";

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

/// Boots a cluster with 1.0 of these packages, both as RPM and as deb.
fn site(base: Base, nodes: u8) -> Site {
    let rpm = packages("rpm-tool", |version| format!("tool-data = {version}"));
    let deb = packages("deb-tool", |version| format!("tool-data (= {version})"));
    let (rpm, deb) = (RpmRepository::build(&rpm).unwrap(), DebRepository::build(&deb).unwrap());
    let spec = ClusterSpec {
        base,
        nodes,
        // Slurm must not give up on a node: late.rs shows this.
        resume_timeout_s: 900,
        // A slurmd that should not have started would make its node IDLE at once.
        return_to_service: 2,
        prepare: prepare_nodes(move |root| {
            rpm.install_in(root)?;
            deb.install_in(root)?;
            root.run(&["dnf", "-y", "install", "tool-1.0"])?;
            root.run(&["apt-get", "-qq", "-y", "install", "tool=1.0", "tool-data=1.0"])?;
            root.run(&["mkdir", "-p", "/opt/app/1", "/opt/app/2"])?;
            root.run(&["ln", "-s", "/opt/app/1", "/opt/app/current"]).map(drop)
        }),
        ..ClusterSpec::default()
    };
    Site::start(&Product::build_with_failpoints().unwrap(), spec).unwrap()
}

/// Runs every case on one of the nodes and fails in the end if any has failed.
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
                        // The state of the node is unknown now.
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

const FORWARD: [&str; 12] = [
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
    "registering",
    "settled",
];
const BACK: [&str; 7] =
    ["undoing", "undone-2", "undone-1", "undone", "rebooting-back", "verifying-old", "settled"];

/// Between all steps, forward and back, and while held.
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

/// In the middle of a package transaction. A package manager outlives a killed agent, and the next agent waits for it;
/// nothing outlives a power cut.
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

/// A step that is interrupted again and again is given up: the node goes back, or is held if that is interrupted, too.
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
                OLD_PACKAGES,
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
                OLD_PACKAGES,
                "interrupted 3 times while verifying",
                2,
            ),
            gives_up(
                Case::forward(Place::Failpoint("recorded-2"), &[Kill, Cut, Kill]),
                End::RolledBack,
                OLD_PACKAGES,
                "interrupted 3 times while applying",
                1,
            ),
        ],
    );
}

/// A unit that never stops delays a reboot by the manifest's time limit, and an inhibitor not at all.
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

    let [by_force, orderly] = [(Proof::GoodByForce, "by-force"), (Proof::Good, "orderly")]
        .map(|(proof, name)| Case { proof, name: name.into(), ..Case::forward(Place::Nowhere, &[]) });
    in_cases(|cases| {
        cases.check("a unit that hangs", || {
            Attempt::begin(&site, hanging, &by_force).unwrap().see_through().unwrap();
            let journal = hanging.wait_journal("hangs", "Stopping hangs").unwrap();
            assert!(!journal.contains("Stopped hangs"), "{journal}");
        });
        cases.check("an inhibitor", || {
            Attempt::begin(&site, inhibited, &orderly).unwrap().see_through().unwrap();
            // An orderly shutdown.
            inhibited.wait_journal(AGENT_UNIT, "Stopped slurm-rollout-agent").unwrap();
        });
    });
}
