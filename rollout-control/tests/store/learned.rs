//! Facts learned from Slurm.

use crate::prelude::*;
use rollout_control::config::Config;
use rollout_core::controller::pre_staging::{ChangedDrain, changed_drains};
use rollout_core::slurm::addresses::Addresses;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::controllers::ControllerHosts;
use rollout_core::slurm::drains::{Drain, Drains};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;

fn at(name: &str, address: &str) -> NodeInfo {
    NodeInfo { name: name.to_owned(), address: address.to_owned(), ..NodeInfo::default() }
}

#[test]
fn addresses_are_learnt_and_kept() {
    let (dir, store) = store();
    assert!(store.addresses().is_empty());
    store.learn_addresses(&[at("n1", "10.0.0.1"), at("n2", "n2")]).unwrap();
    store.learn_addresses(&[at("n2", "10.0.0.2")]).unwrap();
    let known = [("n1".to_owned(), "10.0.0.1".to_owned()), ("n2".to_owned(), "10.0.0.2".to_owned())];
    assert_eq!(store.addresses(), Addresses::from(known));
    let before = files(dir.path());
    store.learn_addresses(&[at("n1", "10.0.0.1")]).unwrap();
    store.learn_addresses(&[]).unwrap();
    assert_eq!(files(dir.path()), before);
    fs::write(dir.path().join("addresses.json"), "{torn").unwrap();
    assert!(store.addresses().is_empty(), "it only saves asking");
    store.learn_addresses(&[at("n1", "10.0.0.9")]).unwrap();
    assert_eq!(store.addresses().of("n1"), "10.0.0.9");
}

#[test]
fn controllers_are_learnt_and_kept() {
    let (dir, store) = store();
    assert!(store.controllers().is_empty());
    let hosts = ControllerHosts::of(&SlurmConfig::parse("SlurmctldHost[0] = ctl(10.71.1.1)\n"));
    store.learn_controllers(&hosts).unwrap();
    assert_eq!(store.controllers(), hosts);
    let before = files(dir.path());
    store.learn_controllers(&hosts).unwrap();
    assert_eq!(files(dir.path()), before);
    fs::write(dir.path().join("controllers.json"), "{torn").unwrap();
    assert!(store.controllers().is_empty());
}

/// The timer asks Slurm, RebootProgram finds a drain, and the timer records an answer from before it.
#[test]
fn a_drain_that_was_found_while_slurm_was_asked_stays() {
    let (_dir, store) = store();
    let drain = |reason: &str| Drain { reason: reason.to_owned(), ..Drain::default() };
    let drains = |of: &[(&str, &str)]| -> Drains {
        of.iter().map(|(node, reason)| ((*node).to_owned(), drain(reason))).collect()
    };
    store.add_drains(&drains(&[("n1", "old"), ("n2", "old"), ("n4", "not asked")])).unwrap();
    let before = store.drains();
    let idle = |node: &str| NodeInfo { state: vec!["IDLE".to_owned()], ..at(node, node) };
    let answer = [idle("n1"), idle("n2"), idle("n3")];
    store.add_drains(&drains(&[("n2", "new"), ("n3", "new")])).unwrap();
    store.learn_drains(&answer, &before, &Config::default().cured_by_reboot()).unwrap();
    assert_eq!(store.drains(), drains(&[("n2", "new"), ("n3", "new"), ("n4", "not asked")]));
    // The next answer is newer than they are.
    store.learn_drains(&answer, &store.drains(), &Config::default().cured_by_reboot()).unwrap();
    assert_eq!(store.drains(), drains(&[("n4", "not asked")]));
}

/// The agents must be told of a drain that was set or removed after they got the order.
#[test]
fn drains_that_agents_do_not_know_of() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    let learn = |node: &str, state: &str, reason: &str| {
        let state = state.split('+').map(str::to_owned).collect();
        let info = NodeInfo { state, reason: Some(reason.to_owned()), ..at(node, node) };
        store.learn_drains(&[info], &store.drains(), &Config::default().cured_by_reboot()).unwrap();
    };
    let pre_stage = |nodes: &str, reason: Option<&str>| {
        let (order, drained) = (id(7), reason.map(str::to_owned));
        store.record(Some(&driver), vec![Entry::PreStaged { nodes: set(nodes), order, drained }]).unwrap();
    };
    let changed = || changed_drains(&store.snapshot().unwrap(), clock::now_ms());
    let expected = |reason: Option<&str>, nodes| {
        let (rollout, order, reason) = (driver.clone(), id(7), reason.map(str::to_owned));
        vec![ChangedDrain { rollout, order, reason, nodes: set(nodes) }]
    };
    learn("n3", "IDLE+DRAIN", "not given yet");
    pre_stage("n[1-2]", None);
    assert_eq!(changed(), []);
    for node in ["n1", "n2"] {
        learn(node, "IDLE+DRAIN", "bad disk");
    }
    assert_eq!(changed(), expected(Some("bad disk"), "n[1-2]"));
    pre_stage("n1", Some("bad disk"));
    assert_eq!(changed(), expected(Some("bad disk"), "n2"));
    learn("n1", "IDLE", "");
    learn("n2", "IDLE", "");
    assert_eq!(changed(), expected(None, "n1"));
    let before = files(dir.path());
    learn("n1", "IDLE", "");
    assert_eq!(files(dir.path()), before, "nothing has changed");
    // An order that is carried out no longer needs it.
    store.record(Some(&driver), vec![ordered("n1", 7)]).unwrap();
    assert_eq!(changed(), []);
}
