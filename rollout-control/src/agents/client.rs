//! One HTTP exchange with one agent: an order with its answer, or the question where it stands.

use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::protocol::answer::{AgentStatus, Answer, ORDER_PATH, PAST_PATH, STATUS_PATH};
use rollout_core::text::one_line;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::{Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

/// No answer of an agent is longer.
const MAX_ANSWER: u64 = 64 * 1024;

/// Hundreds of agents are spoken to at the same time, and an exchange is short. By default each has two of 128 KiB.
const BUFFER: usize = 8 * 1024;

/// Length limit of what an agent says to people, in characters. It goes to journals, terminals and Slurm's Reasons, and
/// nothing proves who said it: it is brought to one line without control characters.
const MAX_WHY: usize = 1500;

/// Length limit of the names and versions that it says. A NodeName has at most 255 characters.
const MAX_NAME: usize = 256;

/// Why an agent gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoAnswer {
    /// In the system's words.
    pub why: String,
    /// Whether the host is there and nobody listens on the port: the agent may be starting.
    pub nobody_listens: bool,
    /// Whether the host gave no sign of life within the limit, or no way leads to it.
    pub host_silent: bool,
    /// Whether nothing was sent, because there was no connection: then it can be tried again.
    pub nothing_sent: bool,
}

/// Speaks to agents by their addresses.
#[derive(Debug, Clone)]
pub struct AgentClient {
    http: Agent,
    port: u16,
    connect_within: Option<Duration>,
}

impl AgentClient {
    /// A client for agents on this port, each exchange to end within `limit`.
    #[must_use]
    pub fn new(port: u16, limit: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .user_agent(concat!("slurm-rollout/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            http: Agent::with_parts(config, DefaultConnector::default(), LiteralAddress),
            port,
            connect_within: None,
        }
    }

    /// The same with a limit of its own for the connection. That is the kernels' affair and takes no longer than the
    /// network, whatever the agent has to do.
    #[must_use]
    pub fn connecting_within(self, limit: Duration) -> Self {
        Self { connect_within: Some(limit), ..self }
    }

    /// Gives an agent a sealed order.
    ///
    /// # Errors
    /// Why there was no answer, in one line.
    pub fn order(&self, address: IpAddr, sealed: &str) -> Result<Answer, NoAnswer> {
        let request = self.http.post(self.url(address, ORDER_PATH)).content_type("text/plain");
        let answer = read(request.config().timeout_connect(self.connect_within).build().send(sealed))?;
        Ok(match answer {
            Answer::Refused { why, order } => Answer::Refused { why: one_line(&why, MAX_WHY), order },
            other => other,
        })
    }

    /// Asks an agent where it stands.
    ///
    /// # Errors
    /// Why there was no answer, in one line.
    pub fn status(&self, address: IpAddr) -> Result<AgentStatus, NoAnswer> {
        let request = self.http.get(self.url(address, STATUS_PATH)).config();
        let mut status: AgentStatus = read(request.timeout_connect(self.connect_within).build().call())?;
        // All of it may end on a terminal.
        for text in [&mut status.version, &mut status.node] {
            *text = one_line(text, MAX_NAME);
        }
        if let Some(order) = &mut status.order {
            order.rollout = order.rollout.take().map(|rollout| one_line(&rollout, MAX_NAME));
            order.error = order.error.take().map(|error| one_line(&error, MAX_WHY));
        }
        if let Some(running) = &mut status.running {
            let optional = [&mut running.image, &mut running.version, &mut running.ostree];
            for text in optional.into_iter().filter_map(Option::as_mut).chain([&mut running.kernel]) {
                *text = one_line(text, MAX_NAME);
            }
        }
        status.trouble = status.trouble.take().map(|trouble| one_line(&trouble, MAX_WHY));
        Ok(status)
    }

    /// Asks an agent what rollouts made of its node, oldest first.
    ///
    /// # Errors
    /// Why there was no answer, in one line.
    pub fn pasts(&self, address: IpAddr) -> Result<Vec<NodeChanges>, NoAnswer> {
        let request = self.http.get(self.url(address, PAST_PATH)).config();
        read(request.timeout_connect(self.connect_within).build().call())
    }

    fn url(&self, address: IpAddr, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(address, self.port))
    }
}

fn read<T: serde::de::DeserializeOwned>(
    response: Result<Response<Body>, ureq::Error>,
) -> Result<T, NoAnswer> {
    let mut response = response.map_err(NoAnswer::from)?;
    let text =
        response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(NoAnswer::from)?;
    let foreign = |_| format!("HTTP {}, which no agent says", response.status().as_u16());
    let answer = serde_json::from_str(&text).map_err(foreign);
    answer.map_err(|why| NoAnswer { why, nobody_listens: false, host_silent: false, nothing_sent: false })
}

impl From<ureq::Error> for NoAnswer {
    fn from(error: ureq::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match &error {
            ureq::Error::Io(error) => Some(error.kind()),
            _ => None,
        };
        let nobody_listens = kind == Some(ErrorKind::ConnectionRefused);
        let host_silent = matches!(error, ureq::Error::Timeout(_))
            || matches!(
                kind,
                Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut)
            );
        let nothing_sent = nobody_listens || matches!(error, ureq::Error::Timeout(ureq::Timeout::Connect));
        let why = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(ureq::Timeout::Connect) => "its host does not answer".to_owned(),
            ureq::Error::Timeout(_) => "it did not come in time".to_owned(),
            other => other.to_string(),
        };
        Self { why: one_line(&why, MAX_WHY), nobody_listens, host_silent, nothing_sent }
    }
}

/// Takes addresses only, so that no name service is linked in: names were resolved before.
#[derive(Debug)]
struct LiteralAddress;

impl Resolver for LiteralAddress {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let address = uri.authority().and_then(|authority| authority.as_str().parse().ok());
        let mut found = self.empty();
        found.push(address.ok_or(ureq::Error::HostNotFound)?);
        Ok(found)
    }
}
