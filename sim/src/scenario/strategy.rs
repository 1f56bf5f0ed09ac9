//! Random strategies and limits, as admins write them.

use super::RolloutPlan;
use crate::rng::Rng;
use crate::world::{HOUR_MS, START_MS};
use rollout_core::hostlist::NodeSet;
use rollout_plan::limits::Limits;
use std::fmt::Write as _;

/// Returns one or two rollouts of these nodes.
pub(super) fn rollouts(rng: &mut Rng, names: &[String]) -> Result<Vec<RolloutPlan>, String> {
    let count = if rng.chance(250) { 2 } else { 1 };
    let mut rollouts = Vec::new();
    for number in 1..=count {
        let id = format!("r{number}");
        // Rollouts of the same nodes would replace each other when they are staged.
        let is_mine = |index: usize| count == 1 || index % 2 == number - 1;
        let mine = names.iter().enumerate().filter(|(index, _)| is_mine(*index));
        let mine: Vec<&String> = mine.map(|(_, name)| name).collect();
        let nodes = NodeSet::from_iter(mine.iter().map(|name| (*name).clone()));
        if nodes.is_empty() {
            continue;
        }
        let on_failure = if rng.chance(200) { "hold" } else { "rollback" };
        let mut text = format!(
            "name = \"{id}\"\nnodes = \"{nodes}\"\n[[change]]\nkind = \"symlink\"\npath = \"/opt/slurm\"\n\
             target = \"/opt/{id}\"\n[verify]\non_failure = \"{on_failure}\"\n"
        );
        let after = (number == 2 && rng.chance(300)).then_some("r1");
        if rng.chance(950) {
            strategy(rng, &mut text, &mine, after).map_err(|error| error.to_string())?;
        }
        let start_ms = START_MS.saturating_add(rng.between(1_000, HOUR_MS));
        rollouts.push(RolloutPlan { id, manifest: text, nodes, start_ms });
    }
    Ok(rollouts)
}

fn strategy(
    rng: &mut Rng,
    text: &mut String,
    names: &[&String],
    after: Option<&str>,
) -> Result<(), std::fmt::Error> {
    let count = names.len();
    let group = (count > 3 && rng.chance(250)).then(|| names.iter().take(2).copied().collect::<Vec<_>>());
    let least = if group.is_some() { 2 } else { 1 };
    let max_out = rng.between(least, u64::try_from(count).unwrap_or(1).max(least));
    writeln!(text, "[strategy]\nmax_out = {max_out}")?;
    if count > 2 && group.is_none() && rng.chance(400) {
        writeln!(text, "waves = [\"1\", \"100%\"]\nsoak = \"{}m\"", rng.between(1, 40))?;
        if rng.chance(300) {
            writeln!(text, "approve = [\"1\"]")?;
        }
    }
    if let Some(after) = after {
        writeln!(text, "after = \"{after}\"")?;
    }
    let down = rng.pick(&["skip", "include", "cancel"]).copied().unwrap_or("skip");
    writeln!(text, "down = \"{down}\"")?;
    if rng.chance(200) {
        writeln!(text, "order = \"as-written\"")?;
    }
    jobs(rng, text)?;
    if rng.chance(700) {
        let failed = rng.between(1, 4);
        writeln!(text, "[strategy.halt]\nfailed = {failed}")?;
        if rng.chance(300) {
            writeln!(text, "same_error = {}", rng.between(1, failed))?;
        }
    }
    if rng.chance(300) {
        // Admins see to it that a floor leaves room for what goes together. The partition has other nodes as well.
        let least = usize::try_from(least).unwrap_or(1);
        let percent = 100 * count.saturating_sub(least) / count.max(1);
        let percent = rng.between(1, u64::try_from(percent).unwrap_or(1).max(1));
        writeln!(text, "[[strategy.floor]]\npartition = \"batch\"\navailable = \"{percent}%\"")?;
    }
    if count > 3 && rng.chance(250) {
        let members: Vec<&str> = names.iter().rev().take(2).map(|name| name.as_str()).collect();
        writeln!(text, "[[strategy.exclusive]]\nnodes = \"{}\"\nat_once = 1", members.join(","))?;
    }
    if let Some(group) = group {
        let nodes: Vec<&str> = group.iter().map(|name| name.as_str()).collect();
        writeln!(text, "[[strategy.group]]\nname = \"g\"\nnodes = \"{}\"", nodes.join(","))?;
        if rng.chance(500) {
            writeln!(text, "bring_up = [\"{}\"]", nodes.first().copied().unwrap_or_default())?;
        }
    }
    if rng.chance(250) {
        let from = rng.below(24);
        let to = (from + rng.between(1, 8)) % 24;
        let days = if rng.chance(500) { "Mon..Sun" } else { "Mon..Fri" };
        writeln!(
            text,
            "[[strategy.window]]\ndays = \"{days}\"\nfrom = \"{from:02}:00\"\nto = \"{to:02}:00\"\nzone = \"UTC\""
        )?;
    }
    // From numbers of their own: a seed without hooks stays as it was.
    hooks(&mut rng.clone(), text, names)
}

fn hooks(rng: &mut Rng, text: &mut String, names: &[&String]) -> std::fmt::Result {
    if rng.chance(650) {
        return Ok(());
    }
    for when in ["before-request", "updated", "failed", "halted", "paused", "ended"] {
        if rng.chance(400) {
            continue;
        }
        let policies = match when {
            "before-request" | "updated" => &["warn", "halt", "fail"][..],
            "failed" => &["warn", "halt"],
            _ => &["warn"],
        };
        let policy = rng.pick(policies).copied().unwrap_or("warn");
        for number in 1..=rng.between(1, 2) {
            writeln!(text, "[[strategy.hook]]\nwhen = \"{when}\"\ncommand = [\"/etc/site/{number}\"]")?;
            writeln!(text, "on_failure = \"{policy}\"\nmax_nodes = {}", rng.between(1, 4))?;
            if let Some(name) = names.first().filter(|_| policies.len() > 1 && rng.chance(300)) {
                writeln!(text, "nodes = \"{name}\"")?;
            }
        }
    }
    Ok(())
}

fn jobs(rng: &mut Rng, text: &mut String) -> std::fmt::Result {
    if rng.chance(400) {
        return Ok(());
    }
    let wait = match rng.below(1000) {
        0..200 => "idle",
        200..500 => "end",
        _ => "asap",
    };
    writeln!(text, "[strategy.jobs]\nwait = \"{wait}\"")?;
    if rng.chance(600) {
        let then = rng.pick(&["leave", "requeue", "cancel"]).copied().unwrap_or("leave");
        writeln!(text, "at_most = \"{}m\"\nthen = \"{then}\"", rng.between(30, 300))?;
        if then != "leave" && rng.chance(500) {
            writeln!(text, "warn = \"{}m\"", rng.between(1, 25))?;
        }
    }
    Ok(())
}

/// Returns the limits of the site.
pub(super) fn limits(rng: &mut Rng, names: &[String]) -> Result<Limits, String> {
    let mut text = String::new();
    if rng.chance(300) {
        let most = u64::try_from(names.len()).unwrap_or(1).max(2);
        text.push_str(&format!("max_out = {}\n", rng.between(2, most)));
    }
    if rng.chance(150) {
        text.push_str("requests_per_tick = 1\n");
    }
    let table: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
    let table = serde_json::to_value(table).map_err(|error| error.to_string())?;
    let resolve = |text: &str| NodeSet::parse(text).map_err(|error| error.to_string());
    Limits::of_config(Some(&table), &resolve).map_err(|error| error.to_string())
}
