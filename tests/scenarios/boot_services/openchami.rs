//! OpenCHAMI's boot-service.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::server::{Request, no_such_page, serve};
use super::{XNAMES, manifest, running};
use crate::prelude::*;

pub(super) const CONFIG: &str = "[boot_service]\nurl = \"http://127.0.0.1:8081\"\n";

const PORT: u16 = 8081;
const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
const CONFIGURATIONS: &str = "/bootconfigurations";

/// OpenCHAMI's boot-service (v0.3.1): boot configurations, of which each node boots the one that matches it best.
#[derive(Clone)]
struct BootService {
    configurations: Arc<Mutex<Vec<Value>>>,
    /// The boot server's directory.
    served: PathBuf,
}

impl BootService {
    /// Starts it with one configuration, for the group of both nodes.
    fn start(site: &Site, kernel: &str) -> BootService {
        let served = site.cluster.controller().root().join(BOOT_DIRECTORY.trim_start_matches('/'));
        let service = BootService { configurations: Arc::default(), served };
        let spec = json!({ "groups": ["compute"], "profile": "compute", "kernel": kernel, "priority": 50 });
        service.create(&json!({ "metadata": { "name": "compute" }, "spec": spec }));
        let answering = service.clone();
        serve(site, PORT, move |request| answering.answer(request));
        service
    }

    fn answer(&self, request: &Request) -> (u16, Value) {
        match (request.method.as_str(), request.path.as_str()) {
            ("get", "/nodes") => (200, json!([node(0), node(1)])),
            ("get", CONFIGURATIONS) => (200, json!(self.all())),
            ("post", CONFIGURATIONS) => (201, self.create(&request.body)),
            (method, path) => {
                let uid = path.strip_prefix(CONFIGURATIONS).map(|uid| uid.trim_start_matches('/'));
                uid.map_or_else(no_such_page, |uid| self.change(method, uid, &request.body))
            }
        }
    }

    fn create(&self, body: &Value) -> Value {
        let mut configurations = self.configurations.lock().unwrap();
        let last = configurations.last().and_then(|one| one["metadata"]["uid"].as_str()?.parse().ok());
        let uid = (last.unwrap_or(0_u32) + 1).to_string();
        let metadata = json!({ "name": body["metadata"]["name"], "uid": uid });
        let one = json!({ "kind": "BootConfiguration", "metadata": metadata, "spec": body["spec"] });
        configurations.push(one.clone());
        self.serve_files(&configurations);
        one
    }

    fn change(&self, method: &str, uid: &str, body: &Value) -> (u16, Value) {
        let mut configurations = self.configurations.lock().unwrap();
        let found = configurations.iter().position(|one| one["metadata"]["uid"] == uid);
        let Some(index) = found else { return no_such_page() };
        if method == "delete" {
            configurations.remove(index);
        } else {
            configurations[index]["spec"] = body["spec"].clone();
        }
        self.serve_files(&configurations);
        (200, Value::Null)
    }

    /// Has each node boot the kernel of the configuration that matches it best (`calculateConfigScore`).
    fn serve_files(&self, configurations: &[Value]) {
        for index in 0..XNAMES.len() {
            let node = &node(index)["spec"];
            let score = |one: &&Value| {
                let has = |key: &str, value: &Value| {
                    one["spec"][key].as_array().is_some_and(|list| list.contains(value))
                };
                let points = [
                    (100, has("macs", &node["bootMac"])),
                    (75, has("nids", &node["nid"])),
                    (50, has("hosts", &node["xname"])),
                    (25, has("groups", &node["groups"][0])),
                ];
                let score: u32 = points.iter().filter(|(_, is_so)| *is_so).map(|(points, _)| points).sum();
                (score, one["spec"]["priority"].as_u64())
            };
            let best = configurations.iter().max_by_key(score).unwrap();
            let kernel = best["spec"]["kernel"].as_str().unwrap().trim_start_matches('/');
            let file = self.served.join(format!("cn0{}.boot", index + 1));
            std::fs::write(file, format!("boot {kernel}\n")).unwrap();
        }
    }

    fn all(&self) -> Vec<Value> {
        self.configurations.lock().unwrap().clone()
    }
}

fn node(index: usize) -> Value {
    json!({
        "kind": "Node", "metadata": { "name": XNAMES[index], "uid": format!("node-{index}") },
        "spec": { "xname": XNAMES[index], "nid": index + 1, "bootMac": MACS[index], "groups": ["compute"] },
    })
}

/// Two nodes that boot image 2 share a configuration. One of them goes back to it from another image, and then both get
/// configurations of their own.
pub(super) fn check(cases: &Cases, site: &Site) {
    let service = &BootService::start(site, "/compute-2");
    cases.check("one goes back to the configuration of its group", || goes_back_to_its_group(site, service));
    cases.check("both get configurations of their own", || both_get_their_own(site, service));
}

fn roll_out(site: &Site, version: &str, nodes: &str) -> String {
    let name = format!("openchami-{version}");
    let kernel = format!("/compute-{version}");
    site.stage(manifest("boot-service", version, nodes).named(&name).value("kernel", &kernel)).unwrap();
    site.reboot(nodes).unwrap();
    name
}

fn goes_back_to_its_group(site: &Site, service: &BootService) {
    let (before, (_, boots)) = (service.all(), running(site, "cn01"));
    let name = roll_out(site, "4", "cn01");
    let note = site.wait_phase(&name, "cn01", "rolled-back").unwrap();
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(site, "cn01"), ("2".to_owned(), boots + 2));
    assert_eq!(service.all(), before);
}

fn both_get_their_own(site: &Site, service: &BootService) {
    let (before, nodes) = (service.all(), ["cn01", "cn02"]);
    let boots = nodes.map(|node| running(site, node).1);
    let name = roll_out(site, "1", "cn[01-02]");
    for (node, boots) in nodes.into_iter().zip(boots) {
        site.wait_phase(&name, node, "updated").unwrap();
        assert_eq!(running(site, node), ("1".to_owned(), boots + 1));
    }
    site.wait_idle(&nodes, MINUTES).unwrap();
    let all = service.all();
    assert_eq!((&all[..1], all.len()), (&before[..], 3));
    for xname in XNAMES {
        let own = all.iter().find(|one| one["metadata"]["name"] == format!("slurm-rollout-{xname}")).unwrap();
        let spec = &own["spec"];
        assert_eq!((&spec["kernel"], &spec["profile"]), (&json!("/compute-1"), &json!("compute")), "{own}");
    }
}
