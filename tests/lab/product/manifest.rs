//! Manifests as scenarios stage them. A scenario whose subject is the text itself writes it by hand.

use std::fmt::{Display, Formatter};

/// A manifest under construction. `to_string()` is its TOML; what was not set is left out.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Manifest {
    name: String,
    nodes: String,
    changes: Vec<Change>,
    commands: Vec<Vec<String>>,
    /// Further keys of `[verify]`, as TOML.
    verify_keys: Vec<(String, String)>,
    on_failure: Option<String>,
    reboot_timeout: Option<String>,
    /// Tables of the strategy, as TOML.
    strategy: String,
}

/// A `[[change]]`: its keys in order, and the keys of an image's `values`. All are TOML already.
#[derive(Debug, Clone, Default)]
struct Change {
    keys: Vec<(String, String)>,
    values: Vec<(String, String)>,
}

impl Manifest {
    /// A manifest without changes.
    pub fn new(name: &str, nodes: &str) -> Manifest {
        Manifest { name: name.into(), nodes: nodes.into(), ..Manifest::default() }
    }

    /// The manifest that most scenarios stage: it takes the nodes `cn[01-04]` of [`crate::Site::with_tool`] to `tool`
    /// 1.0 or 1.1 and the link to the directory for it, and proves the package's file. Named after the package.
    pub fn tool(version: &str) -> Manifest {
        let (name, directory) = (format!("tool-{version}"), if version == "1.0" { "1" } else { "2" });
        Manifest::new(&name, "cn[01-04]")
            .symlink("/opt/app/current", &format!("/opt/app/{directory}"))
            .packages("dnf", &[&name])
            .verify(&["/usr/bin/grep", "-q", &format!("^{version}$"), "/usr/share/tool/version"])
    }

    /// Gives the rollout a name.
    pub fn named(self, name: &str) -> Manifest {
        Manifest { name: name.into(), ..self }
    }

    /// Sets the nodes, as a hostlist.
    pub fn nodes(self, nodes: &str) -> Manifest {
        Manifest { nodes: nodes.into(), ..self }
    }

    /// Adds a change of a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Manifest {
        self.change("symlink").with("path", path).with("target", target)
    }

    /// Adds a change of packages, installed with this manager.
    pub fn packages(self, manager: &str, install: &[&str]) -> Manifest {
        let change = self.change("packages").with("manager", manager);
        if install.is_empty() { change } else { change.with("install", install) }
    }

    /// Adds a change of the image.
    pub fn image(self, via: &str, image: &str, version: &str) -> Manifest {
        self.change("image").with("via", via).with("image", image).with("version", version)
    }

    /// Adds a change of the kernel's arguments.
    pub fn kernel_args(self, add: &[&str], remove: &[&str]) -> Manifest {
        self.change("kernel-args").with("add", add).with("remove", remove)
    }

    /// Adds a change of a version by a command.
    pub fn command(self, name: &str, version: &str, probe: &[&str], apply: &[&str]) -> Manifest {
        let change = self.change("command").with("name", name).with("version", version);
        change.with("probe", probe).with("apply", apply)
    }

    /// Sets a key of the last change, such as `remove`, `timeout`, `boot_timeout`, `arch`: a string or a list of
    /// strings.
    pub fn with<T: serde::Serialize + ?Sized>(mut self, key: &str, value: &T) -> Manifest {
        if let Some(change) = self.changes.last_mut() {
            change.keys.push((key.into(), toml(value)));
        }
        self
    }

    /// Sets a key of the last change's `values`.
    pub fn value(mut self, key: &str, value: &str) -> Manifest {
        if let Some(change) = self.changes.last_mut() {
            change.values.push((key.into(), toml(value)));
        }
        self
    }

    /// Replaces all verify commands with this one.
    pub fn verify(self, command: &[&str]) -> Manifest {
        Manifest { commands: Vec::new(), ..self }.verify_also(command)
    }

    /// Adds a verify command.
    pub fn verify_also(mut self, command: &[&str]) -> Manifest {
        self.commands.push(command.iter().copied().map(String::from).collect());
        self
    }

    /// Replaces all verify commands with a script for `sh -ec`.
    pub fn verify_script(self, script: &str) -> Manifest {
        self.verify(&["/usr/bin/sh", "-ec", script])
    }

    /// Sets a key of `[verify]`, such as `timeout`: a string or a list of strings. A command that fails is tried until
    /// `timeout` is over, which is 5 min by default.
    pub fn verify_with<T: serde::Serialize + ?Sized>(mut self, key: &str, value: &T) -> Manifest {
        self.verify_keys.push((key.into(), toml(value)));
        self
    }

    /// `rollback` or `hold`.
    pub fn on_failure(self, end: &str) -> Manifest {
        Manifest { on_failure: Some(end.into()), ..self }
    }

    /// Sets the time after which the node is rebooted by force.
    pub fn reboot_timeout(self, limit: &str) -> Manifest {
        Manifest { reboot_timeout: Some(limit.into()), ..self }
    }

    /// Sets the tables of the strategy, as TOML.
    pub fn strategy(self, tables: &str) -> Manifest {
        Manifest { strategy: tables.into(), ..self }
    }

    fn change(mut self, kind: &str) -> Manifest {
        self.changes.push(Change::default());
        self.with("kind", kind)
    }
}

impl Display for Manifest {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "name = {}\nnodes = {}", toml(&self.name), toml(&self.nodes))?;
        for change in &self.changes {
            writeln!(f, "[[change]]")?;
            change.keys.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))?;
            change.values.iter().try_for_each(|(key, value)| writeln!(f, "values.{key} = {value}"))?;
        }
        if !self.commands.is_empty() || !self.verify_keys.is_empty() || self.on_failure.is_some() {
            writeln!(f, "[verify]\ncommands = {}", toml(&self.commands))?;
        }
        self.verify_keys.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))?;
        self.on_failure.iter().try_for_each(|end| writeln!(f, "on_failure = {}", toml(end)))?;
        self.reboot_timeout
            .iter()
            .try_for_each(|limit| writeln!(f, "[reboot]\ntimeout = {}", toml(limit)))?;
        f.write_str(&self.strategy)
    }
}

/// Writes strings and lists of strings. JSON's escapes are TOML's, too.
fn toml<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: &str = r#"name = "tool-1.1"
nodes = "cn[01-04]"
[[change]]
kind = "symlink"
path = "/opt/app/current"
target = "/opt/app/2"
[[change]]
kind = "packages"
manager = "dnf"
install = ["tool-1.1"]
[verify]
commands = [["/usr/bin/grep","-q","^1.1$","/usr/share/tool/version"]]
"#;

    #[test]
    fn the_text_is_a_manifest() {
        assert_eq!(Manifest::tool("1.1").to_string(), TOOL);
        let all = Manifest::new("all", "cn01")
            .symlink("/opt/a", "/opt/\"quoted\" \\")
            .packages("apt", &["tool=1.1"])
            .with("remove", &["extra"])
            .with("timeout", "8s")
            .image("boot-file", "compute", "2")
            .with("boot_timeout", "20s")
            .value("kernel", "vmlinuz-2")
            .command("bios", "2", &["/usr/sbin/fw", "show"], &["/usr/sbin/fw"])
            .with("undo", &["/usr/sbin/fw"])
            .verify_script("test \"$(hostname)\" = cn01")
            .verify_also(&["/usr/bin/true"])
            .verify_with("timeout", "3s")
            .verify_with("mounts", &["/home"])
            .on_failure("hold")
            .reboot_timeout("10s")
            .strategy("[strategy]\nmax_out = 2\n");
        let parsed = rollout_core::rollout::manifest::Manifest::parse(&all.to_string());
        assert!(parsed.is_ok(), "{parsed:?}\n{all}");
    }
}
