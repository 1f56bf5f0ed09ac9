//! Images that a site's own program or a service sets: from the manifest over stage, Slurm's reboot, RebootProgram and the
//! provider to the node's agent and its proof. The services are played here, as their published APIs say; the program is
//! one as in docs/image-providers.md. What they name is what the lab's boot server then has the nodes boot.

// What it plays need not survive a power cut.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use rollout_lab::{BOOT_DIRECTORY, ClusterSpec, NetImage, NodeLine, NodeRoot, Product, Site, until};
use serde_json::{Value, json};

const MINUTES: Duration = Duration::from_secs(240);
const TIMER: &str = "slurm-rollout-reconcile.timer";
const XNAMES: [&str; 2] = ["x1000c0s0b0n0", "x1000c0s0b0n1"];
const MAC: &str = "02:00:00:00:00:02";

/// Two nodes without a disk. `config` is for controller.toml, `nodes` the site's file of nodes; of the images, 4 boots as
/// another version.
fn site(config: &'static str, nodes: &'static str) -> Site {
    let prepare = move |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file("/etc/slurm-rollout/controller.d/images.toml", config, 0o644)?;
            root.write_file("/etc/slurm-rollout/nodes.toml", nodes, 0o644)?;
            root.write_file(PROGRAM, SET_IMAGE, 0o755)?;
            return root.enable_units(&[TIMER]);
        }
        root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", "ledger = \"volatile\"\n", 0o644)
    };
    let other = NetImage { served_as: "compute-4".into(), ..NetImage::new("compute", "3.9") };
    let images = vec![NetImage::new("compute", "1"), NetImage::new("compute", "2"), other];
    let spec = ClusterSpec {
        nodes: 2,
        images,
        disks: false,
        prepare: Some(Arc::new(prepare)),
        ..ClusterSpec::default()
    };
    Site::start(&Product::build().unwrap(), spec).unwrap()
}

fn manifest(via: &str, version: &str, nodes: &str, values: &str) -> String {
    format!(
        "name = \"image-{version}\"\nnodes = \"{nodes}\"\n[[change]]\nkind = \"image\"\nvia = \"{via}\"\n\
         image = \"compute\"\nversion = \"{version}\"\n{values}"
    )
}

/// The version that a node runs, and how often it was booted.
fn running(site: &Site, node: &str) -> (String, u32) {
    let node = site.cluster.node(node);
    let text = node.run(&["cat", "/usr/lib/os-release"]).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).unwrap().to_owned();
    (version, node.boot_count())
}

fn wait_phase(site: &Site, rollout: &str, node: &str, phase: &str) -> String {
    let seen = until(phase, MINUTES, || site.phase(rollout, node), |line| line.phase == phase);
    seen.unwrap().note.unwrap_or_default()
}

fn wait_reason(site: &Site, node: &str, words: &str) -> String {
    until("the Reason", MINUTES, || site.reason(node), |reason| reason.contains(words)).unwrap()
}

fn boot_file(site: &Site, node: &str) -> String {
    site.cluster.controller().read_file(&format!("{BOOT_DIRECTORY}/{node}.boot")).unwrap()
}

const PROGRAM: &str = "/etc/slurm-rollout/set-image";
const WITH_PROGRAM: &str = "[command]\nprogram = \"/etc/slurm-rollout/set-image\"\n";
const SET_IMAGE: &str = r#"#!/usr/bin/python3
import json, pathlib, sys

verb, asked = sys.argv[1], json.load(sys.stdin)
answers = {}
for node in asked["nodes"]:
    name = node["name"]
    file = pathlib.Path(f"/srv/boot/{name}.boot")
    if verb == "read":
        answers[name] = {"saved": file.read_text() if file.exists() else None}
    elif verb == "set" and pathlib.Path(f"/srv/boot/{name}.locked").exists():
        answers[name] = {"error": f"{name} is locked by its owner"}
    elif verb == "set":
        file.write_text("boot " + asked["image"]["values"]["served"] + "\n")
    elif verb == "put-back" and node["saved"] is None:
        file.unlink(missing_ok=True)
    elif verb == "put-back":
        file.write_text(node["saved"])
json.dump({"doubts": []} if verb == "check" else {"nodes": answers}, sys.stdout)
"#;

/// From 1 to 2; then an image that is another and goes back; then one that is not given to one of the nodes, first because the
/// program says so of that node, then because it fails.
#[test]
fn a_program_of_the_site() {
    let site = site(WITH_PROGRAM, "");
    let controller = site.cluster.controller();
    let both = ["cn01", "cn02"];
    let staged = |version: &str, nodes: &str| {
        let values = format!("[change.values]\nserved = \"compute-{version}\"\n");
        site.stage(&manifest("command", version, nodes, &values)).unwrap();
        site.reboot(nodes).unwrap();
    };
    staged("2", "cn[01-02]");
    for node in both {
        wait_phase(&site, "image-2", node, "updated");
        assert_eq!(running(&site, node), ("2".to_owned(), 2));
    }
    site.wait_idle(&both, MINUTES).unwrap();

    staged("4", "cn01");
    let note = wait_phase(&site, "image-4", "cn01", "rolled-back");
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&both, MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), ("2".to_owned(), 4));
    assert_eq!(boot_file(&site, "cn01"), "boot compute-2\n");

    let locked = format!("{BOOT_DIRECTORY}/cn02.locked");
    controller.run(&["touch", &locked]).unwrap();
    staged("1", "cn[01-02]");
    wait_phase(&site, "image-1", "cn01", "updated");
    assert_eq!(running(&site, "cn01"), ("1".to_owned(), 5));
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let reason = wait_reason(&site, "cn02", "cn02 is locked by its owner");
    assert!(
        reason.starts_with("slurm-rollout image-1: not ordered: compute 1 is not given to it"),
        "{reason}"
    );
    let note = wait_phase(&site, "image-1", "cn02", "unreachable");
    assert!(note.contains("cn02 is locked by its owner"), "{note}");

    let fails = "#!/bin/sh\n[ $1 != set ] || { echo no licence is left >&2; exit 3; }\n\
                 exec python3 /usr/local/lib/set-image $1\n";
    controller.write_file("/usr/local/lib/set-image", SET_IMAGE, 0o644).unwrap();
    controller.write_file(PROGRAM, fails, 0o755).unwrap();
    controller.run(&["rm", &locked]).unwrap();
    site.rollout(&["reconcile"]).unwrap();
    wait_reason(&site, "cn02", "no licence is left");
    assert_eq!(running(&site, "cn02"), ("2".to_owned(), 2));
    assert_eq!(boot_file(&site, "cn02"), "boot compute-2\n");
    controller.write_file(PROGRAM, SET_IMAGE, 0o755).unwrap();
    site.rollout(&["reconcile"]).unwrap();
    wait_phase(&site, "image-1", "cn02", "updated");
    site.wait_idle(&both, MINUTES).unwrap();
    assert_eq!(running(&site, "cn02"), ("1".to_owned(), 3));
}

/// A request as a service gets it.
struct Request {
    method: String,
    path: String,
    query: String,
    body: Value,
}

impl Request {
    fn of(stream: &TcpStream) -> Option<Request> {
        let mut reader = BufReader::new(stream);
        let lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        // Names of headers are written in either way; all that is asked for here is in small letters.
        let head: Vec<String> = lines.map(|line| line.to_ascii_lowercase()).collect();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let mut words = head.first()?.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some(Request { method, path: path.to_owned(), query: query.to_owned(), body })
    }

    /// A parameter of the query, as a list.
    fn list(&self, key: &str) -> Vec<String> {
        let values = self.query.split('&').filter_map(|pair| pair.split_once('='));
        values
            .filter(|(name, _)| *name == key)
            .flat_map(|(_, text)| text.split(','))
            .map(str::to_owned)
            .collect()
    }
}

/// Answers on port 8080 of the controller itself, as long as the test runs.
fn serve(site: &Site, answer: impl Fn(&Request) -> (u16, Value) + Send + 'static) {
    let listen = || TcpListener::bind("127.0.0.1:8080").unwrap();
    let listener = site.cluster.controller().in_network(listen).unwrap();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(request) = Request::of(&stream) else { continue };
            let (status, body) = answer(&request);
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).ok();
        }
    });
}

fn no_such_page() -> (u16, Value) {
    (404, json!({ "title": "Not Found", "detail": "no such page", "status": 404 }))
}

const WITH_BOS: &str = "[bos]\nurl = \"http://127.0.0.1:8080\"\n";

/// How long BOS leaves a node without power. Slurm counts in whole seconds, and takes a node that booted in the one in which
/// its reboot began for one that has not.
const POWER_OFF: Duration = Duration::from_secs(3);

/// BOS of CSM (v2): what it is told it does when the test says so.
#[derive(Clone, Default)]
struct Bos(Arc<Mutex<BTreeMap<String, Value>>>);

impl Bos {
    fn start(site: &Site) -> Bos {
        let component = |xname: &str| {
            let now = json!({ "boot_artifacts": artifacts("compute-1"), "configuration": "" });
            let staged = json!({ "boot_artifacts": artifacts(""), "configuration": "", "session": "" });
            json!({ "id": xname, "enabled": false, "session": "before", "desired_state": now, "staged_state": staged })
        };
        let bos = Bos::default();
        bos.0.lock().unwrap().extend(XNAMES.map(|xname| (xname.to_owned(), component(xname))));
        let answering = bos.clone();
        serve(site, move |request| answering.answer(request));
        bos
    }

    /// `cray bos sessions create --stage true`.
    fn stage(&self, xname: &str, served: &str) {
        let staged = json!({ "boot_artifacts": artifacts(served), "configuration": "", "session": "next" });
        self.0.lock().unwrap().get_mut(xname).unwrap()["staged_state"] = staged;
    }

    fn answer(&self, request: &Request) -> (u16, Value) {
        let mut components = self.0.lock().unwrap();
        match (request.method.as_str(), request.path.as_str()) {
            ("get", "/v2/components") => {
                let found: Vec<&Value> =
                    request.list("ids").iter().filter_map(|id| components.get(id)).collect();
                (200, json!(found))
            }
            ("get", "/v2/sessions/next") => {
                (200, json!({ "name": "next", "operation": "reboot", "stage": true }))
            }
            ("post", "/v2/applystaged") => {
                // The other one is another tenant's.
                let (mine, others): (Vec<Value>, Vec<Value>) = request.body["xnames"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .cloned()
                    .partition(|name| name == XNAMES[0]);
                for name in &mine {
                    let component = components.get_mut(name.as_str().unwrap()).unwrap();
                    component["desired_state"] = component["staged_state"].clone();
                    (component["session"], component["enabled"]) = ("next".into(), true.into());
                }
                (200, json!({ "succeeded": mine, "failed": [], "ignored": others }))
            }
            ("patch", path) => {
                let component = components.get_mut(path.trim_start_matches("/v2/components/")).unwrap();
                component["desired_state"] = request.body["desired_state"].clone();
                (component["session"], component["enabled"]) = ("".into(), request.body["enabled"].clone());
                (200, component.clone())
            }
            _ => no_such_page(),
        }
    }

    /// What a component's node is to boot, and whether BOS still has to boot it.
    fn desired(&self, xname: &str) -> (String, bool) {
        let component = self.0.lock().unwrap()[xname].clone();
        let kernel = component["desired_state"]["boot_artifacts"]["kernel"].as_str().unwrap().to_owned();
        (kernel, component["enabled"] == true)
    }

    /// BOS does what it was told: it says what a node boots only when it powers it on.
    fn boot(&self, site: &Site, node: &str, xname: &str) {
        let node = site.cluster.node(node);
        node.power_cut();
        let path = format!("{BOOT_DIRECTORY}/{}.boot", node.name());
        site.cluster
            .controller()
            .write_file(&path, format!("boot {}\n", self.desired(xname).0), 0o644)
            .unwrap();
        sleep(POWER_OFF);
        node.power_on();
        self.0.lock().unwrap().get_mut(xname).unwrap()["enabled"] = false.into();
    }
}

fn artifacts(served: &str) -> Value {
    json!({ "kernel": served, "initrd": served, "kernel_parameters": served })
}

/// BOS ignores one of two nodes. It boots the other one itself; that one's agent waits for it.
#[test]
fn bos_boots_one_node_and_ignores_the_other() {
    let site = site(WITH_BOS, "[cn01]\nxname = \"x1000c0s0b0n0\"\n[cn02]\nxname = \"x1000c0s0b0n1\"\n");
    let bos = Bos::start(&site);
    let image_2 = manifest("bos", "2", "cn[01-02]", "");
    let said = site.stage(&image_2).unwrap_err().to_string();
    assert!(said.contains("nothing is staged in BOS for x1000c0s0b0n0"), "{said}");
    XNAMES.iter().for_each(|xname| bos.stage(xname, "compute-2"));
    site.stage(&image_2).unwrap();
    assert_eq!(bos.desired(XNAMES[0]), ("compute-1".to_owned(), false), "nothing before the hand-over");

    site.reboot("cn[01-02]").unwrap();
    wait_phase(&site, "image-2", "cn01", "rebooting");
    let reason = wait_reason(&site, "cn02", "BOS ignored x1000c0s0b0n1");
    assert!(
        reason.starts_with("slurm-rollout image-2: not ordered: compute 2 is not given to it"),
        "{reason}"
    );
    assert_eq!(running(&site, "cn01"), ("1".to_owned(), 1), "BOS has not come to it yet");
    assert_eq!(bos.desired(XNAMES[0]), ("compute-2".to_owned(), true));
    bos.boot(&site, "cn01", XNAMES[0]);
    wait_phase(&site, "image-2", "cn01", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), ("2".to_owned(), 2));

    let note = wait_phase(&site, "image-2", "cn02", "unreachable");
    assert!(note.contains("BOS ignored x1000c0s0b0n1"), "{note}");
    assert_eq!(running(&site, "cn02"), ("1".to_owned(), 1));
    assert_eq!(bos.desired(XNAMES[1]), ("compute-1".to_owned(), false));
}

/// BOS boots a node with an image that is another than was staged: the node waits for BOS to boot the old one as well.
#[test]
fn a_node_goes_back_by_bos() {
    let site = site(WITH_BOS, "[cn01]\nxname = \"x1000c0s0b0n0\"\n");
    let bos = Bos::start(&site);
    bos.stage(XNAMES[0], "compute-4");
    site.stage(&manifest("bos", "4", "cn01", "")).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "image-4", "cn01", "rebooting");
    bos.boot(&site, "cn01", XNAMES[0]);
    let back = ("compute-1".to_owned(), true);
    until("BOS is told", MINUTES, || Ok(bos.desired(XNAMES[0])), |desired| *desired == back).unwrap();
    let goes_back = |line: &NodeLine| line.note.as_ref().is_some_and(|note| note.starts_with("going back"));
    until("it waits", MINUTES, || site.phase("image-4", "cn01"), goes_back).unwrap();
    bos.boot(&site, "cn01", XNAMES[0]);
    let note = wait_phase(&site, "image-4", "cn01", "rolled-back");
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), ("1".to_owned(), 3));
}

/// The Boot Script Service: entries by xname or MAC address, and what the boot server makes of them.
#[derive(Clone)]
struct Bss {
    entries: Arc<Mutex<BTreeMap<String, Value>>>,
    /// The boot server's directory.
    served: PathBuf,
}

impl Bss {
    fn start(site: &Site) -> Bss {
        let served = site.cluster.controller().root().join(BOOT_DIRECTORY.trim_start_matches('/'));
        let bss = Bss { entries: Arc::default(), served };
        let answering = bss.clone();
        serve(site, move |request| answering.answer(request));
        bss
    }

    fn answer(&self, request: &Request) -> (u16, Value) {
        if request.path != "/apis/bss/boot/v1/bootparameters" {
            return no_such_page();
        }
        let mut entries = self.entries.lock().unwrap();
        if request.method == "get" {
            let asked: BTreeSet<String> = ["name", "mac"].iter().flat_map(|key| request.list(key)).collect();
            let found: Vec<&Value> = asked.iter().filter_map(|id| entries.get(id)).collect();
            let none = json!({ "title": "Not Found", "detail": "Cannot find boot parameters for these" });
            return if found.is_empty() { (404, none) } else { (200, json!(found)) };
        }
        let names =
            ["hosts", "macs"].map(|key| (key, request.body[key].as_array().cloned().unwrap_or_default()));
        for (key, name) in names.iter().flat_map(|(key, names)| names.iter().map(move |name| (key, name))) {
            let id = name.as_str().unwrap();
            let file = self.served.join(if id == MAC { "cn02.boot" } else { "cn01.boot" });
            if request.method == "delete" {
                entries.remove(id);
                std::fs::remove_file(file).unwrap();
                continue;
            }
            let mut entry = request.body.clone();
            entry[key] = json!([name]);
            std::fs::write(file, format!("boot {}\n", entry["kernel"].as_str().unwrap())).unwrap();
            entries.insert(id.to_owned(), entry);
        }
        (200, Value::Null)
    }

    fn entry(&self, id: &str) -> Option<Value> {
        self.entries.lock().unwrap().get(id).cloned()
    }
}

/// One node has an entry under its xname, with more in it than an image; the other one is known by its MAC address, and has
/// none. Both get an image, and then one that is another and goes back.
#[test]
fn entries_of_the_boot_script_service() {
    let config = "[bss]\nurl = \"http://127.0.0.1:8080/apis/bss\"\n";
    let site = site(config, "[cn01]\nxname = \"x1000c0s0b0n0\"\n[cn02]\nmac = \"02:00:00:00:00:02\"\n");
    let bss = Bss::start(&site);
    let both = ["cn01", "cn02"];
    let cloud_init = json!({ "user-data": { "runcmd": ["/opt/begin"] } });
    let entry = |kernel: &str| json!({ "hosts": [XNAMES[0]], "kernel": kernel, "params": "quiet", "cloud-init": cloud_init });
    bss.entries.lock().unwrap().insert(XNAMES[0].to_owned(), entry("compute-1"));
    let values =
        |version: &str| format!("[change.values]\nkernel = \"compute-{version}\"\nparams = \"quiet\"\n");
    let image_2 = manifest("bss", "2", "cn[01-02]", &values("2"));
    site.cluster.controller().write_file("/root/image-2.toml", image_2, 0o644).unwrap();
    let said = site.rollout(&["stage", "/root/image-2.toml"]).unwrap();
    let doubt = "no entry for 1 of these nodes, such as cn02";
    assert!(said.success() && said.stderr.contains(doubt), "{said:?}");
    site.reboot("cn[01-02]").unwrap();
    for node in both {
        wait_phase(&site, "image-2", node, "updated");
        assert_eq!(running(&site, node), ("2".to_owned(), 2));
    }
    site.wait_idle(&both, MINUTES).unwrap();
    let of_mac = json!({ "macs": [MAC], "kernel": "compute-2", "params": "quiet" });
    assert_eq!((bss.entry(XNAMES[0]), bss.entry(MAC)), (Some(entry("compute-2")), Some(of_mac.clone())));

    site.stage(&manifest("bss", "4", "cn[01-02]", &values("4"))).unwrap();
    site.reboot("cn[01-02]").unwrap();
    for node in both {
        let note = wait_phase(&site, "image-4", node, "rolled-back");
        assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
        assert_eq!(running(&site, node), ("2".to_owned(), 4));
    }
    site.wait_idle(&both, MINUTES).unwrap();
    assert_eq!((bss.entry(XNAMES[0]), bss.entry(MAC)), (Some(entry("compute-2")), Some(of_mac)));
}
