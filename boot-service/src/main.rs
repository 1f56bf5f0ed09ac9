//! `boot-service SERVICE VERB`: reads a question from standard input and writes the answer to standard output. Only the
//! controller's programs start it.

use boot_service::{answer, redfish};
use rollout_control::boot::{Question, Verb};
use rollout_control::power::question::{PowerQuestion, SERVICE};
use rollout_host::exit_code::Exit;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Length limit of a question: the saved boot entries of ten thousand nodes are shorter.
const MAX_QUESTION: u64 = 256 * 1024 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            Exit::NothingDone.into()
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [service, verb] = arguments.as_slice() else {
        return Err(
            "slurm-rollout starts this program itself: boot-service SERVICE VERB <QUESTION".to_owned()
        );
    };
    let answer = if service == SERVICE {
        let known = redfish::Verb::of(verb).ok_or(format!("unknown verb {verb:?}"))?;
        redfish::answer(known, &question::<PowerQuestion>()?)?
    } else {
        let known = Verb::ALL.into_iter().find(|known| known.name() == verb);
        answer(service, known.ok_or(format!("unknown verb {verb:?}"))?, &question::<Question>()?)?
    };
    writeln!(std::io::stdout(), "{answer}").map_err(|error| error.to_string())
}

fn question<T: DeserializeOwned>() -> Result<T, String> {
    let mut text = Vec::new();
    std::io::stdin().take(MAX_QUESTION).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| format!("the question: {error}"))
}
