//! Taking orders and answering where the node stands: HTTP/1.1 on TCP for sealed orders, on a Unix socket for root.
//!
//! Everything that comes in is bounded: connections, their time, a body's size, the memory for all of them, and the lines
//! that they cause in the log. Nothing here changes the node: an order that is genuine goes to the driver.

mod connections;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod listen;

use crate::config::Config;
use crate::daemon::channel::{Published, Request};
use crate::log;
use crate::node;
use crate::server::connections::{Place, Places};
use crate::slurm::node::SlurmNode;
use crate::verbs::reboot_node;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::User;
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{
    AgentStatus, Answer, HAND_OVER_PATH, HandOverRequest, MAX_BODY, ORDER_PATH, PAST_PATH, STATUS_PATH,
};
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::slurm::node::REBOOT_PROGRAM;
use rollout_core::text::one_line;
use rollout_host::clock;
use rollout_host::munge::Munge;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// How many from the network are served at the same time; who goes when there are more is in [`Places`]. Few ever speak
/// to one agent: an order in months, and whoever looks at the status.
const MAX_CONNECTIONS: usize = 64;

/// A body up to this length is read at once. An order for thousands of nodes with some changes has 2 kB.
const SHORT_BODY: usize = 32 * 1024;

/// How many longer ones are in memory at the same time. Others wait.
const LONG_BODIES: usize = 1;

/// How many credentials munged is asked about at the same time: each takes a thread.
const OPENING: usize = 2;

/// How long somebody may take to say what they want, and the whole exchange may take.
const HEADER_LIMIT: Duration = Duration::from_secs(3);
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How long Slurm may take to say what a hand-over is about.
const ASKING_SLURM: Duration = Duration::from_secs(5);

/// The length of what a status says about an agent in trouble, in characters.
const MAX_TROUBLE: usize = 700;

/// How much of a request for what there is not stands in the log, in characters, and of why an order was refused.
const MAX_ASKED: usize = 100;
const MAX_REFUSAL: usize = 1500;

pub(crate) struct Server {
    tcp: TcpListener,
    unix: UnixListener,
    desk: Arc<Desk>,
}

/// What every exchange needs.
struct Desk {
    /// What never changes of what a status request is told.
    me: AgentStatus,
    slurm_user: String,
    munge: Munge,
    published: watch::Receiver<Published>,
    orders: mpsc::Sender<Request>,
    slurm: SlurmNode,
    places: Arc<Places>,
    long_bodies: Arc<Semaphore>,
    opening: Arc<Semaphore>,
    strangers: log::Measured,
}

/// A body, and its turn if it is a long one.
struct Body {
    bytes: Vec<u8>,
    turn: Option<OwnedSemaphorePermit>,
}

/// Who is speaking.
#[derive(Clone, Copy)]
enum Peer {
    Network(SocketAddr),
    LocalRoot,
}

impl Server {
    pub(crate) fn bind(
        config: &Config,
        me: AgentStatus,
        published: watch::Receiver<Published>,
        orders: mpsc::Sender<Request>,
        slurm: SlurmNode,
    ) -> Result<Self, String> {
        let desk = Desk {
            me,
            slurm_user: config.slurm_user.clone(),
            munge: Munge::at(&config.munge_socket),
            slurm,
            published,
            orders,
            places: Places::new(MAX_CONNECTIONS),
            long_bodies: Arc::new(Semaphore::new(LONG_BODIES)),
            opening: Arc::new(Semaphore::new(OPENING)),
            strangers: log::Measured::default(),
        };
        Ok(Self { tcp: listen::tcp(config.listen)?, unix: listen::unix(config)?, desk: Arc::new(desk) })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self) {
        let network = async {
            loop {
                match self.tcp.accept().await {
                    Ok((stream, peer)) => {
                        exchange(&self.desk, stream, Peer::Network(peer)).await;
                        // Who has a place is heard before the next one may need it.
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
                    Ok((0, stream)) => exchange(&self.desk, stream, Peer::LocalRoot).await,
                    // The modes of the socket and its directory keep others out already.
                    Ok((uid, _)) => log::warning(&format!("uid {uid} on this node: hung up: not root")),
                    Err(error) => listen::failed(&error).await,
                }
            }
        };
        tokio::join!(network, local);
    }
}

/// Gives somebody a place and serves them there.
async fn exchange(
    desk: &Arc<Desk>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
) {
    let desk = Arc::clone(desk);
    // Root on this node is served however many strangers call.
    let Peer::Network(address) = peer else {
        tokio::spawn(async move { serve(&desk, stream, peer, None).await });
        return;
    };
    let (place, mut left) = desk.places.take(address.ip().to_canonical()).await;
    tokio::spawn(async move {
        tokio::select! {
            // First: who was told to go has ordered nothing.
            biased;
            Ok(()) = &mut left => desk.say(peer, || "hung up: too many at the same time".to_owned()),
            () = serve(&desk, stream, peer, Some(&place)) => {}
        }
    });
}

/// One exchange, to its end.
async fn serve(
    desk: &Arc<Desk>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    place: Option<&Place>,
) {
    let answer = hyper::service::service_fn(|request| answer(desk, peer, place, request));
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(EXCHANGE_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => desk.say(peer, || format!("hung up: {error}")),
        Err(_) => desk.say(peer, || "hung up: too slow".to_owned()),
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

/// What an order that is not taken is answered with.
type Refusal = (StatusCode, String);

async fn answer(
    desk: &Arc<Desk>,
    peer: Peer,
    place: Option<&Place>,
    request: HttpRequest,
) -> Result<HttpResponse, Infallible> {
    let heard = || place.map_or((), Place::heard);
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, STATUS_PATH) => {
            heard();
            json(StatusCode::OK, &desk.status())
        }
        (&Method::GET, PAST_PATH) => {
            heard();
            json(StatusCode::OK, &desk.pasts())
        }
        (&Method::POST, ORDER_PATH) => {
            let body = desk.whole(request.into_body()).await;
            heard();
            let refused =
                |why: &str| format!("order from {} refused: {}", peer.name(), one_line(why, MAX_REFUSAL));
            let (status, answer) = match desk.payload(peer, body).await {
                Ok(payload) => {
                    let taken = desk.take(peer, &payload).await;
                    let (status, answer) = taken.map_or_else(
                        |(status, why)| (status, Answer::Refused { why, order: None }),
                        |a| (StatusCode::OK, a),
                    );
                    if let Answer::Refused { why, .. } = &answer {
                        log::warning(&refused(why));
                    }
                    (status, answer)
                }
                Err((status, why)) => {
                    desk.strangers.warning(|| refused(&why));
                    (status, Answer::Refused { why, order: None })
                }
            };
            json(status, &answer)
        }
        (&Method::POST, HAND_OVER_PATH) if peer.is_root_here() => {
            let (status, answer) = match desk.hand_over(request.into_body()).await {
                Ok(()) => (StatusCode::ACCEPTED, Answer::Accepted { volatile: false, order: None }),
                Err((status, why)) => (status, Answer::Refused { why, order: None }),
            };
            json(status, &answer)
        }
        (method, path) => {
            // Both are a stranger's words: a line of the log is no place for all of them, nor for control characters.
            let asked = format!("{method} {path}");
            desk.say(peer, || format!("asked for what there is not: {}", one_line(&asked, MAX_ASKED)));
            let why = format!("only POST {ORDER_PATH} and GET {STATUS_PATH}");
            json(StatusCode::NOT_FOUND, &Answer::Refused { why, order: None })
        }
    })
}

fn json(status: StatusCode, content: &impl serde::Serialize) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(serde_json::to_vec(content).unwrap_or_default())));
    *response.status_mut() = status;
    response
}

impl Desk {
    /// OrderKind somebody did that is nothing to us.
    fn say(&self, peer: Peer, what: impl FnOnce() -> String) {
        self.strangers.info(|| format!("{}: {}", peer.name(), what()));
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
            ..self.me.clone()
        }
    }

    /// slurmd waits for the answer, so the hand-over is only written up here and looked into afterwards.
    async fn hand_over(self: &Arc<Self>, body: Incoming) -> Result<(), Refusal> {
        let body = self.whole(body).await?;
        let what = serde_json::from_slice(&body.bytes);
        let what: HandOverRequest = what.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let me = NodeSet::from_names([self.me.node.as_str()]);
        let me = me.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            let slurm = desk.slurm.clone();
            let asked = tokio::task::spawn_blocking(move || slurm.look(ASKING_SLURM)).await;
            let asked = asked.unwrap_or_else(|error| Err(error.to_string()));
            let answer = match reboot_node::order_of(&what, &me, asked) {
                Ok(order) => desk.to_driver(order).await.map_err(|(_, why)| why),
                // Somebody called the program by hand: no business of Slurm's.
                Err(why) => return log::warning(&format!("hand-over by slurmd: {why}")),
            };
            if let Ok(Answer::Refused { why, .. }) | Err(why) = answer {
                log::error(&format!("hand-over by slurmd refused: {why}"));
                desk.slurm.give_reason(REBOOT_PROGRAM, &format!("refused: {why}"));
            }
        });
        Ok(())
    }

    /// What was sealed, by somebody whose orders are taken.
    async fn payload(&self, peer: Peer, body: Result<Body, Refusal>) -> Result<Vec<u8>, Refusal> {
        let body = body?;
        match peer {
            Peer::LocalRoot => Ok(body.bytes),
            Peer::Network(_) => self.open(body).await,
        }
    }

    async fn take(&self, peer: Peer, payload: &[u8]) -> Result<Answer, Refusal> {
        let order = Order::parse(payload).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        if let (Peer::Network(_), OrderKind::LocalHandOver(_)) = (peer, &order.kind) {
            return Err((StatusCode::FORBIDDEN, "only slurmd on this node says so".to_owned()));
        }
        self.to_driver(order).await
    }

    async fn to_driver(&self, order: Order) -> Result<Answer, Refusal> {
        let gone = |_| (StatusCode::SERVICE_UNAVAILABLE, "the agent is ending".to_owned());
        let (send, answer) = oneshot::channel();
        self.orders.send(Request { order, answer: send }).await.map_err(|error| gone(error.to_string()))?;
        answer.await.map_err(|error| gone(error.to_string()))
    }

    /// Opens the credential and looks who sealed it. On another thread: munged may take its time.
    async fn open(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let (munge, slurm_user) = (self.munge.clone(), self.slurm_user.clone());
        let ending = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
        let turn = Arc::clone(&self.opening).acquire_owned().await;
        let turn = turn.map_err(|error| ending(error.to_string()))?;
        let opened = tokio::task::spawn_blocking(move || {
            // The thread goes on where nobody waits for it any more: its turn is over when it ends.
            let _turns = (turn, body.turn);
            let text =
                std::str::from_utf8(&body.bytes).map_err(|_| "it is not sealed: no text".to_owned())?;
            let opened = munge.open(text.trim()).map_err(|error| error.to_string())?;
            if opened.uid != 0 && Some(opened.uid) != uid_of(&slurm_user) {
                return Err(format!("sealed by uid {}, which is neither root nor {slurm_user}", opened.uid));
            }
            Ok(opened.payload)
        });
        let opened = opened.await.map_err(|error| ending(error.to_string()))?;
        opened.map_err(|why| (StatusCode::FORBIDDEN, why))
    }

    /// Reads a body. A long one waits until it may.
    async fn whole(&self, body: Incoming) -> Result<Body, Refusal> {
        let refused = |error: Box<dyn std::error::Error + Send + Sync>| match error
            .is::<http_body_util::LengthLimitError>(
        ) {
            true => (StatusCode::PAYLOAD_TOO_LARGE, format!("an order has at most {MAX_BODY} bytes")),
            false => (StatusCode::BAD_REQUEST, format!("the order came incomplete: {error}")),
        };
        let mut incoming = Limited::new(body, MAX_BODY);
        let mut body = Body { bytes: Vec::new(), turn: None };
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(refused)?.into_data() else { continue };
            if body.turn.is_none() && body.bytes.len() + data.len() > SHORT_BODY {
                body.turn = Arc::clone(&self.long_bodies).acquire_owned().await.ok();
                // All at once: growing step by step would take twice as much.
                body.bytes.reserve_exact(MAX_BODY - body.bytes.len());
            }
            body.bytes.extend_from_slice(&data);
        }
        Ok(body)
    }
}

/// Asked anew each time: the name service may not have been up when the agent started.
fn uid_of(user: &str) -> Option<u32> {
    User::from_name(user).ok().flatten().map(|user| user.uid.as_raw())
}
