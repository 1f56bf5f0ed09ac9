//! Exit codes of all programs. They are part of the interface that `--help` documents, so the numbers must not change.

use std::process::ExitCode;

/// The outcome of a program, which decides its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, for all nodes. Also: no node needs attention (`status`), there is no problem (`doctor`), nothing is to do
    /// (`rehearse`), slurmd may start (`gate`).
    Success,
    /// Not done. Standard error or the log contains the reason.
    Failed,
    /// Some nodes did not get their order (reboot-program, `reconcile`). The systemd unit of `reconcile` counts this
    /// code as success.
    SomeNodesFailed,
    /// A mistake in the configuration: no program accepts it (`config check`).
    InvalidConfig,
    /// slurmd must not start (`gate`).
    GateClosed,
    /// The command line is wrong. clap uses the same code.
    Usage,
    /// No node was ordered (reboot-program), or the question has no answer (boot-service).
    NothingDone,
    /// A node is held, failed, unreachable or rolled back (`status`).
    NeedsAttention,
    /// There is a problem (`doctor`), or trouble (`rehearse`).
    ProblemFound,
    /// Something would change, and no trouble is in the way (`rehearse`).
    SomethingToDo,
}

impl Exit {
    /// Returns the exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed | Self::SomeNodesFailed | Self::InvalidConfig | Self::GateClosed => 1,
            Self::Usage | Self::NothingDone => 2,
            Self::NeedsAttention | Self::ProblemFound => 3,
            Self::SomethingToDo => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
