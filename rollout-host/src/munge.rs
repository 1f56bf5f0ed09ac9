//! Sealing with MUNGE: the client's side of munged's own protocol on its Unix socket.
//!
//! Spoken here rather than through libmunge or the `munge` command, because RebootProgram is static, seals in well
//! under a millisecond this way, and works where nothing else is installed. Message format 4, which munged has spoken
//! since 0.5.9 (`src/libcommon/m_msg.c` of MUNGE; field order and sizes are facts of that protocol).

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use rollout_core::text::one_line;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where munged listens unless its `--socket` or Slurm's `AuthInfo=socket=` say otherwise.
pub const SOCKET: &str = "/run/munge/munge.socket.2";

/// The most that is sealed. munged seals 1 MiB less 20 bytes, but opens only credentials that fit a request of 1 MiB,
/// and in base64 with its headers that is a payload of 786,326 bytes (MUNGE 0.5.15, SHA-256); other MACs take some more.
pub const MAX_PAYLOAD: usize = 780_000;

/// The longest request that munged reads (`MUNGE_MAXIMUM_REQ_LEN`). It hangs up on a longer one.
const MAX_REQUEST: usize = 1024 * 1024;

/// No answer of munged is longer: twice the payload, as in its own client.
const MAX_MESSAGE: u32 = 2 * 1024 * 1024;

/// munged answers within milliseconds; its own client gives it 2 s.
const LIMIT: Duration = Duration::from_secs(2);

const MAGIC: u32 = 0x0060_6D4B;
const FORMAT: u8 = 4;
const ENCODE_REQUEST: u8 = 2;
const ENCODE_RESPONSE: u8 = 3;
const DECODE_REQUEST: u8 = 4;
const DECODE_RESPONSE: u8 = 5;
/// For cipher, MAC and compression: what munged is configured for.
const DEFAULT: u8 = 1;
/// Compression off: an order is small.
const NONE: u8 = 0;
const ANYBODY: u32 = u32::MAX;

/// A credential that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it; the kernel told munged.
    pub uid: u32,
    /// What was sealed.
    pub payload: Vec<u8>,
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MungeError {
    /// munged cannot be reached, or hung up.
    #[error("munged at {socket} does not answer: {source} (is munge running?)", socket = .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// In the system's words.
        source: io::Error,
    },
    /// More than [`MAX_PAYLOAD`].
    #[error("{0} bytes are more than MUNGE seals, {MAX_PAYLOAD}")]
    TooLong(usize),
    /// No munged seals such a long credential, nor opens it.
    #[error("the credential has {0} bytes, more than MUNGE opens")]
    CredentialTooLong(usize),
    /// munged said no: a credential that is forged, too old, from the future, replayed or for somebody else.
    #[error("MUNGE: {0}")]
    Refused(String),
    /// Not munged's protocol.
    #[error("munged answered what its protocol does not allow")]
    Protocol,
}

/// munged on this machine.
#[derive(Debug, Clone)]
pub struct Munge {
    socket: PathBuf,
}

impl Default for Munge {
    fn default() -> Self {
        Self::at(SOCKET)
    }
}

impl Munge {
    /// The munged that listens here.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Seals `payload` so that only processes of `reader` can open it, for as long as the site's munged allows
    /// (300 s by default). The credential is text.
    ///
    /// # Errors
    /// If munged does not answer or does not want to.
    pub fn seal(&self, payload: &[u8], reader: u32) -> Result<String, MungeError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(MungeError::TooLong(payload.len()));
        }
        let mut request = Writer::default();
        request.u8(DEFAULT).u8(DEFAULT).u8(NONE).u8(0).u32(0).u32(reader).u32(ANYBODY).data(payload);
        let answer = self.exchange(ENCODE_REQUEST, &[&request.0], ENCODE_RESPONSE)?;
        let mut fields = Fields(&answer);
        let (error, message) = fields.error()?;
        let data = fields.data()?;
        if error != 0 {
            return Err(MungeError::Refused(message));
        }
        let text = std::str::from_utf8(data).map_err(|_| MungeError::Protocol)?;
        Ok(text.trim_end_matches('\0').to_owned())
    }

    /// Opens a credential. munged refuses one that is forged, too old, replayed on this machine, or for another uid.
    ///
    /// # Errors
    /// If munged does not answer, or refuses.
    pub fn open(&self, credential: &str) -> Result<Opened, MungeError> {
        // Four bytes of length before it, and a NUL behind it.
        if credential.len() > MAX_REQUEST - 5 {
            return Err(MungeError::CredentialTooLong(credential.len()));
        }
        let mut length = Writer::default();
        length.u32(u32::try_from(credential.len() + 1).unwrap_or(u32::MAX));
        // In parts: it may have a megabyte, anybody may send one, and no copy of it is needed.
        let request = [&length.0, credential.as_bytes(), b"\0"];
        let answer = self.exchange(DECODE_REQUEST, &request, DECODE_RESPONSE)?;
        let mut fields = Fields(&answer);
        let (error, message) = fields.error()?;
        if error != 0 {
            return Err(MungeError::Refused(message));
        }
        fields.take(3)?; // cipher, MAC, compression
        fields.short()?; // realm
        fields.u32()?; // time to live
        fields.short()?; // where it was sealed
        fields.u32()?; // when
        fields.u32()?; // now
        let uid = fields.u32()?;
        fields.take(12)?; // gid, and who may open it
        Ok(Opened { uid, payload: fields.data()?.to_vec() })
    }

    /// Seals something for ourselves and opens it again.
    ///
    /// # Errors
    /// Why that does not work, in one line.
    pub fn try_out(&self) -> Result<(), String> {
        let (us, text) = (nix::unistd::geteuid().as_raw(), b"slurm-rollout doctor".as_slice());
        let sealed = self.seal(text, us).map_err(|error| error.to_string())?;
        let opened = self.open(&sealed).map_err(|error| error.to_string())?;
        if opened.uid == us && opened.payload == text {
            Ok(())
        } else {
            Err(format!("munged opens what uid {us} sealed as something else, sealed by uid {}", opened.uid))
        }
    }

    fn exchange(&self, kind: u8, body: &[&[u8]], wanted: u8) -> Result<Vec<u8>, MungeError> {
        let (answered, body) = exchange(&self.socket, kind, body).map_err(|source| {
            MungeError::Unreachable { socket: self.socket.clone(), source: in_words(source) }
        })?;
        if answered == wanted { Ok(body) } else { Err(MungeError::Protocol) }
    }
}

/// A socket that is over its time limit says "resource temporarily unavailable", which helps nobody.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing came within {} s", LIMIT.as_secs()))
        }
        _ => error,
    }
}

fn exchange(munged: &Path, kind: u8, body: &[&[u8]]) -> io::Result<(u8, Vec<u8>)> {
    let mut stream = connect(munged)?;
    let mut request = Writer::default();
    let length =
        u32::try_from(body.iter().map(|part| part.len()).sum::<usize>()).map_err(io::Error::other)?;
    request.u32(MAGIC).u8(FORMAT).u8(kind).u8(0).u32(length);
    stream.write_all(&request.0)?;
    for part in body {
        stream.write_all(part)?;
    }
    let mut header = [0; 11];
    stream.read_exact(&mut header)?;
    let odd = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fields = Fields(&header);
    let (magic, format) = (fields.u32().map_err(|_| odd())?, fields.u8().map_err(|_| odd())?);
    let (answered, _retry) = (fields.u8().map_err(|_| odd())?, fields.u8().map_err(|_| odd())?);
    let length = fields.u32().map_err(|_| odd())?;
    if magic != MAGIC || format != FORMAT || length > MAX_MESSAGE {
        return Err(odd());
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    Ok((answered, answer))
}

/// Connects within the limit. A munged that hangs has its queue full at some time, and then connect(2) waits.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Puts numbers in network order.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, number: u8) -> &mut Self {
        self.0.push(number);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn data(&mut self, bytes: &[u8]) -> &mut Self {
        // Callers keep within MAX_PAYLOAD.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Takes fields off the front of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MungeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MungeError::Protocol)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, MungeError> {
        self.take(1)?.first().copied().ok_or(MungeError::Protocol)
    }

    fn u32(&mut self) -> Result<u32, MungeError> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| MungeError::Protocol)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Bytes behind a length of one byte.
    fn short(&mut self) -> Result<&'a [u8], MungeError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes behind a length of four bytes.
    fn data(&mut self) -> Result<&'a [u8], MungeError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// An error number, 0 for none, and its message.
    fn error(&mut self) -> Result<(u8, String), MungeError> {
        let number = self.u8()?;
        let message = one_line(&String::from_utf8_lossy(self.short()?), u8::MAX.into());
        Ok((number, if message.is_empty() { format!("error {number}") } else { message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        for (message, text) in [
            (&b"Expired credential\0"[..], "Expired credential"),
            (b"Invalid\x04\n<3>kernel: \xff", "Invalid <3>kernel: \u{fffd}"),
            (b"", "error 6"),
        ] {
            let length = u8::try_from(message.len()).unwrap();
            let bytes = [&[6, length], message].concat();
            assert_eq!(Fields(&bytes).error().unwrap(), (6, text.to_owned()));
        }
    }
}
