//! The options of slurmd, as its unit has them: in the command line, or in variables of the unit's environment.

use super::conf_server::is_conf_server;
use super::slurmd::SYSTEMCTL;
use rollout_core::hostlist::check_name;
use rollout_core::text::shell_words;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::Program;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The variable in which packages of Slurm keep the options. A script that a unit starts in place of slurmd reads it
/// too.
const OPTIONS: &str = "SLURMD_OPTIONS";
/// The variable in which Slurm's programs find the slurmctld that has their configuration.
pub(crate) const CONF_SERVER: &str = "SLURM_CONF_SERVER";

/// Options of slurmd that take a value (`opt_string` in `src/slurmd/slurmd/slurmd.c`, 22.05 to 26.05), and the one
/// whose value can only be in the same word.
const WITH_VALUE: &str = "dfLnNF";
const IN_SAME_WORD: &str = "F";

/// Time limit for systemctl, which answers from memory.
const LIMIT: Duration = Duration::from_secs(5);

/// Options of slurmd that the agent needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlurmdOptions {
    /// `--conf-server`, or SLURM_CONF_SERVER in slurmd's environment.
    pub(crate) conf_server: Option<String>,
    /// `-N`.
    pub(crate) node_name: Option<String>,
}

impl SlurmdOptions {
    /// Reads the options of this unit. Finds none if systemd cannot be asked.
    pub(crate) fn of_unit(unit: &str) -> Self {
        let show = ["show", "--property=ExecStart,Environment,EnvironmentFiles", "--", unit];
        let shown = Program::new(SYSTEMCTL, LIMIT).args(show).run();
        shown.map_or_else(
            |_| Self::default(),
            |shown| {
                Self::parse(&shown.stdout, |path| regular_file::read_text(path, MAX_WRITTEN_BY_HAND).ok())
            },
        )
    }

    /// Parses the unit's properties. `read` reads its environment files.
    fn parse(properties: &str, read: impl Fn(&Path) -> Option<String>) -> Self {
        let values = |key: &'static str| {
            properties.lines().filter_map(|line| line.split_once('=')).filter(move |(k, _)| *k == key)
        };
        let mut variables = BTreeMap::new();
        for (_, line) in values("Environment") {
            variables.extend(shell_words(line).iter().filter_map(|word| assignment(word)));
        }
        // `PATH (ignore_errors=yes)`. Files override Environment=, and later files earlier ones (systemd.exec).
        for (_, file) in values("EnvironmentFiles") {
            let path = Path::new(file.split(" (").next().unwrap_or(file));
            variables.extend(read(path).iter().flat_map(|text| text.lines()).filter_map(variable));
        }
        let mut arguments = Vec::new();
        for (_, command) in values("ExecStart") {
            arguments.extend(of_command(command, &variables));
        }
        let indirect = variables.get(OPTIONS).map(|options| shell_words(options)).unwrap_or_default();
        let of = |found: &dyn Fn(&[String]) -> Option<String>| found(&arguments).or_else(|| found(&indirect));
        let in_environment = || variables.get(CONF_SERVER).cloned().filter(|server| is_conf_server(server));
        // A script of the site may take it from any variable.
        let anywhere = || variables.values().find_map(|text| conf_server(&shell_words(text)));
        Self {
            conf_server: of(&conf_server).or_else(in_environment).or_else(anywhere),
            node_name: of(&node_name),
        }
    }
}

/// Returns the arguments in a command as systemctl shows it, `{ path=… ; argv[]=/usr/sbin/slurmd -D $OPTIONS ; … }`,
/// with the values of variables. Those before slurmd itself are another program's, such as numactl's.
fn of_command(command: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let argv = command.split_once("argv[]=").map_or("", |(_, rest)| rest);
    let argv = argv.split(" ;").next().unwrap_or("");
    let all: Vec<&str> = argv.split_whitespace().collect();
    let is_slurmd = |word: &&str| word.rsplit('/').next() == Some("slurmd");
    let program = all.iter().position(is_slurmd).unwrap_or(0);
    let expand = |word: &&str| match word.strip_prefix('$') {
        Some(name) => {
            variables.get(name.trim_matches(['{', '}'])).map(|text| shell_words(text)).unwrap_or_default()
        }
        None => shell_words(word),
    };
    all.iter().skip(program + 1).flat_map(expand).collect()
}

fn conf_server(arguments: &[String]) -> Option<String> {
    let mut values = arguments.iter().enumerate().filter_map(|(index, word)| {
        let value = word.strip_prefix("--conf-server")?;
        value.strip_prefix('=').or_else(|| arguments.get(index + 1).map(String::as_str))
    });
    values.find(|server| is_conf_server(server)).map(str::to_owned)
}

/// Returns the value of `-N`, which may follow other letters and may be in the same word. The last one counts.
fn node_name(arguments: &[String]) -> Option<String> {
    let mut found = None;
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) else {
            continue;
        };
        let Some(at) = letters.find(|c| WITH_VALUE.contains(c)) else { continue };
        let (option, value) = letters.split_at(at).1.split_at(1);
        let value = match value {
            "" if option == IN_SAME_WORD => None,
            "" => rest.next().map(String::as_str),
            value => Some(value),
        };
        if option == "N" {
            found = value.filter(|name| check_name(name).is_ok() && !name.contains('$')).or(found);
        }
    }
    found.map(str::to_owned)
}

/// Parses a line of an environment file. Comments do not count.
fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) { None } else { assignment(line) }
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: &str = "ExecStart={ path=/usr/sbin/slurmd ; argv[]=/usr/sbin/slurmd -D -s $SLURMD_OPTIONS ; \
                              ignore_errors=no ; start_time=[n/a] }\n\
                              EnvironmentFiles=/etc/sysconfig/slurmd (ignore_errors=yes)\n\
                              EnvironmentFiles=/etc/default/slurmd (ignore_errors=yes)\n";

    fn in_file(text: &str) -> SlurmdOptions {
        SlurmdOptions::parse(PROPERTIES, |path| {
            (path == Path::new("/etc/default/slurmd")).then(|| text.to_owned())
        })
    }

    fn in_command(arguments: &str) -> SlurmdOptions {
        SlurmdOptions::parse(&PROPERTIES.replace("$SLURMD_OPTIONS", arguments), |_| None)
    }

    #[test]
    fn the_server_is_found_as_units_and_their_files_have_it() {
        for (text, expected) in [
            ("SLURMD_OPTIONS=\"--conf-server ctl:6817\"\n", Some("ctl:6817")),
            ("SLURMD_OPTIONS='--conf-server=ctl1:6817,ctl2:6817 -v'\n", Some("ctl1:6817,ctl2:6817")),
            ("SLURMD_OPTIONS=-v --conf-server [fd00::1]:6817", Some("[fd00::1]:6817")),
            ("SITE_OPTIONS=\"--conf-server ctl\"", Some("ctl")),
            ("SLURM_CONF_SERVER=ctl\n", Some("ctl")),
            ("#SLURMD_OPTIONS=\"--conf-server old\"\nSLURMD_OPTIONS=\"--conf-server new\"\n", Some("new")),
            ("SLURMD_OPTIONS=\"--conf-server $SERVER\"\n", None),
            ("SLURMD_OPTIONS=\"--conf-server\"\n", None),
            ("SLURMD_OPTIONS=\"-N cn01\"\n", None),
            ("", None),
        ] {
            assert_eq!(in_file(text).conf_server.as_deref(), expected, "{text:?}");
        }
        assert_eq!(in_command("--conf-server ctl:6817").conf_server.as_deref(), Some("ctl:6817"));
        for environment in
            ["SLURM_CONF_SERVER=ctl:6817 X=1", "\"SLURMD_OPTIONS=-v --conf-server ctl:6817\" X=1"]
        {
            let properties = format!("{PROPERTIES}Environment={environment}\n");
            let found = SlurmdOptions::parse(&properties, |_| None);
            assert_eq!(found.conf_server.as_deref(), Some("ctl:6817"), "{environment}");
        }
    }

    #[test]
    fn the_node_name_is_that_of_slurmd_and_of_no_other_program() {
        for (text, expected) in [
            ("SLURMD_OPTIONS=\"-N cn01\"\n", Some("cn01")),
            ("SLURMD_OPTIONS='-vNcn01'\n", Some("cn01")),
            ("SLURMD_OPTIONS=-N cn01 -N cn02\n", Some("cn02")),
            ("SLURMD_OPTIONS=\"-f /etc/N.conf --conf-server ctl -N c1.cluster\"\n", Some("c1.cluster")),
            ("SLURMD_OPTIONS=-Z -F -N cn01\n", Some("cn01")),
            ("#SLURMD_OPTIONS=-N cn01\n", None),
            ("SLURMD_OPTIONS=\"-N $NAME\"\nNAME=cn01\n", None),
            ("SLURMD_OPTIONS=\"-L -N -N\"\n", None),
            ("SLURMD_OPTIONS=-N\n", None),
            ("NUMACTL_OPTIONS=\"-N 0\"\n", None),
            ("", None),
        ] {
            assert_eq!(in_file(text).node_name.as_deref(), expected, "{text:?}");
        }
        assert_eq!(in_command("-DN cn01").node_name.as_deref(), Some("cn01"));
        for (argv, expected) in [
            ("/usr/bin/numactl -N 0 /usr/sbin/slurmd -D -N $NAME", Some("cn07")),
            ("/usr/bin/numactl -N 0 /usr/sbin/slurmd -D", None),
            ("/opt/start-slurmd ${NAME}", None),
            ("/opt/start-slurmd -N ${NAME}", Some("cn07")),
        ] {
            let properties = format!(
                "ExecStart={{ path=/x ; argv[]={argv} ; ignore_errors=no }}\nEnvironment=NAME=cn07\n"
            );
            let found = SlurmdOptions::parse(&properties, |_| None);
            assert_eq!(found.node_name.as_deref(), expected, "{argv}");
        }
    }
}
