//! One HTTP exchange with one agent: an order, or a question about its node.

use crate::agents::address::HostAddresses;
use crate::agents::http::{self, Request};
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::protocol::answer::{
    AgentStatus, Answer, MAX_NOTES, ORDER_PATH, PAST_PATH, REHEARSAL_PATH, STATUS_PATH,
};
use rollout_core::protocol::rehearsal::Rehearsal;
use rollout_core::text::one_line;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Length limit of the answer to an order and of a status, in bytes. Their longest parts are error texts.
const MAX_ANSWER: u64 = 64 * 1024;

/// Length limit of the changes that rollouts made on a node, in bytes. An agent keeps those of eight rollouts, and a
/// distribution's update changes some thousand packages, with two names of about 60 bytes each.
const MAX_PAST: u64 = 8 * 1024 * 1024;

/// Length limit of a rehearsal, in bytes. Its longest part are the names and versions of packages, at most
/// [`MAX_STEPS`](rollout_core::protocol::rehearsal::MAX_STEPS).
const MAX_REHEARSAL: u64 = 1024 * 1024;

/// Number of addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

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
    port: u16,
    limit: Duration,
    connect_within: Option<Duration>,
}

impl AgentClient {
    /// Returns a client for agents on this port, with a time limit for each exchange.
    #[must_use]
    pub fn new(port: u16, limit: Duration) -> Self {
        Self { port, limit, connect_within: None }
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
        let request = Request { path: ORDER_PATH, post: Some(sealed), max: MAX_ANSWER };
        Ok(match self.ask(host, &request)? {
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
        let request = Request { path: STATUS_PATH, post: None, max: MAX_ANSWER };
        let mut status: AgentStatus = self.ask(host, &request)?;
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
        self.ask(host, &Request { path: PAST_PATH, post: None, max: MAX_PAST })
    }

    /// Asks an agent for the last rehearsal of its node.
    ///
    /// # Errors
    /// If there is no answer, or it is not an agent's.
    pub fn rehearsal(&self, host: &HostAddresses) -> Result<Option<Rehearsal>, NoAnswer> {
        let request = Request { path: REHEARSAL_PATH, post: None, max: MAX_REHEARSAL };
        let mut rehearsal: Option<Rehearsal> = self.ask(host, &request)?;
        for report in rehearsal.iter_mut().filter_map(|rehearsal| rehearsal.report.as_mut()) {
            for text in report.texts_mut() {
                *text = one_line(text, MAX_WHY);
            }
        }
        Ok(rehearsal)
    }

    /// Sends a request to the first of the addresses that can be reached, and reads the answer.
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        host: &HostAddresses,
        request: &Request<'_>,
    ) -> Result<T, NoAnswer> {
        let by = Instant::now() + self.limit;
        let stream = self.connect(host, by)?;
        let response = http::exchange(stream, request, by).map_err(NoAnswer::from)?;
        let foreign = || NoAnswer::Other(format!("HTTP {}, which no agent says", response.status));
        let text = std::str::from_utf8(&response.body).map_err(|_| foreign())?;
        serde_json::from_str(text).map_err(|_| foreign())
    }

    fn connect(&self, host: &HostAddresses, by: Instant) -> Result<TcpStream, NoAnswer> {
        let addresses: Vec<SocketAddr> = host.at_port(self.port).take(MAX_ADDRESSES).collect();
        let connect_by = self.connect_within.map(|limit| Instant::now() + limit).filter(|limit| *limit < by);
        http::connect(&addresses, connect_by.unwrap_or(by)).map_err(|error| match error.kind() {
            ErrorKind::TimedOut if connect_by.is_some() => {
                NoAnswer::HostSilent { why: "its host does not answer".to_owned(), connected: Connected::No }
            }
            _ => error.into(),
        })
    }
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        let silent = |why| Self::HostSilent { why, connected: Connected::Unknown };
        let why = one_line(&error.to_string(), MAX_WHY);
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::NobodyListens(why),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => silent(why),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => silent("it did not come in time".to_owned()),
            _ => Self::Other(why),
        }
    }
}
