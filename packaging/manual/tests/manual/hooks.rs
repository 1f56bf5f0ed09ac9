//! The examples of hooks in the documentation.

use rollout_host::run::Program;
use std::time::Duration;

const MANIFEST: &str = include_str!("../../../../docs/manifest.md");

/// Programs stand in for those that the examples call: jq names two nodes, and the others record how they are called.
#[test]
fn examples_of_hooks_do_what_they_say() {
    let (_, section) = MANIFEST.split_once("\n### [[strategy.hook]]\n").unwrap();
    let section = section.split("\n### ").next().unwrap();
    let examples: Vec<&str> =
        section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let record = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >> {}\n", calls.display());
    let stand_ins = [
        ("jq", "#!/bin/sh\nprintf 'cn01\\ncn02\\n'\n"),
        ("ceph", &record),
        ("ipmitool", &record),
        ("msmtp", &record),
    ];
    for (name, text) in stand_ins {
        rollout_host::durable::replace(&dir.path().join(name), text.as_bytes(), 0o755).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let mut actual = Vec::new();
    for (example, argument) in examples.iter().zip(["set", "", ""]) {
        let sh = Program::new("/bin/sh", Duration::from_secs(20)).args(["-ec", example, "example", argument]);
        sh.env("PATH", &path).run().unwrap();
        actual.extend(std::fs::read_to_string(&calls).unwrap().lines().map(str::to_owned));
        std::fs::remove_file(&calls).unwrap();
    }
    let bmc = |node: &str| {
        format!("ipmitool -I lanplus -H {node}-bmc -U admin -f /etc/site/bmc-password chassis identify 255")
    };
    let ceph = |node: &str| format!("ceph osd set-group noout {node}");
    let expected = [ceph("cn01"), ceph("cn02"), "msmtp -t".to_owned(), bmc("cn01"), bmc("cn02")];
    assert_eq!((examples.len(), actual), (3, expected.to_vec()));
}
