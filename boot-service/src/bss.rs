//! The Boot Script Service of OpenCHAMI and CSM: one entry per node, with kernel, initrd and parameters.
//!
//! Only these three keys of an entry are changed. Since a write replaces the entry, its other keys, above all
//! cloud-init data, are read and written with them. The entry that the service shows afterwards decides the outcome,
//! even if a write failed.
//!
//! Written for OpenCHAMI/bss v1.32.2+ (e4894b06) and Cray-HPE/hms-bss v1.37.0 (d71280fb), which differ in their
//! storage. With etcd (both) an entry belongs to an xname. With PostgreSQL (OpenCHAMI) it belongs to an xname or to a
//! MAC address, it has no cloud-init data, and a write keeps an old initrd or old parameters if it does not name
//! them.

use crate::node_id::{self, Id};
use crate::service::{Method, Service};
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Name of the table in `controller.toml`.
const NAME: &str = "bss";

const PATH: &str = "/boot/v1/bootparameters";

/// Number of nodes in one request: their names must fit into a URL.
const NODES_PER_REQUEST: usize = 100;

/// The keys of an entry that an image sets.
const IMAGE_KEYS: [&str; 3] = ["kernel", "initrd", "params"];

/// The content of an entry, without the ids of its nodes.
type Content = Map<String, Value>;

/// An entry as the service shows it.
#[derive(Debug, Clone, Deserialize)]
struct Entry {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    macs: Vec<String>,
    #[serde(default, rename = "nids")]
    _nids: Vec<Value>,
    #[serde(flatten)]
    content: Content,
}

/// The entries of nodes, `None` if there is no entry, or the service's errors.
type Entries = BTreeMap<Id, Result<Option<Entry>, String>>;

struct Bss {
    config: ServiceConfig,
}

pub(crate) fn provider(config: ServiceConfig) -> Box<dyn BootSource> {
    Box::new(Bss { config })
}

impl BootSource for Bss {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        let service = Service::open(NAME, &self.config, until)?;
        let mut doubts = service.token_warnings();
        let mut ids = BTreeMap::new();
        for node in nodes {
            let id = id(node)?;
            if let Some(other) = ids.insert(id.clone(), &node.name) {
                return Err(format!(
                    "{other} and {} have both {} in the file of nodes",
                    node.name,
                    id.text()
                ));
            }
        }
        let found = entries(&service, ids.keys().cloned().collect());
        let mut without = Vec::new();
        for (id, name) in ids {
            match found.get(&id) {
                Some(Ok(Some(_))) => {}
                Some(Ok(None)) => without.push(name.as_str()),
                Some(Err(why)) => return Err(format!("{name}: {why}")),
                None => return Err(format!("{name}: {}", service.timeout_message())),
            }
        }
        if let (Some(first), count) = (without.first(), without.len()) {
            doubts.push(format!(
                "the Boot Script Service has no entry for {count} of these nodes, such as {first}: is that what it knows \
                 them by? {} makes one",
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
        let saved = |entry: Option<Entry>| entry.map_or(Value::Null, |entry| Value::Object(entry.content));
        Service::for_each_node((NAME, &self.config), nodes, id, until, |service, ids| {
            entries(service, ids).into_iter().map(|(id, entry)| (id, entry.map(saved))).collect()
        })
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        Service::for_each_node((NAME, &self.config), nodes, id, until, |service, ids| {
            let wanted = |entry: &Option<Entry>| {
                let mut content = entry.as_ref().map(|entry| entry.content.clone()).unwrap_or_default();
                for key in IMAGE_KEYS {
                    content.remove(key);
                    if let Some(value) = image.values.get(key) {
                        content.insert(key.to_owned(), value.clone().into());
                    }
                }
                Some(content)
            };
            apply_changes(service, entries(service, ids), |_, entry| wanted(entry))
        })
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let mut saved = BTreeMap::new();
        for (node, content) in nodes {
            if let Ok(id) = id(node) {
                saved.insert(id, content.as_object().cloned());
            }
        }
        let nodes: Vec<BootNode> = nodes.iter().map(|(node, _)| node.clone()).collect();
        Service::for_each_node((NAME, &self.config), &nodes, id, until, |service, ids| {
            apply_changes(service, entries(service, ids), |id, _| saved.get(id).cloned().flatten())
        })
    }
}

fn id(node: &BootNode) -> Result<Id, String> {
    node_id::id("the Boot Script Service", node)
}

/// Returns the key for ids of this kind in requests.
fn key(id: &Id) -> &'static str {
    match id {
        Id::Xname(_) => "hosts",
        Id::Mac(_) => "macs",
    }
}

/// Returns the entries as the service shows them. Entries not reached by the deadline are missing.
fn entries(service: &Service, ids: BTreeSet<Id>) -> Entries {
    let (xnames, macs): (Vec<Id>, Vec<Id>) = ids.into_iter().partition(|id| matches!(id, Id::Xname(_)));
    let mut batches: Vec<Vec<Id>> = xnames.chunks(NODES_PER_REQUEST).map(<[Id]>::to_vec).collect();
    // Ask for one address at a time: with etcd the answer has only the xname, not the address.
    batches.extend(macs.into_iter().map(|mac| vec![mac]));
    let answers = service.run_all(batches, |service, ids| {
        let found = query(service, &ids);
        let of_each = move |id: Id| {
            let found = found.as_ref().map_err(String::clone).and_then(|entries| entry_of(entries, &id));
            (id, found)
        };
        ids.into_iter().map(of_each).collect::<Vec<_>>()
    });
    answers.into_iter().flatten().collect()
}

fn query(service: &Service, ids: &[Id]) -> Result<Vec<Entry>, String> {
    let names = ids.iter().map(Id::text).collect::<Vec<_>>().join(",");
    let query = match ids.first() {
        // With etcd the key of an entry is the address itself if the State Manager does not know the address.
        Some(Id::Mac(_)) => format!("mac={names}&name={names}"),
        _ => format!("name={names}"),
    };
    let reply = service.exchange(Method::Get, &format!("{PATH}?{query}"), &Value::Null)?;
    // Distinguishes a missing entry from a missing page.
    let is_no_entry =
        || reply.problem_detail().is_some_and(|said| said.starts_with("Cannot find boot parameters"));
    if reply.status == 404 && is_no_entry() {
        return Ok(Vec::new());
    }
    service.require_success(&reply)?;
    let answer: Value = service.parse(&reply)?;
    // Its PUT changes the first record that matches, which may be one of a whole group.
    if answer.get("boot-parameters").is_some() {
        return Err("[bss] this is OpenCHAMI's boot-service, not the Boot Script Service: write via = \"boot-service\", and a table \
                    [boot_service] into controller.toml"
            .to_owned());
    }
    service.parse(&reply)
}

/// Returns the entry for `id` from an answer.
fn entry_of(entries: &[Entry], id: &Id) -> Result<Option<Entry>, String> {
    let mut found = entries.iter().filter(|entry| match id {
        Id::Xname(xname) => entry.hosts.contains(xname),
        // An address is asked for alone, so that an entry with an xname is its entry.
        Id::Mac(mac) => {
            !entry.hosts.is_empty() || entry.macs.iter().any(|other| other.eq_ignore_ascii_case(mac))
        }
    });
    let first = found.next();
    match first.and_then(|first| found.find(|other| other.content != first.content)) {
        None => Ok(first.cloned()),
        Some(_) => Err(format!("the Boot Script Service shows two entries for {}: remove one", id.text())),
    }
}

/// The current and the wanted state of an entry.
#[derive(Clone)]
struct Change {
    id: Id,
    /// The entry that the service showed last.
    now: Option<Entry>,
    /// `None` if there must be no entry.
    wanted: Option<Content>,
}

/// The reason for which an entry is not in the wanted state.
struct WriteFailure {
    why: String,
    /// The write was accepted but kept keys that it did not name.
    left_stale_keys: bool,
}

impl Change {
    /// Returns the id that the service itself uses for the entry, which is required to remove it.
    fn entry_id(&self) -> Option<Id> {
        let entry = self.now.as_ref()?;
        Some(match (&self.id, entry.hosts.first()) {
            (Id::Mac(_), Some(host)) => Id::Xname(host.clone()),
            (id, _) => id.clone(),
        })
    }

    fn is_done(&self) -> bool {
        self.now.as_ref().map(|entry| without_empty(&entry.content))
            == self.wanted.as_ref().map(without_empty)
    }

    /// Returns true if an unwanted initrd or unwanted parameters are the only difference.
    fn left_stale_keys(&self) -> bool {
        let (Some(now), Some(wanted)) = (&self.now, &self.wanted) else { return false };
        let (mut now, wanted) = (without_empty(&now.content), without_empty(wanted));
        now.retain(|key, _| !IMAGE_KEYS.contains(&key.as_str()) || wanted.contains_key(key));
        now == wanted
    }

    fn describe_difference(&self) -> String {
        let (now, wanted) = (
            self.now.as_ref().map(|entry| without_empty(&entry.content)),
            self.wanted.as_ref().map(without_empty),
        );
        let (Some(now), Some(wanted)) = (now, wanted) else {
            let now = if self.now.is_some() { "an entry" } else { "no entry" };
            return format!(
                "the Boot Script Service took the change, and still shows {now} for {}",
                self.id.text()
            );
        };
        let mut keys = now.keys().chain(wanted.keys());
        let key = keys.find(|key| now.get(*key) != wanted.get(*key)).map_or("", String::as_str);
        format!(
            "the Boot Script Service took the change, and still shows another {key} for {}",
            self.id.text()
        )
    }
}

/// Removes empty values: they mean the same as missing ones, and not all services show them.
fn without_empty(content: &Content) -> Content {
    fn is_empty(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(keys) => keys.values().all(is_empty),
            _ => false,
        }
    }
    let full = content.iter().filter(|(_, value)| !is_empty(value));
    full.map(|(key, value)| match value {
        Value::Object(keys) => (key.clone(), Value::Object(without_empty(keys))),
        _ => (key.clone(), value.clone()),
    })
    .collect()
}

/// Changes entries until the service shows the wanted ones.
fn apply_changes(
    service: &Service,
    found: Entries,
    wanted: impl Fn(&Id, &Option<Entry>) -> Option<Content>,
) -> BTreeMap<Id, Result<(), String>> {
    let mut done = BTreeMap::new();
    let mut changes = Vec::new();
    for (id, entry) in found {
        match entry {
            Ok(now) => changes.push(Change { wanted: wanted(&id, &now), id, now }),
            Err(why) => drop(done.insert(id, Err(why))),
        }
    }
    let mut stale = Vec::new();
    for (change, outcome) in write_and_verify(service, changes, false) {
        match outcome {
            Err(WriteFailure { left_stale_keys: true, .. }) => stale.push(change),
            _ => drop(done.insert(change.id, outcome.map_err(|failed| failed.why))),
        }
    }
    // Only removing the entry removes stale keys.
    let recreated = write_and_verify(service, stale, true);
    done.extend(
        recreated.into_iter().map(|(change, outcome)| (change.id, outcome.map_err(|failed| failed.why))),
    );
    done
}

/// Writes the entries that are not in the wanted state, and compares the entries that the service shows afterwards.
/// `recreate` removes each entry first.
fn write_and_verify(
    service: &Service,
    changes: Vec<Change>,
    recreate: bool,
) -> Vec<(Change, Result<(), WriteFailure>)> {
    let (done, changes): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(Change::is_done);
    let old = changes.iter().filter(|change| recreate || change.wanted.is_none());
    let old = old.filter_map(|change| {
        Some(Write { id: change.id.clone(), name: change.entry_id()?, content: Content::new() })
    });
    let mut failed = write(service, Method::Delete, old);
    let new = changes.iter().filter(|change| !failed.contains_key(&change.id));
    let new = new.filter_map(|change| {
        Some(Write { id: change.id.clone(), name: change.id.clone(), content: change.wanted.clone()? })
    });
    let new: Vec<Write> = new.collect();
    failed.extend(write(service, Method::Put, new.into_iter()));
    let mut shown = entries(service, changes.iter().map(|change| change.id.clone()).collect());
    let outcome = |mut change: Change| {
        let write_error = failed.remove(&change.id);
        let shown_now = shown.remove(&change.id).unwrap_or_else(|| Err(service.timeout_message()));
        let outcome = match (shown_now, write_error) {
            (Err(why), write_error) => {
                Err(WriteFailure { why: write_error.unwrap_or(why), left_stale_keys: false })
            }
            (Ok(now), write_error) => {
                change.now = now;
                match write_error {
                    _ if change.is_done() => Ok(()),
                    Some(why) => Err(WriteFailure { why, left_stale_keys: false }),
                    None => Err(WriteFailure {
                        why: change.describe_difference(),
                        left_stale_keys: change.left_stale_keys(),
                    }),
                }
            }
        };
        (change, outcome)
    };
    let outcomes = changes.into_iter().map(outcome).collect::<Vec<_>>();
    done.into_iter().map(|change| (change, Ok(()))).chain(outcomes).collect()
}

/// A write of one node's entry.
#[derive(Clone)]
struct Write {
    id: Id,
    /// The id of the entry in the request.
    name: Id,
    content: Content,
}

/// Sends the writes, one request for all with the same content, and returns the failed ones.
fn write(service: &Service, method: Method, writes: impl Iterator<Item = Write>) -> BTreeMap<Id, String> {
    let mut by_content: BTreeMap<(&str, String), Vec<Write>> = BTreeMap::new();
    for write in writes {
        let content = Value::Object(write.content.clone()).to_string();
        by_content.entry((key(&write.name), content)).or_default().push(write);
    }
    let requests: Vec<Vec<Write>> = by_content
        .values()
        .flat_map(|writes| writes.chunks(NODES_PER_REQUEST))
        .map(<[Write]>::to_vec)
        .collect();
    let mut failed: BTreeMap<Id, String> =
        requests.iter().flatten().map(|write| (write.id.clone(), service.timeout_message())).collect();
    let sent = service.run_all(requests, move |service, writes| {
        let names: Vec<&str> = writes.iter().map(|write| write.name.text()).collect();
        let first = writes.first().map(|write| (key(&write.name).to_owned(), write.content.clone()));
        let (key, mut body) = first.unwrap_or_default();
        body.insert(key, json!(names));
        let reply = service.exchange(method, PATH, &Value::Object(body));
        (writes, reply.and_then(|reply| service.require_success(&reply)))
    });
    for (writes, outcome) in sent {
        for write in writes {
            match &outcome {
                Ok(()) => failed.remove(&write.id),
                Err(why) => failed.insert(write.id, why.clone()),
            };
        }
    }
    failed
}
