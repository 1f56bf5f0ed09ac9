//! Every way in which Slurm starts the program, and worse.

use super::{assert_code, controller, hand_over, link, plain_reboots, said, site, wait_said};
use crate::prelude::*;

/// SlurmUser on Debian.
const SLURM: &str = "64030:64030";

/// Becomes RebootProgram in the way named by its first argument.
const BECOME: &str = r#"
import os, signal, sys
how, argv, environment = sys.argv[1], sys.argv[2:], dict(os.environ)
if how == "as slurmctld 22.05":
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in range(1, 32) if 0x897a27 >> (n - 1) & 1})
    os.closerange(0, 3)
elif how == "as slurmctld 26.05":
    environment = {"SLURM_CONF": "/etc/slurm/slurm.conf"}
elif how == "closed pipes, ignored signals":
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.dup2(write, 2)
elif how == "no environment, no way to the directory":
    environment = {}
    os.mkdir("/tmp/locked")
    os.chdir("/tmp/locked")
    os.chmod("/tmp/locked", 0)
os.execve(argv[0], argv, environment)
"#;

/// Records the signals of its process at the start and becomes scontrol. Not a shell: shells change their signals.
const SCONTROL: &str = r#"#!/usr/bin/perl
open(my $status, "<", "/proc/self/status");
open(my $signals, ">>", "/var/log/slurm/signals");
print $signals grep { /^Sig(Blk|Ign)/ } <$status>;
close($signals);
exec("/usr/bin/scontrol", @ARGV);
"#;

fn run_how(site: &Site, how: &str, args: &[&str]) -> Output {
    let mut argv = vec!["timeout", "30", "python3", "-c", BECOME, how, REBOOT_PROGRAM];
    argv.extend(args);
    controller(site).exec_as("slurm", &argv).unwrap()
}

/// (2) to (4): every way to be started, each on a node of its own.
#[test]
fn it_does_its_work_however_it_is_started() {
    let site = site(nodes(7));
    let names = site.cluster.node_names();
    let ctl = controller(&site);
    ctl.write_file("/usr/libexec/lab/scontrol", SCONTROL, 0o755).unwrap();
    ctl.write_file("/etc/lab.toml", "scontrol = '/usr/libexec/lab/scontrol'\n", 0o644).unwrap();
    ctl.run(&["chown", "slurm:", "/var/log/slurm"]).unwrap();
    site.stage(link("cn07")).unwrap();
    hand_over(&site, "cn[01-07]", &names);

    let flat = run_how(&site, "as slurmctld 22.05", &["--config", "/etc/lab.toml", "cn01,cn02"]);
    assert_code(&flat, 0);
    wait_said(&site, "cn[01-02]: 2 of 2 ordered");
    let ranged = run_how(&site, "as slurmctld 26.05", &["--config=/etc/lab.toml", "cn[03-04]", "nps4,snc"]);
    assert_code(&ranged, 0);
    wait_said(&site, "cn[03-04]: 2 of 2 ordered");
    let args = ["--config", "/etc/lab.toml", "cn05"];
    assert_code(&run_how(&site, "closed pipes, ignored signals", &args), 0);
    wait_said(&site, "cn05: 1 of 1 ordered");
    assert_code(&run_how(&site, "no environment, no way to the directory", &["cn06"]), 0);
    wait_said(&site, "cn06: 1 of 1 ordered");
    assert!(!said(&site).contains("cannot"), "{}", said(&site));

    // Its own start must not affect the programs that it starts: 2 calls for each hand-over, each with
    // its mask and its ignored signals.
    let signals = ctl.read_file("/var/log/slurm/signals").unwrap();
    let values = |key: &str| -> Vec<u64> {
        let found = signals.lines().filter_map(|line| line.strip_prefix(key));
        found.map(|value| u64::from_str_radix(value.trim(), 16).unwrap()).collect()
    };
    assert_eq!(values("SigBlk:"), [0; 6]);
    // SIGINT, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD
    let ours = (1 << 1) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 16);
    assert_eq!(values("SigIgn:").iter().map(|ignored| ignored & ours).collect::<Vec<_>>(), [0; 6]);

    the_empty_chroot(&site);

    for node in site.cluster.compute_nodes() {
        node.wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(&names, MINUTES).unwrap();
    for node in site.cluster.compute_nodes() {
        assert_eq!(node.boot_count(), 2);
    }
    assert_eq!(site.cluster.node("cn07").run(&["readlink", "/opt/current"]).unwrap(), "/opt/2\n");
    site.wait_phase("link", "cn07", "updated").unwrap();
    let plain = plain_reboots(&site);
    assert_eq!(plain.keys().map(String::as_str).collect::<Vec<_>>(), names[..6]);
}

/// A root that has only the program, its state directory with a staged rollout, and munged's socket.
fn the_empty_chroot(site: &Site) {
    let ctl = controller(site);
    let script = format!(
        "cd /srv && mkdir -p empty{CONTROLLER_STATE_DIR} empty/run/munge && cp {REBOOT_PROGRAM} empty/ && \
         mount --bind {CONTROLLER_STATE_DIR} empty{CONTROLLER_STATE_DIR} && mount --bind /run/munge empty/run/munge && ls empty"
    );
    assert_eq!(ctl.run(&["sh", "-ec", &script]).unwrap(), "reboot-program\nrun\nvar\n");
    let user = format!("--userspec={SLURM}");
    let chroot = ["timeout", "30", "chroot", &user, "--groups=", "/srv/empty", "/reboot-program", "cn07"];
    let output = ctl.exec(&chroot).unwrap();
    assert_code(&output, 0);
    assert!(output.stderr.contains("cn07: 1 of 1 ordered"), "{output:?}");
    assert!(output.stderr.contains("Slurm cannot be asked, going by what it said last"), "{output:?}");
}
