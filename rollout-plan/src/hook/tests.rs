use super::*;
use crate::node_sets::hostlist;

#[derive(Deserialize)]
struct Document {
    hook: Vec<Written>,
}

fn check(text: &str) -> Result<Vec<Hook>, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    check_all("strategy.hook", document.hook, "", &hostlist).map_err(|error| error.to_string())
}

#[test]
fn a_hook_has_defaults() {
    let text = "[[hook]]\nwhen = 'before-request'\ncommand = ['/etc/site/move-service', 'away']\n";
    let hooks = check(text).unwrap();
    let expected = Hook {
        name: "move-service".to_owned(),
        when: Moment::BeforeRequest,
        command: vec!["/etc/site/move-service".to_owned(), "away".to_owned()],
        nodes: None,
        max_nodes: 100,
        timeout: Duration::from_secs(120),
        on_failure: AfterFailure::Halt,
    };
    assert_eq!(hooks, [expected]);
    assert!(hooks[0].takes("n1") && hooks[0].program() == Path::new("/etc/site/move-service"));
    let text = "[[hook]]\nname = 'a'\nwhen = 'updated'\ncommand = ['/b']\nnodes = 'n[1-2]'\nmax_nodes = 1\n\
                timeout = '1h'\non_failure = 'fail'\n[[hook]]\nname = 'a'\nwhen = 'ended'\ncommand = ['/b']\n";
    let hooks = check(text).unwrap();
    assert!(hooks[0].takes("n2") && !hooks[0].takes("n3"));
    let of = |hook: &Hook| (hook.when, hook.max_nodes, hook.timeout.as_secs(), hook.on_failure);
    assert_eq!(of(&hooks[0]), (Moment::Updated, 1, 3600, AfterFailure::Fail));
    assert_eq!(
        of(&hooks[1]),
        (Moment::Ended, 100, 120, AfterFailure::Warn),
        "the same name at another moment"
    );
}

#[test]
fn a_hook_that_makes_no_sense_is_refused() {
    let long = format!("command = ['/a', '{}']", "x".repeat(4097));
    for (keys, why) in [
        ("when = 'updated'", "missing field `command`"),
        ("command = ['/a']", "missing field `when`"),
        ("when = 'before-order'\ncommand = ['/a']", "unknown variant `before-order`"),
        ("when = 'updated'\ncommand = ['/a']\nshell = true", "unknown field `shell`"),
        ("when = 'updated'\ncommand = []", "strategy.hook[1].command: \"\": not an absolute path"),
        ("when = 'updated'\ncommand = ['a', 'b']", "strategy.hook[1].command: \"a\": not an absolute path"),
        ("when = 'updated'\ncommand = ['/a', \"b\\nc\"]", "control character"),
        (&format!("when = 'updated'\n{long}"), "more than 4096 bytes"),
        ("when = 'updated'\ncommand = ['/a b']", "strategy.hook[1].name: \"a b\": write a name"),
        ("when = 'updated'\ncommand = ['/a']\nname = 'a/b'", "strategy.hook[1].name"),
        ("when = 'updated'\ncommand = ['/a']\nnodes = 'n[2-1]'", "strategy.hook[1].nodes"),
        ("when = 'ended'\ncommand = ['/a']\nnodes = 'n1'", "leave nodes out"),
        ("when = 'updated'\ncommand = ['/a']\nmax_nodes = 0", "0: write 1 to 1000"),
        ("when = 'updated'\ncommand = ['/a']\ntimeout = '61m'", "longer than 1h"),
        ("when = 'updated'\ncommand = ['/a']\ntimeout = '0s'", "no period"),
        ("when = 'paused'\ncommand = ['/a']\non_failure = 'halt'", "requests nothing"),
        ("when = 'failed'\ncommand = ['/a']\non_failure = 'fail'", "not possible with \"failed\""),
        ("when = 'ended'\ncommand = ['/a']\non_failure = 'fail'", "not possible with \"ended\""),
    ] {
        let error = check(&format!("[[hook]]\n{keys}\n")).unwrap_err();
        assert!(error.contains(why), "{keys}: {error}");
    }
    let twice = "[[hook]]\nwhen = 'updated'\ncommand = ['/a', '1']\n".repeat(2);
    assert!(check(&twice).unwrap_err().contains("strategy.hook[2].name: a second hook a updated"));
    let many: String =
        (0..33).map(|n| format!("[[hook]]\nwhen = 'updated'\ncommand = ['/a{n}']\n")).collect();
    assert!(check(&many).unwrap_err().contains("33 hooks; 32 are possible"));
}
