//! Seals and opens MUNGE credentials: the client side of munged's own protocol on its Unix socket.
//!
//! Implemented here rather than through libmunge or the `munge` command because RebootProgram is static, seals in well
//! under a millisecond this way, and works if nothing else is installed. Uses message format 4, which munged has spoken
//! since 0.5.9 (`src/libcommon/m_msg.c` of MUNGE; field order and sizes are facts of that protocol).

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use rollout_core::text::one_line;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default socket of munged, unless its `--socket` or Slurm's `AuthInfo=socket=` say otherwise.
pub const SOCKET: &str = "/run/munge/munge.socket.2";

/// Length limit of a payload to seal. munged seals 1 MiB less 20 bytes, but opens only credentials that fit a request
/// of 1 MiB. In base64 with its headers that is a payload of 786,326 bytes (MUNGE 0.5.15, SHA-256); other MACs take
/// some more.
pub const MAX_PAYLOAD: usize = 780_000;

/// Length limit of a request (`MUNGE_MAXIMUM_REQ_LEN`). munged hangs up on a longer one.
const MAX_REQUEST: usize = 1024 * 1024;

/// Length limit of an answer of munged: twice the payload, as in its own client.
const MAX_MESSAGE: u32 = 2 * 1024 * 1024;

/// Time limit of munged. It answers within milliseconds; its own client gives it 2 s.
const LIMIT: Duration = Duration::from_secs(2);

const MAGIC: u32 = 0x0060_6D4B;
const FORMAT: u8 = 4;
const ENCODE_REQUEST: u8 = 2;
const ENCODE_RESPONSE: u8 = 3;
const DECODE_REQUEST: u8 = 4;
const DECODE_RESPONSE: u8 = 5;
/// Selects the cipher, MAC or compression that munged is configured for.
const DEFAULT: u8 = 1;
/// Turns compression off: an order is small.
const NONE: u8 = 0;
const ANYBODY: u32 = u32::MAX;

/// The content of an opened credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The user who sealed it, as the kernel reported it to munged.
    pub uid: u32,
    /// Time of sealing, by the clock of the sealer's host, in seconds since 1970.
    pub sealed_s: u64,
    pub payload: Vec<u8>,
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MungeError {
    /// munged cannot be reached, or hung up.
    #[error("munged at {socket} does not answer: {source} (is munge running?)", socket = .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The payload has this many bytes, more than [`MAX_PAYLOAD`].
    #[error("{0} bytes are more than MUNGE seals, {MAX_PAYLOAD}")]
    TooLong(usize),
    /// The credential has this many bytes, more than munged ever seals or opens.
    #[error("the credential has {0} bytes, more than MUNGE opens")]
    CredentialTooLong(usize),
    /// munged refused, for example a credential that is forged, too old, from the future, replayed or for a different
    /// user.
    #[error("MUNGE: {message}")]
    Refused {
        /// Number of the error (`munge_err_t` in `src/libmunge/munge.h.in` of MUNGE).
        number: u8,
        message: String,
    },
    /// The answer violates munged's protocol.
    #[error("munged answered what its protocol does not allow")]
    Protocol,
}

impl MungeError {
    /// Returns whether the cause may go away without anybody changing what was sealed: munged does not answer, its key
    /// is not there yet, or one of the clocks is not set yet. A credential that was opened before may have been
    /// accepted, so its fate is not known either.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        /// EMUNGE_SNAFU, EMUNGE_NO_MEMORY, EMUNGE_SOCKET, EMUNGE_TIMEOUT: trouble of munged itself.
        const OF_MUNGED: [u8; 4] = [1, 5, 6, 7];
        /// EMUNGE_CRED_INVALID (another key), EMUNGE_CRED_EXPIRED, EMUNGE_CRED_REWOUND, EMUNGE_CRED_REPLAYED.
        const OF_CREDENTIALS: [u8; 4] = [14, 15, 16, 17];
        match self {
            Self::Unreachable { .. } | Self::Protocol => true,
            Self::Refused { number, .. } => OF_MUNGED.contains(number) || OF_CREDENTIALS.contains(number),
            Self::TooLong(_) | Self::CredentialTooLong(_) => false,
        }
    }
}

/// A client of the munged on this machine.
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
    /// Creates a client of the munged that listens on `socket`.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Seals `payload` so that only processes of `reader` can open it, for as long as the site's munged allows
    /// (300 s by default). The credential is text.
    ///
    /// # Errors
    /// If `payload` is too long, or munged does not answer or refuses.
    pub fn seal(&self, payload: &[u8], reader: u32) -> Result<String, MungeError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(MungeError::TooLong(payload.len()));
        }
        let mut request = Writer::default();
        request.u8(DEFAULT).u8(DEFAULT).u8(NONE).u8(0).u32(0).u32(reader).u32(ANYBODY).data(payload);
        let answer = self.exchange(ENCODE_REQUEST, &[&request.0], ENCODE_RESPONSE)?;
        let mut fields = Fields(&answer);
        let (number, message) = fields.error()?;
        let data = fields.data()?;
        if number != 0 {
            return Err(MungeError::Refused { number, message });
        }
        let text = std::str::from_utf8(data).map_err(|_| MungeError::Protocol)?;
        Ok(text.trim_end_matches('\0').to_owned())
    }

    /// Opens a credential. munged refuses one that is forged, too old, replayed on this machine, or for another uid.
    ///
    /// # Errors
    /// If munged does not answer or refuses, or if the credential is too long.
    pub fn open(&self, credential: &str) -> Result<Opened, MungeError> {
        // The credential is preceded by its length (4 bytes) and followed by a NUL.
        if credential.len() > MAX_REQUEST - 5 {
            return Err(MungeError::CredentialTooLong(credential.len()));
        }
        let mut length = Writer::default();
        length.u32(u32::try_from(credential.len() + 1).unwrap_or(u32::MAX));
        // Send in parts to avoid a copy: anybody may send us a credential, and it may have a megabyte.
        let request = [&length.0, credential.as_bytes(), b"\0"];
        let answer = self.exchange(DECODE_REQUEST, &request, DECODE_RESPONSE)?;
        let mut fields = Fields(&answer);
        let (number, message) = fields.error()?;
        if number != 0 {
            return Err(MungeError::Refused { number, message });
        }
        fields.take(3)?; // cipher, MAC, compression
        fields.short()?; // realm
        fields.u32()?; // time to live
        fields.short()?; // address of the sealing host
        let sealed_s = u64::from(fields.u32()?);
        fields.u32()?; // time of opening
        let uid = fields.u32()?;
        fields.take(12)?; // gid, uid and gid that may open it
        Ok(Opened { uid, sealed_s, payload: fields.data()?.to_vec() })
    }

    /// Seals a text for ourselves and opens it again.
    ///
    /// # Errors
    /// Returns the reason of the failure, in one line.
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
            MungeError::Unreachable { socket: self.socket.clone(), source: name_timeout(source) }
        })?;
        if answered == wanted { Ok(body) } else { Err(MungeError::Protocol) }
    }
}

/// Replaces the error of a socket that is over its time limit, "resource temporarily unavailable", by a helpful one.
fn name_timeout(error: io::Error) -> io::Error {
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
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fields = Fields(&header);
    let (magic, format) = (fields.u32().map_err(|_| invalid())?, fields.u8().map_err(|_| invalid())?);
    let (answered, _retry) = (fields.u8().map_err(|_| invalid())?, fields.u8().map_err(|_| invalid())?);
    let length = fields.u32().map_err(|_| invalid())?;
    if magic != MAGIC || format != FORMAT || length > MAX_MESSAGE {
        return Err(invalid());
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    Ok((answered, answer))
}

/// Connects within [`LIMIT`]. The queue of a hanging munged fills up at some time, and connect(2) then waits.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Writes the fields of a message, numbers in network byte order.
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
        // Callers ensure that the length is at most MAX_PAYLOAD.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Reads fields from the front of a message.
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

    /// Reads bytes preceded by a length of one byte.
    fn short(&mut self) -> Result<&'a [u8], MungeError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Reads bytes preceded by a length of four bytes.
    fn data(&mut self) -> Result<&'a [u8], MungeError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// Reads an error number (0 if there is no error) and its message.
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
    fn a_credential_may_be_opened_later_if_it_is_not_the_cause() {
        let refused = |number| MungeError::Refused { number, message: String::new() };
        for number in 1..=20 {
            let transient = matches!(number, 1 | 5..=7 | 14..=17);
            assert_eq!(refused(number).is_transient(), transient, "{number}");
        }
        let source = io::ErrorKind::ConnectionRefused.into();
        assert!(MungeError::Unreachable { socket: SOCKET.into(), source }.is_transient());
        assert!(!MungeError::CredentialTooLong(7).is_transient());
    }

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
