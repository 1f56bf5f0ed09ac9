//! One HTTP exchange with one agent: an order, or a question about its node.

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

/// Length limit of an agent's answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Buffer size of a connection. Hundreds are open at the same time, and an exchange is short. By default each has two
/// buffers of 128 KiB.
const BUFFER: usize = 8 * 1024;

/// Length limit of an agent's texts for people, in characters. They go to journals, terminals and Slurm's Reasons, and
/// their origin is not proven, so they are brought to one line without control characters.
const MAX_WHY: usize = 1500;

/// Length limit of names and versions, in characters. A NodeName has at most 255.
const MAX_NAME: usize = 256;

/// An agent gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// The NodeAddr leads to no address.
    #[error("{0}")]
    NoAddress(String),
    /// The time limit for all agents was over before this one was asked or had answered.
    #[error("not asked in time")]
    NotAsked,
    /// The host refuses the connection: the agent may be starting.
    #[error("no answer from its agent: {0}")]
    NobodyListens(String),
    /// The host gave no sign of life within the limit, or there is no route to it.
    #[error("no answer from its agent: {why}")]
    HostSilent { why: String, connected: Connected },
    /// The answer is not an agent's, or the connection broke.
    #[error("no answer from its agent: {0}")]
    Other(String),
}

/// State of the connection to a silent host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connected {
    No,
    /// The request may have been sent.
    Unknown,
}

impl NoAnswer {
    /// Returns the cause alone, in one line.
    #[must_use]
    pub fn cause(&self) -> &str {
        match self {
            Self::NoAddress(why)
            | Self::NobodyListens(why)
            | Self::HostSilent { why, .. }
            | Self::Other(why) => why,
            Self::NotAsked => "not asked in time",
        }
    }

    /// Returns whether nothing was sent for want of a connection, so that the request can be repeated.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        match self {
            Self::NoAddress(_) | Self::NobodyListens(_) => true,
            Self::HostSilent { connected, .. } => *connected == Connected::No,
            Self::NotAsked | Self::Other(_) => false,
        }
    }
}

/// An HTTP client for agents, by their addresses.
#[derive(Debug, Clone)]
pub struct AgentClient {
    http: Agent,
    port: u16,
    connect_within: Option<Duration>,
}

impl AgentClient {
    /// Returns a client for agents on this port, with a time limit for each exchange.
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

    /// Sets a separate limit for connecting. The kernels establish a connection, so it takes no longer than the network
    /// does, however busy the agent is.
    #[must_use]
    pub fn connecting_within(self, limit: Duration) -> Self {
        Self { connect_within: Some(limit), ..self }
    }

    /// Sends a sealed order.
    ///
    /// # Errors
    /// If there is no answer, or it is not an agent's.
    pub fn order(&self, address: IpAddr, sealed: &str) -> Result<Answer, NoAnswer> {
        let request = self.http.post(self.url(address, ORDER_PATH)).content_type("text/plain");
        let answer = read(request.config().timeout_connect(self.connect_within).build().send(sealed))?;
        Ok(match answer {
            Answer::Refused { why, order } => Answer::Refused { why: one_line(&why, MAX_WHY), order },
            other => other,
        })
    }

    /// Asks an agent for its status.
    ///
    /// # Errors
    /// If there is no answer, or it is not an agent's.
    pub fn status(&self, address: IpAddr) -> Result<AgentStatus, NoAnswer> {
        let request = self.http.get(self.url(address, STATUS_PATH)).config();
        let mut status: AgentStatus = read(request.timeout_connect(self.connect_within).build().call())?;
        // Any of these texts may be shown on a terminal.
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

    /// Asks an agent for the changes that rollouts made on its node, oldest first.
    ///
    /// # Errors
    /// If there is no answer, or it is not an agent's.
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
    serde_json::from_str(&text).map_err(foreign).map_err(NoAnswer::Other)
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
        let connected = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => Connected::No,
            _ => Connected::Unknown,
        };
        let why = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(ureq::Timeout::Connect) => "its host does not answer".to_owned(),
            ureq::Error::Timeout(_) => "it did not come in time".to_owned(),
            other => other.to_string(),
        };
        let why = one_line(&why, MAX_WHY);
        match (nobody_listens, host_silent) {
            (true, _) => Self::NobodyListens(why),
            (false, true) => Self::HostSilent { why, connected },
            (false, false) => Self::Other(why),
        }
    }
}

/// Accepts addresses only, so that no name service is linked in. Names are resolved before.
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
