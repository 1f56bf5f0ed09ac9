//! The project's figures: `cargo bench -p rollout-lab`. Printed, never asserted; as ratios where the machine is noisy.
//! Some of them alone: `cargo bench -p rollout-lab --bench figures -- flood idle`.
//!
//! 1. `program`, reboot-program: its size, and from start to end for one node that was handed over.
//! 2. `dispatch`: orders to 1,000 agents on loopback addresses, beside `curl --parallel` posting the same bytes to the
//!    same server (10,000, with Slurm and the whole of reboot-program: `--bench scale`).
//! 3. `idle`, the idle agent: resident memory, and context switches in a minute.
//! 4. `out-of-service`: seconds that a node is out of service beyond what a plain `scontrol reboot` costs in the same
//!    lab, and seconds from slurmd's start until it is ready, and to the end of the order, which waits for Slurm to
//!    accept the node.
//! 5. `next`: in a started rollout, seconds from the moment in which one node is IDLE again until the next one is
//!    requested.
//! 6. `gate`: on nodes without a disk, seconds from the agent's start to the gate's end after a reboot, with an order
//!    and without.
//! 7. `flood`: bad requests that one agent gets rid of in a second beside 1,000 idle connections, an order in the midst
//!    of them, and what the agent has in memory then.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use rollout_control::agents::client::AgentClient;
use rollout_control::agents::dispatch::dispatch;
use rollout_lab::{
    AGENT_UNIT, ClusterSpec, Flood, GATE_UNIT, LAST_FILE, MINUTES, Manifest, ManyAgents, NetImage, Node,
    NodeRoot, Product, REBOOT_PROGRAM, RECONCILE_TIMER, Site,
};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const AGENTS: u16 = 1000;
const ROUNDS: usize = 3;
/// Processes that send bad requests.
const SENDERS: u32 = 12;

fn main() {
    // cargo itself says `--bench`.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let product = Product::build().unwrap();
    let size = product.reboot_program().unwrap().len();
    println!("reboot-program: {size} bytes, static");
    if wanted("dispatch") {
        dispatch_beside_curl();
    }
    if wanted("gate") {
        gate(&product);
    }
    in_the_lab(&product, wanted);
}

/// The controller tells a node what it should be as soon as the node's agent is up.
fn gate(product: &Product) {
    let prepare = |root: &NodeRoot| match root.is_controller() {
        true => {
            let config = "[boot_file]\ndirectory = \"/srv/boot\"\nname = \"{node}.boot\"\n\
                          template = \"/etc/slurm-rollout/boot.template\"\n";
            root.write_file("/etc/slurm-rollout/controller.d/images.toml", config, 0o644)?;
            root.write_file("/etc/slurm-rollout/boot.template", "boot {image}-{version}\n", 0o644)?;
            root.enable_units(&[RECONCILE_TIMER])
        }
        false => {
            root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", "ledger = \"volatile\"\n", 0o644)
        }
    };
    let images = vec![NetImage::new("compute", "1"), NetImage::new("compute", "2")];
    let (prepare, disks) = (Some(Arc::new(prepare) as _), false);
    let spec = ClusterSpec { nodes: 4, images, disks, prepare, ..ClusterSpec::default() };
    let site = Site::start(product, spec).unwrap();
    let image = Manifest::new("image", "cn[01-04]").image("boot-file", "compute", "2");
    for (what, manifest) in [("plain reboot", None), ("image", Some(image))] {
        let boots: Vec<u32> = site.cluster.compute_nodes().iter().map(Node::boot_count).collect();
        if let Some(manifest) = manifest {
            site.stage(manifest).unwrap();
        }
        site.reboot("cn[01-04]").unwrap();
        let mut seconds = Vec::new();
        for (node, boots) in site.cluster.compute_nodes().iter().zip(boots) {
            node.wait_boots(boots + 1, MINUTES).unwrap();
            site.wait_idle(&[node.name()], MINUTES).unwrap();
            let time = |unit: &str, property: &str| -> f64 {
                node.property(unit, property).unwrap().parse::<f64>().unwrap() / 1e6
            };
            let up = time(AGENT_UNIT, "ActiveEnterTimestampMonotonic");
            seconds.push(time(GATE_UNIT, "ExecMainExitTimestampMonotonic") - up);
        }
        let most = seconds.iter().copied().fold(0.0, f64::max);
        println!(
            "{what}: agent up to gate open {:.2} s, at most {most:.2} s (4 nodes without a disk)",
            median(seconds)
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn dispatch_beside_curl() {
    let agents = ManyAgents::here().unwrap();
    let port = agents.port;
    // The length of a sealed order for a thousand nodes with two changes.
    let order = format!("MUNGE:{}:", "A".repeat(1400));
    let addresses: Vec<Ipv4Addr> =
        (0..AGENTS).map(|n| Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250 + 1) as u8)).collect();
    let config: String = addresses
        .iter()
        .map(|a| format!("url = \"http://{a}:{port}/v1/order\"\noutput = \"/dev/null\"\n"))
        .collect();
    let list = std::env::temp_dir().join(format!("figures-{}", std::process::id()));
    std::fs::write(&list, config).unwrap();
    let (mut ours, mut curls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let client = AgentClient::new(port, Duration::from_secs(4));
        let sealed = order.clone();
        let answers = dispatch(addresses.clone(), 512, begun + Duration::from_secs(30), move |address| {
            client.order(&IpAddr::V4(address).into(), &sealed)
        });
        let accepted = answers.all().into_iter().filter(Result::is_ok).count();
        assert_eq!(accepted, usize::from(AGENTS));
        let ours_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut curl = Command::new("curl");
        curl.args([
            "--parallel",
            "--parallel-max",
            "300",
            "--parallel-immediate",
            "--silent",
            "--data-binary",
            &order,
            "--config",
        ]);
        let status = curl.arg(&list).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        let curl_s = begun.elapsed().as_secs_f64();
        ours.push(f64::from(AGENTS) / ours_s);
        curls.push(f64::from(AGENTS) / curl_s);
        ratios.push(curl_s / ours_s);
    }
    let _ = std::fs::remove_file(list);
    println!(
        "orders to {AGENTS} agents: {:.0} a second; curl --parallel --parallel-max 300: {:.0}; ratio {:.2} (medians of {ROUNDS})",
        median(ours),
        median(curls),
        median(ratios)
    );
}

fn in_the_lab(product: &Product, wanted: impl Fn(&str) -> bool) {
    let nothing = "/usr/libexec/lab/nothing";
    let spec = ClusterSpec { nodes: 2, ..ClusterSpec::default() };
    let site = Site::with_tool(product, spec).unwrap();
    let controller = site.cluster.controller();
    controller.write_file(nothing, "#!/bin/sh\n", 0o755).unwrap();
    if wanted("idle") {
        idle_agent(&site);
    }
    if wanted("out-of-service") {
        out_of_service(&site);
    }
    if wanted("next") {
        next_request(&site);
    }

    let swap = format!("sed -i s,^RebootProgram=.*,RebootProgram={nothing}, /etc/slurm/slurm.conf");
    controller.run(&["sh", "-c", &swap]).unwrap();
    site.reconfigure().unwrap();
    if wanted("program") || wanted("flood") {
        let times = (0..ROUNDS).map(|_| order_ms(&site)).collect();
        println!(
            "reboot-program, one node, scontrol and the answer included: {:.0} ms (median of {ROUNDS})",
            median(times)
        );
    }
    if wanted("flood") {
        under_a_flood(&site);
    }
}

/// Milliseconds that reboot-program takes for cn01 after Slurm has handed it over. Returns when the node is back.
fn order_ms(site: &Site) -> f64 {
    let node = site.cluster.node("cn01");
    let boots = node.boot_count();
    site.reboot("cn01").unwrap();
    site.cluster.wait_state("cn01", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    let said = site.cluster.controller().exec_as("slurm", &[REBOOT_PROGRAM, "cn01"]).unwrap().stderr;
    let ms = said.rsplit_once(" ms").and_then(|(text, _)| text.rsplit(' ').next()?.parse::<f64>().ok());
    node.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    ms.unwrap_or_else(|| panic!("{said}"))
}

fn under_a_flood(site: &Site) {
    let (node, pause) = (site.cluster.node("cn01"), Duration::from_secs(10));
    let flood = Flood::start(site.cluster.node("cn02"), node.address(), 1000, SENDERS).unwrap();
    let (mut rates, mut shares, mut peaks, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let process = format!("/proc/{}", node.property(AGENT_UNIT, "MainPID").unwrap());
        let (begun, sent, busy) = (Instant::now(), flood.sent().unwrap(), busy_s(node, &process));
        std::thread::sleep(pause);
        let took = begun.elapsed().as_secs_f64();
        rates.push((flood.sent().unwrap() - sent) as f64 / took);
        shares.push(100.0 * (busy_s(node, &process) - busy) / took);
        let peak = node.run(&["grep", "VmHWM", &format!("{process}/status")]).unwrap();
        peaks.push(peak.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap());
        times.push(order_ms(site));
    }
    println!(
        "under a flood of 1,000 idle connections and {:.0} bad requests a second: agent's VmHWM {:.0} kB and {:.0} % of a \
         processor, reboot-program {:.0} ms (medians of {ROUNDS}; all on this machine)",
        median(rates),
        median(peaks),
        median(shares),
        median(times)
    );
}

/// Processor time of a process.
fn busy_s(node: &Node, process: &str) -> f64 {
    let stat = node.read_file(&format!("{process}/stat")).unwrap();
    // Behind the name: user and system time are the 12th and 13th, in hundredths of a second.
    let behind = stat.rsplit_once(") ").unwrap().1.split(' ');
    behind.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn idle_agent(site: &Site) {
    let node = site.cluster.node("cn02");
    let status = format!("/proc/{}/status", node.property(AGENT_UNIT, "MainPID").unwrap());
    let count = || -> u64 {
        let text = node.run(&["cat", &status]).unwrap();
        let switches = text.lines().filter(|line| line.contains("ctxt_switches"));
        switches.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    std::thread::sleep(Duration::from_secs(15));
    let before = count();
    std::thread::sleep(Duration::from_secs(60));
    let switches = count() - before;
    let text = node.run(&["cat", &status]).unwrap();
    let rss = text.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS ?");
    println!(
        "idle agent: {}, {switches} context switches in 60 s",
        rss.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}

/// Seconds from `scontrol reboot` of an idle node until it is IDLE again: with Slurm's own reboot, through
/// slurm-rollout with nothing staged, and with a link and a package.
fn out_of_service(site: &Site) {
    let seconds = || {
        let begun = Instant::now();
        site.reboot_to_idle("cn01").unwrap();
        begun.elapsed().as_secs_f64()
    };
    let (mut plain, mut ours, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ready, mut accepted) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        with_slurmds_own_reboot(site, true);
        plain.push(seconds());
        with_slurmds_own_reboot(site, false);
        ours.push(seconds());
        // There and back: each round has something to change.
        let (link, version) = if round % 2 == 0 { ("2", "1.1") } else { ("1", "1.0") };
        site.stage(Manifest::tool(version).named(&format!("round-{round}")).nodes("cn01")).unwrap();
        changed.push(seconds());
        assert_eq!(site.tool("cn01").unwrap(), format!("/opt/app/{link} {version}"));
        site.wait_phase(&format!("round-{round}"), "cn01", "updated").unwrap();
        let [is_ready, has_ended] = from_slurmds_start(site.cluster.node("cn01"));
        ready.push(is_ready);
        accepted.push(has_ended);
    }
    let (plain, ours, changed) = (median(plain), median(ours), median(changed));
    println!(
        "from scontrol reboot to IDLE: {plain:.1} s plain (slurmd runs /usr/sbin/reboot), {ours:.1} s through us with \
         nothing staged, {changed:.1} s with a link and a package: {:.1} s and {:.1} s beyond plain (medians of {ROUNDS})",
        ours - plain,
        changed - plain
    );
    println!(
        "from slurmd's start until systemd has it ready {:.2} s, to the end of the order, with the proof of its \
         registration, {:.2} s (medians of {ROUNDS})",
        median(ready),
        median(accepted)
    );
}

/// Seconds from the return of a node until the next one is requested.
fn next_request(site: &Site) {
    let seconds = |round: usize| {
        let name = format!("next-{round}");
        let (target, strategy) =
            (["/opt/app/1", "/opt/app/2"][round % 2], "[strategy]\norder = \"as-written\"\n");
        let manifest =
            Manifest::new(&name, "cn[01-02]").symlink("/opt/app/current", target).strategy(strategy);
        site.stage(manifest).unwrap();
        site.rollout(&["start", &name]).unwrap().into_stdout().unwrap();
        site.cluster.wait_state("cn01", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
        site.wait_idle(&["cn01"], MINUTES).unwrap();
        let back = Instant::now();
        site.cluster.wait_state("cn02", |state| state.contains("REBOOT"), MINUTES).unwrap();
        let seconds = back.elapsed().as_secs_f64();
        site.wait_phase(&name, "cn02", "updated").unwrap();
        seconds
    };
    let enable = ["systemctl", "enable", "--now", RECONCILE_TIMER];
    site.cluster.controller().run(&enable).unwrap();
    let seconds = (0..ROUNDS).map(seconds).collect();
    println!("from a node's return to the next request: {:.1} s (median of {ROUNDS})", median(seconds));
}

/// Seconds from the start of slurmd until systemd has it ready, and until the end of the order, by the time of the
/// settled ledger.
fn from_slurmds_start(node: &Node) -> [f64; 2] {
    node.wait_active("slurmd.service").unwrap();
    let at_s = |name| node.property("slurmd.service", name).unwrap().parse::<f64>().unwrap() / 1e6;
    let (started_s, ready_s) =
        (at_s("ExecMainStartTimestampMonotonic"), at_s("ActiveEnterTimestampMonotonic"));
    let settled = node.run(&["stat", "--format=%.6Y", LAST_FILE]).unwrap();
    // The node has a monotonic clock of its own, which starts at its boot.
    let clocks = node.run(&["sh", "-c", "cut -d' ' -f1 /proc/uptime; date +%s.%N"]).unwrap();
    let clocks: Vec<f64> = clocks.lines().map(|line| line.parse().unwrap()).collect();
    let booted_s = clocks[1] - clocks[0];
    [ready_s, settled.trim().parse::<f64>().unwrap() - booted_s].map(|at_s| at_s - started_s)
}

fn with_slurmds_own_reboot(site: &Site, own: bool) {
    let (program, parameters) = if own {
        ("/usr/sbin/reboot", "s,^SlurmctldParameters=reboot_from_controller,#off&,")
    } else {
        (REBOOT_PROGRAM, "s,^#off,,")
    };
    let script = format!(
        "sed -i -e 's,^RebootProgram=.*,RebootProgram={program},' -e '{parameters}' /etc/slurm/slurm.conf"
    );
    for node in site.cluster.compute_nodes().iter().chain([site.cluster.controller()]) {
        node.run(&["sh", "-c", &script]).unwrap();
    }
    site.reconfigure().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
}
