//! Redfish against sushy-tools, with its fake driver, which takes seconds to switch. `./install-prerequisites` installs
//! it beside the build.

use crate::server::{Authority, LONG, write};
use rollout_control::power::switching::{Outcome, Task, carry_out};
use rollout_control::power::{PowerState, PowerTable, Programs, assign};
use rollout_core::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `admin` with the password `s3cret-Pa55`, as htpasswd writes it with bcrypt.
const HTPASSWD: &str = "admin:$2b$04$BL3KKWLFzxNti65PUDDVCuwmS0WBap6S6QVW22d0f5kGEha5ZvV/u\n";
const PASSWORD: &str = "s3cret-Pa55";

const UUIDS: [&str; 2] = ["27946b59-9e44-4fa7-8e91-f3527a1ef094", "58893887-8974-2487-2389-841168418919"];

/// A running emulator with two systems, off and on.
struct Emulator {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Emulator {
    fn start(uuids: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.server_files("DNS:localhost");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let htpasswd = write(&dir.path().join("htpasswd"), HTPASSWD);
        let system =
            |uuid: &&str| format!("{{'uuid': '{uuid}', 'name': '{uuid}', 'power_state': 'Off', 'nics': []}}");
        let systems: Vec<String> = uuids.iter().map(system).collect();
        let config = format!(
            "SUSHY_EMULATOR_AUTH_FILE = {htpasswd:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n\
             SUSHY_EMULATOR_FAKE_SYSTEMS = [{}]\n",
            dir.path(),
            systems.join(", ")
        );
        let config = write(&dir.path().join("config.py"), &config);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(program())
            .args(["--fake", "--interface", "127.0.0.1", "--port", &port.to_string()])
            .arg("--config")
            .arg(config)
            .arg("--ssl-certificate")
            .arg(certificate)
            .arg("--ssl-key")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: ./install-prerequisites installs it", program().display())
            });
        let emulator = Self { process, port, dir, authority };
        let end = Instant::now() + LONG;
        while emulator.run(PASSWORD, "", Task::Status).error.is_some_and(|why| why.contains("refused")) {
            let log = std::fs::read_to_string(emulator.dir.path().join("log")).unwrap();
            assert!(Instant::now() < end, "{log}");
            thread::sleep(Duration::from_millis(200));
        }
        emulator
    }

    /// Carries out a task on `cn1`, with these keys in its table.
    fn run(&self, password: &str, keys: &str, task: Task) -> Outcome {
        let credentials = format!("user = 'admin'\npassword = '{password}'\n");
        let credentials = write(&self.dir.path().join("bmc.toml"), &credentials);
        let table = format!(
            "via = 'redfish'\naddress = 'localhost:{}'\ncredentials_file = {credentials:?}\nca_file = {:?}\n{keys}",
            self.port,
            self.authority.file()
        );
        let nodes = NodeSet::parse("cn1").unwrap();
        let table = PowerTable { nodes: Some(nodes.clone()), config: toml::from_str(&table).unwrap() };
        let boot_service = env!("CARGO_BIN_EXE_boot-service").into();
        let programs = Programs { boot_service, ..Programs::default() };
        let (assigned, failed) = assign(&[table], &nodes, &|_, _| None, &programs, None);
        assert_eq!(failed, BTreeMap::new());
        carry_out(task, assigned).remove("cn1").unwrap()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the emulator's path: in a virtual environment in cargo's target directory.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("sushy-tools/bin/sushy-emulator")
}

#[test]
fn a_node_is_switched_and_read_back() {
    let emulator = Emulator::start(&UUIDS[..1]);
    let run = |task| emulator.run(PASSWORD, "", task);
    let status = run(Task::Status);
    assert_eq!((status.power, status.error), (Some(PowerState::Off), None));
    let on = run(Task::On);
    assert_eq!((on.power, on.changed, on.error), (Some(PowerState::On), true, None));
    let again = run(Task::On);
    assert_eq!((again.power, again.changed, again.error), (Some(PowerState::On), false, None));
    let soft = run(Task::Off { soft: true });
    assert_eq!((soft.power, soft.changed, soft.error), (Some(PowerState::Off), true, None));
    let on = run(Task::Cycle { soft: false });
    assert_eq!((on.power, on.changed, on.error), (Some(PowerState::On), true, None));
    let off = run(Task::Off { soft: false });
    assert_eq!((off.power, off.changed, off.error), (Some(PowerState::Off), true, None));
}

#[test]
fn the_password_must_be_right_and_one_of_several_systems_named() {
    let emulator = Emulator::start(&UUIDS);
    let wrong = emulator.run("wrong-password", "", Task::On);
    let why = wrong.error.unwrap();
    assert!(wrong.power.is_none() && why.contains("HTTP 401") && !why.contains("wrong-password"), "{why}");
    let several = emulator.run(PASSWORD, "", Task::On).error.unwrap();
    assert!(several.contains("it has 2 systems: set system in its table"), "{several}");
    let system = format!("system = '/redfish/v1/Systems/{}'", UUIDS[1]);
    assert_eq!(emulator.run(PASSWORD, &system, Task::On).power, Some(PowerState::On));
    let other = format!("system = '/redfish/v1/Systems/{}'", UUIDS[0]);
    assert_eq!(emulator.run(PASSWORD, &other, Task::Status).power, Some(PowerState::Off));
}
