//! A model of the Boot Script Service: its entries, and its answers with etcd and with PostgreSQL.

use crate::server::{Reaction, Request, Server};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Storage of the entries.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Store {
    Etcd,
    Postgres,
}

/// A service with its entries, by xname or by MAC address.
pub(super) struct Bss {
    store: Store,
    pub(super) entries: Entries,
    /// Addresses by xname, as in the State Manager. For etcd only.
    pub(super) macs: BTreeMap<String, String>,
    /// Handles requests before the service does.
    pub(super) fault: Option<Fault>,
}

pub(super) type Entries = BTreeMap<String, Map<String, Value>>;
pub(super) type Fault = Box<dyn Fn(&mut Entries, &Request) -> Option<Reaction> + Send>;
pub(super) type Shared = Arc<Mutex<Bss>>;

impl Bss {
    pub(super) fn start(store: Store) -> (Server, Shared) {
        let bss = Self { store, entries: BTreeMap::new(), macs: BTreeMap::new(), fault: None };
        let shared = Arc::new(Mutex::new(bss));
        let mine = Arc::clone(&shared);
        (Server::start(None, move |request| Self::answer(&mine, request)), shared)
    }

    fn answer(shared: &Shared, request: &Request) -> Reaction {
        let bss = &mut *shared.lock().unwrap();
        if let Some(reaction) = bss.fault.as_ref().and_then(|fault| fault(&mut bss.entries, request)) {
            return reaction;
        }
        if request.path != "/boot/v1/bootparameters" {
            return Reaction::Respond(404, "404 page not found\n".to_owned());
        }
        match request.method.as_str() {
            "GET" => bss.get(request),
            "PUT" => bss.put(&request.body),
            "DELETE" => bss.delete(&request.body),
            _ => problem(405, "allow GET,POST,PUT,PATCH,DELETE"),
        }
    }

    /// Returns the key under which the entry of an address is stored.
    fn key(&self, mac: &str) -> String {
        let known = self.macs.iter().find(|(_, known)| known.eq_ignore_ascii_case(mac));
        match self.store {
            Store::Etcd => known.map_or(mac.to_owned(), |(xname, _)| xname.clone()),
            Store::Postgres => mac.to_ascii_lowercase(),
        }
    }

    fn get(&self, request: &Request) -> Reaction {
        let (names, macs) = (request.list("name"), request.list("mac"));
        assert!(!names.is_empty() || !macs.is_empty(), "everything was asked for");
        let mut answer = Vec::new();
        let mut found = |key: &str, called: &str, name: &str| {
            if let Some(entry) = self.entries.get(key) {
                let mut entry = entry.clone();
                // The service shows empty structs too.
                entry.entry("cloud-init").or_insert_with(no_cloud_init);
                entry.insert(called.to_owned(), json!([name]));
                answer.push(entry);
            }
        };
        match self.store {
            Store::Etcd => {
                names.iter().for_each(|name| found(name, "hosts", name));
                let known = macs.iter().map(|mac| self.key(mac)).filter(|key| self.macs.contains_key(key));
                known.for_each(|xname| found(&xname, "hosts", &xname));
            }
            Store::Postgres => {
                let xnames = names.iter().filter(|name| name.starts_with('x'));
                xnames.for_each(|name| found(name, "hosts", name));
                macs.iter().for_each(|mac| found(&self.key(mac), "macs", &self.key(mac)));
                answer = compact(answer);
            }
        }
        if answer.is_empty() {
            return problem(404, "Cannot find boot parameters for requested Hosts");
        }
        Reaction::json(200, &answer.into_iter().map(Value::Object).collect())
    }

    fn keys(&self, body: &Value) -> Vec<String> {
        let list = |key: &str| -> Vec<String> {
            let list = body.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        // The service uses the hosts or else the addresses, never both.
        let hosts = list("hosts");
        if hosts.is_empty() { list("macs").iter().map(|mac| self.key(mac)).collect() } else { hosts }
    }

    fn put(&mut self, body: &Value) -> Reaction {
        let content = body.as_object().unwrap().clone();
        let content =
            content.into_iter().filter(|(key, _)| !matches!(key.as_str(), "hosts" | "macs" | "nids"));
        let content: Map<String, Value> = content.collect();
        for key in self.keys(body) {
            match self.store {
                Store::Etcd => drop(self.entries.insert(key, content.clone())),
                Store::Postgres => {
                    let entry = self.entries.entry(key).or_default();
                    for key in ["kernel", "initrd", "params"] {
                        if let Some(value) = content.get(key).filter(|value| **value != "") {
                            entry.insert(key.to_owned(), value.clone());
                        }
                    }
                }
            }
        }
        Reaction::Respond(200, String::new())
    }

    fn delete(&mut self, body: &Value) -> Reaction {
        for key in self.keys(body) {
            if self.entries.remove(&key).is_none() && self.store == Store::Etcd {
                return problem(400, &format!("Key {key} deletion: Key /params/{key} does not exist"));
            }
        }
        Reaction::Respond(200, String::new())
    }
}

/// Combines nodes with the same content into one entry, as in answers with PostgreSQL.
fn compact(entries: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let mut alike: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for mut entry in entries {
        let names = ["hosts", "macs"].map(|key| (key, entry.remove(key)));
        let entry = alike.entry(Value::Object(entry.clone()).to_string()).or_insert(entry);
        for (key, names) in names {
            let list = entry.entry(key).or_insert_with(|| json!([])).as_array_mut().unwrap();
            list.extend(names.iter().flat_map(|names| names.as_array().unwrap().clone()));
        }
    }
    alike.into_values().collect()
}

pub(super) fn no_cloud_init() -> Value {
    let keys = ["pub_key_dsa", "pub_key_rsa", "pub_key_ecdsa", "instance_id", "hostname", "fqdn"];
    let phone_home: Map<String, Value> = keys.map(|key| (key.to_owned(), json!(""))).into_iter().collect();
    json!({ "meta-data": null, "user-data": null, "phone-home": phone_home })
}

pub(super) fn problem(status: u16, detail: &str) -> Reaction {
    Reaction::json(
        status,
        &json!({ "type": "about:blank", "title": "x", "detail": detail, "status": status }),
    )
}
