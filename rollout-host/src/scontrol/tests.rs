use super::*;
use crate::durable;
use rollout_core::slurm::jobs::JobId;

/// A directory with scripts in place of scontrol, squeue and scancel.
struct Fake(tempfile::TempDir);

impl Fake {
    /// Writes each program's name, arguments and standard input to `calls`, then runs `body`.
    fn running(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let calls = dir.path().join("calls");
        let script = format!(
            "#!/bin/sh\ncalls={}\nprintf %s \"${{0##*/}}\" >>$calls\n\
             for argument; do printf ' [%s]' \"$argument\" >>$calls; done\necho >>$calls\ncat >>$calls\n{body}\n",
            calls.display()
        );
        for name in ["scontrol", "squeue", "scancel", "sbatch"] {
            durable::replace(&dir.path().join(name), script.as_bytes(), 0o755).unwrap();
        }
        Self(dir)
    }

    fn scontrol(&self) -> Scontrol {
        Scontrol::new(self.path("scontrol"), None, Duration::from_secs(20))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the calls since the last time.
    fn calls(&self) -> String {
        let path = self.path("calls");
        let calls = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        calls
    }
}

fn set(list: &str) -> NodeSet {
    NodeSet::parse(list).unwrap()
}

#[test]
fn reboots_are_requested_without_a_shell() {
    let fake = Fake::running("");
    let nodes = set("cn[01-03],gpu1");
    for (request, call) in [
        (
            RebootRequest::Asap { reason: "driver-580" },
            "scontrol [reboot] [ASAP] [nextstate=resume] [reason=driver-580] [cn[01-03],gpu1]\n",
        ),
        (
            RebootRequest::WhenIdle { reason: "driver-580" },
            "scontrol [reboot] [nextstate=resume] [reason=driver-580] [cn[01-03],gpu1]\n",
        ),
        (RebootRequest::KeepingDrain, "scontrol [reboot] [cn[01-03],gpu1]\n"),
    ] {
        fake.scontrol().reboot(&nodes, request).unwrap();
        assert_eq!(fake.calls(), call);
    }
    for reason in ["two words", "a\nb", "\"a\"", "", "-x"] {
        assert!(fake.scontrol().reboot(&nodes, RebootRequest::Asap { reason }).is_err(), "{reason:?}");
    }
    assert!(fake.scontrol().reboot(&set("ALL"), RebootRequest::KeepingDrain).is_err());
    assert!(fake.scontrol().reboot(&NodeSet::default(), RebootRequest::KeepingDrain).is_err());
    assert_eq!(fake.calls(), "", "nothing that is refused is run");
}

#[test]
fn a_list_that_is_too_long_is_requested_in_parts() {
    let fake = Fake::running("case $* in *node19999x*) echo Down >&2; exit 1;; esac");
    let nodes: NodeSet = (0..20_000).map(|number| format!("node{number}x")).collect();
    let error = fake.scontrol().reboot(&nodes, RebootRequest::KeepingDrain).unwrap_err().to_string();
    assert!(error.contains("Down"), "{error}");
    let calls = fake.calls();
    let lists: Vec<&str> = calls
        .lines()
        .map(|call| call.strip_prefix("scontrol [reboot] [").unwrap().strip_suffix(']').unwrap())
        .collect();
    assert!(lists.len() > 1 && lists.iter().all(|list| list.len() <= MAX_ARGUMENT), "{}", lists.len());
    assert_eq!(set(&lists.join(",")), nodes, "a failure does not keep the others from their request");
}

#[test]
fn cancelling_fails_only_if_slurm_did_not_look_at_the_nodes() {
    for (body, fails) in [
        ("", None),
        ("echo 'slurm_update error: Invalid node state specified' >&2; exit 1", None),
        ("echo 'slurm_update error: Invalid node state transition' >&2; exit 1", None),
        ("echo 'slurm_update error: Access/permission denied' >&2; exit 1", Some("permission denied")),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", Some("Unable to contact")),
    ] {
        let fake = Fake::running(body);
        let outcome = fake.scontrol().cancel_reboot(&set("cn[1-2]"));
        match fails {
            Some(text) => assert!(outcome.unwrap_err().to_string().contains(text), "{body}"),
            None => outcome.unwrap(),
        }
        assert_eq!(fake.calls(), "scontrol [cancel_reboot] [cn[1-2]]\n");
    }
}

#[test]
fn a_node_is_resumed_and_drained_again_by_one_process() {
    let fake = Fake::running("");
    let scontrol = fake.scontrol();
    let resume = "scontrol\nupdate NodeName=cn[1-2] State=RESUME\n";
    scontrol
        .cancel_reboot_keeping_drain(&set("cn[1-2]"), &Reason::restored("bad DIMM, don't use"), false)
        .unwrap();
    let drain = "update NodeName=cn[1-2] State=DRAIN Reason=\"bad DIMM, don't use\"\n";
    assert_eq!(fake.calls(), format!("{resume}{drain}"));
    // A Reason that cannot pass through the line is set exactly afterwards.
    scontrol.cancel_reboot_keeping_drain(&set("cn[1-2]"), &Reason::restored("a \"b\"\nü"), false).unwrap();
    let drain = "update NodeName=cn[1-2] State=DRAIN Reason=\"a 'b' ?\"\n";
    let exact = "scontrol [update] [NodeName=cn[1-2]] [Reason=a \"b\"\nü]\n";
    assert_eq!(fake.calls(), format!("{resume}{drain}{exact}"));
    // Slurm refuses to resume a node that is INVALID_REG.
    scontrol.cancel_reboot_keeping_drain(&set("cn[1-2]"), &Reason::restored("bad DIMM"), true).unwrap();
    let drain = "update NodeName=cn[1-2] State=DRAIN Reason=\"bad DIMM\"\n";
    assert_eq!(fake.calls(), format!("scontrol\ncancel_reboot cn[1-2]\n{drain}"));
    assert!(scontrol.cancel_reboot_keeping_drain(&set("cn1"), &Reason::restored(" \n"), false).is_err());
    assert_eq!(fake.calls(), "");
}

#[test]
fn lines_on_standard_input_are_short_enough_for_scontrol() {
    let fake = Fake::running("");
    let nodes: NodeSet = (0..2000).map(|number| format!("node{number}x")).collect();
    fake.scontrol()
        .cancel_reboot_keeping_drain(&nodes, &Reason::restored(&"long ".repeat(300)), false)
        .unwrap();
    let calls = fake.calls();
    let lines: Vec<&str> = calls.lines().filter(|line| line.starts_with("update ")).collect();
    assert!(lines.len() > 2 && lines.iter().all(|line| line.len() < 4000 && line.is_ascii()));
    let names = |ending: &str| {
        let lists = lines.iter().filter(|line| line.contains(ending));
        let lists: Vec<&str> = lists.map(|line| line.split([' ', '=']).nth(2).unwrap()).collect();
        set(&lists.join(","))
    };
    assert_eq!((names(" State=RESUME"), names(" State=DRAIN ")), (nodes.clone(), nodes));
    let failing = Fake::running("echo 'slurm_update error: Invalid node name' >&2; exit 1");
    let error = failing
        .scontrol()
        .cancel_reboot_keeping_drain(&set("cn1"), &Reason::restored("x"), false)
        .unwrap_err();
    assert!(error.to_string().contains("Invalid node name"), "{error}");
}

#[test]
fn jobs_are_read_with_times_as_seconds() {
    let fake = Fake::running(
        "[ \"$SLURM_TIME_FORMAT\" = %s ] || exit 1\necho '150|148_5|R|1000|5|9|5:00|batch|cn[1-2]|'\necho oops",
    );
    let parsed = fake.scontrol().jobs().unwrap();
    assert_eq!((parsed.items.len(), parsed.unread.len()), (1, 1));
    assert_eq!(parsed.items[0].id, JobId::Task { array: 148, task: 5 });
    assert_eq!(fake.calls(), "squeue [-h] [-a] [-o] [%A|%i|%t|%U|%S|%e|%l|%P|%N|%v]\n");
    let elsewhere = fake.scontrol().with_squeue(Some(fake.path("missing")));
    let error = elsewhere.jobs().unwrap_err().to_string();
    assert!(error.contains("missing"), "{error}");
    assert!(fake.scontrol().with_squeue(None).jobs().is_ok());
    let away = Fake::running("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
    assert!(away.scontrol().jobs().is_err(), "no answer does not mean no jobs");
}

#[test]
fn partitions_and_reservations_are_read() {
    let fake = Fake::running(
        "case $2 in\npart) echo 'PartitionName=batch Nodes=cn[1-2] State=UP' ;;\n\
         res) [ \"$SLURM_TIME_FORMAT\" = %s ] &&\n\
         echo 'ReservationName=old StartTime=5 EndTime=9 Nodes=cn1 Flags= Users=-root' ;;\n\
         esac",
    );
    let partitions = fake.scontrol().show_partitions().unwrap();
    assert!(partitions.is_complete() && partitions.items[0].name == "batch");
    let reservations = fake.scontrol().show_reservations().unwrap();
    assert!(reservations.is_complete() && reservations.items[0].end_s == 9);
    assert_eq!(fake.calls(), "scontrol [show] [part] [-o] [-a]\nscontrol [show] [res] [-o] [-a]\n");
}

#[test]
fn a_node_that_is_down_gets_its_reason_back_with_the_end_of_its_drain() {
    let fake = Fake::running("");
    fake.scontrol().undrain_with_reason(&set("cn1"), &Reason::restored("Not responding")).unwrap();
    assert_eq!(fake.calls(), "scontrol [update] [NodeName=cn1] [State=UNDRAIN] [Reason=Not responding]\n");
}

#[test]
fn jobs_are_notified_signalled_requeued_and_cancelled() {
    let fake = Fake::running("");
    let (scontrol, task) = (fake.scontrol(), JobId::Task { array: 148, task: 5 });
    scontrol.notify(150, "maintenance\nat 18:00; $(reboot)").unwrap();
    scontrol.signal_script(task).unwrap();
    scontrol.requeue(task).unwrap();
    scontrol.requeue(JobId::Component { leader: 141, offset: 1 }).unwrap();
    scontrol.cancel(JobId::Single(7)).unwrap();
    let calls = "scontrol [notify] [150] [maintenance at 18:00; $(reboot)]\n\
                 scancel [--signal=USR1] [--batch] [148_5]\n\
                 scontrol [requeue] [148_5]\n\
                 scontrol [requeue] [141]\n\
                 scancel [7]\n";
    assert_eq!(fake.calls(), calls);
    let pending = JobId::PendingTasks { array: 148 };
    assert!(scontrol.requeue(pending).is_err() && scontrol.cancel(pending).is_err());
    assert!(scontrol.notify(150, "-h").is_err() && scontrol.notify(150, " \n").is_err());
    assert_eq!(fake.calls(), "");
}

#[test]
fn reservations_are_created_changed_and_deleted() {
    let fake = Fake::running("");
    let (scontrol, nodes) = (fake.scontrol(), set("cn[1-2]"));
    let fence = NewReservation {
        name: "driver-580",
        nodes: &nodes,
        users: "-root",
        start_s: None,
        end_s: 2_114_380_800,
        flags: &[ReservationFlag::Magnetic, ReservationFlag::IgnoreJobs],
    };
    scontrol.create_reservation(&fence).unwrap();
    let flags = &[ReservationFlag::Maint, ReservationFlag::Overlap];
    let later = NewReservation { users: "root,alice", start_s: Some(1_793_527_500), flags, ..fence };
    scontrol.create_reservation(&later).unwrap();
    scontrol.create_reservation(&NewReservation { flags: &[], ..fence }).unwrap();
    let head = "scontrol [create] [reservation] [reservationname=driver-580]";
    let end = "[endtime=uts2114380800] [nodes=cn[1-2]]";
    let calls = format!(
        "{head} [users=-root] [starttime=now] {end} [flags=magnetic,ignore_jobs]\n\
         {head} [users=root,alice] [starttime=uts1793527500] {end} [flags=maint,overlap]\n\
         {head} [users=-root] [starttime=now] {end}\n"
    );
    assert_eq!(fake.calls(), calls);
    let change = |nodes, end_s| ReservationChange { nodes, end_s };
    for (change, arguments) in [
        (change(Some(NodesChange::To(&nodes)), None), Some("[nodes=cn[1-2]]")),
        (change(Some(NodesChange::Add(&nodes)), None), Some("[nodes+=cn[1-2]]")),
        (change(Some(NodesChange::Remove(&nodes)), Some(9)), Some("[nodes-=cn[1-2]] [endtime=uts9]")),
        (ReservationChange::default(), None),
    ] {
        scontrol.update_reservation("x", change).unwrap();
        let call = arguments.map(|more| format!("scontrol [update] [reservationname=x] {more}\n"));
        assert_eq!(fake.calls(), call.unwrap_or_default());
    }
    scontrol.delete_reservation("x").unwrap();
    assert_eq!(fake.calls(), "scontrol [delete] [reservationname=x]\n");
    for name in ["", "a b", "x=y", "a,b"] {
        assert!(scontrol.create_reservation(&NewReservation { name, ..fence }).is_err(), "{name}");
        assert!(scontrol.delete_reservation(name).is_err(), "{name}");
        assert!(scontrol.update_reservation(name, ReservationChange::default()).is_err(), "{name}");
    }
    for users in ["", "a b", "--x", "a,"] {
        assert!(scontrol.create_reservation(&NewReservation { users, ..fence }).is_err(), "{users}");
    }
    assert_eq!(fake.calls(), "");
}

#[test]
fn a_command_that_hangs_is_ended() {
    let fake = Fake::running("exec sleep 100");
    let scontrol = fake.scontrol().within(Duration::from_millis(300));
    let error = scontrol.reboot(&set("cn1"), RebootRequest::KeepingDrain).unwrap_err();
    assert!(matches!(error, SlurmError::Run(RunError::TimedOut { .. })), "{error}");
}

#[test]
fn a_job_of_ours_is_submitted_without_a_shell() {
    let fake = Fake::running("echo 7");
    let options = ["--exclusive".to_owned(), "--partition=gpu".to_owned()];
    let nodes = set("cn[01-02]");
    let job = NewJob {
        script: "/etc/site/qualify.sh",
        name: "slurm-rollout-a@@1.5",
        reservation: "slurm-rollout-a@@1",
        nodes: &nodes,
        time_limit: Duration::from_secs(90),
        user: Some("hpc"),
        options: &options,
    };
    fake.scontrol().submit(&job).unwrap();
    assert_eq!(
        fake.calls(),
        "sbatch [--chdir=/] [--output=/dev/null] [--exclusive] [--partition=gpu] [--uid=hpc] [--parsable] \
         [--no-requeue] [--job-name=slurm-rollout-a@@1.5] [--reservation=slurm-rollout-a@@1] [--nodes=2] \
         [--nodelist=cn[01-02]] [--time=2] [/etc/site/qualify.sh]\n"
    );
    let flag = ["gpu".to_owned()];
    for refused in [
        NewJob { script: "qualify.sh", ..job },
        NewJob { script: "--wrap=id", ..job },
        NewJob { name: "a b", ..job },
        NewJob { reservation: "a,b", ..job },
        NewJob { user: Some("-1"), ..job },
        NewJob { options: &flag, ..job },
    ] {
        assert!(fake.scontrol().submit(&refused).is_err(), "{refused:?}");
    }
    assert_eq!(fake.calls(), "", "nothing that is refused is run");
}

#[test]
fn jobs_of_ours_are_found_by_their_names() {
    let fake = Fake::running("echo '7|COMPLETED|None|slurm-rollout-a@@1|slurm-rollout-a@@1.5'");
    let names = ["slurm-rollout-a@@1.5".to_owned(), "slurm-rollout-b@@2.6".to_owned()];
    let runs = fake.scontrol().runs(&names).unwrap();
    assert!(runs.is_complete() && runs.items[0].has_succeeded(), "{runs:?}");
    assert_eq!(
        fake.calls(),
        "squeue [-h] [-a] [-t] [all] [-o] [%A|%T|%r|%v|%j] [--name=slurm-rollout-a@@1.5,slurm-rollout-b@@2.6]\n"
    );
    assert!(fake.scontrol().runs(&["a,b".to_owned()]).is_err());
}
