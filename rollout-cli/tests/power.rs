//! `slurm-rollout power` with a command of a site, and stand-ins for scontrol and squeue.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start programs of its own"
)]

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stands in for scontrol and squeue: prints files beside it, or fails without them.
const SLURM: &str =
    "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase ${0##*/} in\nsqueue) exec cat jobs ;;\nesac\nexec cat nodes\n";

/// Keeps the power of each node in a file. `soft-off` does nothing.
const SWITCH: &str = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$@\" >>calls\ncase $1 in\nstatus) cat \"power-$2\" ;;\n\
                      on | off) echo \"$1\" >\"power-$2\" ;;\nesac\n";

/// A site below a temporary directory, with cn[1-4], all on.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(site.path("state")).unwrap();
        for (name, text) in [("scontrol", SLURM), ("squeue", SLURM), ("switch", SWITCH)] {
            site.write(name, text);
            std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for node in ["cn1", "cn2", "cn3", "cn4"] {
            site.write(&format!("power-{node}"), "on\n");
        }
        site.slurm(&["IDLE", "IDLE+DRAIN", "MIXED+DRAIN", "DOWN+REBOOT_ISSUED"]);
        site.write("jobs", "");
        site.configure(&format!(
            "[[power]]\nnodes = 'cn[1-4]'\nvia = 'command'\ncommand = [{:?}]\ntime_limit = '2s'\n",
            site.path("switch")
        ));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn configure(&self, tables: &str) {
        let keys = format!("state_dir = {:?}\nscontrol = {:?}\n", self.path("state"), self.path("scontrol"));
        self.write("controller.toml", &(keys + tables));
    }

    /// Sets the states of cn1, cn2 and so on in Slurm.
    fn slurm(&self, states: &[&str]) {
        let line = |(index, state): (usize, &&str)| {
            let name = format!("cn{}", index + 1);
            format!("NodeName={name} NodeAddr={name} NodeHostName={name} State={state} Partitions=batch\n")
        };
        self.write("nodes", &states.iter().enumerate().map(line).collect::<String>());
    }

    fn power(&self, node: &str) -> String {
        std::fs::read_to_string(self.path(&format!("power-{node}"))).unwrap().trim().to_owned()
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_slurm-rollout"))
            .args([Path::new("--config"), &self.path("controller.toml")])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn status_and_on_ask_nothing_of_slurm() {
    let site = Site::new();
    std::fs::remove_file(site.path("nodes")).unwrap();
    site.write("power-cn2", "off\n");
    site.write("power-cn3", "maybe\n");
    let (code, out, _) = site.run("power status cn[1-3,5]");
    let expected = "POWER    NODES  NODELIST  NOTE\non       1      cn1\noff      1      cn2\n\
                    unknown  1      cn5       no table [[power]] in controller.toml has it\n\
                    unknown  1      cn3       switch printed what is no power state: maybe\n";
    assert_eq!((code, out.as_str()), (1, expected));
    let (code, out, _) = site.run("power on --json cn[1-2]");
    let expected = json!([
        { "node": "cn1", "power": "on", "changed": false, "error": null },
        { "node": "cn2", "power": "on", "changed": true, "error": null },
    ]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (0, expected));
}

#[test]
fn nodes_that_slurm_needs_keep_their_power() {
    let site = Site::new();
    site.write("jobs", "148|148|S|0|5|9|5:00|batch|cn2|\n");
    for action in ["off", "cycle", "off --soft"] {
        let (code, out, err) = site.run(&format!("power {action} cn[1-5]"));
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.starts_with("slurm-rollout: nothing was switched. --force"), "{err}");
        for line in [
            "\nslurm-rollout: cn5: Slurm has no such nodes",
            "\nslurm-rollout: cn[2-3]: jobs 148: `scontrol update nodename=cn[2-3] state=drain",
            "\nslurm-rollout: cn4: being rebooted or changed: see `slurm-rollout status -N cn4`",
            "\nslurm-rollout: cn1: in service",
        ] {
            assert!(err.contains(line), "{line}: {err}");
        }
    }
    assert!(!site.path("calls").exists(), "no node was asked");
    site.write("jobs", "");
    let (code, out, err) = site.run("power off cn2");
    assert_eq!((code, site.power("cn2").as_str()), (0, "off"), "{out}{err}");
    assert!(out.ends_with("off    1      cn2       switched, and read back\n"), "{out}");
    let (code, out, err) = site.run("power cycle --force cn[1,3]");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("on     2      cn[1,3]   switched, and read back"), "{out}");
}

#[test]
fn without_slurm_no_power_is_cut() {
    let site = Site::new();
    for missing in ["nodes", "jobs"] {
        let text = std::fs::read_to_string(site.path(missing)).unwrap();
        std::fs::remove_file(site.path(missing)).unwrap();
        let (code, _, err) = site.run("power off cn2");
        assert!(code == 1 && err.contains("nobody knows whether cn2 have jobs"), "{err}");
        assert!(err.contains("`slurm-rollout power off --force cn2`"), "{err}");
        site.write(missing, &text);
    }
    site.write("jobs", "what is this?\n");
    let (code, _, err) = site.run("power cycle cn2");
    assert!(code == 1 && err.contains("squeue printed \"what is this?\""), "{err}");
    assert_eq!(site.power("cn2"), "on");
    std::fs::remove_file(site.path("nodes")).unwrap();
    assert_eq!(site.run("power off --force cn2").0, 0);
    assert_eq!(site.power("cn2"), "off");
}

#[test]
fn a_node_that_stays_on_is_not_off() {
    let site = Site::new();
    let (code, out, _) = site.run("power off --soft cn2");
    assert_eq!(code, 1);
    assert!(out.contains("on     1      cn2       is still on 2s after soft-off was accepted"), "{out}");
}

#[test]
fn mistakes_are_told_before_anything_is_asked() {
    let site = Site::new();
    for (arguments, code, why) in [
        ("power status --force cn1", 2, "for off and cycle alone"),
        ("power on --soft cn1", 2, "for off and cycle alone"),
        ("power reset cn1", 2, "[possible values: status, on, off, cycle]"),
        ("power off", 2, "<NODES>"),
        ("power status cn[1-", 1, "is neither a hostlist nor a node set"),
    ] {
        let (found, _, err) = site.run(arguments);
        assert!(found == code && err.contains(why), "{arguments}: {found} {err}");
    }
    for (tables, why) in [
        ("", "no table [[power]]"),
        ("[[power]]\nvia = 'powerman'\nnodes = 'cn[1-'\n", "power: table 1: nodes \"cn[1-\""),
        ("[[power]]\nvia = 'powerman'\npassword = 'x'\n", "unknown field `password`"),
    ] {
        site.configure(tables);
        let (code, _, err) = site.run("power status cn1");
        assert!(code == 1 && err.contains(why), "{tables}: {err}");
    }
    assert!(!site.path("calls").exists());
}

#[test]
fn doctor_looks_at_programs_and_files() {
    let site = Site::new();
    site.write("bmc.toml", "user = 'admin'\npassword = 'Tr0ub4dor-and-3'\n");
    std::fs::set_permissions(site.path("bmc.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    site.configure(&format!(
        "nodes_file = '/nowhere'\n[[power]]\nnodes = 'cn1'\nvia = 'command'\ncommand = ['/no/such/switch']\n\
         [[power]]\nnodes = 'cn2'\nvia = 'ipmi'\naddress = '{{bmc}}'\ncredentials_file = {:?}\n",
        site.path("bmc.toml")
    ));
    let (code, out, err) = site.run("doctor --json");
    let report: Value = serde_json::from_str(&out).unwrap();
    let findings: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == "power")
        .map(|finding| format!("{} {} {}", finding["level"], finding["nodes"], finding["what"]))
        .collect();
    assert_eq!((code, findings.len()), (3, 4), "{findings:?}{err}");
    for part in [
        "\"warning\" \"cn[3-4]\" \"no table [[power]] has these nodes",
        "\"problem\" null \"table 1 (via command): /no/such/switch is no program",
        "is open to others (mode 0644",
        "\"problem\" \"cn2\" \"table 2 (via ipmi): address of its power: {bmc} is not known",
    ] {
        assert!(findings.iter().any(|finding| finding.contains(part)), "{part}: {findings:?}");
    }
    assert!(!out.contains("Tr0ub4dor"), "{out}");
}
