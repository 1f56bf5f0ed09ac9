//! The slurmctld that scontrol fetches its configuration from on a node without `slurm.conf` (configless).
//!
//! scontrol looks for `/etc/slurm/slurm.conf`, for `/run/slurm/conf`, and then asks the server in `SLURM_CONF_SERVER`
//! or in DNS (`_establish_config_source` in `src/common/read_config.c`, 22.05 to 26.05). The running slurmd makes
//! `/run/slurm/conf`, so it does not exist while the gate keeps slurmd down.

/// Returns whether the text names one slurmctld or several: `HOST[:PORT][,HOST[:PORT]]...`.
pub(crate) fn is_conf_server(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    text.split(',').all(|server| !server.is_empty() && server.chars().all(fits))
}
