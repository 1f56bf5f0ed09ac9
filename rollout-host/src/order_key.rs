//! Seals and opens orders with a key that controllers and nodes share, on clusters without MUNGE
//! (`AuthType=auth/slurm`).
//!
//! A credential is text: a prefix, an HMAC-SHA-256, the time of sealing, a random number, and the payload as it is. It
//! is authentic and not encrypted. Having the key is the right to give orders, so the file must be closed to others,
//! and belong to root or SlurmUser: its owner can read and replace it.

use crate::clock;
use crate::regular_file;
use hmac::{Hmac, KeyInit, Mac};
use nix::unistd::geteuid;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Key of Slurm's `auth/slurm`, which each host of such a cluster has.
pub const SLURM_KEY: &str = "/etc/slurm/slurm.key";

/// Beginning of a credential.
const PREFIX: &str = "SLURM-ROLLOUT-KEY-1";

/// Separates our use of a key from all others, such as Slurm's.
const PURPOSE: &[u8] = b"slurm-rollout order";

/// Age, or lead of the sealer's clock, from which a credential is refused: as munged's default.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);

/// Sizes of a key file. Slurm's documentation makes one of 1024 bytes.
const MIN_KEY: usize = 32;
const MAX_KEY: u64 = 64 * 1024;

/// Number of credentials that are remembered. Only authentic ones are.
const MAX_REMEMBERED: usize = 100_000;

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderKeyError {
    #[error("the key {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the key {path} is open to others (mode {mode:04o}); `chmod 600` it, and replace it", path = .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "the key {path} belongs to uid {owner}, which is neither root nor SlurmUser ({}); `chown` it, and replace it",
        name(*.slurm_user),
        path = .path.display()
    )]
    Foreign {
        path: PathBuf,
        owner: u32,
        /// The uid of SlurmUser, if it is known.
        slurm_user: Option<u32>,
    },
    #[error("the key {path} has {length} bytes, less than {MIN_KEY}", path = .path.display())]
    TooShort { path: PathBuf, length: usize },
    #[error("{0}")]
    Refused(String),
    /// The cause may be gone in a moment: another clock, or another key.
    #[error("{0}")]
    ForNow(String),
}

/// A file with a key. It is read for each use, so that a new key counts at once.
#[derive(Debug, Clone)]
pub struct OrderKey {
    path: PathBuf,
    slurm_user: SlurmUser,
}

/// A way to find the uid of SlurmUser, to whom the key may belong. It is only used if the key belongs neither to root
/// nor to this process's own user: a name service may be late.
#[derive(Debug, Clone)]
pub struct SlurmUser {
    known_by: String,
    uid_of: fn(&str) -> Option<u32>,
}

impl SlurmUser {
    /// Finds the uid by this text, such as a name.
    pub fn known_by(text: impl Into<String>, uid_of: fn(&str) -> Option<u32>) -> Self {
        Self { known_by: text.into(), uid_of }
    }
}

/// Credentials that were opened, and the time from which any may be opened.
#[derive(Debug)]
pub struct Memory {
    since: Instant,
    /// Random numbers of credentials, by the time until which these may be opened.
    opened: Mutex<BTreeMap<String, u64>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { since: Instant::now(), opened: Mutex::default() }
    }
}

/// Returns whether the text begins as a credential of this kind.
#[must_use]
pub fn is_sealed_with_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl OrderKey {
    /// Names the file with the key, which may belong to this user.
    pub fn at(path: impl Into<PathBuf>, slurm_user: SlurmUser) -> Self {
        Self { path: path.into(), slurm_user }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seals a payload.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn seal(&self, payload: &str) -> Result<String, OrderKeyError> {
        let refused = |error: getrandom::Error| OrderKeyError::Refused(format!("no random number: {error}"));
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(refused)?;
        let signed = format!("{}:{}:{payload}", clock::now_ms(), hex(&random));
        let mac = self.mac(signed.as_bytes())?.finalize().into_bytes();
        Ok(format!("{PREFIX}:{}:{signed}", hex(&mac)))
    }

    /// Opens a credential and returns its payload. Refuses one that is forged, too old, from the future, sealed before
    /// `memory` began, or opened before.
    ///
    /// # Errors
    /// If the key cannot be used or the credential is refused.
    pub fn open<'a>(&self, credential: &'a str, memory: &Memory) -> Result<&'a str, OrderKeyError> {
        let refused = |why: &str| Err(OrderKeyError::Refused(why.to_owned()));
        let mut parts = credential.splitn(3, ':');
        let (Some(PREFIX), Some(mac), Some(signed)) = (parts.next(), parts.next(), parts.next()) else {
            return refused("the order is not sealed");
        };
        let forged = "the order was not sealed with this node's key";
        let Some(mac) = bytes(mac) else { return refused(forged) };
        if self.mac(signed.as_bytes())?.verify_slice(&mac).is_err() {
            return Err(OrderKeyError::ForNow(forged.to_owned()));
        }
        let mut parts = signed.splitn(3, ':');
        let (Some(sealed_ms), Some(random), Some(payload)) = (parts.next(), parts.next(), parts.next())
        else {
            return refused(forged);
        };
        let Ok(sealed_ms) = sealed_ms.parse::<u64>() else { return refused(forged) };
        memory.admit(sealed_ms, random, clock::now_ms()).map(|()| payload)
    }

    /// Seals a text and opens it again.
    ///
    /// # Errors
    /// Returns the reason of the failure, in one line.
    pub fn try_out(&self) -> Result<(), String> {
        let memory = Memory::default();
        let sealed = self.seal("slurm-rollout doctor").map_err(|error| error.to_string())?;
        self.open(&sealed, &memory).map(drop).map_err(|error| error.to_string())
    }

    fn mac(&self, signed: &[u8]) -> Result<Hmac<Sha256>, OrderKeyError> {
        let unusable = |_| OrderKeyError::Refused("no key of this length".to_owned());
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.read()?).map_err(unusable)?;
        mac.update(PURPOSE);
        mac.update(&[0]);
        mac.update(signed);
        Ok(mac)
    }

    fn read(&self) -> Result<Vec<u8>, OrderKeyError> {
        let io = |source| OrderKeyError::Io { path: self.path.clone(), source };
        let file = regular_file::open(&self.path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(OrderKeyError::Exposed { path: self.path.clone(), mode });
        }
        let SlurmUser { known_by, uid_of } = &self.slurm_user;
        check_owner(metadata.uid(), geteuid().as_raw(), || uid_of(known_by)).map_err(|slurm_user| {
            OrderKeyError::Foreign { path: self.path.clone(), owner: metadata.uid(), slurm_user }
        })?;
        let mut key = Vec::new();
        file.take(MAX_KEY).read_to_end(&mut key).map_err(io)?;
        match key.len() {
            length if length < MIN_KEY => Err(OrderKeyError::TooShort { path: self.path.clone(), length }),
            _ => Ok(key),
        }
    }
}

impl Memory {
    fn admit(&self, sealed_ms: u64, random: &str, now_ms: u64) -> Result<(), OrderKeyError> {
        let refused = |why: &str| Err(OrderKeyError::Refused(why.to_owned()));
        let for_now = |why: String| Err(OrderKeyError::ForNow(why));
        let limit_ms = millis(TIME_TO_LIVE);
        let age_ms = now_ms.saturating_sub(sealed_ms);
        if age_ms > limit_ms {
            return for_now(format!("the order was sealed {} s ago; do the clocks agree?", age_ms / 1000));
        }
        if sealed_ms > now_ms.saturating_add(limit_ms) {
            let lead_s = (sealed_ms - now_ms) / 1000;
            return for_now(format!("the order was sealed {lead_s} s from now; do the clocks agree?"));
        }
        // Credentials that were opened before are not remembered over a restart. Both times are rounded.
        if age_ms > millis(self.since.elapsed()) + 1 {
            return for_now("the order was sealed before this agent started".to_owned());
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, until_ms| *until_ms >= now_ms);
        if opened.len() >= MAX_REMEMBERED {
            return refused("too many orders within five minutes");
        }
        match opened.insert(random.to_owned(), sealed_ms.saturating_add(limit_ms)) {
            // The first one may have been accepted, so its fate is not known, as with MUNGE.
            Some(_) => for_now("the order was replayed".to_owned()),
            None => Ok(()),
        }
    }
}

/// Checks the owner of a key, for a process of the user `own`.
///
/// # Errors
/// Returns the uid of SlurmUser, if it is known, if the key belongs to somebody else.
fn check_owner(owner: u32, own: u32, slurm_user: impl Fn() -> Option<u32>) -> Result<(), Option<u32>> {
    if owner == 0 || owner == own {
        return Ok(());
    }
    let slurm_user = slurm_user();
    if slurm_user == Some(owner) { Ok(()) } else { Err(slurm_user) }
}

fn name(slurm_user: Option<u32>) -> String {
    slurm_user.map_or_else(|| "unknown on this host".to_owned(), |uid| format!("uid {uid}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(content: &[u8], mode: u32) -> (tempfile::TempDir, OrderKey) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, OrderKey::at(path, slurm_user()))
    }

    fn slurm_user() -> SlurmUser {
        SlurmUser::known_by("slurm", |name| (name == "slurm").then_some(64030))
    }

    fn refused(result: Result<&str, OrderKeyError>) -> String {
        match result {
            Err(OrderKeyError::Refused(why) | OrderKeyError::ForNow(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    /// The credential with another byte at `at`.
    fn changed(credential: &str, at: usize) -> String {
        let other = if credential.as_bytes()[at] == b'1' { "2" } else { "1" };
        format!("{}{other}{}", &credential[..at], &credential[at + 1..])
    }

    #[test]
    fn a_payload_comes_back_once() {
        let (_dir, key) = key(&[7; 32], 0o600);
        let memory = Memory::default();
        let payload = "{\"nodes\":\"cn[1-2]\",\"x\":\"a:b\"}";
        let sealed = key.seal(payload).unwrap();
        assert!(is_sealed_with_key(&sealed));
        assert_eq!(key.open(&sealed, &memory).unwrap(), payload);
        let again = key.open(&sealed, &memory);
        assert!(matches!(&again, Err(OrderKeyError::ForNow(why)) if why.contains("replayed")), "{again:?}");
        assert_eq!(key.open(&key.seal(payload).unwrap(), &memory).unwrap(), payload, "the same, sealed anew");
        assert_eq!(key.try_out(), Ok(()));
    }

    #[test]
    fn no_changed_byte_is_accepted() {
        let (_dir, key) = key(&[7; 32], 0o600);
        let memory = Memory::default();
        let sealed = key.seal("payload").unwrap();
        for at in 0..sealed.len() {
            assert!(key.open(&changed(&sealed, at), &memory).is_err(), "byte {at} of {sealed}");
        }
        assert_eq!(key.open(&sealed, &memory).unwrap(), "payload");
        let (_dir, other) = self::key(&[8; 32], 0o600);
        assert!(refused(other.open(&sealed, &Memory::default())).contains("this node's key"));
        for text in
            ["", "SLURM-ROLLOUT-KEY-1", "SLURM-ROLLOUT-KEY-1:", "SLURM-ROLLOUT-KEY-1:é:1:2:x", "MUNGE:a:b"]
        {
            assert!(key.open(text, &Memory::default()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn old_and_future_credentials_are_refused() {
        let started_long_ago = |ago_s| Memory {
            since: Instant::now().checked_sub(Duration::from_secs(ago_s)).unwrap_or_else(Instant::now),
            ..Memory::default()
        };
        let why = |memory: Memory, sealed_ms| match memory.admit(sealed_ms, "r", 1_000_000) {
            Err(OrderKeyError::ForNow(why)) => why,
            other => format!("{other:?}"),
        };
        assert_eq!(why(started_long_ago(60), 990_000), "Ok(())");
        assert_eq!(why(started_long_ago(60), 1_300_000), "Ok(())", "the sealer's clock may be ahead");
        assert!(why(started_long_ago(60), 1_300_001).contains("from now"));
        assert!(why(started_long_ago(60), 699_999).contains("sealed 300 s ago"));
        assert!(why(Memory::default(), 990_000).contains("before this agent started"));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_short_is_not_used() {
        let (_dir, open_to_all) = key(&[7; 32], 0o640);
        assert!(matches!(open_to_all.seal("x"), Err(OrderKeyError::Exposed { mode: 0o640, .. })));
        let (_dir, short) = key(&[7; 31], 0o600);
        assert!(matches!(short.seal("x"), Err(OrderKeyError::TooShort { length: 31, .. })));
        let none = OrderKey::at("/nonexistent/key", slurm_user());
        assert!(matches!(none.seal("x"), Err(OrderKeyError::Io { .. })));
        assert!(none.try_out().unwrap_err().contains("/nonexistent/key"));
    }

    #[test]
    fn a_key_belongs_to_root_slurm_user_or_this_process() {
        for (owner, own, slurm_user, expected) in [
            (0, 0, None, Ok(())),
            (0, 64030, None, Ok(())),
            (64030, 64030, None, Ok(())),
            (64030, 0, Some(64030), Ok(())),
            (64030, 0, None, Err(None)),
            (1000, 0, Some(64030), Err(Some(64030))),
            (1000, 64030, Some(64030), Err(Some(64030))),
        ] {
            assert_eq!(check_owner(owner, own, || slurm_user), expected, "{owner} {own} {slurm_user:?}");
        }
        check_owner(0, 1000, || panic!("no name service is asked about root's key")).unwrap();
    }

    #[test]
    fn a_key_of_somebody_else_is_not_used() {
        let (_dir, key) = key(&[7; 32], 0o600);
        assert_eq!(key.try_out(), Ok(()));
        // Nobody else can give a file away.
        if geteuid().is_root() {
            let give_to = |uid: u32| nix::unistd::chown(key.path(), Some(uid.into()), None).unwrap();
            give_to(64030);
            assert_eq!(key.try_out(), Ok(()));
            give_to(1000);
            let sealed = key.seal("x");
            assert!(matches!(
                sealed,
                Err(OrderKeyError::Foreign { owner: 1000, slurm_user: Some(64030), .. })
            ));
            let why = key.try_out().unwrap_err();
            let expected = "belongs to uid 1000, which is neither root nor SlurmUser (uid 64030); `chown` it";
            assert!(why.contains(expected), "{why}");
        }
    }
}
