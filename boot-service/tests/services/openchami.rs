//! Images via OpenCHAMI's boot-service, against a model of the published one: OpenCHAMI/boot-service v0.3.1 at 8d292221
//! (`cmd/server/bootconfiguration_handlers_generated.go`, `apis/boot.openchami.io/v1`,
//! `pkg/controllers/bootscript/controller.go`, `pkg/handlers/boot`). The real service is not run here.

use crate::server::{LONG, Reaction, Request, SHORT, Server, deadline, node, nodes, xname};
use boot_service::provider;
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Fault = Box<dyn Fn(&mut BootService, &Request) -> Option<Reaction> + Send>;
type Shared = Arc<Mutex<BootService>>;

#[derive(Default)]
struct BootService {
    nodes: Vec<Value>,
    configurations: Vec<Value>,
    created: usize,
    fault: Option<Fault>,
}

fn mac(n: usize) -> String {
    format!("02:00:00:00:00:{n:02x}")
}

impl BootService {
    /// Starts a service that knows this many nodes, all of the group `compute`.
    fn start(count: usize) -> (Server, Shared) {
        let nodes = (1..=count).map(|n| {
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": xname(n), "uid": format!("node-{n:08x}") },
                "spec": { "xname": xname(n), "nid": n, "bootMac": mac(n).to_uppercase(), "role": "Compute",
                          "hostname": format!("nid{n:06}"), "groups": ["compute"] },
                "status": { "state": "Ready" },
            })
        });
        let shared = Arc::new(Mutex::new(Self { nodes: nodes.collect(), ..Self::default() }));
        let mine = Arc::clone(&shared);
        (Server::start(None, move |request| mine.lock().unwrap().answer(request)), shared)
    }

    fn answer(&mut self, request: &Request) -> Reaction {
        if let Some(fault) = self.fault.take() {
            let reaction = fault(self, request);
            self.fault = Some(fault);
            if let Some(reaction) = reaction {
                return reaction;
            }
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/nodes") => Reaction::json(200, &json!(self.nodes)),
            ("GET", "/bootconfigurations") => Reaction::json(200, &json!(self.configurations)),
            ("POST", "/bootconfigurations") => self.create(&request.body),
            // The API of the Boot Script Service, if it is enabled.
            ("GET", "/boot/v1/bootparameters") => {
                Reaction::json(200, &json!({ "boot-parameters": [{ "hosts": [xname(1)], "kernel": "/k" }] }))
            }
            (method, path) => match path.strip_prefix("/bootconfigurations/") {
                Some(uid) => self.change(method, uid, &request.body),
                None => Reaction::Respond(404, "404 page not found\n".to_owned()),
            },
        }
    }

    fn create(&mut self, body: &Value) -> Reaction {
        let spec = match checked(&body["spec"]) {
            Ok(spec) => spec,
            Err(why) => return error(400, &why),
        };
        self.created += 1;
        let uid = format!("bootconfiguration-{:08x}", self.created);
        self.configurations.push(json!({
            "apiVersion": "v1", "kind": "BootConfiguration", "spec": spec, "status": {},
            "metadata": { "name": body["metadata"]["name"], "uid": uid },
        }));
        Reaction::json(201, self.configurations.last().unwrap())
    }

    fn change(&mut self, method: &str, uid: &str, body: &Value) -> Reaction {
        let found = self.configurations.iter().position(|one| one["metadata"]["uid"] == uid);
        let Some(index) = found else {
            return error(
                404,
                &format!("BootConfiguration not found: failed to load BootConfiguration {uid}"),
            );
        };
        match (method, checked(&body["spec"])) {
            ("DELETE", _) => {
                self.configurations.remove(index);
                Reaction::json(
                    200,
                    &json!({ "message": "BootConfiguration deleted successfully", "uid": uid }),
                )
            }
            ("PUT", Ok(spec)) => {
                self.configurations[index]["spec"] = spec;
                Reaction::json(200, &self.configurations[index])
            }
            ("PUT", Err(why)) => error(400, &why),
            _ => Reaction::Respond(405, String::new()),
        }
    }

    /// Adds a configuration as the site's admins do.
    fn add(&mut self, name: &str, spec: &Value) {
        let created = self.create(&json!({ "metadata": { "name": name }, "spec": spec }));
        assert!(matches!(created, Reaction::Respond(201, _)));
    }

    fn spec(&self, name: &str) -> Value {
        let found = self.configurations.iter().find(|one| one["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))["spec"].clone()
    }

    /// Returns the kernel that a node boots.
    fn boots(&self, n: usize) -> String {
        let node = &self.nodes[n - 1]["spec"];
        let score = |one: &Value| {
            let list = |key: &str| one["spec"][key].as_array().cloned().unwrap_or_default();
            let lower = |value: &Value| value.as_str().unwrap().to_lowercase();
            let count =
                |key: &str, is: &dyn Fn(&Value) -> bool| list(key).iter().filter(|value| is(value)).count();
            let score = 50
                * count("hosts", &|host| *host == node["xname"] || *host == "*" || *host == node["hostname"])
                + 100 * count("macs", &|mac| lower(mac) == lower(&node["bootMac"]))
                + 75 * count("nids", &|nid| *nid == node["nid"])
                + 25 * count("groups", &|group| node["groups"].as_array().unwrap().contains(group));
            let is_for_all = ["hosts", "macs", "nids", "groups"].iter().all(|key| list(key).is_empty());
            if is_for_all { 1 } else { score }
        };
        let mut matching: Vec<&Value> = self.configurations.iter().filter(|one| score(one) > 0).collect();
        matching.sort_by_key(|one| {
            let name = one["metadata"]["name"].as_str().unwrap().to_owned();
            (-(score(one) as i64), -one["spec"]["priority"].as_i64().unwrap_or(0), name)
        });
        matching.first().map_or("none".to_owned(), |one| one["spec"]["kernel"].as_str().unwrap().to_owned())
    }
}

/// Returns a specification as the service keeps it: without empty values, and only with the keys that it knows.
fn checked(spec: &Value) -> Result<Value, String> {
    const KEYS: [&str; 9] =
        ["hosts", "macs", "nids", "groups", "profile", "kernel", "initrd", "params", "priority"];
    let empty = Map::new();
    let spec = spec.as_object().unwrap_or(&empty);
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("");
    let is_file = |file: &str| file.starts_with("http") || file.starts_with('/');
    if text("kernel").is_empty() {
        return Err("validation failed: kernel field is required".to_owned());
    }
    if !is_file(text("kernel")) || (!text("initrd").is_empty() && !is_file(text("initrd"))) {
        return Err("validation failed: invalid kernel URL or path".to_owned());
    }
    if spec.get("priority").is_some_and(|priority| !(0..=100).contains(&priority.as_i64().unwrap())) {
        return Err("validation failed: priority must be between 0 and 100".to_owned());
    }
    let is_empty =
        |value: &Value| *value == json!("") || *value == json!([]) || *value == json!(0) || value.is_null();
    let kept = spec.iter().filter(|(key, value)| KEYS.contains(&key.as_str()) && !is_empty(value));
    Ok(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into())
}

fn error(status: u16, why: &str) -> Reaction {
    Reaction::json(status, &json!({ "error": why, "code": status }))
}

fn with(config: ServiceConfig) -> Box<dyn BootSource> {
    provider("boot_service", config).unwrap()
}

fn image(values: &str) -> Image {
    let text = format!("via = 'boot-service'\nimage = 'compute'\nversion = '2'\n[values]\n{values}");
    let image: Image = toml::from_str(&text).unwrap();
    assert_eq!(image.check(), Ok(()));
    image
}

fn image_2() -> Image {
    image("kernel = '/2/vmlinuz'\nparams = 'quiet'")
}

fn compute() -> Value {
    json!({ "groups": ["compute"], "profile": "compute", "kernel": "/1/vmlinuz", "initrd": "/1/initrd", "priority": 50 })
}

fn read(source: &dyn BootSource, nodes: &[BootNode]) -> BTreeMap<String, Saved> {
    source.read(nodes, deadline()).into_iter().map(|(name, saved)| (name, saved.unwrap())).collect()
}

fn back(nodes: &[BootNode], saved: &BTreeMap<String, Saved>) -> Vec<(BootNode, Saved)> {
    nodes.iter().map(|node| (node.clone(), saved[&node.name].clone())).collect()
}

fn assert_done(outcomes: &Outcomes<()>, count: usize) {
    assert!(outcomes.len() == count && outcomes.values().all(Result::is_ok), "{outcomes:?}");
}

fn writes(server: &Server) -> usize {
    ["POST", "PUT", "PATCH", "DELETE"].map(|method| server.count(method)).iter().sum()
}

#[test]
fn a_group_keeps_its_image() {
    let (server, service) = BootService::start(4);
    service.lock().unwrap().add("all", &json!({ "kernel": "/0/vmlinuz", "priority": 1 }));
    service.lock().unwrap().add("compute", &compute());
    let before = service.lock().unwrap().configurations.clone();
    let source = with(server.config());
    // By its address, and by its xname.
    let two = [node("cn01", &[("mac", &mac(1))]), nodes(2).remove(1)];
    assert_eq!(source.check(&image_2(), &two, deadline()), Ok(vec![]));
    let saved = read(&*source, &two);
    assert_eq!(saved.values().collect::<Vec<_>>(), [&Value::Null, &Value::Null]);
    assert_eq!(writes(&server), 0);
    for _ in 0..2 {
        assert_done(&source.set(&image_2(), &two, deadline()), 2);
        let kernels = [1, 2, 3, 4].map(|n| service.lock().unwrap().boots(n));
        assert_eq!(kernels, ["/2/vmlinuz", "/2/vmlinuz", "/1/vmlinuz", "/1/vmlinuz"]);
    }
    assert_eq!(writes(&server), 2, "nothing is written twice");
    let ours = service.lock().unwrap().spec("slurm-rollout-x1000c0s0b0n1");
    let expected = json!({
        "hosts": [xname(1)], "macs": [mac(1).to_uppercase()], "nids": [1], "profile": "compute", "priority": 100,
        "kernel": "/2/vmlinuz", "params": "quiet",
    });
    assert_eq!(ours, expected);
    assert_eq!(service.lock().unwrap().configurations[..2], before);
    for _ in 0..2 {
        assert_done(&source.put_back(&back(&two, &saved), deadline()), 2);
        assert_eq!(service.lock().unwrap().configurations, before);
    }
}

#[test]
fn what_is_for_one_node_alone_is_changed_itself() {
    // The second name is one that an earlier rollout gave.
    for name in ["cn01", "slurm-rollout-x1000c0s0b0n1"] {
        let (server, service) = BootService::start(2);
        let own = |kernel: &str, key: &str, value: &str| json!({ "macs": [mac(1)], "kernel": kernel, key: value, "priority": 7, "profile": "p" });
        let (old, new) = (own("/1/vmlinuz", "initrd", "/1/initrd"), own("/2/vmlinuz", "params", "quiet"));
        service.lock().unwrap().add("compute", &compute());
        service.lock().unwrap().add(name, &old);
        let source = with(server.config());
        let saved = read(&*source, &nodes(1));
        assert_eq!(saved["cn01"]["spec"], old);
        assert_done(&source.set(&image_2(), &nodes(1), deadline()), 1);
        assert_eq!(service.lock().unwrap().spec(name), new);
        assert_eq!(read(&*source, &nodes(1))["cn01"]["spec"], new);
        assert_done(&source.put_back(&back(&nodes(1), &saved), deadline()), 1);
        assert_eq!(service.lock().unwrap().spec(name), old);
        // Somebody removes it.
        service.lock().unwrap().configurations.remove(1);
        for _ in 0..2 {
            assert_done(&source.put_back(&back(&nodes(1), &saved), deadline()), 1);
            assert_eq!(service.lock().unwrap().spec(name), old);
        }
        assert_eq!((server.count("POST"), service.lock().unwrap().spec("compute")), (1, compute()));
    }
}

#[test]
fn what_has_become_common_to_nodes_is_not_put_back() {
    let (server, service) = BootService::start(2);
    service.lock().unwrap().add("cn01", &json!({ "hosts": [xname(1)], "kernel": "/1/vmlinuz" }));
    let source = with(server.config());
    let saved = read(&*source, &nodes(1));
    assert_done(&source.set(&image_2(), &nodes(1), deadline()), 1);
    service.lock().unwrap().configurations[0]["spec"]["hosts"] = json!([xname(1), xname(2)]);
    let why = source.put_back(&back(&nodes(1), &saved), deadline())["cn01"].clone().unwrap_err();
    assert!(why.contains("\"cn01\" is for other nodes too by now"), "{why}");
    assert_eq!(service.lock().unwrap().boots(2), "/2/vmlinuz");
}

#[test]
fn what_cannot_work_is_refused_beforehand() {
    let (server, service) = BootService::start(2);
    let source = with(server.config());
    let refused = |image: &Image, nodes: &[BootNode], expected: &str| {
        let why = source.check(image, nodes, deadline()).unwrap_err();
        assert!(why.contains(expected), "{expected}: {why}");
    };
    refused(&image("kernel = 's3://k'"), &nodes(1), "takes http and https URLs and absolute paths");
    refused(&image_2(), &nodes(3), "cn03: OpenCHAMI's boot-service knows no node x1000c0s0b0n3");
    refused(&image_2(), &[node("cn01", &[])], "write one below [cn01]");
    refused(&image_2(), &[node("cn01", &[("mac", "1")])], "write it as 52:54:00:12:34:56");
    let same = [node("cn01", &[("mac", &mac(1))]), node("cn02", &[("xname", &xname(1))])];
    refused(&image_2(), &same, "cn01 and cn02 are both x1000c0s0b0n1");
    let doubts = source.check(&image_2(), &nodes(2), deadline()).unwrap();
    assert!(
        doubts.len() == 1 && doubts[0].contains("no boot configuration for 2 of these nodes"),
        "{doubts:?}"
    );
    // A list of two nodes, by all their names and their group.
    let both = json!({
        "hosts": [xname(1), xname(2)], "macs": [mac(1), mac(2)], "nids": [1, 2], "groups": ["compute"],
        "kernel": "/1/vmlinuz",
    });
    service.lock().unwrap().add("both", &both);
    refused(&image_2(), &nodes(1), "\"both\" is for other nodes too, and matches x1000c0s0b0n1 better");
    let why = source.set(&image_2(), &nodes(1), deadline())["cn01"].clone().unwrap_err();
    assert!(why.contains("lower its priority"), "{why}");
    assert_eq!((writes(&server), service.lock().unwrap().spec("both")), (0, both));
}

#[test]
fn after_a_lost_answer_it_looks_what_the_service_did() {
    for does in [true, false] {
        let (server, service) = BootService::start(1);
        service.lock().unwrap().fault = Some(Box::new(move |service, request| {
            (request.method == "POST").then(|| {
                if does {
                    service.create(&request.body);
                }
                Reaction::SendRaw(b"HTTP/1.1 201 x\r\nContent-Length: 90\r\n\r\n{\"api".to_vec())
            })
        }));
        let outcomes = with(server.config()).set(&image_2(), &nodes(1), deadline());
        assert_eq!(outcomes["cn01"].is_ok(), does, "{outcomes:?}");
        assert_eq!(server.count("POST"), 1);
    }
}

#[test]
fn what_the_service_does_not_show_is_not_done() {
    let (server, service) = BootService::start(2);
    service.lock().unwrap().fault =
        Some(Box::new(|_, request| match request.body["metadata"]["name"].as_str() {
            Some("slurm-rollout-x1000c0s0b0n1") => Some(Reaction::json(201, &json!({}))),
            _ => None,
        }));
    let outcomes = with(server.config()).set(&image_2(), &nodes(2), deadline());
    let why = outcomes["cn01"].clone().unwrap_err();
    assert!(why.contains("still shows another boot configuration for x1000c0s0b0n1"), "{why}");
    assert_eq!(outcomes["cn02"], Ok(()));
}

#[test]
fn a_service_that_refuses_or_talks_nonsense_is_an_error_of_one_line() {
    type Answer = fn() -> Reaction;
    let answers: [(Answer, &str); 5] = [
        (|| error(401, "no token"), "HTTP 401: no token; it wants a token: set token_file in [boot_service]"),
        (|| error(500, "failed to load\n\u{1b}[2J"), "HTTP 500: failed to load [2J"),
        (
            || Reaction::Respond(404, "404 page not found\n".into()),
            "HTTP 404; is url in [boot_service] right?",
        ),
        (|| Reaction::Respond(200, "{}".into()), "not an answer of this service"),
        (|| Reaction::SendRaw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{".to_vec()), ""),
    ];
    for (answer, expected) in answers {
        let server = Server::start(None, move |_| answer());
        let source = with(server.config());
        let saved = [(nodes(1).remove(0), Value::Null)];
        for why in [
            source.check(&image_2(), &nodes(1), deadline()).unwrap_err(),
            source.read(&nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.set(&image_2(), &nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.put_back(&saved, deadline())["cn01"].clone().unwrap_err(),
        ] {
            assert!(why.contains(expected), "{expected}: {why}");
            assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}");
        }
        assert_eq!(writes(&server), 0);
    }
}

#[test]
fn slow_ones_delay_no_others_and_all_ends_in_time() {
    let (server, service) = BootService::start(30);
    service.lock().unwrap().fault = Some(Box::new(|_, request| {
        (request.body["metadata"]["name"] == "slurm-rollout-x1000c0s0b0n1").then_some(Reaction::Hang)
    }));
    let begun = Instant::now();
    let mut config = server.config();
    config.time_limit = rollout_core::time_limit::TimeLimit::from_secs(10);
    let outcomes = with(config).set(&image_2(), &nodes(30), begun + LONG);
    let late: Vec<&String> =
        outcomes.iter().filter(|(_, done)| done.is_err()).map(|(name, _)| name).collect();
    assert_eq!(late, ["cn01"], "{outcomes:?}");
    service.lock().unwrap().fault = Some(Box::new(|_, _| Some(Reaction::Hang)));
    let source = with(server.config());
    let until = || Instant::now() + SHORT;
    assert!(source.check(&image_2(), &nodes(1), until()).unwrap_err().contains("in time"));
    assert!(source.read(&nodes(1), until())["cn01"].clone().unwrap_err().contains("in time"));
    let saved = [(nodes(1).remove(0), Value::Null)];
    assert!(source.put_back(&saved, until())["cn01"].clone().unwrap_err().contains("in time"));
}

/// Its PUT below `/boot/v1` changes the first configuration that matches, of however many nodes that is.
#[test]
fn it_is_not_taken_for_the_boot_script_service() {
    let (server, service) = BootService::start(4);
    service.lock().unwrap().add("compute", &compute());
    let source = provider("bss", server.config()).unwrap();
    let saved = [(nodes(1).remove(0), Value::Null)];
    for why in [
        source.check(&image_2(), &nodes(1), deadline()).unwrap_err(),
        source.read(&nodes(1), deadline())["cn01"].clone().unwrap_err(),
        source.set(&image_2(), &nodes(1), deadline())["cn01"].clone().unwrap_err(),
        source.put_back(&saved, deadline())["cn01"].clone().unwrap_err(),
    ] {
        assert!(why.contains("write via = \"boot-service\""), "{why}");
    }
    assert_eq!(writes(&server), 0);
}
