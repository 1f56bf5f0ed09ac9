//! Points at which the lab kills the agent or cuts the node's power. Empty in a normal build.

/// Waits for ever, once, if the file `failpoint` in the state directory names this point. Creates
/// `/run/slurm-rollout/at-failpoint` before.
#[cfg(feature = "failpoints")]
pub(crate) fn here(place: &str) {
    use std::path::Path;
    let wanted = &Path::new(crate::state::DIR).join("failpoint");
    if std::fs::read_to_string(wanted).is_ok_and(|text| text.trim() == place) {
        // The removal is on disk before the wait, so that the agent gets past this point the next time.
        let removed = std::fs::remove_file(wanted).and_then(|()| rollout_host::durable::sync_parent(wanted));
        let announced = std::fs::File::create("/run/slurm-rollout/at-failpoint");
        crate::log::warning(&format!("waiting at failpoint {place}: {removed:?} {announced:?}"));
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn here(_: &str) {}
