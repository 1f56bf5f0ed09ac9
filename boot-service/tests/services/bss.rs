//! Images via the Boot Script Service, against a model of the published one: paths, fields, statuses and keys that a
//! write keeps are those of OpenCHAMI/bss at e4894b06 (after v1.32.2; `cmd/boot-script-service`, `internal/postgres`)
//! and Cray-HPE/hms-bss at d71280fb (v1.37.0). The real service is not run here.

mod model;

use crate::server::{Authority, LONG, Reaction, Request, SHORT, Server, deadline, node, nodes, write, xname};
use boot_service::provider;
use model::{Bss, Entries, Store, no_cloud_init, problem};
use rollout_control::boot::{BootNode, BootSource, Outcomes, Saved, ServiceConfig};
use rollout_core::rollout::image::Image;
use rollout_core::time_limit::TimeLimit;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

fn with(config: ServiceConfig) -> Box<dyn BootSource> {
    provider("bss", config).unwrap()
}

fn image(values: &str) -> Image {
    let image: Image =
        toml::from_str(&format!("via = 'bss'\nimage = 'compute'\nvalues = {{ {values} }}")).unwrap();
    image.check().unwrap();
    image
}

fn new() -> Image {
    image("kernel = 'http://images/2/vmlinuz', initrd = 'http://images/2/initrd', params = 'quiet image=2'")
}

fn entry(json: Value) -> Map<String, Value> {
    json.as_object().unwrap().clone()
}

fn old(n: usize) -> Map<String, Value> {
    entry(json!({
        "kernel": "http://images/1/vmlinuz", "initrd": "http://images/1/initrd", "params": format!("console=tty{}", n % 3),
        "cloud-init": { "meta-data": { "n": n % 2, "deep": { "none": null } }, "user-data": null,
                        "phone-home": no_cloud_init()["phone-home"] },
    }))
}

fn all_ok<T>(outcomes: Outcomes<T>, count: usize) -> BTreeMap<String, T> {
    assert_eq!(outcomes.len(), count);
    outcomes
        .into_iter()
        .map(|(name, outcome)| (name.clone(), outcome.unwrap_or_else(|why| panic!("{name}: {why}"))))
        .collect()
}

fn back(nodes: &[BootNode], saved: &BTreeMap<String, Saved>) -> Vec<(BootNode, Saved)> {
    nodes.iter().map(|node| (node.clone(), saved[&node.name].clone())).collect()
}

#[test]
fn an_image_is_set_and_everything_is_put_back_exactly() {
    let nodes = nodes(250);
    let (server, bss) = Bss::start(Store::Etcd);
    // The last nodes have no entry and boot the image of their role.
    let before: BTreeMap<_, _> = (1..=240).map(|n| (xname(n), old(n))).collect();
    bss.lock().unwrap().entries = before.clone();
    let source = with(server.config());
    let doubts = source.check(&image("kernel = 's3://images/2/vmlinuz'"), &nodes, deadline()).unwrap();
    assert!(
        doubts.len() == 1 && doubts[0].contains("no entry for 10 of these nodes, such as cn241"),
        "{doubts:?}"
    );
    let saved = all_ok(source.read(&nodes, deadline()), 250);
    assert_eq!(server.count("GET"), 6, "100 nodes in a request");
    assert_eq!(server.count("PUT"), 0);
    assert_eq!(saved["cn241"], Value::Null);

    all_ok(source.set(&new(), &nodes, deadline()), 250);
    for n in 1..=250 {
        let entry = bss.lock().unwrap().entries[&xname(n)].clone();
        assert_eq!(entry["kernel"], "http://images/2/vmlinuz");
        assert_eq!(entry["params"], "quiet image=2");
        assert_eq!(
            entry.get("cloud-init"),
            before.get(&xname(n)).map(|old| &old["cloud-init"]),
            "what else is in it stays"
        );
    }
    let puts = server.count("PUT");
    assert!(puts <= 5, "{puts} requests for three contents");
    all_ok(source.set(&new(), &nodes, deadline()), 250);
    assert_eq!(server.count("PUT"), puts, "what is there is not written again");

    all_ok(source.set(&image("kernel = 'http://images/3/vmlinuz'"), &nodes, deadline()), 250);
    assert!(bss.lock().unwrap().entries.values().all(|entry| !entry.contains_key("initrd")));
    for _ in 0..2 {
        all_ok(source.put_back(&back(&nodes, &saved), deadline()), 250);
        assert!(bss.lock().unwrap().entries == before);
    }
}

#[test]
fn addresses_do_where_there_is_no_xname() {
    let nodes =
        [node("cn01", &[("mac", "02:00:00:00:00:0A")]), node("cn02", &[("mac", "02:00:00:00:00:0b")])];
    for store in [Store::Etcd, Store::Postgres] {
        let (server, bss) = Bss::start(store);
        let key = if store == Store::Etcd { "x1c0s0b0n0" } else { "02:00:00:00:00:0a" };
        let old = entry(json!({ "kernel": "http://images/1/vmlinuz", "params": "quiet" }));
        bss.lock().unwrap().macs.insert("x1c0s0b0n0".to_owned(), "02:00:00:00:00:0a".to_owned());
        bss.lock().unwrap().entries.insert(key.to_owned(), old.clone());
        let source = with(server.config());
        let saved = all_ok(source.read(&nodes, deadline()), 2);
        assert_eq!(saved["cn01"]["params"], "quiet");
        all_ok(source.set(&new(), &nodes, deadline()), 2);
        let entries = bss.lock().unwrap().entries.clone();
        assert!(entries.len() == 2 && entries.contains_key(key) && entries.contains_key("02:00:00:00:00:0b"));
        assert!(entries.values().all(|entry| entry["kernel"] == "http://images/2/vmlinuz"));
        // With PostgreSQL a write keeps the new initrd, which was not there before.
        all_ok(source.put_back(&back(&nodes, &saved), deadline()), 2);
        let mut entries = bss.lock().unwrap().entries.clone();
        entries.values_mut().for_each(|entry| drop(entry.remove("cloud-init")));
        assert_eq!(entries, [(key.to_owned(), old)].into());
    }
}

#[test]
fn what_a_write_leaves_is_removed_with_the_entry() {
    let (server, bss) = Bss::start(Store::Postgres);
    for n in 1..=3 {
        let mut old = old(1);
        old.remove("cloud-init");
        bss.lock().unwrap().entries.insert(xname(n), old);
    }
    let source = with(server.config());
    all_ok(
        source.set(&image("kernel = 'http://images/2/vmlinuz', params = 'quiet'"), &nodes(3), deadline()),
        3,
    );
    assert!(bss.lock().unwrap().entries.values().all(|entry| !entry.contains_key("initrd")));
    assert_eq!(server.count("DELETE"), 1);
    all_ok(source.set(&new(), &nodes(3), deadline()), 3);
    assert_eq!(server.count("DELETE"), 1, "only where it has to be");

    // No entry is removed if it could not be written before.
    bss.lock().unwrap().fault =
        Some(Box::new(|_, request| (request.method == "PUT").then(|| problem(500, "Storage: no space"))));
    let less = image("kernel = 'http://images/2/vmlinuz'");
    for outcome in source.set(&less, &nodes(3), deadline()).into_values() {
        let why = outcome.unwrap_err();
        assert!(why.contains("HTTP 500: Storage: no space"), "{why}");
    }
    assert_eq!((server.count("DELETE"), bss.lock().unwrap().entries.len()), (1, 3));
}

#[test]
fn nodes_that_it_cannot_know_are_told_apart() {
    let (server, bss) = Bss::start(Store::Etcd);
    bss.lock().unwrap().entries.insert(xname(1), old(1));
    let mut nodes = nodes(1);
    nodes.extend([
        node("cn02", &[]),
        node("cn03", &[("xname", "x1000c0s0b0")]),
        node("cn04", &[("mac", "02-00-00-00-00-0a")]),
        node("cn05", &[("xname", "x1c0s0b0n0,x1c0s0b0n1")]),
        node("cn06", &[("xname", "x1c0s0bn0")]),
    ]);
    let source = with(server.config());
    let outcomes = source.read(&nodes, deadline());
    assert!(outcomes["cn01"].is_ok());
    for (name, why) in [
        ("cn02", "xname or mac: write one below [cn02] in the file of nodes"),
        ("cn03", "not one of a node, such as x1000c0s0b0n0"),
        ("cn04", "write it as 52:54:00:12:34:56"),
        ("cn05", "not one of a node"),
        ("cn06", "not one of a node"),
    ] {
        assert!(outcomes[name].as_ref().unwrap_err().contains(why), "{:?}", outcomes[name]);
    }
    assert!(source.check(&new(), &nodes, deadline()).unwrap_err().contains("cn02"));
    let twice = [node("cn01", &[("xname", "x1c0s0b0n0")]), node("cn02", &[("xname", "x1c0s0b0n0")])];
    assert!(
        source.check(&new(), &twice, deadline()).unwrap_err().contains("cn01 and cn02 have both x1c0s0b0n0")
    );
}

#[test]
fn images_that_cannot_be_fetched_are_doubtful() {
    let (server, bss) = Bss::start(Store::Etcd);
    bss.lock().unwrap().entries.insert(xname(1), old(1));
    bss.lock().unwrap().fault = Some(Box::new(|_, request| {
        assert!(request.method != "HEAD" || request.token.is_none());
        (request.path == "/vmlinuz").then(|| Reaction::Respond(200, String::new()))
    }));
    let url = server.config().url;
    let image = image(&format!("kernel = '{url}/vmlinuz', initrd = '{url}/initrd'"));
    let doubts = with(server.config()).check(&image, &nodes(1), deadline()).unwrap();
    assert_eq!(doubts, [format!("{url}/initrd cannot be fetched from here: HTTP 404")]);
}

#[test]
fn a_service_that_refuses_or_talks_nonsense_is_an_error_of_one_line() {
    type Answer = fn() -> Reaction;
    let answers: [(Answer, &str); 10] = [
        (|| problem(401, "no token"), "HTTP 401: no token; it wants a token: set token_file in [bss]"),
        (|| problem(403, "no\n\u{1b}[2J right"), "HTTP 403: no [2J right"),
        (|| Reaction::Respond(404, "404 page not found\n".into()), "HTTP 404; is url in [bss] right?"),
        (|| problem(404, "no such route"), "HTTP 404: no such route; is url"),
        (|| Reaction::Respond(302, String::new()), "redirects are not followed"),
        (|| Reaction::Respond(503, "<html>upstream".into()), "HTTP 503"),
        (|| Reaction::Respond(200, "<html>login".into()), "not an answer of this service"),
        (|| Reaction::Respond(200, r#"[{"hosts":"x1000c0s0b0n1"}]"#.into()), "not an answer of this service"),
        (|| Reaction::SendRaw(Vec::new()), ""),
        (|| Reaction::SendRaw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{\"hosts\":".to_vec()), ""),
    ];
    for (answer, expected) in answers {
        let (server, bss) = Bss::start(Store::Etcd);
        bss.lock().unwrap().fault = Some(Box::new(move |_, _| Some(answer())));
        let source = with(server.config());
        let saved = [(nodes(1).remove(0), json!(old(1)))];
        for why in [
            source.check(&new(), &nodes(1), deadline()).unwrap_err(),
            source.read(&nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.set(&new(), &nodes(1), deadline())["cn01"].clone().unwrap_err(),
            source.put_back(&saved, deadline())["cn01"].clone().unwrap_err(),
        ] {
            assert!(why.contains(expected), "{expected}: {why}");
            assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}");
        }
        assert_eq!(
            (server.count("PUT"), server.count("DELETE")),
            (0, 0),
            "nothing is written over what is not known"
        );
    }
    let nobody = ServiceConfig { url: "http://127.0.0.1:1".into(), ..Bss::start(Store::Etcd).0.config() };
    assert!(with(nobody).read(&nodes(1), deadline())["cn01"].clone().unwrap_err().contains("refused"));
    let nameless =
        ServiceConfig { url: "http://no-such-host.invalid".into(), ..Bss::start(Store::Etcd).0.config() };
    let why = with(nameless).read(&nodes(1), deadline())["cn01"].clone().unwrap_err();
    assert!(why.contains("no-such-host.invalid has no address"), "{why}");
}

#[test]
fn an_endless_answer_is_cut_with_an_error() {
    let server = Server::start(None, |_| {
        Reaction::SendRaw([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; 20 << 20]].concat())
    });
    let why = with(server.config()).read(&nodes(1), deadline())["cn01"].clone().unwrap_err();
    assert!(why.contains("limit"), "{why}");
}

/// The entries that the service shows decide, not its answers.
#[test]
fn a_write_counts_when_it_is_shown() {
    let (server, bss) = Bss::start(Store::Etcd);
    bss.lock().unwrap().entries = (1..=4).map(|n| (xname(n), old(1))).collect();
    let source = with(server.config());
    // The service writes two of the four entries and hangs up.
    let part = |entries: &mut Entries, request: &Request| {
        (request.method == "PUT").then(|| {
            for n in [1, 3] {
                entries.insert(xname(n), entry(request.body.clone()));
            }
            Reaction::SendRaw(Vec::new())
        })
    };
    bss.lock().unwrap().fault = Some(Box::new(part));
    let outcomes = source.set(&new(), &nodes(4), deadline());
    let failed: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| name).collect();
    assert_eq!(failed, ["cn02", "cn04"]);

    // The service reports success but has written no entry.
    bss.lock().unwrap().fault =
        Some(Box::new(|_, request| (request.method == "PUT").then(|| Reaction::Respond(200, String::new()))));
    let why = source.set(&new(), &nodes(4), deadline())["cn02"].clone().unwrap_err();
    assert!(why.contains("took the change, and still shows another") && why.contains(&xname(2)), "{why}");
    let nothing = [(nodes(2).remove(1), Value::Null)];
    bss.lock().unwrap().fault = Some(Box::new(|_, request| {
        (request.method == "DELETE").then(|| Reaction::Respond(200, String::new()))
    }));
    let why = source.put_back(&nothing, deadline())["cn02"].clone().unwrap_err();
    assert!(why.contains("still shows an entry"), "{why}");
}

#[test]
fn slow_ones_delay_no_others_and_all_ends_in_time() {
    let (server, bss) = Bss::start(Store::Etcd);
    bss.lock().unwrap().entries = (1..=150).map(|n| (xname(n), old(1))).collect();
    // One of two requests hangs.
    let last = |request: &Request| request.query.contains(&xname(150));
    bss.lock().unwrap().fault = Some(Box::new(move |_, request| last(request).then_some(Reaction::Hang)));
    for limit in [None, Some(TimeLimit::from_secs(1))] {
        let mut config = server.config();
        config.time_limit = limit.unwrap_or(config.time_limit);
        let begun = Instant::now();
        let until = if limit.is_some() { deadline() } else { begun + SHORT };
        let outcomes = with(config).read(&nodes(150), until);
        assert!(begun.elapsed() < LONG);
        assert_eq!(outcomes.len(), 150);
        let (good, late): (Vec<_>, Vec<_>) = outcomes.values().partition(|outcome| outcome.is_ok());
        assert!(good.len() == 100 || good.len() == 50, "{}", good.len());
        for why in late {
            assert!(why.as_ref().unwrap_err().contains("in time"), "{why:?}");
        }
    }
    bss.lock().unwrap().fault = Some(Box::new(|_, _| Some(Reaction::Hang)));
    let source = with(server.config());
    let until = || Instant::now() + SHORT;
    assert!(source.check(&new(), &nodes(1), until()).unwrap_err().contains("in time"));
    assert!(source.set(&new(), &nodes(1), until())["cn01"].clone().unwrap_err().contains("in time"));
    assert!(source.read(&nodes(1), Instant::now())["cn01"].clone().unwrap_err().contains("in time"));
}

/// Uses TLS with the site's own certificate authority, and tokens.
#[test]
fn nobody_else_is_believed_and_the_token_is_sent_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let want = |request: &Request| match request.token.as_deref() {
        Some("first.token_1" | "second") => {
            Reaction::json(200, &json!([{ "hosts": [xname(1)], "kernel": "k" }]))
        }
        _ => problem(401, "token is expired"),
    };
    let server = Server::start(Some(authority.server("DNS:localhost,IP:127.0.0.1")), want);
    let token = write(&dir.path().join("token"), "first.token_1\n");
    let by = |host: &str| ServiceConfig {
        url: format!("https://{host}:{}", server.port),
        ca_file: Some(authority.file()),
        token_file: Some(token.clone()),
        ..server.config()
    };
    let read = |config: ServiceConfig| with(config).read(&nodes(1), deadline())["cn01"].clone();
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(read(by(host)), Ok(json!({ "kernel": "k" })));
    }
    write(&token, "second");
    assert!(read(by("localhost")).is_ok(), "read anew each time");
    write(&token, "old");
    let why = read(by("localhost")).unwrap_err();
    assert!(
        why.contains("HTTP 401: token is expired; is the token in ") && why.contains("/token out of date?"),
        "{why}"
    );
    for (text, expected) in
        [("", "no token is in it"), ("a\nb", "no token is in it"), ("\u{e4}", "no token is in it")]
    {
        write(&token, text);
        assert!(read(by("localhost")).unwrap_err().contains(expected));
    }
    std::fs::remove_file(&token).unwrap();
    let why = read(by("localhost")).unwrap_err();
    assert!(why.contains("/token: No such file"), "{why}");

    let asked = server.count("GET");
    write(&token, "second");
    let other = Authority::new();
    let why = read(ServiceConfig { ca_file: Some(other.file()), ..by("localhost") }).unwrap_err();
    assert!(why.contains("the authority of its certificate is not in ") && why.contains("ca.pem"), "{why}");
    let why = read(ServiceConfig { ca_file: None, ..by("localhost") }).unwrap_err();
    assert!(why.contains("set ca_file in [bss]"), "{why}");
    let elsewhere = Server::start(Some(authority.server("DNS:other.cluster")), want);
    let why =
        read(ServiceConfig { url: format!("https://localhost:{}", elsewhere.port), ..by("x") }).unwrap_err();
    assert!(why.contains("not valid for name"), "{why}");
    // A server without TLS is not trusted either, nor one that never completes the handshake.
    let plain = Server::start(None, want);
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [plain.port, deaf.local_addr().unwrap().port()] {
        let (url, time_limit) = (format!("https://localhost:{port}"), TimeLimit::from_secs(1));
        assert!(read(ServiceConfig { url, time_limit, ..by("x") }).unwrap_err().contains("in time"));
    }
    let no_ca = ServiceConfig { ca_file: Some(token.clone()), ..by("localhost") };
    assert!(read(no_ca).unwrap_err().contains("holds no certificate"));
    assert_eq!(
        server.count("GET") + elsewhere.count("GET") + plain.count("GET"),
        asked,
        "no token went anywhere"
    );
}

#[test]
fn a_token_that_all_can_read_is_doubtful() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let answer = |_: &Request| Reaction::json(200, &json!([{ "hosts": [xname(1)], "kernel": "k" }]));
    let server = Server::start(Some(authority.server("DNS:localhost")), answer);
    for (mode, count) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        let token = dir.path().join("token");
        rollout_host::durable::replace(&token, b"t", mode).unwrap();
        let config = ServiceConfig {
            url: format!("https://localhost:{}", server.port),
            ca_file: Some(authority.file()),
            token_file: Some(token),
            ..server.config()
        };
        let doubts = with(config).check(&image("kernel = 'tftp-path'"), &nodes(1), deadline()).unwrap();
        assert_eq!(doubts.len(), count, "{doubts:?}");
    }
}
