//! `release NODE`: gives a held node back as it is.

use crate::context::{Context, Failure, nodes};
use crate::survey::ask_agents;
use crate::table::out;
use rollout_cli::args::ReleaseArgs;
use rollout_control::agents::client::AgentClient;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::rollout::journal::{Entry, NodeRecord};
use rollout_host::random;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ReleaseArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let nodes = nodes(&args.node)?;
    if nodes.len() > 1 {
        return Err(Failure(format!("{nodes}: one node at a time, each on your word that it is good")));
    }
    let failed = tell_held(context, &nodes, &OrderKind::Release)?;
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(failed.join("\nslurm-rollout: "))) }
}

/// Sends held nodes `retry` or `release`, and writes down that an admin did. Says for which nodes it failed.
pub(crate) fn tell_held(
    context: &Context,
    nodes: &NodeSet,
    what: &OrderKind,
) -> Result<Vec<String>, Failure> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let order = Order::new(random::order_id(), nodes.clone(), what.clone());
    let sealed = context.config.munge().seal(&serde_json::to_vec(&order)?, 0)?;
    let tell = move |_: &str, address, client: &AgentClient| {
        client.order(address, &sealed).map_err(|error| error.to_string())
    };
    let answers = ask_agents(context, nodes, &context.store.addresses(), tell);
    let mut failed = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => {
                write_down(context, &name, what)?;
                let told = if *what == OrderKind::Retry {
                    "carries out its order once more"
                } else {
                    "is given back"
                };
                out(&format!("{name}: {told}\n"));
            }
            Ok(Answer::Refused { why, .. }) => failed.push(format!("{name}: {why}")),
            Err(why) => failed.push(format!("{name}: no answer from its agent: {why}")),
        }
    }
    Ok(failed)
}

fn write_down(context: &Context, name: &str, what: &OrderKind) -> Result<(), Failure> {
    let Some((rollout, NodeRecord { order: Some(order), .. })) = newest_order(context, name)? else {
        return Ok(());
    };
    let nodes = [name.to_owned()].into_iter().collect();
    let entry = match what {
        OrderKind::Retry => Entry::Retried { nodes, order },
        _ => Entry::Released { nodes, order },
    };
    Ok(context.store.record(Some(&rollout), vec![entry])?)
}

/// The newest rollout that has this node, and where the node stands in it.
pub(crate) fn newest_order(context: &Context, name: &str) -> Result<Option<(String, NodeRecord)>, Failure> {
    let all = context.store.load_all()?;
    let has =
        |rollout: &rollout_control::store::Rollout| Some((rollout.id.clone(), rollout.nodes().remove(name)?));
    Ok(all.iter().filter_map(has).max_by_key(|(_, record)| record.since_ms))
}
