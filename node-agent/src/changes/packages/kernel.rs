//! Kernels among packages. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directories of modules, which have the kernel as `VERSION/vmlinuz` on Red Hat systems.
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Beginning of a kernel's path on Debian systems.
const IN_BOOT: &str = "vmlinuz-";

/// Returns the versions of the kernels among these files, as `uname -r` prints them.
pub(super) fn versions(files: &[PathBuf]) -> Vec<String> {
    let versions: BTreeSet<String> = files.iter().filter_map(|file| version(file)).collect();
    versions.into_iter().collect()
}

fn version(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let directory = file.parent()?;
    if directory == Path::new("/boot") {
        return name.strip_prefix(IN_BOOT).map(str::to_owned);
    }
    let in_modules = MODULES.iter().any(|modules| directory.parent() == Some(Path::new(modules)));
    (name == "vmlinuz" && in_modules).then(|| directory.file_name()?.to_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_where_distributions_put_them() {
        let files = [
            "/lib/modules/5.14.0-611.el9.x86_64/vmlinuz",
            "/boot/vmlinuz-5.14.0-611.el9.x86_64",
            "/usr/lib/modules/6.12.0/vmlinuz",
            "/boot/vmlinuz-6.1.0-18-amd64",
            "/boot/vmlinuz",
            "/lib/modules/6.1/kernel/vmlinuz",
            "/opt/vmlinuz-1",
        ];
        let found = versions(&files.map(PathBuf::from));
        assert_eq!(found, ["5.14.0-611.el9.x86_64", "6.1.0-18-amd64", "6.12.0"]);
    }
}
