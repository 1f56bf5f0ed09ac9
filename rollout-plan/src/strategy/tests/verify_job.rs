//! The job that qualifies waves.

use super::*;
use rollout_core::rollout::manifest::Manifest;

/// Returns the job of a rollout of cn[001-100] with these keys of its strategy and of its job.
fn job(strategy: &str, keys: &str) -> Result<VerifyJob, String> {
    let text = format!("{HEAD}[verify]\ntimeout = '1m'\n[verify.job]\n{keys}\n[strategy]\n{strategy}\n");
    let strategy = of_manifest(&text, &nodes("cn[001-100]")).map_err(|error| error.to_string())?;
    Manifest::parse(&text).map_err(|error| error.to_string())?;
    Ok(strategy.verify_job.unwrap())
}

#[test]
fn reads_a_job_and_its_defaults() {
    let expected = VerifyJob {
        script: "/etc/site/q.sh".to_owned(),
        nodes: 1,
        time_limit: Duration::from_secs(1800),
        user: None,
        options: Vec::new(),
    };
    assert_eq!(job("", "script = '/etc/site/q.sh'"), Ok(expected.clone()));
    let whole = "script = '/etc/site/q.sh'\nnodes = 2\ntime_limit = '1h'\nuser = 'hpc'\n\
                 options = ['--exclusive', '--wait-all-nodes=1', '--output=/scratch/q.out', '--no-kill']";
    let options =
        ["--exclusive", "--wait-all-nodes=1", "--output=/scratch/q.out", "--no-kill"].map(str::to_owned);
    let (time_limit, user) = (Duration::from_secs(3600), Some("hpc".to_owned()));
    let whole_job = VerifyJob { nodes: 2, time_limit, user, options: options.into(), ..expected };
    assert_eq!(job("max_out = 2", whole), Ok(whole_job));
    assert_eq!(parse("").unwrap().verify_job, None);
}

#[test]
fn refuses_a_job_that_could_not_run_or_be_found() {
    let group = "group = [{ name = 'g', nodes = 'cn[001-003]' }]\n";
    let in_order = "max_out = 9\ngroup = [{ name = 'g', nodes = 'cn[001-002]', bring_up = ['cn001'] }]\n";
    for (strategy, keys, named) in [
        ("", "nodes = 2", "missing field `script`"),
        ("", "script = 'q.sh'", "verify.job.script: \"q.sh\": not an absolute path"),
        ("", "script = ''", "verify.job.script"),
        ("", "script = '/q'\nnodes = 0", "verify.job.nodes: 0: write 1 to 100"),
        ("", "script = '/q'\nnodes = 101", "verify.job.nodes: 101: write 1 to 100"),
        ("", "script = '/q'\nnodes = 2", "strategy.max_out: 1 at once, but up to 2 nodes"),
        (&format!("max_out = 3\n{group}"), "script = '/q'\nnodes = 2", "up to 4 nodes"),
        (in_order, "script = '/q'", "verify.job: the nodes of the group g come back one after another"),
        ("", "script = '/q'\ntime_limit = '25h'", "no time limit"),
        ("", "script = '/q'\nuser = '-1'", "verify.job.user"),
        ("", "script = '/q'\noptions = ['-p', 'gpu']", "verify.job.options[1]"),
        ("", "script = '/q'\noptions = ['--exclusive', '--']", "verify.job.options[2]"),
        ("", "script = '/q'\noptions = ['--reservation=x']", "--reservation is not"),
        ("", "script = '/q'\noptions = ['--reserv=x']", "--reservation is not"),
        ("", "script = '/q'\noptions = ['--array=1-2']", "--array is not"),
        ("", "script = '/q'\nscrip = 1", "unknown field `scrip`"),
    ] {
        let error = job(strategy, keys).expect_err(keys);
        assert!(error.contains(named), "{keys}:\n{error}\ndoes not name {named:?}");
    }
    // The rest of the table is checked by the parser of manifests.
    let text = format!("{HEAD}[verify]\njobs = 1\n");
    assert!(Manifest::parse(&text).is_err());
}
