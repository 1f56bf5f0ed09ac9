//! Nodes that qualify a wave with a job before users get them. The jobs of users are pending all the time.

use super::users::with_users;
use super::*;

const NAME: &str = "slurm-rollout";

/// Script that runs until a test lets it end, with the exit code of the test. SlurmUser runs it.
const SCRIPT: &str = "#!/bin/sh
srun touch /tmp/qualified
until [ -e /tmp/qualification-ends ]; do sleep 0.2; done
exit $(cat /tmp/qualification-ends)
";

const PATH: &str = "/opt/qualify.sh";

#[test]
fn qualification_before_users() {
    let site = start_running(nodes(4));
    site.cluster.controller().write_file(PATH, SCRIPT, 0o755).unwrap();
    in_cases(|cases| {
        cases.check("two nodes qualify a wave", || two_nodes_qualify_a_wave(&site));
        cases.check("a job that fails", || a_job_that_fails(&site));
    });
}

fn qualified(name: &str) -> Manifest {
    let keys = format!(
        "[strategy]\nmax_out = 2\norder = \"as-written\"\n\
         [verify.job]\nscript = \"{PATH}\"\nnodes = 2\ntime_limit = \"5m\"\n"
    );
    link_to(name, "cn[01-04]", &keys)
}

/// The executor is killed while the job runs. Jobs of users come in all the time, and none starts on the two nodes
/// before the job is over: it would see the link change, or the test would see it run.
fn two_nodes_qualify_a_wave(site: &Site) {
    clear(site);
    let ((), seen) = with_users(site, || {
        run(site, "ready", &qualified("ready"));
        wait_why(site, "cn03", "waits for the qualification job");
        assert!(wait_status(site, "ready", "waits for the qualification job").contains("(cn[01-02])"));
        assert_eq!(users_on(site), [""; 0]);
        site.cluster
            .controller()
            .run(&["systemctl", "kill", "-s", "KILL", "slurm-rollout-reconcile.service"])
            .unwrap();
        std::thread::sleep(A_WHILE);
        assert_eq!((users_on(site), requested(site, "ready").len()), (vec![], 2));
        end_job(site, "0");
        wait_updated(site, "ready", &["cn01", "cn02", "cn03", "cn04"]);
    });
    assert!(seen.most() <= 2, "{seen:?}");
    assert_eq!(lines(site, "ready", "qualifying").len(), 1, "the job was found again");
    assert!(line_of(site, "ready", "qualified", "cn01") < line_of(site, "ready", "requested", "cn03"));
    wait_unreserved(site);
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
}

fn a_job_that_fails(site: &Site) {
    clear(site);
    let ((), _) = with_users(site, || {
        run(site, "unfit", &qualified("unfit"));
        wait_why(site, "cn03", "waits for the qualification job");
        end_job(site, "3");
        let status = wait_status(site, "unfit", "halted since");
        assert!(status.contains("FAILED"), "{status}");
        wait_unreserved(site);
        for node in ["cn01", "cn02"] {
            site.cluster.wait_state(node, |state| state == "IDLE+DRAIN", MINUTES).unwrap();
        }
        std::thread::sleep(A_WHILE);
        assert_eq!((users_on(site), requested(site, "unfit").len()), (vec![], 2));
        let reasons = site.cluster.scontrol(&["show", "node", "-o", "cn01"]).unwrap();
        assert!(reasons.contains("Reason=slurm-rollout unfit: not qualified: job "), "{reasons}");

        clear(site);
        order(site, &["retry", "cn[01-02]"]);
        order(site, &["resume", "unfit"]);
        wait_why(site, "cn03", "waits for the qualification job");
        end_job(site, "0");
        wait_updated(site, "unfit", &["cn01", "cn02", "cn03", "cn04"]);
    });
    wait_unreserved(site);
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
}

/// Has no job of a later qualification end before its time.
fn clear(site: &Site) {
    for node in ["cn01", "cn02"] {
        site.cluster.node(node).run(&["rm", "-f", "/tmp/qualified", "/tmp/qualification-ends"]).unwrap();
    }
}

/// Ends the job once it runs on both nodes.
fn end_job(site: &Site, code: &str) {
    for node in ["cn01", "cn02"] {
        let is_there = || site.cluster.node(node).run(&["ls", "/tmp"]);
        until("the job", MINUTES, is_there, |files| files.lines().any(|file| file == "qualified")).unwrap();
        site.cluster.node(node).write_file("/tmp/qualification-ends", code, 0o644).unwrap();
    }
}

/// Returns the jobs of users that run on the nodes that qualify the wave.
fn users_on(site: &Site) -> Vec<String> {
    let squeue = ["squeue", "-h", "-a", "--name=users", "-w", "cn01,cn02", "-o", "%A %N"];
    let text = site.cluster.controller().run(&squeue).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn wait_unreserved(site: &Site) {
    let reservations = || site.cluster.scontrol(&["show", "res", "-o"]);
    until("no reservation", MINUTES, reservations, |text| !text.contains(NAME)).unwrap();
}
