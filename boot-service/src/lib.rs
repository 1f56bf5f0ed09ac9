//! Boot sources that are HTTP services, and the power of nodes through Redfish. A program of its own because it links
//! TLS: the controller's programs start it for each question and kill it at its time limit.
//!
//! | module | contents |
//! |---|---|
//! | `service` | HTTP exchanges with a service |
//! | `bss` | the Boot Script Service of OpenCHAMI and CSM |
//! | `bos` | CSM's Boot Orchestration Service |
//! | `openchami` | OpenCHAMI's boot-service |
//! | [`redfish`] | the power of one node |
//! | `node_id` | names of a node in OpenCHAMI's services |
//!
//! Host names are resolved as in RebootProgram, without NSS. This crate is independent of Slurm, journals and agents.

mod bos;
mod bss;
mod node_id;
mod openchami;
pub mod redfish;
mod service;

use rollout_control::boot::{
    Answer, BootSource, CheckAnswer, NodeAnswer, NodeQuestion, Outcomes, Question, ServiceConfig, Verb,
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Upper bound of the time reserved for printing the answer.
const MARGIN: Duration = Duration::from_millis(500);

/// Returns the boot source for a service, by the name of its table in `controller.toml`.
#[must_use]
pub fn provider(name: &str, config: ServiceConfig) -> Option<Box<dyn BootSource>> {
    match name {
        "bss" => Some(bss::provider(config)),
        "bos" => Some(bos::provider(config)),
        "boot_service" => Some(openchami::provider(config)),
        _ => None,
    }
}

/// Answers a question. Failures of the service are part of the answer.
///
/// # Errors
/// If the question is incomplete or the service is unknown, which the controller's programs never send.
pub fn answer(service: &str, verb: Verb, question: &Question) -> Result<Value, String> {
    let until = deadline(question.within_ms);
    let config = question.service.clone().ok_or("no service in the question")?;
    let source = provider(service, config).ok_or_else(|| format!("unknown service {service:?}"))?;
    let image = || question.image.as_ref().ok_or("no image in the question");
    let nodes: Vec<_> = question.nodes.iter().map(NodeQuestion::node).collect();
    let answer = match verb {
        Verb::Check => {
            let (doubts, error) = match source.check(image()?, &nodes, until) {
                Ok(doubts) => (doubts, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            serde_json::to_value(CheckAnswer { doubts, error })
        }
        Verb::Read => serde_json::to_value(answer_for_each(source.read(&nodes, until), Some)),
        Verb::Set => serde_json::to_value(answer_for_each(source.set(image()?, &nodes, until), |()| None)),
        Verb::PutBack => {
            let saved = |node: &NodeQuestion| Some((node.node(), node.saved.clone()?));
            let nodes: Vec<_> = question.nodes.iter().filter_map(saved).collect();
            serde_json::to_value(answer_for_each(source.put_back(&nodes, until), |()| None))
        }
    };
    answer.map_err(|error| error.to_string())
}

/// Returns the time by which an answer must be printed.
fn deadline(within_ms: u64) -> Instant {
    let within = Duration::from_millis(within_ms);
    Instant::now() + (within - MARGIN.min(within / 10))
}

fn answer_for_each<T>(outcomes: Outcomes<T>, saved: impl Fn(T) -> Option<Value>) -> Answer {
    let node = |outcome: Result<T, String>| match outcome {
        Ok(value) => NodeAnswer { saved: saved(value), error: None },
        Err(why) => NodeAnswer { saved: None, error: Some(why) },
    };
    Answer { nodes: outcomes.into_iter().map(|(name, outcome)| (name, node(outcome))).collect() }
}
