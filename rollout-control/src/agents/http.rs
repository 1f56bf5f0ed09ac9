//! One HTTP/1.1 exchange, on a connection of its own, with one deadline for all of it.
//!
//! It is as much of HTTP as agents need, which are ours: no redirect, no proxy, no name to look up. A client for all of
//! HTTP made RebootProgram 0.15 MB larger.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Buffer size of a connection. Hundreds are open at the same time, and an exchange is short.
const BUFFER: usize = 8 * 1024;

/// Length limit of the head of an answer, in bytes.
const MAX_HEAD: u64 = 16 * 1024;

/// Shortest time limit for connecting to one of several addresses.
const CONNECT_AT_LEAST: Duration = Duration::from_millis(10);

const USER_AGENT: &str = concat!("slurm-rollout/", env!("CARGO_PKG_VERSION"));

/// A request to one of the addresses of a host.
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    /// The text to post. Without one, the request is a GET.
    pub(super) post: Option<&'a str>,
    /// Length limit of the body of the answer, in bytes.
    pub(super) max: u64,
}

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Connects to the first of these addresses that can be reached. Returns the error of the last one if none can.
pub(super) fn connect(addresses: &[SocketAddr], by: Instant) -> io::Result<TcpStream> {
    let mut outcome = Err(ErrorKind::AddrNotAvailable.into());
    for (index, address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        // If this address leads nowhere, the ones behind it need time as well.
        let limit = if index + 1 == addresses.len() { left } else { left * 2 / 3 };
        outcome = TcpStream::connect_timeout(address, limit.max(CONNECT_AT_LEAST));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Sends a request and reads the answer.
///
/// # Errors
/// [`ErrorKind::TimedOut`] or [`ErrorKind::WouldBlock`] if the answer is not complete in time. Other errors if the
/// connection breaks, or the answer is no HTTP or too long.
pub(super) fn exchange(stream: TcpStream, request: &Request<'_>, by: Instant) -> io::Result<Response> {
    stream.set_nodelay(true)?;
    // The interface of a link-local address has no place in the head.
    let peer = stream.peer_addr()?;
    let host = SocketAddr::new(peer.ip(), peer.port());
    let mut connection = Connection { stream, by };
    connection.write_all(head_of(request, host).as_bytes())?;
    connection.write_all(request.post.unwrap_or_default().as_bytes())?;
    read_answer(&mut BufReader::with_capacity(BUFFER, connection), request.max)
}

fn head_of(request: &Request<'_>, host: SocketAddr) -> String {
    let path = request.path;
    let (method, about_body) = match request.post {
        None => ("GET", String::new()),
        Some(text) => ("POST", format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", text.len())),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n{about_body}\r\n"
    )
}

/// A connection on which everything ends at one time.
struct Connection {
    stream: TcpStream,
    by: Instant,
}

impl Connection {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.by.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Extent of a body (RFC 9112, section 6.3).
enum Extent {
    Chunks,
    Length(u64),
    UntilClose,
}

fn read_answer(input: &mut impl BufRead, max: u64) -> io::Result<Response> {
    let (status, extent) = read_head(&mut input.take(MAX_HEAD))?;
    let mut body = Vec::new();
    match extent {
        Extent::Chunks => while read_chunk(input, &mut body, max)? {},
        Extent::Length(length) => read_part(input, &mut body, length, max)?,
        Extent::UntilClose => {
            // One byte more tells whether there is more.
            if input.take(max.saturating_add(1)).read_to_end(&mut body)? as u64 > max {
                return Err(too_long(max));
            }
        }
    }
    Ok(Response { status, body })
}

fn read_head(input: &mut impl BufRead) -> io::Result<(u16, Extent)> {
    let status = parse_status(&read_line(input)?).ok_or_else(not_http)?;
    let mut extent = Extent::UntilClose;
    loop {
        let line = read_line(input)?;
        if line.is_empty() {
            return Ok((status, extent));
        }
        let (name, value) = line.split_once(':').ok_or_else(not_http)?;
        if name.eq_ignore_ascii_case("Transfer-Encoding") {
            extent = Extent::Chunks;
        } else if name.eq_ignore_ascii_case("Content-Length") && matches!(extent, Extent::UntilClose) {
            extent = Extent::Length(value.trim().parse().map_err(|_| not_http())?);
        }
    }
}

/// Returns the status in the first line, such as `HTTP/1.1 200 OK`.
fn parse_status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Reads a chunk (RFC 9112, section 7.1). Returns false for the last one, which is empty; nobody needs what follows it.
fn read_chunk(input: &mut impl BufRead, body: &mut Vec<u8>, max: u64) -> io::Result<bool> {
    let line = read_line(&mut input.take(MAX_HEAD))?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(size, 16).map_err(|_| not_http())?;
    if size == 0 {
        return Ok(false);
    }
    read_part(input, body, size, max)?;
    if read_line(&mut input.take(MAX_HEAD))?.is_empty() { Ok(true) } else { Err(not_http()) }
}

/// Appends so many bytes to a body.
fn read_part(input: &mut impl BufRead, body: &mut Vec<u8>, length: u64, max: u64) -> io::Result<()> {
    if length > max.saturating_sub(body.len() as u64) {
        return Err(too_long(max));
    }
    match input.take(length).read_to_end(body)? as u64 {
        read if read == length => Ok(()),
        _ => Err(cut_off()),
    }
}

/// Reads a line and returns it without its end.
fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.strip_suffix('\r').unwrap_or(line).to_owned()),
        None if line.is_empty() => Err(cut_off()),
        None => Err(not_http()),
    }
}

fn cut_off() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed before the end of the answer")
}

fn not_http() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is no HTTP")
}

fn too_long(max: u64) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the answer exceeds the limit of {max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: &str = "the answer exceeds the limit of 20 bytes";
    const CUT_OFF: &str = "the connection was closed before the end of the answer";
    const NOT_HTTP: &str = "the answer is no HTTP";

    /// Returns status and body of the answer, or the error.
    fn read(text: &str) -> String {
        match read_answer(&mut text.as_bytes(), 20) {
            Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_body_ends_where_the_head_tells() {
        for (after_status, expected) in [
            ("\r\nuntil the end", "200 until the end"),
            ("\r\n123456789012345678901", TOO_LONG),
            ("content-length:  3 \r\nX: y\r\n\r\nabcd", "200 abc"),
            ("Content-Length: 0\r\n\r\n", "200 "),
            ("Content-Length: 3\r\n\r\nab", CUT_OFF),
            ("Content-Length: 21\r\n\r\n", TOO_LONG),
            ("Content-Length: -1\r\n\r\n", NOT_HTTP),
            ("no header\r\n\r\n", NOT_HTTP),
            ("X: y\r\n", CUT_OFF),
            ("X: y", NOT_HTTP),
        ] {
            assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{after_status}")), expected, "{after_status}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        assert_eq!(read(&long), NOT_HTTP);
    }

    #[test]
    fn chunks() {
        for (chunks, expected) in [
            ("2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\nX: y", "200 ab0123456789"),
            ("0\r\n\r\n", "200 "),
            ("1\r\nx\r\n14\r\n", TOO_LONG),
            ("ffffffffffffffff\r\n", TOO_LONG),
            ("3\r\nab", CUT_OFF),
            ("2\r\nab\r\n", CUT_OFF),
            ("2\r\nabc\r\n", NOT_HTTP),
            ("-2\r\n", NOT_HTTP),
            ("\r\n", NOT_HTTP),
        ] {
            // A length does not count beside chunks.
            for head in [
                "Content-Length: 1\r\nTransfer-Encoding: chunked",
                "transfer-encoding: chunked\r\nContent-Length: 1",
            ] {
                assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{chunks}")), expected, "{chunks}");
            }
        }
    }

    #[test]
    fn the_first_line_has_the_status() {
        for (text, expected) in [
            ("HTTP/1.0 404\n\nno", "404 no"),
            ("HTTP/1.1 500 Internal Server Error\r\n\r\n", "500 "),
            ("HTTP/2 200\r\n\r\n", NOT_HTTP),
            ("HTTP/1.1 \r\n\r\n", NOT_HTTP),
            ("SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
            ("", CUT_OFF),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
