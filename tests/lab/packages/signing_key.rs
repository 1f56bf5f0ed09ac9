//! A key that signs packages and the metadata of repositories.

use std::path::Path;

use crate::error::Result;
use crate::packages::package::Workshop;
use crate::processes::run::Command;

/// User id of the key.
const OWNER: &str = "lab@example.invalid";

/// Signs all packages below a directory. rpm of Debian 12 looks for gpg2, which Debian does not have, and newer ones
/// may prefer Sequoia.
const SIGN_PACKAGES: &str = "find \"$1\" -name '*.rpm' -exec rpmsign --define '_openpgp_sign gpg' \
                             --define '__gpg /usr/bin/gpg' --define \"_gpg_name $2\" --addsign {} +";

/// A key, in a keyring of its own that is gone when it is dropped.
#[derive(Debug)]
pub struct SigningKey(Workshop);

impl SigningKey {
    /// Makes a key without a passphrase.
    pub fn new() -> Result<SigningKey> {
        let key = SigningKey(Workshop::new()?);
        key.gpg(&["--passphrase", "", "--quick-generate-key", OWNER, "rsa2048", "default", "never"])?;
        Ok(key)
    }

    /// Signs all packages below a directory.
    pub(crate) fn sign_packages(&self, directory: &Path) -> Result<()> {
        let directory = directory.display().to_string();
        self.command(&["sh", "-ec", SIGN_PACKAGES, "sign", &directory, OWNER]).run().map(drop)
    }

    /// Signs the metadata of a repository of RPMs.
    pub(crate) fn sign_metadata(&self, repository: &Path) -> Result<()> {
        let metadata = repository.join("repodata/repomd.xml").display().to_string();
        self.gpg(&["--armor", "--detach-sign", &metadata]).map(drop)
    }

    /// Returns the public key.
    pub(crate) fn public(&self) -> Result<String> {
        self.gpg(&["--armor", "--export"])
    }

    fn gpg(&self, arguments: &[&str]) -> Result<String> {
        self.command(&[&["gpg", "--batch", "--quiet"], arguments].concat()).run()
    }

    fn command(&self, argv: &[&str]) -> Command {
        Command::new(argv).env("GNUPGHOME", &self.0.0.display().to_string())
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        // gpg has started an agent, which would end later by itself.
        let _ = self.command(&["gpgconf", "--kill", "gpg-agent"]).run();
    }
}
