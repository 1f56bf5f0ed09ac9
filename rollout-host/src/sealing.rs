//! The way in which orders are sealed: with MUNGE, or with a key if the cluster has no MUNGE.

use crate::clock;
use crate::munge::{Munge, MungeError};
use crate::order_key::{Memory, OrderKey, OrderKeyError, SLURM_KEY, SlurmUser, is_sealed_with_key};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Agents run as root, so nobody else on their nodes can open an order.
const READER_UID: u32 = 0;

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    #[error(transparent)]
    Munge(#[from] MungeError),
    #[error(transparent)]
    Key(#[from] OrderKeyError),
}

impl SealingError {
    /// Returns whether the cause may be gone in a moment: a daemon, a key or a clock that is not ready yet.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Munge(error) => error.is_transient(),
            Self::Key(error) => !matches!(error, OrderKeyError::Refused(_)),
        }
    }
}

/// The means of a host to seal and open orders.
#[derive(Debug, Clone)]
pub struct Sealing {
    munge_socket: PathBuf,
    order_key: Option<PathBuf>,
    slurm_user: SlurmUser,
}

/// One way of sealing.
#[derive(Debug, Clone)]
pub enum Method {
    Munge(Munge),
    Key(OrderKey),
}

/// An opened order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The user who sealed it. `None` if it was sealed with the key, which root and SlurmUser alone can read.
    pub uid: Option<u32>,
    /// Time since it was sealed. munged does not remember over a boot which credentials it opened.
    pub age: Duration,
    pub payload: Vec<u8>,
}

impl Sealing {
    /// Uses munged at this socket, and the key in this file if one is given, which may belong to SlurmUser.
    #[must_use]
    pub fn new(munge_socket: &Path, order_key: Option<&Path>, slurm_user: SlurmUser) -> Self {
        Self { munge_socket: munge_socket.to_owned(), order_key: order_key.map(Path::to_owned), slurm_user }
    }

    /// Returns the way in which this host seals: with the configured key, else with MUNGE, else with Slurm's key.
    #[must_use]
    pub fn method(&self) -> Method {
        match &self.order_key {
            Some(path) => Method::Key(self.key(path)),
            None if !self.munge_socket.exists() && Path::new(SLURM_KEY).exists() => {
                Method::Key(self.key(Path::new(SLURM_KEY)))
            }
            None => Method::Munge(Munge::at(&self.munge_socket)),
        }
    }

    /// Seals an order for the agents.
    ///
    /// # Errors
    /// If munged or the key cannot be used.
    pub fn seal(&self, order: &str) -> Result<String, SealingError> {
        Ok(match self.method() {
            Method::Munge(munge) => munge.seal(order.as_bytes(), READER_UID)?,
            Method::Key(key) => key.seal(order)?,
        })
    }

    /// Opens an order, in the way in which it was sealed.
    ///
    /// # Errors
    /// If munged or the key cannot be used, or the order is forged, too old or replayed.
    pub fn open(&self, sealed: &str, memory: &Memory) -> Result<Opened, SealingError> {
        if is_sealed_with_key(sealed) {
            let key = self.key(self.order_key.as_deref().unwrap_or(Path::new(SLURM_KEY)));
            let payload = key.open(sealed, memory)?.as_bytes().to_vec();
            // The key's memory refuses older ones than itself.
            return Ok(Opened { uid: None, age: Duration::ZERO, payload });
        }
        let opened = Munge::at(&self.munge_socket).open(sealed)?;
        let age = Duration::from_secs(clock::now_s().saturating_sub(opened.sealed_s));
        Ok(Opened { uid: Some(opened.uid), age, payload: opened.payload })
    }

    fn key(&self, path: &Path) -> OrderKey {
        OrderKey::at(path, self.slurm_user.clone())
    }
}

impl Method {
    /// Returns the path of the key. `None` for MUNGE.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Munge(_) => None,
            Self::Key(key) => Some(key.path().display().to_string()),
        }
    }

    /// Seals a text for ourselves and opens it again.
    ///
    /// # Errors
    /// Returns the reason of the failure, in one line.
    pub fn try_out(&self) -> Result<(), String> {
        match self {
            Self::Munge(munge) => munge.try_out(),
            Self::Key(key) => key.try_out(),
        }
    }
}
