//! The step for every combination of journal, boot source and agent, printed. A change of behavior is a change of
//! `combinations.txt`.

use super::*;
use std::fmt::Write as _;

const PROGRESSES: [(&str, Progress); 12] = [
    ("staged", Progress::Staged),
    ("sending", Progress::Ordering { until_ms: 140_000 }),
    ("killed while sending", KILLED),
    ("ordered", Progress::Ordered),
    ("refused", Progress::Refused),
    ("unreachable", Progress::Unreachable),
    ("held", HELD),
    ("updated", UPDATED),
    ("rolled-back", ROLLED_BACK),
    ("released", Progress::Seen(Phase::Released)),
    ("lost", Progress::Lost),
    ("superseded", Progress::Superseded),
];

/// Every answer of an agent to a controller that sent order 1 earlier and order 2 last.
fn answers() -> Vec<(String, Node)> {
    let node = Node::new();
    let mut answers = vec![
        ("silent".to_owned(), node.clone().silent()),
        ("no order, same boot".to_owned(), node.clone().agent(agent(OLD_BOOT))),
        ("no order, booted".to_owned(), node.clone().agent(agent(NEW_BOOT))),
        ("other order, same boot".to_owned(), node.clone().agent(agent(OLD_BOOT).at(7, Phase::Updated))),
        ("other order, booted".to_owned(), node.clone().agent(agent(NEW_BOOT).at(7, Phase::Updated))),
        ("earlier order verifying".to_owned(), node.clone().agent(agent(NEW_BOOT).at(1, Phase::Verifying))),
        ("earlier order updated".to_owned(), node.clone().agent(agent(NEW_BOOT).at(1, Phase::Updated))),
        ("awaits, same boot".to_owned(), node.clone().agent(agent(OLD_BOOT).awaiting())),
        ("awaits, booted".to_owned(), node.clone().agent(agent(NEW_BOOT).awaiting())),
        ("awaits, boot unknown".to_owned(), node.clone().agent(agent("").awaiting())),
    ];
    for phase in Phase::ALL {
        answers.push((phase.name().to_owned(), node.clone().agent(agent(NEW_BOOT).at(2, phase))));
    }
    answers
}

fn describe(due: Option<&FollowUp>) -> String {
    let whose = if due.is_some_and(|due| due.rollout.is_some()) { "by its rollout" } else { "plainly" };
    match due.map(|due| &due.step) {
        None => "nothing".to_owned(),
        Some(Step::Record(Outcome::Accepted { .. })) => "record ordered".to_owned(),
        Some(Step::Record(Outcome::UnderWay { .. })) => "record the earlier order".to_owned(),
        Some(Step::Record(Outcome::Retried)) => "record retried".to_owned(),
        Some(Step::Record(Outcome::Ended { phase, .. })) => format!("record {}", phase.name()),
        Some(Step::Record(Outcome::Lost { .. })) => "record lost".to_owned(),
        Some(Step::Record(Outcome::Superseded { .. })) => "record superseded".to_owned(),
        Some(Step::RestoreBoot { then, .. }) => format!("restore the boot source, then {then:?}"),
        Some(Step::TellBootRestored) => "tell that the boot source is restored".to_owned(),
        Some(Step::Instruct(instruction)) => format!("instruct {whose}, {}", instruction.phase.name()),
    }
}

/// Prints one line for each step, with the answers that lead to it.
fn print() -> String {
    let mut text = String::new();
    for (name, progress) in PROGRESSES {
        for boot in Boot::ALL {
            let mut steps: Vec<(String, Vec<String>)> = Vec::new();
            for (answer, node) in answers() {
                let record = record(progress).with_order(2).after_order(1).with_boot(boot);
                // Late enough for the restored boot source, too early for a timeout.
                let node = node.and_in("driver", IMAGE, record).slurm("DOWN+REBOOT_ISSUED", "").at_s(130);
                let due = due(node.0.node("n1"));
                assert!(due.len() < 2, "{due:?}");
                let step = describe(due.first());
                match steps.iter_mut().find(|(known, _)| *known == step) {
                    Some((_, answers)) => answers.push(answer),
                    None => steps.push((step, vec![answer])),
                }
            }
            let _ = writeln!(text, "{name}, boot source {}", format!("{boot:?}").to_lowercase());
            for (step, answers) in steps {
                let _ = writeln!(text, "    {step}: {}", answers.join("; "));
            }
        }
    }
    text
}

#[test]
fn each_combination_has_one_step() {
    let (now, before) = (print(), include_str!("combinations.txt"));
    let different: Vec<_> = now.lines().zip(before.lines()).filter(|(now, before)| now != before).collect();
    assert!(now == before, "combinations.txt differs: {different:#?}\nit would be:\n{now}");
}
