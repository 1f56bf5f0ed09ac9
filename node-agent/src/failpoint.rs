//! Places at which the lab kills the agent or cuts the node's power. Nothing of it is in a normal build.

/// Waits for ever, once, if the file `failpoint` in /var/lib/slurm-rollout-agent names this place, after it has said so
/// by making `/run/slurm-rollout/at-failpoint`.
#[cfg(feature = "failpoints")]
pub(crate) fn here(place: &str) {
    use std::path::Path;
    let wanted = Path::new("/var/lib/slurm-rollout-agent/failpoint");
    if std::fs::read_to_string(wanted).is_ok_and(|text| text.trim() == place) {
        // Gone for good before it works, so that the agent gets past it the next time.
        let gone = std::fs::remove_file(wanted).and_then(|()| rollout_host::durable::sync_parent(wanted));
        let said = std::fs::File::create("/run/slurm-rollout/at-failpoint");
        crate::log::warning(&format!("waiting at failpoint {place}: {gone:?} {said:?}"));
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn here(_: &str) {}
