//! The only loop and the only writer: event, `step`, ledger on disk, action, and again. It decides nothing itself.

use crate::config::Config;
use crate::daemon::boot_restored::PutBack;
use crate::daemon::execute::Executor;
use crate::daemon::wait_for_instructions;
use crate::log;
use crate::node;
use crate::server;
use crate::slurm::node::SlurmNode;
use crate::state::ledger_file::{LedgerError, LedgerFile};
use crate::state::staged_file::StagedFile;
use rollout_core::agent::ledger::{Ledger, Verdict, consider};
use rollout_core::agent::phase::{Action, Event, Phase, step};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_host::clock;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How many orders may wait for the loop. It answers them in milliseconds.
const QUEUE: usize = 16;

/// How long a thread that opened a credential or carried out an action stays for the next one.
const THREAD_STAYS: Duration = Duration::from_secs(1);

/// An order from the server, and where its answer goes.
pub(crate) type Request = (Order, oneshot::Sender<Answer>);

/// What the server may know.
#[derive(Debug, Clone, Default)]
pub(crate) enum Published {
    /// This node never had an order.
    #[default]
    NoOrder,
    /// The node has booted, keeps no ledger, and waits to be told what it should be.
    Awaits,
    /// The ledger as it is on disk.
    Ledger(Arc<Ledger>),
    /// The ledger cannot be read, and why.
    Trouble(Arc<str>),
}

/// The daemon, until SIGTERM or SIGINT. What is being done then is gone on with by the next agent. `stands_in` says why
/// it does so for the installed one, where it is that agent's copy.
pub(crate) fn run_until_terminated(
    config: Config,
    stands_in: Option<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().thread_keep_alive(THREAD_STAYS).build()?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = serve_and_drive(config, stands_in) => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    // An action that is under way is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve_and_drive(
    config: Config,
    stands_in: Option<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let name = node::name(&config)?;
    let names = NodeSet::from_names([name.as_str()])?;
    let file = LedgerFile::in_dir(&config.state_dir);
    let boot_id = node::boot_id()?;
    let mut ledger = file.newest(&name);
    if config.is_volatile() {
        // What was settled in an earlier boot says nothing of this one.
        let of_this_boot = |ledger: &Ledger| !ledger.phase.is_settled() || ledger.boot_id == boot_id;
        ledger = ledger.map(|ledger| ledger.filter(of_this_boot));
    }
    let awaits = config.is_volatile() && matches!(ledger, Ok(None)) && !file.is_admitted(&boot_id);
    let (publish, published) = watch::channel(Published::default());
    let staged = StagedFile::in_dir(&config.state_dir);
    let (publish_staged, staged_published) = watch::channel(staged.rollout().map(str::to_owned));
    let (send, requests) = mpsc::channel(QUEUE);
    let slurm = SlurmNode::new(config.clone(), names);
    let server = server::Server::bind(
        &config,
        node::identity(&name, config.is_volatile())?,
        (published, staged_published),
        send,
        slurm.clone(),
    )?;
    let nothing_expected = awaits.then(|| {
        let (config, slurm, told) = (config.clone(), slurm.clone(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&told);
        let asks = move || wait_for_instructions::until_nothing_is_expected(&config, &slurm, &flag);
        NothingExpected { asking: tokio::task::spawn_blocking(asks), told }
    });
    let executor = Executor { slurm, file, boot_id, config, put_back: PutBack::default(), stands_in };
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    log::info(&format!("slurm-rollout-agent {} on {name}", env!("CARGO_PKG_VERSION")));
    let drive = async {
        match ledger {
            Ok(ledger) => {
                let driver =
                    Driver { executor, name, requests, publish, staged, publish_staged, nothing_expected };
                driver.drive(ledger).await
            }
            Err(error) => refuse_all(requests, &publish, &error).await,
        }
    };
    tokio::select! {
        ended = drive => ended.map_err(Into::into),
        () = server.serve() => Ok(()),
    }
}

/// With a ledger that cannot be read nobody knows what this node is: slurmd stays down and no order is taken.
async fn refuse_all(
    mut requests: mpsc::Receiver<Request>,
    publish: &watch::Sender<Published>,
    error: &LedgerError,
) -> Result<(), LedgerError> {
    log::error(&format!("no order is taken: {error}"));
    publish.send_replace(Published::Trouble(error.to_string().into()));
    let _ = sd_notify::notify(false, &[NotifyState::Status("no order is taken: the ledger cannot be read")]);
    while let Some((_, answer)) = requests.recv().await {
        let _ = answer.send(Answer::Refused { why: error.to_string() });
    }
    Ok(())
}

/// The thread that asks Slurm whether anything is expected of this node.
struct NothingExpected {
    asking: JoinHandle<Option<String>>,
    told: Arc<AtomicBool>,
}

struct Driver {
    executor: Executor,
    name: String,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Published>,
    staged: StagedFile,
    publish_staged: watch::Sender<Option<String>>,
    /// There as long as this node waits to be told what it should be; ends when nobody will.
    nothing_expected: Option<NothingExpected>,
}

impl Driver {
    async fn drive(mut self, newest: Option<Ledger>) -> Result<(), LedgerError> {
        self.executor.file.sweep();
        if let Err(error) = self.executor.file.keep_reserve() {
            log::warning(&error.to_string());
        }
        let mut current = newest;
        self.publish(current.as_ref());
        let mut event = current.as_mut().map(|ledger| ledger.started(&self.executor.boot_id));
        loop {
            let action = match (event.take(), current.as_mut()) {
                (Some(event), Some(ledger)) => match step(Some(ledger.phase), event) {
                    Ok((phase, action)) => {
                        ledger.enter(phase, &self.executor.boot_id, clock::now_s());
                        self.executor.file.write(ledger)?;
                        action
                    }
                    Err(refused) => {
                        log::error(&refused.to_string());
                        continue;
                    }
                },
                _ => {
                    let request = match self.nothing_expected.as_mut() {
                        None => self.requests.recv().await,
                        Some(nothing_expected) => tokio::select! {
                            request = self.requests.recv() => request,
                            why = &mut nothing_expected.asking => {
                                let why = why.unwrap_or_else(|error| Some(error.to_string()));
                                self.admit(&why.unwrap_or_default())?;
                                continue;
                            }
                        },
                    };
                    let Some((order, answer)) = request else { return Ok(()) };
                    let Some(action) = self.take(&mut current, order, answer) else { continue };
                    action
                }
            };
            self.publish(current.as_ref());
            let Some(ledger) = current.take() else { continue };
            let (ledger, next) = self.act(action, ledger).await?;
            current = Some(ledger);
            self.publish(current.as_ref());
            event = next;
        }
    }

    /// Nobody will say what this node should be: slurmd may start.
    fn admit(&mut self, why: &str) -> Result<(), LedgerError> {
        log::info(&format!("slurmd may start: {why}"));
        self.executor.file.admit(&self.executor.boot_id)?;
        self.nothing_expected = None;
        self.publish(None);
        Ok(())
    }

    /// What is to be considered: a hand-over by slurmd is an order for what is staged. None where it was answered, as what
    /// is only to be kept is.
    fn order_of(
        &mut self,
        order: Order,
        current: Option<&Ledger>,
        answer: oneshot::Sender<Answer>,
    ) -> Option<Request> {
        match &order.kind {
            OrderKind::PreStage(_) | OrderKind::UpdateDrain(_) | OrderKind::DropPreStaged { .. } => {
                let begun = match &order.kind {
                    OrderKind::DropPreStaged { rollout } if self.staged.rollout() != Some(rollout) => {
                        current.filter(|ledger| ledger.order.rollout() == Some(rollout))
                    }
                    _ => None,
                };
                let kept = match (order.nodes.contains(&self.name), begun) {
                    (true, Some(ledger)) => Err(format!("it is {} already", ledger.phase.name())),
                    (true, None) => self.staged.follow(&order),
                    (false, _) => Err(format!("this is for {}, and here is {}", order.nodes, self.name)),
                };
                self.publish_staged.send_replace(self.staged.rollout().map(str::to_owned));
                let kept = kept.map_or_else(|why| Answer::Refused { why }, |()| self.accepted());
                let _ = answer.send(kept);
                None
            }
            OrderKind::BootRestored { order: undone } => {
                let undoing = current
                    .is_some_and(|ledger| ledger.phase == Phase::Undoing && ledger.order.id == *undone);
                let _ = answer.send(if undoing && order.nodes.contains(&self.name) {
                    self.executor.put_back.done(undone.clone());
                    self.accepted()
                } else {
                    Answer::Refused { why: "it is not undoing that order".to_owned() }
                });
                None
            }
            OrderKind::RestoreLedger(_) if self.nothing_expected.is_none() => {
                let why = "it does not wait to be told what it should be".to_owned();
                let under_way = current.filter(|ledger| ledger.order.id == order.id);
                let phase = under_way.map(|ledger| ledger.phase).filter(|phase| !phase.is_settled());
                let _ = answer.send(phase.map_or(Answer::Refused { why }, |phase| Answer::UnderWay {
                    phase,
                    order: None,
                    rollout: None,
                    volatile: false,
                }));
                None
            }
            OrderKind::LocalHandOver(handed) => {
                let done = current.map(|ledger| ledger.seen.as_slice()).unwrap_or_default();
                let ours = self.staged.order_for(handed, order.id.clone(), &order.nodes, done);
                Some((ours, answer))
            }
            _ => Some((order, answer)),
        }
    }

    /// Takes an order, if it may be taken: on disk first, then the answer, then the action.
    fn take(
        &mut self,
        current: &mut Option<Ledger>,
        order: Order,
        answer: oneshot::Sender<Answer>,
    ) -> Option<Action> {
        let (order, answer) = self.order_of(order, current.as_ref(), answer)?;
        let verdict = consider(current.as_ref(), &order, &self.name);
        let Verdict::Accept(event) = verdict else {
            let _ = answer.send(answer_to(verdict));
            return None;
        };
        let (boot_id, now_s) = (&self.executor.boot_id, clock::now_s());
        let from = match &order.kind {
            OrderKind::RestoreLedger(expect) => Some(expect.phase),
            _ => current.as_ref().map(|ledger| ledger.phase),
        };
        let (phase, action) = match step(from, event) {
            Ok(next) => next,
            Err(refused) => {
                let _ = answer.send(Answer::Refused { why: refused.to_string() });
                return None;
            }
        };
        let ledger = match (&order.kind, current.clone()) {
            (OrderKind::RestoreLedger(expect), _) => {
                let mut told = Ledger::expected(order.id, order.nodes, expect.clone(), now_s);
                told.enter(phase, boot_id, now_s);
                Ledger { node: Some(self.name.clone()), ..told }
            }
            (OrderKind::Retry, Some(mut held)) => {
                held.begin_again(order.id, boot_id, now_s);
                held.enter(phase, boot_id, now_s);
                held
            }
            (OrderKind::Release, Some(mut held)) => {
                held.remember(order.id);
                held.enter(phase, boot_id, now_s);
                held
            }
            (_, last) => {
                let begun = Ledger::begin(order, phase, boot_id, now_s, last.as_ref());
                Ledger { node: Some(self.name.clone()), ..begun }
            }
        };
        if let Err(error) = self.executor.file.write(&ledger) {
            log::error(&error.to_string());
            let _ = answer.send(Answer::Refused { why: error.to_string() });
            return None;
        }
        log::info(&format!("{}: order {} taken", ledger.subject(), ledger.order.id));
        if let OrderKind::Apply(apply) = &ledger.order.kind {
            self.staged.forget(&apply.rollout);
            self.publish_staged.send_replace(self.staged.rollout().map(str::to_owned));
        }
        // Whatever it is, somebody has said what this node should be.
        if let Some(asks) = self.nothing_expected.take() {
            asks.told.store(true, Ordering::SeqCst);
        }
        let _ = answer.send(self.accepted());
        *current = Some(ledger);
        Some(action)
    }

    /// Carries out an action on a thread of its own, and answers orders meanwhile.
    async fn act(
        &mut self,
        action: Action,
        mut ledger: Ledger,
    ) -> Result<(Ledger, Option<Event>), LedgerError> {
        let seen = ledger.clone();
        // At these ends an order may follow at once. It waits the moment that they take.
        let ends = seen.phase.is_settled() || seen.phase == Phase::Held;
        let executor = self.executor.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            let next = executor.perform(action, &mut ledger);
            next.map(|next| (ledger, next))
        });
        loop {
            tokio::select! {
                done = &mut work => return match done {
                    Ok(done) => done,
                    // A bug: systemd starts the agent again, which goes on by the ledger.
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                Some((order, answer)) = self.requests.recv(), if !ends => {
                    if let Some((order, answer)) = self.order_of(order, Some(&seen), answer) {
                        let _ = answer.send(answer_to(consider(Some(&seen), &order, &self.name)));
                    }
                }
            }
        }
    }

    fn accepted(&self) -> Answer {
        Answer::Accepted { volatile: self.executor.config.is_volatile() }
    }

    fn publish(&self, ledger: Option<&Ledger>) {
        let (status, known) = match ledger {
            Some(ledger) => (
                format!("{}: {}", ledger.subject(), ledger.phase.name()),
                Published::Ledger(Arc::new(ledger.clone())),
            ),
            None if self.nothing_expected.is_some() => {
                ("waits to be told what this node should be".to_owned(), Published::Awaits)
            }
            None => ("no order yet".to_owned(), Published::NoOrder),
        };
        let _ = sd_notify::notify(false, &[NotifyState::Status(&status)]);
        self.publish.send_replace(known);
    }
}

fn answer_to(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::UnderWay(phase) => Answer::UnderWay { phase, order: None, rollout: None, volatile: false },
        Verdict::Refuse(why) => Answer::Refused { why },
        // Not while an order is under way: `consider` accepts none then.
        Verdict::Accept(event) => Answer::Refused { why: format!("{event:?} cannot be taken now") },
    }
}
