//! The commands of ClusterShell's sources, such as `nodeattr -n $GROUP`.
//!
//! ClusterShell runs them in a shell. We start no shell: a command is split into words, and one that needs more than
//! words (a pipe, a redirection, a variable of the shell) is refused.

use rollout_host::run::{PATH, Program, RunError};
use rollout_host::trust::may_be_trusted;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit of a command. A person waits.
const LIMIT: Duration = Duration::from_secs(10);

/// Characters that mean more to a shell than themselves, outside quotes.
const SHELL: [char; 19] =
    ['|', '&', ';', '<', '>', '(', ')', '`', '\\', '*', '?', '[', ']', '{', '}', '~', '#', '!', '$'];

/// The variables that ClusterShell replaces in a command.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    pub group: Option<&'a str>,
    pub source: &'a str,
    /// `$CFGDIR`, in which a relative path of a program is, too.
    pub dir: &'a Path,
}

/// A command that cannot be run, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    #[error(
        "the command needs a shell ({0}), which slurm-rollout does not start; put it into a script and name that, or \
         write the groups into a file of groups.d"
    )]
    NeedsShell(String),
    #[error("a quote is never closed; add {0}")]
    Unclosed(char),
    #[error("the command is empty; write a program with its arguments")]
    Empty,
    #[error("{0:?} cannot be an argument of the command; use letters, digits, '.', '_', '+', '=' and '-'")]
    GroupName(String),
    #[error("{0} is not in {PATH} and not beside scontrol; write its absolute path")]
    NoProgram(String),
    /// Someone else could choose what is run.
    #[error("{}: {why}", .program.display())]
    NotTrusted { program: PathBuf, why: String },
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs a command and returns the words that it prints.
///
/// # Errors
/// If it needs a shell, cannot be run or fails.
pub fn run(
    template: &str,
    variables: &Variables<'_>,
    slurm_bin: Option<&Path>,
    slurm_conf: Option<&Path>,
) -> Result<Vec<String>, CommandError> {
    if let Some(group) = variables.group.filter(|group| !is_argument(group)) {
        return Err(CommandError::GroupName(group.to_owned()));
    }
    let words = words(template, variables)?;
    let (name, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let path = program(name, variables.dir, slurm_bin)?;
    may_be_trusted(&path).map_err(|why| CommandError::NotTrusted { program: path.clone(), why })?;
    let mut program = Program::new(path, LIMIT).args(arguments);
    if let Some(slurm_conf) = slurm_conf {
        program = program.env("SLURM_CONF", slurm_conf);
    }
    Ok(program.run()?.stdout.split_whitespace().map(str::to_owned).collect())
}

/// Splits a text into words as a shell does, and replaces the variables in them.
///
/// # Errors
/// If it needs a shell, or a quote is never closed.
pub fn words(template: &str, variables: &Variables<'_>) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if c == '$' {
            let (value, length) = variables.at(rest)?;
            word.get_or_insert_default().push_str(&value);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match quote {
            Some(open) if c == open => quote = None,
            Some('"') if c == '`' || c == '\\' => return Err(CommandError::NeedsShell(c.to_string())),
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None if SHELL.contains(&c) => return Err(CommandError::NeedsShell(c.to_string())),
            None => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(CommandError::Unclosed(open)),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

impl Variables<'_> {
    /// Returns the value of the variable at the beginning of a text, and the length of its name there. ClusterShell
    /// replaces variables before the shell sees the command, so also in single quotes.
    fn at(&self, text: &str) -> Result<(String, usize), CommandError> {
        let name = text.get(1..).unwrap_or_default();
        let (name, braces) = match name.strip_prefix('{') {
            Some(name) => (name.split('}').next().unwrap_or_default(), 2),
            None => {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                (name.get(..end.unwrap_or(name.len())).unwrap_or_default(), 0)
            }
        };
        let value = match (name, self.group) {
            ("GROUP", Some(group)) => group.to_owned(),
            ("SOURCE", _) => self.source.to_owned(),
            ("CFGDIR", _) => self.dir.to_string_lossy().into_owned(),
            _ => return Err(CommandError::NeedsShell(format!("${name}"))),
        };
        Ok((value, 1 + name.len() + braces))
    }
}

fn is_argument(group: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+=-".contains(c);
    !group.starts_with('-') && group.chars().all(fits)
}

/// Returns the absolute path of a program.
fn program(name: &str, dir: &Path, slurm_bin: Option<&Path>) -> Result<PathBuf, CommandError> {
    if name.contains('/') {
        return Ok(dir.join(name));
    }
    let directories = PATH.split(':').map(Path::new).chain(slurm_bin);
    let mut paths = directories.map(|directory| directory.join(name)).filter(|path| path.is_absolute());
    paths.find(|path| path.is_file()).ok_or_else(|| CommandError::NoProgram(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables<'static> {
        Variables { group: Some("gpu"), source: "sp", dir: Path::new("/etc/clustershell") }
    }

    fn split(template: &str) -> Result<Vec<String>, String> {
        words(template, &variables()).map_err(|error| match error {
            CommandError::NeedsShell(what) => what,
            other => other.to_string(),
        })
    }

    #[test]
    fn words_are_those_of_a_shell() {
        for (template, words) in [
            ("nodeattr -n $GROUP", &["nodeattr", "-n", "gpu"][..]),
            ("sinfo -h -o \"%N\" -p ${GROUP}", &["sinfo", "-h", "-o", "%N", "-p", "gpu"]),
            ("$CFGDIR/map.sh '$SOURCE' a\"b c\"'d|'", &["/etc/clustershell/map.sh", "sp", "ab cd|"]),
            ("a '' \"\"\n b", &["a", "", "", "b"]),
            ("", &[]),
        ] {
            assert_eq!(
                split(template),
                Ok(words.iter().map(|word| (*word).to_owned()).collect()),
                "{template}"
            );
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for (template, what) in [
            ("a | b", "|"),
            ("a 2>/dev/null", ">"),
            ("a $(b)", "$"),
            ("a \"$(b)\"", "$"),
            ("a \"`b`\"", "`"),
            ("a $HOME", "$HOME"),
            ("a ${GROUP#x}", "$GROUP#x"),
            ("[ -f x ]", "["),
            ("a b*", "*"),
            ("a 'b", "a quote is never closed; add '"),
        ] {
            assert_eq!(split(template), Err(what.to_owned()), "{template}");
        }
        let all = Variables { group: None, ..variables() };
        assert!(matches!(words("a $GROUP", &all), Err(CommandError::NeedsShell(_))), "there is no group");
    }

    #[test]
    fn runs_programs_and_passes_no_option_in_a_groups_name() {
        let printed = |template: &str, group| {
            run(template, &Variables { group: Some(group), ..variables() }, None, None)
        };
        assert_eq!(printed("echo 'n[1-2]' $GROUP", "gpu").unwrap(), ["n[1-2]", "gpu"]);
        for group in ["-x", "a b", "a;b", "a/b"] {
            assert!(matches!(printed("echo $GROUP", group), Err(CommandError::GroupName(_))), "{group}");
        }
        assert!(matches!(printed("no-such-program-of-ours", "x"), Err(CommandError::NoProgram(_))));
        assert!(matches!(printed("false", "x"), Err(CommandError::Run(_))));
        assert!(matches!(printed(" ", "x"), Err(CommandError::Empty)));
    }
}
