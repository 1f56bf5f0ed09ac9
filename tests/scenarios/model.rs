//! The model of slurmctld in `sim`, against a real one of each version: after the same steps both show the same nodes.
//!
//! Each script has a node of its own, so that all scripts go on at the same time.

use crate::prelude::*;
use rollout_core::slurm::config::Release;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::node::parse::parse_nodes;
use rollout_sim::slurm::commands::{Reboot, Update};
use rollout_sim::slurm::job::Submission;
use rollout_sim::slurm::node::{Next, Node as ModelNode};
use rollout_sim::slurm::registration::Registration;
use rollout_sim::slurm::{By, Config, News, Partition, Slurm};

/// Flags that one of the two shows for a moment only, or that depend on how often slurmctld looks.
const FLEETING: [&str; 4] = ["COMPLETING", "PLANNED", "NOT_RESPONDING", "POWERING_UP"];

/// Time from one step to the next in the model, in milliseconds.
const STEP_MS: u64 = 60_000;

/// Time within which Slurm shows what the model shows, and for which it goes on to.
const SETTLED: Duration = Duration::from_secs(45);
const LASTING: Duration = Duration::from_secs(3);

/// A change of one node.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A job of an hour begins on the node, and leaves no room for another one.
    Job,
    EndJob,
    /// `scontrol reboot`, with its words before the node.
    Reboot(&'static str),
    Cancel,
    Drain(&'static str),
    Undrain,
    Resume,
    Down(&'static str),
    /// The power is cut, and slurmd registers after the boot.
    Boot,
    /// slurmd starts anew without a boot.
    RestartSlurmd,
}

use Step::{Boot, Cancel, Down, Drain, EndJob, Job, RestartSlurmd, Resume, Undrain};

const RESUME: Step = Step::Reboot("ASAP nextstate=resume reason=driver");
const ASAP: Step = Step::Reboot("ASAP reason=driver");
const PLAIN: Step = Step::Reboot("reason=driver");
const UNNAMED: Step = Step::Reboot("");
const LATER_RESUME: Step = Step::Reboot("nextstate=resume reason=driver");

/// The ways of started rollouts, and of the admins beside them.
const SCRIPTS: [&[Step]; 12] = [
    &[Job, RESUME, EndJob, RestartSlurmd, Boot, Job],
    &[Job, RESUME, Cancel, RESUME, Drain("bad DIMM"), Cancel],
    &[Drain("bad DIMM"), UNNAMED, Boot, Resume],
    &[Drain("bad DIMM"), RESUME, Boot],
    &[Job, Drain("bad DIMM"), RESUME, Cancel],
    &[Job, ASAP, Drain("bad DIMM"), EndJob, Boot],
    &[Job, PLAIN, EndJob, Boot],
    &[Job, LATER_RESUME, Drain("bad DIMM"), EndJob, Boot],
    &[Job, Boot, RESUME, Boot],
    &[Down("bad DIMM"), RESUME, Boot],
    &[Job, UNNAMED, Down("bad DIMM"), Boot],
    &[Job, RESUME, Undrain, EndJob, Resume, Boot],
];

struct Both {
    cluster: Cluster,
    /// Ids of the jobs, by node.
    jobs: Vec<Option<(String, usize)>>,
    model: Slurm,
    /// Nodes whose power was cut.
    off: Vec<usize>,
    /// Time of the last boot, by node.
    booted_ms: Vec<u64>,
    now_ms: u64,
}

fn name_of(index: usize) -> String {
    format!("cn{:02}", index + 1)
}

impl Both {
    fn start(base: Base, release: Release) -> Self {
        let prepare = prepare(|root| root.write_file(NO_PROGRAM, DOES_NOTHING, 0o755));
        let cluster = Cluster::start(&ClusterSpec {
            base,
            nodes: u8::try_from(SCRIPTS.len()).unwrap(),
            reboot_program: NO_PROGRAM.into(),
            reboot_from_controller: true,
            slurmctld_parameters: vec!["power_save_interval=1".into()],
            resume_timeout_s: 3000,
            slurm_conf_extra: "SlurmdTimeout=3000\nKillWait=1\n".into(),
            prepare,
            ..ClusterSpec::default()
        });
        let cluster = cluster.unwrap();
        let config = Config {
            release,
            resume_timeout_ms: 3_000_000,
            slurmd_timeout_ms: 3_000_000,
            return_to_service: 1,
            kill_wait_ms: 1_000,
            has_accounting: false,
        };
        let nodes = (0..SCRIPTS.len()).map(|index| ModelNode::new(name_of(index), 1, 0)).collect();
        let partition = Partition { name: "lab".into(), nodes: (0..SCRIPTS.len()).collect() };
        let model = Slurm::new(config, nodes, vec![partition]);
        let (jobs, booted_ms) = (vec![None; SCRIPTS.len()], vec![0; SCRIPTS.len()]);
        Self { cluster, jobs, model, off: Vec::new(), booted_ms, now_ms: STEP_MS }
    }

    fn take(&mut self, index: usize, step: Step) {
        let (name, nodes, now_ms) = (name_of(index), [index], self.now_ms);
        let scontrol = |words: &str| {
            let words: Vec<&str> = words.split('|').filter(|word| !word.is_empty()).collect();
            self.cluster.scontrol(&words).unwrap();
        };
        let update = |words: &str| scontrol(&format!("update|nodename={name}|{words}"));
        let by = By::Others;
        match step {
            Job => {
                let model_job = self.model.jobs.len();
                self.model.submit(job_on(index, now_ms));
                let wrap = ["--wrap", "sleep 3600"];
                let argv = [
                    "sbatch",
                    "--parsable",
                    "--no-requeue",
                    "--time=60",
                    "--chdir=/tmp",
                    "--output=/dev/null",
                ];
                let argv = [&argv[..], &["--exclusive", "-w", &name], &wrap].concat();
                let id = self.cluster.controller().run(&argv).unwrap().trim().to_owned();
                self.jobs[index] = Some((id, model_job));
            }
            EndJob => {
                let (id, model_job) = self.jobs[index].take().unwrap();
                self.cluster.controller().run(&["scancel", &id]).unwrap();
                self.model.end_early(model_job, false, by, now_ms).unwrap();
            }
            Step::Reboot(words) => {
                scontrol(&format!("reboot|{}|{name}", words.replace(' ', "|")));
                let reason =
                    words.split(' ').find_map(|word| word.strip_prefix("reason=")).map(str::to_owned);
                let next = words.contains("nextstate=resume").then_some(Next::Resume);
                let call = Reboot { asap: words.contains("ASAP"), next, reason, by };
                self.model.reboot(&nodes, &call, now_ms);
            }
            Cancel => {
                scontrol(&format!("cancel_reboot|{name}"));
                self.model.cancel_reboot(&nodes, by);
            }
            Drain(reason) => {
                update(&format!("state=drain|reason={reason}"));
                self.model.update(&nodes, &Update::Drain { reason: reason.into() }, by, now_ms).unwrap();
            }
            Undrain => {
                update("state=undrain");
                self.model.update(&nodes, &Update::Undrain, by, now_ms).unwrap();
            }
            Resume => {
                update("state=resume");
                self.model.update(&nodes, &Update::Resume, by, now_ms).unwrap();
            }
            Down(reason) => {
                update(&format!("state=down|reason={reason}"));
                self.model.update(&nodes, &Update::Down { reason: reason.into() }, by, now_ms).unwrap();
            }
            Boot => {
                self.cluster.node(&name).power_cut();
                self.off.push(index);
            }
            RestartSlurmd => {
                self.cluster.node(&name).run(&["systemctl", "restart", "slurmd"]).unwrap();
                self.register(index);
            }
        }
    }

    fn register(&mut self, index: usize) {
        let (boot_ms, slurmd_start_ms) = (self.booted_ms[index], self.now_ms);
        self.model.register(index, Registration { boot_ms, slurmd_start_ms, is_valid: true }, self.now_ms);
    }

    /// Boots the nodes whose power was cut. Slurm notices a boot by its time, in seconds, if no answer of the node is as
    /// late.
    fn power_on(&mut self) {
        if !self.off.is_empty() {
            std::thread::sleep(LASTING);
        }
        for index in std::mem::take(&mut self.off) {
            self.cluster.node(&name_of(index)).power_on();
            self.booted_ms[index] = self.now_ms;
            self.register(index);
        }
    }

    /// Lets the model do all that follows from the last step without a boot.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.now_ms += STEP_MS;
            self.model.schedule(self.now_ms);
            self.model.issue(self.now_ms);
            for news in std::mem::take(&mut self.model.news) {
                match news {
                    News::LeavesAt { job, .. } => self.model.leave(job, self.now_ms),
                    News::AsksToRegister { node } => self.register(node),
                    _ => {}
                }
            }
        }
    }

    /// Waits until Slurm shows what the model shows, and goes on to. Returns the differences, a line for each.
    fn differences(&self) -> Vec<String> {
        let expected: Vec<String> = self.model.show_nodes(self.now_ms).iter().map(text).collect();
        let shown = || {
            let shown = self.cluster.scontrol(&["show", "node", "-o"])?;
            Ok(parse_nodes(&shown).iter().map(text).collect::<Vec<_>>())
        };
        if until("the model's state", SETTLED, shown, |shown| *shown == expected).is_ok() {
            std::thread::sleep(LASTING);
        }
        let shown = shown().unwrap();
        let differ = shown.iter().zip(&expected).filter(|(shown, expected)| shown != expected);
        differ.map(|(shown, expected)| format!("Slurm: {shown}; model: {expected}")).collect()
    }
}

fn job_on(index: usize, at_ms: u64) -> Submission {
    Submission {
        at_ms,
        task: None,
        uid: 0,
        partition: 0,
        nodes: 1,
        cpus: 1,
        exclusive: true,
        limit_ms: Some(3_600_000),
        needs_ms: 3_600_000,
        epilog_ms: 0,
        requeueable: false,
        only_on: Some(index),
        is_urgent: false,
    }
}

/// Returns a node without what differs by chance.
fn text(info: &NodeInfo) -> String {
    let mut state: Vec<&str> = info.state.iter().map(String::as_str).collect();
    state.retain(|word| !FLEETING.contains(word));
    state.sort_unstable();
    format!("{} {}: {}", info.name, state.join("+"), info.reason.as_deref().unwrap_or("no reason"))
}

fn shows_what_slurm_shows(base: Base, year: u16, month: u16) {
    let mut both = Both::start(base, Release { year, month });
    let longest = SCRIPTS.iter().map(|script| script.len()).max().unwrap();
    let mut differences = Vec::new();
    for at in 0..longest {
        for (index, script) in SCRIPTS.iter().enumerate() {
            if let Some(step) = script.get(at) {
                both.take(index, *step);
            }
        }
        both.power_on();
        both.settle();
        differences.extend(both.differences().into_iter().map(|text| format!("step {at}: {text}")));
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn shows_what_slurm_22_05_shows() {
    shows_what_slurm_shows(Base::Bookworm, 22, 5);
}

#[test]
fn shows_what_slurm_24_11_shows() {
    shows_what_slurm_shows(Base::Trixie, 24, 11);
}

#[test]
fn shows_what_slurm_26_05_shows() {
    shows_what_slurm_shows(Base::Forky, 26, 5);
}
