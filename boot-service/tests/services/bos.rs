//! Images via the Boot Orchestration Service, against a model of the published one: Cray-HPE/bos v2.50.0 at 889a207f
//! (`api/openapi.yaml.in`, `controllers/v2/components.py`). The real service is not run here.

use crate::server::{Authority, LONG, Reaction, Request, SHORT, Server, deadline, node, nodes, write, xname};
use boot_service::provider;
use rollout_control::boot::{BootNode, BootSource, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Fault = Box<dyn Fn(&mut Bos, &Request) -> Option<Reaction> + Send>;
type Shared = Arc<Mutex<Bos>>;

#[derive(Default)]
struct Bos {
    components: BTreeMap<String, Value>,
    /// Operations of sessions, by name.
    sessions: BTreeMap<String, &'static str>,
    /// Option `clear_stage` of BOS.
    clears: bool,
    fault: Option<Fault>,
    /// Number of reboots of each node.
    reboots: BTreeMap<String, usize>,
}

fn artifacts(image: &str) -> Value {
    let empty = image.is_empty();
    let path = |file: &str| if empty { String::new() } else { format!("s3://boot-images/{image}/{file}") };
    json!({ "kernel": path("kernel"), "initrd": path("initrd"), "kernel_parameters": path("rootfs") })
}

/// Returns an idle node with a staged session.
fn component(xname: &str) -> Value {
    json!({
        "id": xname, "enabled": false, "session": "before", "error": "", "retry_policy": 3,
        "actual_state": { "boot_artifacts": artifacts("1"), "bss_token": "t", "last_updated": "2026-01-01T00:00:00Z" },
        "desired_state": { "boot_artifacts": artifacts("1"), "configuration": "c1", "bss_token": "t",
                           "last_updated": "2026-01-01T00:00:00Z" },
        "staged_state": { "boot_artifacts": artifacts("2"), "configuration": "c2", "session": "next" },
        "last_action": { "action": "powering_on", "failed": false }, "event_stats": {},
        "status": { "phase": "", "status": "stable", "status_override": "" },
    })
}

impl Bos {
    fn start(count: usize) -> (Server, Shared) {
        let components = (1..=count).map(|n| (xname(n), component(&xname(n)))).collect();
        let sessions = [("next".to_owned(), "reboot")].into();
        let shared = Arc::new(Mutex::new(Self { components, sessions, ..Self::default() }));
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
        let missing = || problem(404, "The resource was not found", "x could not be found");
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v2/components") => {
                if request.query.len() > "ids=".len() + 127 {
                    return problem(400, "Bad Request", "Parameter ids is too long");
                }
                let ids = request.list("ids");
                let found: Vec<&Value> = ids.iter().filter_map(|id| self.components.get(id)).collect();
                Reaction::json(200, &json!(found))
            }
            ("POST", "/v2/applystaged") => self.apply(&request.body),
            (method, path) => match (method, path.rsplit_once('/').unwrap()) {
                ("GET", ("/v2/sessions", name)) => {
                    self.sessions.get(name).map_or_else(missing, |operation| {
                        Reaction::json(200, &json!({ "name": name, "operation": operation, "stage": true }))
                    })
                }
                ("PATCH", ("/v2/components", id)) => self.patch(id, &request.body).unwrap_or_else(missing),
                _ => Reaction::Respond(404, "404 page not found\n".to_owned()),
            },
        }
    }

    fn apply(&mut self, body: &Value) -> Reaction {
        let mut answer = json!({ "succeeded": [], "failed": [], "ignored": [] });
        for id in body["xnames"].as_array().unwrap() {
            let xname = id.as_str().unwrap();
            let session =
                self.components.get(xname).map(|component| component["staged_state"]["session"].clone());
            let list = match session.as_ref().and_then(Value::as_str) {
                None | Some("") => "ignored",
                Some(session) => {
                    let known = self.sessions.contains_key(session);
                    let component = self.components.get_mut(xname).unwrap();
                    component["session"] = json!(session);
                    component["enabled"] = json!(known);
                    if known {
                        component["desired_state"] = json!({
                            "boot_artifacts": component["staged_state"]["boot_artifacts"],
                            "configuration": component["staged_state"]["configuration"],
                        });
                        *self.reboots.entry(xname.to_owned()).or_default() += 1;
                    }
                    if self.clears {
                        component["staged_state"] =
                            json!({ "boot_artifacts": artifacts(""), "configuration": "" });
                    }
                    if known { "succeeded" } else { "failed" }
                }
            };
            answer[list].as_array_mut().unwrap().push(id.clone());
        }
        Reaction::json(200, &answer)
    }

    fn patch(&mut self, id: &str, body: &Value) -> Option<Reaction> {
        fn merge(into: &mut Value, from: &Value) {
            for (key, value) in from.as_object().unwrap() {
                match value {
                    Value::Object(_) => merge(&mut into[key], value),
                    _ => into[key] = value.clone(),
                }
            }
        }
        let component = self.components.get_mut(id)?;
        merge(component, body);
        component["session"] = json!("");
        if body["enabled"] == true {
            *self.reboots.entry(id.to_owned()).or_default() += 1;
        }
        Some(Reaction::json(200, component))
    }

    /// Finishes the work of BOS on all nodes.
    fn finish(&mut self) {
        self.components.values_mut().for_each(|component| component["enabled"] = json!(false));
    }

    fn desired(&self, n: usize) -> Value {
        self.components[&xname(n)]["desired_state"]["boot_artifacts"].clone()
    }
}

fn problem(status: u16, title: &str, detail: &str) -> Reaction {
    Reaction::json(
        status,
        &json!({ "type": "about:blank", "title": title, "detail": detail, "status": status }),
    )
}

fn with(config: ServiceConfig) -> Box<dyn BootSource> {
    provider("bos", config).unwrap()
}

fn image() -> Image {
    toml::from_str("via = 'bos'\nimage = 'compute'\nversion = '2'").unwrap()
}

fn back(nodes: &[BootNode], saved: &BTreeMap<String, Saved>) -> Vec<(BootNode, Saved)> {
    nodes.iter().map(|node| (node.clone(), saved[&node.name].clone())).collect()
}

fn read(source: &dyn BootSource, nodes: &[BootNode]) -> BTreeMap<String, Saved> {
    source.read(nodes, deadline()).into_iter().map(|(name, saved)| (name, saved.unwrap())).collect()
}

#[test]
fn what_is_staged_is_begun_and_the_old_state_is_put_back() {
    for clears in [false, true] {
        let nodes = nodes(250);
        let (server, bos) = Bos::start(250);
        bos.lock().unwrap().clears = clears;
        let source = with(server.config());
        assert_eq!(source.check(&image(), &nodes, deadline()), Ok(vec![]));
        let saved = read(&*source, &nodes);
        assert_eq!(saved["cn01"], json!({ "boot_artifacts": artifacts("1"), "configuration": "c1" }));
        assert_eq!(server.count("POST") + server.count("PATCH"), 0);

        let outcomes = source.set(&image(), &nodes, deadline());
        assert!(outcomes.len() == 250 && outcomes.values().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(server.count("POST"), 3, "100 nodes in a request");
        assert!((1..=250).all(|n| bos.lock().unwrap().desired(n) == artifacts("2")));
        // A second call while BOS is working on the nodes does not reboot them again.
        let again = source.set(&image(), &nodes, deadline());
        assert_eq!(again.values().all(Result::is_ok), !clears);
        assert!(bos.lock().unwrap().reboots.values().all(|count| *count == 1));

        bos.lock().unwrap().finish();
        for _ in 0..2 {
            let outcomes = source.put_back(&back(&nodes, &saved), deadline());
            assert!(outcomes.len() == 250 && outcomes.values().all(Result::is_ok), "{outcomes:?}");
            assert_eq!(read(&*source, &nodes), saved);
            assert!(bos.lock().unwrap().reboots.values().all(|count| *count == 2), "BOS reboots them once");
        }
    }
}

#[test]
fn what_is_not_staged_well_is_refused_beforehand() {
    let (server, bos) = Bos::start(3);
    let source = with(server.config());
    let check = |expected: &str, set: &str| {
        let why = source.check(&image(), &nodes(3), deadline()).unwrap_err();
        assert!(why.contains("cn02: ") && why.contains(expected), "{expected}: {why}");
        let mut outcomes = source.set(&image(), &nodes(3), deadline());
        let why = outcomes.remove("cn02").unwrap().unwrap_err();
        assert!(why.contains(set), "{set}: {why}");
        assert!(outcomes.values().all(Result::is_ok), "{outcomes:?}");
        bos.lock().unwrap().finish();
    };
    let put = |pointer: &str, value: &str| {
        let mut bos = bos.lock().unwrap();
        bos.components.insert(xname(2), component(&xname(2)));
        *bos.components.get_mut(&xname(2)).unwrap().pointer_mut(pointer).unwrap() = json!(value);
    };
    put("/staged_state/session", "");
    let command = "`cray bos sessions create --stage true --operation reboot --template-name TEMPLATE --limit x1000c0s0b0n2`";
    check(command, "nothing is staged in BOS");
    put("/staged_state/boot_artifacts/initrd", "");
    check("has no initrd", "has no initrd");
    put("/staged_state/session", "gone");
    check("session gone does not exist any more", "BOS failed to begin");
    bos.lock().unwrap().components.remove(&xname(2));
    check("BOS does not know x1000c0s0b0n2", "BOS does not know");

    put("/session", "other");
    bos.lock().unwrap().sessions.insert("next".to_owned(), "shutdown");
    let why = source.check(&image(), &nodes(3), deadline()).unwrap_err();
    assert!(why.contains("session next is to shutdown; stage one with --operation reboot"), "{why}");
    put("/staged_state/session", "../options");
    assert!(source.check(&image(), &nodes(3), deadline()).unwrap_err().contains("no name of a BOS session"));

    put("/session", "other");
    let mut guard = bos.lock().unwrap();
    guard.sessions.insert("next".to_owned(), "reboot");
    guard.components.get_mut(&xname(2)).unwrap()["enabled"] = json!(true);
    drop(guard);
    let doubts = source.check(&image(), &nodes(3), deadline()).unwrap();
    assert_eq!(doubts, ["cn02: BOS is busy with x1000c0s0b0n2 (session other)"]);
    let nameless = [node("cn01", &[("mac", "02:00:00:00:00:01")])];
    assert!(
        source
            .check(&image(), &nameless, deadline())
            .unwrap_err()
            .contains("knows nodes by xname: write one below [cn01]")
    );
    assert!(source.set(&image(), &nameless, deadline())["cn01"].clone().unwrap_err().contains("[cn01]"));
}

#[test]
fn only_what_it_says_succeeded_did() {
    let (server, bos) = Bos::start(4);
    let source = with(server.config());
    bos.lock().unwrap().fault = Some(Box::new(|_, request| {
        let answer =
            json!({ "succeeded": [xname(1), xname(3)], "failed": [xname(2), xname(3)], "ignored": [] });
        (request.method == "POST").then(|| Reaction::json(200, &answer))
    }));
    let outcomes = source.set(&image(), &nodes(4), deadline());
    assert_eq!(outcomes["cn01"], Ok(()));
    for (name, expected) in
        [("cn02", "BOS failed to begin"), ("cn03", "BOS failed to begin"), ("cn04", "said nothing of it")]
    {
        assert!(outcomes[name].clone().unwrap_err().contains(expected), "{outcomes:?}");
    }
    // The staged session is removed between our check and `applystaged`.
    bos.lock().unwrap().fault = Some(Box::new(|bos, request| {
        if request.method == "POST" {
            bos.components.get_mut(&xname(1)).unwrap()["staged_state"]["session"] = json!("");
        }
        None
    }));
    let outcomes = source.set(&image(), &nodes(4), deadline());
    assert!(outcomes["cn01"].clone().unwrap_err().contains("BOS ignored x1000c0s0b0n1"), "{outcomes:?}");
    assert!(outcomes["cn02"].is_ok());
}

/// A lost answer must neither lead to a second reboot nor count as a refusal.
#[test]
fn after_a_lost_answer_it_looks_what_bos_did() {
    for does in [true, false] {
        let (server, bos) = Bos::start(2);
        bos.lock().unwrap().clears = true;
        bos.lock().unwrap().fault = Some(Box::new(move |bos, request| {
            (request.method == "POST").then(|| {
                if does {
                    bos.apply(&request.body);
                }
                Reaction::SendRaw(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"succ".to_vec())
            })
        }));
        let outcomes = with(server.config()).set(&image(), &nodes(2), deadline());
        assert!(outcomes.values().all(|outcome| outcome.is_ok() == does), "{outcomes:?}");
        assert_eq!(server.count("POST"), 1);
        assert_eq!(bos.lock().unwrap().reboots.len(), if does { 2 } else { 0 });
    }
}

#[test]
fn putting_back_touches_only_what_was_changed() {
    let (server, bos) = Bos::start(4);
    let source = with(server.config());
    // The third node was not booted by BOS, and the image of the fourth is never set.
    bos.lock().unwrap().components.get_mut(&xname(3)).unwrap()["desired_state"]["boot_artifacts"] =
        artifacts("");
    let saved = read(&*source, &nodes(4));
    assert!(source.set(&image(), &nodes(3), deadline()).values().all(Result::is_ok));
    bos.lock().unwrap().fault = Some(Box::new(|_, request| {
        (request.path == "/v2/components/x1000c0s0b0n2").then(|| problem(500, "Error", "no database"))
    }));
    let outcomes = source.put_back(&back(&nodes(4), &saved), deadline());
    assert!(outcomes["cn01"].is_ok() && outcomes["cn04"].is_ok(), "{outcomes:?}");
    assert!(outcomes["cn02"].clone().unwrap_err().contains("HTTP 500: no database"));
    assert!(outcomes["cn03"].clone().unwrap_err().contains("not BOS that booted x1000c0s0b0n3 before"));
    let guard = bos.lock().unwrap();
    assert_eq!(guard.reboots, [(xname(1), 2), (xname(2), 1), (xname(3), 1)].into());
    assert_eq!(
        (guard.desired(1), guard.desired(3), guard.desired(4)),
        (artifacts("1"), artifacts("2"), artifacts("1"))
    );
    drop(guard);
    bos.lock().unwrap().fault = Some(Box::new(|bos, request| {
        (request.method == "PATCH").then(|| Reaction::json(200, &bos.components[&xname(2)]))
    }));
    let outcomes = source.put_back(&back(&nodes(2), &saved), deadline());
    assert!(
        outcomes["cn02"].clone().unwrap_err().contains("still shows another desired state"),
        "{outcomes:?}"
    );
}

#[test]
fn a_service_that_refuses_or_talks_nonsense_is_an_error_of_one_line() {
    type Answer = fn() -> Reaction;
    let answers: [(Answer, &str); 6] = [
        (
            || problem(401, "Unauthorized", "no token"),
            "HTTP 401: no token; it wants a token: set token_file in [bos]",
        ),
        (|| problem(400, "Bad\n\u{1b}[2J", ""), "HTTP 400"),
        (|| Reaction::Respond(404, "404 page not found\n".into()), "HTTP 404; is url in [bos] right?"),
        (|| Reaction::Respond(503, "no healthy upstream".into()), "HTTP 503"),
        (|| Reaction::Respond(200, "{}".into()), "not an answer of this service"),
        (|| Reaction::SendRaw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{".to_vec()), ""),
    ];
    for (answer, expected) in answers {
        let server = Server::start(None, move |_| answer());
        let source = with(server.config());
        let saved = [(nodes(1).remove(0), json!({}))];
        for why in [
            source.check(&image(), &nodes(1), deadline()).unwrap_err(),
            source.read(&nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.set(&image(), &nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.put_back(&saved, deadline())["cn01"].clone().unwrap_err(),
        ] {
            assert!(why.contains(expected), "{expected}: {why}");
            assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}");
        }
        assert_eq!(server.count("POST") + server.count("PATCH"), 0);
    }
}

#[test]
fn slow_ones_delay_no_others_and_all_ends_in_time() {
    let (server, bos) = Bos::start(150);
    // The service answers for the first 100 nodes and hangs for the remaining 50.
    let hangs = |_: &mut Bos, request: &Request| {
        (request.method == "POST" && request.body["xnames"].as_array().unwrap().len() == 50)
            .then_some(Reaction::Hang)
    };
    bos.lock().unwrap().fault = Some(Box::new(hangs));
    let begun = Instant::now();
    let outcomes = with(server.config()).set(&image(), &nodes(150), begun + SHORT * 5);
    assert!(begun.elapsed() < LONG);
    assert_eq!(outcomes.len(), 150);
    let late = outcomes.values().filter_map(|outcome| outcome.as_ref().err());
    assert_eq!(late.clone().count(), 50);
    assert!(late.clone().all(|why| why.contains("in time")), "{outcomes:?}");
    bos.lock().unwrap().fault = Some(Box::new(|_, _| Some(Reaction::Hang)));
    let source = with(server.config());
    let until = || Instant::now() + SHORT;
    assert!(source.check(&image(), &nodes(1), until()).unwrap_err().contains("in time"));
    assert!(source.read(&nodes(1), until())["cn01"].clone().unwrap_err().contains("in time"));
    let saved = [(nodes(1).remove(0), json!({}))];
    assert!(source.put_back(&saved, until())["cn01"].clone().unwrap_err().contains("in time"));
}

#[test]
fn it_is_spoken_to_over_tls_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = Server::start(Some(authority.server("DNS:localhost")), |request| {
        assert_eq!(request.path, "/apis/bos/v2/components");
        assert_eq!(request.token.as_deref(), Some("secret"));
        Reaction::json(200, &json!([component(&xname(1))]))
    });
    let config = ServiceConfig {
        url: format!("https://localhost:{}/apis/bos/", server.port),
        ca_file: Some(authority.file()),
        token_file: Some(write(&dir.path().join("token"), "secret\n")),
        ..server.config()
    };
    assert_eq!(read(&*with(config), &nodes(1)).len(), 1);
}
