//! `boot-file`: one file or link for each node in a directory that the site's TFTP or HTTP server serves. iPXE, GRUB
//! and pxelinux look there for a file named after the node, its MAC or its IP address.
//!
//! A file is replaced as a whole, and the old one is saved and put back byte for byte. Other files in the directory are
//! not touched.

use super::{BootNode, BootSource, Outcomes, Saved};
use crate::template;
use rollout_core::rollout::image::Image;
use rollout_host::config::{InvalidValue, is_absolute};
use rollout_host::{durable, regular_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Size limit of a file that is saved, and of a template.
const MAX_BYTES: u64 = 64 * 1024;

/// Mode of a new file. The boot server reads it as a different user.
const MODE: u32 = 0o644;

/// `[boot_file]` of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BootFileConfig {
    /// The directory that is served. SlurmUser must be able to write there.
    pub directory: PathBuf,
    /// Name of a node's file, with `{node}`, `{mac}` and other values in it.
    pub name: String,
    /// File with the content of a node's file, with values likewise.
    pub template: Option<PathBuf>,
    /// Target of a link instead of a file, with values likewise.
    pub link: Option<String>,
}

impl BootFileConfig {
    pub(crate) fn check(&self) -> Vec<InvalidValue> {
        const KEY: &[&str] = &["boot_file"];
        let paths =
            [is_absolute(KEY, &self.directory), self.template.as_deref().and_then(|p| is_absolute(KEY, p))];
        let mut wrong: Vec<InvalidValue> = paths.into_iter().flatten().collect();
        if self.template.is_some() == self.link.is_some() {
            wrong.push(InvalidValue::new(KEY, "it needs one of `template` and `link`"));
        }
        let any = |_: &str| Some("x".to_owned());
        let name = &self.name;
        if fill(name, any).is_ok_and(|filled| filled == *name || filled.contains('/')) {
            let why = format!(
                "name {name:?}: no file name with a value of the node in it, such as \"{{node}}.ipxe\""
            );
            wrong.push(InvalidValue::new(KEY, why));
        }
        wrong
    }
}

struct BootFile(BootFileConfig);

pub(super) fn provider(config: BootFileConfig) -> Box<dyn BootSource> {
    Box::new(BootFile(config))
}

/// State of a node's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileState {
    File { text: String, mode: u32 },
    Link { target: String },
    Absent {},
}

impl BootSource for BootFile {
    fn check(&self, image: &Image, nodes: &[BootNode], _until: Instant) -> Result<Vec<String>, String> {
        let Self(config) = self;
        let directory =
            std::fs::metadata(&config.directory).map_err(|error| self.error(&config.directory, error))?;
        if !directory.is_dir() {
            return Err(format!("{} is no directory", config.directory.display()));
        }
        let mut names: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for node in nodes {
            let path = self.path(node)?;
            if let Some(other) = names.insert(path.clone(), &node.name) {
                return Err(format!("{other} and {} have the same file {}", node.name, path.display()));
            }
            self.wanted(image, node)?;
            current(&path)?;
        }
        Ok(doubts(&config.directory, &directory).into_iter().collect())
    }

    fn read(&self, nodes: &[BootNode], _until: Instant) -> Outcomes<Saved> {
        let read = |node: &BootNode| -> Result<Saved, String> {
            serde_json::to_value(current(&self.path(node)?)?).map_err(|error| error.to_string())
        };
        nodes.iter().map(|node| (node.name.clone(), read(node))).collect()
    }

    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()> {
        let set = |node: &BootNode| {
            in_time(until).and_then(|()| replace(&self.path(node)?, &self.wanted(image, node)?))
        };
        nodes.iter().map(|node| (node.name.clone(), set(node))).collect()
    }

    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()> {
        let put_back = |(node, saved): &(BootNode, Saved)| {
            in_time(until)?;
            let saved =
                serde_json::from_value(saved.clone()).map_err(|error| format!("the journal: {error}"))?;
            replace(&self.path(node)?, &saved)
        };
        nodes.iter().map(|pair| (pair.0.name.clone(), put_back(pair))).collect()
    }
}

impl BootFile {
    fn path(&self, node: &BootNode) -> Result<PathBuf, String> {
        let name = fill(&self.0.name, |value| value_of(node, None, value))?;
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(format!("{}: {name:?} is no name for its boot file", node.name));
        }
        Ok(self.0.directory.join(name))
    }

    /// Returns the desired state of a node's file.
    fn wanted(&self, image: &Image, node: &BootNode) -> Result<FileState, String> {
        let value = |value: &str| value_of(node, Some(image), value);
        if let Some(link) = &self.0.link {
            let target = fill(link, value).map_err(|why| format!("{}: link: {why}", node.name))?;
            // A server would answer "not found" for a target that does not exist.
            let target_path = self.0.directory.join(&target);
            std::fs::metadata(&target_path).map_err(|error| self.error(&target_path, error))?;
            return Ok(FileState::Link { target });
        }
        let template = self.0.template.as_deref().unwrap_or(Path::new("/"));
        let text =
            regular_file::read_text(template, MAX_BYTES).map_err(|error| self.error(template, error))?;
        let text =
            fill(&text, value).map_err(|why| format!("{}: {}: {why}", node.name, template.display()))?;
        Ok(FileState::File { text, mode: MODE })
    }

    fn error(&self, path: &Path, error: io::Error) -> String {
        format!("{}: {error}", path.display())
    }
}

/// Returns a value for a name, template or link. MACs and addresses are also available in the notation of boot loaders.
fn value_of(node: &BootNode, image: Option<&Image>, value: &str) -> Option<String> {
    let known = |key: &str| node.values.get(key).cloned();
    match value {
        "node" => Some(node.name.clone()),
        // GRUB and pxelinux, the latter after 01-, and iPXE's mac:hexhyp.
        "mac-hyphens" => known("mac").map(|mac| mac.to_lowercase().replace(':', "-")),
        // pxelinux: C0A80001.
        "ip-hex" => match known("ip")?.parse().ok()? {
            IpAddr::V4(ip) => Some(ip.octets().iter().map(|byte| format!("{byte:02X}")).collect()),
            IpAddr::V6(_) => None,
        },
        "image" => Some(image?.image.clone()),
        "version" => image?.version.clone(),
        _ => image.and_then(|image| image.values.get(value).cloned()).or_else(|| known(value)),
    }
}

/// Replaces `{name}` by values.
fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    template::fill(text, value)
        .map_err(|name| format!("{{{name}}} is not known: give it in nodes.toml or the manifest's values"))
}

fn current(path: &Path) -> Result<FileState, String> {
    let error = |error: io::Error| format!("{}: {error}", path.display());
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(FileState::Absent {}),
        Err(other) => return Err(error(other)),
    };
    if metadata.is_symlink() {
        let target = std::fs::read_link(path).map_err(error)?;
        let target = target.into_os_string().into_string();
        return target.map(|target| FileState::Link { target }).map_err(|_| {
            format!("{}: its target is no UTF-8 text and could not be put back", path.display())
        });
    }
    if !metadata.is_file() {
        return Err(format!("{}: neither file nor link: it is left alone", path.display()));
    }
    let text = regular_file::read_text(path, MAX_BYTES).map_err(error)?;
    Ok(FileState::File { text, mode: metadata.permissions().mode() & 0o7777 })
}

fn replace(path: &Path, wanted: &FileState) -> Result<(), String> {
    let error = |error: io::Error| format!("{}: {error}", path.display());
    if current(path)? == *wanted {
        return Ok(());
    }
    match wanted {
        FileState::File { text, mode } => durable::replace(path, text.as_bytes(), *mode).map_err(error),
        FileState::Link { target } => durable::replace_link(path, Path::new(target)).map_err(error),
        FileState::Absent {} => {
            std::fs::remove_file(path).and_then(|()| durable::sync_parent(path)).map_err(error)
        }
    }
}

fn in_time(until: Instant) -> Result<(), String> {
    if Instant::now() < until { Ok(()) } else { Err("there was no time left for it".to_owned()) }
}

/// Returns a doubt about a directory that others can write.
fn doubts(path: &Path, directory: &Metadata) -> Option<String> {
    let others = directory.mode() & 0o002 != 0;
    others.then(|| {
        format!(
            "{}: writable by everybody (mode {:o}): anyone may choose what nodes boot",
            path.display(),
            directory.mode() & 0o7777
        )
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a site has there")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn node(name: &str, values: &[(&str, &str)]) -> BootNode {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        BootNode { name: name.to_owned(), values }
    }

    fn image(version: &str) -> Image {
        toml::from_str(&format!(
            "via = 'boot-file'\nimage = 'compute'\nversion = '{version}'\nvalues = {{ kernel = 'vmlinuz-{version}' }}"
        ))
        .unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    struct Site {
        dir: tempfile::TempDir,
        config: BootFileConfig,
    }

    impl Site {
        fn new(name: &str, template: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (directory, path) = (dir.path().join("boot"), dir.path().join("template"));
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(&path, template).unwrap();
            let config =
                BootFileConfig { directory, name: name.to_owned(), template: Some(path), link: None };
            Self { dir, config }
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.config.directory.join(name)).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.config.directory).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    #[test]
    fn names_are_what_boot_loaders_look_for() {
        let node = node("cn01", &[("mac", "52:54:00:AB:cd:EF"), ("ip", "192.168.0.1")]);
        for (name, file) in [
            ("{node}.ipxe", "cn01.ipxe"),
            ("01-{mac-hyphens}", "01-52-54-00-ab-cd-ef"),
            ("grub.cfg-{ip-hex}", "grub.cfg-C0A80001"),
        ] {
            assert_eq!(fill(name, |value| value_of(&node, None, value)).unwrap(), file);
        }
        let error = fill("{xname}", |value| value_of(&node, None, value)).unwrap_err();
        assert!(error.contains("{xname}") && error.contains("nodes.toml"), "{error}");
    }

    #[test]
    fn braces_of_scripts_are_left_alone() {
        let script = "menuentry \"{node}\" {\n  set root=${prefix}{{x}\n} ${net0/mac} {}";
        let filled = fill(script, |value| (value == "node").then(|| "cn01".to_owned())).unwrap();
        assert_eq!(filled, "menuentry \"cn01\" {\n  set root=${prefix}{x}\n} ${net0/mac} {}");
    }

    #[test]
    fn what_was_there_comes_back_exactly() {
        let site = Site::new("{node}.ipxe", "kernel {kernel} node={node}\n");
        let provider = BootFile(site.config.clone());
        let nodes = [node("n1", &[]), node("n2", &[]), node("n3", &[])];
        let old = site.config.directory.join("n1.ipxe");
        std::fs::write(&old, "old, no newline").unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("../default.ipxe", site.config.directory.join("n2.ipxe")).unwrap();
        assert_eq!(provider.check(&image("2"), &nodes, soon()).unwrap(), Vec::<String>::new());
        let before = provider.read(&nodes, soon());
        for _twice in 0..2 {
            assert!(provider.set(&image("2"), &nodes, soon()).values().all(Result::is_ok));
        }
        assert_eq!(site.text("n3.ipxe"), "kernel vmlinuz-2 node=n3\n");
        let saved =
            nodes.iter().map(|node| (node.clone(), before[&node.name].clone().unwrap())).collect::<Vec<_>>();
        for _twice in 0..2 {
            assert!(provider.put_back(&saved, soon()).values().all(Result::is_ok));
        }
        assert_eq!(site.text("n1.ipxe"), "old, no newline");
        assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o7777, 0o600);
        let link = std::fs::read_link(site.config.directory.join("n2.ipxe")).unwrap();
        assert_eq!(
            (link.to_str().unwrap(), site.names().len()),
            ("../default.ipxe", 2),
            "and nothing is left over"
        );
    }

    #[test]
    fn a_link_to_an_image_that_is_there() {
        let mut site = Site::new("01-{mac-hyphens}", "");
        (site.config.template, site.config.link) = (None, Some("../{image}-{version}".into()));
        std::fs::write(site.dir.path().join("compute-2"), "").unwrap();
        let provider = BootFile(site.config.clone());
        let nodes = [node("n1", &[("mac", "52:54:00:00:00:01")])];
        assert!(provider.set(&image("2"), &nodes, soon())["n1"].is_ok());
        assert_eq!(site.names(), ["01-52-54-00-00-00-01"]);
        let error = provider.check(&image("3"), &nodes, soon()).unwrap_err();
        assert!(error.contains("compute-3") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_an_error_at_once() {
        let site = Site::new("{node}", "{image}");
        let provider = BootFile(site.config.clone());
        let nodes = [node("n1", &[])];
        let template = site.config.template.as_deref().unwrap();
        std::fs::remove_file(template).unwrap();
        for fifo in [template, &site.config.directory.join("n1")] {
            nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let error = provider.check(&image("2"), &nodes, soon()).unwrap_err();
            assert!(error.contains("regular file") || error.contains("left alone"), "{error}");
            std::fs::remove_file(fifo).unwrap();
            std::fs::write(fifo, "").unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_said_before() {
        let site = Site::new("{rack}", "{image}");
        let provider = BootFile(site.config.clone());
        let same = [node("n1", &[("rack", "r1")]), node("n2", &[("rack", "r1")])];
        assert!(
            provider.check(&image("2"), &same, soon()).unwrap_err().contains("n1 and n2 have the same file")
        );
        let error = provider.check(&image("2"), &[node("n1", &[])], soon()).unwrap_err();
        assert!(error.contains("{rack}"), "{error}");
        std::fs::create_dir(site.config.directory.join("r1")).unwrap();
        let error = provider.check(&image("2"), &same[..1], soon()).unwrap_err();
        assert!(error.contains("left alone"), "{error}");
        let error = provider.set(&image("2"), &same[..1], Instant::now())["n1"].clone().unwrap_err();
        assert!(error.contains("no time"), "{error}");
        std::fs::remove_dir_all(&site.config.directory).unwrap();
        assert!(provider.check(&image("2"), &same, soon()).unwrap_err().contains("No such file"));
    }
}
