//! Parses `scontrol show part -o` (`slurm_sprint_partition_info` in `src/api/partition_info.c`, 22.05 to 26.05).

use super::config::{OverTimeLimit, Release, ResumeTimeout, SlurmConfig};
use super::fields::{Fields, set_value};
use super::parsed::Parsed;
use crate::hostlist::NodeSet;

/// The first release that waits for a reboot as long as the node's partitions allow (`_do_power_work` in
/// `src/slurmctld/power_save.c`, 26.05). Earlier ones apply the global ResumeTimeout (`check_node_timers` and
/// `check_reboot_nodes` in `src/slurmctld/node_mgr.c`, 22.05 to 25.11).
const TIMEOUT_OF_PARTITIONS: Release = Release { year: 26, month: 5 };

/// A partition, limited to the values that slurm-rollout needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub name: String,
    pub nodes: NodeSet,
    pub state: PartitionState,
    /// OverTimeLimit of the partition. `None` if the global one applies.
    pub over_time_limit: Option<OverTimeLimit>,
    pub resume_timeout: PartitionTimeout,
}

/// State of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Takes and starts jobs.
    Up,
    /// Takes jobs and starts none.
    Down,
    /// Starts jobs that it has and takes no more.
    Drain,
    /// Neither takes nor starts jobs.
    Inactive,
    /// A state that this version does not know.
    Unknown,
}

/// ResumeTimeout of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTimeout {
    /// Not printed. scontrol prints it only if its own slurm.conf has SuspendProgram and ResumeProgram.
    NotShown,
    /// The partition has none of its own.
    Global,
    Own(ResumeTimeout),
}

impl PartitionState {
    /// Returns whether jobs start in the partition.
    #[must_use]
    pub fn starts_jobs(self) -> bool {
        matches!(self, Self::Up | Self::Drain)
    }
}

/// Parses the output of `scontrol show part -o -a`.
#[must_use]
pub fn parse_partitions(text: &str) -> Parsed<Partition> {
    // Without partitions, scontrol prints `No partitions in the system`.
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("No partitions "));
    Parsed::of(lines, parse_partition)
}

fn parse_partition(line: &str) -> Result<Partition, String> {
    let mut partition = Partition {
        name: String::new(),
        nodes: NodeSet::default(),
        state: PartitionState::Unknown,
        over_time_limit: None,
        resume_timeout: PartitionTimeout::NotShown,
    };
    let (mut has_nodes, mut has_state) = (false, false);
    for (key, value) in Fields::of(line) {
        match key {
            "PartitionName" => value.clone_into(&mut partition.name),
            "Nodes" => {
                has_nodes = true;
                if let Some(list) = set_value(value) {
                    partition.nodes = NodeSet::parse(list).map_err(|error| format!("Nodes={error}"))?;
                }
            }
            "State" => {
                has_state = true;
                partition.state = parse_state(value);
            }
            "OverTimeLimit" => partition.over_time_limit = parse_over_time(value)?,
            "ResumeTimeout" => partition.resume_timeout = parse_timeout(value)?,
            _ => {}
        }
    }
    if partition.name.is_empty() || !has_nodes || !has_state {
        return Err("this is no partition: it lacks PartitionName, Nodes or State".to_owned());
    }
    Ok(partition)
}

fn parse_state(value: &str) -> PartitionState {
    match value {
        "UP" => PartitionState::Up,
        "DOWN" => PartitionState::Down,
        "DRAIN" => PartitionState::Drain,
        "INACTIVE" => PartitionState::Inactive,
        _ => PartitionState::Unknown,
    }
}

fn parse_over_time(value: &str) -> Result<Option<OverTimeLimit>, String> {
    match value {
        "NONE" => Ok(None),
        _ => OverTimeLimit::parse(value)
            .map(Some)
            .ok_or_else(|| format!("OverTimeLimit={value} is no number of minutes")),
    }
}

fn parse_timeout(value: &str) -> Result<PartitionTimeout, String> {
    match value {
        "GLOBAL" => Ok(PartitionTimeout::Global),
        _ => ResumeTimeout::parse(value)
            .map(PartitionTimeout::Own)
            .ok_or_else(|| format!("ResumeTimeout={value} is no number of seconds")),
    }
}

/// ResumeTimeout that applies to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeTimeout<'a> {
    pub timeout: ResumeTimeout,
    /// The partition that sets it. `None` if it is the global one.
    pub partition: Option<&'a str>,
}

/// Returns how long Slurm waits for a node to register after a reboot. `None` if Slurm does not report it.
///
/// From 26.05 it is the longest ResumeTimeout that a partition of the node sets, else the global one. An unknown
/// release counts as one before that, as does a partition whose ResumeTimeout is not shown.
#[must_use]
pub fn resume_timeout_of<'a>(
    node: &str,
    config: &SlurmConfig,
    partitions: &'a [Partition],
) -> Option<NodeTimeout<'a>> {
    let global = || Some(NodeTimeout { timeout: config.resume_timeout()?, partition: None });
    let release = config.version().and_then(Release::parse);
    if release.is_none_or(|release| release < TIMEOUT_OF_PARTITIONS) {
        return global();
    }
    let own = partitions.iter().filter(|partition| partition.nodes.contains(node)).filter_map(|partition| {
        match partition.resume_timeout {
            PartitionTimeout::Own(timeout) => Some(NodeTimeout { timeout, partition: Some(&partition.name) }),
            PartitionTimeout::Global | PartitionTimeout::NotShown => None,
        }
    });
    own.max_by_key(|own| own.timeout).or_else(global)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition as Slurm 22.05 prints it, without power saving.
    const OLD: &str = "PartitionName=batch AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A \
DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 \
LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=cn[01-04] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO \
OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=16 TotalNodes=4 SelectTypeParameters=NONE JobDefaults=(null) \
DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=16,mem=400M,node=4,billing=16";

    /// A partition as Slurm 26.05 prints it, with power saving.
    const NEW: &str = "PartitionName=gpu AllowGroups=domain users AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO \
CpuBind=cores  QoS=N/A DefaultTime=NONE DisableRootJobs=NO Exclusive=NODE GraceTime=0 Hidden=YES MaxNodes=UNLIMITED \
MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED NodeSets=gpus Nodes=cn04,gpu[1-2] \
PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=10 PreemptMode=OFF State=DRAIN \
TotalCPUs=8 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED \
TRES=cpu=8,mem=200M,node=2,billing=8 TRESBillingWeights=CPU=1.0 ResumeTimeout=900 SuspendTimeout=GLOBAL SuspendTime=GLOBAL \
PowerDownOnIdle=NO";

    #[test]
    fn partitions_are_read_as_each_release_prints_them() {
        let parsed = parse_partitions(&format!("{OLD}\n{NEW}\n"));
        assert!(parsed.is_complete(), "{parsed:?}");
        let expected = [
            Partition {
                name: "batch".to_owned(),
                nodes: NodeSet::parse("cn[01-04]").unwrap(),
                state: PartitionState::Up,
                over_time_limit: None,
                resume_timeout: PartitionTimeout::NotShown,
            },
            Partition {
                name: "gpu".to_owned(),
                nodes: NodeSet::parse("cn04,gpu[1-2]").unwrap(),
                state: PartitionState::Drain,
                over_time_limit: Some(OverTimeLimit::Minutes(10)),
                resume_timeout: PartitionTimeout::Own(ResumeTimeout::Seconds(900)),
            },
        ];
        assert_eq!(parsed.items, expected);
        assert_eq!(parse_partitions("No partitions in the system\n").items, []);
    }

    #[test]
    fn values_are_read_in_all_their_forms() {
        let with = |from: &str, to: &str| parse_partitions(&NEW.replace(from, to)).items.remove(0);
        for (text, state, starts) in [
            ("UP", PartitionState::Up, true),
            ("DRAIN", PartitionState::Drain, true),
            ("DOWN", PartitionState::Down, false),
            ("INACTIVE", PartitionState::Inactive, false),
            ("UNKNOWN", PartitionState::Unknown, false),
            ("NEWER", PartitionState::Unknown, false),
        ] {
            let partition = with(" State=DRAIN", &format!(" State={text}"));
            assert_eq!((partition.state, partition.state.starts_jobs()), (state, starts), "{text}");
        }
        assert!(with("Nodes=cn04,gpu[1-2]", "Nodes=(null)").nodes.is_empty());
        assert_eq!(
            with("OverTimeLimit=10", "OverTimeLimit=UNLIMITED").over_time_limit,
            Some(OverTimeLimit::Unlimited)
        );
        for (text, timeout) in [
            ("GLOBAL", PartitionTimeout::Global),
            ("INFINITE", PartitionTimeout::Own(ResumeTimeout::Infinite)),
            ("7", PartitionTimeout::Own(ResumeTimeout::Seconds(7))),
        ] {
            let partition = with("ResumeTimeout=900", &format!("ResumeTimeout={text}"));
            assert_eq!(partition.resume_timeout, timeout, "{text}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported() {
        for (line, why) in [
            ("PartitionName=batch", "no partition"),
            ("slurm_load_partitions error", "no partition"),
            (&OLD.replace("cn[01-04]", "cn[04-01]"), "04-01"),
            (&OLD.replace("OverTimeLimit=NONE", "OverTimeLimit=soon"), "OverTimeLimit=soon"),
            (&NEW.replace("ResumeTimeout=900", "ResumeTimeout=soon"), "ResumeTimeout=soon"),
        ] {
            let parsed = parse_partitions(line);
            assert!(parsed.items.is_empty(), "{line}");
            assert!(parsed.unread.len() == 1 && parsed.unread[0].why.contains(why), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn partitions_set_the_resume_timeout_from_26_05() {
        let partition = |name: &str, nodes: &str, resume_timeout| Partition {
            name: name.to_owned(),
            nodes: NodeSet::parse(nodes).unwrap(),
            state: PartitionState::Up,
            over_time_limit: None,
            resume_timeout,
        };
        let seconds = |seconds| Some(ResumeTimeout::Seconds(seconds));
        let own = |seconds| PartitionTimeout::Own(ResumeTimeout::Seconds(seconds));
        let partitions = [
            partition("a", "n[1-2]", own(100)),
            partition("b", "n[2-3]", own(300)),
            partition("c", "n[1-4]", PartitionTimeout::Global),
            partition("d", "n[5-6]", PartitionTimeout::NotShown),
            partition("e", "n6", PartitionTimeout::Own(ResumeTimeout::Infinite)),
        ];
        let config = |version: &str| {
            SlurmConfig::parse(&format!("ResumeTimeout = 600 sec\nSLURM_VERSION = {version}\n"))
        };
        for (version, node, expected) in [
            ("22.05.8", "n2", seconds(600)),
            ("25.11.7", "n6", seconds(600)),
            ("unknown", "n2", seconds(600)),
            // A partition's own value counts even if it is shorter than the global one.
            ("26.05.5", "n1", seconds(100)),
            ("26.05.5", "n2", seconds(300)),
            ("26.05.5", "n4", seconds(600)),
            ("26.05.5", "n5", seconds(600)),
            ("26.11.0-0rc1", "n6", Some(ResumeTimeout::Infinite)),
            ("26.05.5", "n7", seconds(600)),
        ] {
            let config = config(version);
            let found = resume_timeout_of(node, &config, &partitions);
            assert_eq!(found.map(|found| found.timeout), expected, "{version} {node}");
            let sets_it = found.and_then(|found| found.partition).is_some();
            assert_eq!(sets_it, expected != seconds(600), "{version} {node}");
        }
        assert_eq!(resume_timeout_of("n2", &SlurmConfig::default(), &partitions), None);
    }
}
