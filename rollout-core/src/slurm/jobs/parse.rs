//! Parses `SLURM_TIME_FORMAT=%s squeue -h -a -o FORMAT` (`src/squeue/print.c`, 22.05 to 26.05).

use super::{Job, JobId, JobLimit};
use crate::hostlist::NodeSet;
use crate::slurm::fields::{listed, set_value};
use crate::slurm::parsed::Parsed;

/// Fields of a job, for `squeue -o`.
///
/// Users can write none of them, so that no job can pass for another one. Names of partitions and nodes come from
/// slurm.conf, and those of reservations, which come last, from operators. Users write the name (`%j`), comment (`%k`),
/// command (`%o`), working directory (`%Z`) and wckey (`%w`).
///
/// `%h` is missing: up to 25.11 `NO` is a job that shares no node, and in 26.05 nearly any (`job_share_string` and
/// `job_oversubscribe_string` in `src/common/slurm_protocol_defs.c`). The state ALLOCATED of a node tells that it is
/// full.
pub const FORMAT: &str = "%A|%i|%t|%U|%S|%e|%l|%P|%N|%v";

/// Number of fields in [`FORMAT`].
const FIELDS: usize = 10;

/// Parses the output of squeue.
#[must_use]
pub fn parse_jobs(text: &str) -> Parsed<Job> {
    Parsed::of(text.lines().filter(|line| !line.is_empty()), parse_job)
}

fn parse_job(line: &str) -> Result<Job, String> {
    let fields: Vec<&str> = line.splitn(FIELDS, '|').collect();
    let [record, id, state, uid, start, end, limit, partitions, nodes, reservation] = fields[..] else {
        return Err(format!("this is no job: it has {} of {FIELDS} fields", fields.len()));
    };
    if state.is_empty() {
        return Err("the job has no state".to_owned());
    }
    Ok(Job {
        record: number("job id", record)?,
        id: parse_id(id).ok_or_else(|| format!("{id:?} is no job id"))?,
        state: state.to_owned(),
        uid: number("user id", uid)?,
        start_s: parse_time(start)?,
        end_s: parse_time(end)?,
        limit: parse_limit(limit)?,
        partitions: listed(partitions),
        nodes: parse_nodes(nodes)?,
        reservation: set_value(reservation).map(str::to_owned),
    })
}

fn number(what: &str, text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no {what}"))
}

/// Parses `148`, `148_5`, `148_[1-5%2]` or `141+0`. squeue cuts a long list of tasks, so its end may be missing.
fn parse_id(text: &str) -> Option<JobId> {
    if let Some((array, task)) = text.split_once('_') {
        let array = array.parse().ok()?;
        return match task.starts_with('[') {
            true => Some(JobId::PendingTasks { array }),
            false => task.parse().ok().map(|task| JobId::Task { array, task }),
        };
    }
    match text.split_once('+') {
        Some((leader, offset)) => {
            Some(JobId::Component { leader: leader.parse().ok()?, offset: offset.parse().ok()? })
        }
        None => text.parse().ok().map(JobId::Single),
    }
}

/// Parses seconds since 1970, or one of the words for a time that Slurm does not know (`_print_time` and
/// `_print_job_time_end` in `src/squeue/print.c`, `slurm_make_time_str` in `src/common/parse_time.c`).
fn parse_time(text: &str) -> Result<Option<u64>, String> {
    match text {
        "N/A" | "NONE" | "None" | "Unknown" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| format!("{text:?} is no time")),
    }
}

/// Parses `[DAYS-]HOURS:MINUTES:SECONDS`, `MINUTES:SECONDS`, or a word.
fn parse_limit(text: &str) -> Result<JobLimit, String> {
    match text {
        "UNLIMITED" => return Ok(JobLimit::Unlimited),
        "NOT_SET" | "INVALID" => return Ok(JobLimit::NotShown),
        _ => {}
    }
    parse_duration(text).map(JobLimit::Seconds).ok_or_else(|| format!("{text:?} is no time limit"))
}

fn parse_duration(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse().ok()?, clock),
        None => (0, text),
    };
    let mut seconds: u64 = 0;
    let parts: Vec<&str> = clock.split(':').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    for part in parts {
        let part: u64 = part.parse().ok()?;
        seconds = seconds.checked_mul(60)?.checked_add(part)?;
    }
    let days: u64 = days;
    days.checked_mul(24 * 3600)?.checked_add(seconds)
}

fn parse_nodes(list: &str) -> Result<NodeSet, String> {
    match set_value(list) {
        Some(list) => NodeSet::parse(list).map_err(|error| format!("nodes: {error}")),
        None => Ok(NodeSet::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Job {
        let parsed = parse_jobs(line);
        assert!(parsed.is_complete(), "{parsed:?}");
        parsed.items.into_iter().next().unwrap()
    }

    #[test]
    fn the_format_has_as_many_fields_as_are_read() {
        assert_eq!(FORMAT.split('|').count(), FIELDS);
        assert!(FORMAT.ends_with("%v"), "names of reservations may contain the separator");
    }

    #[test]
    fn jobs_are_read_as_squeue_prints_them() {
        let running = one("150|148_5|R|1000|1793527500|1793531100|1:00:00|batch|cn[01-02]|(null)\n");
        let expected = Job {
            record: 150,
            id: JobId::Task { array: 148, task: 5 },
            state: "R".to_owned(),
            uid: 1000,
            start_s: Some(1_793_527_500),
            end_s: Some(1_793_531_100),
            limit: JobLimit::Seconds(3600),
            partitions: vec!["batch".to_owned()],
            nodes: NodeSet::parse("cn[01-02]").unwrap(),
            reservation: None,
        };
        assert_eq!(running, expected);
        let pending = one("148|148_[6-9,12,14,16,18,20,22,24...|PD|1000|N/A|N/A|NOT_SET|batch,gpu||old|x");
        assert_eq!(pending.id, JobId::PendingTasks { array: 148 });
        assert_eq!((pending.start_s, pending.end_s, pending.limit), (None, None, JobLimit::NotShown));
        assert_eq!(pending.partitions, ["batch", "gpu"]);
        assert_eq!(pending.reservation.as_deref(), Some("old|x"));
        let endless = one("141|141+0|S|0|1793527500|NONE|UNLIMITED|batch|cn03|");
        assert_eq!(endless.id, JobId::Component { leader: 141, offset: 0 });
        assert!(endless.is_suspended() && endless.limit == JobLimit::Unlimited);
    }

    #[test]
    fn limits_are_read_in_all_their_forms() {
        for (text, limit) in [
            ("0:30", JobLimit::Seconds(30)),
            ("5:00", JobLimit::Seconds(300)),
            ("10:00:00", JobLimit::Seconds(36_000)),
            ("364-23:59:00", JobLimit::Seconds(31_535_940)),
            ("UNLIMITED", JobLimit::Unlimited),
            ("INVALID", JobLimit::NotShown),
        ] {
            assert_eq!(parse_limit(text), Ok(limit), "{text}");
        }
        for text in ["", "5", "5:", "1-5", "1:2:3:4", "x-1:00:00", "99999999999999999999:00"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported() {
        let whole = "1|1|R|0|5|9|5:00|batch|cn1|";
        for (line, why) in [
            ("slurm_load_jobs error: Unable to contact slurm controller", "1 of 10 fields"),
            ("1|1|R|0|5|9|5:00|batch|cn1", "9 of 10 fields"),
            ("x|1|R|0|5|9|5:00|batch|cn1|", "no job id"),
            ("1|1_x|R|0|5|9|5:00|batch|cn1|", "no job id"),
            ("1|1||0|5|9|5:00|batch|cn1|", "no state"),
            ("1|1|R|root|5|9|5:00|batch|cn1|", "no user id"),
            ("1|1|R|0|2026-11-01T10:05:00|9|5:00|batch|cn1|", "no time"),
            ("1|1|R|0|5|-9|5:00|batch|cn1|", "no time"),
            ("1|1|R|0|5|9|soon|batch|cn1|", "no time limit"),
            ("1|1|R|0|5|9|5:00|batch|cn[2-1]|", "nodes"),
        ] {
            let parsed = parse_jobs(&format!("{whole}\n{line}\n{whole}"));
            assert_eq!(parsed.items.len(), 2, "{line}");
            assert!(parsed.unread.len() == 1 && parsed.unread[0].why.contains(why), "{line}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn every_line_is_read_or_reported(text in "([0-9a-zA-Z_+|\\[\\]:,/() -]{0,60}\n){0,5}") {
            let parsed = parse_jobs(&text);
            let lines = text.lines().filter(|line| !line.is_empty()).count();
            prop_assert_eq!(parsed.items.len() + parsed.unread.len(), lines);
        }

        #[test]
        fn ids_can_be_read_back(array: u32, task: u32) {
            for id in [
                JobId::Single(array),
                JobId::Task { array, task },
                JobId::PendingTasks { array },
                JobId::Component { leader: array, offset: task },
            ] {
                prop_assert_eq!(parse_id(&id.to_string()), Some(id));
            }
        }
    }
}
