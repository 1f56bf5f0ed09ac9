//! Programs that set boot sources: the site's own (Warewulf, xCAT, OpenStack, Foreman), and ours for services.
//!
//! The last argument is the verb. Input and output are described in [`question`](super::question). Empty output is a
//! valid answer to all verbs but `read`. An exit code other than 0 is an error of all nodes for which the program named
//! none.

use super::question::{Answer, CheckAnswer, NodeQuestion, Question, Verb};
use super::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use rollout_core::text::one_line;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{InvalidValue, is_absolute};
use rollout_host::run::Program;
use rollout_host::trust::may_be_trusted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Maximum time for the program to end by itself after its time limit.
const GRACE: Duration = Duration::from_secs(1);

/// Length limit of its texts for people, in characters.
const MAX_WHY: usize = 1500;

/// The table `[command]` of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Absolute path.
    pub program: PathBuf,
    /// Time limit for one call, with all its nodes.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

fn default_time_limit() -> TimeLimit {
    TimeLimit::from_secs(60)
}

impl CommandConfig {
    /// Returns invalid values; `table` is its key.
    #[must_use]
    pub fn check(&self, table: &'static [&'static str]) -> Vec<InvalidValue> {
        is_absolute(table, &self.program).into_iter().collect()
    }

    /// Returns the provider that runs this program.
    pub(super) fn provider(&self) -> Box<dyn BootSource> {
        provider(self.program.clone(), None, self.time_limit.get())
    }
}

/// Outcome of a call.
struct Called<A> {
    answer: A,
    /// The error, if its exit code was not 0.
    failed: Option<String>,
}

struct Command {
    program: PathBuf,
    /// Name and table of a service, for our own program.
    service: Option<(&'static str, ServiceConfig)>,
    time_limit: Duration,
}

/// Returns the provider that runs a program.
pub(super) fn provider(
    program: PathBuf,
    service: Option<(&'static str, ServiceConfig)>,
    time_limit: Duration,
) -> Box<dyn BootSource> {
    Box::new(Command { program, service, time_limit })
}

impl Command {
    fn call<A: DeserializeOwned + Default>(
        &self,
        verb: Verb,
        image: Option<&Image>,
        nodes: Vec<NodeQuestion>,
        until: Instant,
    ) -> Result<Called<A>, String> {
        let path = self.program.display();
        may_be_trusted(&self.program).map_err(|why| format!("{path}: {why}"))?;
        let remaining = until.saturating_duration_since(Instant::now());
        // The limit leaves time to kill the program.
        let grace = GRACE.min(remaining / 4);
        let limit = self.time_limit.min(remaining - grace);
        if limit.is_zero() {
            return Err(format!("{path}: not come to in time"));
        }
        let (name, service) = self.service.clone().unzip();
        let within_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let question = Question { within_ms, service, image: image.cloned(), nodes };
        let text = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let program = Program::new(&self.program, limit).grace(grace).args(name).arg(verb.name()).stdin(text);
        let output = program.output().map_err(|error| one_line(&error.to_string(), MAX_WHY))?;
        let failed =
            (!output.status.success()).then(|| one_line(&program.failed(&output).to_string(), MAX_WHY));
        let printed = output.stdout.trim();
        let answer = if printed.is_empty() { Ok(A::default()) } else { serde_json::from_str(printed) };
        match (answer, failed) {
            (Ok(answer), failed) => Ok(Called { answer, failed }),
            // A program that fails may print text for people.
            (Err(_), Some(why)) => Err(why),
            (Err(error), None) => {
                let verb = verb.name();
                let why = format!("{path} {verb} printed what is no answer: {error}: {printed:.200}");
                Err(one_line(&why, MAX_WHY))
            }
        }
    }

    /// Calls the program and returns an outcome for each node. `convert` takes the saved state from an answer.
    fn of_each<T>(
        &self,
        verb: Verb,
        image: Option<&Image>,
        nodes: Vec<NodeQuestion>,
        until: Instant,
        convert: impl Fn(Option<Saved>) -> Result<T, String>,
    ) -> Outcomes<T> {
        let names: BTreeSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let called = self.call::<Answer>(verb, image, nodes, until).and_then(|called| {
            let other = called.answer.nodes.keys().find(|name| !names.contains(*name)).cloned();
            let (path, verb) = (self.program.display(), verb.name());
            let why = |other| format!("{path} {verb} speaks of {other:?}, which it was not asked for");
            other.map_or(Ok(called), |other| Err(one_line(&why(other), MAX_WHY)))
        });
        let (mut answers, failed) = match called {
            Ok(called) => (called.answer.nodes, called.failed),
            Err(why) => (BTreeMap::new(), Some(why)),
        };
        let mut outcome = |name: &str| {
            let answer = answers.remove(name).unwrap_or_default();
            match (answer.error, &failed) {
                (Some(why), _) => Err(one_line(&why, MAX_WHY)),
                (None, Some(why)) => Err(why.clone()),
                (None, None) => convert(answer.saved),
            }
        };
        names.iter().map(|name| (name.clone(), outcome(name))).collect()
    }
}

fn questions(nodes: &[BootNode]) -> Vec<NodeQuestion> {
    nodes.iter().map(|node| NodeQuestion::of(node, None)).collect()
}

impl BootSource for Command {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        let called: Called<CheckAnswer> = self.call(Verb::Check, Some(image), questions(nodes), until)?;
        if let Some(why) = called.answer.error.or(called.failed) {
            return Err(one_line(&why, MAX_WHY));
        }
        Ok(called.answer.doubts.iter().map(|doubt| one_line(doubt, MAX_WHY)).collect())
    }

    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved> {
        let silent = || format!("{} read said nothing of this node", self.program.display());
        self.of_each(Verb::Read, None, questions(nodes), until, |saved| saved.ok_or_else(silent))
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        self.of_each(Verb::Set, Some(image), questions(nodes), until, |_| Ok(()))
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let nodes = nodes.iter().map(|(node, saved)| NodeQuestion::of(node, Some(saved))).collect();
        self.of_each(Verb::PutBack, None, nodes, until, |_| Ok(()))
    }
}
