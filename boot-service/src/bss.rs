//! The Boot Script Service of OpenCHAMI and CSM: an entry for each node, with kernel, initrd and parameters.
//!
//! Of an entry only these three are changed: what else is in it, cloud-init data above all, is read and written with them,
//! since a write replaces the entry. What counts is what the service shows afterwards, also where a write failed.
//!
//! Written after OpenCHAMI/bss v1.32.2+ (e4894b06) and Cray-HPE/hms-bss v1.37.0 (d71280fb), which differ in what they keep
//! entries in: etcd (both), where an entry belongs to an xname, or PostgreSQL (OpenCHAMI), where it belongs to an xname or
//! to a MAC address, holds no cloud-init data, and where a write leaves an initrd or parameters that it does not name.

use crate::service::{Method, Service};
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Its table in `controller.toml`.
const NAME: &str = "bss";

const PATH: &str = "/boot/v1/bootparameters";

/// How many nodes one request is about: their names have to fit into a URL.
const NODES_PER_REQUEST: usize = 100;

/// The keys of an entry that an image decides.
const IMAGE_KEYS: [&str; 3] = ["kernel", "initrd", "params"];

/// What the service knows a node by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Xname(String),
    /// In small letters.
    Mac(String),
}

/// An entry without the names of its nodes.
type Content = Map<String, Value>;

/// An entry as it is shown.
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

type Found = BTreeMap<Id, Result<Option<Entry>, String>>;

struct Bss {
    config: ServiceConfig,
}

pub(crate) fn provider(config: ServiceConfig) -> Box<dyn BootSource> {
    Box::new(Bss { config })
}

impl BootSource for Bss {
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String> {
        let service = Service::open(NAME, &self.config, until)?;
        let mut doubts = service.doubts();
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
                None => return Err(format!("{name}: {}", service.late())),
            }
        }
        if let (Some(first), count) = (without.first(), without.len()) {
            doubts.push(format!(
                "the Boot Script Service has no entry for {count} of these nodes, such as {first}: is that what it knows \
                 them by? {} makes one",
                image.name()
            ));
        }
        // Only what is fetched without TLS: another host's authority is not known here.
        let files = ["kernel", "initrd"].iter().filter_map(|key| image.values.get(*key));
        let files = files.filter(|url| url.starts_with("http://")).cloned().collect();
        doubts.extend(service.all(files, |service, url: String| service.offers(&url)).into_iter().flatten());
        Ok(doubts)
    }

    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved> {
        let saved = |entry: Option<Entry>| entry.map_or(Value::Null, |entry| Value::Object(entry.content));
        Service::of_each((NAME, &self.config), nodes, id, until, |service, ids| {
            entries(service, ids).into_iter().map(|(id, entry)| (id, entry.map(saved))).collect()
        })
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        Service::of_each((NAME, &self.config), nodes, id, until, |service, ids| {
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
            bring_about(service, entries(service, ids), |_, entry| wanted(entry))
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
        Service::of_each((NAME, &self.config), &nodes, id, until, |service, ids| {
            bring_about(service, entries(service, ids), |id, _| saved.get(id).cloned().flatten())
        })
    }
}

impl Id {
    fn text(&self) -> &str {
        match self {
            Self::Xname(text) | Self::Mac(text) => text,
        }
    }

    /// The key of requests that names nodes in this way.
    fn key(&self) -> &'static str {
        match self {
            Self::Xname(_) => "hosts",
            Self::Mac(_) => "macs",
        }
    }
}

fn id(node: &BootNode) -> Result<Id, String> {
    if let Some(xname) = node.xname() {
        return xname.map(|xname| Id::Xname(xname.to_owned()));
    }
    let name = &node.name;
    let mac = node.values.get("mac").ok_or_else(|| {
        format!("{name}: the Boot Script Service knows nodes by xname or mac: write one below [{name}] in the file of nodes")
    })?;
    let pairs: Vec<&str> = mac.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
    if pairs.len() != 6 || !pairs.iter().all(is_pair) {
        return Err(format!("{name}: mac {mac:?}: write it as 52:54:00:12:34:56"));
    }
    Ok(Id::Mac(mac.to_ascii_lowercase()))
}

/// The entries of these, as the service shows them. Those that were not come to are missing.
fn entries(service: &Service, ids: BTreeSet<Id>) -> Found {
    let (xnames, macs): (Vec<Id>, Vec<Id>) = ids.into_iter().partition(|id| matches!(id, Id::Xname(_)));
    let mut questions: Vec<Vec<Id>> = xnames.chunks(NODES_PER_REQUEST).map(<[Id]>::to_vec).collect();
    // With etcd the answer has the xname only, and not the address that was asked for: one at a time.
    questions.extend(macs.into_iter().map(|mac| vec![mac]));
    let answers = service.all(questions, |service, ids| {
        let found = ask(service, &ids);
        let of_each = move |id: Id| {
            let found = found.as_ref().map_err(String::clone).and_then(|entries| entry(entries, &id));
            (id, found)
        };
        ids.into_iter().map(of_each).collect::<Vec<_>>()
    });
    answers.into_iter().flatten().collect()
}

fn ask(service: &Service, ids: &[Id]) -> Result<Vec<Entry>, String> {
    let names = ids.iter().map(Id::text).collect::<Vec<_>>().join(",");
    let query = match ids.first() {
        // With etcd an entry may be kept under the address itself, where the State Manager does not know that.
        Some(Id::Mac(_)) => format!("mac={names}&name={names}"),
        _ => format!("name={names}"),
    };
    let reply = service.exchange(Method::Get, &format!("{PATH}?{query}"), &Value::Null)?;
    // Its word that there is no entry, and not one that there is no such page.
    let none = || reply.problem().is_some_and(|said| said.starts_with("Cannot find boot parameters"));
    if reply.status == 404 && none() {
        return Ok(Vec::new());
    }
    service.success(&reply)?;
    service.json(&reply)
}

/// What of an answer is about one of those that were asked for.
fn entry(entries: &[Entry], id: &Id) -> Result<Option<Entry>, String> {
    let mut mine = entries.iter().filter(|entry| match id {
        Id::Xname(xname) => entry.hosts.contains(xname),
        // Asked for alone.
        Id::Mac(mac) => {
            !entry.hosts.is_empty() || entry.macs.iter().any(|other| other.eq_ignore_ascii_case(mac))
        }
    });
    let first = mine.next();
    match first.and_then(|first| mine.find(|other| other.content != first.content)) {
        None => Ok(first.cloned()),
        Some(_) => Err(format!("the Boot Script Service shows two entries for {}: remove one", id.text())),
    }
}

/// What is to become of an entry.
#[derive(Clone)]
struct Change {
    id: Id,
    /// What the service showed last.
    now: Option<Entry>,
    /// None: there shall be none.
    wanted: Option<Content>,
}

/// Why it did not become that.
struct Failed {
    why: String,
    /// The write was taken, and left what it did not name.
    leaves: bool,
}

impl Change {
    /// What the service itself calls the entry: only so can it be removed.
    fn name(&self) -> Option<Id> {
        let entry = self.now.as_ref()?;
        Some(match (&self.id, entry.hosts.first()) {
            (Id::Mac(_), Some(host)) => Id::Xname(host.clone()),
            (id, _) => id.clone(),
        })
    }

    fn is_done(&self) -> bool {
        self.now.as_ref().map(|entry| plain(&entry.content)) == self.wanted.as_ref().map(plain)
    }

    /// Whether all that is wrong is an initrd or parameters that nobody wants.
    fn leaves(&self) -> bool {
        let (Some(now), Some(wanted)) = (&self.now, &self.wanted) else { return false };
        let (mut now, wanted) = (plain(&now.content), plain(wanted));
        now.retain(|key, _| !IMAGE_KEYS.contains(&key.as_str()) || wanted.contains_key(key));
        now == wanted
    }

    fn why(&self) -> String {
        let (now, wanted) =
            (self.now.as_ref().map(|entry| plain(&entry.content)), self.wanted.as_ref().map(plain));
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

/// Without what is empty: that is as good as not there, and services differ in whether they show it.
fn plain(content: &Content) -> Content {
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
        Value::Object(keys) => (key.clone(), Value::Object(plain(keys))),
        _ => (key.clone(), value.clone()),
    })
    .collect()
}

/// Brings it about that the service shows what is wanted.
fn bring_about(
    service: &Service,
    found: Found,
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
    let mut left = Vec::new();
    for (change, outcome) in attempt(service, changes, false) {
        match outcome {
            Err(Failed { leaves: true, .. }) => left.push(change),
            _ => drop(done.insert(change.id, outcome.map_err(|failed| failed.why))),
        }
    }
    // What a write leaves goes with the entry only.
    let anew = attempt(service, left, true);
    done.extend(anew.into_iter().map(|(change, outcome)| (change.id, outcome.map_err(|failed| failed.why))));
    done
}

/// Writes these, where they are not done, and looks what came of it; `anew` removes the entries before.
fn attempt(service: &Service, changes: Vec<Change>, anew: bool) -> Vec<(Change, Result<(), Failed>)> {
    let (done, changes): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(Change::is_done);
    let old = changes.iter().filter(|change| anew || change.wanted.is_none());
    let old = old.filter_map(|change| {
        Some(Write { id: change.id.clone(), name: change.name()?, content: Content::new() })
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
        let written = failed.remove(&change.id);
        let looked = shown.remove(&change.id).unwrap_or_else(|| Err(service.late()));
        let outcome = match (looked, written) {
            (Err(why), written) => Err(Failed { why: written.unwrap_or(why), leaves: false }),
            (Ok(now), written) => {
                change.now = now;
                match written {
                    _ if change.is_done() => Ok(()),
                    Some(why) => Err(Failed { why, leaves: false }),
                    None => Err(Failed { why: change.why(), leaves: change.leaves() }),
                }
            }
        };
        (change, outcome)
    };
    let outcomes = changes.into_iter().map(outcome).collect::<Vec<_>>();
    done.into_iter().map(|change| (change, Ok(()))).chain(outcomes).collect()
}

/// What is sent for a node.
#[derive(Clone)]
struct Write {
    id: Id,
    /// What the entry is called in the request.
    name: Id,
    content: Content,
}

/// Sends these, those with the same content together. The answer is what failed.
fn write(service: &Service, method: Method, writes: impl Iterator<Item = Write>) -> BTreeMap<Id, String> {
    let mut alike: BTreeMap<(&str, String), Vec<Write>> = BTreeMap::new();
    for write in writes {
        let content = Value::Object(write.content.clone()).to_string();
        alike.entry((write.name.key(), content)).or_default().push(write);
    }
    let requests: Vec<Vec<Write>> =
        alike.values().flat_map(|writes| writes.chunks(NODES_PER_REQUEST)).map(<[Write]>::to_vec).collect();
    let mut failed: BTreeMap<Id, String> =
        requests.iter().flatten().map(|write| (write.id.clone(), service.late())).collect();
    let sent = service.all(requests, move |service, writes| {
        let names: Vec<&str> = writes.iter().map(|write| write.name.text()).collect();
        let first = writes.first().map(|write| (write.name.key().to_owned(), write.content.clone()));
        let (key, mut body) = first.unwrap_or_default();
        body.insert(key, json!(names));
        let reply = service.exchange(method, PATH, &Value::Object(body));
        (writes, reply.and_then(|reply| service.success(&reply)))
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
