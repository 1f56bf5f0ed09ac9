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
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tools::NodeTools;

/// Number of orders that may wait for the driver. It answers them in milliseconds.
const QUEUE: usize = 16;

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
    let server = server::Server::bind(&config, itself, published, send, slurm.clone())?;
    let waits = agent.as_ref().is_ok_and(Agent::waits_for_instructions);
    let waiting = waits.then(|| WaitForInstructions::start(config.clone(), slurm.clone()));
    let tools = Arc::new(NodeTools::new(config.clone(), slurm));
    let executor = Executor::new(tools, &config.state_dir, identity, stands_in);
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    log::info(&format!("slurm-rollout-agent {} on {node}", env!("CARGO_PKG_VERSION")));
    let drive = async {
        match agent {
            Ok(agent) => {
                Driver::new(agent, executor, &config.state_dir, requests, publish, waiting).drive().await
            }
            Err(error) => refuse_all(requests, &publish, &error).await,
        }
    };
    tokio::select! {
        ended = drive => ended.map_err(Into::into),
        () = server.serve() => Ok(()),
    }
}

/// Refuses all orders: without a readable ledger the state of this node is unknown, and slurmd stays down.
async fn refuse_all(
    mut requests: mpsc::Receiver<Request>,
    publish: &watch::Sender<Published>,
    error: &StateError,
) -> Result<(), StateError> {
    log::error(&format!("no order is taken: {error}"));
    publish.send_replace(Published { trouble: Some(error.to_string()), ..Published::default() });
    let _ = sd_notify::notify(false, &[NotifyState::Status("no order is taken: the ledger cannot be read")]);
    while let Some(Request { answer, .. }) = requests.recv().await {
        let _ = answer.send(Answer::refused(error.to_string()));
    }
    Ok(())
}
