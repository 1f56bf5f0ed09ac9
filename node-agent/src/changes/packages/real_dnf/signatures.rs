//! Repositories and packages whose signatures are checked.

use super::*;

/// A keyring with a key. rpm finds gpg under the name gpg2 by default, which Debian does not have.
struct Signer {
    home: PathBuf,
}

impl Signer {
    fn new(lab: &Lab) -> Self {
        let signer = Self { home: lab.path("gpg") };
        fs::create_dir(&signer.home).unwrap();
        fs::set_permissions(&signer.home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let generate = ["--passphrase", "", "--quick-generate-key", "lab@example.invalid", "rsa2048"];
        signer.gpg().args(generate).args(["default", "never"]).run().unwrap();
        signer
    }

    fn program(&self, path: &str) -> Program {
        assert!(is_program(Path::new(path)), "{path} is missing: apt-get install gpg gpg-agent rpm");
        Program::new(path, Duration::from_secs(60)).env("GNUPGHOME", &self.home)
    }

    fn gpg(&self) -> Program {
        self.program("/usr/bin/gpg").args(["--batch", "--quiet"])
    }

    /// Signs all packages of the repository and its metadata.
    fn sign(&self, lab: &Lab) {
        let packages = fs::read_dir(lab.path("repo/noarch")).unwrap().map(|entry| entry.unwrap().path());
        let rpmsign = self.program("/usr/bin/rpmsign").args(["--define", "_openpgp_sign gpg"]);
        let rpmsign =
            rpmsign.args(["--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name lab@example.invalid"]);
        rpmsign.arg("--addsign").args(packages).run().unwrap();
        lab.publish();
        let signature = lab.path("repo/repodata/repomd.xml.asc");
        let _ = fs::remove_file(&signature);
        self.gpg().args(["--armor", "--detach-sign"]).arg(signature.with_extension("")).run().unwrap();
        self.gpg().args(["--armor", "--output"]).arg(lab.path("key")).arg("--export").run().unwrap();
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.program("/usr/bin/gpgconf").args(["--kill", "gpg-agent"]).run();
    }
}

#[test]
fn signatures_are_checked_and_a_key_that_nobody_has_accepted_yet_is() {
    let lab = Lab::configured("localpkg_gpgcheck=True");
    let before = lab.observe();
    let signer = Signer::new(&lab);
    signer.sign(&lab);
    // Its keys of repositories are kept by their address.
    fs::rename(lab.path("repo"), lab.path("signed")).unwrap();
    let (signed, key) = (lab.path("signed"), lab.path("key"));
    let entry = format!(
        "[lab]\nname=lab\ngpgcheck=1\nrepo_gpgcheck=1\nbaseurl=file://{}\ngpgkey=file://{}\n",
        signed.display(),
        key.display()
    );
    replace(&lab.path("repos/lab.repo"), entry.as_bytes(), 0o644).unwrap();
    let wanted = lab.wanted(&["beta-1.1"], &[]);
    let after = lab.apply(&wanted, &before).unwrap();
    lab.verify(&wanted, &after).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), NEW);
    fs::remove_dir_all(&signed).unwrap();
    lab.undo(&wanted, &before).unwrap();
    assert_eq!(lab.dnf.installed().unwrap(), OLD);
}
