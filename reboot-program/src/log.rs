//! Logs to syslog, and to standard error for people who run the program by hand. Slurm discards standard error.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// Time limit of syslog for a line. If no process reads its socket it would block forever, and slurmctld waits for us.
const LIMIT: Duration = Duration::from_millis(100);

/// Logs as `slurm-rollout-reboot-program`, facility daemon. If there is no syslog, uses standard error alone.
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
        // Ignore errors of standard error and syslog: a pipe that slurmctld has closed is no reason to stop.
        let _ = writeln!(std::io::stderr(), "reboot-program: {text}");
        let Ok(mut log) = self.0.lock() else { return };
        let sent = log.as_mut().map(send);
        if let Some(Err(syslog::Error::Write(error) | syslog::Error::Io(error))) = sent {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                // Do not wait for syslog again.
                *log = None;
            }
        }
    }
}
