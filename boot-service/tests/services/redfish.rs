//! Redfish: management controllers that are wrong, broken or hostile.

use crate::server::{Authority, LONG, Reaction, Request, SHORT, Server};
use rollout_host::run::Program;
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

const PASSWORD: &str = "Tr0ub4dor-and-3";

/// `admin` with this password, as HTTP has it.
const BASIC: &str = "Basic YWRtaW46VHIwdWI0ZG9yLWFuZC0z";

const SYSTEM: &str = "/redfish/v1/Systems/437XR1138R2";

/// Asks the program. Returns its answer and all that it wrote.
fn run(verb: &str, question: &Value) -> Value {
    let program = Program::new(env!("CARGO_BIN_EXE_boot-service"), LONG).args(["redfish", verb]);
    let output = program.stdin(question.to_string()).run().unwrap();
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(!said.contains(BASIC) && !said.contains(PASSWORD), "{said}");
    serde_json::from_str(&output.stdout).unwrap()
}

fn question(authority: &Authority, port: u16) -> Value {
    json!({
        "within_ms": LONG.as_millis(), "address": format!("localhost:{port}"), "ca_file": authority.file(),
        "credentials": { "user": "admin", "password": PASSWORD },
    })
}

fn start(authority: &Authority, answer: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Server {
    Server::start(Some(authority.server("DNS:localhost")), answer)
}

/// Answers as a controller with one system.
fn controller(system: Value) -> impl Fn(&Request) -> Reaction {
    move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/redfish/v1/Systems") => {
            Reaction::json(200, &json!({ "Members": [{ "@odata.id": SYSTEM }] }))
        }
        ("GET", SYSTEM) => Reaction::json(200, &system),
        ("POST", _) => Reaction::Respond(204, String::new()),
        _ => Reaction::json(404, &json!({})),
    }
}

fn error(answer: &Value) -> String {
    assert!(answer.get("power").is_none(), "{answer}");
    answer["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_reset_goes_to_its_target_with_a_value_that_is_allowed() {
    let authority = Authority::new();
    let target = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
    let action = |values: Value| {
        let action = json!({ "target": target, "ResetType@Redfish.AllowableValues": values });
        json!({ "PowerState": "On", "Actions": { "#ComputerSystem.Reset": action } })
    };
    for (verb, system, sent) in [
        ("on", action(json!(["ForceOff", "On"])), Ok("On")),
        ("on", action(json!(["ForceOff", "ForceOn"])), Ok("ForceOn")),
        ("off", action(json!(["ForceOff", "On"])), Ok("ForceOff")),
        ("soft-off", action(json!(["ForceOff", "GracefulShutdown"])), Ok("GracefulShutdown")),
        (
            "soft-off",
            action(json!(["ForceOff", "On"])),
            Err("cannot be switched soft-off: it offers ForceOff, On"),
        ),
        // Older controllers list nothing.
        ("off", json!({ "PowerState": "On" }), Ok("ForceOff")),
    ] {
        let server = start(&authority, controller(system.clone()));
        let answer = run(verb, &question(&authority, server.port));
        let requests = server.requests.lock().unwrap();
        assert!(requests.iter().all(|request| request.authorization.as_deref() == Some(BASIC)));
        let posted: Vec<_> = requests.iter().filter(|request| request.method == "POST").collect();
        match sent {
            Ok(value) => {
                assert_eq!((answer, posted.len()), (json!({}), 1), "{verb} {system}");
                assert_eq!((&posted[0].path, &posted[0].body), (&target, &json!({ "ResetType": value })));
            }
            Err(why) => {
                assert!(error(&answer).contains(why) && posted.is_empty(), "{answer}");
            }
        }
    }
}

#[test]
fn the_state_is_that_of_the_only_system_or_of_the_one_in_the_table() {
    let authority = Authority::new();
    let members = json!({ "Members": [{ "@odata.id": "/redfish/v1/Systems/a" }, { "@odata.id": "/redfish/v1/Systems/b" }] });
    let server = start(&authority, move |request| match request.path.as_str() {
        "/redfish/v1/Systems" => Reaction::json(200, &members),
        "/redfish/v1/Systems/b" => Reaction::json(200, &json!({ "PowerState": "Off" })),
        _ => Reaction::json(404, &json!({ "error": { "message": "no such thing" } })),
    });
    let mut question = question(&authority, server.port);
    let why = error(&run("off", &question));
    assert!(
        why.contains("it has 2 systems") && why.contains("/redfish/v1/Systems/a, /redfish/v1/Systems/b"),
        "{why}"
    );
    assert_eq!(server.count("POST"), 0);
    question["system"] = json!("/redfish/v1/Systems/b");
    assert_eq!(run("status", &question), json!({ "power": "off" }));
    question["system"] = json!("/redfish/v1/Systems/c");
    let why = error(&run("status", &question));
    assert!(why.contains("HTTP 404: no such thing; has its controller Redfish?"), "{why}");
}

#[test]
fn nothing_that_a_controller_says_leads_elsewhere() {
    let authority = Authority::new();
    for member in
        ["@elsewhere.example/redfish/v1", "https://elsewhere.example/redfish/v1", "/redfish/../x", "/x"]
    {
        let server =
            start(&authority, move |_| Reaction::json(200, &json!({ "Members": [{ "@odata.id": member }] })));
        let why = error(&run("status", &question(&authority, server.port)));
        assert!(why.contains("its system has no path"), "{member}: {why}");
    }
    for target in ["@elsewhere.example/", "https://elsewhere.example/", ".elsewhere.example/redfish/"] {
        let system =
            json!({ "PowerState": "On", "Actions": { "#ComputerSystem.Reset": { "target": target } } });
        let server = start(&authority, controller(system));
        let why = error(&run("off", &question(&authority, server.port)));
        assert!(why.contains("the target of its reset is no path"), "{target}: {why}");
        assert_eq!(server.count("POST"), 0);
    }
    let redirect = b"HTTP/1.1 302 x\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n";
    let server = start(&authority, |_| Reaction::SendRaw(redirect.to_vec()));
    assert!(error(&run("status", &question(&authority, server.port))).contains("HTTP 302"));
}

#[test]
fn a_certificate_of_another_authority_or_name_ends_it_before_the_password_is_sent() {
    let (authority, other) = (Authority::new(), Authority::new());
    let on = || controller(json!({ "PowerState": "On" }));
    let server = Server::start(Some(other.server("DNS:localhost")), on());
    let why = error(&run("status", &question(&authority, server.port)));
    assert!(why.contains("the authority of its certificate is not in"), "{why}");
    assert_eq!(server.requests.lock().unwrap().len(), 0);
    let server = Server::start(Some(authority.server("DNS:cn2-bmc")), on());
    let why = error(&run("off", &question(&authority, server.port)));
    assert!(why.contains("certificate") && why.contains("localhost"), "{why}");
    assert_eq!(server.requests.lock().unwrap().len(), 0);
    let mut question = question(&authority, server.port);
    question.as_object_mut().unwrap().remove("ca_file");
    let why = error(&run("status", &question));
    assert!(why.contains("set ca_file in [[power]]"), "{why}");
    // A server without TLS gets nothing either.
    let plain = Server::start(None, on());
    question["address"] = json!(format!("localhost:{}", plain.port));
    question["within_ms"] = json!(SHORT.as_millis());
    error(&run("status", &question));
    assert_eq!(plain.requests.lock().unwrap().len(), 0);
}

#[test]
fn answers_without_end_or_sense_are_errors() {
    let authority = Authority::new();
    let huge = b"HTTP/1.1 200 x\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    let huge = [huge, vec![b' '; 17 * 1024 * 1024]].concat();
    let head = [b"HTTP/1.1 200 x\r\nX: ".to_vec(), vec![b'x'; 4 * 1024 * 1024]].concat();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for reaction in [
        Reaction::SendRaw(huge),
        Reaction::SendRaw(head),
        Reaction::SendRaw(b"\xff\x00garbage\r\n\r\n".to_vec()),
        Reaction::SendRaw(Vec::new()),
        Reaction::Respond(200, deep),
        Reaction::Respond(200, "<html>login</html>".to_owned()),
        Reaction::Respond(200, "{}".to_owned()),
        Reaction::Respond(200, "{\"Members\": {}}".to_owned()),
        Reaction::Respond(200, "{\"Members\": [7]}".to_owned()),
        Reaction::Respond(500, format!("{{\"error\": {{\"message\": \"{}\"}}}}", "x".repeat(1_000_000))),
    ] {
        let reaction = Arc::new(reaction);
        let server = start(&authority, move |_| match &*reaction {
            Reaction::Respond(status, body) => Reaction::Respond(*status, body.clone()),
            Reaction::SendRaw(bytes) => Reaction::SendRaw(bytes.clone()),
            Reaction::Hang => Reaction::Hang,
        });
        let why = error(&run("status", &question(&authority, server.port)));
        assert!(why.chars().count() < 1000, "{why}");
    }
}

#[test]
fn a_wrong_password_is_an_error_without_it() {
    let authority = Authority::new();
    let server = start(&authority, |_| {
        let message = json!({ "Message": "Access denied." });
        Reaction::json(401, &json!({ "error": { "@Message.ExtendedInfo": [message] } }))
    });
    let why = error(&run("off", &question(&authority, server.port)));
    assert!(
        why.contains("HTTP 401: Access denied.; are user and password in credentials_file right?"),
        "{why}"
    );
}

#[test]
fn one_that_hangs_is_left_in_time_and_the_password_is_in_no_process() {
    let authority = Authority::new();
    let server = start(&authority, |_| Reaction::Hang);
    let mut question = question(&authority, server.port);
    question["within_ms"] = json!(SHORT.as_millis());
    let begun = Instant::now();
    let asked = thread::spawn(move || run("status", &question));
    let mut seen = 0;
    while !asked.is_finished() {
        let processes: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|process| {
                let file = |name| std::fs::read(process.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&[file("cmdline"), file("environ")].concat()).replace('\0', " ")
            })
            .collect();
        seen += processes.iter().filter(|text| text.contains("boot-service redfish status")).count();
        let leaks: Vec<_> =
            processes.iter().filter(|text| text.contains(PASSWORD) || text.contains(BASIC)).collect();
        assert!(leaks.is_empty(), "{leaks:?}");
    }
    assert!(seen > 0, "the program was not seen");
    assert!(error(&asked.join().unwrap()).contains("in time"));
    assert!(begun.elapsed() < LONG);
}
