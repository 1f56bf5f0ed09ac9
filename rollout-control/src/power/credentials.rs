//! Users and passwords of management controllers, from files that others cannot read.

use nix::unistd::geteuid;
use rollout_core::text::one_line;
use rollout_host::regular_file;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Size limit of a file with credentials.
const MAX_FILE: u64 = 4096;

/// Stands for a password in texts for people.
const HIDDEN: &str = "(password)";

/// Length limit of texts for people, in characters.
const MAX_WHY: usize = 500;

/// A user and a password. Serialized only for the standard input of our own program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub user: String,
    pub password: Password,
}

/// A password, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

/// SlurmUser and its group, who may own the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlurmIds {
    pub uid: u32,
    pub gid: u32,
}

impl SlurmIds {
    /// Returns the owners of the state directory, which are SlurmUser and its group.
    #[must_use]
    pub fn of_state_directory(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|dir| Self { uid: dir.uid(), gid: dir.gid() })
    }
}

impl Password {
    /// Returns the password, for a place where nobody else reads it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Credentials {
    /// Reads a file: TOML with `user` and `password`. Only its owner, who is root, SlurmUser or this user, may write it,
    /// and only SlurmUser's group may read it.
    ///
    /// # Errors
    /// The reason in one line, with the file and the remedy, and nothing of its content.
    pub fn read(path: &Path, slurm: Option<SlurmIds>) -> Result<Self, String> {
        read(path, slurm).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Returns a text of somebody else in one line, without the password.
    #[must_use]
    pub fn without_password(&self, text: &str) -> String {
        one_line(&text.replace(self.password.expose(), HIDDEN), MAX_WHY)
    }
}

fn read(path: &Path, slurm: Option<SlurmIds>) -> Result<Credentials, String> {
    let io = |error: std::io::Error| error.to_string();
    let file = regular_file::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    let owners = Owners { uid: about.uid(), gid: about.gid(), mode: about.mode() & 0o7777 };
    owners.check(geteuid().as_raw(), slurm)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    parse(&text)
}

/// Parses the content of a file. Its parser's messages quote the content, so they are not passed on.
fn parse(text: &str) -> Result<Credentials, String> {
    let credentials: Credentials = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|at| text.get(..at.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}: it must have exactly user = \"…\" and password = \"…\"")
    })?;
    for (key, value) in [("user", credentials.user.as_str()), ("password", credentials.password.expose())] {
        if value.is_empty() || value.contains(char::is_control) {
            return Err(format!("{key} is empty, or has a control character"));
        }
    }
    Ok(credentials)
}

/// Owners and mode of a file.
struct Owners {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owners {
    fn check(&self, own: u32, slurm: Option<SlurmIds>) -> Result<(), String> {
        let Self { uid, gid, mode } = *self;
        let is_slurms = slurm.is_some_and(|slurm| slurm.gid == gid);
        let allowed = if is_slurms { 0o640 } else { 0o600 };
        if mode & 0o077 & !allowed != 0 {
            return Err(format!(
                "is open to others (mode {mode:04o}, gid {gid}): `chmod 600` it, or `chmod 640` with SlurmUser's group; then \
                 change the password"
            ));
        }
        if uid != 0 && uid != own && slurm.is_none_or(|slurm| slurm.uid != uid) {
            return Err(format!(
                "belongs to uid {uid}, which is neither root nor SlurmUser: `chown root` it"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_slurm_user_and_its_group_may_read_it() {
        let slurm = Some(SlurmIds { uid: 64, gid: 65 });
        for (uid, gid, mode, slurm, ok) in [
            (0, 0, 0o600, slurm, true),
            (0, 0, 0o400, None, true),
            (0, 65, 0o640, slurm, true),
            (64, 65, 0o600, slurm, true),
            (64, 65, 0o640, slurm, true),
            (7, 7, 0o600, slurm, true),
            (0, 65, 0o660, slurm, false),
            (0, 0, 0o640, slurm, false),
            (0, 65, 0o640, None, false),
            (0, 65, 0o644, slurm, false),
            (0, 0, 0o604, slurm, false),
            (0, 0, 0o602, slurm, false),
            (9, 65, 0o600, slurm, false),
            (64, 65, 0o600, None, false),
        ] {
            let checked = Owners { uid, gid, mode }.check(7, slurm);
            assert_eq!(checked.is_ok(), ok, "{uid} {gid} {mode:o} {slurm:?}: {checked:?}");
        }
    }

    #[test]
    fn no_error_and_no_debug_output_has_the_password() {
        let good = parse("user = 'admin'\npassword = 'hunter2'\n").unwrap();
        assert_eq!((good.user.as_str(), good.password.expose()), ("admin", "hunter2"));
        assert!(!format!("{good:?}").contains("hunter2"));
        assert_eq!(good.without_password("no\n(hunter2) hunter2"), "no ((password)) (password)");
        for (text, line) in [
            ("user = 'admin'\npassword = hunter2", 2),
            ("user = 'admin'\npassword = 'hunter2\n", 2),
            ("hunter2", 1),
            ("user = 'admin'\n\npasswort = 'hunter2'", 3),
            ("hunter2 = 'password'\nuser = 'a'", 1),
            ("password = ['hunter2']\nuser = 'a'", 1),
            ("password = 'hunter2'", 1),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.starts_with(&format!("line {line}: ")) && !why.contains("hunter2"), "{text}: {why}");
        }
        for text in ["user = ''\npassword = 'hunter2'", "user = 'a'\npassword = \"hunter2\\n\""] {
            let why = parse(text).unwrap_err();
            assert!(why.contains("control character") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
    fn a_file_is_checked_before_it_is_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bmc.toml");
        let read = || Credentials::read(&path, None);
        assert!(read().unwrap_err().contains("bmc.toml: No such file"));
        std::fs::write(&path, "user = 'admin'\npassword = 'hunter2'\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let why = read().unwrap_err();
        assert!(why.contains("is open to others (mode 0644") && why.contains("chmod 600"), "{why}");
        mode(0o600);
        assert_eq!(read().unwrap().user, "admin");
        std::fs::write(&path, vec![b'#'; 5000]).unwrap();
        assert!(read().unwrap_err().contains("longer than 4096 bytes"));
        assert!(Credentials::read(Path::new("/dev/zero"), None).unwrap_err().contains("not a regular file"));
    }
}
