//! The text of a reason.

use super::Why;
use crate::standing::{Failure, Skip, Standing};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::fmt;

const MINUTE_MS: u64 = 60_000;

/// A reason as one line.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub(super) why: &'a Why,
    pub(super) zone: &'a TimeZone,
    /// The present. Without one, times have their date.
    pub(super) now_ms: Option<u64>,
}

impl Text<'_> {
    /// Returns a time as people write it: `14:20` today, `Mon 22:00` within six days, else with the date.
    fn time(&self, time_ms: u64) -> String {
        let Some(time) = self.zoned(time_ms) else { return format!("{time_ms} ms") };
        let days = self.now_ms.and_then(|now_ms| {
            let today = DateTime::from(self.zoned(now_ms)?.date());
            let days = today.until(DateTime::from(time.date())).ok()?.get_days();
            Some(days)
        });
        let format = match days {
            Some(0) => "%H:%M",
            Some(1..=6) => "%a %H:%M",
            Some(_) => "%Y-%m-%d %H:%M",
            None => "%Y-%m-%d %H:%M %Z",
        };
        time.strftime(format).to_string()
    }

    fn zoned(&self, time_ms: u64) -> Option<Zoned> {
        let time = Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
        Some(time.to_zoned(self.zone.clone()))
    }

    fn write_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Window { opens_ms: Some(opens_ms) } => write!(f, "window opens {}", self.time(*opens_ms)),
            Why::Window { opens_ms: None } => f.write_str("no window opens in the next 400 days"),
            Why::WindowTooShort { takes_ms, fits_ms: Some(fits_ms) } => {
                let takes = takes_ms.div_ceil(MINUTE_MS);
                write!(f, "window too short now: a visit takes {takes} min, next {}", self.time(*fits_ms))
            }
            Why::WindowTooShort { takes_ms, fits_ms: None } => {
                write!(f, "no window has room for a visit of {} min", takes_ms.div_ceil(MINUTE_MS))
            }
            Why::JobsBeyondWindow { closes_ms } => {
                write!(f, "its jobs may last until the window closes {}", self.time(*closes_ms))
            }
            Why::Soak { wave, until_ms } => {
                write!(f, "soak after wave {wave} until {}", self.time(*until_ms))
            }
            Why::Job { job, uid, about_ms: Some(about_ms), limit_ms } => {
                let (about, limit) = (self.time(*about_ms), self.time(*limit_ms));
                write!(f, "job {job} of uid {uid} until about {about} (limit {limit})")
            }
            Why::Job { job, uid, about_ms: None, limit_ms } => {
                write!(f, "job {job} of uid {uid} until {} at the latest", self.time(*limit_ms))
            }
            Why::JobStays { job, how, since_ms } => {
                write!(f, "job {job} was to be {how} at {} and is still there", self.time(*since_ms))
            }
            Why::Reserved { reservation, from_ms, until_ms } => {
                let (from, until) = (self.time(*from_ms), self.time(*until_ms));
                write!(f, "reservation {reservation} from {from} to {until}")
            }
            Why::Hook { hook, since_ms: Some(since_ms) } => {
                write!(f, "waits for the hook {hook}, which runs since {}", self.time(*since_ms))
            }
            Why::UnderWay { phase, since_ms } => {
                write!(f, "{} since {}", phase.as_deref().unwrap_or("rebooting"), self.time(*since_ms))
            }
            _ => self.write_states(f),
        }
    }

    fn write_states(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::SlurmNotKnown => f.write_str("Slurm does not answer"),
            Why::NotInSlurm => f.write_str("Slurm shows no such node"),
            Why::Strategy { error } => write!(f, "its strategy cannot be read: {error}"),
            Why::Frozen { by, why } => write!(f, "frozen by {by}{}", colon(why.as_deref())),
            Why::Paused { by, why } => write!(f, "paused by {by}{}", colon(why.as_deref())),
            Why::Halted { why } => write!(f, "halted: {why}"),
            Why::Stopped { by } => write!(f, "stopped by {by}"),
            Why::After { rollout } => write!(f, "rollout {rollout} comes first"),
            Why::Never => f.write_str("never touched, by the strategy or the site's limits"),
            Why::Wave { wave, nodes, one } => match nodes {
                1 => write!(f, "wave {wave}: {one} has not ended"),
                _ => write!(f, "wave {wave}: {one} and {} others have not ended", nodes.saturating_sub(1)),
            },
            Why::NotGood { wave, node, state } => {
                write!(f, "wave {wave}: {node} is {state} since its update")
            }
            Why::Approval { wave, number } => {
                write!(f, "approval wanted after wave {number} ({wave})")
            }
            Why::Qualification { wave, nodes, job: Some(job) } => {
                write!(f, "waits for the qualification job {job} of wave {wave} ({nodes})")
            }
            Why::Qualification { wave, nodes, job: None } => {
                write!(f, "waits until {nodes} can qualify wave {wave}")
            }
            Why::Hook { hook, since_ms: None } => write!(f, "waits for the hook {hook}"),
            Why::Qualifiers { wave, nodes: 1, .. } => {
                write!(f, "a node is to qualify wave {wave} first, and none can now")
            }
            Why::Qualifiers { wave, nodes, ready } => {
                write!(f, "{nodes} nodes are to qualify wave {wave} together first, and {ready} can now")
            }
            Why::LaterWave { wave, number, of } => {
                write!(f, "its turn comes after wave {number} of {of} ({wave})")
            }
            Why::NoEnd { why } => f.write_str(why),
            Why::JobsNotKnown => f.write_str("Slurm's jobs could not be read"),
            Why::JobsBeyondDeadline { at_most_ms } => {
                let at_most = at_most_ms.div_ceil(MINUTE_MS);
                write!(f, "its jobs may last longer than the {at_most} min that jobs.at_most waits for them")
            }
            Why::Drained { by, reason } => {
                write!(f, "drained by {}: {reason}", by.as_deref().unwrap_or("an unknown user"))
            }
            Why::Unavailable { what } => f.write_str(what),
            Why::RequestedByOthers => {
                f.write_str("somebody else requested its reboot, which will apply the rollout")
            }
            Why::Cancelled => f.write_str(
                "somebody cancelled its reboot in Slurm; `slurm-rollout resume` requests it again",
            ),
            _ => self.write_limits(f),
        }
    }

    fn write_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Group { group, node, why } => {
                write!(f, "group {group}: {node}: {}", Text { why, ..*self })
            }
            Why::BringUp { group, node, standing } => {
                write!(f, "group {group}: {node} comes back before it and {}", describe(*standing))
            }
            Why::GroupDrains { group, node: Some(node) } => write!(f, "group {group}: {node} still has jobs"),
            Why::GroupDrains { group, node: None } => {
                write!(f, "the nodes of group {group} stop taking jobs")
            }
            Why::GroupTooLarge { group, nodes, max_out } => {
                write!(f, "group {group} has {nodes} nodes, and max_out is {max_out}")
            }
            Why::GroupInSet { set, at_once } => {
                write!(f, "exclusive set {set}: {at_once} at once, and its group has more of them")
            }
            Why::Exclusive { set, node } => write!(f, "exclusive set {set}: {node} is out"),
            Why::Floor { of, floor, available } => {
                write!(f, "floor of {of}: {floor} must stay available, {available} are")
            }
            Why::FloorNotKnown { of } => write!(f, "floor of {of}: its nodes are not known"),
            Why::SiteMaxOut { out, limit } => write!(f, "max_out of the site {out} of {limit}"),
            Why::MaxOut { out, limit } => write!(f, "max_out {out} of {limit}"),
            Why::NextTick { limit } => write!(f, "{limit} nodes are requested at a time"),
            Why::Now => f.write_str("being requested now"),
            Why::Requested => f.write_str("requested, and Slurm is about to reboot it"),
            Why::Failed { failure, error } => {
                write!(f, "{}{}", name_of(*failure), colon(error.as_deref()))
            }
            Why::Skipped { skip, kept_out } => {
                f.write_str(describe_skip(*skip))?;
                if *kept_out {
                    f.write_str("; drained, so that it takes no jobs before its update")
                } else {
                    Ok(())
                }
            }
            // The others have their text above.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_waits(f)
    }
}

fn colon(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(": {text}"))
}

fn describe(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waits",
        Standing::Requested => "is requested",
        Standing::Out => "is out",
        Standing::Updated => "is not yet in service again",
        Standing::Failed(failure) => name_of(failure),
        Standing::Skipped(skip) => describe_skip(skip),
    }
}

pub(crate) fn name_of(failure: Failure) -> &'static str {
    match failure {
        Failure::RolledBack => "rolled back",
        Failure::Held => "held",
        Failure::Lost => "lost",
        Failure::Refused => "refused the order",
        Failure::NoOrder => "rebooted without an order",
        Failure::NotQualified => "not qualified",
        Failure::Hook => "failed by a hook",
    }
}

fn describe_skip(skip: Skip) -> &'static str {
    match skip {
        Skip::Down => "down",
        Skip::Asleep => "powered down to save power",
        Skip::NoNode => "no node yet",
        Skip::Superseded => "has had another order, or another rollout is staged over this one",
        Skip::Released => "released",
    }
}
