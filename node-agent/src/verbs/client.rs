//! The verbs for root on the node. Each is one HTTP exchange with the daemon, over its Unix socket.

use crate::config::Config;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, Answer, ORDER_PATH, STATUS_PATH};
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_host::random;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn status(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", exchange(config, &format!("GET {STATUS_PATH}"), "")?);
    Ok(ExitCode::SUCCESS)
}

/// Returns the daemon's status.
pub(crate) fn ask_status(config: &Config) -> Result<AgentStatus, Box<dyn Error>> {
    Ok(serde_json::from_str(&exchange(config, &format!("GET {STATUS_PATH}"), "")?)?)
}

pub(crate) fn order(config: &Config, kind: OrderKind) -> Result<ExitCode, Box<dyn Error>> {
    let node = NodeSet::from_names([ask_status(config)?.node.as_str()])?;
    let order = Order::new(random::order_id(), node, kind);
    let answer = exchange(config, &format!("POST {ORDER_PATH}"), &serde_json::to_string(&order)?)?;
    match serde_json::from_str(&answer)? {
        Answer::Accepted { .. } | Answer::UnderWay { .. } => Ok(ExitCode::SUCCESS),
        Answer::Refused { why, .. } => Err(why.into()),
    }
}

/// Returns the daemon's status over TCP, as the controller asks for it.
pub(crate) fn ask_status_over_tcp(config: &Config) -> Result<AgentStatus, Box<dyn Error>> {
    Ok(serde_json::from_str(&over_tcp(config, &format!("GET {STATUS_PATH}"), "")?)?)
}

/// Sends the daemon a trial order over TCP, sealed by this host.
pub(crate) fn probe(config: &Config, node: &str) -> Result<Answer, Box<dyn Error>> {
    let order = Order::new(random::order_id(), NodeSet::from_names([node])?, OrderKind::Probe);
    let sealed = config.sealing().seal(&serde_json::to_string(&order)?)?;
    Ok(serde_json::from_str(&over_tcp(config, &format!("POST {ORDER_PATH}"), &sealed)?)?)
}

fn over_tcp(config: &Config, request: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let port = config.listen.port();
    let addresses = match config.listen.ip() {
        // The agent listens on IPv4 alone if there is no IPv6.
        any if any.is_unspecified() => vec![IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()],
        address => vec![address],
    };
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&(address, port).into(), LIMIT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                return http(stream, request, body);
            }
            Err(error) => last = Some(format!("{}: {error}", SocketAddr::new(address, port))),
        }
    }
    Err(last.unwrap_or_default().into())
}

pub(crate) fn exchange(config: &Config, request: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let path = config.socket.display();
    let stream = UnixStream::connect(&config.socket).map_err(|error| {
        format!("{path}: {error} (are you root, and is slurm-rollout-agent.service running?)")
    })?;
    stream.set_read_timeout(Some(LIMIT))?;
    http(stream, request, body)
}

fn http(mut stream: impl Read + Write, request: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the agent's answer has no body")?;
    Ok(body.to_owned())
}
