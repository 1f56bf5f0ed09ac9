//! Output of hooks.

use crate::prelude::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_end_of_an_output_is_kept_with_its_rollout() {
    let (dir, store) = store();
    let id = staged(&store, "driver", "n1");
    assert_eq!(store.hook_outputs(&id).len(), 0);
    store.keep_hook_output(&id, 7, "moved\n").unwrap();
    store.keep_hook_output(&id, 8, " \n").unwrap();
    store.keep_hook_output(&id, 9, &"ü".repeat(20_000)).unwrap();
    let outputs = store.hook_outputs(&id);
    assert_eq!(outputs.keys().collect::<Vec<_>>(), [&7, &9], "an empty one is none");
    assert_eq!((outputs[&7].as_str(), outputs[&9].len()), ("moved\n", 16 * 1024));
    let path = dir.path().join("rollouts").join(&id).join("hooks/7");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn old_outputs_are_deleted() {
    let (_dir, store) = store();
    let id = staged(&store, "driver", "n1");
    for run in 1..=103 {
        store.keep_hook_output(&id, run, "x").unwrap();
    }
    let outputs = store.hook_outputs(&id);
    assert_eq!((outputs.len(), outputs.keys().next(), outputs.keys().last()), (100, Some(&4), Some(&103)));
}
