//! Parses `TZ=UTC0 scontrol show node -o`, whose times have no zone.
//!
//! Slurm prints `Key=value` after `Key=value` and quotes nothing (`slurm_sprint_node_table` in `src/api/node_info.c`).
//! Releases from 22.05 to 26.05 differ in their keys, and later ones will add some. They agree on the structure:
//!
//! * Each key is a capitalized word. Up to the Reason, a blank and a key end a value. OS, which the kernel's builder
//!   chooses, is the only text with blanks there, and RealMemory follows it.
//! * The Reason is free text. ` [user@time]` follows its first line. Its other lines follow that, indented by 8 blanks.
//! * Free texts of admins, such as Comment and Extra, come last. They may contain anything, newlines included.
//!
//! The text form serves all releases: `--json` came with 23.02, needs an optional plugin, and has a different schema in
//! each release.

use super::NodeInfo;
use crate::hostlist::check_name;
use crate::slurm::fields::{find_key, key_of, listed};

/// Keys that Slurm prints behind the Reason. All of them are optional, as the Reason is.
const BEHIND_REASON: [&str; 9] = [
    "Comment",
    "Extra",
    "InstanceId",
    "InstanceType",
    "ReservationName",
    "TLSCertTokenSet",
    "TLSCertLastRenewal",
    "Topology",
    "Parameters",
];

/// Comes before each line of a Reason but the first.
const NEXT_LINE: &str = "        ";

/// Length of a time such as `2026-11-01T10:05:00`.
const TIME_LENGTH: usize = 19;

/// Parses the output of `TZ=UTC0 scontrol show node -o`. Skips lines that are no node, because a Comment may contain a
/// newline. Also skips names that no node can have, because the names become hostlists.
#[must_use]
pub fn parse_nodes(text: &str) -> Vec<NodeInfo> {
    text.lines().filter(|line| line.starts_with("NodeName=")).map(parse_node).filter(is_named).collect()
}

fn is_named(node: &NodeInfo) -> bool {
    check_name(&node.name).is_ok()
}

fn parse_node(line: &str) -> NodeInfo {
    let mut node = NodeInfo::default();
    let mut rest = line;
    while let Some(key) = key_of(rest) {
        let text = rest.get(key.len() + 1..).unwrap_or("");
        if key == "Reason" {
            read_reason(&mut node, text);
            break;
        }
        if BEHIND_REASON.contains(&key) {
            break;
        }
        let (value, behind) = text.split_at(value_length(key, text));
        read_value(&mut node, key, value.trim_end());
        rest = behind.trim_start();
    }
    if node.address.is_empty() {
        node.address.clone_from(&node.name);
    }
    node
}

fn read_value(node: &mut NodeInfo, key: &str, value: &str) {
    match key {
        "NodeName" => value.clone_into(&mut node.name),
        "Arch" => node.arch = (value != "(null)").then(|| value.to_owned()),
        "NodeAddr" => value.clone_into(&mut node.address),
        "NodeHostName" => value.clone_into(&mut node.host),
        "State" => {
            node.state = value
                .split('+')
                .map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned())
                .collect();
        }
        "Partitions" => node.partitions = listed(value),
        "AvailableFeatures" => node.features = listed(value),
        "NextState" => node.next_state = Some(value.to_owned()),
        "BootTime" => node.boot_s = parse_utc(value),
        "SlurmdStartTime" => node.slurmd_start_s = parse_utc(value),
        "Version" => node.version = Some(value.to_owned()),
        _ => {}
    }
}

/// Returns the length of a value before the Reason.
fn value_length(key: &str, text: &str) -> usize {
    let end_of_os = if key == "OS" { text.find(" RealMemory=") } else { None };
    end_of_os.or_else(|| find_key(text, |_| true)).unwrap_or(text.len())
}

fn read_reason(node: &mut NodeInfo, text: &str) {
    let Some(stamp) = find_stamp(text) else {
        node.reason = Some(before_free_text(text).to_owned());
        return;
    };
    let mut reason = stamp.reason.to_owned();
    if let Some(lines) = stamp.behind.strip_prefix(NEXT_LINE) {
        for line in before_free_text(lines).split(NEXT_LINE) {
            reason.push('\n');
            reason.push_str(line);
        }
    }
    node.reason = Some(reason);
    node.reason_user = Some(stamp.user.to_owned());
    node.reason_s = Some(stamp.set_s);
}

/// Returns the part of a text before the first key that follows the Reason.
fn before_free_text(text: &str) -> &str {
    let end = find_key(text, |key| BEHIND_REASON.contains(&key)).unwrap_or(text.len());
    text.get(..end).unwrap_or(text).trim_end()
}

/// Slurm's note of the user who set a Reason, and of the time.
struct Stamp<'a> {
    /// The first line of the Reason.
    reason: &'a str,
    user: &'a str,
    set_s: u64,
    behind: &'a str,
}

/// Finds the first ` [user@time]` that can end the first line of a Reason. A Reason may quote another one, with its
/// user and time, but seldom with another line or a key behind them. A Comment may end with them, so a later one does
/// not count.
fn find_stamp(text: &str) -> Option<Stamp<'_>> {
    text.match_indices(']').find_map(|(end, _)| {
        let (before, time) = text.get(..end)?.split_at_checked(end.checked_sub(TIME_LENGTH)?)?;
        let set_s = parse_utc(time)?;
        let (reason, user) = before.strip_suffix('@')?.rsplit_once(" [")?;
        let behind = text.get(end + 1..)?;
        let is_end = behind.trim_end().is_empty()
            || behind.starts_with(NEXT_LINE)
            || behind.strip_prefix(' ').and_then(key_of).is_some();
        is_end.then_some(Stamp { reason, user, set_s, behind })
    })
}

/// Parses `YYYY-MM-DDTHH:MM:SS` in UTC as seconds since 1970. Returns `None` for `None`, `Unknown` and other texts.
fn parse_utc(text: &str) -> Option<u64> {
    let mut numbers = text.split(['-', 'T', ':']).map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (year, month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Count years from March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let days_to_1970 = 719_468;
    Some(((days - days_to_1970) * 24 + hour) * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests;
