//! The table of an HTTP service that sets boot sources. A separate program talks to it, `boot-service`.

use super::BootSource;
use super::command;
use http::Uri;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{InvalidValue, is_absolute};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The program that talks to services, for boot sources and Redfish. It contains TLS, which would make RebootProgram two
/// thirds larger.
pub const PROGRAM: &str = "/usr/libexec/slurm-rollout/boot-service";

/// A service's table in `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Prefix of the paths of its API, such as `https://host/apis/bss`.
    pub url: String,
    /// Certificates of authorities for checking the service's own, in PEM. By default the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the token to send (`Authorization: Bearer`). It is read for each request.
    pub token_file: Option<PathBuf>,
    /// Time limit for one request.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

fn default_time_limit() -> TimeLimit {
    TimeLimit::from_secs(10)
}

impl ServiceConfig {
    /// Returns invalid values; `table` is its key.
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

/// Returns the provider that uses this service. `name` is the name of its table.
pub(super) fn provider(name: &'static str, config: ServiceConfig) -> Box<dyn BootSource> {
    command::provider(PROGRAM.into(), Some((name, config)), rollout_core::time_limit::LONGEST)
}
