//! Rehearsals: what an order would do on this node, found out without doing it.
//!
//! A rehearsal runs beside the driver, so that no order waits for it. The one that is under way ends early when an
//! order begins: from then on the node is not as it was. It writes nothing. Package managers refresh their lists of
//! packages, and the commands of `[verify]` do whatever they do.

use crate::daemon::tools::Tools;
use rollout_core::agent::steps::check_volatile;
use rollout_core::protocol::order::OrderId;
use rollout_core::protocol::rehearsal::{ChangeReport, FailedCheck, LIMIT, Rehearsal, Report};
use rollout_core::rollout::manifest::DesiredState;
use rollout_core::text::one_line;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Length limit of a text in a report, in characters. The end of a command's output is in it.
const MAX_TEXT: usize = 1500;

/// The last rehearsal of this node, and the way to stop it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastRehearsal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: Option<Rehearsal>,
    stop: Arc<AtomicBool>,
}

/// The answer to a request to rehearse.
#[derive(Debug)]
pub(crate) enum Begin {
    /// The flag is set once it should end early.
    New(Arc<AtomicBool>),
    /// The order was sent once more.
    Repeated,
    /// Another one is under way.
    Busy,
}

impl LastRehearsal {
    pub(crate) fn begin(&self, order: &OrderId) -> Begin {
        let mut state = self.state();
        match &state.last {
            Some(last) if last.order == *order => return Begin::Repeated,
            Some(Rehearsal { report: None, .. }) => return Begin::Busy,
            _ => {}
        }
        state.last = Some(Rehearsal { order: order.clone(), report: None });
        state.stop = Arc::default();
        Begin::New(Arc::clone(&state.stop))
    }

    pub(crate) fn finish(&self, order: OrderId, mut report: Report) {
        report.changes.iter_mut().for_each(ChangeReport::shorten);
        for text in report.texts_mut() {
            *text = one_line(text, MAX_TEXT);
        }
        self.state().last = Some(Rehearsal { order, report: Some(report) });
    }

    /// Ends the rehearsal that is under way after its present step.
    pub(crate) fn stop(&self) {
        self.state().stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> Option<Rehearsal> {
        self.state().last.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rehearses the changes, and tries each mount and command once.
pub(crate) fn rehearse(
    tools: &dyn Tools,
    desired: &DesiredState,
    volatile: bool,
    stop: &AtomicBool,
) -> Report {
    let end = Instant::now() + LIMIT;
    let mut report = Report::default();
    if let Err(why) = volatile.then(|| check_volatile(desired)).transpose() {
        return Report { stopped: Some(why), ..report };
    }
    let left = || match end.saturating_duration_since(Instant::now()) {
        _ if stop.load(Ordering::SeqCst) => Err("an order for this node came meanwhile".to_owned()),
        Duration::ZERO => Err(format!("it was not done within {} s", LIMIT.as_secs())),
        left => Ok(left),
    };
    let mut run = || {
        for change in &desired.changes {
            let found = tools.rehearse(change, volatile, left()?);
            report.changes.push(after(&report.changes, found));
        }
        let verify = &desired.verify;
        for mount in &verify.mounts {
            let tried = tools.try_mount(mount, left()?);
            report.checks.extend(tried.err().map(|why| FailedCheck { check: mount.clone(), why }));
        }
        for command in &verify.commands {
            let tried = tools.try_command(command, verify, left()?);
            report.checks.extend(tried.err().map(|why| FailedCheck { check: command.join(" "), why }));
        }
        left().map(drop)
    };
    report.stopped = run().err();
    report
}

/// Returns the report of a change that comes after others. The target of a link, and the programs of a command, may come
/// with a package before it.
fn after(earlier: &[ChangeReport], mut report: ChangeReport) -> ChangeReport {
    let packages = earlier.iter().any(|change| change.kind == "packages" && !change.steps.is_empty());
    let may_come_late = matches!(report.kind.as_str(), "symlink" | "command");
    if packages && may_come_late && !report.steps.is_empty() {
        let may_come = |why: String| format!("unless a package of this rollout brings it: {why}");
        report.notes.extend(report.trouble.drain(..).map(may_come));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fake_node::FakeNode;
    use rollout_core::protocol::rehearsal::Step;
    use rollout_core::rollout::manifest::Manifest;

    fn desired(text: &str) -> DesiredState {
        Manifest::parse(&format!("name='r'\nnodes='n1'\n{text}")).unwrap().desired
    }

    const LINKS: &str = "[[change]]\nkind='symlink'\npath='/a'\ntarget='/new-a'\n\
                         [[change]]\nkind='symlink'\npath='/b'\ntarget='/old-b'\n\
                         [verify]\nmounts=['/scratch']\ncommands=[['/bin/nhc', '-q'], ['/bin/true']]\n";

    #[test]
    fn changes_are_reported_in_order_and_each_check_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let node = FakeNode::new(dir.path());
        node.state().broken = ["/bin/nhc -q", "/scratch"].into();
        let report = rehearse(&node, &desired(LINKS), false, &AtomicBool::new(false));
        let steps: Vec<&[Step]> = report.changes.iter().map(|change| change.steps.as_slice()).collect();
        let step =
            Step { what: "/a".to_owned(), from: Some("/old-a".to_owned()), to: Some("/new-a".to_owned()) };
        assert_eq!(steps, [&[step][..], &[]]);
        let failed: Vec<&str> = report.checks.iter().map(|failed| failed.check.as_str()).collect();
        assert_eq!((failed, report.stopped), (vec!["/scratch", "/bin/nhc -q"], None));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
        assert_eq!(node.state().used, ["/scratch", "/bin/nhc -q", "/bin/true"], "and nothing else is used");
    }

    #[test]
    fn a_target_may_come_with_a_package_before_the_link() {
        let change = |kind: &str, steps: &[Step], trouble: &[&str]| ChangeReport {
            kind: kind.to_owned(),
            steps: steps.to_vec(),
            trouble: trouble.iter().map(|why| (*why).to_owned()).collect(),
            ..ChangeReport::default()
        };
        let steps = [Step::new("x", "1")];
        let (new, same) = (change("packages", &steps, &[]), change("packages", &[], &[]));
        let link = change("symlink", &steps, &["no target"]);
        for (earlier, report, is_trouble) in [
            (vec![], link.clone(), true),
            (vec![same], link.clone(), true),
            (vec![link.clone()], link.clone(), true),
            (vec![new.clone(), link.clone()], link, false),
            (vec![new.clone()], change("command", &steps, &["no program"]), false),
            (vec![new.clone()], change("command", &[], &["it printed nothing"]), true),
            // A file in its place is in the way in any case.
            (vec![new.clone()], change("symlink", &[], &["a file stands there"]), true),
            (vec![new.clone()], change("packages", &steps, &["nothing provides it"]), true),
        ] {
            let found = after(&earlier, report);
            assert_eq!(
                (found.trouble.is_empty(), found.notes.is_empty()),
                (!is_trouble, is_trouble),
                "{found:?}"
            );
        }
    }

    #[test]
    fn an_order_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let node = FakeNode::new(dir.path());
        let report = rehearse(&node, &desired(LINKS), false, &AtomicBool::new(true));
        assert!(report.changes.is_empty() && report.stopped.is_some(), "{report:?}");
        assert!(node.state().used.is_empty());
    }

    #[test]
    fn a_node_that_keeps_nothing_takes_only_a_new_image() {
        let dir = tempfile::tempdir().unwrap();
        let node = FakeNode::new(dir.path());
        let report = rehearse(&node, &desired(LINKS), true, &AtomicBool::new(false));
        assert!(report.stopped.is_some_and(|why| why.contains("change its image")));
    }

    #[test]
    fn one_at_a_time_and_the_same_order_once() {
        let id = OrderId::from_random;
        let last_rehearsal = LastRehearsal::default();
        assert_eq!(last_rehearsal.get(), None);
        let Begin::New(stop) = last_rehearsal.begin(&id(1)) else { panic!("it is the first") };
        assert!(matches!(last_rehearsal.begin(&id(1)), Begin::Repeated));
        assert!(matches!(last_rehearsal.begin(&id(2)), Begin::Busy));
        assert_eq!(last_rehearsal.get(), Some(Rehearsal { order: id(1), report: None }));
        last_rehearsal.stop();
        assert!(stop.load(Ordering::SeqCst));
        let failed = FailedCheck { check: "nhc".to_owned(), why: "two\nlines".to_owned() };
        last_rehearsal.finish(id(1), Report { checks: vec![failed], ..Report::default() });
        let last = last_rehearsal.get().unwrap();
        assert_eq!(last.report.unwrap().checks[0].why, "two lines");
        assert!(matches!(last_rehearsal.begin(&id(1)), Begin::Repeated), "a replay runs nothing");
        let Begin::New(stop) = last_rehearsal.begin(&id(2)) else { panic!("the first is over") };
        assert!(!stop.load(Ordering::SeqCst));
    }
}
