//! The only loop and the only writer. [`Agent`] decides about each input; the driver makes the writes durable, sends
//! the answer, and has the executor carry out the action.

use crate::config::Config;
use crate::daemon::boot_restored::BootRestored;
use crate::daemon::channel::{Published, Request};
use crate::daemon::execute::Executor;
use crate::daemon::rehearse::{Begin, LastRehearsal};
use crate::daemon::wait_for_instructions;
use crate::log;
use crate::slurm::node::SlurmNode;
use crate::state::StateError;
use crate::state::ledger_file::LedgerFile;
use crate::state::staged_file::StagedFile;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::{Action, Refused};
use rollout_core::agent::{Agent, Outcome, Reaction, Write};
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{OrderId, OrderKind, Rehearse};
use rollout_core::protocol::rehearsal::Report;
use rollout_core::rollout::manifest::DesiredState;
use rollout_host::clock;
use sd_notify::NotifyState;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Time for which orders wait for an order that is about to end. The controller waits for an answer a little longer.
const ABOUT_TO_END: Duration = Duration::from_secs(2);

/// Pause before an agent that cannot write its ledger ends. systemd starts it again at once.
const TROUBLE_PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(60) };

/// Pause before a released node is given back again whose drain could not be kept. Each attempt lasts half an hour by
/// itself while slurmctld is away.
const GIVE_BACK_PAUSE: Duration =
    if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(60) };

/// The thread that asks Slurm whether this node will get instructions.
#[derive(Debug)]
pub(crate) struct WaitForInstructions {
    /// Ends with the reason once none will come.
    pub(crate) asking: JoinHandle<Option<String>>,
    /// Ends the thread early.
    pub(crate) instructed: Arc<AtomicBool>,
}

impl WaitForInstructions {
    pub(crate) fn start(config: Config, slurm: SlurmNode) -> Self {
        let instructed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&instructed);
        let ask = move || wait_for_instructions::until_nothing_is_expected(&config, &slurm, &flag);
        Self { asking: tokio::task::spawn_blocking(ask), instructed }
    }
}

pub(crate) struct Driver {
    agent: Agent,
    executor: Executor,
    ledger_file: LedgerFile,
    staged_file: StagedFile,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Published>,
    waiting: Option<WaitForInstructions>,
    last_rehearsal: LastRehearsal,
}

/// The next input while no action is under way.
enum Input {
    Request(Box<Request>),
    /// No instructions will come, for this reason.
    NothingExpected(String),
    /// An action that failed is begun again.
    Again(Action),
}

impl Driver {
    pub(crate) fn new(
        agent: Agent,
        executor: Executor,
        state_dir: &Path,
        requests: mpsc::Receiver<Request>,
        publish: watch::Sender<Published>,
        waiting: Option<WaitForInstructions>,
    ) -> Self {
        let (ledger_file, staged_file) = (LedgerFile::in_dir(state_dir), StagedFile::in_dir(state_dir));
        let last_rehearsal = LastRehearsal::default();
        Self { agent, executor, ledger_file, staged_file, requests, publish, waiting, last_rehearsal }
    }

    /// Sets the place where others find the last rehearsal.
    pub(crate) fn with_last_rehearsal(self, last_rehearsal: LastRehearsal) -> Self {
        Self { last_rehearsal, ..self }
    }

    /// Continues the order under way, then takes orders, until the server is gone.
    ///
    /// # Errors
    /// Returns the reason if the state cannot be written. Nothing further may be done then; systemd starts the agent
    /// again.
    pub(crate) async fn drive(mut self) -> Result<(), StateError> {
        let driven = self.run().await;
        if let Err(error) = &driven {
            self.report_trouble(error).await;
        }
        driven
    }

    async fn run(&mut self) -> Result<(), StateError> {
        self.ledger_file.sweep();
        if let Err(error) = self.ledger_file.keep_reserve() {
            log::warning(&error.to_string());
        }
        self.publish();
        let resumed = self.agent.resume(clock::now_s());
        let mut action = self.follow(resumed)?;
        loop {
            self.publish();
            action = match action {
                Some(action) => self.act(action).await?,
                None => match self.next_input().await {
                    Some(Input::Request(request)) => self.take(*request, None),
                    Some(Input::NothingExpected(why)) => {
                        log::info(&format!("slurmd may start: {why}"));
                        let admitted = self.agent.nothing_expected();
                        self.waiting = None;
                        self.follow(Ok(admitted))?
                    }
                    Some(Input::Again(action)) => Some(action),
                    None => return Ok(()),
                },
            };
        }
    }

    /// Reports that the ledger cannot be written: in the log, in the status, and to Slurm if an order is under way.
    /// Refuses orders meanwhile.
    async fn report_trouble(&mut self, error: &StateError) {
        let what = format!("the agent cannot go on: {error}");
        log::error(&what);
        if let Some(ledger) = self.agent.ledger().filter(|ledger| !ledger.is_settled()) {
            self.executor.give_reason(ledger, &what);
        }
        self.publish.send_replace(Published { trouble: Some(what.clone()), ..Published::of(&self.agent) });
        let refuse = async {
            while let Some(Request { answer, .. }) = self.requests.recv().await {
                let _ = answer.send(error.refusal());
            }
        };
        let _ = tokio::time::timeout(TROUBLE_PAUSE, refuse).await;
    }

    async fn next_input(&mut self) -> Option<Input> {
        let unfinished = self.agent.unfinished();
        let waiting = self.waiting.as_mut();
        let told = async {
            match waiting {
                Some(waiting) => (&mut waiting.asking).await.unwrap_or_else(|error| Some(error.to_string())),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = self.requests.recv() => request.map(Box::new).map(Input::Request),
            why = told => Some(Input::NothingExpected(why.unwrap_or_default())),
            () = tokio::time::sleep(GIVE_BACK_PAUSE), if unfinished.is_some() => unfinished.map(Input::Again),
        }
    }

    /// Takes an order: its writes first, then the answer. Returns the action, which comes last.
    fn take(
        &mut self,
        Request { order, answer }: Request,
        under_way: Option<&BootRestored>,
    ) -> Option<Action> {
        if answer.is_closed() {
            // It may have waited until the node is in service again. The sender does not know its fate, and finds out.
            log::warning(&format!("order {} is dropped: its sender has hung up", order.id));
            return None;
        }
        let reaction = self.agent.order(&order, clock::now_s());
        if let Err(error) = self.persist_order(reaction.writes) {
            let _ = answer.send(error.refusal());
            return None;
        }
        if let (Some(_), Some(ledger)) = (reaction.action, self.agent.ledger()) {
            log::info(&format!("{}: order {} taken", ledger.subject(), ledger.order.id));
        }
        if let Some(waiting) = self.waiting.take_if(|_| !self.agent.waits_for_instructions()) {
            waiting.instructed.store(true, Ordering::SeqCst);
        }
        if let (true, Some(boot_restored)) = (reaction.boot_restored, under_way) {
            boot_restored.notify();
        }
        if reaction.action.is_some() {
            self.last_rehearsal.stop();
        }
        let content = match order.kind {
            OrderKind::Rehearse(Rehearse { desired }) if reaction.rehearse => {
                self.rehearse(order.id, desired).map_or(reaction.answer, Some)
            }
            _ => reaction.answer,
        };
        if let Some(content) = content {
            let _ = answer.send(content);
        }
        reaction.action
    }

    /// Begins a rehearsal beside everything else. Returns the refusal if another one is under way.
    fn rehearse(&self, order: OrderId, desired: DesiredState) -> Option<Answer> {
        let stop = match self.last_rehearsal.begin(&order) {
            Begin::New(stop) => stop,
            Begin::Repeated => return None,
            Begin::Busy => {
                let why = "another rehearsal is under way".to_owned();
                return Some(Answer::Refused { why, order: None, transient: true });
            }
        };
        log::info(&format!("rehearsal {order} begins"));
        let (executor, last_rehearsal) = (self.executor.clone(), self.last_rehearsal.clone());
        tokio::spawn(async move {
            let work = tokio::task::spawn_blocking(move || executor.rehearse(&desired, &stop));
            let failed = |error: tokio::task::JoinError| Report {
                stopped: Some(error.to_string()),
                ..Report::default()
            };
            last_rehearsal.finish(order, work.await.unwrap_or_else(failed));
        });
        None
    }

    /// Carries out an action on a thread of its own, and answers orders meanwhile. Returns the action that follows.
    async fn act(&mut self, action: Action) -> Result<Option<Action>, StateError> {
        let Some(ledger) = self.agent.begin() else { return Ok(None) };
        let (executor, boot_restored) = (self.executor.clone(), BootRestored::default());
        let notice = boot_restored.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            let mut ledger = ledger;
            let outcome = executor.perform(action, &mut ledger, &notice);
            outcome.map(|outcome| (ledger, outcome))
        });
        let moment = tokio::time::sleep(ABOUT_TO_END);
        tokio::pin!(moment);
        let mut is_over = false;
        let (ledger, outcome): (Ledger, Outcome) = loop {
            let takes_orders = self.agent.takes_orders() && (is_over || !self.agent.is_about_to_end());
            tokio::select! {
                done = &mut work => match done {
                    Ok(done) => break done?,
                    // A bug: systemd starts the agent again, which continues by the ledger.
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                () = &mut moment, if !is_over => is_over = true,
                Some(request) = self.requests.recv(), if takes_orders => {
                    self.take(request, Some(&boot_restored));
                    self.publish();
                }
            }
        };
        let finished = self.agent.finished(ledger, outcome, clock::now_s());
        self.follow(finished)
    }

    /// Makes the writes of a reaction to anything but an order. Returns its action.
    fn follow(&mut self, reaction: Result<Reaction, Refused>) -> Result<Option<Action>, StateError> {
        match reaction {
            Ok(reaction) => {
                for write in reaction.writes {
                    self.persist(write)?;
                }
                Ok(reaction.action)
            }
            Err(refused) => {
                log::error(&refused.to_string());
                Ok(None)
            }
        }
    }

    /// Makes the writes of an order. The first one decides whether it is taken; a failure of a later one is repaired by
    /// the ids in the ledger.
    fn persist_order(&mut self, writes: Vec<Write>) -> Result<(), StateError> {
        let mut writes = writes.into_iter();
        if let Some(first) = writes.next() {
            let of_order = matches!(first, Write::Ledger(_));
            self.persist(first).inspect_err(|error| {
                if of_order {
                    log::error(&error.to_string())
                }
            })?;
        }
        for write in writes {
            if let Err(error) = self.persist(write) {
                log::warning(&error.to_string());
            }
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), StateError> {
        match &write {
            Write::Ledger(ledger) => self.ledger_file.write(ledger)?,
            Write::Staged(staged) => self.staged_file.write(staged)?,
            Write::Admitted => self.ledger_file.admit(&self.agent.identity().boot_id)?,
        }
        self.agent.wrote(write);
        Ok(())
    }

    fn publish(&self) {
        let status = match self.agent.ledger() {
            Some(ledger) => format!("{}: {}", ledger.subject(), ledger.phase.name()),
            None if self.agent.waits_for_instructions() => {
                "waits to be told what this node should be".to_owned()
            }
            None => "no order yet".to_owned(),
        };
        let _ = sd_notify::notify(false, &[NotifyState::Status(&status)]);
        self.publish.send_replace(Published::of(&self.agent));
    }
}

#[cfg(test)]
mod tests;
