use super::*;
use rollout_core::protocol::rehearsal::Step;
use rollout_core::time_limit::TimeLimit;
use space::Space;
use spec::Notation;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

/// Returns a step of a rehearsal. An empty version is none.
pub(super) fn step(what: &str, from: &str, to: &str) -> Step {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Step { what: what.to_owned(), from: some(from), to: some(to) }
}

/// An unreadable note stops an undo and an apply before they change anything, and the error names its path. The
/// packages of this machine are the old ones, and the undo comes first: without a note it does nothing.
#[test]
fn files_for_an_undo_are_kept_in_the_state_directory() {
    let state_dir = tempfile::tempdir().unwrap();
    let note = state_dir.path().join("undo/unfinished");
    std::fs::create_dir_all(&note).unwrap();
    let timeout = TimeLimit::from_secs(60);
    let packages = Packages { timeout, ..Packages::default() };
    let before = packages.observe(tempfile::tempdir().unwrap().path(), None).unwrap();
    for error in [
        packages.undo(&before, state_dir.path()).unwrap_err(),
        packages.apply(&before, state_dir.path()).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with(&format!("reading {}", note.display())), "{error}");
    }
    forget(state_dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(state_dir.path()).unwrap().count(), 0);
}

/// A package manager with which others work at the same time: a list of the installed packages for each question.
struct Fake(RefCell<VecDeque<Vec<String>>>);

impl Fake {
    fn of(lists: &[&[&str]]) -> Self {
        Self(RefCell::new(lists.iter().map(|list| packages(list)).collect()))
    }
}

fn packages(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}-0:1-1.noarch")).collect()
}

impl Tool for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn notation(&self) -> Notation {
        Notation::Rpm
    }
    fn installed(&self) -> Result<Vec<String>, ChangeError> {
        Ok(self.0.borrow_mut().pop_front().expect("no further question"))
    }
    fn is_provided(&self, _: &str) -> Result<bool, ChangeError> {
        Ok(false)
    }
    fn forecast(&self, _: &Transaction, _: &[String], _: TimeBudget) -> Result<Forecast, ChangeError> {
        Ok(Forecast { affected: Vec::new(), steps: Vec::new(), space: Space::default() })
    }
    fn download_dir(&self) -> PathBuf {
        "/".into()
    }
    fn size_of_files(&self, _: &[String], _: TimeBudget) -> u64 {
        0
    }
    fn fetch_to_cache(&self, _: &[String], _: &UndoCache, _: TimeBudget) -> Result<Unkept, ChangeError> {
        Ok(Unkept::default())
    }
    fn not_offered(&self, _: &[String], _: TimeBudget) -> Result<Unkept, ChangeError> {
        Ok(Unkept::default())
    }
    fn files_of(&self, _: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        Ok(Vec::new())
    }
    fn configuration_of(&self, _: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        Ok(Vec::new())
    }
    fn reasons(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        Ok(BTreeMap::new())
    }
    fn mark(&self, _: &str, _: &[String], _: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }
    fn recover(&self, _: &[String], _: Direction, _: bool, _: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }
    fn finish(&self, _: &[String], _: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }
    fn execute(&self, _: &Transaction, _: TimeBudget) -> Result<Vec<String>, ChangeError> {
        Ok(Vec::new())
    }
    fn remove_leftovers(&self, _: &[String], _: TimeBudget) {}
    fn restore(
        &self,
        _: &[String],
        _: &[String],
        _: &UndoCache,
        _: TimeBudget,
    ) -> Result<Vec<String>, ChangeError> {
        Ok(Vec::new())
    }
}

/// Others install a package while the transaction is prepared, and remove it again: an undo must not install it.
#[test]
fn an_undo_restores_the_packages_of_the_last_preparation() {
    let dir = tempfile::tempdir().unwrap();
    let cache = UndoCache::in_dir(dir.path());
    let system = System { root: dir.path().to_owned(), kernel: "1".to_owned(), loader: None };
    let limit = TimeLimit::from_secs(60);
    let wanted = Packages { install: vec!["new".to_owned()], timeout: limit, ..Packages::default() };
    for (lists, start) in [
        (&[&["a", "b"][..], &["a"], &["a"], &["a"]][..], &["a"][..]),
        (&[&["a"], &["a", "b"], &["a", "b"], &["a", "b"]], &["a", "b"]),
        (&[&["a"], &["a"]], &["a"]),
    ] {
        let tool = Fake::of(lists);
        let site = Site { tool: &tool, cache: &cache, system: &system };
        let before = packages(&["a"]);
        let budget = TimeBudget::new(limit.get());
        let prepared = site.prepare_undisturbed(&wanted, &before, false, budget).unwrap();
        assert_eq!(
            (prepared.start, site.start(&before).unwrap()),
            (packages(start), packages(start)),
            "{lists:?}"
        );
        cache.remove().unwrap();
    }
}
