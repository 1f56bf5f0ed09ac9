//! `reconcile`: sends the orders that Slurm lost on the way, follows up nodes whose order was sent, closes rollouts
//! that are over, and with `--wait` executes those that were started. A timer runs it, so it prints nothing if there is
//! nothing to do.

use crate::context::{Context, who};
use crate::failure::Failure;
use crate::host;
use crate::table::{json, out};
use rollout_cli::args::ReconcileArgs;
use rollout_cli::executor::{Executor, Report as Ticked, Tick};
use rollout_control::config::Config;
use rollout_control::follow_up::{FollowedUp, Scope, follow_up};
use rollout_control::hand_over::Report;
use rollout_control::reconcile::{Reconciled, ask_slurm, pre_stage_again, reconcile};
use rollout_control::store::StoreWriter;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::controllers::HostRole;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::exit_code::Exit;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Pause before nodes that are on their way are looked at again, and before Slurm is asked again meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const ASK_SLURM_AGAIN: Duration = Duration::from_secs(30);

/// Time from one tick of the executor to the next.
const TICK: Duration = Duration::from_secs(3);

pub(crate) fn run(context: &Context, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    if let Some(report) = context.host().is_no_controller() {
        return leave_it_to_controllers(context, report);
    }
    let store = context.writer()?;
    let mut printer = Printer { quiet: args.json, failed: Vec::new() };
    let mut looked = once(context, &store, args, &mut printer);
    if args.wait {
        let mut executing = Executing::new(context, &store, args)?;
        let ended = wait(context, &store, args, (&mut printer, &mut executing), &mut looked);
        executing.executor.finish()?;
        ended?;
    }
    let (ordered, followed_up) = looked?;
    Ok(outcome(ordered, &followed_up).into())
}

/// The result of looking at everything once.
type Looked = Result<(Exit, FollowedUp), Failure>;

/// Looks again and again, as long as a node under way needs a follow-up or a rollout runs.
fn wait(
    context: &Context,
    store: &StoreWriter,
    args: &ReconcileArgs,
    (printer, executing): (&mut Printer, &mut Executing),
    looked: &mut Looked,
) -> Result<(), Failure> {
    let mut asked_slurm = Instant::now();
    loop {
        let runs = executing.tick_if_due()?;
        let is_awaited = looked.as_ref().is_ok_and(|(_, followed_up)| !followed_up.on_their_way.is_empty());
        if !runs && !is_awaited {
            return Ok(());
        }
        thread::sleep(LOOK_AGAIN);
        if asked_slurm.elapsed() >= ASK_SLURM_AGAIN {
            *looked = once(context, store, args, printer);
            asked_slurm = Instant::now();
        } else if let Ok((_, followed_up)) = looked {
            match follow_up(&context.config, store, Scope::Urgent) {
                Ok(new) => {
                    printer.print_steps(&new);
                    *followed_up = new;
                }
                Err(error) => *looked = Err(error.into()),
            }
        }
        // A rollout goes on all the same, and the last failure is returned.
        if let (Err(Failure(why)), true) = (&*looked, runs) {
            executing.trouble.print_failures(std::slice::from_ref(why));
        }
    }
}

/// The executor of started rollouts, and its reports.
struct Executing {
    executor: Executor,
    printer: Printer,
    /// Prints the failures of everything else, while a rollout runs.
    trouble: Printer,
    ticked: Option<Instant>,
    /// A rollout needs the executor, and this process is it.
    runs: bool,
}

impl Executing {
    fn new(context: &Context, store: &StoreWriter, args: &ReconcileArgs) -> Result<Self, Failure> {
        let store = store.by(&format!("reconcile by {}", who()));
        let executor = Executor::new(context.config.clone(), context.config_path.clone(), store)?;
        let printer = || Printer { quiet: args.json, failed: Vec::new() };
        Ok(Self { executor, printer: printer(), trouble: printer(), ticked: None, runs: false })
    }

    /// Has the executor tick if it is time. Returns whether it is to tick again.
    fn tick_if_due(&mut self) -> Result<bool, Failure> {
        if self.ticked.is_some_and(|ticked| ticked.elapsed() < TICK) {
            return Ok(self.runs);
        }
        self.runs = match self.executor.tick() {
            Ok(Tick::Idle | Tick::Held(_)) => false,
            Ok(Tick::Done(Ticked { done, failed })) => {
                self.printer.print_done(&done);
                self.printer.print_failures(&failed);
                true
            }
            // The rollout may still need it.
            Err(error) if self.runs => {
                self.printer.print_failures(&[error.to_string()]);
                true
            }
            Err(error) => return Err(error.into()),
        };
        self.ticked = Some(Instant::now());
        Ok(self.runs)
    }
}

/// Returns the outcome of the last look. Earlier failures have been overcome, or are among the last ones.
fn outcome(ordered: Exit, followed_up: &FollowedUp) -> Exit {
    if followed_up.failed.is_empty() { ordered } else { Exit::SomeNodesFailed }
}

/// Reports that this host is no controller. The timer starts this every half minute, and reports it once.
fn leave_it_to_controllers(context: &Context, report: String) -> Result<ExitCode, Failure> {
    match host::unit_directory() {
        Some(directory) if context.host().role != HostRole::Unknown => {
            if host::is_news(&directory, &report)? {
                out(&format!("{report}\n"));
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure(report)),
    }
}

/// Does everything once.
fn once(context: &Context, store: &StoreWriter, args: &ReconcileArgs, printer: &mut Printer) -> Looked {
    // Trouble with one part is told, and keeps no other part from its work.
    let infos = ask_slurm(&context.config, store);
    let mut trouble = pre_stage_missing(context, store, args);
    let scope = infos.as_ref().map_or(Scope::Urgent, |infos| Scope::All(infos));
    let followed_up = follow_up(&context.config, store, scope);
    followed_up.iter().for_each(|followed_up| printer.print_steps(followed_up));
    let mut ordered = Ok(Exit::Success);
    match infos {
        Ok(infos) => {
            let handed_over =
                infos.iter().filter(|info| info.is_handed_over()).map(|info| info.name.clone()).collect();
            ordered = order_lost(context, store, infos, args);
            trouble.extend(tidy(&context.config, store, &handed_over));
        }
        Err(error) => trouble.push(error.into()),
    }
    let outcome = ordered.and_then(|ordered| Ok((ordered, followed_up?)));
    // The caller reports one failure.
    let reported = if outcome.is_ok() { trouble.pop() } else { None };
    for Failure(why) in &trouble {
        eprintln!("slurm-rollout: {why}");
    }
    reported.map_or(outcome, Err)
}

fn pre_stage_missing(context: &Context, store: &StoreWriter, args: &ReconcileArgs) -> Vec<Failure> {
    let mut trouble = Vec::new();
    match pre_stage_again(&context.config, store) {
        Err(error) => trouble.push(error.into()),
        Ok(rollouts) => {
            for (rollout, told) in rollouts {
                match told {
                    Ok(told) if !told.nodes.is_empty() && !args.json => {
                        out(&format!("{rollout}: given to the agents of {}\n", told.nodes));
                    }
                    Ok(_) => {}
                    Err(error) => eprintln!("slurm-rollout: {rollout}: not given to agents: {error}"),
                }
            }
        }
    }
    trouble
}

fn order_lost(
    context: &Context,
    store: &StoreWriter,
    infos: Vec<NodeInfo>,
    args: &ReconcileArgs,
) -> Result<Exit, Failure> {
    let by = format!("reconcile by {}", who());
    match reconcile(&context.config, &store.by(&by), &by, infos)? {
        Reconciled::NothingLost if args.json => print_report(&NodeSet::default(), &Report::default(), args),
        Reconciled::NothingLost => Ok(Exit::Success),
        Reconciled::NotOurs { nodes, why } => Err(Failure(format!("{nodes}: not ordered: {why}"))),
        Reconciled::Ordered { nodes, report } => print_report(&nodes, &report, args),
    }
}

/// Closes rollouts that are over, and archives those whose retention is over, even if one cannot be closed.
fn tidy(config: &Config, store: &StoreWriter, handed_over: &NodeSet) -> Vec<Failure> {
    let closed = store.close_settled(handed_over);
    let archived = store.archive_expired(config.retention(), config.delete_archived_after());
    for error in archived.iter().flat_map(|archived| &archived.failed) {
        eprintln!("slurm-rollout: warning: {error}");
    }
    closed.err().into_iter().chain(archived.err()).map(Failure::from).collect()
}

/// Prints the steps of one look after another.
struct Printer {
    /// Prints failures only.
    quiet: bool,
    /// Failures of the last look. One that lasts is printed once.
    failed: Vec<String>,
}

impl Printer {
    fn print_steps(&mut self, followed_up: &FollowedUp) {
        self.print_done(&followed_up.done);
        self.print_failures(&followed_up.failed);
    }

    fn print_done(&self, done: &[String]) {
        for line in done.iter().filter(|_| !self.quiet) {
            out(&format!("{line}\n"));
        }
    }

    fn print_failures(&mut self, failed: &[String]) {
        for line in self.new_failures(failed) {
            eprintln!("slurm-rollout: {line}");
        }
    }

    fn new_failures(&mut self, failed: &[String]) -> Vec<String> {
        let before = std::mem::replace(&mut self.failed, failed.to_vec());
        failed.iter().filter(|line| !before.contains(line)).cloned().collect()
    }
}

fn print_report(nodes: &NodeSet, report: &Report, args: &ReconcileArgs) -> Result<Exit, Failure> {
    let ordered: NodeSet = report.ordered.iter().cloned().collect();
    for warning in &report.warnings {
        eprintln!("slurm-rollout: warning: {warning}");
    }
    let not_ordered = report.not_ordered();
    if args.json {
        json(&serde_json::json!({ "lost": nodes, "ordered": ordered, "failed": not_ordered }))?;
    } else if !ordered.is_empty() {
        out(&format!("{ordered}: handed over by Slurm and never told: ordered now\n"));
    }
    for (why, nodes) in &report.skipped {
        eprintln!("slurm-rollout: {}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe());
    }
    for (why, nodes) in &not_ordered {
        eprintln!("slurm-rollout: {nodes}: {why}");
    }
    Ok(if not_ordered.is_empty() { Exit::Success } else { Exit::SomeNodesFailed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::agent::phase::Phase;
    use rollout_core::protocol::order::OrderId;
    use rollout_core::rollout::journal::Entry;
    use rollout_core::rollout::manifest::Manifest;
    use std::fs;

    #[test]
    fn a_failure_that_lasts_is_printed_once() {
        let mut printer = Printer { quiet: false, failed: Vec::new() };
        for (failed, printed) in [
            (&["n1: no such file", "n2: busy"][..], &["n1: no such file", "n2: busy"][..]),
            (&["n1: no such file", "n2: busy"], &[]),
            (&["n1: no such file", "n2: read-only"], &["n2: read-only"]),
            (&[], &[]),
            (&["n1: no such file"], &["n1: no such file"]),
        ] {
            let failed: Vec<String> = failed.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(printer.new_failures(&failed), printed);
        }
    }

    #[test]
    fn a_rollout_that_cannot_be_closed_keeps_no_other_one_from_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreWriter::open(dir.path(), "test").unwrap();
        let settle = |name: &str| {
            let text = format!(
                "name = '{name}'\nnodes = 'n1'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
            );
            store.stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
            let (nodes, order) = (NodeSet::parse("n1").unwrap(), OrderId::from_random(7));
            let ordering = Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: u64::MAX };
            let seen = Entry::Seen { nodes, order, phase: Phase::Updated, error: None, notes: Vec::new() };
            store.record(Some(name), vec![ordering, seen]).unwrap();
        };
        settle("old");
        store.close_settled(&NodeSet::default()).unwrap();
        settle("new");
        for taken in ["closed/new", "archive/new/by-hand"] {
            fs::create_dir_all(dir.path().join(taken)).unwrap();
        }
        let config = Config { archive_beyond: 0, ..Config::default() };
        let trouble = tidy(&config, &store, &NodeSet::default());
        assert!(matches!(&trouble[..], [Failure(why)] if why.contains("closed/new")), "{trouble:?}");
        assert!(dir.path().join("archive/old").is_dir());
    }

    #[test]
    fn a_step_that_failed_shows_in_the_exit_code() {
        let failed = FollowedUp { failed: vec!["n1: busy".to_owned()], ..FollowedUp::default() };
        for (ordered, followed_up, code) in [
            (Exit::Success, FollowedUp::default(), 0),
            (Exit::Success, failed.clone(), 1),
            (Exit::SomeNodesFailed, FollowedUp::default(), 1),
            (Exit::SomeNodesFailed, failed, 1),
        ] {
            assert_eq!(outcome(ordered, &followed_up).code(), code, "{followed_up:?}");
        }
    }
}
