//! The provider for a kind of image, as configured.

use super::{BootSource, boot_file, service};
use crate::config::Config;
use rollout_core::rollout::image::Via;

/// Returns the provider for images `via` it.
///
/// # Errors
/// If it is not configured here, or works on the nodes.
pub fn provider(via: Via, config: &Config) -> Result<Box<dyn BootSource>, String> {
    let unset =
        || format!("via {:?} is not configured: controller.toml has no table [{}]", via.name(), via.table());
    match via {
        Via::BootFile => config.boot_file.clone().map(boot_file::provider).ok_or_else(unset),
        Via::Bss => config.bss.clone().map(|table| service::provider("bss", table)).ok_or_else(unset),
        Via::Bos => config.bos.clone().map(|table| service::provider("bos", table)).ok_or_else(unset),
        Via::BootService => config
            .boot_service
            .clone()
            .map(|table| service::provider("boot_service", table))
            .ok_or_else(unset),
        Via::Command => config.command.clone().map(|table| table.provider()).ok_or_else(unset),
        Via::Ostree | Via::BootEntry => Err(format!("via {:?} works on the nodes", via.name())),
    }
}
