//! RPMs and a repository for tests with real package managers. A directory has the repository in `repo`.

use rollout_host::durable::replace;
use rollout_host::run::Program;
use std::path::Path;
use std::time::Duration;

/// Spec of a package with configuration files of both kinds and a unit. `beta` needs `alpha` in its own version. The
/// %post of a package hangs if /slow exists and fails if /fail does, and its %preun disables the unit on removal.
const SPEC: &str = "Name: NAME\nVersion: VERSION\nRelease: 1\nSummary: test\nLicense: none\nBuildArch: noarch\nMORE\n\
    %description\ntest\n%install\nmkdir -p %{buildroot}/opt %{buildroot}/etc %{buildroot}/usr/lib/systemd/system\n\
    echo VERSION > %{buildroot}/opt/NAME\necho VERSION > %{buildroot}/etc/NAME.conf\n\
    echo VERSION > %{buildroot}/etc/NAME.kept\ntouch %{buildroot}/usr/lib/systemd/system/NAME.service\nINSTALL\n\
    %files\n/opt/NAME\n%config /etc/NAME.conf\n%config(noreplace) /etc/NAME.kept\n\
    /usr/lib/systemd/system/NAME.service\nFILES\n\
    %post -p <lua>\nif posix.access('/slow') then posix.sleep(60) end\nif posix.access('/fail') then error('no') end\n\
    %preun -p <lua>\nif arg[2] == 0 then posix.unlink('/etc/systemd/system/multi-user.target.wants/NAME.service') end\n";

/// Builds a package with further lines in the preamble, further commands in %install and further lines in %files.
pub(super) fn build(directory: &Path, name: &str, version: &str, more: &str, (install, files): (&str, &str)) {
    let spec = SPEC.replace("NAME", name).replace("VERSION", version).replace("MORE", more);
    let spec = spec.replace("INSTALL", install).replace("FILES", files);
    let file = directory.join("build.spec");
    replace(&file, spec.as_bytes(), 0o644).unwrap();
    let define = |key: &str, path: &str| format!("--define={key} {}", directory.join(path).display());
    let program = Program::new("/usr/bin/rpmbuild", Duration::from_secs(60)).args(["-bb", "--quiet"]);
    program.arg(define("_topdir", "build")).arg(define("_rpmdir", "repo")).arg(file).run().unwrap();
}

pub(super) fn publish(directory: &Path) {
    let program = Program::new("/usr/bin/createrepo_c", Duration::from_secs(60));
    program.arg(directory.join("repo")).run().unwrap();
}
