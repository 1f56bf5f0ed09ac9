//! The Boot Orchestration Service.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::sleep;

use serde_json::{Value, json};

use super::server::{Request, no_such_page, serve};
use super::{XNAMES, manifest, running, site};
use crate::prelude::*;

const CONFIG: &str = "[bos]\nurl = \"http://127.0.0.1:8080\"\n";

/// Time for which BOS leaves a node without power. Slurm counts in whole seconds, and does not see a boot in the
/// second in which the reboot began.
const POWER_OFF: Duration = Duration::from_secs(3);

/// BOS of CSM (v2). It acts only when the test lets it.
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
        serve(site, 8080, move |request| answering.answer(request));
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
                // The second one belongs to a different tenant.
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

    /// Returns the image that a component's node is to boot, and whether BOS still has to boot it.
    fn desired(&self, xname: &str) -> (String, bool) {
        let component = self.0.lock().unwrap()[xname].clone();
        let kernel = component["desired_state"]["boot_artifacts"]["kernel"].as_str().unwrap().to_owned();
        (kernel, component["enabled"] == true)
    }

    /// Lets BOS boot a node. It sets the node's boot source only when it powers the node on.
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

/// BOS ignores one of two nodes. It boots the other one itself, whose agent waits for it.
#[test]
fn bos_boots_one_node_and_ignores_the_other() {
    let site = site(CONFIG, "[cn01]\nxname = \"x1000c0s0b0n0\"\n[cn02]\nxname = \"x1000c0s0b0n1\"\n");
    let bos = Bos::start(&site);
    let image_2 = manifest("bos", "2", "cn[01-02]");
    let said = site.stage(&image_2).unwrap_err().to_string();
    assert!(said.contains("nothing is staged in BOS for x1000c0s0b0n0"), "{said}");
    XNAMES.iter().for_each(|xname| bos.stage(xname, "compute-2"));
    site.stage(&image_2).unwrap();
    assert_eq!(bos.desired(XNAMES[0]), ("compute-1".to_owned(), false), "nothing before the hand-over");

    site.reboot("cn[01-02]").unwrap();
    site.wait_phase("image-2", "cn01", "rebooting").unwrap();
    let reason = site.wait_reason("cn02", "BOS ignored x1000c0s0b0n1").unwrap();
    assert!(
        reason.starts_with("slurm-rollout image-2: not ordered: compute 2 is not given to it"),
        "{reason}"
    );
    assert_eq!(running(&site, "cn01"), ("1".to_owned(), 1), "BOS has not come to it yet");
    assert_eq!(bos.desired(XNAMES[0]), ("compute-2".to_owned(), true));
    bos.boot(&site, "cn01", XNAMES[0]);
    site.wait_phase("image-2", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), ("2".to_owned(), 2));

    let note = site.wait_phase("image-2", "cn02", "unreachable").unwrap();
    assert!(note.contains("BOS ignored x1000c0s0b0n1"), "{note}");
    assert_eq!(running(&site, "cn02"), ("1".to_owned(), 1));
    assert_eq!(bos.desired(XNAMES[1]), ("compute-1".to_owned(), false));
}

/// BOS boots a node with an image that was not staged: the node waits for BOS to boot the old one as well.
#[test]
fn a_node_goes_back_by_bos() {
    let site = site(CONFIG, "[cn01]\nxname = \"x1000c0s0b0n0\"\n");
    let bos = Bos::start(&site);
    bos.stage(XNAMES[0], "compute-4");
    site.stage(manifest("bos", "4", "cn01")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("image-4", "cn01", "rebooting").unwrap();
    bos.boot(&site, "cn01", XNAMES[0]);
    let back = ("compute-1".to_owned(), true);
    until("BOS is told", MINUTES, || Ok(bos.desired(XNAMES[0])), |desired| *desired == back).unwrap();
    let goes_back = |line: &NodeLine| line.note.as_ref().is_some_and(|note| note.starts_with("going back"));
    until("it waits", MINUTES, || site.phase("image-4", "cn01"), goes_back).unwrap();
    bos.boot(&site, "cn01", XNAMES[0]);
    let note = site.wait_phase("image-4", "cn01", "rolled-back").unwrap();
    assert!(note.contains("os-release says compute 3.9, not compute 4"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(running(&site, "cn01"), ("1".to_owned(), 3));
}
