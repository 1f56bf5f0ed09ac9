//! The slurmctld that scontrol fetches its configuration from on a node without `slurm.conf` (configless).
//!
//! scontrol looks for `/etc/slurm/slurm.conf`, for `/run/slurm/conf`, and then asks the server in `SLURM_CONF_SERVER` or
//! in DNS (`_establish_config_source` in `src/common/read_config.c`, 22.05 to 26.05). The running slurmd makes
//! `/run/slurm/conf`, so it does not exist while the gate keeps slurmd down.

use super::slurmd::SYSTEMCTL;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::Program;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VARIABLE: &str = "SLURM_CONF_SERVER";
const OPTION: &str = "--conf-server";

/// Time limit for systemctl, which answers from memory.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns whether the text names one slurmctld or several: `HOST[:PORT][,HOST[:PORT]]...`.
pub(crate) fn is_conf_server(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    text.split(',').all(|server| !server.is_empty() && server.chars().all(fits))
}

/// Returns the server that this process or slurmd is configured with, if any.
pub(crate) fn find(slurmd_unit: &str) -> Option<String> {
    let own = std::env::var(VARIABLE).ok().filter(|server| is_conf_server(server));
    own.or_else(|| {
        of_unit(&properties(slurmd_unit)?, |path| regular_file::read_text(path, MAX_WRITTEN_BY_HAND).ok())
    })
}

fn properties(unit: &str) -> Option<String> {
    let show = ["show", "--property=ExecStart,Environment,EnvironmentFiles", "--", unit];
    Some(Program::new(SYSTEMCTL, LIMIT).args(show).run().ok()?.stdout)
}

/// Returns the server in slurmd's command line, or in the environment from which the unit takes its options.
fn of_unit(properties: &str, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    let files = properties.lines().filter_map(|line| line.strip_prefix("EnvironmentFiles="));
    // `PATH (ignore_errors=yes)`
    let paths = files.map(|file| PathBuf::from(file.split(" (").next().unwrap_or(file)));
    let texts = std::iter::once(properties.to_owned()).chain(paths.filter_map(|path| read(&path)));
    texts.into_iter().find_map(|text| in_text(&text))
}

/// Returns the value of the option or of the variable. Comments do not count.
fn in_text(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let value = |line: &str| {
        let (_, after) = line.split_once(OPTION).or_else(|| line.split_once(VARIABLE))?;
        let value = after.trim_start_matches(['=', ' ', '\t', '"', '\'']);
        let end =
            value.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';')).unwrap_or(value.len());
        Some(value[..end].to_owned())
    };
    lines.filter_map(value).find(|server| is_conf_server(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: &str = "ExecStart={ path=/usr/sbin/slurmd ; argv[]=/usr/sbin/slurmd -D -s $SLURMD_OPTIONS ; \
                              ignore_errors=no ; start_time=[n/a] }\n\
                              EnvironmentFiles=/etc/sysconfig/slurmd (ignore_errors=yes)\n\
                              EnvironmentFiles=/etc/default/slurmd (ignore_errors=yes)\n";

    #[test]
    fn the_server_is_found_as_units_and_their_files_have_it() {
        for (text, expected) in [
            ("SLURMD_OPTIONS=\"--conf-server ctl:6817\"\n", Some("ctl:6817")),
            ("SLURMD_OPTIONS='--conf-server=ctl1:6817,ctl2:6817 -v'\n", Some("ctl1:6817,ctl2:6817")),
            ("SLURMD_OPTIONS=-v --conf-server [fd00::1]:6817", Some("[fd00::1]:6817")),
            ("SLURM_CONF_SERVER=ctl\n", Some("ctl")),
            ("Environment=SLURM_CONF_SERVER=ctl:6817 X=1", Some("ctl:6817")),
            ("#SLURMD_OPTIONS=\"--conf-server old\"\nSLURMD_OPTIONS=\"--conf-server new\"\n", Some("new")),
            ("SLURMD_OPTIONS=\"--conf-server $SERVER\"\n", None),
            ("SLURMD_OPTIONS=\"--conf-server\"\n", None),
            ("SLURMD_OPTIONS=\"-N cn01\"\n", None),
            ("", None),
        ] {
            let read = |path: &Path| (path == Path::new("/etc/default/slurmd")).then(|| text.to_owned());
            assert_eq!(of_unit(PROPERTIES, read).as_deref(), expected, "{text:?}");
        }
        let in_command = PROPERTIES.replace("$SLURMD_OPTIONS", "--conf-server ctl:6817");
        assert_eq!(of_unit(&in_command, |_| None).as_deref(), Some("ctl:6817"));
    }
}
