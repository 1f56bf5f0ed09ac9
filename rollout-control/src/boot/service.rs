//! The table of an HTTP service that decides what nodes boot. A program of its own speaks with it, `boot-service`.

use super::BootSource;
use super::command;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{InvalidValue, is_absolute};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use ureq::http::Uri;

/// What speaks with services: it has TLS, which would make RebootProgram half as large again.
const PROGRAM: &str = "/usr/libexec/slurm-rollout/boot-service";

/// A service's table in `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// What stands before the paths of its API, `https://host/apis/bss`.
    pub url: String,
    /// The certificates of the authorities that its own is checked against, in PEM. None: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// A file with the token that is sent along (`Authorization: Bearer`). Read anew each time.
    pub token_file: Option<PathBuf>,
    /// How long one request may take.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

fn default_time_limit() -> TimeLimit {
    TimeLimit::from_secs(10)
}

impl ServiceConfig {
    /// What makes no sense in it; `table` is its key.
    #[must_use]
    pub fn check(&self, table: &'static [&'static str]) -> Vec<InvalidValue> {
        let mut wrong: Vec<InvalidValue> = [&self.ca_file, &self.token_file]
            .into_iter()
            .filter_map(|path| is_absolute(table, path.as_deref()?))
            .collect();
        let uri = self.url.parse::<Uri>().ok();
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        let is_plain = uri.as_ref().is_some_and(|uri| {
            uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
        });
        if !is_plain || !matches!(scheme, Some("http" | "https")) {
            let why = format!("url {:?}: write it as \"https://host:port/path\"", self.url);
            wrong.push(InvalidValue::new(table, why));
        } else if scheme == Some("http") && self.token_file.is_some() {
            let why = format!(
                "url {:?} with a token_file: over http anybody on the way could read the token; use https",
                self.url
            );
            wrong.push(InvalidValue::new(table, why));
        }
        wrong
    }
}

/// The provider that has this service do it; `name` is that of its table.
pub(super) fn provider(name: &'static str, config: ServiceConfig) -> Box<dyn BootSource> {
    command::provider(PROGRAM.into(), Some((name, config)), rollout_core::time_limit::LONGEST)
}
