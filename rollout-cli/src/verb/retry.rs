//! `retry NODES`: held nodes carry out their order once more, at once; nodes that went back, refused or were not
//! reached are staged again for their next `scontrol reboot`.

use crate::context::{Context, Failure, nodes};
use crate::survey::Survey;
use crate::table::out;
use crate::verb::release::{newest_order, tell_held};
use crate::verb::stage::give_to_agents;
use rollout_cli::args::RetryArgs;
use rollout_control::boot::change::{NotGiven, change};
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::journal::{NodeRecord, Progress};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long providers may take. A person waits.
const GIVING: Duration = Duration::from_secs(60);

pub(crate) fn run(context: &Context, args: &RetryArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let wanted = nodes(&args.nodes)?;
    let survey = Survey::of(context, &wanted);
    let (mut held, mut again): (NodeSet, BTreeMap<String, Vec<String>>) = Default::default();
    let mut nothing = Vec::new();
    for name in wanted.iter() {
        let Some((rollout, record)) = newest_order(context, name)? else {
            nothing.push(format!("{name}: no rollout has it"));
            continue;
        };
        let phase = survey.phase(name, &record).or(match record.progress {
            Progress::Seen(phase) => Some(phase),
            _ => None,
        });
        match (phase, record.progress) {
            (Some(Phase::Held), _) => held = held.union(&[name.to_owned()].into_iter().collect()),
            (Some(Phase::RolledBack | Phase::Released), _) => {
                again.entry(rollout).or_default().push(name.to_owned())
            }
            (None, Progress::Staged | Progress::Refused | Progress::Unreachable) => {
                nothing.push(format!("{name}: still staged for {rollout}, `scontrol reboot` it again"));
            }
            (Some(phase), _) => {
                nothing.push(format!("{name}: {} in {rollout}, nothing to retry", phase.name()))
            }
            (None, _) => nothing.push(format!("{name}: its agent does not answer")),
        }
    }
    for (rollout, names) in again {
        let names: NodeSet = names.into_iter().collect();
        let staged = context.store.stage_again(&rollout, &names)?;
        if !staged.is_empty() {
            out(&format!("{rollout}: {staged} staged again\n"));
            give_to_agents(context, &rollout, &staged)?;
            out(&format!("Next:  scontrol reboot ASAP nextstate=resume reason={rollout} {staged}\n"));
        }
        let taken = names.difference(&staged);
        if !taken.is_empty() {
            nothing.push(format!("{taken}: has something else staged by now"));
        }
    }
    let not_given = give_images(context, &held)?;
    held = held.difference(&not_given.keys().cloned().collect());
    nothing.extend(not_given.into_iter().map(|(name, why)| format!("{name}: {why}")));
    nothing.extend(tell_held(context, &held, &OrderKind::Retry)?);
    if nothing.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(nothing.join("\nslurm-rollout: "))) }
}

/// OrderKind held nodes boot from was put back when they went back: those whose order changes it get their image again. Says for
/// which that failed; they are not to be told.
fn give_images(context: &Context, held: &NodeSet) -> Result<NotGiven, Failure> {
    let mut orders: BTreeMap<(String, OrderId), Vec<String>> = BTreeMap::new();
    for name in held.iter() {
        if let Some((rollout, NodeRecord { order: Some(order), .. })) = newest_order(context, name)? {
            orders.entry((rollout, order)).or_default().push(name.to_owned());
        }
    }
    let mut not_given = NotGiven::new();
    for ((rollout, id), names) in orders {
        let desired = context.rollout(&rollout)?.manifest.desired;
        if desired.image().is_none_or(|image| !image.via.is_on_controller()) {
            continue;
        }
        let back = GiveBack { resume_if_late: true, drained: None };
        let apply = Apply { rollout, desired, give_back: back };
        let order = Order::new(id, names.into_iter().collect(), OrderKind::Apply(apply.clone()));
        let (addresses, until) = (context.store.addresses(), Instant::now() + GIVING);
        not_given.extend(change(&context.config, &context.store, &order, &apply, &addresses, until)?);
        context.store.call_watcher()?;
    }
    Ok(not_given)
}
