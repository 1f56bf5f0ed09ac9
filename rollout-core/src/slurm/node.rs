//! `scontrol show node -o` as types, and the meaning of Slurm's states to a rollout.
//!
//! The only module that depends on Slurm's wording of node states. Read against Slurm 22.05 to 26.05.

use crate::hostlist::check_name;
use crate::slurm::reason::{Classified, Reason};
use std::collections::BTreeSet;

/// A node as Slurm reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub name: String,
    /// NodeAddr, at which slurmctld reaches the node. Slurm's default is the NodeName.
    pub address: String,
    /// Arch, as printed by `uname -m`. `None` until the node has registered.
    pub arch: Option<String>,
    /// NodeHostName, the host's own name.
    pub host: String,
    /// The base state and the flags of `State=`, such as `DOWN`, `DRAIN`, `REBOOT_ISSUED`; without `*` and the like.
    pub state: Vec<String>,
    /// `NextState=`, if a reboot is pending.
    pub next_state: Option<String>,
    /// `Reason=` without the ` [user@time]` behind it.
    pub reason: Option<String>,
    /// The user who set the Reason.
    pub reason_user: Option<String>,
    /// Time at which the Reason was set, in seconds since 1970.
    pub reason_s: Option<u64>,
    /// `BootTime=` in seconds since 1970. `None` if Slurm does not know it.
    pub boot_s: Option<u64>,
    /// `SlurmdStartTime=` in seconds since 1970, by the node's clock. `None` if Slurm does not know it.
    pub slurmd_start_s: Option<u64>,
    /// Version of Slurm on the node.
    pub version: Option<String>,
}

/// Keys that `scontrol show node -o` prints (22.05 to 26.05). Free text (Reason, Comment, Extra) may contain
/// `word=word`, so only these end a value.
const KEYS: &[&str] = &[
    "NodeName",
    "Arch",
    "CoresPerSocket",
    "CPUAlloc",
    "CPUEfctv",
    "CPUTot",
    "CPULoad",
    "AvailableFeatures",
    "ActiveFeatures",
    "Gres",
    "GresDrain",
    "GresUsed",
    "NodeAddr",
    "NodeHostName",
    "Port",
    "BcastAddr",
    "RestrictedCoresPerGPU",
    "Version",
    "OS",
    "RealMemory",
    "AllocMem",
    "FreeMem",
    "Sockets",
    "Boards",
    "CoreSpecCount",
    "CPUSpecList",
    "MemSpecLimit",
    "State",
    "ThreadsPerCore",
    "TmpDisk",
    "Weight",
    "Owner",
    "MCS_label",
    "NextState",
    "Partitions",
    "BootTime",
    "SlurmdStartTime",
    "LastBusyTime",
    "ResumeAfterTime",
    "CfgTRES",
    "AllocTRES",
    "CapWatts",
    "CurrentWatts",
    "AveWatts",
    "ExtSensorsJoules",
    "ExtSensorsWatts",
    "ExtSensorsTemp",
    "Reason",
    "Comment",
    "Extra",
    "InstanceId",
    "InstanceType",
    "ReservationName",
    "LowestJoules",
    "ConsumedJoules",
    "CertFlags",
    "Topology",
    "CertToken",
    "GpuSpec",
    "TLSCertLastRenewal",
    "PowerAction",
];

impl NodeInfo {
    /// Returns whether `State=` contains this word.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.state.iter().any(|word| word == flag)
    }

    /// Returns the state as `scontrol` prints it.
    #[must_use]
    pub fn state_text(&self) -> String {
        self.state.join("+")
    }

    /// Returns whether Slurm has handed the node over for a reboot: by `scontrol reboot` (REBOOT_ISSUED), or for a job
    /// with `--reboot` (POWERING_UP, up to 25.11 without REBOOT_ISSUED).
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.has("REBOOT_ISSUED") || self.has("POWERING_UP")
    }

    /// Returns whether the node is handed over for a job that will start on it (`sbatch --reboot`, or features that
    /// need a boot), and not by `scontrol reboot`, which leaves the node DOWN (`_do_reboot` in
    /// `src/slurmctld/job_scheduler.c`).
    #[must_use]
    pub fn is_rebooted_for_a_job(&self) -> bool {
        self.has("POWERING_UP") && !self.has("DOWN")
    }

    /// Returns whether Slurm itself puts the node back into service if it boots in time (`validate_node_specs`).
    /// NextState DOWN keeps it down, and without any NextState a DRAIN stays.
    #[must_use]
    pub fn returns_by_itself(&self) -> bool {
        match self.next_state.as_deref() {
            Some(next) => !next.split(['+', ',']).any(|word| word.trim_end_matches('*') == "DOWN"),
            None => !self.has("DRAIN"),
        }
    }

    /// Returns whether Slurm gave up waiting for a reboot of this node, and nobody has set a different Reason since.
    #[must_use]
    pub fn timed_out_waiting_for_our_reboot(&self) -> bool {
        self.has("DOWN")
            && !self.is_handed_over()
            && !self.has("INVALID_REG")
            && self.classified_reason().is_some_and(|reason| reason.is_of_a_timed_out_reboot())
    }

    /// Returns whether the node is out of service only because our agent drained it to hold it.
    #[must_use]
    pub fn is_drained_by_us(&self) -> bool {
        self.shows_our_reason() && self.has("DRAIN") && !self.has("DOWN") && !self.is_handed_over()
    }

    /// Returns the latest time at which Slurm may have handed the node over, in seconds since 1970, if its Reason
    /// tells: Slurm's own Reason, or that of a RebootProgram that could not order it ([`Reason::not_ordered`]).
    #[must_use]
    pub fn handed_over_s(&self) -> Option<u64> {
        self.classified_reason().filter(Classified::is_of_a_hand_over)?;
        self.reason_s
    }

    /// Returns whether slurm-rollout set the node's Reason.
    #[must_use]
    pub fn shows_our_reason(&self) -> bool {
        self.classified_reason().is_some_and(|reason| reason.is_ours())
    }

    pub(crate) fn classified_reason(&self) -> Option<Classified<'_>> {
        self.reason.as_deref().map(Reason::classify)
    }
}

/// Parses the output of `TZ=UTC0 scontrol show node -o` (its times have no zone). Skips lines that are no node, because
/// a Comment may contain a newline, which scontrol prints raw. Also skips names that no node can have, because the
/// names become hostlists.
#[must_use]
pub fn parse_nodes(text: &str) -> Vec<NodeInfo> {
    text.lines().filter(|line| line.starts_with("NodeName=")).map(parse_node).filter(is_named).collect()
}

fn is_named(node: &NodeInfo) -> bool {
    check_name(&node.name).is_ok()
}

fn parse_node(line: &str) -> NodeInfo {
    let mut node = NodeInfo::default();
    let mut seen = BTreeSet::new();
    for (key, value) in pairs(line) {
        // The first one counts: keys in free text come after Slurm's own.
        if !seen.insert(key) {
            continue;
        }
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
            "NextState" => node.next_state = Some(value.to_owned()),
            "BootTime" => node.boot_s = parse_utc(value),
            "SlurmdStartTime" => node.slurmd_start_s = parse_utc(value),
            "Version" => node.version = Some(value.to_owned()),
            "Reason" => read_reason(&mut node, value),
            _ => {}
        }
    }
    if node.address.is_empty() {
        node.address.clone_from(&node.name);
    }
    node
}

/// Parses `text [user@time]`.
fn read_reason(node: &mut NodeInfo, value: &str) {
    let behind = value.strip_suffix(']').and_then(|v| v.rsplit_once(" ["));
    if let Some((text, (user, time))) = behind.and_then(|(text, by)| Some((text, by.rsplit_once('@')?))) {
        node.reason = Some(text.to_owned());
        node.reason_user = Some(user.to_owned());
        node.reason_s = parse_utc(time);
    } else {
        node.reason = Some(value.to_owned());
    }
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

/// Splits a line into `Key=value`. A value ends at the next known key.
fn pairs(line: &str) -> Vec<(&str, &str)> {
    let mut starts = Vec::new();
    let mut from = 0;
    for word in line.split_inclusive(' ') {
        if let Some((key, _)) = word.split_once('=') {
            if KEYS.contains(&key) {
                starts.push((from, key));
            }
        }
        from += word.len();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([line.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|((at, key), end)| Some((*key, line.get(at + key.len() + 1..end)?.trim_end())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: &str = "NodeName=cn01 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=1 CPUTot=1 CPULoad=0.61 AvailableFeatures=(null) \
ActiveFeatures=(null) Gres=(null) NodeAddr=10.71.1.11 NodeHostName=cn01 Version=24.11.5 OS=Linux 6.1.0 #1 SMP RealMemory=500 AllocMem=0 \
FreeMem=400 Sockets=1 Boards=1 State=DOWN+DRAIN+REBOOT_ISSUED ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A NextState=RESUME \
Partitions=main  BootTime=2026-11-01T10:00:00 SlurmdStartTime=2026-11-01T10:00:05 LastBusyTime=Unknown ResumeAfterTime=None \
CfgTRES=cpu=1,mem=500M,billing=1 AllocTRES= CurrentWatts=0 AveWatts=0  Reason=driver 580 : reboot issued [slurm@2026-11-01T10:05:00] Comment=State=IDLE is what we want";

    fn node(state: &str, reason: &str) -> NodeInfo {
        let line = format!("NodeName=n1 State={state} Reason={reason} [root@2026-11-01T10:05:00]");
        parse_nodes(&line).remove(0)
    }

    #[test]
    fn reads_a_node_that_was_handed_over() {
        let nodes = parse_nodes(ISSUED);
        assert_eq!(nodes.len(), 1);
        let node = &nodes[0];
        assert_eq!((node.name.as_str(), node.address.as_str()), ("cn01", "10.71.1.11"));
        assert_eq!(node.state, ["DOWN", "DRAIN", "REBOOT_ISSUED"]);
        assert_eq!(node.next_state.as_deref(), Some("RESUME"));
        assert_eq!(node.reason.as_deref(), Some("driver 580 : reboot issued"));
        assert_eq!(node.reason_user.as_deref(), Some("slurm"));
        assert_eq!(node.handed_over_s(), Some(1_793_527_500));
        assert_eq!(node.boot_s, Some(1_793_527_200));
        assert_eq!(node.slurmd_start_s, Some(1_793_527_205));
        assert!(node.is_handed_over() && node.returns_by_itself());
    }

    #[test]
    fn free_text_cannot_pass_for_a_state() {
        let line = "NodeName=n1 State=IDLE* Reason=State=DOWN by NodeName=evil [a@b] [root@2026-11-01T10:05:00] Extra=NextState=DOWN";
        let node = parse_nodes(line).remove(0);
        assert_eq!(node.state, ["IDLE"]);
        assert_eq!(node.name, "n1");
        assert_eq!(node.address, "n1", "Slurm's default");
    }

    #[test]
    fn times_are_read_as_utc() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00", Some(0)),
            ("2000-02-29T23:59:59", Some(951_868_799)),
            ("2026-11-20T09:47:29", Some(1_795_168_049)),
            ("2100-03-01T00:00:00", Some(4_107_542_400)),
            ("None", None),
            ("Unknown", None),
            ("2026-13-01T00:00:00", None),
            ("2026-11-20", None),
            ("", None),
        ] {
            assert_eq!(parse_utc(text), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_node_is_left_out() {
        assert!(parse_nodes("").is_empty());
        assert!(parse_nodes("No nodes in the system\nslurm_load_node error: x\n").is_empty());
        for name in ["", "cn[1-2]", "cn1,cn2", "cn3oards=1", "../cn1"] {
            assert!(parse_nodes(&format!("NodeName={name} State=IDLE")).is_empty(), "{name}");
        }
    }

    #[test]
    fn only_a_reason_that_shows_our_reboot_counts_as_late() {
        for (state, reason, late) in [
            ("DOWN+DRAIN", "t3 : reboot issued : reboot timed out", true),
            ("DOWN", "slurm-rollout r: rolling back: dnf failed : reboot timed out", true),
            ("DOWN", "bad DIMM", false),
            ("DOWN", "bad DIMM : reboot timed out by mistake", false),
            ("DOWN", "Not responding", false),
            ("DOWN+REBOOT_ISSUED", "t3 : reboot issued", false),
            ("DOWN+INVALID_REG", "t3 : reboot issued : reboot timed out", false),
            ("IDLE", "t3 : reboot issued : reboot timed out", false),
        ] {
            assert_eq!(node(state, reason).timed_out_waiting_for_our_reboot(), late, "{state} {reason}");
        }
    }

    #[test]
    fn a_reason_may_say_by_when_the_node_was_handed_over() {
        let not_ordered = Reason::not_ordered("/run/slurm-rollout/agent.sock: connection refused");
        let unknown = "slurm-rollout RebootProgram: refused: held by driver";
        for (reason, says_so) in [
            ("driver : reboot issued", true),
            (not_ordered.as_str(), true),
            (unknown, false),
            ("slurm-rollout driver: not ordered: no answer from its agent", false),
            ("driver : reboot issued : reboot timed out", false),
            ("bad DIMM", false),
        ] {
            let found = node("DOWN+REBOOT_ISSUED", reason).handed_over_s();
            assert_eq!(found, says_so.then_some(1_793_527_500), "{reason}");
        }
    }

    #[test]
    fn returns_by_itself_as_slurm_would() {
        for (state, next, returns) in [
            ("DOWN+DRAIN+REBOOT_ISSUED", Some("RESUME"), true),
            ("DOWN+DRAIN+REBOOT_ISSUED", Some("UNDRAIN"), true),
            ("DOWN+REBOOT_ISSUED", Some("DOWN"), false),
            ("DOWN+REBOOT_ISSUED", None, true),
            ("DOWN+DRAIN+REBOOT_ISSUED", None, false),
        ] {
            let mut node = node(state, "x");
            node.next_state = next.map(str::to_owned);
            assert_eq!(node.returns_by_itself(), returns, "{state} {next:?}");
        }
    }
}
