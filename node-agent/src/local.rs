//! The verbs for root on the node: one HTTP exchange with the daemon over its Unix socket.

use crate::config::Config;
use crate::node;
use rollout_core::agent_api::{AgentStatus, Answer, ORDER_PATH, STATUS_PATH};
use rollout_core::hostlist::NodeSet;
use rollout_core::order::{Order, What};
use rollout_host::random;
use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn status(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", exchange(config, &format!("GET {STATUS_PATH}"), "")?);
    Ok(ExitCode::SUCCESS)
}

/// Where the daemon on this node stands.
pub(crate) fn ask_status(config: &Config) -> Result<AgentStatus, Box<dyn Error>> {
    Ok(serde_json::from_str(&exchange(config, &format!("GET {STATUS_PATH}"), "")?)?)
}

pub(crate) fn order(config: &Config, what: What) -> Result<ExitCode, Box<dyn Error>> {
    let node = NodeSet::from_names([node::name(config)?.as_str()])?;
    let order = Order::new(random::order_id(), node, what);
    let answer = exchange(config, &format!("POST {ORDER_PATH}"), &serde_json::to_string(&order)?)?;
    match serde_json::from_str(&answer)? {
        Answer::Accepted | Answer::UnderWay { .. } => Ok(ExitCode::SUCCESS),
        Answer::Refused { why } => Err(why.into()),
    }
}

fn exchange(config: &Config, what: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let path = config.socket.display();
    let mut stream = UnixStream::connect(&config.socket).map_err(|error| {
        format!("{path}: {error} (are you root, and is slurm-rollout-agent.service running?)")
    })?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the agent's answer has no body")?;
    Ok(body.to_owned())
}
