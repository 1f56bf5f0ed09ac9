//! reboot-program for 10,000 nodes that a real slurmctld has handed over: `cargo bench -p rollout-lab --bench scale`.
//!
//! Beside it `curl --parallel` posts the same order to the same addresses, in turns. Once with all agents alive, once
//! with 5 % of the nodes dead. Then `slurm-rollout status` of a rollout of all nodes, beside `scontrol show node -o`.
//! Printed, never asserted. The agents are one process on the same machine and take their
//! share of its processors in both cases.
//!
//! | figure | how |
//! |---|---|
//! | seconds | from the program's start to its end; of reboot-program scontrol, claim, journal and Reasons are in it |
//! | sending | from the first order that an agent got to the last one |
//! | memory | VmHWM of the process alone, looked at every 2 ms |
//! | processor | of the process alone, from the same place |

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use rollout_lab::{Base, Crowd, MINUTES, Manifest, ManyNodes, Product, REBOOT_PROGRAM};

const COUNT: usize = 10_000;
const ROUNDS: usize = 3;
/// RebootProgram of slurmctld. The real one is run by hand as SlurmUser.
const NOTHING: &str = "/bin/true";

/// Runs a program as a user and prints exit code, seconds, KiB and seconds of processor.
const MEASURE: &str = r#"
import os, subprocess, sys, time
begun = time.monotonic()
child = subprocess.Popen(sys.argv[2:], user=sys.argv[1], group=sys.argv[1],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
peak, ticks = 0, 0
while child.poll() is None:
    try:
        status = open(f"/proc/{child.pid}/status").read()
        if "VmHWM:" in status:
            peak = int(status.split("VmHWM:")[1].split()[0])
        fields = open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
    except (OSError, ProcessLookupError):
        pass
    time.sleep(0.002)
print(child.returncode, time.monotonic() - begun, peak, ticks / os.sysconf("SC_CLK_TCK"))
"#;

/// Figures of one run.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    sending: f64,
    mib: f64,
    processor: f64,
}

fn main() {
    let product = Product::build().unwrap();
    for dead in [0, COUNT / 20] {
        let nodes = ManyNodes { prefix: "cn", count: COUNT, dead };
        let crowd = nodes.start(&product, Base::Trixie, Some(NOTHING)).unwrap();
        measure(&crowd, nodes);
        if dead == 0 {
            measure_status(&crowd, &nodes);
        }
    }
}

fn measure_status(crowd: &Crowd, nodes: &ManyNodes) {
    let controller = crowd.controller();
    let manifest = Manifest::new("all", &nodes.list()).symlink("/opt/app/current", "/opt/app/2");
    controller.write_file("/root/rollout.toml", manifest.to_string(), 0o644).unwrap();
    controller.run(&["slurm-rollout", "stage", "/root/rollout.toml"]).unwrap();
    let run = |argv: &[&str]| {
        let argv = [&["python3", "-c", MEASURE, "root"], argv].concat();
        parse(&controller.command(&argv).unwrap().limit(MINUTES).run().unwrap(), "0").seconds
    };
    let rounds: Vec<[f64; 2]> = (0..ROUNDS)
        .map(|_| [run(&["scontrol", "show", "node", "-o"]), run(&["slurm-rollout", "status", "all"])])
        .collect();
    let of = |index: usize| median(rounds.iter().map(|round| round[index]).collect());
    let ratio = median(rounds.iter().map(|[slurm, ours]| ours / slurm).collect());
    println!("  status {:.2} s, scontrol show node -o {:.2} s, ratio {ratio:.2}", of(1), of(0));
}

fn measure(crowd: &Crowd, nodes: ManyNodes) {
    let (mut ours, mut curls) = (Vec::new(), Vec::new());
    let living = nodes.count - nodes.dead;
    for _ in 0..ROUNDS {
        crowd.hand_over().unwrap();
        ours.push(reboot_program(crowd, &nodes));
        let orders = crowd.agents.take_orders();
        assert_eq!(orders.values().map(Vec::len).sum::<usize>(), living);
        let order = orders.into_values().next().unwrap().remove(0);
        curls.push(curl(crowd, &nodes, &order));
        crowd.agents.take_orders();
        crowd.all_down().unwrap();
    }
    let of = |runs: &[Run], what: fn(&Run) -> f64| median(runs.iter().map(what).collect());
    let rate = |seconds: f64| living as f64 / seconds;
    println!("{} nodes, {} of them dead (medians of {ROUNDS}):", nodes.count, nodes.dead);
    for (name, runs) in [("reboot-program", &ours), ("curl --parallel --parallel-max 300", &curls)] {
        let (seconds, sending) = (of(runs, |run| run.seconds), of(runs, |run| run.sending));
        let (mib, processor) = (of(runs, |run| run.mib), of(runs, |run| run.processor));
        println!(
            "  {name}: {seconds:.2} s, sending {sending:.2} s = {:.0} orders a second; {mib:.1} MiB, {processor:.2} s of processor",
            rate(sending)
        );
    }
    let ratios = ours.iter().zip(&curls).map(|(ours, curl)| curl.sending / ours.sending).collect();
    println!("  sending, curl's time to ours: {:.2}", median(ratios));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn reboot_program(crowd: &Crowd, nodes: &ManyNodes) -> Run {
    let controller = crowd.controller();
    // 24.11 gives all names, unfolded.
    let (living, dead) = nodes.fates();
    let names = [living, dead].concat().join(",");
    // Its limits are for a machine that does nothing else.
    let patient = "deadline = \"60s\"\n";
    controller.write_file("/etc/slurm-rollout/controller.d/patient.toml", patient, 0o644).unwrap();
    let argv = ["python3", "-c", MEASURE, "slurm", REBOOT_PROGRAM, &names];
    let said = controller.command(&argv).unwrap().limit(MINUTES).run().unwrap();
    let mut run = parse(&said, if nodes.dead == 0 { "0" } else { "1" });
    run.sending = crowd.agents.span().as_secs_f64();
    run
}

/// The same from outside Slurm, in the controller's network. It tries the dead once, for a second.
fn curl(crowd: &Crowd, nodes: &ManyNodes, order: &str) -> Run {
    let (living, dead) = nodes.fates();
    let url = |name: &String| {
        let address = nodes.address(name).unwrap();
        format!("url = \"http://{address}:{}/v1/order\"\noutput = \"/dev/null\"\n", crowd.agents.port)
    };
    let list: String = living.iter().chain(&dead).map(url).collect();
    let directory = crowd.cluster.directory();
    let (list_file, order_file) = (directory.join("curl-list"), directory.join("order"));
    std::fs::write(&list_file, list).unwrap();
    std::fs::write(&order_file, order).unwrap();
    let options =
        "--parallel --parallel-immediate --parallel-max 300 --silent --connect-timeout 1 --max-time 4";
    let mut curl = std::process::Command::new("python3");
    curl.args(["-c", MEASURE, "root", "curl"]).args(options.split(' '));
    curl.arg("--data-binary").arg(format!("@{}", order_file.display())).arg("--config").arg(&list_file);
    let output = crowd.controller().in_network(|| curl.output().unwrap()).unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut run = parse(&text, text.split(' ').next().unwrap());
    run.sending = crowd.agents.span().as_secs_f64();
    run
}

fn parse(said: &str, code: &str) -> Run {
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[0], code, "exit code");
    let number = |index: usize| words[index].parse::<f64>().unwrap();
    Run { seconds: number(1), sending: 0.0, mib: number(2) / 1024.0, processor: number(3) }
}
