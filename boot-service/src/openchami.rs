//! OpenCHAMI's boot-service: boot configurations, each for the nodes that it matches.
//!
//! Written for OpenCHAMI/boot-service v0.3.1 (8d292221). A node boots the configuration that matches it best, which may
//! be one for itself, a group or all nodes. Only a configuration for one node alone is written. If the best one is for
//! other nodes too, the node gets one of its own, which matches it better and which an undo removes. The configurations
//! that the service shows afterwards decide the outcome, even if a write failed.
//!
//! The API of the Boot Script Service, which the service has below `/boot/v1` if it is enabled, is not used: its PUT
//! changes the first configuration that matches (`UpdateBootParameters` in `pkg/handlers/boot/handlers.go`).

use crate::node_id::{self, Id};
use crate::service::{Method, Service};
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Name of the table in `controller.toml`.
const NAME: &str = "boot_service";

const CONFIGURATIONS: &str = "/bootconfigurations";
const NODES: &str = "/nodes";

/// The keys of a configuration that an image sets.
const IMAGE_KEYS: [&str; 3] = ["kernel", "initrd", "params"];

/// Beginning of the names of the configurations that are created here. The xname follows.
const OURS: &str = "slurm-rollout-";

/// Priority of these configurations, the highest that the service accepts.
const PRIORITY: u32 = 100;

type Spec = Map<String, Value>;

/// A resource as the service shows it.
#[derive(Debug, Clone, Deserialize)]
struct Resource<T> {
    #[serde(default)]
    metadata: Metadata,
    spec: T,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    uid: String,
}

type Configuration = Resource<Spec>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    xname: String,
    nid: i64,
    boot_mac: String,
    hostname: String,
    groups: Vec<String>,
}

/// Everything that the service knows. It has no request for a part of it.
struct Shown {
    nodes: Vec<Resource<Node>>,
    configurations: Vec<Configuration>,
}

#[derive(Clone)]
enum Write {
    Create { name: String, spec: Spec },
    Update { uid: String, spec: Spec },
    Remove { uid: String },
}

struct BootService {
    config: ServiceConfig,
}

pub(crate) fn provider(config: ServiceConfig) -> Box<dyn BootSource> {
    Box::new(BootService { config })
}

impl BootSource for BootService {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        check_files(image)?;
        let ids = nodes.iter().map(|node| Ok((&node.name, id(node)?))).collect::<Result<Vec<_>, String>>()?;
        let service = Service::open(NAME, &self.config, until)?;
        let mut doubts = service.token_warnings();
        let shown = shown(&service)?;
        let (mut xnames, mut without) = (BTreeMap::new(), Vec::new());
        for (name, id) in ids {
            let node = shown.node(&id).map_err(|why| format!("{name}: {why}"))?;
            if let Some(other) = xnames.insert(&node.xname, name) {
                return Err(format!("{other} and {name} are both {} in the file of nodes", node.xname));
            }
            shown.write_for(image, node).map_err(|why| format!("{name}: {why}"))?;
            if shown.best(node).is_none() {
                without.push(name.as_str());
            }
        }
        if let (Some(first), count) = (without.first(), without.len()) {
            doubts.push(format!(
                "OpenCHAMI's boot-service has no boot configuration for {count} of these nodes, such as {first}: what do \
                 they boot now? {} makes one for each",
                image.name()
            ));
        }
        // Only URLs without TLS: the certificate authority of a different host is not known here.
        let files = ["kernel", "initrd"].iter().filter_map(|key| image.values.get(*key));
        let files = files.filter(|url| url.starts_with("http://")).cloned().collect();
        doubts.extend(
            service.run_all(files, |service, url: String| service.fetch_problem(&url)).into_iter().flatten(),
        );
        Ok(doubts)
    }

    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved> {
        Service::for_each_node((NAME, &self.config), nodes, id, until, |service, ids| {
            let shown = shown(service);
            let read = |id: Id| {
                let saved = shown.as_ref().map_err(String::clone).and_then(|shown| shown.saved(&id));
                (id, saved)
            };
            ids.into_iter().map(read).collect()
        })
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        Service::for_each_node((NAME, &self.config), nodes, id, until, |service, ids| {
            let writes = |shown: &Shown, id: &Id| -> Result<Vec<Write>, String> {
                let write = shown.write_for(image, shown.node(id)?)?;
                Ok(write.into_iter().collect())
            };
            apply(service, ids, writes)
        })
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let saved = nodes.iter().filter_map(|(node, saved)| Some((id(node).ok()?, saved.clone())));
        let saved: BTreeMap<Id, Saved> = saved.collect();
        let nodes: Vec<BootNode> = nodes.iter().map(|(node, _)| node.clone()).collect();
        Service::for_each_node((NAME, &self.config), &nodes, id, until, |service, ids| {
            let writes = |shown: &Shown, id: &Id| -> Result<Vec<Write>, String> {
                shown.writes_back(shown.node(id)?, saved.get(id).unwrap_or(&Value::Null))
            };
            apply(service, ids, writes)
        })
    }
}

fn id(node: &BootNode) -> Result<Id, String> {
    node_id::id("OpenCHAMI's boot-service", node)
}

/// Checks the files of an image as the service does (`ValidateURLOrPath` in `pkg/validation/validators.go`).
fn check_files(image: &Image) -> Result<(), String> {
    for key in ["kernel", "initrd"] {
        let is_valid = |file: &&String| {
            ["http://", "https://", "/"]
                .iter()
                .any(|start| file.len() > start.len() && file.starts_with(start))
        };
        if let Some(file) = image.values.get(key).filter(|file| !is_valid(file)) {
            return Err(format!(
                "{key} {file:?}: OpenCHAMI's boot-service takes http and https URLs and absolute paths"
            ));
        }
    }
    Ok(())
}

fn shown(service: &Service) -> Result<Shown, String> {
    Ok(Shown { nodes: service.get(NODES)?, configurations: service.get(CONFIGURATIONS)? })
}

impl Shown {
    /// Returns a node (`resolveNode` in `pkg/controllers/bootscript/controller.go`).
    fn node(&self, id: &Id) -> Result<&Node, String> {
        let is_it = |node: &&Node| match id {
            Id::Xname(xname) => node.xname == *xname,
            Id::Mac(mac) => node.boot_mac.eq_ignore_ascii_case(mac),
        };
        self.nodes.iter().map(|node| &node.spec).find(is_it).ok_or_else(|| {
            format!("OpenCHAMI's boot-service knows no node {}: is it right in the file of nodes?", id.text())
        })
    }

    /// Returns the configuration that the node boots.
    fn best(&self, node: &Node) -> Option<&Configuration> {
        let matching = self.configurations.iter().filter(|one| score(&one.spec, node) > 0);
        matching.max_by_key(|one| rank(one, node))
    }

    /// Returns the configuration that may be written for the node: the one that it boots if that is for it alone, or
    /// the one that was created here.
    fn writable(&self, node: &Node) -> Option<&Configuration> {
        let own = self.best(node).filter(|best| is_for_alone(&best.spec, node));
        own.or_else(|| self.ours(node).next())
    }

    /// Returns the configurations that were created here for the node.
    fn ours(&self, node: &Node) -> impl Iterator<Item = &Configuration> {
        let of_this_name = self.configurations.iter().filter(|one| one.metadata.name == our_name(node));
        of_this_name.filter(|one| is_for_alone(&one.spec, node))
    }

    /// Returns the configuration of the node alone, or null if it boots one that is for other nodes too.
    fn saved(&self, id: &Id) -> Result<Saved, String> {
        let one = self.writable(self.node(id)?);
        Ok(one.map_or(
            Value::Null,
            |one| json!({ "uid": one.metadata.uid, "name": one.metadata.name, "spec": one.spec }),
        ))
    }

    /// Returns the write that makes the node boot the image, if one is needed.
    ///
    /// # Errors
    /// If another configuration would match the node better.
    fn write_for(&self, image: &Image, node: &Node) -> Result<Option<Write>, String> {
        let now = self.writable(node);
        let mut spec = now.map_or_else(|| self.new_spec(node), |one| one.spec.clone());
        for key in IMAGE_KEYS {
            spec.remove(key);
            if let Some(value) = image.values.get(key) {
                spec.insert(key.to_owned(), value.clone().into());
            }
        }
        let metadata = now.map_or_else(
            || Metadata { name: our_name(node), uid: String::new() },
            |one| one.metadata.clone(),
        );
        let wanted = Configuration { metadata, spec };
        let others = self.configurations.iter().filter(|one| now.is_none_or(|now| !std::ptr::eq(*one, now)));
        if let Some(other) = others.max_by_key(|one| rank(one, node)) {
            if rank(other, node) >= rank(&wanted, node) {
                return Err(format!(
                    "the boot configuration {:?} is for other nodes too, and matches {} better than one for it alone: lower \
                     its priority",
                    other.metadata.name, node.xname
                ));
            }
        }
        Ok(match now {
            Some(now) if without_empty(&now.spec) == without_empty(&wanted.spec) => None,
            Some(now) => Some(Write::Update { uid: now.metadata.uid.clone(), spec: wanted.spec }),
            None => Some(Write::Create { name: wanted.metadata.name, spec: wanted.spec }),
        })
    }

    /// Returns a configuration for the node alone, in the profile of the one that it boots.
    fn new_spec(&self, node: &Node) -> Spec {
        let profile = self.best(node).and_then(|best| best.spec.get("profile")).cloned().unwrap_or_default();
        let macs: Vec<&str> =
            Some(node.boot_mac.as_str()).filter(|mac| !mac.is_empty()).into_iter().collect();
        let nids: Vec<i64> = Some(node.nid).filter(|nid| *nid != 0).into_iter().collect();
        let spec = json!({
            "hosts": [node.xname], "macs": macs, "nids": nids, "profile": profile, "priority": PRIORITY,
        });
        let spec = spec.as_object().cloned().unwrap_or_default();
        without_empty(&spec)
    }

    /// Returns the writes that restore what was saved.
    ///
    /// # Errors
    /// If that is for other nodes too by now.
    fn writes_back(&self, node: &Node, saved: &Saved) -> Result<Vec<Write>, String> {
        let text = |key: &str| saved.get(key).and_then(Value::as_str).unwrap_or_default();
        let (uid, name) = (text("uid"), text("name"));
        let spec = saved.get("spec").and_then(Value::as_object);
        let is_as_saved =
            |one: &Configuration| spec.is_some_and(|spec| without_empty(&one.spec) == without_empty(spec));
        // One that somebody has removed is created anew, under another uid.
        let is_it =
            |one: &Configuration| one.metadata.uid == uid || (one.metadata.name == name && is_as_saved(one));
        let created = self.ours(node).filter(|one| !is_it(one));
        let mut writes: Vec<Write> =
            created.map(|one| Write::Remove { uid: one.metadata.uid.clone() }).collect();
        let Some(spec) = spec else { return Ok(writes) };
        match self.configurations.iter().find(|one| is_it(one)) {
            Some(now) if is_as_saved(now) => {}
            Some(now) if is_for_alone(&now.spec, node) => {
                writes.push(Write::Update { uid: uid.to_owned(), spec: spec.clone() });
            }
            Some(_) => {
                return Err(format!(
                    "the boot configuration {name:?} is for other nodes too by now: put back by hand what it had for {}",
                    node.xname
                ));
            }
            None => writes.push(Write::Create { name: name.to_owned(), spec: spec.clone() }),
        }
        Ok(writes)
    }
}

fn our_name(node: &Node) -> String {
    format!("{OURS}{}", node.xname)
}

fn list<'a>(spec: &'a Spec, key: &str) -> &'a [Value] {
    spec.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts<'a>(spec: &'a Spec, key: &str) -> impl Iterator<Item = &'a str> {
    list(spec, key).iter().filter_map(Value::as_str)
}

/// Returns a measure of how well a configuration matches a node, as the service computes it (`calculateConfigScore` in
/// `pkg/controllers/bootscript/controller.go`).
fn score(spec: &Spec, node: &Node) -> usize {
    let hosts = texts(spec, "hosts").filter(|host| ["*", &node.xname, &node.hostname].contains(host));
    let macs = texts(spec, "macs").filter(|mac| mac.eq_ignore_ascii_case(&node.boot_mac));
    let nids = list(spec, "nids").iter().filter(|nid| nid.as_i64() == Some(node.nid));
    let groups =
        texts(spec, "groups").map(|group| node.groups.iter().filter(|other| *other == group).count());
    let score = 50 * hosts.count() + 100 * macs.count() + 75 * nids.count() + 25 * groups.sum::<usize>();
    let is_for_all = ["hosts", "macs", "nids", "groups"].iter().all(|key| list(spec, key).is_empty());
    if is_for_all { 1 } else { score }
}

/// Returns the order in which the service prefers configurations (`findBootConfiguration`).
fn rank<'a>(one: &'a Configuration, node: &Node) -> (usize, i64, Reverse<&'a str>) {
    let priority = one.spec.get("priority").and_then(Value::as_i64).unwrap_or(0);
    (score(&one.spec, node), priority, Reverse(&one.metadata.name))
}

/// Returns whether a configuration names this node and nothing else.
fn is_for_alone(spec: &Spec, node: &Node) -> bool {
    texts(spec, "hosts").all(|host| host == node.xname)
        && texts(spec, "macs").all(|mac| !mac.is_empty() && mac.eq_ignore_ascii_case(&node.boot_mac))
        && list(spec, "nids").iter().all(|nid| node.nid != 0 && nid.as_i64() == Some(node.nid))
        && list(spec, "groups").is_empty()
        && ["hosts", "macs", "nids"].iter().any(|key| !list(spec, key).is_empty())
}

/// Removes empty values, which the service does not show.
fn without_empty(spec: &Spec) -> Spec {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    };
    let full = spec.iter().filter(|(_, value)| !is_empty(value));
    full.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Writes until no more writes are needed. The service's answer to a write alone counts for nothing.
fn apply(
    service: &Service,
    ids: BTreeSet<Id>,
    writes: impl Fn(&Shown, &Id) -> Result<Vec<Write>, String>,
) -> BTreeMap<Id, Result<(), String>> {
    let before = match shown(service) {
        Ok(shown) => shown,
        Err(why) => return ids.into_iter().map(|id| (id, Err(why.clone()))).collect(),
    };
    let (mut done, mut jobs) = (BTreeMap::new(), Vec::new());
    for id in ids {
        match writes(&before, &id) {
            Ok(needed) if needed.is_empty() => drop(done.insert(id, Ok(()))),
            Ok(needed) => jobs.push((id, needed)),
            Err(why) => drop(done.insert(id, Err(why))),
        }
    }
    if jobs.is_empty() {
        return done;
    }
    let late = service.timeout_message();
    let mut failed: BTreeMap<Id, String> = jobs.iter().map(|(id, _)| (id.clone(), late.clone())).collect();
    let sent = service.run_all(jobs, |service, (id, needed): (Id, Vec<Write>)| {
        let sent = needed.into_iter().try_for_each(|write| send(service, write));
        (id, sent)
    });
    let unsettled = |id: &Id| {
        format!(
            "OpenCHAMI's boot-service took the change, and still shows another boot configuration for {}",
            id.text()
        )
    };
    for (id, outcome) in sent {
        let why = outcome.err().unwrap_or_else(|| unsettled(&id));
        failed.insert(id, why);
    }
    let after = shown(service);
    done.extend(failed.into_iter().map(|(id, why)| {
        let is_done = after.as_ref().is_ok_and(|after| writes(after, &id).is_ok_and(|more| more.is_empty()));
        let outcome = match &after {
            _ if is_done => Ok(()),
            Err(unknown) if why == unsettled(&id) => Err(unknown.clone()),
            _ => Err(why),
        };
        (id, outcome)
    }));
    done
}

fn send(service: &Service, write: Write) -> Result<(), String> {
    let (method, uid, body) = match write {
        Write::Create { name, spec } => {
            (Method::Post, None, json!({ "metadata": { "name": name }, "spec": spec }))
        }
        Write::Update { uid, spec } => (Method::Put, Some(uid), json!({ "spec": spec })),
        Write::Remove { uid } => (Method::Delete, Some(uid), Value::Null),
    };
    let path = match uid {
        None => CONFIGURATIONS.to_owned(),
        Some(uid) if !uid.is_empty() && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
            format!("{CONFIGURATIONS}/{uid}")
        }
        Some(uid) => return Err(format!("{uid:?} is no uid of a boot configuration")),
    };
    let reply = service.exchange(method, &path, &body)?;
    service.require_success(&reply)
}
