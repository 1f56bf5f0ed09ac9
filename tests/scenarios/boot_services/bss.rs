//! The Boot Script Service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::server::{Request, no_such_page, serve};
use super::{XNAMES, manifest, openchami, running, site};
use crate::prelude::*;

const MAC: &str = "02:00:00:00:00:02";

/// The Boot Script Service: entries by xname or MAC address, of which it makes the boot server's files.
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
        serve(site, 8080, move |request| answering.answer(request));
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

/// One node has an entry under its xname, with more in it than an image; the other one is known by its MAC address
/// and has no entry. Both get an image, and then a different one, from which they go back. Then OpenCHAMI's
/// boot-service takes over the same nodes.
#[test]
fn entries_of_the_boot_script_service_and_configurations_of_openchami() {
    let config = format!("[bss]\nurl = \"http://127.0.0.1:8080/apis/bss\"\n{}", openchami::CONFIG);
    let site = &site(config, "[cn01]\nxname = \"x1000c0s0b0n0\"\n[cn02]\nmac = \"02:00:00:00:00:02\"\n");
    let bss = &Bss::start(site);
    bss.entries.lock().unwrap().insert(XNAMES[0].to_owned(), entry("compute-1"));
    in_cases(|cases| {
        cases.check("both get an image", || both_get_an_image(site, bss));
        cases.check("both go back", || both_go_back(site, bss));
        openchami::check(cases, site);
    });
}

fn entry(kernel: &str) -> Value {
    let cloud_init = json!({ "user-data": { "runcmd": ["/opt/begin"] } });
    json!({ "hosts": [XNAMES[0]], "kernel": kernel, "params": "quiet", "cloud-init": cloud_init })
}

fn has_image_2(bss: &Bss) {
    let of_mac = json!({ "macs": [MAC], "kernel": "compute-2", "params": "quiet" });
    assert_eq!((bss.entry(XNAMES[0]), bss.entry(MAC)), (Some(entry("compute-2")), Some(of_mac)));
}

fn image(version: &str) -> Manifest {
    let kernel = format!("compute-{version}");
    manifest("bss", version, "cn[01-02]").value("kernel", &kernel).value("params", "quiet")
}

fn both_get_an_image(site: &Site, bss: &Bss) {
    let file = "/root/image-2.toml";
    site.cluster.controller().write_file(file, image("2").to_string(), 0o644).unwrap();
    let said = site.rollout(&["stage", file]).unwrap();
    let doubt = "no entry for 1 of these nodes, such as cn02";
    assert!(said.success() && said.stderr.contains(doubt), "{said:?}");
    site.reboot("cn[01-02]").unwrap();
    for node in ["cn01", "cn02"] {
        site.wait_phase("image-2", node, "updated").unwrap();
        assert_eq!(running(site, node), ("2".to_owned(), 2));
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    has_image_2(bss);
}

fn both_go_back(site: &Site, bss: &Bss) {
    site.stage(image("4")).unwrap();
    site.reboot("cn[01-02]").unwrap();
    for node in ["cn01", "cn02"] {
        let note = site.wait_phase("image-4", node, "rolled-back").unwrap();
        assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
        assert_eq!(running(site, node), ("2".to_owned(), 4));
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    has_image_2(bss);
}
