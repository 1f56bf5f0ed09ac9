//! Runs the program as the controller's programs do.

use crate::server::{Authority, LONG, Reaction, SHORT, Server, write, xname};
use rollout_host::run::Program;
use serde_json::{Value, json};
use std::time::Instant;

fn run(arguments: &[&str], question: &Value) -> Result<Value, String> {
    let program = Program::new(env!("CARGO_BIN_EXE_boot-service"), LONG).args(arguments);
    let output = program.stdin(question.to_string()).run().map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&output.stdout).unwrap())
}

#[test]
fn it_answers_what_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let entry = std::sync::Mutex::new(
        json!({ "kernel": "old", "initrd": "i", "cloud-init": { "user-data": { "a": 1 } } }),
    );
    let server = Server::start(Some(authority.server("DNS:localhost")), move |request| {
        assert_eq!(request.token.as_deref(), Some("secret"));
        let mut entry = entry.lock().unwrap();
        if request.method == "PUT" {
            *entry = request.body.clone();
        }
        entry["hosts"] = json!([xname(1)]);
        Reaction::json(200, &json!([*entry]))
    });
    let table = json!({
        "url": format!("https://localhost:{}", server.port),
        "ca_file": authority.file(),
        "token_file": write(&dir.path().join("token"), "secret\n"),
        "time_limit": "20s",
    });
    let image =
        json!({ "via": "bss", "image": "compute", "values": { "kernel": "new" }, "boot_timeout": "15m" });
    let mut question = json!({
        "within_ms": 60_000, "service": table, "image": image,
        "nodes": [{ "name": "cn01", "values": { "xname": xname(1) } }, { "name": "cn02", "values": {} }],
    });
    let answer = run(&["bss", "check"], &question).unwrap();
    assert!(answer["error"].as_str().unwrap().contains("cn02: "), "{answer}");
    question["nodes"].as_array_mut().unwrap().truncate(1);
    assert_eq!(run(&["bss", "check"], &question).unwrap(), json!({ "doubts": [] }));
    let read = run(&["bss", "read"], &question).unwrap();
    let saved = json!({ "kernel": "old", "initrd": "i", "cloud-init": { "user-data": { "a": 1 } } });
    assert_eq!(read, json!({ "nodes": { "cn01": { "saved": saved } } }));
    assert_eq!(run(&["bss", "set"], &question).unwrap(), json!({ "nodes": { "cn01": {} } }));
    let set = json!({ "kernel": "new", "cloud-init": { "user-data": { "a": 1 } } });
    assert_eq!(run(&["bss", "read"], &question).unwrap()["nodes"]["cn01"]["saved"], set);
    question["nodes"][0]["saved"] = saved.clone();
    assert_eq!(run(&["bss", "put-back"], &question).unwrap(), json!({ "nodes": { "cn01": {} } }));
    assert_eq!(run(&["bss", "read"], &question).unwrap()["nodes"]["cn01"]["saved"], saved);
}

#[test]
fn it_answers_before_its_time_is_over() {
    let server = Server::start(None, |_| Reaction::Hang);
    let question = json!({
        "within_ms": SHORT.as_millis(), "service": { "url": format!("http://127.0.0.1:{}", server.port) },
        "nodes": [{ "name": "cn01", "values": { "xname": xname(1) } }],
    });
    let begun = Instant::now();
    for service in ["bss", "bos", "boot_service"] {
        let answer = run(&[service, "read"], &question).unwrap();
        assert!(answer["nodes"]["cn01"]["error"].as_str().unwrap().contains("in time"), "{answer}");
    }
    assert!(begun.elapsed() < LONG);
}

#[test]
fn what_nobody_asks_is_an_error() {
    let question = json!({ "within_ms": 1000, "service": { "url": "http://127.0.0.1:1" }, "nodes": [] });
    for (arguments, question, why) in [
        (&[][..], &question, "SERVICE VERB"),
        (&["bss", "sett"], &question, "unknown verb"),
        (&["dns", "read"], &question, "unknown service"),
        (&["bss", "set"], &question, "no image in the question"),
        (&["bss", "read"], &json!({ "within_ms": 1000, "nodes": [] }), "no service in the question"),
        (&["bss", "read"], &json!([]), "the question: "),
    ] {
        let error = run(arguments, question).unwrap_err();
        assert!(error.contains("exit code 2") && error.contains(why), "{error}");
    }
}
