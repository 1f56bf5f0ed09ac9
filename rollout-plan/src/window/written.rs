//! The keys of a window, and their checks.

use super::local::{Clock, Day, Days, Zone};
use super::{Window, Windows};
use crate::period::Period;
use crate::value;
use jiff::civil::{Date, Time};
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// A window as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    days: Days,
    from: Option<Clock>,
    to: Option<Clock>,
    zone: Option<Zone>,
    except: Vec<Day>,
    only: Vec<Day>,
    jitter: Option<Period>,
}

/// Checks the windows at `key` and unites them.
pub(crate) fn check_all(key: &str, written: Vec<Written>) -> Result<Windows, ManifestError> {
    let windows = written.into_iter().zip(1..).map(|(window, n)| window.check(&format!("{key}[{n}]")));
    Ok(Windows::any_of(windows.collect::<Result<_, _>>()?))
}

impl Written {
    fn check(self, key: &str) -> Result<Window, ManifestError> {
        let (from, to) = self.times(key)?;
        let zone = match self.zone {
            Some(zone) => zone,
            None => Zone::system().map_err(|why| value(format!("{key}.zone"), why))?,
        };
        let jitter = self.jitter.map_or(Duration::ZERO, Period::get);
        let length = length(from, to);
        if jitter >= length {
            let why = format!("the window would have no length: it has {} minutes", length.as_secs() / 60);
            return Err(value(format!("{key}.jitter"), format!("{why}; write a shorter jitter")));
        }
        let dates = |days: &[Day]| days.iter().map(|day| day.0).collect::<BTreeSet<Date>>();
        let window = Window {
            days: self.days,
            from,
            to,
            zone: zone.0,
            except: dates(&self.except),
            only: dates(&self.only),
            jitter,
        };
        if !window.only.is_empty() && !window.only.iter().any(|date| window.starts_on(*date)) {
            let why = "the window never opens: days or except exclude each of these dates";
            return Err(value(format!("{key}.only"), why));
        }
        Ok(window)
    }

    /// Returns `from` and `to`. Without them, the window is the whole day.
    fn times(&self, key: &str) -> Result<(Time, Time), ManifestError> {
        match (self.from, self.to) {
            (None, None) => Ok((Time::midnight(), Time::midnight())),
            (Some(from), Some(_)) if from.is_end_of_day() => {
                Err(value(format!("{key}.from"), "24:00 is the end of a day; write 00:00 of the next one"))
            }
            (Some(from), Some(to)) => Ok((from.time(), to.time())),
            (Some(_), None) => {
                Err(value(format!("{key}.to"), "from without to: write the end of the window, too"))
            }
            (None, Some(_)) => {
                Err(value(format!("{key}.from"), "to without from: write the start of the window, too"))
            }
        }
    }
}

/// Returns the length of the window on a day on which no clock is set.
fn length(from: Time, to: Time) -> Duration {
    let minutes =
        |time: Time| u64::from(time.hour().unsigned_abs()) * 60 + u64::from(time.minute().unsigned_abs());
    let minutes = (minutes(to) + 24 * 60 - minutes(from)) % (24 * 60);
    Duration::from_secs(60 * if minutes == 0 { 24 * 60 } else { minutes })
}
