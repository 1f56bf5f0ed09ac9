//! ipmitool against ipmi_sim, the simulator of OpenIPMI.

use crate::site::{PASSWORD, Site, processes_with};
use rollout_control::power::PowerState;
use rollout_control::power::switching::Task;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

/// ipmi_sim calls it to read and set the power.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
op=$1
shift
case $op in
get) for item in "$@"; do case $item in power) echo "power:$(cat power)" ;; *) echo "$item:0" ;; esac; done ;;
set)
    echo "$@" >>requests
    [ -e stuck ] && exit 0
    case $1 in power) echo "$2" >power ;; shutdown) echo 0 >power ;; esac
    ;;
esac
"#;

/// Starts ipmi_sim with the power on, and returns its table.
fn simulator(site: &mut Site) -> String {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let chassis = site.write("chassis", CHASSIS, 0o755);
    site.write("power", "1\n", 0o644);
    let lan = format!(
        "name \"bmc\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n\
         allowed_auths_admin none md2 md5 straight\nguid a123456789abcdefa123456789abcdef\nendlan\n\
         chassis_control \"{}\"\nuser 2 true \"admin\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
        chassis.display()
    );
    let lan = site.write("lan.conf", &lan, 0o644);
    let emu = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n";
    let emu = site.write("emu.conf", emu, 0o644);
    let state = site.path("state");
    std::fs::create_dir(&state).unwrap();
    let [lan, emu, state] = [lan, emu, state].map(|path| path.display().to_string());
    site.start("/usr/bin/ipmi_sim", &["-n", "-c", &lan, "-f", &emu, "-s", &state]);
    table(site, port, PASSWORD)
}

fn table(site: &Site, port: u16, password: &str) -> String {
    let file = site.credentials(password);
    format!(
        "via = 'ipmi'\nnodes = 'cn1'\naddress = '127.0.0.1:{port}'\ncredentials_file = {file:?}\ncipher_suite = 3\n\
         time_limit = '5s'\n"
    )
}

#[test]
fn a_node_is_switched_and_read_back() {
    let mut site = Site::new();
    let table = simulator(&mut site);
    assert_eq!(site.until_known(&table), PowerState::On);
    let off = site.run_one(&table, Task::Off { soft: false });
    assert_eq!((off.power, off.changed, off.error), (Some(PowerState::Off), true, None));
    assert_eq!(site.read("power"), "0\n");
    let again = site.run_one(&table, Task::Off { soft: false });
    assert_eq!((again.power, again.changed, again.error), (Some(PowerState::Off), false, None));
    let on = site.run_one(&table, Task::On);
    assert_eq!((on.power, on.changed, on.error), (Some(PowerState::On), true, None));
    let soft = site.run_one(&table, Task::Off { soft: true });
    assert_eq!((soft.power, soft.changed, soft.error), (Some(PowerState::Off), true, None));
    let cycle = site.run_one(&table, Task::Cycle { soft: false });
    assert_eq!((cycle.power, cycle.changed, cycle.error), (Some(PowerState::On), true, None));
    assert_eq!(site.read("requests"), "power 0\npower 1\nshutdown 1\npower 1\n");
    let cycle = site.run_one(&table, Task::Cycle { soft: false });
    assert_eq!((cycle.power, cycle.changed, cycle.error), (Some(PowerState::On), true, None));
    assert!(site.read("requests").ends_with("power 0\npower 1\n"));
}

#[test]
fn a_controller_that_accepts_and_does_nothing_is_found_out() {
    let mut site = Site::new();
    let table = simulator(&mut site);
    site.until_known(&table);
    site.write("stuck", "", 0o644);
    let off = site.run_one(&table, Task::Off { soft: false });
    assert_eq!((off.power, off.changed), (Some(PowerState::On), false));
    assert!(off.error.unwrap().starts_with("is still on 5s after off was accepted"));
}

#[test]
fn a_wrong_password_is_an_error_that_has_neither() {
    let mut site = Site::new();
    let right = simulator(&mut site);
    site.until_known(&right);
    site.credentials("wrong-password");
    let outcome = site.run_one(&right, Task::Off { soft: false });
    let why = outcome.error.unwrap();
    assert_eq!(outcome.power, None);
    assert!(why.starts_with("ipmitool: ") && why.contains("Unable to establish IPMI v2"), "{why}");
    assert!(!why.contains("wrong-password") && !why.contains(PASSWORD), "{why}");
    assert_eq!(site.read("power"), "1\n");
}

#[test]
fn the_password_is_in_no_command_line_or_environment() {
    let site = Site::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let password = "Only-in-memory-77";
    let table = table(&site, port, password);
    thread::scope(|scope| {
        let asked = scope.spawn(|| site.run_one(&table, Task::Status));
        let end = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while !asked.is_finished() && Instant::now() < end {
            seen += processes_with(&format!("-p {port} ")).len();
            let leaks = processes_with(password);
            assert!(leaks.is_empty(), "{leaks:?}");
        }
        assert!(seen > 0, "ipmitool was not seen");
        let outcome = asked.join().unwrap();
        let why = outcome.error.unwrap();
        assert_eq!(outcome.power, None);
        assert!(why.contains("did not end within 5 s") && !why.contains(password), "{why}");
    });
}

#[test]
fn credentials_that_cannot_be_used_are_refused_before_anything_is_asked() {
    let site = Site::new();
    let table = table(&site, 9, "a-password-of-more-than-20-bytes");
    let why = site.run_one(&table, Task::Status).error.unwrap();
    assert!(why.contains("at most 20 bytes") && !why.contains("a-password"), "{why}");
    let path = site.credentials(PASSWORD);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let why = site.run_one(&table, Task::Status).error.unwrap();
    assert!(why.contains("is open to others (mode 0640") && !why.contains(PASSWORD), "{why}");
}
