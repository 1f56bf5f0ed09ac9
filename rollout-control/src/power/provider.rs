//! The provider of a table, and the programs that providers run.

use super::Power;
use super::command::Command;
use super::config::PowerConfig;
use super::credentials::{Credentials, SlurmIds};
use super::ipmi::Ipmi;
use super::powerman::Powerman;
use super::redfish::Redfish;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Paths of the programs that providers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Our program that contains TLS.
    pub boot_service: PathBuf,
    pub ipmitool: PathBuf,
    pub powerman: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            boot_service: crate::boot::SERVICE_PROGRAM.into(),
            ipmitool: "/usr/bin/ipmitool".into(),
            powerman: "/usr/bin/powerman".into(),
        }
    }
}

impl Programs {
    /// Returns the program that a table needs.
    #[must_use]
    pub fn of<'a>(&'a self, config: &'a PowerConfig) -> &'a Path {
        match config {
            PowerConfig::Redfish(_) => &self.boot_service,
            PowerConfig::Ipmi(_) => &self.ipmitool,
            PowerConfig::Powerman(_) => &self.powerman,
            PowerConfig::Command(table) => Path::new(table.command.first().map_or("", String::as_str)),
        }
    }
}

/// Returns the provider of a table. Reads its credentials. `slurm` may own their file.
///
/// # Errors
/// If the credentials cannot be used, with the reason and the remedy.
pub fn provider(
    config: &PowerConfig,
    programs: &Programs,
    slurm: Option<SlurmIds>,
) -> Result<Arc<dyn Power>, String> {
    Ok(match config {
        PowerConfig::Redfish(table) => {
            let credentials = Credentials::read(&table.credentials_file, slurm)?;
            Arc::new(Redfish::new(programs.boot_service.clone(), table, credentials)?)
        }
        PowerConfig::Ipmi(table) => {
            let credentials = Credentials::read(&table.credentials_file, slurm)?;
            Arc::new(Ipmi::new(programs.ipmitool.clone(), table, credentials)?)
        }
        PowerConfig::Powerman(table) => Arc::new(Powerman::new(programs.powerman.clone(), table)),
        PowerConfig::Command(table) => Arc::new(Command::new(table)?),
    })
}
