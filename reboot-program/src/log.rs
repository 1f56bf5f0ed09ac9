//! Logs to syslog, and to standard error for people who run the program by hand. Slurm discards standard error.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

/// Time limit of syslog for a line. If no process reads its socket it would block forever, and slurmctld waits for us.
const LIMIT: Duration = Duration::from_millis(100);

/// Logs as `slurm-rollout-reboot-program`, facility daemon. If there is no syslog, uses standard error alone.
pub(crate) struct Log(Mutex<Option<Logger<LoggerBackend, Format>>>);

/// Format of a line in `/dev/log`, without a time. journald and rsyslog skip the time of a local program and use their
/// own. The one of `syslog::Formatter3164` is UTC, which others take for local time, and costs 40 kB.
#[derive(Clone)]
struct Format;

impl LogFormat<&str> for Format {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, text: &str) -> syslog::Result<()> {
        let (priority, pid) = (Facility::LOG_DAEMON as u8 | severity as u8, std::process::id());
        write!(out, "<{priority}>slurm-rollout-reboot-program[{pid}]: {text}").map_err(syslog::Error::Write)
    }
}

impl Log {
    pub(crate) fn open() -> Self {
        let logger = syslog::unix(Format).ok();
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

    fn write(&self, text: &str, send: impl Fn(&mut Logger<LoggerBackend, Format>) -> syslog::Result<()>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_line_is_one_datagram_with_priority_name_and_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let log = Log(Mutex::new(Some(syslog::unix_custom(Format, &path).unwrap())));
        let name = format!("slurm-rollout-reboot-program[{}]", std::process::id());
        type Write = fn(&Log, &str);
        let writes: [(Write, u8); 3] = [(Log::info, 30), (Log::warning, 28), (Log::error, 27)];
        for (write, priority) in writes {
            write(&log, "cn01: 1 of 1 ordered");
            let mut datagram = [0; 200];
            let length = socket.recv(&mut datagram).unwrap();
            let line = String::from_utf8_lossy(&datagram[..length]);
            assert_eq!(line, format!("<{priority}>{name}: cn01: 1 of 1 ordered"));
        }
    }
}
