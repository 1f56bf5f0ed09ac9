//! One HTTP exchange with one agent: an order, or a question about its node.

use crate::agents::address::HostAddresses;
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::protocol::answer::{AgentStatus, Answer, MAX_NOTES, ORDER_PATH, PAST_PATH, STATUS_PATH};
use rollout_core::text::one_line;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::{Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

/// Length limit of the answer to an order and of a status, in bytes. Their longest parts are error texts.
const MAX_ANSWER: u64 = 64 * 1024;

/// Length limit of the changes that rollouts made on a node, in bytes. An agent keeps those of eight rollouts, and a
/// distribution's update changes some thousand packages, with two names of about 60 bytes each.
const MAX_PAST: u64 = 8 * 1024 * 1024;

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
    config: Config,
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
        Self { config, port, connect_within: None }
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
    pub fn order(&self, host: &HostAddresses, sealed: &str) -> Result<Answer, NoAnswer> {
        let (http, url) = self.to(host, ORDER_PATH);
        let request = http.post(url).content_type("text/plain");
        let response = request.config().timeout_connect(self.connect_within).build().send(sealed);
        let answer = read(response, MAX_ANSWER)?;
        Ok(match answer {
            Answer::Refused { why, order, transient } => {
                Answer::Refused { why: one_line(&why, MAX_WHY), order, transient }
            }
            other => other,
        })
    }

    /// Asks an agent for its status.
    ///
    /// # Errors
    /// If there is no answer, or it is not an agent's.
    pub fn status(&self, host: &HostAddresses) -> Result<AgentStatus, NoAnswer> {
        let (http, url) = self.to(host, STATUS_PATH);
        let request = http.get(url).config();
        let response = request.timeout_connect(self.connect_within).build().call();
        let mut status: AgentStatus = read(response, MAX_ANSWER)?;
        // Any of these texts may be shown on a terminal.
        for text in [&mut status.version, &mut status.node] {
            *text = one_line(text, MAX_NAME);
        }
        if let Some(order) = &mut status.order {
            order.rollout = order.rollout.take().map(|rollout| one_line(&rollout, MAX_NAME));
            order.error = order.error.take().map(|error| one_line(&error, MAX_WHY));
            order.notes = order.notes.iter().take(MAX_NOTES).map(|note| one_line(note, MAX_WHY)).collect();
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
    pub fn pasts(&self, host: &HostAddresses) -> Result<Vec<NodeChanges>, NoAnswer> {
        let (http, url) = self.to(host, PAST_PATH);
        let request = http.get(url).config();
        read(request.timeout_connect(self.connect_within).build().call(), MAX_PAST)
    }

    /// Returns an HTTP client that connects to the first of these addresses that can be reached, and the URL.
    fn to(&self, host: &HostAddresses, path: &str) -> (Agent, String) {
        let addresses: Vec<SocketAddr> = host.at_port(self.port).collect();
        // The interface of a link-local address has no place in a URL.
        let name = addresses.first().map(|address| SocketAddr::new(address.ip(), self.port).to_string());
        let url = format!("http://{}{path}", name.unwrap_or_default());
        let http = Agent::with_parts(self.config.clone(), DefaultConnector::default(), Literal(addresses));
        (http, url)
    }
}

fn read<T: serde::de::DeserializeOwned>(
    response: Result<Response<Body>, ureq::Error>,
    max: u64,
) -> Result<T, NoAnswer> {
    let mut response = response.map_err(NoAnswer::from)?;
    let text = response.body_mut().with_config().limit(max).read_to_string().map_err(NoAnswer::from)?;
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

/// Knows the addresses already, so that no name service is linked in.
#[derive(Debug)]
struct Literal(Vec<SocketAddr>);

/// Number of addresses of a host that are tried. ureq has room for 16.
const MAX_ADDRESSES: usize = 8;

impl Resolver for Literal {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        self.0.iter().take(MAX_ADDRESSES).for_each(|address| found.push(*address));
        Ok(found)
    }
}
