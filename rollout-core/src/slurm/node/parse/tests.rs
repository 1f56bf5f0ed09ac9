use super::*;
use crate::slurm::drains::was_drained_meanwhile;
use proptest::collection::vec;
use proptest::prelude::*;

/// 2026-11-01T10:05:00.
const SET_S: u64 = 1_793_527_500;
const TIME: &str = "2026-11-01T10:05:00";

/// A release of Slurm, as far as it prints nodes differently.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Release {
    R22_05,
    R23_02,
    R23_11,
    R24_05,
    R24_11,
    R25_05,
    R25_11,
    R26_05,
    /// Has keys that do not exist yet.
    Later,
}

use Release::{Later, R22_05, R23_02, R23_11, R24_05, R24_11, R25_05, R25_11, R26_05};

const RELEASES: [Release; 9] = [R22_05, R23_02, R23_11, R24_05, R24_11, R25_05, R25_11, R26_05, Later];

/// A node as slurmctld knows it.
#[derive(Debug, Clone, Default)]
struct Node<'a> {
    /// Arch, Version and OS, which a node has once it has registered.
    registered: Option<(&'a str, &'a str, &'a str)>,
    cpu_bind: Option<&'a str>,
    next_state: Option<&'a str>,
    reason: Option<&'a str>,
    comment: Option<&'a str>,
    extra: Option<&'a str>,
    tls: bool,
    parameters: bool,
}

impl Node<'_> {
    /// Prints the node as `slurm_sprint_node_table` does, with `one_liner`.
    fn print(&self, release: Release) -> String {
        let mut out = "NodeName=cn01 ".to_owned();
        let mut add = |text: &str| out.push_str(text);
        if let Some((arch, _, _)) = self.registered {
            add(&format!("Arch={arch} "));
        }
        if let Some(bind) = self.cpu_bind {
            add(&format!("CpuBind={bind} "));
        }
        add("CoresPerSocket=1  CPUAlloc=0 CPUEfctv=1 CPUTot=1 CPULoad=0.61 AvailableFeatures=gpu,x=1 ");
        add("ActiveFeatures=(null) Gres=gpu:1(S:0) GresDrain=N/A GresUsed=gpu:0 ");
        add("NodeAddr=10.71.1.11 NodeHostName=node1 Port=6819 ");
        if let Some((_, version, os)) = self.registered {
            add(&format!("Version={version} OS={os}  "));
        }
        add("RealMemory=500 AllocMem=0 FreeMem=400 Sockets=1 Boards=1 CoreSpecCount=1 CPUSpecList=0  ");
        if release >= R24_05 {
            add("RestrictedCoresPerGPU=2(gpu:0-1)  ");
        }
        if release == Later {
            add("Shelf=3 ");
        }
        add(
            "State=DOWN*+DRAIN+REBOOT_ISSUED ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=ann(7) MCS_label=N/A ",
        );
        if let Some(next) = self.next_state {
            add(&format!("NextState={next} "));
        }
        add(
            "Partitions=main,gpu  BootTime=2026-11-01T10:00:00 SlurmdStartTime=2026-11-01T10:00:05 LastBusyTime=Unknown ",
        );
        if release >= R23_02 {
            add("ResumeAfterTime=None");
        }
        if release >= R26_05 {
            add(" SuspendTime=INFINITE");
        }
        add(" CfgTRES=cpu=1,mem=500M,billing=1 AllocTRES= ");
        if release <= R23_11 {
            add("CapWatts=n/a ");
        }
        add("CurrentWatts=n/s AveWatts=n/s");
        if release <= R23_11 {
            add(" ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s");
        }
        if matches!(release, R24_05 | R24_11) {
            add(" ");
        }
        for (number, line) in
            self.reason.unwrap_or("").split('\n').filter(|line| !line.is_empty()).enumerate()
        {
            match number {
                0 => add(&format!(" Reason={line} [slurm@{TIME}]")),
                _ => add(&format!("        {line}")),
            }
        }
        for (key, text) in [("Comment", self.comment), ("Extra", self.extra)] {
            if let Some(text) = text {
                add(&format!(" {key}={text}"));
            }
        }
        if release >= R23_11 {
            add(" InstanceId=i-1 InstanceType=a b");
        }
        if release >= R25_05 && self.tls {
            add(" TLSCertTokenSet=Yes TLSCertLastRenewal=2026-11-01T10:00:00 Topology=default:sw1");
        }
        if release >= R25_11 && self.parameters {
            add(" Parameters=a,b");
        }
        add("\n");
        out
    }

    fn read(&self, release: Release) -> NodeInfo {
        let text = self.print(release);
        let mut nodes = parse_nodes(&text);
        assert_eq!(nodes.len(), 1, "{text}");
        nodes.remove(0)
    }
}

const REGISTERED: Option<(&str, &str, &str)> = Some(("x86_64", "24.11.5", "Linux 6.1.0 #1 SMP"));

#[test]
fn a_node_is_read_from_what_each_release_prints() {
    for release in RELEASES {
        let reason = Some("driver 580 : reboot issued");
        let next_state = Some("RESUME");
        let printed = Node { registered: REGISTERED, reason, next_state, ..Node::default() };
        let node = printed.read(release);
        assert_eq!(
            (node.name.as_str(), node.address.as_str(), node.host.as_str()),
            ("cn01", "10.71.1.11", "node1")
        );
        assert_eq!(node.state, ["DOWN", "DRAIN", "REBOOT_ISSUED"]);
        assert_eq!((node.next_state.as_deref(), node.reason.as_deref()), (next_state, reason), "{release:?}");
        assert_eq!((node.arch.as_deref(), node.version.as_deref()), (Some("x86_64"), Some("24.11.5")));
        assert_eq!((node.reason_user.as_deref(), node.handed_over_s()), (Some("slurm"), Some(SET_S)));
        assert_eq!(node.boot_s, Some(SET_S - 300));
        assert!(node.is_handed_over() && node.returns_by_itself());
        assert_eq!(was_drained_meanwhile(&node, "slurm"), None);
    }
}

#[test]
fn keys_of_any_release_end_a_value() {
    for release in RELEASES {
        let cpu_bind = Some("cores");
        let bound = Node { registered: REGISTERED, cpu_bind, ..Node::default() }.read(release);
        assert_eq!(bound.arch.as_deref(), Some("x86_64"));
        // Arch is not in Slurm's state file, and a node that is being rebooted cannot register.
        let unregistered = Node { cpu_bind, ..Node::default() }.read(release);
        assert_eq!((unregistered.name.as_str(), unregistered.arch), ("cn01", None));
        for (tls, parameters) in [(true, false), (false, true), (true, true)] {
            let reason = Some("driver : reboot issued");
            let node = Node { reason, tls, parameters, ..Node::default() }.read(release);
            assert_eq!((node.reason.as_deref(), node.handed_over_s()), (reason, Some(SET_S)), "{release:?}");
        }
    }
}

#[test]
fn free_text_ends_with_its_key_and_at_no_other() {
    let os = "Linux 6.1 #1 SMP State=IDLE Reason=none NodeName=evil";
    for reason in [
        "driver Version=580 : reboot issued",
        "OS=new State=IDLE Port=1 Extra=x Comment=y NextState=DOWN : reboot issued",
        "State=DOWN by NodeName=evil [a@b] : reboot issued",
        "as before: bad DIMM [root@2026-10-01T10:05:00] : reboot issued",
        "bad DIMM [root@2026-10-01T10:05:00]",
        "by [ann@example.com@2026-10-01T10:05:00], see Comment=",
        "a\nb : reboot issued",
        "a Version=1\nb State=IDLE\nc [d@e]",
    ] {
        for comment in
            [None, Some("State=IDLE"), Some("x NextState=DOWN [eve@2026-12-01T10:05:00]"), Some("a\nb")]
        {
            for release in RELEASES {
                let registered = Some(("x86_64", "24.11.5", os));
                let printed = Node {
                    registered,
                    reason: Some(reason),
                    comment,
                    extra: Some("NextState=DOWN"),
                    ..Node::default()
                };
                let node = printed.read(release);
                assert_eq!(
                    (node.reason.as_deref(), node.reason_s),
                    (Some(reason), Some(SET_S)),
                    "{release:?}"
                );
                assert_eq!(node.state, ["DOWN", "DRAIN", "REBOOT_ISSUED"]);
                assert_eq!((node.name.as_str(), node.version.as_deref()), ("cn01", Some("24.11.5")));
                assert_eq!(node.next_state, None);
                let is_reboots = reason.ends_with("reboot issued");
                assert_eq!(was_drained_meanwhile(&node, "slurm").is_none(), is_reboots);
                assert_eq!(node.handed_over_s().is_some(), is_reboots);
            }
        }
    }
}

#[test]
fn without_a_reason_there_is_none() {
    let comment = Some("x NextState=DOWN Reason=y : reboot issued [slurm@2026-11-01T10:05:00]");
    for release in RELEASES {
        let node = Node { registered: REGISTERED, comment, ..Node::default() }.read(release);
        assert_eq!((node.reason, node.reason_s, node.next_state), (None, None, None), "{release:?}");
    }
    for line in ["NodeName=n1 State=IDLE Reason=old Comment=x", "NodeName=n1 State=IDLE Reason=old"] {
        let node = parse_nodes(line).remove(0);
        assert_eq!(
            (node.reason.as_deref(), node.reason_s),
            (Some("old"), None),
            "Slurm may not know the time"
        );
        assert_eq!(node.address, "n1", "Slurm's default");
    }
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

/// A line of free text. It may contain all that means something elsewhere, but no user and time that end a Reason.
fn free_text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop_oneof![prop::sample::select(words).prop_map(str::to_owned), "[^\\s\\p{C}]{1,8}"];
    vec(word, 1..6).prop_map(|words| words.join(" "))
}

const FIRST_LINE: &[&str] = &[
    "State=IDLE",
    "NextState=DOWN",
    "NodeName=evil",
    "Reason=",
    "Comment=x",
    "Extra=",
    "OS=Linux",
    "RealMemory=1",
    "New_key=1",
    ": reboot issued",
    "[a@b]",
    "[root@2026-10-01T10:05:00] since",
    "=",
    "]",
];
const OTHER_LINES: &[&str] =
    &["State=IDLE", "NextState=DOWN", "Reason=", "OS=Linux", ": reboot issued", "[a@b]"];
const COMMENT: &[&str] =
    &["State=IDLE", "NextState=DOWN", "Reason=x", "[eve@2026-12-01T10:05:00]", "Extra=", "\n", "]"];

proptest! {
    #[test]
    fn free_text_changes_nothing_else(
        first in free_text(FIRST_LINE),
        others in vec(free_text(OTHER_LINES), 0..3),
        comment in prop::option::of(free_text(COMMENT)),
        extra in prop::option::of(free_text(COMMENT)),
        cpu_bind in prop::option::of(Just("cores")),
        tls: bool,
        parameters: bool,
        release in prop::sample::select(RELEASES.to_vec()),
    ) {
        let reason = [vec![first], others].concat().join("\n");
        let node = Node {
            registered: REGISTERED,
            cpu_bind,
            next_state: Some("RESUME"),
            reason: Some(&reason),
            comment: comment.as_deref(),
            extra: extra.as_deref(),
            tls,
            parameters,
        };
        let read = node.read(release);
        let expected = NodeInfo {
            name: "cn01".to_owned(),
            address: "10.71.1.11".to_owned(),
            arch: Some("x86_64".to_owned()),
            host: "node1".to_owned(),
            state: ["DOWN", "DRAIN", "REBOOT_ISSUED"].map(str::to_owned).to_vec(),
            partitions: ["main", "gpu"].map(str::to_owned).to_vec(),
            features: ["gpu", "x=1"].map(str::to_owned).to_vec(),
            next_state: Some("RESUME".to_owned()),
            reason: Some(reason.clone()),
            reason_user: Some("slurm".to_owned()),
            reason_s: Some(SET_S),
            boot_s: Some(SET_S - 300),
            slurmd_start_s: Some(SET_S - 295),
            version: Some("24.11.5".to_owned()),
        };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}", line in any::<String>()) {
        for node in parse_nodes(&format!("NodeName=n1 {text}\nNodeName=n2 Reason={line}")) {
            prop_assert!(!node.name.contains(' ') && !node.address.contains(' '));
        }
    }
}
