//! ostree: a different deployment becomes the first one, which is booted by default. The one that is booted now stays,
//! and an undo makes it the first one again.
//!
//! Only ostree's own order of deployments is changed. Its origin files, its /etc and its kernel arguments are as
//! `ostree admin deploy` makes them.
//!
//! ostree before 2023.6 (Debian 12, Ubuntu 22.04, EL 8) has no `ostree admin set-default`. The way back there is to
//! remove the new deployment, or to deploy the old commit once more if the new one is booted and so cannot be removed.

use super::NodeProvider;
use crate::changes::ChangeError;
use rollout_core::agent::record::BootDefault;
use rollout_core::rollout::image::Image;
use rollout_host::run::Program;
use std::path::Path;
use std::time::Duration;

const OSTREE: &str = "/usr/bin/ostree";
const REPOSITORY: &str = "--repo=/ostree/repo";

/// Exists exactly if ostree has booted the system.
pub(in crate::changes) const BOOTED: &str = "/run/ostree-booted";

/// Time limit for queries, and for commands that only write the boot loader's entries.
const LIMIT: Duration = Duration::from_secs(120);
/// Time limit for a deployment: a checkout of hard links, and a kernel copied to /boot.
const DEPLOY_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Time limit for pulling a whole new system over the network.
const PULL_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A deployment as `ostree admin status` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Deployment {
    booted: bool,
    /// The operating system (stateroot).
    system: String,
    /// `CHECKSUM.SERIAL`: one commit may be deployed more than once.
    id: String,
}

/// A step on the way back to a deployment.
#[derive(Debug, PartialEq, Eq)]
enum WayBack {
    /// The deployment, or one of the same commit, is the first one already.
    Arrived,
    /// `ostree admin set-default` with this index.
    SetDefault(usize),
    /// `ostree admin undeploy 0`: the deployment in front of it is not booted.
    RemoveFirst,
    /// `ostree admin deploy` of its commit.
    DeployAgain,
    /// The deployment is gone.
    Gone,
}

/// The origin of an image, parsed from its `ref`.
#[derive(Debug, PartialEq, Eq)]
struct Source<'a> {
    remote: Option<&'a str>,
    /// The branch or commit to pull.
    branch: &'a str,
    /// The argument of `ostree admin deploy`: a commit has no remote.
    deployed: &'a str,
}

/// Returns the checksum of the booted deployment, if ostree has booted this system.
pub(super) fn booted_checksum() -> Result<Option<String>, ChangeError> {
    if !Path::new(BOOTED).exists() {
        return Ok(None);
    }
    let (id, _) = booted(&deployments()?)?;
    Ok(Some(checksum(&id).to_owned()))
}

pub(super) struct Ostree;

impl NodeProvider for Ostree {
    fn is_satisfied(&self, _image: &Image) -> Result<bool, ChangeError> {
        Ok(deployments()?.first().is_some_and(|first| first.booted))
    }

    /// Returns the id of the booted deployment.
    fn observe(&self, _boot: Option<&BootDefault>) -> Result<String, ChangeError> {
        if !Path::new(BOOTED).exists() {
            let problem = format!("this system was not booted by ostree: there is no {BOOTED}");
            return Err(ChangeError::state("looking at the ostree deployments", problem));
        }
        way_back_commands()?;
        Ok(booted(&deployments()?)?.0)
    }

    /// Looks for a local commit, or for the remote that it would be pulled from.
    fn look_for(&self, image: &Image) -> Result<(), ChangeError> {
        let reference = reference(image);
        let Source { remote, deployed, .. } = source(reference);
        let look = match remote {
            Some(remote) => ["remote", "show-url", REPOSITORY, remote].to_vec(),
            None => ["rev-parse", REPOSITORY, deployed].to_vec(),
        };
        run(&Program::new(OSTREE, LIMIT).args(look), &format!("looking for {reference}")).map(drop)
    }

    fn apply(&self, image: &Image, saved: &str) -> Result<(), ChangeError> {
        let reference = reference(image);
        let source = source(reference);
        // `ostree admin deploy` takes no `--`.
        if [source.remote.unwrap_or_default(), source.branch].iter().any(|word| word.starts_with('-')) {
            return Err(ChangeError::state(
                format!("deploying {reference}"),
                "this is an option, and no ref",
            ));
        }
        if let Some(remote) = source.remote {
            let pull = Program::new(OSTREE, PULL_LIMIT).args(["pull", REPOSITORY, remote, source.branch]);
            run(&pull, &format!("pulling {reference}"))?;
        }
        let deployments = deployments()?;
        let (_, system) = booted(&deployments)?;
        // After an interruption the deployment may be the first one already. A second one would do no harm, but takes
        // space.
        let commit = Program::new(OSTREE, LIMIT).args(["rev-parse", REPOSITORY, source.deployed]);
        let commit = run(&commit, &format!("looking for {reference}"))?;
        let first = deployments.first().filter(|first| first.id != saved);
        if first.is_some_and(|first| checksum(&first.id) == commit.trim()) {
            return Ok(());
        }
        let deploy = Program::new(OSTREE, DEPLOY_LIMIT).args([
            "admin",
            "deploy",
            &format!("--os={system}"),
            source.deployed,
        ]);
        run(&deploy, &format!("deploying {reference}")).map(drop)
    }

    fn undo(&self, saved: &str) -> Result<(), ChangeError> {
        let sets_default = way_back_commands()?;
        let mut found = deployments()?;
        // Each step removes a deployment or makes the right one the first.
        for _ in 0..=found.len() {
            match way_back(&found, saved, sets_default) {
                WayBack::Arrived => return Ok(()),
                WayBack::SetDefault(index) => {
                    let first =
                        Program::new(OSTREE, LIMIT).args(["admin", "set-default", &index.to_string()]);
                    run(&first, &format!("making the deployment {saved} the first one"))?;
                }
                WayBack::RemoveFirst => {
                    let remove = Program::new(OSTREE, LIMIT).args(["admin", "undeploy", "0"]);
                    run(&remove, &format!("removing the deployment in front of {saved}"))?;
                }
                WayBack::DeployAgain => {
                    let (_, system) = booted(&found)?;
                    let system = format!("--os={system}");
                    let commit = checksum(saved);
                    let deploy =
                        Program::new(OSTREE, DEPLOY_LIMIT).args(["admin", "deploy", &system, commit]);
                    run(&deploy, &format!("deploying {commit} again"))?;
                }
                WayBack::Gone => break,
            }
            found = deployments()?;
        }
        Err(ChangeError::state(
            "going back to the deployment from before",
            format!("{saved} is not the first of `ostree admin status`, and cannot be made the first"),
        ))
    }

    fn verify_old(&self, saved: &str) -> Result<(), ChangeError> {
        let sets_default = way_back_commands()?;
        let deployments = deployments()?;
        let (booted, _) = booted(&deployments)?;
        let first = deployments.first().map_or("none", |first| &first.id);
        if booted == first && is_same(&booted, saved, sets_default) {
            return Ok(());
        }
        let problem = format!("{booted} is booted and {first} is the first one, not {saved}");
        Err(ChangeError::state("verifying the deployment from before", problem))
    }

    fn is_booted_as_before(&self, saved: &str) -> bool {
        deployments().and_then(|deployments| booted(&deployments)).is_ok_and(|(id, _)| id == saved)
    }
}

fn deployments() -> Result<Vec<Deployment>, ChangeError> {
    let status = Program::new(OSTREE, LIMIT).args(["admin", "status"]);
    Ok(parse(&run(&status, "looking at the ostree deployments")?))
}

/// Returns the id and the system of the booted deployment.
fn booted(deployments: &[Deployment]) -> Result<(String, String), ChangeError> {
    let booted = deployments.iter().find(|deployment| deployment.booted);
    let booted = booted.map(|booted| (booted.id.clone(), booted.system.clone()));
    let problem = "none of `ostree admin status` is booted";
    booted.ok_or_else(|| ChangeError::state("looking for the booted ostree deployment", problem))
}

/// Returns whether this ostree has `set-default`, or fails if no way back from a new deployment is known.
fn way_back_commands() -> Result<bool, ChangeError> {
    let attempt = "looking for the way back to the present deployment";
    let help = run(&Program::new(OSTREE, LIMIT).args(["admin", "--help"]), attempt)?;
    let sets_default = has_command(&help, "set-default");
    if sets_default || has_command(&help, "undeploy") {
        return Ok(sets_default);
    }
    let problem = "`ostree admin --help` has neither set-default nor undeploy, so a new deployment could not be undone: \
                   install a newer ostree";
    Err(ChangeError::state(attempt, problem))
}

/// Returns whether the output of `ostree admin --help` lists a command.
fn has_command(help: &str, command: &str) -> bool {
    help.lines().any(|line| line.starts_with(' ') && line.split_whitespace().next() == Some(command))
}

/// Returns the next step on the way back to the deployment `saved`.
fn way_back(deployments: &[Deployment], saved: &str, sets_default: bool) -> WayBack {
    let index = deployments.iter().position(|deployment| deployment.id == saved);
    let Some(first) = deployments.first() else { return WayBack::Gone };
    match index {
        _ if is_same(&first.id, saved, sets_default) => WayBack::Arrived,
        Some(index) if sets_default => WayBack::SetDefault(index),
        Some(_) if !first.booted => WayBack::RemoveFirst,
        // ostree cannot remove the booted deployment ("Cannot undeploy currently booted deployment").
        Some(_) => WayBack::DeployAgain,
        None => WayBack::Gone,
    }
}

/// Returns whether a deployment is the one from before. Without `set-default` that one may have been deployed again,
/// with a different serial number, so the commit counts.
fn is_same(id: &str, saved: &str, sets_default: bool) -> bool {
    id == saved || !sets_default && checksum(id) == checksum(saved)
}

/// Returns the commit of a deployment, by its id.
fn checksum(id: &str) -> &str {
    id.split_once('.').map_or(id, |(checksum, _)| checksum)
}

fn run(program: &Program, attempt: &str) -> Result<String, ChangeError> {
    let output = program.run().map_err(|error| ChangeError::state(attempt, error.to_string()))?;
    Ok(output.stdout)
}

/// Parses `ostree admin status`: `* lab 7ea8….0` is booted, `  lab dc49….0 (rollback)` is not. More lines about a
/// deployment are indented below it.
fn parse(status: &str) -> Vec<Deployment> {
    let deployment = |line: &str| {
        let (booted, rest) = line.strip_prefix("* ").map_or((false, line), |rest| (true, rest));
        let mut words = rest.split_whitespace();
        let (system, id) = (words.next()?, words.next()?);
        let (checksum, serial) = id.split_once('.')?;
        let fits = is_commit(checksum) && serial.parse::<u32>().is_ok();
        fits.then(|| Deployment { booted, system: system.to_owned(), id: id.to_owned() })
    };
    status.lines().filter_map(deployment).collect()
}

fn reference(image: &Image) -> &str {
    image.values.get("ref").map_or("", String::as_str)
}

/// Parses `REMOTE:BRANCH`, `REMOTE:COMMIT`, or a branch or commit of the local repository.
fn source(reference: &str) -> Source<'_> {
    match reference.split_once(':') {
        Some((remote, branch)) => {
            let deployed = if is_commit(branch) { branch } else { reference };
            Source { remote: Some(remote), branch, deployed }
        }
        None => Source { remote: None, branch: reference, deployed: reference },
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_are_read_in_their_order() {
        let [new, old] = ["dc", "7e"].map(|begin| begin.repeat(32));
        let status = format!(
            "  lab {new}.1 (pending)\n    Version: 2\n    origin refspec: lab:compute/2\n* lab {old}.0\n    \
             origin refspec: compute/1\n    Pinned: yes\n\n"
        );
        let deployment = |booted, id: &str| Deployment { booted, system: "lab".into(), id: id.into() };
        let found = parse(&status);
        assert_eq!(found, [deployment(false, &format!("{new}.1")), deployment(true, &format!("{old}.0"))]);
        assert_eq!(booted(&found).unwrap(), (format!("{old}.0"), "lab".to_owned()));
        assert!(parse("No deployments.\n").is_empty() && booted(&[]).is_err());
    }

    #[test]
    fn each_ostree_has_a_way_back() {
        let listed = |lines: &[&str]| -> Vec<Deployment> {
            let deployment = |line: &&str| {
                let (booted, id) = line.strip_prefix('*').map_or((false, *line), |id| (true, id));
                Deployment { booted, system: "lab".into(), id: id.into() }
            };
            lines.iter().map(deployment).collect()
        };
        for (lines, sets_default, expected) in [
            (&["*old.0"][..], true, WayBack::Arrived),
            (&["*old.0", "older.0"], false, WayBack::Arrived),
            (&["new.0", "*old.0"], true, WayBack::SetDefault(1)),
            (&["new.0", "*old.0"], false, WayBack::RemoveFirst),
            (&["*new.0", "old.0"], true, WayBack::SetDefault(1)),
            (&["*new.0", "old.0"], false, WayBack::DeployAgain),
            // Deployed again, by an attempt that was interrupted, and then booted.
            (&["old.1", "*new.0"], false, WayBack::Arrived),
            (&["old.1", "*new.0", "old.0"], false, WayBack::Arrived),
            (&["*old.1", "new.0"], false, WayBack::Arrived),
            // A different serial number is a different /etc where the old deployment itself can be had.
            (&["old.1", "*new.0", "old.0"], true, WayBack::SetDefault(2)),
            (&["*new.0"], true, WayBack::Gone),
            (&["*new.0"], false, WayBack::Gone),
            (&[], false, WayBack::Gone),
        ] {
            assert_eq!(way_back(&listed(lines), "old.0", sets_default), expected, "{lines:?} {sets_default}");
        }
    }

    #[test]
    fn commands_are_found_in_the_help() {
        let help = "Usage:\n  ostree admin [OPTION…] COMMAND\n\nBuiltin \"admin\" Commands:\n  \
                    deploy                      Checkout revision REFSPEC as the new default deployment\n  \
                    undeploy                    Delete deployment INDEX\n  \
                    set-origin                  Set Origin and create a new origin file\n";
        assert!(has_command(help, "undeploy") && !has_command(help, "set-default"));
        assert!(has_command(
            &format!("{help}  set-default   Make deployment INDEX the default\n"),
            "set-default"
        ));
    }

    #[test]
    fn what_is_pulled_and_what_is_deployed() {
        let commit = "0123456789abcdef".repeat(4);
        let pinned = format!("site:{commit}");
        for (reference, remote, branch, deployed) in [
            ("site:compute/2", Some("site"), "compute/2", "site:compute/2"),
            ("compute/2", None, "compute/2", "compute/2"),
            (commit.as_str(), None, commit.as_str(), commit.as_str()),
            (pinned.as_str(), Some("site"), commit.as_str(), commit.as_str()),
        ] {
            assert_eq!(source(reference), Source { remote, branch, deployed }, "{reference}");
        }
    }
}
