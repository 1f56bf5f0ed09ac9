use super::*;

fn step(what: &str, from: Option<&str>, to: Option<&str>) -> Step {
    Step { what: what.to_owned(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

fn change(kind: &str, steps: &[Step], trouble: &[&str]) -> ChangeReport {
    let trouble = trouble.iter().map(|why| (*why).to_owned()).collect();
    ChangeReport { kind: kind.to_owned(), steps: steps.to_vec(), trouble, ..ChangeReport::default() }
}

fn link(trouble: &[&str]) -> Report {
    let changes = vec![change("symlink", &[step("/opt/app", Some("/opt/1"), Some("/opt/2"))], trouble)];
    Report { changes, ..Report::default() }
}

fn unchanged() -> Report {
    Report { changes: vec![change("symlink", &[], &[])], ..Report::default() }
}

fn failing(report: Report) -> Report {
    let failed = FailedCheck { check: "/usr/sbin/nhc".to_owned(), why: "exit code 1".to_owned() };
    Report { checks: vec![failed], ..report }
}

fn full(free: Option<u64>) -> Report {
    let disk = vec![Disk { directory: "/usr".to_owned(), needed: (3 << 20) + 1, free }];
    let steps = vec![step("tool.noarch", None, Some("1.1-1"))];
    let changes = vec![ChangeReport { kind: "packages".to_owned(), steps, disk, ..ChangeReport::default() }];
    Report { changes, ..Report::default() }
}

fn fold(answers: &[(&str, Result<Report, String>)]) -> Rehearsals {
    let mut all = Rehearsals::default();
    answers.iter().for_each(|(node, answer)| all.add(node, answer.clone()));
    all
}

#[test]
fn the_worst_node_decides() {
    let silent = || Err("no answer from its agent: refused".to_owned());
    let stopped = Report { stopped: Some("an order came".to_owned()), ..unchanged() };
    for (answers, expected) in [
        (vec![], Verdict::NothingToDo),
        (vec![Ok(unchanged())], Verdict::NothingToDo),
        (vec![Ok(unchanged()), Ok(link(&[]))], Verdict::WouldChange),
        (vec![Ok(link(&[])), Ok(link(&["its target cannot be reached"]))], Verdict::Trouble),
        (vec![Ok(unchanged()), silent()], Verdict::Trouble),
        // A check that fails today and an incomplete report are trouble even if nothing would change.
        (vec![Ok(failing(unchanged()))], Verdict::Trouble),
        (vec![Ok(stopped)], Verdict::Trouble),
    ] {
        let answers: Vec<_> = answers.into_iter().map(|answer| ("n1", answer)).collect();
        assert_eq!(fold(&answers).verdict(), expected, "{answers:?}");
    }
}

#[test]
fn equal_reports_are_one_paragraph_and_the_worst_comes_first() {
    let gone = ChangeReport {
        notes: vec!["1 more of these were left out".to_owned()],
        ..change("packages", &[step("a", Some("1"), None)], &[])
    };
    let all = fold(&[
        ("n3", Ok(link(&[]))),
        ("n1", Ok(link(&[]))),
        ("n2", Ok(link(&[]))),
        ("n5", Ok(unchanged())),
        ("n4", Ok(failing(link(&["its target /opt/2 cannot be reached"])))),
        ("n6", Err("agent 0.1.0 cannot rehearse: update slurm-rollout-agent".to_owned())),
        (
            "n7",
            Ok(Report {
                changes: vec![gone],
                stopped: Some("an order came".to_owned()),
                ..Report::default()
            }),
        ),
    ]);
    let expected = "\
trouble on 3, would change on 3, nothing to do on 1

n7: trouble
  packages: a: removed, was 1
  packages: 1 more of these were left out
  not complete: an order came

n4: trouble
  symlink: its target /opt/2 cannot be reached
  symlink: /opt/app: /opt/1 -> /opt/2
  verify: /usr/sbin/nhc fails today: exit code 1

n6: trouble
  no report: agent 0.1.0 cannot rehearse: update slurm-rollout-agent

n[1-3]: would change
  symlink: /opt/app: /opt/1 -> /opt/2

n5: nothing to do
";
    assert_eq!(all.text(), expected);
    assert_eq!(fold(&[]).text(), "no node\n");
}

#[test]
fn nodes_that_differ_in_free_space_alone_are_one_group_with_the_least() {
    for (free, expected) in [
        ([Some(90 << 20), Some(40 << 20), Some(50 << 20)], "40 MiB"),
        ([None, Some(40 << 20), None], "40 MiB"),
        ([None, None, None], "unknown"),
    ] {
        let all = fold(&[("n1", Ok(full(free[0]))), ("n2", Ok(full(free[1]))), ("n3", Ok(full(free[2])))]);
        let expected = format!(
            "would change on 3\n\nn[1-3]: would change\n  packages: tool.noarch: new, 1.1-1\n  \
             packages: 4 MiB needed in /usr, {expected} free\n"
        );
        assert_eq!(all.text(), expected);
    }
}

#[test]
fn many_steps_are_cut_in_the_text_and_kept_in_json() {
    let steps: Vec<Step> = (0..30).map(|n| step(&format!("p{n:02}"), None, Some("1"))).collect();
    let report = Report { changes: vec![change("packages", &steps, &[])], ..Report::default() };
    let all = fold(&[("n1", Ok(report))]);
    let text = all.text();
    assert!(
        text.contains("p19: new, 1\n  packages: and 10 more; --json has all\n") && !text.contains("p20"),
        "{text}"
    );
    let json = serde_json::to_value(all.groups()).unwrap();
    assert_eq!(json[0]["nodes"], "n1");
    assert_eq!(json[0]["verdict"], "would-change");
    assert_eq!(json[0]["changes"][0]["steps"].as_array().unwrap().len(), 30);
}

#[test]
fn an_answer_is_shortened_and_all_of_its_texts_can_be_reached() {
    let steps = vec![step("p", Some("1"), Some("2")); 1003];
    let mut change = ChangeReport { kind: "packages".to_owned(), steps, ..ChangeReport::default() };
    change.shorten();
    assert_eq!(
        (change.steps.len(), change.notes.as_slice()),
        (1000, &["3 more of these were left out".to_owned()][..])
    );
    change.steps.truncate(1);
    change.trouble.push("t".to_owned());
    change.disk.push(Disk { directory: "/d".to_owned(), needed: 1, free: None });
    let mut report =
        failing(Report { changes: vec![change], checks: Vec::new(), stopped: Some("s".to_owned()) });
    let texts: Vec<String> = report.texts_mut().into_iter().map(|text| text.clone()).collect();
    let left_out = "3 more of these were left out";
    let expected = ["s", "packages", "p", "1", "2", "t", left_out, "/d", "/usr/sbin/nhc", "exit code 1"];
    assert_eq!(texts, expected);
}
