//! The daemon: takes orders and carries them out. [`Agent`] decides; this persists, answers and executes.
//!
//! | module | holds |
//! |---|---|
//! | [`channel`] | the messages between server and driver |
//! | [`driver`] | the only loop, and the only writer |
//! | [`execute`] | the actions, one function each |
//! | [`tools`] | everything that the actions need of the node |
//! | [`verify`] | mounts and commands that prove a node |
//! | [`reboot`] | rebooting, by force if needed |
//! | [`orphans`] | programs that an agent left behind when it died |
//! | [`boot_restored`] | the controller's notice that the boot source is restored |
//! | [`wait_for_instructions`] | asking Slurm, on a node without a ledger |

pub(crate) mod boot_restored;
pub(crate) mod channel;
pub(crate) mod driver;
pub(crate) mod execute;
#[cfg(test)]
mod fake_node;
pub(crate) mod orphans;
pub(crate) mod reboot;
pub(crate) mod tools;
pub(crate) mod verify;
pub(crate) mod wait_for_instructions;

use crate::config::Config;
use crate::log;
use crate::node;
use crate::server;
use crate::slurm::node::SlurmNode;
use crate::state::{self, StateError};
use channel::{Published, Request};
use driver::{Driver, WaitForInstructions};
use execute::Executor;
use rollout_core::agent::{Agent, Identity};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tools::NodeTools;

/// Number of orders that may wait for the driver. It answers them in milliseconds.
const QUEUE: usize = 16;

/// Pause between two attempts to read a ledger that cannot be read.
const READ_AGAIN: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(10) };

/// The kernel's host name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Idle time after which a thread ends that opened a credential or carried out an action.
const THREAD_STAYS: Duration = Duration::from_secs(1);

/// Runs the daemon until SIGTERM or SIGINT. The next agent continues an interrupted action. `stands_in` is the reason
/// for standing in for the installed agent, if this is a copy of it.
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
    // Does not wait for an action that is under way.
    runtime.shutdown_background();
    ended
}

async fn serve_and_drive(
    config: Config,
    stands_in: Option<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let node = node::name(&config)?;
    let itself = node::identity(&node, config.is_volatile())?;
    let identity = Identity {
        node: node.clone(),
        boot_id: itself.boot_id.clone(),
        volatile: itself.volatile,
        running: itself.running.clone(),
    };
    let names = NodeSet::from_names([node.as_str()])?;
    let agent = state::read(&config.state_dir, &identity).map(|found| Agent::start(identity.clone(), found));
    let (publish, published) = watch::channel(Published::default());
    let (send, requests) = mpsc::channel(QUEUE);
    let slurm = SlurmNode::new(config.clone(), names);
    let renamed = until_renamed(&config, &node, published.clone());
    let server = server::Server::bind(&config, itself, published, send, slurm.clone())?;
    let waits = agent.as_ref().is_ok_and(Agent::waits_for_instructions);
    let waiting = waits.then(|| WaitForInstructions::start(config.clone(), slurm.clone()));
    let tools = Arc::new(NodeTools::new(config.clone(), slurm));
    let executor = Executor::new(tools, &config.state_dir, identity.clone(), stands_in);
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    log::info(&format!("slurm-rollout-agent {} on {node}", env!("CARGO_PKG_VERSION")));
    let drive = async {
        match agent {
            Ok(agent) => {
                Driver::new(agent, executor, &config.state_dir, requests, publish, waiting).drive().await
            }
            Err(error) => {
                refuse_all(requests, &publish, &error, || state::read(&config.state_dir, &identity).is_ok())
                    .await;
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = drive => ended.map_err(Into::into),
        () = server.serve() => Ok(()),
        name = renamed => {
            let name = name?;
            Err(format!("this node was {node} and is {name} now: starting anew").into())
        }
    }
}

/// Waits until the node has a different name and no order is under way. DHCP may set the host name late in a boot.
async fn until_renamed(
    config: &Config,
    node: &str,
    mut published: watch::Receiver<Published>,
) -> Result<String, std::io::Error> {
    // The kernel reports a change as an exceptional condition of this file (`proc_sys_poll`), as for systemd.
    #[allow(
        deprecated,
        reason = "its successor is unsafe for types that do not own their descriptor; a File does"
    )]
    let file = AsyncFd::with_interest(std::fs::File::open(HOST_NAME)?, Interest::PRIORITY)?;
    loop {
        let is_idle =
            published.borrow_and_update().status.order.as_ref().is_none_or(|order| order.phase.has_ended());
        if let (true, Ok(name)) = (is_idle, node::name(config)) {
            if name != node {
                return Ok(name);
            }
        }
        tokio::select! {
            changed = file.ready(Interest::PRIORITY) => changed?.clear_ready(),
            _ = published.changed() => {}
        }
    }
}

/// Refuses all orders until the ledger can be read: without it the state of this node is unknown, and slurmd stays down.
async fn refuse_all(
    mut requests: mpsc::Receiver<Request>,
    publish: &watch::Sender<Published>,
    error: &StateError,
    is_readable: impl Fn() -> bool,
) {
    log::error(&format!("no order is taken: {error}"));
    publish.send_replace(Published { trouble: Some(error.to_string()), ..Published::default() });
    let _ = sd_notify::notify(false, &[NotifyState::Status("no order is taken: the ledger cannot be read")]);
    loop {
        match tokio::time::timeout(READ_AGAIN, requests.recv()).await {
            Ok(Some(Request { answer, .. })) => {
                let _ = answer.send(Answer::refused(error.to_string()));
            }
            Ok(None) => return,
            // systemd starts the agent again.
            Err(_) if is_readable() => return log::info("the ledger can be read now: starting anew"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::agent::ledger::Ledger;
    use rollout_core::agent::phase::Phase;
    use rollout_core::protocol::order::{GiveBack, Order, OrderId, OrderKind};

    fn published(phase: Phase) -> Published {
        let back = GiveBack { resume_if_late: true, drained: None };
        let nodes = NodeSet::parse("n1").unwrap();
        let order = Order::new(OrderId::from_random(1), nodes, OrderKind::Reboot(back.into()));
        let mut published = Published::default();
        published.status.order = Some(Ledger::begin(order, phase, "boot", 1, None).status());
        published
    }

    #[tokio::test]
    async fn an_agent_with_a_new_name_starts_anew_between_orders() {
        let config = Config { node_name: Some("n1".to_owned()), ..Config::default() };
        let (publish, receive) = watch::channel(published(Phase::Verifying));
        let wait = Duration::from_millis(50);
        let same = tokio::time::timeout(wait, until_renamed(&config, "n1", receive.clone())).await;
        assert!(same.is_err(), "nothing has changed");
        let renamed = until_renamed(&config, "localhost-live", receive);
        tokio::pin!(renamed);
        assert!(tokio::time::timeout(wait, &mut renamed).await.is_err(), "an order is under way");
        publish.send_replace(published(Phase::Updated));
        assert_eq!(renamed.await.unwrap(), "n1");
    }

    #[tokio::test]
    async fn a_ledger_that_can_be_read_again_ends_the_refusals() {
        let (publish, _published) = watch::channel(Published::default());
        let (_send, requests) = mpsc::channel(1);
        let error =
            StateError::Foreign { path: "/x".into(), node: "n1".to_owned(), me: "localhost-live".to_owned() };
        let looks = std::cell::Cell::new(0);
        let is_readable = || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        };
        refuse_all(requests, &publish, &error, is_readable).await;
        assert_eq!(looks.get(), 3);
        assert!(publish.borrow().trouble.as_ref().is_some_and(|trouble| trouble.contains("is of n1")));
    }
}
