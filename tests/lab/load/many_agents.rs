//! Thousands of agents that are one thread pool: all of 127.0.0.0/8 is one machine, so a listener on 0.0.0.0 answers
//! at each of its addresses. The agents take every order and record it by its address.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, listen};

use crate::cluster::node::Node;
use crate::error::{IoContext, Result};

/// Number of simultaneous answers.
const THREADS: usize = 8;
/// Number of waiting connections. A full queue would drop packets, which their sender repeats after a second.
const QUEUE: i32 = 4096;
/// An order for thousands of nodes with names that do not fold fits.
const MAX_REQUEST: usize = 1024 * 1024;

/// Answer of an agent that has the order on disk.
const ACCEPTED: &str = "{\"answer\":\"accepted\"}";
/// Status of an agent that never had an order, on a node that is up for months.
const STATUS: &str = "{\"version\":\"0\",\"node\":\"any\",\"boot_id\":\"any\",\"uptime_s\":9999999}";

/// Many agents, until the process ends.
#[derive(Debug)]
pub struct ManyAgents {
    pub port: u16,
    orders: Arc<Mutex<Orders>>,
}

/// Requests that were posted.
#[derive(Debug, Default)]
struct Orders {
    by_address: BTreeMap<IpAddr, Vec<String>>,
    /// Times of the first and the last one.
    span: Option<(Instant, Instant)>,
}

impl ManyAgents {
    /// Starts them in a node's network, on this port.
    pub fn on(node: &Node, port: u16) -> Result<ManyAgents> {
        node.in_network(|| ManyAgents::listen(port))?
    }

    /// Starts them in this process's network, on a free port.
    pub fn here() -> Result<ManyAgents> {
        ManyAgents::listen(0)
    }

    fn listen(port: u16) -> Result<ManyAgents> {
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let bind = || -> std::io::Result<(TcpListener, u16)> {
            let listener = TcpListener::bind(everywhere)?;
            listen(&listener, Backlog::new(QUEUE)?)?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        };
        let (listener, port) = bind().on("listen on a port", "0.0.0.0".as_ref())?;
        let (listener, orders) = (Arc::new(listener), Arc::new(Mutex::<Orders>::default()));
        for _ in 0..THREADS {
            let (listener, orders) = (Arc::clone(&listener), Arc::clone(&orders));
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    // A connection that ends in the middle brings no order.
                    let _ = serve(stream, &orders);
                }
            });
        }
        Ok(ManyAgents { port, orders })
    }

    /// Takes the orders so far, by address.
    pub fn take_orders(&self) -> BTreeMap<IpAddr, Vec<String>> {
        std::mem::take(&mut *locked(&self.orders)).by_address
    }

    /// Number of orders so far.
    pub fn count(&self) -> usize {
        locked(&self.orders).by_address.values().map(Vec::len).sum()
    }

    /// Time from the first order to the last one.
    pub fn span(&self) -> Duration {
        locked(&self.orders).span.map_or(Duration::ZERO, |(first, last)| last - first)
    }
}

fn locked(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, orders: &Mutex<Orders>) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(4096);
    let mut part = [0; 16 * 1024];
    let body = loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break head.starts_with("post ").then(|| body.to_owned());
            }
        }
        match stream.read(&mut part)? {
            0 => return Ok(()),
            _ if request.len() > MAX_REQUEST => return Ok(()),
            count => request.extend_from_slice(&part[..count]),
        }
    };
    let answer = if body.is_some() { ACCEPTED } else { STATUS };
    if let Some(order) = body {
        let mut orders = locked(orders);
        orders.by_address.entry(stream.local_addr()?.ip()).or_default().push(order);
        let now = Instant::now();
        orders.span = Some((orders.span.map_or(now, |(first, _)| first), now));
    }
    let length = answer.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}")
}
