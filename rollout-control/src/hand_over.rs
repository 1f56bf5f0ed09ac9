//! One invocation of RebootProgram, within one deadline: ask Slurm, claim the nodes, seal the orders, send all of them
//! at once, record each answer, and tell Slurm which nodes got no order.

mod report;
mod send;

pub use report::Report;

use crate::agents::dispatch::dispatch;
use crate::agents::seal::seal;
use crate::boot::change;
use crate::config::Config;
use crate::store::{Claim, StoreError, StoreReader, StoreWriter};
use report::{Outcome, Reply};
use rollout_core::controller::hand_over::{HandedOver, Request, handed_over};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderKind;
use rollout_core::slurm::addresses::Addresses;
use rollout_core::slurm::drains::{Before, Drains, found_at_hand_over, in_doubt};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::run::RunError;
use send::Delivery;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Parts of the deadline that are kept for telling Slurm and for ending.
const KEPT_FOR_REASONS: Duration = Duration::from_millis(2500);
const KEPT_FOR_THE_END: Duration = Duration::from_millis(300);

/// Time limit for Slurm's report about the nodes. It usually takes milliseconds. If it does not come, the addresses of
/// the last report have to do.
const ASKING_SLURM: Duration = Duration::from_millis(2500);

/// Time limit for asking about drains right before the request, which the orders wait for. JSON takes Slurm's client
/// 0.2 ms for each node, so a question is about some of the nodes, and several are asked at once.
const ASKING_ABOUT_DRAINS: Duration = Duration::from_secs(2);
const NODES_IN_A_QUESTION: usize = 500;
const QUESTIONS_AT_ONCE: usize = 4;

/// Time for which a claim outlives the deadline, before another RebootProgram may order the nodes.
const CLAIM_SLACK: Duration = Duration::from_secs(5);

/// Time limit for a scontrol that is over its time to end. One that hangs in the kernel is left behind.
const ENDING_SCONTROL: Duration = Duration::from_millis(300);

/// Orders nodes that Slurm has handed over, until `begun` plus the configured deadline. `by` names us in journals. If
/// the state directory cannot be used, nobody knows the staged rollouts: nothing is ordered, and Slurm shows the cause.
#[must_use]
pub fn hand_over(config: &Config, by: &str, request: &Request, begun: Instant) -> Report {
    let end = begun + config.deadline.get() - KEPT_FOR_THE_END.min(config.deadline.get());
    let sent_by = end - KEPT_FOR_REASONS.min(config.deadline.get() / 2);
    let mut report = Report::default();
    let store = StoreWriter::open(&config.state_dir, by);
    let slurm = ask_slurm(config, store.as_ref().ok(), &request.nodes, sent_by, &mut report);
    let drains = drains(config, store.as_ref().ok(), slurm.as_deref(), sent_by, &mut report);
    let request = Request { apply: config.apply, ..request.clone() };
    let (taken, skipped) = handed_over(&request, slurm.as_deref(), &drains);
    report.skipped = skipped;
    let ordered = store.and_then(|store| {
        let mut addresses = store.addresses();
        addresses.learn(slurm.iter().flatten());
        let invocation = Invocation { config, store: &store, addresses, sent_by };
        invocation.order(&taken, request.features.as_deref(), &mut report)
    });
    if let Err(error) = ordered {
        report.not_claimed(&error.to_string(), taken.iter());
    }
    report.tell_slurm(config, end);
    report
}

struct Invocation<'a> {
    config: &'a Config,
    store: &'a StoreWriter,
    addresses: Addresses,
    sent_by: Instant,
}

impl Invocation<'_> {
    /// Claims the nodes, sends their orders and records the outcome for each.
    fn order(
        &self,
        taken: &[HandedOver],
        features: Option<&str>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let hold = self.config.deadline.get() + CLAIM_SLACK;
        let claims =
            self.store.claim(taken, features, u64::try_from(hold.as_millis()).unwrap_or(u64::MAX))?;
        for (why, nodes) in claims.skipped {
            report.skipped.entry(why).or_default().extend(nodes);
        }
        for (nodes, error) in claims.broken {
            report.not_claimed(&error, taken.iter().filter(|handed| nodes.contains(&handed.node)));
        }
        let claims: Vec<Arc<Claim>> = claims.claims.into_iter().map(Arc::new).collect();
        let mut deliveries = Vec::new();
        let mut follow_up = false;
        for claim in &claims {
            follow_up |= changes_boot_sources(&claim.order.kind);
            let not_given = self.change_boot_sources(claim);
            deliveries.extend(self.deliveries(claim, &not_given));
            let unreachable = |(node, why)| Reply::new(node, claim, Outcome::Unreachable(why));
            report.record(self.store, not_given.into_iter().map(unreachable).collect());
        }
        follow_up |= self.send(deliveries, report);
        if follow_up {
            // The orders are sent: the timer's half minute is the worst that an error here can cost.
            let called = self.store.call_follow_up();
            report.warnings.extend(called.err().map(|error| error.to_string()));
        }
        Ok(())
    }

    /// Changes the boot sources for a claim, if its rollout has an image for the controller to set. Returns the nodes
    /// that must not be ordered: trouble with one rollout's files keeps no other rollout's nodes from their orders.
    fn change_boot_sources(&self, claim: &Claim) -> BTreeMap<String, String> {
        let OrderKind::Apply(apply) = &claim.order.kind else { return BTreeMap::new() };
        let changed =
            change::change(self.config, self.store, &claim.order, apply, &self.addresses, self.sent_by);
        changed.unwrap_or_else(|error| {
            claim.order.nodes.iter().map(|node| (node.to_owned(), error.to_string())).collect()
        })
    }

    fn deliveries(&self, claim: &Arc<Claim>, not_given: &BTreeMap<String, String>) -> Vec<Delivery> {
        let sealed = Arc::new(seal(self.config, &claim.order).map_err(|error| error.to_string()));
        let given = claim.order.nodes.iter().filter(|node| !not_given.contains_key(*node));
        given
            .map(|node| {
                let address = self.addresses.of(node).to_owned();
                Delivery::new(node.to_owned(), address, Arc::clone(claim), Arc::clone(&sealed))
            })
            .collect()
    }

    /// Sends the orders and records the answers as they come. Returns whether some node needs a follow-up.
    fn send(&self, deliveries: Vec<Delivery>, report: &mut Report) -> bool {
        let mut waiting: BTreeMap<String, Arc<Claim>> =
            deliveries.iter().map(|delivery| (delivery.node.clone(), Arc::clone(&delivery.claim))).collect();
        let mut follow_up = false;
        let replies = send::send_all(self.config, deliveries, self.sent_by);
        while let Some(batch) = replies.batch(send::WRITE_EVERY) {
            for reply in &batch {
                waiting.remove(&reply.node);
                follow_up |= reply.outcome.is_volatile();
            }
            report.record(self.store, batch);
        }
        let late = waiting.into_iter().map(|(node, claim)| {
            let why = "no answer before RebootProgram's deadline".to_owned();
            Reply::new(node, &claim, Outcome::Unreachable(why))
        });
        report.record(self.store, late.collect());
        follow_up
    }
}

/// Returns whether the nodes need a follow-up until the order is settled, whatever their agents answer.
fn changes_boot_sources(kind: &OrderKind) -> bool {
    matches!(kind, OrderKind::Apply(apply) if apply.desired.image().is_some_and(|image| image.via.is_on_controller()))
}

/// Returns the drains of others: those that were seen, and those that somebody set right before `scontrol reboot`.
fn drains(
    config: &Config,
    store: Option<&StoreWriter>,
    slurm: Option<&[NodeInfo]>,
    by: Instant,
    report: &mut Report,
) -> Drains {
    let reader = StoreReader::new(&config.state_dir);
    let (mut drains, nodes) = (reader.drains(), slurm.unwrap_or_default());
    let doubtful = in_doubt(nodes, &drains);
    if doubtful.is_empty() {
        return drains;
    }
    let at_request = drained_at_request(config, &doubtful, by, report);
    let left_by_reboots = reader.left_by_reboots();
    let before = Before { known: &drains, left_by_reboots: &left_by_reboots, at_request: &at_request };
    let found = found_at_hand_over(nodes, before, &config.cured_by_reboot());
    if !found.is_empty() {
        // For `status`, and for the nodes that are told later what they should be.
        let added = store.map_or(Ok(()), |store| store.add_drains(&found));
        report.warnings.extend(added.err().map(|error| error.to_string()));
        drains.extend(found);
    }
    drains
}

/// Returns for these nodes whether they were drained at the request, as far as Slurm tells in time.
fn drained_at_request(
    config: &Config,
    doubtful: &[&str],
    by: Instant,
    report: &mut Report,
) -> BTreeMap<String, bool> {
    let set = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<NodeSet>();
    let end = by.min(Instant::now() + ASKING_ABOUT_DRAINS);
    let scontrol = config.scontrol();
    let questions = doubtful.chunks(NODES_IN_A_QUESTION).map(set).collect();
    let answers = dispatch(questions, QUESTIONS_AT_ONCE, end + ENDING_SCONTROL, move |nodes| {
        let left = end.saturating_duration_since(Instant::now());
        let answer = (!left.is_zero()).then(|| scontrol.within(left).drained_at_request(&nodes));
        (nodes, answer)
    });
    let (mut at_request, mut unknown) = (BTreeMap::new(), doubtful.iter().copied().collect::<BTreeSet<_>>());
    let mut why = "no answer in time".to_owned();
    for (nodes, answer) in answers.all() {
        match answer {
            Some(Ok(answer)) => at_request.extend(answer),
            // It can never tell, and `doctor` reports that.
            Some(Err(error)) if has_no_json(&error) => {}
            Some(Err(error)) => {
                why = error.to_string();
                continue;
            }
            None => continue,
        }
        unknown.retain(|node| !nodes.contains(node));
    }
    if !unknown.is_empty() {
        let nodes = set(&unknown.into_iter().collect::<Vec<_>>());
        report.warnings.push(format!(
            "{nodes}: not known whether they were drained when `scontrol reboot` was called, and their reboot clears \
             such a drain: {why}"
        ));
    }
    at_request
}

/// Returns whether scontrol knows no JSON: `unrecognized option '--json'`, or `JSON plugin load failure`
/// (`src/scontrol/scontrol.c`, 23.02 to 26.05).
fn has_no_json(error: &RunError) -> bool {
    matches!(error, RunError::Failed { tail, .. } if tail.to_ascii_lowercase().contains("json"))
}

/// Returns Slurm's report about the nodes. `None` if it does not come in time.
fn ask_slurm(
    config: &Config,
    store: Option<&StoreWriter>,
    nodes: &NodeSet,
    by: Instant,
    report: &mut Report,
) -> Option<Vec<NodeInfo>> {
    let limit = ASKING_SLURM.min(by.saturating_duration_since(Instant::now()));
    let (scontrol, asked) = (config.scontrol().within(limit), nodes.clone());
    // On a thread of its own: not even one that cannot be killed may hold up the orders.
    let answer = dispatch(vec![asked], 1, Instant::now() + limit + ENDING_SCONTROL, move |nodes| {
        scontrol.show_nodes(&nodes).map_err(|error| error.to_string())
    });
    let left_behind = || Err("scontrol did not answer in time, nor end when it was told to".to_owned());
    match answer.all().pop().unwrap_or_else(left_behind) {
        Ok(infos) => {
            let learned = store.map_or(Ok(()), |store| store.learn_addresses(&infos));
            report.warnings.extend(learned.err().map(|error| error.to_string()));
            Some(infos)
        }
        Err(error) => {
            report.warnings.push(format!("Slurm cannot be asked, going by what it said last: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::slurm::reason::Reason;
    use rollout_host::durable;

    const ANSWER: &str = r#"{"nodes":[
        {"name":"n1","next_state_after_reboot":["UNKNOWN","RESUME"]},
        {"name":"n2","next_state_after_reboot":["UNKNOWN","UNDRAIN","RESUME"]}]}"#;

    fn issued(name: &str) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            state: ["DOWN", "DRAIN", "REBOOT_ISSUED"].map(str::to_owned).to_vec(),
            next_state: Some("RESUME".to_owned()),
            reason: Some("driver : reboot issued".to_owned()),
            ..NodeInfo::default()
        }
    }

    #[test]
    fn drains_from_right_before_the_request_are_found_and_kept() {
        for (script, expected) in [
            (format!("#!/bin/sh\ncat <<'EOF'\n{ANSWER}\nEOF\n"), &["n1"][..]),
            ("#!/bin/sh\necho \"scontrol: unrecognized option '--json'\" >&2\nexit 1\n".to_owned(), &[]),
            ("#!/bin/sh\necho 'scontrol: fatal: JSON plugin load failure' >&2\nexit 1\n".to_owned(), &[]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let scontrol = dir.path().join("scontrol");
            durable::replace(&scontrol, script.as_bytes(), 0o755).unwrap();
            let config = Config { state_dir: dir.path().to_owned(), scontrol, ..Config::default() };
            let store = StoreWriter::open(&config.state_dir, "test").unwrap();
            let (nodes, mut report) = ([issued("n1"), issued("n2")], Report::default());
            let by = Instant::now() + Duration::from_secs(10);
            let found = drains(&config, Some(&store), Some(&nodes), by, &mut report);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected);
            assert_eq!((store.drains(), report.warnings), (found, Vec::new()));
        }
    }

    /// Returns the drains that are found of so many nodes with this `scontrol`, of which all had DRAIN before, and the
    /// warnings.
    fn found_of_many(count: usize, script: &str, limit: Duration) -> (Drains, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let scontrol = dir.path().join("scontrol");
        durable::replace(&scontrol, script.as_bytes(), 0o755).unwrap();
        let config = Config { state_dir: dir.path().to_owned(), scontrol, ..Config::default() };
        let nodes: Vec<NodeInfo> = (1..=count).map(|n| issued(&format!("n{n}"))).collect();
        let mut report = Report::default();
        let found = drains(&config, None, Some(&nodes), Instant::now() + limit, &mut report);
        (found, report.warnings)
    }

    #[test]
    fn any_number_of_nodes_is_asked_about() {
        const COUNT: usize = 1201;
        let tells = |n: usize| format!(r#"{{"name":"n{n}","next_state_after_reboot":["UNKNOWN","RESUME"]}}"#);
        let nodes: Vec<String> = (1..=COUNT).map(tells).collect();
        let script = format!("#!/bin/sh\ncat <<'EOF'\n{{\"nodes\":[{}]}}\nEOF\n", nodes.join(","));
        let (found, warnings) = found_of_many(COUNT, &script, Duration::from_secs(60));
        assert_eq!((found.len(), warnings), (COUNT, Vec::new()));
    }

    #[test]
    fn nodes_of_which_slurm_does_not_tell_are_reported() {
        for (limit_ms, script) in [
            (0, "exec sleep 60"),
            (300, "exec sleep 60"),
            (60_000, "echo 'slurm_load_node error: Unable to contact slurm controller' >&2; exit 1"),
        ] {
            let limit = Duration::from_millis(limit_ms);
            let (found, warnings) = found_of_many(2, &format!("#!/bin/sh\n{script}\n"), limit);
            assert!(found.is_empty());
            assert_eq!(warnings.len(), 1, "{limit_ms} ms, {script}");
            assert!(warnings[0].starts_with("n[1-2]: not known whether"), "{warnings:?}");
        }
    }

    #[test]
    fn a_failure_before_the_claim_keeps_the_name_of_the_rollout() {
        let handed = |node: &str, reason: &str| HandedOver {
            node: node.to_owned(),
            issued_ms: None,
            returns_by_itself: true,
            drained: None,
            plain: false,
            only_named_in: Some(reason.to_owned()),
        };
        let taken = [handed("n1", "driver : reboot issued"), handed("n2", "xid 79 : reboot issued")];
        let mut report = Report::default();
        report.not_claimed("no space", taken.iter());
        let reasons: Vec<&str> = report.failed.keys().map(Reason::as_str).collect();
        assert_eq!(
            reasons,
            [
                "slurm-rollout RebootProgram for driver: not ordered: no space",
                "slurm-rollout RebootProgram for xid 79: not ordered: no space"
            ]
        );
    }
}
