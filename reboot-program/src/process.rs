//! Restores process attributes that are inherited from slurmctld.
//!
//! Slurm 22.05 to 24.05 start RebootProgram with twelve signals blocked, 22.05 with descriptors 0 to 2 closed, 26.05
//! with an environment of one variable. Rust's runtime opens missing descriptors on /dev/null before main. This module
//! restores the signals.

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use std::io::Write;
use std::process::ExitCode;

/// Unblocks all signals, restores their default actions, and makes writing to a closed pipe an error.
#[allow(unsafe_code)]
pub(crate) fn reset_signals() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: installs no handler, only the default action or "ignore"; there is no other thread yet.
    // JUSTIFICATION: signals that slurmctld ignores since its own start stay ignored over exec, and an ignored TERM
    // would let slurmctld's 10 ms between TERM and KILL pass unused. std has no call for this.
    unsafe {
        for default in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGALRM] {
            let _ = signal(default, SigHandler::SigDfl);
        }
        let _ = signal(Signal::SIGPIPE, SigHandler::SigIgn);
    }
}

/// Prints a text for a person. Ignores errors, such as of a closed pipe.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
