//! Parses the command line as Slurm 22.05 to 26.05 write it: our own arguments first (26.05), then the nodes as a flat
//! list (up to 25.11) or a ranged one (26.05), then the features of the job if a job requested the reboot.

use rollout_control::config;
use rollout_core::controller::hand_over::Request;
use rollout_core::hostlist::{HostlistError, NodeSet};
use std::ffi::OsString;
use std::path::PathBuf;

/// Text of `--help`, also used for the manual page.
const HELP: &str = include_str!("help.txt");

/// Length limit of the list of features, in bytes.
const MAX_FEATURES: usize = 4096;

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Send orders to nodes, with the configuration in this file.
    Run(PathBuf, Request),
    /// Print a text.
    Print(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgumentError {
    #[error("no nodes were given: slurm.conf needs SlurmctldParameters=reboot_from_controller")]
    NoNodes,
    #[error("unknown option {0}")]
    UnknownOption(String),
    #[error("--config needs a file")]
    NoFile,
    #[error("more arguments than nodes and features: {0}")]
    TooMany(String),
    #[error("the nodes are no hostlist: {0}")]
    Nodes(HostlistError),
    #[error("features of more than {MAX_FEATURES} bytes")]
    Features,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, ArgumentError> {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let mut config = PathBuf::from(config::PATH);
    let mut words = Vec::new();
    let mut plain = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(Arguments::Print(HELP.to_owned())),
            "--version" | "-V" => {
                return Ok(Arguments::Print(
                    concat!("reboot-program ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
                ));
            }
            "--plain" => plain = true,
            "--config" => config = arguments.next().ok_or(ArgumentError::NoFile)?.into(),
            option if option.starts_with('-') => match option.strip_prefix("--config=") {
                Some(file) => config = file.into(),
                None => return Err(ArgumentError::UnknownOption(argument)),
            },
            _ => words.push(argument),
        }
    }
    match words.as_slice() {
        [] => Err(ArgumentError::NoNodes),
        [_, features] if features.len() > MAX_FEATURES => Err(ArgumentError::Features),
        [nodes, rest @ ..] if rest.len() < 2 => {
            let nodes = NodeSet::parse(nodes).map_err(ArgumentError::Nodes)?;
            let features = rest.first().filter(|features| !features.is_empty()).cloned();
            Ok(Arguments::Run(config, Request { nodes, features, plain, ..Request::default() }))
        }
        [_, _, more @ ..] | more => Err(ArgumentError::TooMany(more.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<(String, String), ArgumentError> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Arguments::Run(config, request) => Ok((config.display().to_string(), request.nodes.to_string())),
            Arguments::Print(text) => Ok((String::new(), text)),
        }
    }

    #[test]
    fn takes_what_every_slurm_writes() {
        let default = config::PATH.to_owned();
        for line in ["cn01,cn02,cn03", "cn[01-03]", "cn[01-03] feature,other", "cn01,cn[02-03]"] {
            assert_eq!(run(line), Ok((default.clone(), "cn[01-03]".into())), "{line}");
        }
        for line in ["--config /a cn1", "--config=/a cn1 f"] {
            assert_eq!(run(line), Ok(("/a".into(), "cn1".into())), "{line}");
        }
        assert!(run("--help").unwrap().1.contains("Usage"));
    }

    #[test]
    fn features_and_plain_reboots() {
        for (line, features, plain) in [
            ("cn1", None, false),
            ("cn1 a,b", Some("a,b"), false),
            ("--plain cn1", None, true),
            ("--plain cn1 a", Some("a"), true),
        ] {
            let Ok(Arguments::Run(_, request)) = parse(line.split(' ').map(OsString::from)) else {
                panic!("{line}")
            };
            assert_eq!((request.features.as_deref(), request.plain), (features, plain), "{line}");
        }
        let empty = parse(["cn1", ""].into_iter().map(OsString::from));
        assert!(matches!(empty, Ok(Arguments::Run(_, Request { features: None, .. }))));
        assert_eq!(run(&format!("cn1 {}", "f".repeat(4097))), Err(ArgumentError::Features));
    }

    #[test]
    fn refuses_the_rest() {
        assert_eq!(run(""), Err(ArgumentError::NoNodes));
        assert_eq!(run("--force cn1"), Err(ArgumentError::UnknownOption("--force".into())));
        assert_eq!(run("cn1 --config"), Err(ArgumentError::NoFile));
        assert_eq!(run("a b c d"), Err(ArgumentError::TooMany("c d".into())));
        assert!(matches!(run("cn[1-"), Err(ArgumentError::Nodes(_))));
    }
}
