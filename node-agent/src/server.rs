//! The agent's server, which takes orders and reports the node's status: HTTP/1.1 on TCP for sealed orders, on a Unix
//! socket for root.
//!
//! All input is bounded: connections, their time, a body's size, the memory for all bodies, and the log lines that
//! peers cause. The server does not change the node; it passes genuine orders to the driver.

mod connections;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod listen;
mod refusal;

use crate::config::Config;
use crate::daemon::channel::{Published, Request};
use crate::daemon::rehearse::LastRehearsal;
use crate::log;
use crate::node;
use crate::server::connections::{Slot, Slots};
use crate::server::refusal::Refusal;
use crate::slurm::node::SlurmNode;
use crate::slurm::slurmd;
use crate::verbs::reboot_node;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{
    AgentStatus, Answer, HAND_OVER_PATH, HandOverRequest, MAX_BODY, ORDER_PATH, PAST_PATH, REHEARSAL_PATH,
    STATUS_PATH,
};
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::slurm::reason::REBOOT_PROGRAM_SUBJECT;
use rollout_core::text::one_line;
use rollout_host::clock;
use rollout_host::order_key::Memory;
use rollout_host::sealing::Sealing;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Number of network peers served at the same time; see [`Slots`] for the choice if there are more. Few peers ever
/// connect to one agent: a controller with an order every few months, and anybody who asks for the status.
const MAX_CONNECTIONS: usize = 64;

/// Length up to which a body is read at once. An order for thousands of nodes with some changes has 2 kB.
const SHORT_BODY: usize = 32 * 1024;

/// Number of longer bodies in memory at the same time. Others wait.
const LONG_BODIES: usize = 1;

/// Number of orders that are opened at the same time. Each takes a thread that may wait for munged.
const OPENINGS: usize = 2;

/// Time limits for the header of a request and for the whole exchange.
const HEADER_LIMIT: Duration = Duration::from_secs(3);
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for asking Slurm about a hand-over.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// Length limit for the trouble in a status, in characters.
const MAX_TROUBLE: usize = 700;

/// Length limits, in characters, for a bad request and for the reason of a refusal in the log.
const MAX_LOGGED_REQUEST: usize = 100;
const MAX_LOGGED_REFUSAL: usize = 1500;

pub(crate) struct Server {
    tcp: TcpListener,
    unix: UnixListener,
    shared: Arc<Shared>,
}

/// State shared by all exchanges.
struct Shared {
    /// The constant part of the status.
    identity: AgentStatus,
    slurm_user: String,
    sealing: Sealing,
    /// Orders sealed with the key that were opened.
    opened: Arc<Memory>,
    published: watch::Receiver<Published>,
    orders: mpsc::Sender<Request>,
    slurm: SlurmNode,
    last_rehearsal: LastRehearsal,
    /// Returns the reason if this host has more than one slurmd.
    shares_its_host: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    slots: Arc<Slots>,
    long_bodies: Arc<Semaphore>,
    openings: Arc<Semaphore>,
    /// Log of lines that any peer can cause.
    peer_log: log::Throttled,
}

/// A request's body, with its permit if it is a long one.
struct Body {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy)]
enum Peer {
    Network(SocketAddr),
    LocalRoot,
}

impl Server {
    pub(crate) fn bind(
        config: &Config,
        identity: AgentStatus,
        published: watch::Receiver<Published>,
        orders: mpsc::Sender<Request>,
        slurm: SlurmNode,
        last_rehearsal: LastRehearsal,
    ) -> Result<Self, String> {
        let unit = config.slurmd_unit.clone();
        let shared = Shared {
            shares_its_host: Arc::new(move || slurmd::shares_its_host(&unit)),
            identity,
            slurm_user: config.slurm_user.clone(),
            sealing: config.sealing(),
            opened: Arc::default(),
            slurm,
            last_rehearsal,
            published,
            orders,
            slots: Slots::new(MAX_CONNECTIONS),
            long_bodies: Arc::new(Semaphore::new(LONG_BODIES)),
            openings: Arc::new(Semaphore::new(OPENINGS)),
            peer_log: log::Throttled::default(),
        };
        Ok(Self { tcp: listen::tcp(config.listen)?, unix: listen::unix(config)?, shared: Arc::new(shared) })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self) {
        let network = async {
            loop {
                match self.tcp.accept().await {
                    Ok((stream, peer)) => {
                        exchange(&self.shared, stream, Peer::Network(peer)).await;
                        // A new connection is read before the next one may need its slot.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => listen::failed(&error).await,
                }
            }
        };
        let local = async {
            loop {
                match self.unix.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)))
                {
                    Ok((0, stream)) => exchange(&self.shared, stream, Peer::LocalRoot).await,
                    // The modes of the socket and its directory keep others out already.
                    Ok((uid, _)) => log::warning(&format!("uid {uid} on this node: hung up: not root")),
                    Err(error) => listen::failed(&error).await,
                }
            }
        };
        tokio::join!(network, local);
    }
}

/// Starts serving a peer, if it is from the network once it has a slot.
async fn exchange(
    shared: &Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
) {
    let shared = Arc::clone(shared);
    // Root on this node needs no slot, however many network peers connect.
    let Peer::Network(address) = peer else {
        tokio::spawn(async move { serve(&shared, stream, peer, None).await });
        return;
    };
    let (slot, mut reclaimed) = shared.slots.reserve(address.ip().to_canonical()).await;
    tokio::spawn(async move {
        tokio::select! {
            // Checked first: a connection whose slot is reclaimed has ordered nothing.
            biased;
            Ok(()) = &mut reclaimed => shared.log_peer(peer, || "hung up: too many at the same time".to_owned()),
            () = serve(&shared, stream, peer, Some(&slot)) => {}
        }
    });
}

/// Serves one exchange to its end.
async fn serve(
    shared: &Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    slot: Option<&Slot>,
) {
    let answer = hyper::service::service_fn(|request| answer(shared, peer, slot, request));
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(EXCHANGE_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.log_peer(peer, || format!("hung up: {error}")),
        Err(_) => shared.log_peer(peer, || "hung up: too slow".to_owned()),
    }
}

impl Peer {
    fn is_root_here(self) -> bool {
        matches!(self, Self::LocalRoot)
    }

    fn name(self) -> String {
        match self {
            Self::Network(address) => address.ip().to_canonical().to_string(),
            Self::LocalRoot => "root on this node".to_owned(),
        }
    }
}

type HttpRequest = hyper::Request<Incoming>;
type HttpResponse = Response<Full<Bytes>>;

async fn answer(
    shared: &Arc<Shared>,
    peer: Peer,
    slot: Option<&Slot>,
    request: HttpRequest,
) -> Result<HttpResponse, Infallible> {
    let complete = || slot.map_or((), Slot::request_complete);
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, STATUS_PATH) => {
            complete();
            json(StatusCode::OK, &shared.status())
        }
        (&Method::GET, PAST_PATH) => {
            complete();
            json(StatusCode::OK, &shared.pasts())
        }
        (&Method::GET, REHEARSAL_PATH) => {
            complete();
            json(StatusCode::OK, &shared.last_rehearsal.get())
        }
        (&Method::POST, ORDER_PATH) => {
            let body = shared.read_body(request.into_body()).await;
            complete();
            let refused = |why: &str| {
                format!("order from {} refused: {}", peer.name(), one_line(why, MAX_LOGGED_REFUSAL))
            };
            let (status, answer) = match shared.authenticate(peer, body).await {
                Ok(payload) => {
                    let answer = shared.accept(peer, &payload).await;
                    let (status, answer) =
                        answer.map_or_else(Refusal::into_answer, |answer| (StatusCode::OK, answer));
                    if let Answer::Refused { why, .. } = &answer {
                        log::warning(&refused(why));
                    }
                    (status, answer)
                }
                Err(refusal) => {
                    shared.peer_log.warning(|| refused(&refusal.why));
                    refusal.into_answer()
                }
            };
            json(status, &answer)
        }
        (&Method::POST, HAND_OVER_PATH) if peer.is_root_here() => {
            let (status, answer) = match shared.hand_over(request.into_body()).await {
                Ok(()) => (StatusCode::ACCEPTED, Answer::Accepted { volatile: false, order: None }),
                Err(refusal) => refusal.into_answer(),
            };
            json(status, &answer)
        }
        (method, path) => {
            // Both come from an unknown peer: the log must hold neither all of it nor control characters.
            let asked = format!("{method} {path}");
            shared.log_peer(peer, || {
                format!("asked for what there is not: {}", one_line(&asked, MAX_LOGGED_REQUEST))
            });
            let why = format!("only POST {ORDER_PATH} and GET {STATUS_PATH}");
            json(StatusCode::NOT_FOUND, &Answer::refused(why))
        }
    })
}

fn json(status: StatusCode, content: &impl serde::Serialize) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(serde_json::to_vec(content).unwrap_or_default())));
    *response.status_mut() = status;
    response
}

impl Shared {
    /// Logs a request that is none of the agent's business.
    fn log_peer(&self, peer: Peer, event: impl FnOnce() -> String) {
        self.peer_log.info(|| format!("{}: {}", peer.name(), event()));
    }

    fn pasts(&self) -> Vec<NodeChanges> {
        self.published.borrow().changes_made.clone()
    }

    fn status(&self) -> AgentStatus {
        let Published { status, trouble, .. } = &*self.published.borrow();
        AgentStatus {
            uptime_s: node::uptime().as_secs(),
            clock_s: Some(clock::now_s()),
            order: status.order.clone(),
            staged: status.staged.clone(),
            trouble: trouble.as_ref().map(|why| one_line(why, MAX_TROUBLE)),
            awaits: status.awaits,
            ..self.identity.clone()
        }
    }

    /// Accepts a hand-over by slurmd, and examines it afterwards: slurmd waits for the answer.
    async fn hand_over(self: &Arc<Self>, body: Incoming) -> Result<(), Refusal> {
        let body = self.read_body(body).await?;
        let request = serde_json::from_slice(&body.bytes);
        let request: HandOverRequest =
            request.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        let node = NodeSet::from_names([self.identity.node.as_str()]);
        let node =
            node.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let slurm = shared.slurm.clone();
            let info = tokio::task::spawn_blocking(move || slurm.info_within(SLURM_LIMIT)).await;
            let info = info.unwrap_or_else(|error| Err(error.to_string()));
            let answer = match reboot_node::order_for(&request, &node, info) {
                Ok(order) => shared.to_driver(order).await.map_err(|refusal| refusal.why),
                // Somebody called the program by hand, so Slurm is not told.
                Err(why) => return log::warning(&format!("hand-over by slurmd: {why}")),
            };
            if let Ok(Answer::Refused { why, .. }) | Err(why) = answer {
                log::error(&format!("hand-over by slurmd refused: {why}"));
                shared.slurm.give_reason(REBOOT_PROGRAM_SUBJECT, &format!("refused: {why}"));
            }
        });
        Ok(())
    }

    /// Returns the payload of an order, if its sealer may give orders.
    async fn authenticate(&self, peer: Peer, body: Result<Body, Refusal>) -> Result<Vec<u8>, Refusal> {
        let body = body?;
        match peer {
            Peer::LocalRoot => Ok(body.bytes),
            Peer::Network(_) => self.open(body).await,
        }
    }

    async fn accept(&self, peer: Peer, payload: &[u8]) -> Result<Answer, Refusal> {
        let order = Order::parse(payload)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        if let (Peer::Network(_), OrderKind::LocalHandOver(_)) = (peer, &order.kind) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "only slurmd on this node says so"));
        }
        self.to_driver(order).await
    }

    async fn to_driver(&self, order: Order) -> Result<Answer, Refusal> {
        let ending = |_| Refusal::for_now(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending");
        let needs_own_host = matches!(order.kind, OrderKind::Probe | OrderKind::Rehearse(_));
        if needs_own_host || order.kind.begins_with_work() {
            let shares_its_host = Arc::clone(&self.shares_its_host);
            let shared = tokio::task::spawn_blocking(move || shares_its_host()).await;
            if let Some(why) = shared.map_err(|error| ending(error.to_string()))? {
                return Ok(Answer::refused(why));
            }
        }
        let (send, answer) = oneshot::channel();
        self.orders.send(Request { order, answer: send }).await.map_err(|error| ending(error.to_string()))?;
        answer.await.map_err(|error| ending(error.to_string()))
    }

    /// Opens the credential and checks its sealer, on a thread of its own: munged may take long.
    async fn open(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let (sealing, opened, slurm_user) =
            (self.sealing.clone(), Arc::clone(&self.opened), self.slurm_user.clone());
        let volatile = self.identity.volatile;
        let ending = |error: String| Refusal::for_now(StatusCode::INTERNAL_SERVER_ERROR, error);
        let permit = Arc::clone(&self.openings).acquire_owned().await;
        let permit = permit.map_err(|error| ending(error.to_string()))?;
        let opened = tokio::task::spawn_blocking(move || {
            // The thread holds the permits until it ends, even if nobody waits for it any more.
            let _permits = (permit, body.permit);
            let text = std::str::from_utf8(&body.bytes)
                .map_err(|_| Refusal::new(StatusCode::FORBIDDEN, "it is not sealed: no text"))?;
            let opened = sealing.open(text.trim(), &opened);
            refusal::payload(opened, volatile.then(node::uptime), &slurm_user, node::uid_of)
        });
        opened.await.map_err(|error| ending(error.to_string()))?
    }

    /// Reads a body. A long one waits for its permit.
    async fn read_body(&self, body: Incoming) -> Result<Body, Refusal> {
        let refused = |error: Box<dyn std::error::Error + Send + Sync>| match error
            .is::<http_body_util::LengthLimitError>(
        ) {
            true => {
                let why = format!("an order has at most {MAX_BODY} bytes");
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
            }
            false => Refusal::for_now(StatusCode::BAD_REQUEST, format!("the order came incomplete: {error}")),
        };
        let mut incoming = Limited::new(body, MAX_BODY);
        let mut body = Body { bytes: Vec::new(), permit: None };
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(refused)?.into_data() else { continue };
            if body.permit.is_none() && body.bytes.len() + data.len() > SHORT_BODY {
                body.permit = Arc::clone(&self.long_bodies).acquire_owned().await.ok();
                // Reserved at once: growing step by step would take twice as much memory.
                body.bytes.reserve_exact(MAX_BODY - body.bytes.len());
            }
            body.bytes.extend_from_slice(&data);
        }
        Ok(body)
    }
}
