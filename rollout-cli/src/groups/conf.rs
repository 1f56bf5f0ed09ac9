//! `groups.conf` and the files in `groups.conf.d`, as Python's ConfigParser reads them: sections of keys and values,
//! with `=` or `:` between them, comments that begin with `#` or `;`, and values that go on in indented lines.

/// One such file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Conf {
    /// Name of the default source.
    pub default: Option<String>,
    /// Directories with further such files, as they are written: `confdir`, or its old name `groupsdir`.
    pub directories: String,
    /// Directories with YAML files of groups, as they are written: `autodir`.
    pub yaml_directories: String,
    /// Sources in the order of their sections.
    pub sections: Vec<(String, Section)>,
}

/// The commands of a source.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Section {
    /// Prints the nodes of `$GROUP`.
    pub map: String,
    /// Prints all nodes.
    pub all: Option<String>,
    /// Prints the names of all groups.
    pub list: Option<String>,
}

/// Name of the section that is no source.
const MAIN: &str = "Main";

/// A section as it is written.
struct Written {
    header: String,
    keys: Vec<(String, String)>,
}

/// Parses the text of a file.
///
/// # Errors
/// The first error, with its line.
pub fn parse_conf(text: &str) -> Result<Conf, String> {
    let mut conf = Conf::default();
    for section in sections(text)? {
        if section.header == MAIN {
            conf.default = section.get("default").filter(|name| !name.is_empty()).map(str::to_owned);
            let directories = section.get("groupsdir").or_else(|| section.get("confdir"));
            conf.directories = directories.unwrap_or_default().to_owned();
            conf.yaml_directories = section.get("autodir").unwrap_or_default().to_owned();
            continue;
        }
        let Some(map) = section.get("map") else {
            return Err(format!("[{}] has no map, which prints the nodes of a group", section.header));
        };
        let commands = Section {
            map: map.to_owned(),
            all: section.get("all").map(str::to_owned),
            list: section.get("list").map(str::to_owned),
        };
        let names = section.header.split(',').filter(|name| *name != MAIN);
        conf.sections.extend(names.map(|name| (name.to_owned(), commands.clone())));
    }
    Ok(conf)
}

fn sections(text: &str) -> Result<Vec<Written>, String> {
    let mut sections: Vec<Written> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}", index + 1);
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let last_value = sections.last_mut().and_then(|section| section.keys.last_mut());
        if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), last_value) {
            value.push('\n');
            value.push_str(trimmed);
        } else if let Some(header) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            sections.push(Written { header: header.0.to_owned(), keys: Vec::new() });
        } else {
            let section = sections.last_mut().ok_or_else(|| wrong("it stands before the first [section]"))?;
            let at = trimmed.find(['=', ':']).ok_or_else(|| wrong("neither [section] nor KEY: VALUE"))?;
            let (key, value) = trimmed.split_at(at);
            let key = key.trim_end().to_lowercase();
            if section.get(&key).is_some() {
                return Err(wrong(&format!("{key} is written twice")));
            }
            section.keys.push((key, value.get(1..).unwrap_or_default().trim().to_owned()));
        }
    }
    Ok(sections)
}

impl Written {
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clustershell_ships() {
        let text = "\
# comment
[Main]

default: local
confdir: /etc/clustershell/groups.conf.d $CFGDIR/groups.conf.d
autodir: /etc/clustershell/groups.d
    $CFGDIR/groups.d

[local]
map: sed -n 's/^$GROUP:\\(.*\\)/\\1/p' f
; comment
ALL = sed x

[slurmpart,sp]
map: sinfo -h -o \"%N\" -p $GROUP
list: sinfo -h -o \"%R\"
cache_time: 60
";
        let local = Section {
            map: "sed -n 's/^$GROUP:\\(.*\\)/\\1/p' f".to_owned(),
            all: Some("sed x".to_owned()),
            list: None,
        };
        let partitions = Section {
            map: "sinfo -h -o \"%N\" -p $GROUP".to_owned(),
            all: None,
            list: Some("sinfo -h -o \"%R\"".to_owned()),
        };
        let conf = Conf {
            default: Some("local".to_owned()),
            directories: "/etc/clustershell/groups.conf.d $CFGDIR/groups.conf.d".to_owned(),
            yaml_directories: "/etc/clustershell/groups.d\n$CFGDIR/groups.d".to_owned(),
            sections: vec![
                ("local".to_owned(), local),
                ("slurmpart".to_owned(), partitions.clone()),
                ("sp".to_owned(), partitions),
            ],
        };
        assert_eq!(parse_conf(text), Ok(conf));
        assert_eq!(parse_conf("[Main]\ndefault:\n"), Ok(Conf::default()));
        assert_eq!(parse_conf("[Main]\ngroupsdir: /a\nconfdir: /b\n").unwrap().directories, "/a");
    }

    #[test]
    fn errors_have_a_line() {
        for (text, error) in [
            ("map: x", "line 1: it stands before the first [section]"),
            ("\n[a]\nx", "line 3: neither [section] nor KEY: VALUE"),
            ("[a]\nmap: x\nmap: y", "line 3: map is written twice"),
            ("[a]\nall: x", "[a] has no map, which prints the nodes of a group"),
        ] {
            assert_eq!(parse_conf(text), Err(error.to_owned()), "{text:?}");
        }
    }
}
