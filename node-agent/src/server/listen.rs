//! The sockets on which the agent listens.

use crate::config::Config;
use crate::log;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Number of connections that the kernel queues, so that a flood delays an order instead of losing it.
const BACKLOG: u32 = 1024;

/// Pause after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Logs the failure to accept a connection, and waits: either descriptors ran out, and open connections end within
/// their limit, or the peer disconnected at once.
pub(super) async fn failed(error: &std::io::Error) {
    log::warning(&format!("a connection cannot be accepted: {error}"));
    tokio::time::sleep(ACCEPT_AGAIN).await;
}

pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // [::] takes IPv4 as well, whatever net.ipv6.bindv6only is.
            setsockopt(&socket, Ipv6V6Only, &false)?;
        }
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
        // An earlier agent may have left its socket. Two agents at once are impossible: the TCP port is bound first.
        let _ = std::fs::remove_file(path);
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    };
    bind().map_err(|error: std::io::Error| format!("{}: cannot listen: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use std::net::Ipv6Addr;

    #[tokio::test]
    async fn the_address_of_all_networks_takes_ipv4_too() {
        let listener = tcp((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        if address.is_ipv6() {
            assert!(!getsockopt(&listener, Ipv6V6Only).unwrap());
        }
        let reached = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await;
        assert!(reached.is_ok(), "{reached:?}");
    }
}
