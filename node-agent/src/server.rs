//! Taking orders and answering where the node stands: HTTP/1.1 on TCP for sealed orders, on a Unix socket for root.
//!
//! Everything that comes in is bounded: connections, their time, a body's size. Nothing here changes the node: an order
//! that is genuine goes to the driver.

use crate::config::Config;
use crate::driver::{Published, Request};
use crate::{log, node};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::User;
use rollout_core::agent_api::{AgentStatus, Answer, MAX_BODY, ORDER_PATH, STATUS_PATH};
use rollout_core::ledger::one_line;
use rollout_core::order::Order;
use rollout_host::clock;
use rollout_host::munge::Munge;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// How many from the network are served at the same time; others are hung up on. Few ever speak to one agent: an order
/// in months, and whoever looks at the status.
const MAX_CONNECTIONS: usize = 64;

/// How long somebody may take to say what they want, and the whole exchange may take.
const HEADER_LIMIT: Duration = Duration::from_secs(3);
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How long no connection is accepted after that has failed.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The length of what a status says about an agent in trouble, in characters.
const MAX_TROUBLE: usize = 700;

/// How much of a request for what there is not stands in the log, in characters.
const MAX_ASKED: usize = 100;

pub(crate) struct Server {
    tcp: TcpListener,
    unix: UnixListener,
    desk: Arc<Desk>,
}

/// What every exchange needs.
struct Desk {
    node: String,
    boot_id: String,
    slurm_user: String,
    munge: Munge,
    published: watch::Receiver<Published>,
    orders: mpsc::Sender<Request>,
    places: Arc<Semaphore>,
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
        node: String,
        boot_id: String,
        published: watch::Receiver<Published>,
        orders: mpsc::Sender<Request>,
    ) -> Result<Self, String> {
        let desk = Desk {
            node,
            boot_id,
            slurm_user: config.slurm_user.clone(),
            munge: Munge::at(&config.munge_socket),
            published,
            orders,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        };
        Ok(Self { tcp: bind_tcp(config.listen)?, unix: bind_unix(config)?, desk: Arc::new(desk) })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self) {
        let network = async {
            loop {
                match self.tcp.accept().await {
                    Ok((stream, peer)) => exchange(&self.desk, stream, Peer::Network(peer)),
                    Err(error) => no_connection(&error).await,
                }
            }
        };
        let local = async {
            loop {
                match self.unix.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)))
                {
                    Ok((0, stream)) => exchange(&self.desk, stream, Peer::LocalRoot),
                    // The modes of the socket and its directory keep others out already.
                    Ok((uid, _)) => log::warning(&format!("uid {uid} on this node: hung up: not root")),
                    Err(error) => no_connection(&error).await,
                }
            }
        };
        tokio::join!(network, local);
    }
}

/// Out of descriptors, or the peer was gone at once. The connections that are open end within their limit.
async fn no_connection(error: &std::io::Error) {
    log::warning(&format!("a connection cannot be accepted: {error}"));
    tokio::time::sleep(ACCEPT_AGAIN).await;
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    let without_ipv6 = || bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    let bound = bind(address);
    let bound = if address.ip().is_unspecified() { bound.or_else(|_| without_ipv6()) } else { bound };
    bound.map_err(|error| format!("{address}: cannot listen: {error}"))
}

fn bind_unix(config: &Config) -> Result<UnixListener, String> {
    let path = &config.socket;
    let bind = || {
        // What an agent before us left. Two agents at once cannot be: the TCP port is taken first.
        let _ = std::fs::remove_file(path);
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    };
    bind().map_err(|error: std::io::Error| format!("{}: cannot listen: {error}", path.display()))
}

fn exchange(desk: &Arc<Desk>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
    // Root on this node is served however many strangers call.
    let place = match peer {
        Peer::LocalRoot => None,
        Peer::Network(_) => match Arc::clone(&desk.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => return log::info(&format!("{}: hung up: too many at the same time", peer.name())),
        },
    };
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        let answer = hyper::service::service_fn(|request| answer(&desk, peer, request));
        let served = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), answer);
        match tokio::time::timeout(EXCHANGE_LIMIT, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::info(&format!("{}: hung up: {error}", peer.name())),
            Err(_) => log::info(&format!("{}: hung up: too slow", peer.name())),
        }
        drop(place);
    });
}

impl Peer {
    fn name(self) -> String {
        match self {
            Self::Network(address) => address.ip().to_canonical().to_string(),
            Self::LocalRoot => "root on this node".to_owned(),
        }
    }
}

type HttpRequest = hyper::Request<Incoming>;
type HttpResponse = Response<Full<Bytes>>;

async fn answer(desk: &Desk, peer: Peer, request: HttpRequest) -> Result<HttpResponse, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, STATUS_PATH) => json(StatusCode::OK, &desk.status()),
        (&Method::POST, ORDER_PATH) => {
            let (status, answer) = match desk.take(peer, request.into_body()).await {
                Ok(answer) => (StatusCode::OK, answer),
                Err((status, why)) => (status, Answer::Refused { why }),
            };
            if let Answer::Refused { why } = &answer {
                log::warning(&format!("order from {} refused: {why}", peer.name()));
            }
            json(status, &answer)
        }
        (method, path) => {
            // Both are a stranger's words: a line of the log is no place for all of them, nor for control characters.
            let asked = format!("{method} {path}");
            log::info(&format!(
                "{}: asked for what there is not: {}",
                peer.name(),
                one_line(&asked, MAX_ASKED)
            ));
            let why = format!("only POST {ORDER_PATH} and GET {STATUS_PATH}");
            json(StatusCode::NOT_FOUND, &Answer::Refused { why })
        }
    })
}

fn json(status: StatusCode, content: &impl serde::Serialize) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(serde_json::to_vec(content).unwrap_or_default())));
    *response.status_mut() = status;
    response
}

impl Desk {
    fn status(&self) -> AgentStatus {
        let (order, trouble) = match &*self.published.borrow() {
            Published::NoOrder => (None, None),
            Published::Ledger(ledger) => (Some(ledger.status()), None),
            Published::Trouble(why) => (None, Some(one_line(why, MAX_TROUBLE))),
        };
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            uptime_s: node::uptime().as_secs(),
            clock_s: Some(clock::now_s()),
            order,
            trouble,
        }
    }

    async fn take(&self, peer: Peer, body: Incoming) -> Result<Answer, (StatusCode, String)> {
        let whole = Limited::new(body, MAX_BODY).collect().await;
        let body = whole.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => (StatusCode::PAYLOAD_TOO_LARGE, format!("an order has at most {MAX_BODY} bytes")),
            false => (StatusCode::BAD_REQUEST, format!("the order came incomplete: {error}")),
        })?;
        let body = body.to_bytes();
        let payload = match peer {
            Peer::LocalRoot => body.to_vec(),
            Peer::Network(_) => self.open(body).await?,
        };
        let order = Order::parse(&payload).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let gone = |_| (StatusCode::SERVICE_UNAVAILABLE, "the agent is ending".to_owned());
        let (send, answer) = oneshot::channel();
        self.orders.send((order, send)).await.map_err(|error| gone(error.to_string()))?;
        answer.await.map_err(|error| gone(error.to_string()))
    }

    /// Opens the credential and looks who sealed it. On another thread: munged may take its time.
    async fn open(&self, body: Bytes) -> Result<Vec<u8>, (StatusCode, String)> {
        let (munge, slurm_user) = (self.munge.clone(), self.slurm_user.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let text = std::str::from_utf8(&body).map_err(|_| "it is not sealed: no text".to_owned())?;
            let opened = munge.open(text.trim()).map_err(|error| error.to_string())?;
            if opened.uid != 0 && Some(opened.uid) != uid_of(&slurm_user) {
                return Err(format!("sealed by uid {}, which is neither root nor {slurm_user}", opened.uid));
            }
            Ok(opened.payload)
        });
        let opened = opened.await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        opened.map_err(|why| (StatusCode::FORBIDDEN, why))
    }
}

/// Asked anew each time: the name service may not have been up when the agent started.
fn uid_of(user: &str) -> Option<u32> {
    User::from_name(user).ok().flatten().map(|user| user.uid.as_raw())
}
