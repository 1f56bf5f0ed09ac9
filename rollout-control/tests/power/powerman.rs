//! powerman against powermand with vpcd, the virtual power controller of the same package.

use crate::site::Site;
use rollout_control::power::PowerState;
use rollout_control::power::switching::Task;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

/// Starts powermand for cn[1-16], all off, and returns its table.
fn powermand(site: &mut Site) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = format!(
        "listen \"127.0.0.1:{port}\"\ninclude \"/etc/powerman/vpc.dev\"\n\
         device \"v0\" \"vpc\" \"/usr/sbin/vpcd |&\"\nnode \"cn[1-16]\" \"v0\" \"[0-15]\"\n"
    );
    let conf = site.write("powerman.conf", &conf, 0o644).display().to_string();
    site.start("/usr/sbin/powermand", &["-f", "-c", &conf]);
    table(port)
}

fn table(port: u16) -> String {
    format!("via = 'powerman'\nserver = '127.0.0.1:{port}'\ntime_limit = '5s'\n")
}

#[test]
fn nodes_are_switched_and_read_back() {
    let mut site = Site::new();
    let table = powermand(&mut site);
    assert_eq!(site.until_known(&table), PowerState::Off);
    let on = site.run(&table, Task::On, "cn[1-12]");
    assert_eq!(on.len(), 12);
    for (node, outcome) in on {
        assert_eq!((outcome.power, outcome.changed), (Some(PowerState::On), true), "{node}: {outcome:?}");
    }
    let cycle = site.run_one(&table, Task::Cycle { soft: false });
    assert_eq!((cycle.power, cycle.changed, cycle.error), (Some(PowerState::On), true, None));
    let off = site.run(&table, Task::Off { soft: false }, "cn[12-13]");
    assert_eq!((off["cn12"].power, off["cn12"].changed), (Some(PowerState::Off), true));
    assert_eq!((off["cn13"].power, off["cn13"].changed), (Some(PowerState::Off), false));
}

#[test]
fn nodes_that_it_does_not_know_and_a_soft_off_are_errors() {
    let mut site = Site::new();
    let table = powermand(&mut site);
    site.until_known(&table);
    let outcomes = site.run(&table, Task::Status, "cn[16-17]");
    assert_eq!(outcomes["cn16"].power, Some(PowerState::Off));
    let why = outcomes["cn17"].error.as_ref().unwrap();
    assert!(outcomes["cn17"].power.is_none() && why.contains("No such nodes: cn17"), "{why}");
    assert_eq!(site.run_one(&table, Task::On).error, None);
    let soft = site.run_one(&table, Task::Off { soft: true });
    assert_eq!((soft.power, soft.changed), (Some(PowerState::On), false));
    assert!(soft.error.unwrap().contains("no soft off"));
}

#[test]
fn a_device_that_does_not_answer_is_unknown() {
    let mut site = Site::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let device = "specification \"silent\" {\ntimeout 0.2\nplug name { \"0\" }\nscript login { send \"a\\n\" expect \"b\" }\n\
                  script status_all { send \"a\\n\" expect \"b\" }\nscript off { send \"a\\n\" }\n}\n";
    let device = site.write("silent.dev", device, 0o644);
    let conf = format!(
        "listen \"127.0.0.1:{port}\"\ninclude {device:?}\n\
         device \"v0\" \"silent\" \"/bin/cat |&\"\nnode \"cn1\" \"v0\" \"0\"\n"
    );
    let conf = site.write("powerman.conf", &conf, 0o644).display().to_string();
    site.start("/usr/sbin/powermand", &["-f", "-c", &conf]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let outcome = site.run_one(&table(port), Task::Off { soft: false });
        assert_eq!((outcome.power, outcome.changed), (None, false), "{outcome:?}");
        if outcome.error.as_ref().unwrap().contains("unknown: cn1") {
            return;
        }
        assert!(std::time::Instant::now() < end, "{outcome:?}");
    }
}

#[test]
fn a_hostile_server_is_left_alone() {
    for answer in [&b"001 powerman 2.3\r\npowerman> \0\xff\xfe"[..], b"", b"302 on: cn1\r\n103 done\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = table(listener.local_addr().unwrap().port());
        thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(answer);
                open.push(stream);
            }
        });
        let site = Site::new();
        let outcome = site.run_one(&table, Task::Status);
        assert_eq!((outcome.power, outcome.error.is_some()), (None, true), "{outcome:?}");
    }
}
