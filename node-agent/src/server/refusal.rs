//! Refusals of orders, and the check of the sealer.

use hyper::StatusCode;
use rollout_core::protocol::answer::Answer;
use rollout_host::sealing::{Opened, SealingError};
use std::time::Duration;

/// A refusal of an order that did not come to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
    /// As in [`Answer::Refused`].
    pub(super) transient: bool,
}

impl Refusal {
    /// Returns a refusal that stands until somebody removes its cause.
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), transient: false }
    }

    /// Returns a refusal whose cause may be gone in a moment.
    pub(super) fn for_now(status: StatusCode, why: impl Into<String>) -> Self {
        Self { transient: true, ..Self::new(status, why) }
    }

    pub(super) fn into_answer(self) -> (StatusCode, Answer) {
        let Self { status, why, transient } = self;
        (status, Answer::Refused { why, order: None, transient })
    }
}

/// Returns the payload of a credential if root or SlurmUser sealed it. `uid_of` looks up the uid of a user. `uptime` is
/// that of a node without a ledger: after a boot, nothing else tells a replayed order from a new one there.
///
/// Shortly after the boot munged may lack its key, the clock may be wrong, and the site's name service may not know
/// SlurmUser yet.
pub(super) fn payload(
    opened: Result<Opened, SealingError>,
    uptime: Option<Duration>,
    slurm_user: &str,
    uid_of: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<u8>, Refusal> {
    let Opened { uid, age, payload } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let refusal = Refusal::new(StatusCode::FORBIDDEN, error.to_string());
            return Err(Refusal { transient: error.is_transient(), ..refusal });
        }
    };
    // Both times are in whole seconds.
    if uptime.is_some_and(|uptime| age > uptime + Duration::from_secs(1)) {
        let why = "sealed before this node booted; do the clocks agree?";
        return Err(Refusal::for_now(StatusCode::FORBIDDEN, why));
    }
    let Some(uid) = uid.filter(|uid| *uid != 0) else { return Ok(payload) };
    match uid_of(slurm_user) {
        Some(slurm_uid) if slurm_uid == uid => Ok(payload),
        Some(_) => {
            let why = format!("sealed by uid {uid}, which is neither root nor {slurm_user}");
            Err(Refusal::new(StatusCode::FORBIDDEN, why))
        }
        None => {
            let why = format!(
                "sealed by uid {uid}, which is not root, and this node does not know the user {slurm_user}; \
                 `getent passwd {slurm_user}` must find it"
            );
            Err(Refusal::for_now(StatusCode::FORBIDDEN, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_host::munge::MungeError;
    use rollout_host::order_key::OrderKeyError;

    #[test]
    fn root_and_slurm_user_may_give_orders() {
        let munge = |number, message: &str| {
            SealingError::from(MungeError::Refused { number, message: message.to_owned() })
        };
        let silent = SealingError::from(MungeError::Unreachable {
            socket: "/run/munge".into(),
            source: std::io::ErrorKind::NotFound.into(),
        });
        let other_key = SealingError::from(OrderKeyError::ForNow("not this node's key".into()));
        let not_sealed = SealingError::from(OrderKeyError::Refused("not sealed".into()));
        // The opened credential, the uid of SlurmUser, and whether the refusal may be over in a moment.
        for (opened, slurm_uid, refused) in [
            (Ok(Some(0)), None, None),
            (Ok(Some(0)), Some(64030), None),
            (Ok(Some(64030)), Some(64030), None),
            (Ok(Some(1000)), Some(64030), Some(false)),
            (Ok(Some(64030)), None, Some(true)),
            (Ok(None), None, None),
            (Err(other_key), None, Some(true)),
            (Err(not_sealed), None, Some(false)),
            (Err(munge(14, "Invalid credential")), Some(64030), Some(true)),
            (Err(munge(16, "Rewound credential")), Some(64030), Some(true)),
            (Err(munge(8, "Bad credential")), Some(64030), Some(false)),
            (Err(munge(18, "Unauthorized credential")), Some(64030), Some(false)),
            (Err(silent), Some(64030), Some(true)),
        ] {
            let case = format!("{opened:?} {slurm_uid:?}");
            let opened = opened.map(|uid| Opened { uid, age: Duration::ZERO, payload: b"order".to_vec() });
            let found = payload(opened, None, "slurm", |_| slurm_uid);
            assert_eq!(found.as_ref().err().map(|refusal| refusal.transient), refused, "{case}");
            if let Err(refusal) = found {
                let (status, answer) = refusal.into_answer();
                let Answer::Refused { transient, order: None, .. } = answer else { panic!("{answer:?}") };
                assert_eq!((status, Some(transient)), (StatusCode::FORBIDDEN, refused), "{case}");
            }
        }
    }

    #[test]
    fn a_node_without_a_ledger_refuses_orders_from_before_its_boot() {
        let s = Duration::from_secs;
        for (age, uptime, refused) in [
            (300, None, false),
            (0, Some(0), false),
            (1, Some(0), false),
            (2, Some(0), true),
            (40, Some(39), false),
            (41, Some(39), true),
        ] {
            let opened = Ok(Opened { uid: Some(0), age: s(age), payload: b"order".to_vec() });
            let found = payload(opened, uptime.map(s), "slurm", |_| None);
            assert_eq!(found.is_err_and(|refusal| refusal.transient), refused, "{age} {uptime:?}");
        }
    }
}
