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
    Doctor {
        json: bool,
    },
    ConfigCheck {
        json: bool,
    },
    Order(What),
    /// Not for people: the agent starts itself so before it reboots the node.
    RebootByForceAfter(Duration),
    Say(String),
}

pub(crate) fn parse(words: &[String]) -> Result<(PathBuf, Verb), String> {
    let mut config = PathBuf::from(crate::config::PATH);
    let mut words = words.iter().map(String::as_str);
    let (mut verb, mut json) = (None, false);
    while let Some(word) = words.next() {
        let next = match word {
            "--config" => {
                config = words.next().ok_or("--config needs a file")?.into();
                continue;
            }
            "--json" => {
                json = true;
                continue;
            }
            "--help" | "-h" => Verb::Say(HELP.to_owned()),
            "--version" | "-V" => {
                Verb::Say(concat!("slurm-rollout-agent ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
            }
            "gate" => Verb::Gate,
            "rescue" => Verb::Rescue,
            "status" => Verb::Status,
            "doctor" => Verb::Doctor { json: false },
            "config" => match words.next() {
                Some("check") => Verb::ConfigCheck { json: false },
                _ => return Err("config what? There is `config check`".to_owned()),
            },
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
    let verb = match verb.unwrap_or(Verb::Daemon) {
        Verb::Doctor { .. } => Verb::Doctor { json },
        Verb::ConfigCheck { .. } => Verb::ConfigCheck { json },
        // It is JSON anyway.
        Verb::Status => Verb::Status,
        _ if json => return Err("--json is for doctor, config check and status".to_owned()),
        other => other,
    };
    Ok((config, verb))
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
        assert_eq!(parse("doctor").unwrap().1, Verb::Doctor { json: false });
        assert_eq!(parse("doctor --json").unwrap().1, Verb::Doctor { json: true });
        assert_eq!(parse("--json config check").unwrap().1, Verb::ConfigCheck { json: true });
        let wrong =
            ["--config", "reboot", "gate status", "reboot-by-force-after soon", "config", "config get"];
        for wrong in wrong.into_iter().chain(["gate --json", "--json"]) {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
