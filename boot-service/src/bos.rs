//! CSM's Boot Orchestration Service (BOS, v2): applies the session that the site has staged for the nodes. BOS then
//! reboots them.
//!
//! Written for Cray-HPE/bos v2.50.0 (889a207f). A component there has a desired state, which BOS works towards while
//! the component is enabled, and a staged state. `applystaged` makes the staged state the desired one and enables the
//! component. BOS disables it when it is done: an idle node is disabled. `applystaged` ignores nodes with nothing
//! staged, and fails for nodes whose session no longer exists. Each call starts from the beginning, so this module
//! never calls it twice for a node on which BOS is working.
//!
//! Restoring a boot source makes the old boot artifacts the desired ones and enables the component, so that BOS
//! reboots the node once more: only when it powers a node on does BOS write the boot entry that the node uses if it
//! reboots by itself. Nodes whose desired state is the old one are left alone.

use crate::service::{Method, Service};
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Name of the table in `controller.toml`.
const NAME: &str = "bos";

/// Length limit of the list of components in one request, in bytes (`V2ComponentId` in the API of BOS).
const MAX_IDS: usize = 127;

/// Number of nodes in one `applystaged`. BOS handles them one after the other.
const NODES_PER_REQUEST: usize = 100;

/// Pointers to the states in a component.
const DESIRED: &str = "/desired_state";
const STAGED: &str = "/staged_state";

/// Keys of the boot artifacts. BOS requires all three.
const ARTIFACTS: [&str; 3] = ["kernel", "initrd", "kernel_parameters"];

/// Components as BOS shows them, or its errors, by xname.
type Components = BTreeMap<String, Result<Value, String>>;

struct Bos {
    config: ServiceConfig,
}

pub(crate) fn provider(config: ServiceConfig) -> Box<dyn BootSource> {
    Box::new(Bos { config })
}

impl BootSource for Bos {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        let service = Service::open(NAME, &self.config, until)?;
        let mut doubts = service.token_warnings();
        let mut xnames = BTreeMap::new();
        for node in nodes {
            if let Some(other) = xnames.insert(xname(node)?, &node.name) {
                return Err(format!("{other} and {} have the same xname in the file of nodes", node.name));
            }
        }
        let found = components(&service, xnames.keys().cloned().collect());
        let mut sessions = BTreeMap::new();
        for (xname, name) in xnames {
            let component = found.get(&xname).cloned().unwrap_or_else(|| Err(service.timeout_message()));
            let component = component.map_err(|why| format!("{name}: {why}"))?;
            check_staged(&component)
                .map_err(|why| format!("{name}: {why} It should be {}.", image.name()))?;
            if is_enabled(&component) {
                doubts.push(format!(
                    "{name}: BOS is busy with {xname} (session {})",
                    text(&component, "/session")
                ));
            }
            sessions.insert(text(&component, "/staged_state/session").to_owned(), name);
        }
        for (session, name) in sessions {
            let operation = operation(&service, &session).map_err(|why| format!("{name}: {why}"))?;
            if operation != "reboot" {
                return Err(format!(
                    "{name}: its staged BOS session {session} is to {operation}; stage one with --operation reboot"
                ));
            }
        }
        Ok(doubts)
    }

    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved> {
        Service::for_each_node((NAME, &self.config), nodes, xname, until, |service, xnames| {
            let found = components(service, xnames).into_iter();
            found
                .map(|(xname, component)| (xname, component.map(|component| state(&component, DESIRED))))
                .collect()
        })
    }

    fn set(&self, _: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        Service::for_each_node((NAME, &self.config), nodes, xname, until, apply_staged)
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let saved = nodes.iter().filter_map(|(node, saved)| Some((xname(node).ok()?, saved.clone())));
        let saved: BTreeMap<String, Saved> = saved.collect();
        let nodes: Vec<BootNode> = nodes.iter().map(|(node, _)| node.clone()).collect();
        Service::for_each_node((NAME, &self.config), &nodes, xname, until, |service, xnames| {
            let found = components(service, xnames).into_iter();
            let items =
                found.map(|(xname, now)| (saved.get(&xname).cloned().unwrap_or_default(), xname, now));
            let put = |service: &Service, (saved, xname, now): (Saved, String, Result<Value, String>)| {
                let outcome = now.and_then(|now| put_back(service, &xname, &saved, &now));
                (xname, outcome)
            };
            service.run_all(items.collect(), put).into_iter().collect()
        })
    }
}

fn xname(node: &BootNode) -> Result<String, String> {
    let name = &node.name;
    let missing =
        || Err(format!("{name}: BOS knows nodes by xname: write one below [{name}] in the file of nodes"));
    node.xname().unwrap_or_else(missing).map(str::to_owned)
}

/// Returns components as BOS shows them. Components not reached by the deadline are missing.
fn components(service: &Service, xnames: BTreeSet<String>) -> Components {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut length = 0;
    for xname in xnames {
        length += 1 + xname.len();
        match batches.last_mut() {
            Some(batch) if length <= MAX_IDS => batch.push(xname),
            _ => {
                length = xname.len();
                batches.push(vec![xname]);
            }
        }
    }
    let answers = service.run_all(batches, |service, xnames| {
        let answer = service.get::<Vec<Value>>(&format!("/v2/components?ids={}", xnames.join(",")));
        let of_each = move |xname: String| {
            let component = answer.as_ref().map_err(String::clone).and_then(|components| {
                let found = components.iter().find(|component| text(component, "/id") == xname);
                found
                    .cloned()
                    .ok_or_else(|| format!("BOS does not know {xname}: is it right in the file of nodes?"))
            });
            (xname, component)
        };
        xnames.into_iter().map(of_each).collect::<Vec<_>>()
    });
    answers.into_iter().flatten().collect()
}

/// Makes BOS apply the staged state of each node.
fn apply_staged(service: &Service, xnames: BTreeSet<String>) -> BTreeMap<String, Result<(), String>> {
    let mut done = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for (xname, component) in components(service, xnames) {
        let ready = component.and_then(|component| check_staged(&component).map(|()| component));
        match ready {
            Err(why) => drop(done.insert(xname, Err(why))),
            Ok(component) => {
                let session = text(&component, "/staged_state/session").to_owned();
                if has_begun(&component, &session) {
                    done.insert(xname, Ok(()));
                } else {
                    sessions.insert(xname, session);
                }
            }
        }
    }
    let all: Vec<String> = sessions.keys().cloned().collect();
    let unanswered = |xname: &String| {
        let why = format!(
            "BOS gave no answer in time: `cray bos components describe {xname}` says whether it has begun"
        );
        (xname.clone(), Err(why))
    };
    done.extend(all.iter().map(unanswered));
    let requests = all.chunks(NODES_PER_REQUEST).map(<[String]>::to_vec).collect();
    let answers = service.run_all(requests, |service, xnames: Vec<String>| {
        let reply = service.exchange(Method::Post, "/v2/applystaged", &json!({ "xnames": xnames }));
        let answer: Result<Value, String> = reply.and_then(|reply| {
            service.require_success(&reply)?;
            service.parse(&reply)
        });
        let of_each = |xname: String| {
            let outcome =
                answer.as_ref().map_err(String::clone).and_then(|answer| apply_outcome(answer, &xname));
            (xname, outcome)
        };
        (answer.is_ok(), xnames.clone().into_iter().map(of_each).collect::<Vec<_>>())
    });
    let mut unknown = BTreeMap::new();
    for (is_answer, outcomes) in answers {
        if is_answer {
            done.extend(outcomes);
        } else {
            unknown.extend(outcomes);
        }
    }
    // BOS may have acted although its answer was lost.
    for (xname, component) in components(service, unknown.keys().cloned().collect()) {
        let begun =
            |session: &String| component.as_ref().is_ok_and(|component| has_begun(component, session));
        if sessions.get(&xname).is_some_and(begun) {
            unknown.insert(xname, Ok(()));
        }
    }
    done.extend(unknown);
    done
}

/// Returns the outcome for one node from the answer of `applystaged`.
fn apply_outcome(answer: &Value, xname: &str) -> Result<(), String> {
    let lists = |key: &str| {
        answer.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(|name| name == xname))
    };
    if lists("failed") {
        return Err(format!(
            "BOS failed to begin with what is staged for {xname}: `cray bos components describe {xname}` has its error"
        ));
    }
    if lists("ignored") {
        return Err(format!(
            "BOS ignored {xname}: nothing is staged for it any more, or it is another tenant's; {}",
            staging_command(xname)
        ));
    }
    if lists("succeeded") {
        return Ok(());
    }
    Err(format!(
        "BOS was told to begin with {xname} and said nothing of it: see `cray bos components describe {xname}`"
    ))
}

/// Makes the saved state the desired state again.
fn put_back(service: &Service, xname: &str, saved: &Saved, now: &Value) -> Result<(), String> {
    if state(now, DESIRED) == *saved {
        return Ok(());
    }
    // BOS would power off a node without boot artifacts.
    if ARTIFACTS.iter().any(|key| text(saved, &format!("/boot_artifacts/{key}")).is_empty()) {
        return Err(format!(
            "it was not BOS that booted {xname} before: there is nothing to put back; {}",
            staging_command(xname)
        ));
    }
    let patch = json!({ "desired_state": saved, "enabled": true });
    let reply = service.exchange(Method::Patch, &format!("/v2/components/{xname}"), &patch)?;
    service.require_success(&reply)?;
    let after: Value = service.parse(&reply)?;
    if state(&after, DESIRED) == *saved {
        Ok(())
    } else {
        Err(format!("BOS took the change, and still shows another desired state for {xname}"))
    }
}

/// Requires that a session with all boot artifacts is staged.
fn check_staged(component: &Value) -> Result<(), String> {
    let xname = text(component, "/id");
    if text(component, "/staged_state/session").is_empty() {
        return Err(format!("nothing is staged in BOS for {xname}: {}.", staging_command(xname)));
    }
    let artifact = |key: &&&str| text(component, &format!("{STAGED}/boot_artifacts/{key}")).is_empty();
    match ARTIFACTS.iter().find(artifact) {
        Some(missing) => {
            Err(format!("what is staged in BOS for {xname} has no {missing}: {}.", staging_command(xname)))
        }
        None => Ok(()),
    }
}

/// Returns the command that stages a session for a node.
fn staging_command(xname: &str) -> String {
    format!(
        "`cray bos sessions create --stage true --operation reboot --template-name TEMPLATE --limit {xname}`"
    )
}

/// Returns the operation of a session.
fn operation(service: &Service, session: &str) -> Result<String, String> {
    if !session.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(format!("{session:?} is no name of a BOS session"));
    }
    let reply = service.exchange(Method::Get, &format!("/v2/sessions/{session}"), &Value::Null)?;
    if reply.status == 404 {
        return Err(format!("its staged BOS session {session} does not exist any more: stage another"));
    }
    service.require_success(&reply)?;
    Ok(text(&service.parse(&reply)?, "/operation").to_owned())
}

/// Returns true if BOS is applying what this session staged.
fn has_begun(component: &Value, session: &str) -> bool {
    is_enabled(component) && text(component, "/session") == session
}

/// Returns true if BOS is working on the component.
fn is_enabled(component: &Value) -> bool {
    component.get("enabled") == Some(&Value::Bool(true))
}

/// Returns a state without the fields that BOS keeps for itself.
fn state(component: &Value, which: &str) -> Value {
    let artifacts = ARTIFACTS
        .map(|key| (key.to_owned(), text(component, &format!("{which}/boot_artifacts/{key}")).into()));
    json!({
        "boot_artifacts": Value::Object(artifacts.into_iter().collect()),
        "configuration": text(component, &format!("{which}/configuration")),
    })
}

/// Returns the text at a JSON pointer, or an empty one.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
