//! `./demo`: a rollout from beginning to end on a real Slurm cluster, to be watched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rollout_lab::{Base, ClusterSpec, NodeRoot, Package, Product, Result, RpmRepository, Site};

const MANIFEST: &str = r#"name  = "slurm-tools-1.1"
nodes = "cn[01-04]"

[[change]]
kind   = "symlink"
path   = "/opt/app/current"
target = "/opt/app/2.0"

[[change]]
kind    = "packages"
manager = "dnf"
install = ["site-tools-1.1"]

[verify]
commands   = [["/usr/bin/grep", "-q", "1.1", "/usr/share/site-tools/version"]]
on_failure = "rollback"
"#;

/// Duration of the jobs on cn03 and cn04.
const JOB_SECONDS: &str = "40";
const LIMIT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

fn main() -> std::process::ExitCode {
    match demo() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    say("Building slurm-rollout");
    let product = Product::build()?;
    say("Building a small RPM repository: site-tools 1.0 and 1.1");
    let tools = |version: &str| {
        Package::new("site-tools", version).file(
            "/usr/share/site-tools/version",
            &format!("{version}\n"),
            0o644,
        )
    };
    let repository = RpmRepository::build(&[tools("1.0"), tools("1.1")])?;
    say("Preparing the base system (a minute or two the first time)");
    Base::Trixie.prepare()?;
    say("Starting a controller and 4 nodes");
    let begun = Instant::now();
    let site = Site::start(&product, spec(repository))?;
    print!("{}", site.cluster.controller().run(&["sinfo", "--version"])?);
    print!("{}", site.cluster.controller().run(&["sinfo"])?);
    println!("up after {:.0} s", begun.elapsed().as_secs_f32());

    say("Jobs on cn03 and cn04");
    for node in ["cn03", "cn04"] {
        let script = format!("sleep {JOB_SECONDS}; hostname >/root/job-ended");
        let job = ["sbatch", "--chdir=/tmp", "--output=/dev/null", "-w", node, "--wrap", &script];
        site.cluster.controller().run(&job)?;
        site.cluster.wait_state(node, |state| state.starts_with("ALLOCATED"), LIMIT)?;
    }
    print!("{}", site.cluster.controller().run(&["squeue"])?);
    let before = facts(&site)?;

    say("slurm-rollout stage rollout.toml");
    println!("{MANIFEST}");
    print!("{}", site.stage(MANIFEST)?);
    say("scontrol reboot ASAP nextstate=resume reason=slurm-tools-1.1 cn[01-04]");
    let ordered = Instant::now();
    site.reboot("cn[01-04]")?;
    watch(&site, ordered)?;

    say("slurm-rollout status -N");
    print!("{}", site.rollout(&["status", "-N", "slurm-tools-1.1"])?.stdout);
    say("Before and after");
    let after = facts(&site)?;
    for (node, was) in &before {
        println!("{node}  {was}  ->  {}", after.get(node).map_or("?", String::as_str));
    }
    say("The jobs");
    for job in ["1", "2"] {
        let text = site.cluster.scontrol(&["show", "job", "-o", job])?;
        let wanted = ["JobId=", "JobState=", "Restarts=", "ExitCode=", "RunTime=", "NodeList="];
        let words = text.split_whitespace().filter(|word| wanted.iter().any(|key| word.starts_with(key)));
        println!("{}", words.collect::<Vec<_>>().join(" "));
    }
    if std::env::var_os("DEMO_KEEP").is_some() {
        say("DEMO_KEEP: the cluster stays until this is killed");
        println!("{}", site.cluster.directory().display());
        sleep(Duration::from_secs(3600));
    }
    let changed = after.values().all(|fact| fact.contains("/opt/app/2.0 site-tools-1.1"));
    let rebooted = before.iter().all(|(node, was)| after.get(node).is_some_and(|is| is != was));
    println!(
        "\nAll nodes changed: {changed}; all rebooted: {rebooted}; {:.0} s",
        ordered.elapsed().as_secs_f32()
    );
    if changed && rebooted {
        Ok(())
    } else {
        Err(rollout_lab::LabError::Setup("not every node has become what was staged".to_owned()))
    }
}

fn spec(repository: RpmRepository) -> ClusterSpec {
    let prepare = move |root: &NodeRoot| {
        if !root.is_controller() {
            repository.install_in(root)?;
            root.run(&["dnf", "-y", "install", "site-tools-1.0"])?;
            root.run(&["mkdir", "-p", "/opt/app/1.0", "/opt/app/2.0"])?;
            root.run(&["ln", "-s", "/opt/app/1.0", "/opt/app/current"])?;
        }
        Ok(())
    };
    ClusterSpec { nodes: 4, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() }
}

/// Prints every change of a node's phase until all are updated and IDLE.
fn watch(site: &Site, begun: Instant) -> Result<()> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    while begun.elapsed() < LIMIT {
        let lines = site.status("slurm-tools-1.1")?;
        for line in &lines {
            let state = line.slurm_state.clone().unwrap_or_default();
            let text = format!("{:<12} {state}", line.phase);
            if shown.get(&line.node) != Some(&text) {
                println!("{:6.1} s  {}  {text}", begun.elapsed().as_secs_f32(), line.node);
                shown.insert(line.node.clone(), text);
            }
        }
        let done = |line: &rollout_lab::NodeLine| {
            line.phase == "updated" && line.slurm_state.as_deref() == Some("IDLE")
        };
        if lines.iter().all(done) {
            return Ok(());
        }
        sleep(LOOK_AGAIN);
    }
    println!("not finished after {} s", LIMIT.as_secs());
    Ok(())
}

/// Returns each node's boot id, link and package.
fn facts(site: &Site) -> Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::new();
    for node in site.cluster.compute_nodes() {
        let boot: String = node.boot_id()?.chars().take(8).collect();
        let link = node.run(&["readlink", "/opt/app/current"])?;
        let package = node.run(&["rpm", "-q", "--qf", "%{NAME}-%{VERSION}", "site-tools"])?;
        facts.insert(node.name().to_owned(), format!("boot {boot} {} {package}", link.trim()));
    }
    Ok(facts)
}

fn say(text: &str) {
    println!("\n=== {text}");
}
