//! Saying what happened: to syslog, and to standard error for whoever calls by hand. Slurm throws standard error away.

use std::io::Write;
use std::sync::Mutex;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// syslog as `slurm-rollout-reboot-program`, facility daemon; where there is none, standard error alone.
pub(crate) struct Log(Option<Mutex<Logger<LoggerBackend, Formatter3164>>>);

impl Log {
    pub(crate) fn open() -> Self {
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: "slurm-rollout-reboot-program".to_owned(),
            pid: std::process::id(),
        };
        Self(syslog::unix(formatter).ok().map(Mutex::new))
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
        if let Some(log) = &self.0 {
            if let Ok(mut log) = log.lock() {
                let _ = send(&mut log);
            }
        }
    }
}
