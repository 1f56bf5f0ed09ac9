//! The process as slurmctld leaves it to us, and how we want it.
//!
//! Slurm 22.05 to 24.05 start RebootProgram with twelve signals blocked, 22.05 with descriptors 0 to 2 closed, 26.05
//! with an environment of one variable. Rust's runtime opens missing descriptors on /dev/null before main; what is
//! left to do is here.

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use std::io::Write;
use std::process::ExitCode;

/// Unblocks all signals, and makes a closed pipe an error of the write that meets it.
#[allow(unsafe_code)]
pub(crate) fn be_independent_of_the_caller() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: no handler is installed, only the default or "ignore"; there is no other thread yet.
    // JUSTIFICATION: a signal that slurmctld was started with as ignored stays ignored over exec, and a TERM that is
    // ignored would let slurmctld's 10 ms between TERM and KILL pass unused. std has no call for it.
    unsafe {
        for default in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGALRM] {
            let _ = signal(default, SigHandler::SigDfl);
        }
        let _ = signal(Signal::SIGPIPE, SigHandler::SigIgn);
    }
}

/// Prints for a person. A reader that went away is none of our business.
pub(crate) fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
