//! Started rollouts: one process looks after them, and a verb has its effect once.

use super::*;

#[test]
fn one_of_many_processes_has_the_lease_until_it_dies() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    let mut children = start_together("lease", dir.path(), PROCESSES);
    let holder = || store.lease().unwrap().map(|lease| lease.holder.pid);
    let wait_for_another = |than: Option<u32>| loop {
        match holder() {
            Some(pid) if Some(pid) != than => break pid,
            _ => thread::sleep(Duration::from_millis(1)),
        }
    };
    let first = wait_for_another(None);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(holder(), Some(first), "the others wait");
    let place = children.iter().position(|child| child.id() == first).unwrap();
    let mut killed = children.remove(place);
    killed.kill().unwrap();
    assert!(words(&mut killed).0.iter().all(|pid| *pid == first.to_string()));
    let begin = Instant::now();
    let second = wait_for_another(Some(first));
    assert!(begin.elapsed() < Duration::from_secs(20), "at once, not after its end");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(holder(), Some(second));
    File::create(dir.path().join("done")).unwrap();
    for child in &mut children {
        let (pid, (took, status)) = (child.id(), words(child));
        assert!(status.success(), "{status}");
        // The second one may end first, and leave it to a third.
        assert!(took.iter().all(|word| *word == pid.to_string()));
        assert!(pid != second || took.len() > 1, "it renews it");
    }
}

#[test]
fn a_rollout_that_many_processes_start_is_started_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    stage(&store, "driver", "n1");
    let mut children = start_together("start", dir.path(), PROCESSES);
    let mut lines = 0;
    for child in &mut children {
        let (words, status) = words(child);
        assert!(status.success(), "{status}");
        lines += words.iter().map(|word| word.parse::<usize>().unwrap()).sum::<usize>();
    }
    let read = store.rollout("driver").unwrap().lines;
    let written = read.iter().filter(|line| line.entry == Entry::Started).count();
    assert_eq!((lines, written), (1, 1));
}
