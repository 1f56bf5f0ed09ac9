//! Redfish, through our program that contains TLS. Its question, with the credentials, is its standard input.

use super::config::RedfishConfig;
use super::credentials::Credentials;
use super::program::{GRACE, garbage, run};
use super::question::{PowerAnswer, PowerQuestion, SERVICE, STATUS};
use super::{Power, PowerState, Switch, Target};
use rollout_host::run::Program;
use std::path::PathBuf;
use std::time::Duration;

pub(super) struct Redfish {
    program: PathBuf,
    config: RedfishConfig,
    credentials: Credentials,
}

impl Redfish {
    /// Creates the provider.
    ///
    /// # Errors
    /// If the user cannot be sent (RFC 7617).
    pub(super) fn new(
        program: PathBuf,
        config: &RedfishConfig,
        credentials: Credentials,
    ) -> Result<Self, String> {
        if credentials.user.contains(':') {
            return Err(format!("{}: the user has a colon in it", config.credentials_file.display()));
        }
        Ok(Self { program, config: config.clone(), credentials })
    }

    fn call(&self, target: &Target, verb: &str, limit: Duration) -> Result<PowerAnswer, String> {
        let question = PowerQuestion {
            within_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            address: target.address.clone(),
            credentials: self.credentials.clone(),
            ca_file: self.config.ca_file.clone(),
            system: target.system.clone(),
        };
        let question = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        // The program ends by itself before `within_ms`.
        let program = Program::new(&self.program, limit + GRACE).args([SERVICE, verb]).stdin(question);
        let hidden = |why: String| self.credentials.without_password(&why);
        let output = run(program, &self.program).map_err(hidden)?;
        let answer: PowerAnswer =
            serde_json::from_str(&output).map_err(|_| hidden(garbage(&self.program, &output)))?;
        answer.error.map_or(Ok(PowerAnswer { error: None, ..answer }), |why| Err(hidden(why)))
    }
}

impl Power for Redfish {
    fn status(&self, target: &Target, limit: Duration) -> Result<PowerState, String> {
        self.call(target, STATUS, limit)?.power.ok_or_else(|| garbage(&self.program, ""))
    }

    fn switch(&self, target: &Target, switch: Switch, limit: Duration) -> Result<(), String> {
        self.call(target, switch.name(), limit).map(drop)
    }
}
