//! The rollouts in the state directory: nodes that did not come back, and files that cannot be read.

use super::Finding;
use crate::controller::snapshot::Snapshot;
use crate::hostlist::NodeSet;
use crate::rollout::journal::Progress;

const CHECK: &str = "rollouts";

/// Returns the findings about the rollouts that are not over.
#[must_use]
pub fn rollouts(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rollout in &snapshot.unreadable {
        findings.push(
            Finding::problem(CHECK, format!("{}: {}", rollout.id, rollout.error))
                .because("its nodes cannot be told what was staged for them; other rollouts go on")
                .cured_by(format!(
                    "restore rollouts/{} in the state directory from a backup, or move it away",
                    rollout.id
                )),
        );
    }
    for rollout in &snapshot.rollouts {
        if let Err(error) = &rollout.manifest {
            findings.push(
                Finding::problem(CHECK, error.clone())
                    .because("its nodes are not ordered, and one that awaits instructions keeps slurmd down")
                    .cured_by(
                        "if a newer version staged it, install that version again; else restore the file",
                    ),
            );
        }
        let lost = rollout.records.iter().filter(|(_, record)| record.progress == Progress::Lost);
        let lost: NodeSet = lost.map(|(name, _)| name.clone()).collect();
        if !lost.is_empty() {
            let cure = format!(
                "`slurm-rollout status -N {lost}`, then its console; power-cycle it. If it will not come back: \
                 `slurm-rollout unstage {} {lost}`",
                rollout.id
            );
            findings.push(
                Finding::problem(
                    CHECK,
                    format!("lost in {}: accepted the order and did not come back", rollout.id),
                )
                .because("the node takes no jobs, and the rollout is not over without it")
                .cured_by(cure)
                .on(lost),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} not over, none of their nodes is lost", snapshot.rollouts.len()),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::snapshot::{RolloutState, Unreadable};
    use crate::doctor::Level;
    use crate::rollout::journal::{Conduct, NodeRecord, NodeRecords};

    #[test]
    fn lost_nodes_and_unreadable_rollouts_are_problems() {
        let rollout = |manifest: Result<_, String>, progress| RolloutState {
            id: "driver".to_owned(),
            staged_ms: 1,
            by: "root@ctl".to_owned(),
            manifest,
            records: NodeRecords::from([("n1".to_owned(), NodeRecord::new(progress, 1))]),
            conduct: Conduct::default(),
        };
        let manifest = || {
            let text = "name='driver'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
            Ok(crate::rollout::manifest::Manifest::parse(text).unwrap())
        };
        let unreadable = Unreadable {
            id: "old".to_owned(),
            error: "journal: Input/output error".to_owned(),
            nodes: NodeSet::default(),
        };
        let ok = Snapshot { rollouts: vec![rollout(manifest(), Progress::Ordered)], ..Snapshot::default() };
        let lost = Snapshot { rollouts: vec![rollout(manifest(), Progress::Lost)], ..Snapshot::default() };
        let newer = rollout(Err("manifest.toml: unknown kind".to_owned()), Progress::Staged);
        let broken = Snapshot { rollouts: vec![newer], unreadable: vec![unreadable], ..Snapshot::default() };
        for (snapshot, level, count) in
            [(ok, Level::Ok, 1), (lost, Level::Problem, 1), (broken, Level::Problem, 2)]
        {
            let findings = rollouts(&snapshot);
            assert_eq!(findings.len(), count, "{findings:?}");
            assert!(findings.iter().all(|finding| finding.level == level), "{findings:?}");
        }
    }
}
