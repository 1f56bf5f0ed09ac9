//! The site's own program: Warewulf, xCAT, OpenStack, Foreman, or whatever else knows what its nodes boot.
//!
//! It is called with one argument, `check`, `read`, `set` or `put-back`, and reads JSON:
//! `{"image": {...}, "nodes": [{"name": "cn01", "values": {...}, "saved": ...}]}`, where `image` is there for `check` and `set`,
//! and `saved` for `put-back`. It prints `{"doubts": [...]}` for `check`, and for the others
//! `{"nodes": {"cn01": {"saved": ...}, "cn02": {"error": "..."}}}`. Where it has nothing to say, nothing will do, but for `read`.
//! An exit code other than 0 is an error of all nodes that it did not name an error for.

use super::{BootNode, BootSource, Outcomes, Saved};
use rollout_core::image::Image;
use rollout_core::ledger::one_line;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{Nonsense, is_absolute};
use rollout_host::run::Program;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it has to end of itself when its time is over, at most.
const GRACE: Duration = Duration::from_secs(1);

/// Length limit of what it says to people, in characters.
const MAX_WHY: usize = 1500;

/// The table `[command]` of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// How long one call may take, for all nodes that it is about.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

fn default_time_limit() -> TimeLimit {
    TimeLimit::from_secs(60)
}

impl CommandConfig {
    /// What makes no sense in it; `table` is its key.
    #[must_use]
    pub fn check(&self, table: &'static [&'static str]) -> Vec<Nonsense> {
        is_absolute(table, &self.program).into_iter().collect()
    }
}

/// What it reads.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a Image>,
    nodes: Vec<NodeQuestion<'a>>,
}

#[derive(Serialize)]
struct NodeQuestion<'a> {
    name: &'a str,
    values: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<&'a Saved>,
}

impl<'a> NodeQuestion<'a> {
    fn of(node: &'a BootNode, saved: Option<&'a Saved>) -> Self {
        Self { name: &node.name, values: &node.values, saved }
    }
}

/// What it prints for `check`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CheckAnswer {
    doubts: Vec<String>,
}

/// What it prints otherwise.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    nodes: BTreeMap<String, NodeAnswer>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeAnswer {
    #[serde(deserialize_with = "present")]
    saved: Option<Saved>,
    error: Option<String>,
}

/// `null` is something that can be saved, too.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Saved>, D::Error> {
    Saved::deserialize(value).map(Some)
}

/// What came of a call: what it printed, and why it failed, if it did.
struct Called<A> {
    answer: A,
    failed: Option<String>,
}

struct Command {
    config: CommandConfig,
}

pub(super) fn provider(config: CommandConfig) -> Box<dyn BootSource> {
    Box::new(Command { config })
}

impl Command {
    fn call<A: DeserializeOwned + Default>(
        &self,
        verb: &str,
        question: &Question<'_>,
        until: Instant,
    ) -> Result<Called<A>, String> {
        let program = &self.config.program;
        may_be_run(program).map_err(|why| format!("{}: {why}", program.display()))?;
        let left = until.saturating_duration_since(Instant::now());
        // Killing it is done by then, too.
        let grace = GRACE.min(left / 4);
        let limit = self.config.time_limit.get().min(left - grace);
        if limit.is_zero() {
            return Err(format!("{}: not come to in time", program.display()));
        }
        let text = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let program = Program::new(program, limit).grace(grace).arg(verb).stdin(text);
        let output = program.output().map_err(|error| one_line(&error.to_string(), MAX_WHY))?;
        let failed =
            (!output.status.success()).then(|| one_line(&program.failed(&output).to_string(), MAX_WHY));
        let printed = output.stdout.trim();
        let answer = if printed.is_empty() { Ok(A::default()) } else { serde_json::from_str(printed) };
        match (answer, failed) {
            (Ok(answer), failed) => Ok(Called { answer, failed }),
            // Then it may print to people.
            (Err(_), Some(why)) => Err(why),
            (Err(error), None) => {
                let program = self.config.program.display();
                let why = format!("{program} {verb} printed what is no answer: {error}: {printed:.200}");
                Err(one_line(&why, MAX_WHY))
            }
        }
    }

    /// A call with an answer for each node; `said` is what counts of it.
    fn of_each<T>(
        &self,
        verb: &str,
        question: &Question<'_>,
        until: Instant,
        said: impl Fn(Option<Saved>) -> Result<T, String>,
    ) -> Outcomes<T> {
        let names = question.nodes.iter().map(|node| node.name.to_owned());
        let all = |why: &str| names.clone().map(|name| (name, Err(why.to_owned()))).collect();
        let mut called = match self.call::<Answer>(verb, question, until) {
            Ok(called) => called,
            Err(why) => return all(&why),
        };
        let asked = |name: &String| question.nodes.iter().any(|node| node.name == name);
        if let Some(other) = called.answer.nodes.keys().find(|name| !asked(name)) {
            let program = self.config.program.display();
            return all(&one_line(
                &format!("{program} {verb} speaks of {other:?}, which it was not asked for"),
                MAX_WHY,
            ));
        }
        let outcome = |name: &str| {
            let answer = called.answer.nodes.remove(name).unwrap_or_default();
            match (answer.error, &called.failed) {
                (Some(why), _) => Err(one_line(&why, MAX_WHY)),
                (None, Some(why)) => Err(why.clone()),
                (None, None) => said(answer.saved),
            }
        };
        let mut outcome = outcome;
        names.clone().map(|name| (name.clone(), outcome(&name))).collect()
    }
}

impl BootSource for Command {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        let nodes = nodes.iter().map(|node| NodeQuestion::of(node, None)).collect();
        let called: Called<CheckAnswer> =
            self.call("check", &Question { image: Some(image), nodes }, until)?;
        let doubts = called.answer.doubts.iter().map(|doubt| one_line(doubt, MAX_WHY)).collect();
        called.failed.map_or(Ok(doubts), Err)
    }

    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved> {
        let nodes = nodes.iter().map(|node| NodeQuestion::of(node, None)).collect();
        let silent = || format!("{} read said nothing of this node", self.config.program.display());
        self.of_each("read", &Question { image: None, nodes }, until, |saved| saved.ok_or_else(silent))
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        let nodes = nodes.iter().map(|node| NodeQuestion::of(node, None)).collect();
        self.of_each("set", &Question { image: Some(image), nodes }, until, |_| Ok(()))
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let nodes = nodes.iter().map(|(node, saved)| NodeQuestion::of(node, Some(saved))).collect();
        self.of_each("put-back", &Question { image: None, nodes }, until, |_| Ok(()))
    }
}

/// Who can change it decides what SlurmUser runs, and what all nodes boot.
fn may_be_run(program: &Path) -> Result<(), String> {
    let file = std::fs::metadata(program).map_err(|error| error.to_string())?;
    if !file.is_file() {
        return Err("is no program".to_owned());
    }
    let ours = nix::unistd::geteuid().as_raw();
    if file.uid() != 0 && file.uid() != ours {
        return Err(format!("belongs to uid {}: chown root it", file.uid()));
    }
    if file.mode() & 0o022 != 0 {
        return Err("is writable for its group or for all: chmod go-w it".to_owned());
    }
    Ok(())
}
