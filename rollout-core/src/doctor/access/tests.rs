use super::*;
use crate::doctor::Level::{Ok as Fine, Problem, Warning};

const PATH: &str = "/usr/p";
const SLURM: u32 = 64030;

fn slurm() -> Identity {
    Identity { name: "slurm".into(), uid: SLURM, gids: vec![SLURM, 100] }
}

fn entry(path: &str, uid: u32, gid: u32, mode: u32) -> Entry {
    Entry { path: path.into(), uid, gid, mode, is_dir: false }
}

fn dir(path: &str, uid: u32, gid: u32, mode: u32) -> Entry {
    Entry { is_dir: true, ..entry(path, uid, gid, mode) }
}

fn of_program(dir_mode: (u32, u32, u32), file: (u32, u32, u32), release: (u16, u16)) -> Vec<Finding> {
    let entries = vec![
        dir("/", 0, 0, 0o755),
        dir("/usr", dir_mode.0, dir_mode.1, dir_mode.2),
        entry(PATH, file.0, file.1, file.2),
    ];
    let release = Some(Release { year: release.0, month: release.1 });
    program(&ProgramFacts { path: PATH, entries: Ok(entries), is_ours: Some(true), release }, Some(&slurm()))
}

#[test]
fn modes_of_the_program_and_its_directories() {
    let good = (0, 0, 0o755);
    for (dir, file, release, level, word) in [
        (good, good, (24, 11), Fine, "executable for SlurmUser slurm"),
        (good, (0, 0, 0o711), (24, 11), Problem, "not readable"),
        (good, (0, 0, 0o711), (22, 5), Warning, "not readable"),
        (good, (0, 0, 0o744), (22, 5), Problem, "not executable"),
        (good, (0, SLURM, 0o750), (24, 11), Fine, "mode 0750"),
        (good, (0, 7, 0o750), (24, 11), Problem, "not executable"),
        (good, (0, 0, 0o775), (24, 11), Problem, "writable for its group"),
        (good, (0, 0, 0o757), (26, 5), Problem, "writable for its group or for all"),
        (good, (1000, 0, 0o755), (24, 11), Problem, "belongs to uid 1000"),
        (good, (SLURM, 0, 0o755), (24, 11), Problem, "belongs to uid 64030"),
        ((0, 0, 0o750), good, (24, 11), Problem, "/usr (mode 0750) cannot be entered"),
        ((0, 100, 0o750), good, (24, 11), Fine, ""),
        ((0, 0, 0o777), good, (24, 11), Problem, "/usr (mode 0777) is writable for others"),
        ((0, 100, 0o775), good, (24, 11), Problem, "writable for others"),
        ((0, 0, 0o775), good, (24, 11), Fine, "root's own group"),
        ((0, 0, 0o1777), good, (24, 11), Fine, "sticky"),
        ((1000, 0, 0o755), good, (24, 11), Problem, "/usr belongs to uid 1000"),
    ] {
        let findings = of_program(dir, file, release);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].level, level, "{findings:?}");
        assert!(level == Fine || findings[0].what.contains(word), "{word}: {findings:?}");
        assert_eq!(level == Fine, findings[0].cure.is_none());
    }
    let refused = of_program(good, (0, 0, 0o775), (26, 5)).remove(0);
    assert!(refused.why.unwrap().contains("Invalid power action"));
}

#[test]
fn a_program_that_is_missing_or_another_one() {
    let missing =
        ProgramFacts { path: PATH, entries: Err("is not there".into()), is_ours: None, release: None };
    assert_eq!(program(&missing, None)[0].level, Problem);
    let other = ProgramFacts {
        path: PATH,
        entries: Ok(vec![dir("/", 0, 0, 0o755), entry(PATH, 0, 0, 0o755)]),
        is_ours: Some(false),
        release: None,
    };
    let findings = program(&other, Some(&slurm()));
    assert!(findings.len() == 1 && findings[0].what.contains("is not slurm-rollout's"), "{findings:?}");
    let directory = ProgramFacts { entries: Ok(vec![dir(PATH, 0, 0, 0o755)]), ..other };
    assert!(program(&directory, None)[0].what.contains("is a directory"));
}

fn facts(owner: u32, mode: u32) -> StateFacts<'static> {
    let entries = vec![dir("/", 0, 0, 0o755), dir("/s", owner, owner, mode)];
    StateFacts {
        path: "/s",
        entries: Ok(entries),
        slurm_user_writes: Some(true),
        slurm_user_locks: Some(Ok(())),
        root: Some(RootAccess { reads: true, writes: true }),
        free: Some(1 << 40),
        foreign: None,
    }
}

#[test]
fn state_directories() {
    let good = || facts(SLURM, 0o755);
    let above = |mode| StateFacts {
        entries: Ok(vec![dir("/", 0, 0, mode), dir("/s", SLURM, SLURM, 0o755)]),
        ..good()
    };
    for (facts, level, word) in [
        (good(), Fine, "who can write there"),
        (StateFacts { slurm_user_writes: None, ..good() }, Fine, "SlurmUser slurm's"),
        (StateFacts { entries: Err("is not there".into()), ..good() }, Problem, "is not there"),
        (facts(0, 0o755), Problem, "belongs to uid 0"),
        (facts(SLURM, 0o555), Problem, "cannot write"),
        (facts(SLURM, 0o775), Problem, "writable for its group"),
        (facts(SLURM, 0o700), Fine, ""),
        (StateFacts { slurm_user_writes: Some(false), ..good() }, Problem, "cannot write"),
        (above(0o700), Problem, "/ (mode 0700) cannot be entered"),
        (
            StateFacts { slurm_user_locks: Some(Err("Function not implemented".into())), ..good() },
            Problem,
            "cannot take the lock",
        ),
        (StateFacts { slurm_user_locks: None, ..good() }, Fine, ""),
        (StateFacts { free: Some(1 << 20), ..good() }, Problem, "1 MB free"),
        (StateFacts { free: Some(50 << 20), ..good() }, Warning, "52 MB free"),
        (StateFacts { free: None, ..good() }, Fine, ""),
        (
            StateFacts { root: Some(RootAccess { reads: true, writes: false }), ..good() },
            Fine,
            "root cannot, and acts as that user",
        ),
        (
            StateFacts { root: Some(RootAccess { reads: false, writes: false }), ..facts(SLURM, 0o700) },
            Problem,
            "root may not read",
        ),
        (StateFacts { root: None, ..good() }, Fine, ""),
        (StateFacts { foreign: Some((2, "lock".into())), ..good() }, Problem, "such as lock"),
        (StateFacts { foreign: Some((2, "lock".into())), ..facts(0, 0o755) }, Problem, "belongs to uid 0"),
        (
            StateFacts { entries: Ok(vec![entry("/s", SLURM, SLURM, 0o755)]), ..good() },
            Problem,
            "no directory",
        ),
    ] {
        let findings = state(&facts, &slurm());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].level, level, "{findings:?}");
        assert!(findings[0].what.contains(word), "{findings:?}");
    }
}

#[test]
fn root_may_do_everything_but_run_what_nobody_may() {
    let root = Identity { name: "root".into(), uid: 0, gids: vec![0] };
    assert!(entry("/f", 1, 1, 0).allows(&root, 6));
    assert!(!entry("/f", 1, 1, 0o644).allows(&root, 1));
    assert!(dir("/d", 1, 1, 0).allows(&root, 7));
    assert!(entry("/f", 1, 1, 0o001).allows(&root, 1));
}
