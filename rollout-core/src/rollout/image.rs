//! Images: the image that a node should boot, the provider that makes it boot, and the proof by the booted system.
//!
//! An image has an identity that the running system can show. The provider's name for it (a file, a kernel, a
//! deployment) concerns only the manifest and the provider.

use crate::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Length limit of a value, in bytes.
const MAX_VALUE: usize = 4096;

/// Maximum number of values in a change.
const MAX_VALUES: usize = 64;

/// A change of the image that a node boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub via: Via,
    /// `IMAGE_ID` in the os-release of the image.
    pub image: String,
    /// `IMAGE_VERSION` in the os-release of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Architecture of the image, as `uname -m` prints it. Not checked if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Parameters of the provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    #[serde(default)]
    pub proof: Proof,
    /// Time limit from the order until the node is up. After that, its old boot source is put back.
    #[serde(default = "default_boot_timeout")]
    pub boot_timeout: TimeLimit,
    /// The rollout to undo: the boot sources from before it are put back, and no new ones are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
}

/// The provider that makes a node boot an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A file or link for each node in the directory of a boot server.
    BootFile,
    /// The Boot Script Service of OpenCHAMI or CSM.
    Bss,
    /// CSM's Boot Orchestration Service, which reboots the node itself.
    Bos,
    /// OpenCHAMI's boot-service, which follows the Boot Script Service there.
    BootService,
    /// The site's own program on the controller.
    Command,
    /// ostree on the node.
    Ostree,
    /// An entry of the node's boot loader, GRUB or systemd-boot.
    BootEntry,
}

/// A provider that changes the boot source on the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeProvider {
    Ostree,
    BootEntry,
}

/// The proof required of the booted system. All parts that are given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    /// Requires os-release to name the image and, if it is given, its version.
    pub os_release: bool,
    /// A file and its required content, usually a digest. Blanks and newlines around it do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileProof>,
    /// The checksum of the ostree deployment that is booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ostree: Option<String>,
    /// The kernel's release, `uname -r`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Words that the kernel's command line must contain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmdline: Vec<String>,
}

/// A file that proves an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileProof {
    /// Path in the booted system.
    pub path: String,
    pub content: String,
}

/// Identity of a running system.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Running {
    /// `IMAGE_ID` of os-release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `IMAGE_VERSION` of os-release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kernel's release, `uname -r`.
    #[serde(default)]
    pub kernel: String,
    /// The checksum of the booted ostree deployment, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ostree: Option<String>,
}

/// Facts about a system that a [`Proof`] may require.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub running: Running,
    pub cmdline: String,
    /// Content of the file of [`Proof::file`], or the reason why it cannot be read.
    pub file: Option<Result<String, String>>,
}

impl Default for Proof {
    fn default() -> Self {
        Self { os_release: true, file: None, ostree: None, kernel: None, cmdline: Vec::new() }
    }
}

/// Boot timeout of a rollout that sets none, of a plain reboot, and of a rollout whose manifest cannot be read.
pub const DEFAULT_BOOT_TIMEOUT_S: u64 = 15 * 60;

fn default_boot_timeout() -> TimeLimit {
    TimeLimit::from_secs(DEFAULT_BOOT_TIMEOUT_S)
}

impl Via {
    /// Returns its name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BootFile => "boot-file",
            Self::Bss => "bss",
            Self::Bos => "bos",
            Self::BootService => "boot-service",
            Self::Command => "command",
            Self::Ostree => "ostree",
            Self::BootEntry => "boot-entry",
        }
    }

    /// Returns the table of controller.toml that configures it.
    #[must_use]
    pub fn table(self) -> String {
        self.name().replace('-', "_")
    }

    /// Returns whether the controller's side changes the boot source. Otherwise the node's agent does.
    #[must_use]
    pub fn is_on_controller(self) -> bool {
        self.on_node().is_none()
    }

    /// Returns the provider on the node, if this is one.
    #[must_use]
    pub fn on_node(self) -> Option<NodeProvider> {
        match self {
            Self::BootFile | Self::Bss | Self::Bos | Self::BootService | Self::Command => None,
            Self::Ostree => Some(NodeProvider::Ostree),
            Self::BootEntry => Some(NodeProvider::BootEntry),
        }
    }

    /// Returns whether the provider itself reboots the node, as soon as the image is set.
    #[must_use]
    pub fn reboots(self) -> bool {
        self == Self::Bos
    }

    /// Returns the values with which a provider on the node goes back to the system that was `running`. `saved` is the
    /// state that the provider had saved.
    ///
    /// # Errors
    /// If not enough is known.
    pub(crate) fn values_back(
        self,
        saved: Option<&str>,
        running: &Running,
    ) -> Result<BTreeMap<String, String>, String> {
        /// The part of the saved state of a boot loader that is needed here.
        #[derive(Deserialize)]
        struct Loader {
            default: Option<String>,
        }
        let default = || serde_json::from_str::<Loader>(saved?).ok()?.default;
        let (name, value) = match self.on_node() {
            Some(NodeProvider::Ostree) => ("ref", running.ostree.clone()),
            Some(NodeProvider::BootEntry) => ("entry", default()),
            None => return Ok(BTreeMap::new()),
        };
        match value {
            Some(value) => Ok([(name.to_owned(), value)].into()),
            None => Err(format!("the {name} that was booted before is not known")),
        }
    }

    /// Returns the required and the optional values of a manifest, or `None` if any values are allowed.
    fn values(self) -> Option<(&'static [&'static str], &'static [&'static str])> {
        match self {
            Self::BootFile | Self::Command => None,
            Self::Bss | Self::BootService => Some((&["kernel"], &["initrd", "params"])),
            Self::Bos => Some((&[], &[])),
            Self::Ostree => Some((&["ref"], &[])),
            Self::BootEntry => Some((&["entry"], &[])),
        }
    }
}

impl Image {
    /// Returns the doubt that this image can prove itself by os-release, if none of the systems that nodes are
    /// `running` does: stock images of Warewulf, OpenHPC and xCAT have no IMAGE_ID.
    #[must_use]
    pub fn doubts_os_release<'a>(&self, running: impl IntoIterator<Item = &'a Running>) -> Option<String> {
        let mut running = running.into_iter().peekable();
        running.peek()?;
        let none_has_one = self.proof.os_release && running.all(|running| running.image.is_none());
        none_has_one.then(|| {
            format!(
                "no node's os-release has an IMAGE_ID. If that of {} has none either, each node boots it, is refused and goes \
                 back: write IMAGE_ID into the image, or set os_release = false and another proof in [change.proof]",
                self.name()
            )
        })
    }

    /// Returns its name for people: `compute 2.1`.
    #[must_use]
    pub fn name(&self) -> String {
        named(Some(&self.image), self.version.as_deref())
    }

    /// Checks all values.
    ///
    /// # Errors
    /// The key of the first value that is refused, and the reason.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, why: String| Err((key.to_owned(), why));
        for (key, text) in [("image", Some(&self.image)), ("version", self.version.as_ref())] {
            // The characters of os-release(5), and capitals, which sites use.
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
            if let Some(text) =
                text.filter(|text| text.is_empty() || text.len() > 128 || !text.chars().all(fits))
            {
                return wrong(key, format!("{text:?}: 1 to 128 letters, digits, '.', '_', '-' or '+'"));
            }
        }
        if !self.proof.requires_something() {
            return wrong("proof", "nothing is asked of the booted system: it could be anything".to_owned());
        }
        if let Some(file) = &self.proof.file {
            let is_exact = !file.path.split('/').any(|part| matches!(part, "." | ".."));
            if !file.path.starts_with('/') || !is_exact || file.path.contains(char::is_control) {
                let why = format!("{:?}: not an absolute path without '.' and '..'", file.path);
                return wrong("proof.file.path", why);
            }
        }
        if self.values.len() > MAX_VALUES {
            return wrong("values", format!("{} values, more than {MAX_VALUES}", self.values.len()));
        }
        for (name, text) in &self.values {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || !name.chars().all(fits) {
                return wrong("values", format!("{name:?}: letters, digits, '_' and '-' make a name"));
            }
            if text.len() > MAX_VALUE || text.contains(char::is_control) {
                return wrong(
                    &format!("values.{name}"),
                    format!("longer than {MAX_VALUE} bytes, or with a control character"),
                );
            }
        }
        if self.restores.is_some() {
            return Ok(());
        }
        if let Some((required, optional)) = self.via.values() {
            let via = self.via.name();
            if let Some(missing) = required.iter().find(|name| !self.values.contains_key(**name)) {
                return wrong(&format!("values.{missing}"), format!("missing: via {via:?} needs it"));
            }
            let known = |name: &str| required.contains(&name) || optional.contains(&name);
            if let Some(extra) = self.values.keys().find(|name| !known(name)) {
                return wrong(&format!("values.{extra}"), format!("via {via:?} has no use for it"));
            }
        }
        Ok(())
    }

    /// Checks that a system with these facts runs this image.
    ///
    /// # Errors
    /// The first difference.
    pub fn prove(&self, facts: &Facts) -> Result<(), String> {
        let Facts { running, cmdline, file } = facts;
        let proof = &self.proof;
        if proof.os_release {
            let version = self.version.as_ref();
            if running.image.as_ref() != Some(&self.image)
                || version.is_some_and(|_| running.version.as_ref() != version)
            {
                return Err(format!("os-release says {}, not {}", running.name(), self.name()));
            }
        }
        if let Some(kernel) = proof.kernel.as_ref().filter(|kernel| **kernel != running.kernel) {
            return Err(format!("the kernel is {}, not {kernel}", running.kernel));
        }
        if let Some(wanted) = proof.ostree.as_ref().filter(|wanted| running.ostree.as_ref() != Some(wanted)) {
            let booted = running.ostree.as_deref().unwrap_or("none");
            return Err(format!("the booted ostree deployment is {booted}, not {wanted}"));
        }
        let missing =
            proof.cmdline.iter().find(|word| !cmdline.split_whitespace().any(|have| have == word.as_str()));
        if let Some(word) = missing {
            return Err(format!("{word:?} is not in the kernel's command line"));
        }
        match (&proof.file, file) {
            (None, _) => Ok(()),
            (Some(wanted), Some(Ok(content))) if content.trim() == wanted.content.trim() => Ok(()),
            (Some(wanted), Some(Ok(_))) => Err(format!("{} does not hold {:?}", wanted.path, wanted.content)),
            (Some(wanted), Some(Err(why))) => Err(format!("{}: {why}", wanted.path)),
            (Some(wanted), None) => Err(format!("{} was not read", wanted.path)),
        }
    }
}

impl Proof {
    fn requires_something(&self) -> bool {
        self.os_release
            || self.file.is_some()
            || self.ostree.is_some()
            || self.kernel.is_some()
            || !self.cmdline.is_empty()
    }
}

impl Running {
    /// Returns its name for people: `compute 2.1`, or the kernel if os-release names no image.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.image {
            Some(_) => named(self.image.as_deref(), self.version.as_deref()),
            None => format!("no image (kernel {})", self.kernel),
        }
    }

    /// Reads the identity from the texts of os-release and the kernel.
    #[must_use]
    pub fn of(os_release: &str, kernel: &str, ostree: Option<String>) -> Self {
        let value = |key: &str| {
            let lines = os_release.lines().filter_map(|line| line.trim().split_once('='));
            let found = lines.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()?;
            let value = found.trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            image: value("IMAGE_ID"),
            version: value("IMAGE_VERSION"),
            kernel: kernel.trim().to_owned(),
            ostree,
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn named(image: Option<&str>, version: Option<&str>) -> String {
    let image = image.unwrap_or("no image");
    version.map_or_else(|| image.to_owned(), |version| format!("{image} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Image {
        toml::from_str(&format!("via = 'boot-file'\nimage = 'compute'\nversion = '2.1'\n{text}")).unwrap()
    }

    fn facts() -> Facts {
        let os_release = "ID=debian\nIMAGE_ID=compute\nIMAGE_VERSION=\"2.1\"\n";
        Facts {
            running: Running::of(os_release, "6.1.0-40\n", Some("abc".into())),
            cmdline: "quiet root=live:x\n".into(),
            file: Some(Ok("sha256:1\n".into())),
        }
    }

    #[test]
    fn an_image_is_proven_by_all_that_is_asked() {
        let whole = "[proof]\nkernel = '6.1.0-40'\nostree = 'abc'\ncmdline = ['root=live:x']\n\
                     file = { path = '/etc/digest', content = 'sha256:1' }\n";
        assert_eq!(image(whole).prove(&facts()), Ok(()));
        assert_eq!(image("").prove(&facts()), Ok(()));
        for (from, to, why) in [
            ("6.1.0-40", "6.1.0-41", "the kernel is 6.1.0-40, not 6.1.0-41"),
            ("'abc'", "'abd'", "deployment is abc"),
            ("root=live:x", "root=live", "command line"),
            ("sha256:1", "sha256:2", "/etc/digest"),
        ] {
            let error = image(&whole.replace(from, to)).prove(&facts()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut other = facts();
        other.running.version = None;
        assert_eq!(image("").prove(&other).unwrap_err(), "os-release says compute, not compute 2.1");
        other.running.image = None;
        assert!(image("").prove(&other).unwrap_err().contains("no image (kernel 6.1.0-40)"));
        assert_eq!(image("[proof]\nos_release = false\nkernel = '6.1.0-40'").prove(&other), Ok(()));
    }

    #[test]
    fn a_provider_on_the_node_goes_back_to_what_it_kept() {
        let running = facts().running;
        let back = |via: Via, saved| via.values_back(saved, &running);
        assert_eq!(back(Via::Ostree, None).unwrap()["ref"], "abc");
        let saved = r#"{"default":"old.conf","cmdline":"quiet"}"#;
        assert_eq!(back(Via::BootEntry, Some(saved)).unwrap()["entry"], "old.conf");
        for saved in [None, Some("{"), Some(r#"{"default":null,"cmdline":""}"#)] {
            assert!(back(Via::BootEntry, saved).unwrap_err().contains("entry"), "{saved:?}");
        }
        assert!(back(Via::Bss, None).unwrap().is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(image("").check(), Ok(()));
        for (text, key) in [
            ("[proof]\nos_release = false", "proof"),
            ("[proof]\nfile = { path = 'x', content = '' }", "proof.file.path"),
            ("[proof]\nfile = { path = '/run/../etc/x', content = '' }", "proof.file.path"),
            ("[values]\n'a b' = ''", "values"),
            ("[values]\na = \"\\u0007\"", "values.a"),
        ] {
            assert_eq!(image(text).check().unwrap_err().0, key, "{text}");
        }
        for (text, key) in [
            ("via = 'bss'\nimage = 'a'", "values.kernel"),
            ("via = 'bss'\nimage = 'a'\nvalues = { kernel = 'k', x = '' }", "values.x"),
            ("via = 'boot-service'\nimage = 'a'", "values.kernel"),
            ("via = 'ostree'\nimage = 'a'", "values.ref"),
            ("via = 'boot-entry'\nimage = 'a'", "values.entry"),
            ("via = 'bos'\nimage = 'a b'", "image"),
            ("via = 'bos'\nimage = ''", "image"),
        ] {
            assert_eq!(toml::from_str::<Image>(text).unwrap().check().unwrap_err().0, key, "{text}");
        }
    }

    #[test]
    fn an_image_without_an_id_is_doubted_before_it_is_booted() {
        let (stock, ours) = (Running::default(), facts().running);
        let by_kernel = image("[proof]\nos_release = false\nkernel = '6.1.0-40'");
        for (image, running, doubted) in [
            (image(""), &[stock.clone()][..], true),
            (image(""), &[stock.clone(), ours], false),
            (image(""), &[], false),
            (by_kernel, std::slice::from_ref(&stock), false),
        ] {
            assert_eq!(image.doubts_os_release(running).is_some(), doubted, "{running:?}");
        }
    }
}
