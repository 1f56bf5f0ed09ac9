//! `/proc/self/mountinfo`: whether files at a path survive a boot.

use super::node::FileSystem;

/// File systems in memory.
const MEMORY: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    pub at: String,
    /// Name of the file system's type, such as `ext4` or `nfs4`.
    pub kind: String,
}

struct Mount<'a> {
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// Returns the file system of an absolute path without links. An overlay writes to its upper directory, which counts if
/// it is visible in this mount namespace.
#[must_use]
pub fn file_system(mountinfo: &str, path: &str) -> FileSystem {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(read).collect();
    let Some(mount) = holding(&mounts, path) else { return FileSystem::Lasting };
    if MEMORY.contains(&mount.kind) {
        return FileSystem::Memory(mount.kind.to_owned());
    }
    let upper = mount.options.split(',').find_map(|option| option.strip_prefix("upperdir="));
    let below = upper.filter(|_| mount.kind == "overlay").and_then(|upper| holding(&mounts, upper));
    match below {
        Some(below) if MEMORY.contains(&below.kind) => {
            FileSystem::Memory(format!("an overlay on {}", below.kind))
        }
        _ => FileSystem::Lasting,
    }
}

/// Returns the mount point and the kind of the file system that holds an absolute path without links.
#[must_use]
pub fn mount_of(mountinfo: &str, path: &str) -> Option<MountPoint> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(read).collect();
    holding(&mounts, path).map(|mount| MountPoint { at: mount.at.to_owned(), kind: mount.kind.to_owned() })
}

/// Parses `36 35 98:0 /of /at rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn read(line: &str) -> Option<Mount<'_>> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (kind, _source, options) = (system.next()?, system.next()?, system.next()?);
    Some(Mount { at: mount.split(' ').nth(4)?, kind, options })
}

/// Returns the mount that contains a path: the innermost one, and of several at one mount point the last.
fn holding<'a, 'b>(mounts: &'a [Mount<'b>], path: &str) -> Option<&'a Mount<'b>> {
    let holds = |mount: &&Mount<'_>| {
        let inner = path.strip_prefix(mount.at.trim_end_matches('/'));
        inner.is_some_and(|inner| inner.is_empty() || inner.starts_with('/'))
    };
    mounts.iter().filter(holds).max_by_key(|mount| mount.at.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
2 1 0:5 / /run rw - tmpfs tmpfs rw,size=100k
3 1 0:6 / /var/live rw - overlay live rw,lowerdir=/l,upperdir=/run/upper,workdir=/run/work
4 1 0:7 / /var/disk rw - overlay disk rw,lowerdir=/l,upperdir=/srv/upper,workdir=/srv/work
5 1 0:8 / /over rw - ext4 /dev/sdb rw
6 1 0:9 / /over rw - tmpfs tmpfs rw
nonsense
";

    #[test]
    fn memory_is_told_from_disks() {
        let memory = |kind: &str| FileSystem::Memory(kind.to_owned());
        for (path, expected) in [
            ("/var/lib/x", FileSystem::Lasting),
            ("/run/x", memory("tmpfs")),
            ("/run", memory("tmpfs")),
            ("/running", FileSystem::Lasting),
            ("/var/live/x", memory("an overlay on tmpfs")),
            ("/var/disk/x", FileSystem::Lasting),
            ("/over/x", memory("tmpfs")),
        ] {
            assert_eq!(file_system(MOUNTS, path), expected, "{path}");
        }
        assert_eq!(file_system("", "/x"), FileSystem::Lasting, "nothing is known");
        let inside = "1 0 0:6 / / rw - overlay lab rw,lowerdir=/l,upperdir=/host/upper,workdir=/w\n";
        assert_eq!(file_system(inside, "/var/lib/x"), FileSystem::Lasting, "a container");
    }
}
