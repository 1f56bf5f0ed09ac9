//! Saying what happened: to syslog, and to standard error for whoever calls by hand. Slurm throws standard error away.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// How long syslog may take for a line. Where nobody reads its socket it would take for ever, and slurmctld waits.
const LIMIT: Duration = Duration::from_millis(100);

/// syslog as `slurm-rollout-reboot-program`, facility daemon; where there is none, standard error alone.
pub(crate) struct Log(Mutex<Option<Logger<LoggerBackend, Formatter3164>>>);

impl Log {
    pub(crate) fn open() -> Self {
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: "slurm-rollout-reboot-program".to_owned(),
            pid: std::process::id(),
        };
        let logger = syslog::unix(formatter).ok();
        if let Some(LoggerBackend::Unix(socket)) = logger.as_ref().map(|logger| &logger.backend) {
            let _ = socket.set_write_timeout(Some(LIMIT));
        }
        Self(Mutex::new(logger))
    }

    pub(crate) fn info(&self, text: &str) {
        self.write(text, |log| log.info(text));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.write(text, |log| log.warning(text));
    }

    pub(crate) fn error(&self, text: &str) {
        self.write(text, |log| log.err(text));
    }

    fn write(
        &self,
        text: &str,
        send: impl Fn(&mut Logger<LoggerBackend, Formatter3164>) -> syslog::Result<()>,
    ) {
        // A pipe that slurmctld has closed is no reason to stop: errors of standard error and syslog are left alone.
        let _ = writeln!(std::io::stderr(), "reboot-program: {text}");
        let Ok(mut log) = self.0.lock() else { return };
        let sent = log.as_mut().map(send);
        if let Some(Err(syslog::Error::Write(error) | syslog::Error::Io(error))) = sent {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                // One line has waited long enough for all.
                *log = None;
            }
        }
    }
}
