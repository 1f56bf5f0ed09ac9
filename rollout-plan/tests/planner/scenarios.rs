//! Scripted scenarios: text in, text out. `tests/scenarios/*.txt` are reviewed like code. With `BLESS=1`, they are
//! written anew.

use crate::script;
use crate::world::World;
use jiff::tz::TimeZone;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JobEnd, Way};
use rollout_plan::plan::{Effect, Plan, Step};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Begins a scenario, with its title.
const TITLE: &str = "== ";
/// Ends the script of a scenario.
const PLAN: &str = "--";

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_scenario_has_its_plan() {
    let mut different = Vec::new();
    for file in files() {
        let before = fs::read_to_string(&file).unwrap();
        let now = replayed(&before);
        if now == before {
            continue;
        }
        if env::var_os("BLESS").is_some() {
            bless(&file, &now);
            continue;
        }
        let lines = now.lines().zip(before.lines().chain(std::iter::repeat("")));
        let changed: Vec<String> = lines
            .filter(|(now, before)| now != before)
            .map(|(now, before)| format!("{before}\n→ {now}"))
            .collect();
        different.push(format!("{}:\n{}", file.display(), changed.join("\n")));
    }
    assert!(different.is_empty(), "{}\nBLESS=1 accepts these plans", different.join("\n"));
}

#[allow(clippy::disallowed_methods, reason = "a test's own file")]
fn bless(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
}

/// Returns the text with the plans of now.
fn replayed(text: &str) -> String {
    let (title, plan) = (format!("\n{TITLE}"), format!("\n{PLAN}\n"));
    let mut parts = text.split(title.as_str());
    let mut replayed = parts.next().unwrap().trim_end().to_owned();
    for scenario in parts {
        let (title, rest) = scenario.split_once('\n').unwrap();
        let script = rest.split(plan.as_str()).next().unwrap().trim_end();
        let world = script::read(script);
        let plan = print(&world, &world.plan());
        let _ = write!(replayed, "\n\n{TITLE}{title}\n{script}\n{PLAN}\n{}", plan.trim_end());
    }
    replayed.push('\n');
    replayed
}

fn print(world: &World, plan: &Plan) -> String {
    let mut text = String::new();
    for (id, rollout) in &plan.rollouts {
        let counts = [
            ("waiting", rollout.counts.waiting),
            ("requested", rollout.counts.requested),
            ("out", rollout.counts.out),
            ("updated", rollout.counts.updated),
            ("failed", rollout.counts.failed),
            ("skipped", rollout.counts.skipped),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let blocked =
            rollout.blocked.as_ref().map(|why| format!("; {}", why.text(&TimeZone::UTC, world.now_ms)));
        let (wave, of, counts) = (rollout.wave, rollout.waves, counts.join(", "));
        let _ = writeln!(text, "{id}: wave {wave} of {of}: {counts}{}", blocked.unwrap_or_default());
    }
    for step in &plan.steps {
        let _ = writeln!(text, "> {}: {}", step.rollout, describe(world, step));
    }
    let mut waiting: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (node, whys) in &plan.waiting {
        let whys: Vec<String> =
            whys.iter().map(|why| why.text(&TimeZone::UTC, world.now_ms).to_string()).collect();
        waiting.entry(whys.join(" | ")).or_default().push(node.clone());
    }
    let mut lines: Vec<String> =
        waiting.into_iter().map(|(whys, nodes)| format!("{}: {whys}", NodeSet::from_iter(nodes))).collect();
    lines.sort();
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    if let Some(again_ms) = plan.look_again_ms {
        let _ = writeln!(text, "again in {} s", (again_ms - world.now_ms).div_ceil(1000));
    }
    text
}

fn describe(world: &World, step: &Step) -> String {
    let line = |line: &Option<Entry>| line.as_ref().map(|line| format!("[{}]", line.describe()));
    let parts =
        [line(&step.before), step.effect.as_ref().map(|effect| done(world, effect)), line(&step.after)];
    parts.into_iter().flatten().collect::<Vec<String>>().join(" ")
}

fn done(world: &World, effect: &Effect) -> String {
    match effect {
        Effect::Request { nodes, way: Way::Asap } => format!("reboot ASAP nextstate=resume {nodes}"),
        Effect::Request { nodes, way: Way::Down | Way::Reserved } => {
            format!("reboot nextstate=resume {nodes}")
        }
        Effect::Request { nodes, way: Way::Drained } => format!("reboot {nodes}"),
        Effect::Reserve { node, from_s, until_s } => {
            let from_now = |s: &u64| s.saturating_sub(world.now_ms / 1000);
            format!("reserve {node} from +{} s to +{} s", from_now(from_s), from_now(until_s))
        }
        Effect::ReserveWave { wave, nodes, until_s, user, exists } => {
            let verb = if *exists { "change the reservation of" } else { "reserve for" };
            let user = user.as_ref().map_or_else(String::new, |user| format!(" for {user}"));
            let until_s = until_s.saturating_sub(world.now_ms / 1000);
            format!("{verb} wave {wave}: {nodes} until +{until_s} s{user}")
        }
        Effect::UnreserveWave { wave } => format!("delete the reservation of wave {wave}"),
        Effect::Submit { wave, nodes, job, .. } => {
            format!("submit {} for wave {wave} on {nodes}", job.script)
        }
        Effect::Unreserve { node } => format!("delete the reservation of {node}"),
        Effect::Cancel { nodes } => format!("cancel {nodes}"),
        Effect::CancelKeepingDrain { nodes, reason, invalid_reg } => {
            let how = if *invalid_reg { " without RESUME" } else { "" };
            format!("cancel {nodes}{how} and keep it drained: {reason}")
        }
        Effect::Drain { nodes, reason } => format!("drain {nodes}: {reason}"),
        Effect::Undrain { nodes, earlier, .. } => {
            format!("undrain {nodes}, Reason {}", earlier.as_deref().unwrap_or("as it is"))
        }
        Effect::Warn { record, ends_ms } => {
            format!("warn users of job {record}: {} s", (ends_ms - world.now_ms) / 1000)
        }
        Effect::Call(call) => {
            let input = &call.input;
            let nodes: Vec<String> =
                input.nodes.iter().map(|node| format!("{} {}", node.name, node.phase)).collect();
            let command = call.hook.command.join(" ");
            format!(
                "run {command} ({}, wave {} of {}: {})",
                input.state,
                input.wave,
                input.waves,
                nodes.join(", ")
            )
        }
        Effect::End { job, how: JobEnd::Requeued } => format!("requeue job {job}"),
        Effect::End { job, how: JobEnd::Cancelled } => format!("cancel job {job}"),
    }
}
