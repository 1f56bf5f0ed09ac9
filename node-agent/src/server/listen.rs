//! The sockets on which the agent listens.

use crate::config::Config;
use crate::log;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// How many connections the kernel keeps for us, so that a flood makes an order wait and not be lost.
const BACKLOG: u32 = 1024;

/// How long no connection is accepted after that has failed.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Out of descriptors, or the peer was gone at once. The connections that are open end within their limit.
pub(super) async fn failed(error: &std::io::Error) {
    log::warning(&format!("a connection cannot be accepted: {error}"));
    tokio::time::sleep(ACCEPT_AGAIN).await;
}

pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let without_ipv6 = || bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    let bound = bind(address);
    let bound = if address.ip().is_unspecified() { bound.or_else(|_| without_ipv6()) } else { bound };
    bound.map_err(|error| format!("{address}: cannot listen: {error}"))
}

pub(super) fn unix(config: &Config) -> Result<UnixListener, String> {
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
