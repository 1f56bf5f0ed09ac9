//! Switches nodes and reads back what came of it: a request that was accepted proves nothing.

use super::assigned::Assigned;
use super::{PowerState, Switch};
use crate::agents::dispatch::dispatch;
use rollout_core::time_limit::TimeLimit;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Number of nodes that are switched at the same time. Each takes a process, and rooms have fuses.
const CONCURRENCY: usize = 16;

/// Time limit for one question or request.
const CALL: Duration = Duration::from_secs(30);

/// Time that a call may take beyond its limit, until its program is killed.
const KILL: Duration = Duration::from_secs(15);

/// Pauses between two looks: the first ones are short, as most nodes switch at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time without power in a cycle, for power supplies to discharge.
const WITHOUT_POWER: Duration = Duration::from_secs(3);

/// What is to be done with the power of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Status,
    On,
    /// `soft` asks the node's system to shut down, instead of cutting the power.
    Off {
        soft: bool,
    },
    /// Off, which is read back, and then on.
    Cycle {
        soft: bool,
    },
}

/// The outcome for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The power that was read last. `None` if it is unknown.
    pub power: Option<PowerState>,
    /// Whether the power was changed, as was read back.
    pub changed: bool,
    /// The reason for which the task is not done, or not known to be.
    pub error: Option<String>,
}

impl Outcome {
    /// Returns the outcome of a node that nothing was asked about.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { power: None, changed: false, error: Some(why.into()) }
    }

    fn read(power: PowerState, changed: bool) -> Self {
        Self { power: Some(power), changed, error: None }
    }

    fn and(self, next: impl FnOnce() -> Self) -> Self {
        if self.error.is_some() {
            return self;
        }
        let after = next();
        Self { changed: self.changed || after.changed, ..after }
    }
}

impl Task {
    fn off(soft: bool) -> Switch {
        if soft { Switch::SoftOff } else { Switch::Off }
    }

    /// Returns the longest time that it takes for a node.
    fn longest(self, time_limit: Duration) -> Duration {
        let call = CALL + KILL;
        let change = call + call + time_limit + call;
        match self {
            Self::Status => call,
            Self::On | Self::Off { .. } => change,
            Self::Cycle { .. } => change + WITHOUT_POWER + change,
        }
    }
}

/// Carries out a task on all nodes, 16 at a time, and returns the outcome of each.
#[must_use]
pub fn carry_out(task: Task, nodes: Vec<Assigned>) -> BTreeMap<String, Outcome> {
    let late = Outcome::unknown("its turn did not come in time");
    let mut outcomes: BTreeMap<String, Outcome> =
        nodes.iter().map(|node| (node.target.node.clone(), late.clone())).collect();
    let rounds = u32::try_from(nodes.len().div_ceil(CONCURRENCY)).unwrap_or(u32::MAX);
    let longest = nodes.iter().map(|node| task.longest(node.time_limit)).max().unwrap_or_default();
    let deadline = Instant::now() + longest.saturating_mul(rounds);
    let work = move |node: Assigned| {
        let outcome = carry_out_one(task, &node);
        (node.target.node, outcome)
    };
    outcomes.extend(dispatch(nodes, CONCURRENCY, deadline, work).all());
    outcomes
}

fn carry_out_one(task: Task, node: &Assigned) -> Outcome {
    match task {
        Task::Status => match node.power.status(&node.target, CALL.min(node.time_limit)) {
            Ok(power) => Outcome::read(power, false),
            Err(why) => Outcome::unknown(why),
        },
        Task::On => change(node, Switch::On),
        Task::Off { soft } => change(node, Task::off(soft)),
        Task::Cycle { soft } => change(node, Task::off(soft)).and(|| {
            sleep(WITHOUT_POWER);
            change(node, Switch::On)
        }),
    }
}

/// Requests a change, unless the node is in that state already, and looks until it is, or its time is over.
fn change(node: &Assigned, switch: Switch) -> Outcome {
    let Assigned { target, power, time_limit } = node;
    let (wanted, call) = (switch.leads_to(), CALL.min(*time_limit));
    match power.status(target, call) {
        Ok(found) if found == wanted => return Outcome::read(found, false),
        Ok(_) => {}
        Err(why) => return Outcome::unknown(why),
    }
    let requested = power.switch(target, switch, call);
    let until = Instant::now() + *time_limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = power.status(target, call);
        if seen.as_ref().is_ok_and(|seen| *seen == wanted) {
            return Outcome::read(wanted, true);
        }
        // A request whose answer was lost may have been carried out, so the state is read before it counts as failed.
        let why = match (&requested, &seen) {
            (Err(why), _) => Some(why.clone()),
            _ if Instant::now() < until => None,
            (Ok(()), Ok(seen)) => Some(still(*seen, switch, *time_limit)),
            (Ok(()), Err(why)) => Some(why.clone()),
        };
        if let Some(why) = why {
            return Outcome { power: seen.ok(), changed: false, error: Some(why) };
        }
        sleep(pause.min(until.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn still(seen: PowerState, switch: Switch, time_limit: Duration) -> String {
    let after = TimeLimit::from_secs(time_limit.as_secs());
    let hint = match switch {
        Switch::SoftOff => {
            "; without --soft its power is cut; time_limit of its table is longer for slow systems"
        }
        Switch::On | Switch::Off => "; look at its management controller",
    };
    format!("is still {seen} {after} after {} was accepted{hint}", switch.name())
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Power, Target};
    use super::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    type Answer = Result<PowerState, String>;

    /// Answers as in a list, the last one for ever, and records the requests.
    struct Script {
        answers: Mutex<VecDeque<Answer>>,
        requests: Mutex<Vec<Switch>>,
        accepts: Result<(), String>,
    }

    impl Power for Script {
        fn status(&self, _: &Target, _: Duration) -> Answer {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
        }

        fn switch(&self, _: &Target, switch: Switch, _: Duration) -> Result<(), String> {
            self.requests.lock().unwrap().push(switch);
            self.accepts.clone()
        }
    }

    fn run(task: Task, answers: &[Answer], accepts: Result<(), String>) -> (Outcome, Vec<Switch>) {
        let script = Arc::new(Script {
            answers: Mutex::new(answers.iter().cloned().collect()),
            requests: Mutex::default(),
            accepts,
        });
        let address = Address::try_from("bmc".to_owned()).unwrap();
        let target = Target { node: "cn1".to_owned(), address, system: None };
        let power: Arc<dyn Power> = Arc::clone(&script) as Arc<dyn Power>;
        let node = Assigned { target, power, time_limit: Duration::from_secs(1) };
        let mut outcomes = carry_out(task, vec![node]);
        let requests = script.requests.lock().unwrap().clone();
        (outcomes.remove("cn1").unwrap(), requests)
    }

    const ON: Answer = Ok(PowerState::On);
    const OFF: Answer = Ok(PowerState::Off);

    fn unknown() -> Answer {
        Err("no answer".to_owned())
    }

    #[test]
    fn a_change_counts_when_it_is_read_back() {
        let off = Task::Off { soft: false };
        let (outcome, requests) = run(off, &[ON, ON, unknown(), OFF], Ok(()));
        assert_eq!((outcome, &requests[..]), (Outcome::read(PowerState::Off, true), &[Switch::Off][..]));
        let (outcome, requests) = run(off, &[OFF], Ok(()));
        assert_eq!((outcome, requests.len()), (Outcome::read(PowerState::Off, false), 0), "it was off");
        let (outcome, requests) = run(Task::On, &[OFF, ON], Ok(()));
        assert_eq!((outcome, &requests[..]), (Outcome::read(PowerState::On, true), &[Switch::On][..]));
    }

    #[test]
    fn an_accepted_request_proves_nothing() {
        let (outcome, _) = run(Task::Off { soft: false }, &[ON], Ok(()));
        assert_eq!(outcome.power, Some(PowerState::On));
        assert!(outcome.error.unwrap().starts_with("is still on 1s after off was accepted"));
        let (outcome, requests) = run(Task::Off { soft: true }, &[ON], Ok(()));
        assert!(outcome.error.unwrap().contains("without --soft"));
        assert_eq!(requests, [Switch::SoftOff], "no power is cut that was not asked for");
    }

    #[test]
    fn unknown_is_an_error_and_never_off() {
        for task in [Task::Status, Task::On, Task::Off { soft: false }, Task::Cycle { soft: false }] {
            let (outcome, requests) = run(task, &[unknown()], Ok(()));
            assert_eq!((outcome, requests.len()), (Outcome::unknown("no answer"), 0), "{task:?}");
        }
        let (outcome, _) = run(Task::Off { soft: false }, &[ON, unknown()], Ok(()));
        assert_eq!(outcome, Outcome::unknown("no answer"));
    }

    #[test]
    fn a_request_that_failed_may_have_been_carried_out() {
        let lost = || Err("the answer was lost".to_owned());
        let (outcome, _) = run(Task::Off { soft: false }, &[ON, OFF], lost());
        assert_eq!(outcome, Outcome::read(PowerState::Off, true));
        let (outcome, _) = run(Task::Off { soft: false }, &[ON, ON], lost());
        assert_eq!((outcome.power, outcome.error), (Some(PowerState::On), lost().err()));
    }

    #[test]
    fn a_cycle_is_off_and_then_on() {
        let cycle = Task::Cycle { soft: false };
        let (outcome, requests) = run(cycle, &[ON, OFF, OFF, ON], Ok(()));
        assert_eq!(outcome, Outcome::read(PowerState::On, true));
        assert_eq!(requests, [Switch::Off, Switch::On]);
        let (outcome, requests) = run(cycle, &[ON], Ok(()));
        assert!(outcome.error.is_some());
        assert_eq!(requests, [Switch::Off], "it is not switched on before it was off");
        let (outcome, requests) = run(cycle, &[OFF, OFF, ON], Ok(()));
        assert_eq!((outcome.power, requests), (Some(PowerState::On), vec![Switch::On]));
    }

    #[test]
    fn sixteen_nodes_at_a_time() {
        struct Slow(Mutex<(usize, usize)>);
        impl Power for Slow {
            fn status(&self, _: &Target, _: Duration) -> Answer {
                let mut now = self.0.lock().unwrap();
                now.0 += 1;
                now.1 = now.1.max(now.0);
                drop(now);
                sleep(Duration::from_millis(30));
                self.0.lock().unwrap().0 -= 1;
                OFF
            }

            fn switch(&self, _: &Target, _: Switch, _: Duration) -> Result<(), String> {
                Ok(())
            }
        }
        let slow = Arc::new(Slow(Mutex::default()));
        let address = Address::try_from("bmc".to_owned()).unwrap();
        let node = |n: usize| Assigned {
            target: Target { node: format!("cn{n}"), address: address.clone(), system: None },
            power: Arc::clone(&slow) as Arc<dyn Power>,
            time_limit: Duration::from_secs(60),
        };
        let outcomes = carry_out(Task::Status, (0..100).map(node).collect());
        assert_eq!(outcomes.values().filter(|outcome| outcome.power == Some(PowerState::Off)).count(), 100);
        assert_eq!(slow.0.lock().unwrap().1, CONCURRENCY);
    }
}
