//! The same expressions with the same files, evaluated by us and by ClusterShell (Debian's clustershell).

use super::random::{Case, Random};
use super::write;
use rollout_cli::groups::SiteGroups;
use rollout_control::config::Config;
use rollout_core::hostlist::expand;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Evaluates the expressions of many sites: a line of JSON with the directory and the expressions for each. Prints a
/// line of JSON with their nodes, or the error.
const CLUSTERSHELL: &str = r"
import json, sys
from ClusterShell.NodeSet import NodeSet, ILLEGAL_GROUP_CHARS
from ClusterShell.NodeUtils import GroupResolverConfig

for line in sys.stdin:
    site = json.loads(line)
    resolver = GroupResolverConfig([site['dir'] + '/groups.conf'], ILLEGAL_GROUP_CHARS)
    answers = []
    for text in site['expressions']:
        try:
            answers.append(sorted(str(node) for node in NodeSet(text, resolver=resolver)))
        except Exception as error:
            answers.append('%s: %s' % (type(error).__name__, error))
    print(json.dumps(answers))
";

/// ClusterShell's own groups.conf, with the upcalls of the source `local` as they are shipped.
pub(super) const GROUPS_CONF: &str = r"[Main]
default: local
confdir: $CFGDIR/groups.conf.d
autodir: $CFGDIR/groups.d $CFGDIR/more

[local]
map: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^$GROUP:\(.*\)/\1/p' $f
all: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^all:\(.*\)/\1/p' $f
list: [ -f $CFGDIR/groups ] && f=$CFGDIR/groups || f=$CFGDIR/groups.d/local.cfg; sed -n 's/^\([0-9A-Za-z_-]*\):.*/\1/p' $f
";

/// Returns the answers of ClusterShell to the expressions of each site.
fn ask_clustershell(sites: &[(&Path, &[String])]) -> Vec<Vec<serde_json::Value>> {
    // The system's Python, for which clustershell is packaged.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", CLUSTERSHELL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("./install-prerequisites installs clustershell");
    let mut stdin = python.stdin.take().unwrap();
    let lines: String = sites
        .iter()
        .map(|(dir, expressions)| {
            format!("{}\n", serde_json::json!({ "dir": dir, "expressions": expressions }))
        })
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "ClusterShell is missing or failed; run ./install-prerequisites");
    writer.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn config(dir: &Path) -> Config {
    Config { clustershell_dir: dir.to_owned(), scontrol: "/nonexistent/scontrol".into(), ..Config::default() }
}

/// Returns our answer in the form of ClusterShell's.
fn ours(groups: &SiteGroups<'_>, text: &str) -> Result<Vec<String>, String> {
    match groups.resolve(text) {
        Ok(nodes) => Ok(nodes.iter().map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()),
        Err(error) if error.to_string().ends_with("stands for no node at present") => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn random_expressions_mean_the_same_as_to_clustershell() {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seeds: Vec<u64> = (1..=40).chain((0..10).map(|number| fresh.wrapping_add(number))).collect();
    let sites: Vec<(u64, tempfile::TempDir, Case)> = seeds
        .into_iter()
        .map(|seed| {
            let (dir, case) = (tempfile::tempdir().unwrap(), Random(seed).case());
            let files = [
                ("groups.conf", GROUPS_CONF),
                ("groups.d/site.yaml", &case.yaml),
                ("groups.d/local.cfg", &case.local),
            ];
            write(dir.path(), &files);
            (seed, dir, case)
        })
        .collect();
    let questions: Vec<_> =
        sites.iter().map(|(_, dir, case)| (dir.path(), case.expressions.as_slice())).collect();
    let answers = ask_clustershell(&questions);
    assert_eq!(answers.len(), sites.len());
    let (mut compared, mut with_nodes) = (0, 0);
    for ((seed, dir, case), answers) in sites.iter().zip(answers) {
        let config = config(dir.path());
        let groups = SiteGroups::new(&config);
        for (text, theirs) in case.expressions.iter().zip(answers) {
            let ours = serde_json::json!(ours(&groups, text).unwrap_or_else(|error| vec![error]));
            assert_eq!(ours, theirs, "seed {seed}: {text}\n{}{}", case.yaml, case.local);
            compared += 1;
            with_nodes += usize::from(theirs != serde_json::json!([]));
        }
    }
    println!("{compared} expressions, {with_nodes} with nodes; fresh seeds from {fresh}");
    assert!(with_nodes > compared / 3, "{with_nodes} of {compared}");
}

#[test]
fn both_refuse_the_same_texts_and_keep_the_same_differences() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "a:\n  circle: '@b'\n  b: '@circle'\n  one: n1\n  two: 'n1 n2'\n  three: [n1, 'n2!n1']\n  four: 'n1!n2 n2'\n";
    write(dir.path(), &[("groups.conf", GROUPS_CONF), ("groups.d/a.yaml", yaml), ("groups", "x: n1\n")]);
    let refused =
        ["!n1", "n1!", "n1!!n2", "n1!,n2", "n[1-2!n1", "n1]!n2", "@nosource:x", "n[1/2]", "n[2-1]!n1"];
    let same = ["@a:one", "@a:two", "@a:three", "@a:four", "@x", "n[1-2]!n2,@a:one"];
    // The group is unknown, which ClusterShell takes for empty. The list of names of groups is no set of nodes.
    let stricter = ["@a:typo", "@typo", "@@a"];
    // ClusterShell takes a blank for a part of the name.
    let blanks = ["n1 n2!n3"];
    let all: Vec<String> =
        [&refused[..], &same[..], &stricter, &blanks].concat().iter().map(|s| (*s).to_owned()).collect();
    let answers = ask_clustershell(&[(dir.path(), &all)]).remove(0);
    let config = config(dir.path());
    let groups = SiteGroups::new(&config);
    for (text, theirs) in all.iter().zip(&answers) {
        let ours = ours(&groups, text);
        match text.as_str() {
            text if refused.contains(&text) => {
                assert!(ours.is_err() && theirs.is_string(), "{text}: {ours:?} {theirs}")
            }
            text if same.contains(&text) => assert_eq!(&serde_json::json!(ours.unwrap()), theirs, "{text}"),
            text if stricter.contains(&text) => {
                assert!(ours.is_err() && theirs.is_array(), "{text}: {ours:?} {theirs}")
            }
            _ => assert_eq!(ours, expand("n1,n2").map_err(|error| error.to_string()), "{text}: {theirs}"),
        }
    }
    // ClusterShell recurses until its stack is full.
    let circle = groups.resolve("@a:circle").unwrap_err().to_string();
    assert!(circle.starts_with("@a:circle -> @a:b -> @a:circle: the group is part of itself"), "{circle}");
}
