//! IPMI v2, through `ipmitool`. It reads the password from its standard input, a file in memory.

use super::config::IpmiConfig;
use super::credentials::Credentials;
use super::program::{garbage, run};
use super::{Power, PowerState, Switch, Target};
use rollout_host::run::Program;
use std::path::PathBuf;
use std::time::Duration;

/// Maximum length of a password in IPMI v2, in bytes. ipmitool would cut a longer one, or ask the terminal.
const MAX_PASSWORD: usize = 20;

pub(super) struct Ipmi {
    program: PathBuf,
    cipher_suite: Option<u8>,
    credentials: Credentials,
}

impl Ipmi {
    /// Creates the provider.
    ///
    /// # Errors
    /// If the password is too long, or the user begins as an option.
    pub(super) fn new(
        program: PathBuf,
        config: &IpmiConfig,
        credentials: Credentials,
    ) -> Result<Self, String> {
        let file = config.credentials_file.display();
        if credentials.password.expose().len() > MAX_PASSWORD {
            return Err(format!("{file}: passwords of IPMI have at most {MAX_PASSWORD} bytes"));
        }
        if credentials.user.starts_with('-') {
            return Err(format!("{file}: a user of IPMI does not begin with a hyphen"));
        }
        Ok(Self { program, cipher_suite: config.cipher_suite, credentials })
    }

    fn call(&self, target: &Target, action: &str, limit: Duration) -> Result<String, String> {
        let mut program = Program::new(&self.program, limit)
            .args(["-I", "lanplus", "-H", target.address.host(), "-U", &self.credentials.user])
            .args(["-f", "/dev/stdin"])
            .stdin(self.credentials.password.expose());
        if let Some(port) = target.address.port() {
            program = program.arg("-p").arg(port.to_string());
        }
        if let Some(suite) = self.cipher_suite {
            program = program.arg("-C").arg(suite.to_string());
        }
        run(program.args(["chassis", "power", action]), &self.program)
            .map_err(|why| self.credentials.without_password(&why))
    }
}

impl Power for Ipmi {
    fn status(&self, target: &Target, limit: Duration) -> Result<PowerState, String> {
        let output = self.call(target, "status", limit)?;
        match output.trim() {
            "Chassis Power is on" => Ok(PowerState::On),
            "Chassis Power is off" => Ok(PowerState::Off),
            _ => Err(self.credentials.without_password(&garbage(&self.program, &output))),
        }
    }

    fn switch(&self, target: &Target, switch: Switch, limit: Duration) -> Result<(), String> {
        let action = match switch {
            Switch::On => "on",
            Switch::Off => "off",
            Switch::SoftOff => "soft",
        };
        self.call(target, action, limit).map(drop)
    }
}
