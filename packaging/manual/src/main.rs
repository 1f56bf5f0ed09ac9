//! `rollout-manual OUT`: writes `OUT/man/*` and `OUT/completions/*`.
//!
//! Pages have the date of SOURCE_DATE_EPOCH or no date, so that builds are reproducible.

use jiff::Timestamp;
use rollout_manual::completions;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [out] = arguments.as_slice() else {
        eprintln!("Usage: rollout-manual OUT");
        return ExitCode::from(2);
    };
    match write(Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollout-manual: {error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "generated files need not survive a power cut")]
fn write(out: &Path) -> Result<(), Box<dyn Error>> {
    let date = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => Some(Timestamp::from_second(seconds.parse()?)?.strftime("%Y-%m-%d").to_string()),
        Err(_) => None,
    };
    let (man, completions) = (out.join("man"), out.join("completions"));
    for dir in [&man, &completions] {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let pages = rollout_manual::pages()?;
    let pages = pages.iter().map(|page| (man.join(page.file()), page.roff(date.as_deref())));
    let completions =
        completions::completions().into_iter().map(|(file, text)| (completions.join(file), text));
    for (path, text) in pages.chain(completions) {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
