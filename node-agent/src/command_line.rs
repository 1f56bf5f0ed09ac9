//! The command line of the agent.

use rollout_core::order::What;
use std::path::PathBuf;
use std::time::Duration;

/// Also in the manual page.
const HELP: &str = include_str!("help.txt");

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Daemon,
    Gate,
    Rescue,
    Status,
    Order(What),
    /// Not for people: the agent starts itself so before it reboots the node.
    RebootByForceAfter(Duration),
    Say(String),
}

pub(crate) fn parse(words: &[String]) -> Result<(PathBuf, Verb), String> {
    let mut config = PathBuf::from(crate::config::PATH);
    let mut words = words.iter().map(String::as_str);
    let mut verb = None;
    while let Some(word) = words.next() {
        let next = match word {
            "--config" => {
                config = words.next().ok_or("--config needs a file")?.into();
                continue;
            }
            "--help" | "-h" => Verb::Say(HELP.to_owned()),
            "--version" | "-V" => {
                Verb::Say(concat!("slurm-rollout-agent ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
            }
            "gate" => Verb::Gate,
            "rescue" => Verb::Rescue,
            "status" => Verb::Status,
            "retry" => Verb::Order(What::Retry),
            "release" => Verb::Order(What::Release),
            "reboot-by-force-after" => {
                let seconds =
                    words.next().and_then(|n| n.parse().ok()).ok_or("it needs a number of seconds")?;
                Verb::RebootByForceAfter(Duration::from_secs(seconds))
            }
            other => return Err(format!("unknown argument {other:?}")),
        };
        if verb.replace(next).is_some() {
            return Err("more than one verb".to_owned());
        }
    }
    Ok((config, verb.unwrap_or(Verb::Daemon)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_mistakes() {
        let parse = |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), (crate::config::PATH.into(), Verb::Daemon));
        assert_eq!(parse("--config /a gate").unwrap(), ("/a".into(), Verb::Gate));
        assert_eq!(parse("retry").unwrap().1, Verb::Order(What::Retry));
        for wrong in ["--config", "reboot", "gate status", "reboot-by-force-after soon"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
