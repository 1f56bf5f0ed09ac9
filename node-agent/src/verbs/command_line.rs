//! The command line of the agent.

use rollout_core::protocol::answer::HandOverRequest;
use rollout_core::protocol::order::OrderKind;
use rollout_core::slurm::hand_over_mode::REBOOT_NODE;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The help text, which the manual page includes.
const HELP: &str = include_str!("help.txt");

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Daemon,
    /// A hand-over by slurmd, which runs the agent under the name `reboot-node`.
    HandOver(HandOverRequest),
    Gate,
    Rescue,
    Status,
    Doctor {
        json: bool,
    },
    ConfigCheck {
        json: bool,
    },
    Order(OrderKind),
    /// Internal: the agent starts itself with this verb before it reboots the node.
    RebootByForceAfter(Duration),
    /// Internal: the agent starts itself with this verb to look at a mount that may hang.
    VerifyMount(PathBuf),
    Print(String),
}

/// Parses the command line. `name` is the name under which the program was started.
pub(crate) fn parse(name: &str, words: &[String]) -> Result<(PathBuf, Verb), String> {
    let mut config = PathBuf::from(crate::config::PATH);
    if Path::new(name).file_name().is_some_and(|name| name == REBOOT_NODE) {
        return hand_over(words);
    }
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
            "--help" | "-h" => Verb::Print(HELP.to_owned()),
            "--version" | "-V" => {
                Verb::Print(concat!("slurm-rollout-agent ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
            }
            "gate" => Verb::Gate,
            "rescue" => Verb::Rescue,
            "status" => Verb::Status,
            "doctor" => Verb::Doctor { json: false },
            "config" => match words.next() {
                Some("check") => Verb::ConfigCheck { json: false },
                _ => return Err("config what? There is `config check`".to_owned()),
            },
            "retry" => Verb::Order(OrderKind::Retry),
            "release" => Verb::Order(OrderKind::Release),
            "reboot-by-force-after" => {
                let seconds =
                    words.next().and_then(|n| n.parse().ok()).ok_or("it needs a number of seconds")?;
                Verb::RebootByForceAfter(Duration::from_secs(seconds))
            }
            "verify-mount" => Verb::VerifyMount(words.next().ok_or("verify-mount needs a path")?.into()),
            other => return Err(format!("unknown argument {other:?}")),
        };
        if verb.replace(next).is_some() {
            return Err("more than one verb".to_owned());
        }
    }
    let verb = match verb.unwrap_or(Verb::Daemon) {
        Verb::Doctor { .. } => Verb::Doctor { json },
        Verb::ConfigCheck { .. } => Verb::ConfigCheck { json },
        // The status is always JSON.
        Verb::Status => Verb::Status,
        _ if json => return Err("--json is for doctor, config check and status".to_owned()),
        other => other,
    };
    Ok((config, verb))
}

/// Parses `reboot-node [--plain] [FEATURES]`. Options only come with Slurm 26.05, features with a job that requests
/// them.
fn hand_over(words: &[String]) -> Result<(PathBuf, Verb), String> {
    let mut config = PathBuf::from(crate::config::PATH);
    let mut request = HandOverRequest::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--plain" => request.plain = true,
            "--config" => config = words.next().ok_or("--config needs a file")?.into(),
            option if option.starts_with('-') => return Err(format!("unknown argument {option:?}")),
            _ if request.features.is_some() => return Err("more than one list of features".to_owned()),
            features => request.features = Some(features.to_owned()).filter(|text| !text.is_empty()),
        }
    }
    Ok((config, Verb::HandOver(request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_mistakes() {
        let parse = |line: &str| {
            parse("slurm-rollout-agent", &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(parse("").unwrap(), (crate::config::PATH.into(), Verb::Daemon));
        assert_eq!(parse("--config /a gate").unwrap(), ("/a".into(), Verb::Gate));
        assert_eq!(parse("retry").unwrap().1, Verb::Order(OrderKind::Retry));
        assert_eq!(parse("doctor").unwrap().1, Verb::Doctor { json: false });
        assert_eq!(parse("doctor --json").unwrap().1, Verb::Doctor { json: true });
        assert_eq!(parse("--json config check").unwrap().1, Verb::ConfigCheck { json: true });
        let wrong =
            ["--config", "reboot", "gate status", "reboot-by-force-after soon", "config", "config get"];
        assert_eq!(parse("verify-mount /home").unwrap().1, Verb::VerifyMount("/home".into()));
        for wrong in wrong.into_iter().chain(["gate --json", "--json", "verify-mount"]) {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn under_its_other_name_it_is_slurmds_reboot_program() {
        let parse = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            parse("/usr/libexec/slurm-rollout/reboot-node", &words)
        };
        for (line, features, plain) in [
            ("", None, false),
            ("a,b", Some("a,b"), false),
            ("--plain", None, true),
            ("--plain a", Some("a"), true),
        ] {
            let what = HandOverRequest { features: features.map(str::to_owned), plain };
            assert_eq!(parse(line).unwrap().1, Verb::HandOver(what), "{line}");
        }
        assert!(parse("--force").is_err() && parse("a b").is_err());
    }
}
