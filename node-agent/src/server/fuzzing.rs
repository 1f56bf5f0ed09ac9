//! One connection to the real server without a socket or a network. Only munged is missing, and the driver is
//! replaced by one that accepts every order.

use super::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

/// The outcome of a connection.
#[derive(Debug)]
pub struct Served {
    /// The bytes sent back.
    pub answer: Vec<u8>,
    /// Number of orders that reached the driver.
    pub orders: usize,
    /// Number of slots still reserved after the end.
    pub slots: usize,
}

struct Rig {
    runtime: Runtime,
    shared: Arc<Shared>,
    orders: Arc<AtomicUsize>,
    _publish: watch::Sender<Published>,
}

thread_local! {
    static RIG: Result<Rig, String> = Rig::new();
}

/// Serves a peer that sends these bytes and then no more.
///
/// # Errors
/// Returns an error if the server cannot be set up.
pub fn connection(bytes: &[u8], is_root_here: bool) -> Result<Served, String> {
    RIG.with(|rig| {
        rig.as_ref().map_err(Clone::clone)?.serve(bytes, is_root_here).map_err(|error| error.to_string())
    })
}

impl Rig {
    fn new() -> Result<Self, String> {
        let missing = |name: &str| Path::new("/nonexistent/slurm-rollout").join(name);
        let (scontrol, munge_socket) = (missing("scontrol"), missing("munge"));
        let config = Config { scontrol, munge_socket, ..Config::default() };
        let nodes = NodeSet::from_names(["cn001"]).map_err(|error| error.to_string())?;
        let (publish, published) = watch::channel(Published::default());
        let (send, mut requests) = mpsc::channel::<Request>(16);
        let shared = Shared {
            identity: AgentStatus { node: "cn001".to_owned(), ..AgentStatus::default() },
            slurm_user: config.slurm_user.clone(),
            sealing: config.sealing(),
            opened: Arc::default(),
            published,
            orders: send,
            slurm: SlurmNode::new(config, nodes),
            last_rehearsal: LastRehearsal::default(),
            shares_its_host: Arc::new(|| None),
            slots: Slots::new(MAX_CONNECTIONS),
            long_bodies: Arc::new(Semaphore::new(LONG_BODIES)),
            openings: Arc::new(Semaphore::new(OPENINGS)),
            peer_log: log::Throttled::default(),
        };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let orders = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&orders);
        runtime.spawn(async move {
            while let Some(Request { order, answer }) = requests.recv().await {
                // The order of a hand-over comes only when Slurm was asked, after the connection has ended.
                if !matches!(order.kind, OrderKind::LocalHandOver(_)) {
                    taken.fetch_add(1, Ordering::SeqCst);
                }
                let _ = answer.send(Answer::Accepted { volatile: false, order: None });
            }
        });
        Ok(Self { runtime, shared: Arc::new(shared), orders, _publish: publish })
    }

    fn serve(&self, bytes: &[u8], is_root_here: bool) -> std::io::Result<Served> {
        let peer = match is_root_here {
            true => Peer::LocalRoot,
            false => Peer::Network(SocketAddr::from(([10, 0, 0, 1], 1024))),
        };
        let before = self.orders.load(Ordering::SeqCst);
        let answer = self.runtime.block_on(async {
            let (ours, theirs) = duplex(64 * 1024);
            exchange(&self.shared, theirs, peer).await;
            let (mut read, mut write) = tokio::io::split(ours);
            let sent = async {
                // The server may have hung up, as it may.
                let _ = write.write_all(bytes).await;
                let _ = write.shutdown().await;
            };
            let mut answer = Vec::new();
            let (_, read) = tokio::join!(sent, read.read_to_end(&mut answer));
            read.map(|_| answer)
        })?;
        // A slot is freed when its task ends, after the peer has seen the end.
        self.runtime.block_on(tokio::task::yield_now());
        let orders = self.orders.load(Ordering::SeqCst) - before;
        Ok(Served { answer, orders, slots: self.shared.slots.count() })
    }
}
