//! Manifests as admins write them.

use crate::failure::Failure;
use rollout_cli::executor::hooks;
use rollout_cli::groups::SiteGroups;
use rollout_control::config::Config;
use rollout_core::rollout::manifest::{MAX_BYTES, Manifest, expand};
use rollout_plan::strategy;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A manifest that was checked, with its node sets expanded.
pub(crate) struct ManifestFile {
    pub(crate) text: String,
    pub(crate) manifest: Manifest,
}

impl ManifestFile {
    /// Reads and checks a manifest. `-` is standard input.
    pub(crate) fn read(config: &Config, path: &Path) -> Result<Self, Failure> {
        let file = path.display();
        let text = read(path).map_err(|error| Failure(format!("{file}: {error}")))?;
        let groups = SiteGroups::new(config);
        let set = |set: &str| groups.resolve(set).map_err(|error| error.to_string());
        let text = expand(&text, set).map_err(|error| Failure(format!("{file}: {error}")))?;
        let manifest = Manifest::parse(&text).map_err(|error| Failure(format!("{file}: {error}")))?;
        let strategy = strategy::of_manifest(&text, &manifest.nodes)
            .map_err(|error| Failure(format!("{file}: {error}")))?;
        for hook in &strategy.hooks {
            hooks::check(hook).map_err(|why| Failure(format!("{file}: {why}")))?;
        }
        Ok(Self { text, manifest })
    }
}

/// Returns whether an argument is the path of a manifest, and not the name of a rollout.
pub(crate) fn names_file(what: &str) -> bool {
    what == "-" || what.contains('/') || what.ends_with(".toml")
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than allowed, so that a longer file is recognized.
    let limit = MAX_BYTES as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_string(&mut text)?;
    } else {
        File::open(path)?.take(limit).read_to_string(&mut text)?;
    }
    Ok(text)
}
