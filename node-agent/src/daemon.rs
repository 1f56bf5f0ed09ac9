//! The daemon: takes orders and carries them out. [`Agent`] decides; this persists, answers and executes.
//!
//! | module | holds |
//! |---|---|
//! | [`channel`] | the messages between server and driver |
//! | [`driver`] | the only loop, and the only writer |
//! | [`execute`] | the actions, one function each |
//! | [`tools`] | everything that the actions need of the node |
//! | [`verify`] | mounts and commands that prove a node |
//! | [`mod@rehearse`] | what an order would do, without doing it |
//! | [`reboot`] | rebooting, by force if needed |
//! | [`orphans`] | programs that an agent left behind when it died |
//! | [`notice`] | telling users of the node |
//! | [`boot_restored`] | the controller's notice that the boot source is restored |
//! | [`wait_for_instructions`] | asking Slurm, on a node without a ledger |

pub(crate) mod boot_restored;
pub(crate) mod channel;
pub(crate) mod driver;
pub(crate) mod execute;
#[cfg(test)]
mod fake_node;
pub(crate) mod notice;
pub(crate) mod orphans;
pub(crate) mod reboot;
pub(crate) mod rehearse;
pub(crate) mod tools;
pub(crate) mod verify;
pub(crate) mod wait_for_instructions;

use crate::config::Config;
use crate::log;
use crate::node;
use crate::node_name;
use crate::server;
use crate::slurm::node::SlurmNode;
use crate::state::{self, StateError};
use channel::{Published, Request};
use driver::{Driver, WaitForInstructions};
use execute::Executor;
use rehearse::LastRehearsal;
use rollout_core::agent::{Agent, Identity};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::node_name::{NameSource, NoNodeName, NodeName, short};
use sd_notify::NotifyState;
use std::path::Path;
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

/// Pauses between two questions for the NodeName. While Slurm does not answer, they double up to the longest: the
/// network may still be coming up, and slurmctld may be away for hours.
const ASK_AGAIN: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(1) };
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// Pause if Slurm has no node for this host, or the name is remembered. A node may be added.
const UNKNOWN_TO_SLURM: Duration = Duration::from_secs(600);

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
    let found = node_name::find(&config);
    let node = match &found {
        Ok(found) => found.name.clone(),
        Err(NoNodeName::Several { host, .. }) => short(host)?.to_owned(),
        Err(error) => return Err(error.clone().into()),
    };
    if let Ok(found) = &found {
        node_name::remember(&config, found);
    }
    let itself = node::identity(&node, config.is_volatile())?;
    let identity = Identity {
        node: node.clone(),
        boot_id: itself.boot_id.clone(),
        volatile: itself.volatile,
        running: itself.running.clone(),
    };
    let names = NodeSet::from_names([node.as_str()])?;
    let read = || match &found {
        Ok(_) => state::read(&config.state_dir, &identity),
        Err(error) => Err(StateError::NoNodeName(error.clone())),
    };
    let agent = read().map(|found| Agent::start(identity.clone(), found));
    let (publish, published) = watch::channel(Published::default());
    let (send, requests) = mpsc::channel(QUEUE);
    let slurm = SlurmNode::new(config.clone(), names);
    let renamed = {
        let config = config.clone();
        until_renamed(&found, published.clone(), move || node_name::find(&config))
    };
    let shows_notice = notice::show(published.clone(), Path::new(notice::PATH), notice::WALL);
    let last_rehearsal = LastRehearsal::default();
    let server =
        server::Server::bind(&config, itself, published, send, slurm.clone(), last_rehearsal.clone())?;
    let waits = agent.as_ref().is_ok_and(Agent::waits_for_instructions);
    // Slurm's answer may be about another node while the name is a guess. The agent starts anew once it is found.
    let is_guess = found.as_ref().is_ok_and(NodeName::is_a_guess);
    let waiting = (waits && !is_guess).then(|| WaitForInstructions::start(config.clone(), slurm.clone()));
    let tools = Arc::new(NodeTools::new(config.clone(), slurm));
    let executor = Executor::new(tools, &config.state_dir, identity.clone(), stands_in);
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    log::info(&format!("slurm-rollout-agent {} on {node}", env!("CARGO_PKG_VERSION")));
    let drive = async {
        match agent {
            Ok(agent) => {
                let driver = Driver::new(agent, executor, &config.state_dir, requests, publish, waiting);
                driver.with_last_rehearsal(last_rehearsal).drive().await
            }
            Err(error) => {
                refuse_all(requests, &publish, &error, || read().is_ok()).await;
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = drive => ended.map_err(Into::into),
        () = server.serve() => Ok(()),
        () = shows_notice => Ok(()),
        name = renamed => {
            let name = name?;
            Err(format!("this node was {node} and is {name} now: starting anew").into())
        }
    }
}

/// Waits until the node has a different name and no order is under way. DHCP may set the host name late in a boot, and
/// Slurm may be asked for the NodeName late.
async fn until_renamed(
    current: &Result<NodeName, NoNodeName>,
    mut published: watch::Receiver<Published>,
    find: impl Fn() -> Result<NodeName, NoNodeName> + Send + Sync + 'static,
) -> Result<String, std::io::Error> {
    // The kernel reports a change as an exceptional condition of this file (`proc_sys_poll`), as for systemd.
    #[allow(
        deprecated,
        reason = "its successor is unsafe for types that do not own their descriptor; a File does"
    )]
    let file = AsyncFd::with_interest(std::fs::File::open(HOST_NAME)?, Interest::PRIORITY)?;
    let find = Arc::new(find);
    let (mut found, mut pause, mut asks) = (current.clone(), ASK_AGAIN, true);
    loop {
        if asks {
            let find = Arc::clone(&find);
            found = tokio::task::spawn_blocking(move || find()).await.unwrap_or(found);
            asks = false;
        }
        let (is_idle, awaits) = {
            let status = &published.borrow_and_update().status;
            (status.order.as_ref().is_none_or(|order| order.phase.has_ended()), status.awaits)
        };
        if let (true, Ok(name)) = (is_idle, &found) {
            if is_another(current, name, awaits) {
                return Ok(name.name.clone());
            }
        }
        tokio::select! {
            changed = file.ready(Interest::PRIORITY) => {
                changed?.clear_ready();
                (asks, pause) = (true, ASK_AGAIN);
            }
            _ = published.changed() => {}
            () = again(&found, pause) => {
                asks = true;
                pause = (pause * 2).min(ASK_AGAIN_AT_MOST);
            }
        }
    }
}

/// Returns whether the agent has to start anew for this name. A node that awaits its instructions asks Slurm for them
/// only once its name is no guess. A guess never replaces a name that was found: systemctl or scontrol may fail for a
/// moment.
fn is_another(current: &Result<NodeName, NoNodeName>, found: &NodeName, awaits: bool) -> bool {
    match current {
        Ok(current) if current.name == found.name => awaits && current.is_a_guess() && !found.is_a_guess(),
        Ok(current) if found.is_a_guess() => current.is_from_host_name(),
        _ => true,
    }
}

/// Waits until the name has to be found again: after `pause` while Slurm does not answer, or never.
async fn again(found: &Result<NodeName, NoNodeName>, pause: Duration) {
    match found {
        Ok(NodeName { source: NameSource::HostName | NameSource::Remembered, .. }) => {
            tokio::time::sleep(UNKNOWN_TO_SLURM).await;
        }
        Ok(name) if !name.is_provisional() => std::future::pending().await,
        Ok(_) | Err(_) => tokio::time::sleep(pause).await,
    }
}

/// Refuses all orders until the ledger can be read and the node has one name: without them the state of this node is
/// unknown. With an order that is unsettled, slurmd stays down.
async fn refuse_all(
    mut requests: mpsc::Receiver<Request>,
    publish: &watch::Sender<Published>,
    error: &StateError,
    is_readable: impl Fn() -> bool,
) {
    log::error(&format!("no order is taken: {error}"));
    publish.send_replace(Published { trouble: Some(error.to_string()), ..Published::default() });
    let status = match error {
        StateError::NoNodeName(_) => "no order is taken: this host has no NodeName",
        _ => "no order is taken: the ledger cannot be read",
    };
    let _ = sd_notify::notify(false, &[NotifyState::Status(status)]);
    loop {
        match tokio::time::timeout(READ_AGAIN, requests.recv()).await {
            Ok(Some(Request { answer, .. })) => {
                let _ = answer.send(error.refusal());
            }
            Ok(None) => return,
            // systemd starts the agent again.
            Err(_) if is_readable() => return log::info("orders can be taken now: starting anew"),
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

    fn name(name: &str, source: NameSource) -> NodeName {
        NodeName { name: name.to_owned(), source }
    }

    #[tokio::test]
    async fn an_agent_with_a_new_name_starts_anew_between_orders() {
        let find = || Ok(name("n1", NameSource::Key));
        let (publish, receive) = watch::channel(published(Phase::Verifying));
        let wait = Duration::from_millis(50);
        let (same, other) = (find(), Ok(name("localhost-live", NameSource::HostName)));
        let same = tokio::time::timeout(wait, until_renamed(&same, receive.clone(), find)).await;
        assert!(same.is_err(), "nothing has changed");
        let renamed = until_renamed(&other, receive, find);
        tokio::pin!(renamed);
        assert!(tokio::time::timeout(wait, &mut renamed).await.is_err(), "an order is under way");
        publish.send_replace(published(Phase::Updated));
        assert_eq!(renamed.await.unwrap(), "n1");
    }

    #[tokio::test]
    async fn slurm_is_asked_until_it_knows_the_name() {
        let guess = || name("rack7", NameSource::HostNameUntilAsked("no slurmctld".to_owned()));
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let find = move || match counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0..4 => Ok(guess()),
            _ => Ok(name("n1", NameSource::NodeHostName)),
        };
        let (_publish, receive) = watch::channel(published(Phase::Updated));
        assert_eq!(until_renamed(&Ok(guess()), receive, find).await.unwrap(), "n1");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 5);
    }

    #[test]
    fn an_agent_starts_anew_for_another_name_or_when_a_guess_that_matters_is_confirmed() {
        let guess = || name("n1", NameSource::HostNameUntilAsked("no slurmctld".to_owned()));
        let known = || name("n1", NameSource::NodeHostName);
        let several =
            NoNodeName::Several { host: "gpu".to_owned(), nodes: NodeSet::parse("g[1-2]").unwrap() };
        for (current, found, awaits, expected) in [
            (Ok(known()), known(), true, false),
            (Ok(known()), name("n2", NameSource::Option), false, true),
            (Ok(name("n2", NameSource::Option)), guess(), true, false),
            (Ok(name("n2", NameSource::Remembered)), guess(), false, false),
            (Ok(name("localhost-live", NameSource::HostName)), guess(), false, true),
            (Ok(guess()), guess(), true, false),
            (Ok(guess()), known(), false, false),
            (Ok(guess()), known(), true, true),
            (Err(several), name("g1", NameSource::Key), false, true),
        ] {
            assert_eq!(is_another(&current, &found, awaits), expected, "{current:?} {found:?} {awaits}");
        }
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
