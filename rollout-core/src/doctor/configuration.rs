//! The configuration of either side: its files and the mistakes in them.

use super::Finding;

const CHECK: &str = "configuration";

/// A configuration as it was read.
#[derive(Debug, Clone)]
pub struct ConfigurationFacts<'a> {
    /// Files that were read, with drop-ins.
    pub files: Vec<String>,
    /// Mistakes in them, with file and line.
    pub mistakes: Vec<String>,
    /// Consequence of a mistake.
    pub consequence: &'a str,
    /// Command that checks the files alone.
    pub check_command: &'a str,
}

/// Returns a problem for each mistake, or the files if there is none.
#[must_use]
pub fn configuration(facts: &ConfigurationFacts) -> Vec<Finding> {
    if facts.mistakes.is_empty() {
        let files =
            if facts.files.is_empty() { "no file, all defaults".to_owned() } else { facts.files.join(", ") };
        return vec![Finding::ok(CHECK, files)];
    }
    let problem = |mistake: &String| {
        Finding::problem(CHECK, mistake)
            .because(facts.consequence)
            .cured_by(format!("mend it; then `{}`", facts.check_command))
    };
    facts.mistakes.iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_problems_and_files_are_named() {
        let found = |files: &[&str], mistakes: &[&str]| {
            let facts = ConfigurationFacts {
                files: files.iter().map(|file| (*file).to_owned()).collect(),
                mistakes: mistakes.iter().map(|mistake| (*mistake).to_owned()).collect(),
                consequence: "it does not start",
                check_command: "x config check",
            };
            configuration(&facts)
        };
        assert_eq!(found(&[], &[]), [Finding::ok(CHECK, "no file, all defaults")]);
        assert_eq!(found(&["/a", "/b"], &[]), [Finding::ok(CHECK, "/a, /b")]);
        let problem = |mistake| {
            Finding::problem(CHECK, mistake)
                .because("it does not start")
                .cured_by("mend it; then `x config check`")
        };
        assert_eq!(found(&["/a"], &["/a:1: x", "/a:2: y"]), [problem("/a:1: x"), problem("/a:2: y")]);
    }
}
