//! GRUB: its environment block, `grubenv`, names the entries to boot. GRUB reads it at boot, and removes `next_entry`
//! from it before it boots that entry. `grub-reboot` and `grub-set-default` are scripts around the same writes.

use super::loader::{Files, Loader};
use crate::changes::ChangeError;
use nix::errno::Errno;
use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, MSDOS_SUPER_MAGIC, XFS_SUPER_MAGIC, statfs};
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::Program;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EDIT_LIMIT: Duration = Duration::from_secs(60);

/// GRUB's directory and the programs that write its environment block and its configuration: as Red Hat names them,
/// and as all others do.
const INSTALLED: [(&str, &str, &str); 2] = [
    ("/boot/grub2", "/usr/bin/grub2-editenv", "/usr/sbin/grub2-mkconfig"),
    ("/boot/grub", "/usr/bin/grub-editenv", "/usr/sbin/grub-mkconfig"),
];

/// Directory in which each distribution has its own copy of GRUB for EFI, with the whole configuration in older ones.
const EFI: &str = "/boot/efi/EFI";

/// Entries in files of their own (Boot Loader Specification).
const ENTRIES: &str = "/boot/loader/entries";

/// Variables that a configuration must use in order to obey the environment block. grub-mkconfig writes both with
/// GRUB_DEFAULT=saved.
const OBEYED: [&str; 2] = ["${next_entry}", "${saved_entry}"];

/// The file of a site's own entries, which grub-mkconfig's configuration includes at its end.
pub(in crate::changes) const CUSTOM: &str = "custom.cfg";

/// Knows the order in which GRUB sorts entries in files of their own.
const GRUBBY: &str = "/usr/sbin/grubby";

/// File systems of a /boot to which GRUB can write.
const WRITABLE: [FsType; 3] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, MSDOS_SUPER_MAGIC];

/// GRUB as installed on this node.
pub(super) struct Grub {
    directory: PathBuf,
    editenv: &'static str,
    mkconfig: &'static str,
}

impl Grub {
    pub(super) fn find() -> Option<Self> {
        let exists = |(directory, _, _): &(&str, &str, &str)| Path::new(directory).join("grubenv").exists();
        let (directory, editenv, mkconfig) = INSTALLED.into_iter().find(exists)?;
        Some(Self { directory: directory.into(), editenv, mkconfig })
    }

    fn environment(&self) -> PathBuf {
        self.directory.join("grubenv")
    }

    fn get(&self, name: &str) -> Result<Option<String>, ChangeError> {
        let path = self.environment();
        let block = regular_file::read(&path, MAX_WRITTEN_BY_HAND)
            .map_err(ChangeError::file("reading GRUB's environment block", &path))?;
        Ok(value(&String::from_utf8_lossy(&block), name).filter(|value| !value.is_empty()))
    }

    fn set(&self, name: &str, value: Option<&str>) -> Result<(), ChangeError> {
        let edit = Program::new(self.editenv, EDIT_LIMIT).arg(self.environment());
        let edit = match value {
            Some(value) => edit.arg("set").arg(format!("{name}={value}")),
            None => edit.args(["unset", name]),
        };
        edit.run()
            .map_err(|error| ChangeError::state(format!("setting GRUB's {name}"), error.to_string()))?;
        let path = self.environment();
        reach_the_disk(&path).map_err(ChangeError::file("writing GRUB's environment block", &path))
    }

    /// Returns all the configuration files that GRUB may read at boot, joined.
    fn configuration(&self) -> String {
        let efi = files_in(Path::new(EFI)).into_iter().map(|directory| directory.join("grub.cfg"));
        let own = ["grub.cfg", CUSTOM].map(|name| self.directory.join(name));
        let texts =
            own.into_iter().chain(efi).filter_map(|path| regular_file::read(&path, MAX_WRITTEN_BY_HAND).ok());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned() + "\n").collect()
    }
}

impl Loader for Grub {
    fn name(&self) -> &'static str {
        "GRUB"
    }

    fn check(&self, entry: &str) -> Result<(), ChangeError> {
        let refused = |why| Err(ChangeError::state(format!("having GRUB boot {entry:?} once"), why));
        if let Some(why) = self.cannot_be_written_at_boot()? {
            return refused(why);
        }
        problem(&self.configuration(), &entry_files(), entry).map_or(Ok(()), refused)
    }

    fn default_entry(&self) -> Result<Option<String>, ChangeError> {
        self.get("saved_entry")
    }

    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        self.set("saved_entry", entry)
    }

    fn next_entry(&self) -> Result<Option<String>, ChangeError> {
        self.get("next_entry")
    }

    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        self.set("next_entry", entry)
    }

    fn booted_entry(&self, cmdline: &str) -> Option<String> {
        booted(&entry_files(), cmdline)
    }

    fn chosen_entry(&self) -> Option<String> {
        let info = Program::new(GRUBBY, EDIT_LIMIT).arg("--info=DEFAULT").run().ok()?;
        id(&info.stdout).map(str::to_owned)
    }

    fn files(&self) -> Files {
        Files::Grub { configuration: self.configuration_file(), mkconfig: self.mkconfig.into() }
    }

    fn cannot_try_once(&self) -> Result<Option<String>, ChangeError> {
        if let Some(why) = self.cannot_be_written_at_boot()? {
            return Ok(Some(why));
        }
        let configuration = self.configuration();
        let lacking = [OBEYED[0], CUSTOM].into_iter().find(|word| !configuration.contains(word));
        Ok(lacking.map(|word| format!("its configuration does not use {word}")))
    }

    fn variable(&self, name: &str) -> Result<Option<String>, ChangeError> {
        self.get(name)
    }

    fn set_variable(&self, name: &str, value: Option<&str>) -> Result<(), ChangeError> {
        self.set(name, value)
    }

    fn reach_the_disk(&self, path: &Path) -> Result<(), ChangeError> {
        reach_the_disk(path).map_err(ChangeError::file("writing", path))
    }
}

impl Grub {
    /// Returns the configuration with the menu. Older distributions have it in their directory on the EFI partition,
    /// newer ones only a reference to the one in GRUB's directory.
    fn configuration_file(&self) -> PathBuf {
        let own = self.directory.join("grub.cfg");
        let efi = files_in(Path::new(EFI)).into_iter().map(|directory| directory.join("grub.cfg"));
        let has_menu = |path: &PathBuf| {
            let text = regular_file::read(path, MAX_WRITTEN_BY_HAND).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(OBEYED[0])
        };
        efi.into_iter().find(|path| Path::new("/sys/firmware/efi").exists() && has_menu(path)).unwrap_or(own)
    }

    /// Returns the reason why GRUB cannot write its environment block at boot, if it cannot. It could not remove
    /// `next_entry` then: "once" would be for ever, and a power cycle would not lead back.
    fn cannot_be_written_at_boot(&self) -> Result<Option<String>, ChangeError> {
        // This is a link if the file is on the EFI partition.
        let path = self.environment();
        let attempt = "looking at GRUB's environment block";
        let real = fs::canonicalize(&path).map_err(ChangeError::file(attempt, &path))?;
        let device = fs::metadata(&real).map_err(ChangeError::file(attempt, &real))?.dev();
        let kind = statfs(&real).map_err(|error| ChangeError::file(attempt, &real)(error.into()))?;
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let mapped = ["dm", "md"]
            .iter()
            .any(|part| Path::new(&format!("/sys/dev/block/{major}:{minor}/{part}")).exists());
        let on = if mapped { "LVM, RAID or an encrypted disk" } else { "this file system" };
        let writable = !mapped && WRITABLE.contains(&kind.filesystem_type());
        Ok((!writable).then(|| {
            format!(
                "GRUB cannot write {} at boot, as it is on {on}: the entry would be tried again and again; \
                 have /boot on ext4, XFS or FAT on a partition of its own",
                real.display()
            )
        }))
    }
}

/// Makes sure that GRUB reads what was written, also after a power cut: GRUB does not replay a journal, and
/// grub-editenv rewrites the file. A frozen file system has nothing left in its journal. The root is never frozen: it
/// would stay so if this process were killed in between.
fn reach_the_disk(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    if file.metadata()?.dev() == fs::metadata("/")?.dev() {
        return Ok(());
    }
    match frozen::freeze_and_thaw(&file) {
        // FAT has no journal. If somebody else has frozen the file system, its journal is written as well.
        Err(Errno::EOPNOTSUPP | Errno::EBUSY) => Ok(()),
        result => result.map_err(io::Error::from),
    }
}

/// The only `unsafe` code of the agent: two system calls for which nix has no function.
#[allow(unsafe_code)]
mod frozen {
    use super::{AsRawFd, File};
    use nix::libc::c_int;

    // FIFREEZE and FITHAW of linux/fs.h.
    nix::ioctl_readwrite!(freeze, b'X', 119, c_int);
    nix::ioctl_readwrite!(thaw, b'X', 120, c_int);

    pub(super) fn freeze_and_thaw(file: &File) -> nix::Result<()> {
        let mut unused: c_int = 0;
        // SAFETY: the descriptor is open as long as `file` is, and the kernel reads the argument of neither call.
        // JUSTIFICATION: neither std nor nix has these calls; a program for them (fsfreeze) would keep the file system
        // frozen for the time that it takes to start a process.
        unsafe {
            freeze(file.as_raw_fd(), &raw mut unused)?;
            thaw(file.as_raw_fd(), &raw mut unused)?;
        }
        Ok(())
    }
}

/// Returns the reason why GRUB would not boot an entry named in its environment block, if there is one.
fn problem(configuration: &str, entries: &[(String, String)], entry: &str) -> Option<String> {
    if !OBEYED.iter().all(|word| configuration.contains(word)) {
        return Some(
            "its configuration does not do as its environment block says: set GRUB_DEFAULT=saved in \
             /etc/default/grub and write the configuration anew (update-grub, grub2-mkconfig)"
                .to_owned(),
        );
    }
    let in_menu = |name: &str| {
        let heads = configuration.lines().map(str::trim_start);
        let mut heads = heads.filter(|line| line.starts_with("menuentry") || line.starts_with("submenu"));
        // Titles are quoted in more than one way; the text between the quotes is the same in all of them.
        heads.any(|line| line.contains(&name.replace('\'', "'\\''")) || line.contains(name))
    };
    let in_files = |name: &str| {
        entries.iter().any(|(id, text)| {
            let title = text.lines().find_map(|line| line.strip_prefix("title")).map(str::trim);
            id == name || title == Some(name)
        })
    };
    let known = |name: &str| name.parse::<u32>().is_ok() || in_menu(name) || in_files(name);
    // A title may itself contain `>`.
    let unknown = entry.split('>').find(|name| !known(name)).filter(|_| !known(entry))?;
    Some(format!("it has no entry or submenu {unknown:?}; its menu is in grub.cfg and {ENTRIES}"))
}

/// Returns the id of the entry in a file of its own that has the kernel of this command line, if only one has it. GRUB
/// begins the command line with `BOOT_IMAGE=(hd0,gpt2)/vmlinuz-5.14`.
fn booted(entries: &[(String, String)], cmdline: &str) -> Option<String> {
    let path = cmdline.split_whitespace().find_map(|word| word.strip_prefix("BOOT_IMAGE="))?;
    let path = path.split_once(')').map_or(path, |(_, path)| path);
    let kernel =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("linux")).map(str::trim) == Some(path);
    let mut ids = entries.iter().filter(|(_, text)| kernel(text)).map(|(id, _)| id.clone());
    let id = ids.next()?;
    ids.next().is_none().then_some(id)
}

/// Returns the id of the first entry that grubby prints, as in `id="4f3c…-5.14.0-611.el9.x86_64"`.
fn id(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("id=\"")?.strip_suffix('"'))
}

/// Returns the ids and texts of the entries in files of their own.
fn entry_files() -> Vec<(String, String)> {
    let entry = |path: &PathBuf| {
        let text = regular_file::read_text(path, MAX_WRITTEN_BY_HAND).ok()?;
        Some((path.file_stem()?.to_str()?.to_owned(), text))
    };
    files_in(Path::new(ENTRIES)).iter().filter_map(entry).collect()
}

/// Returns a variable of an environment block: lines `name=value`, with a backslash before backslashes and line ends.
fn value(block: &str, name: &str) -> Option<String> {
    let (mut lines, mut line, mut escaped) = (Vec::new(), String::new(), false);
    for c in block.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '\n' if !escaped => lines.push(std::mem::take(&mut line)),
            c => {
                line.push(c);
                escaped = false;
            }
        }
    }
    let values = lines.iter().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    values.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# GRUB Environment Block\n# WARNING: Do not edit\nsaved_entry=Debian>a\\\\b\n\
                         next_entry=\nkernelopts=root=UUID=1 quiet\n######";

    #[test]
    fn the_environment_block_is_read_as_grub_reads_it() {
        assert_eq!(value(BLOCK, "saved_entry").as_deref(), Some("Debian>a\\b"));
        assert_eq!(value(BLOCK, "kernelopts").as_deref(), Some("root=UUID=1 quiet"));
        assert_eq!(value(BLOCK, "next_entry").as_deref(), Some(""));
        assert_eq!(value(BLOCK, "entry"), None);
        assert_eq!(value("", "saved_entry"), None);
    }

    const CONFIGURATION: &str = "\
if [ \"${next_entry}\" ] ; then\n set default=\"${next_entry}\"\nelse\n set default=\"${saved_entry}\"\nfi
menuentry 'Debian' --class debian $menuentry_id_option 'gnulinux-simple-1' {\n}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
\tmenuentry 'Debian, with Linux 6.12' --class x $menuentry_id_option 'gnulinux-6.12' {\n\t}
\tmenuentry 'The node'\\''s own' {\n\t}\n}
";

    #[test]
    fn an_entry_that_is_not_there_is_refused() {
        let files = [("abc-6.12".to_owned(), "title Rocky 9\nlinux /vmlinuz\n".to_owned())];
        for entry in [
            "Debian",
            "gnulinux-simple-1",
            "Advanced options>Debian, with Linux 6.12",
            "gnulinux-advanced-1>gnulinux-6.12",
            "1>0",
            "The node's own",
            "abc-6.12",
            "Rocky 9",
        ] {
            assert_eq!(problem(CONFIGURATION, &files, entry), None, "{entry}");
        }
        for (entry, unknown) in [("Ubuntu", "Ubuntu"), ("Advanced options>Linux 7", "Linux 7")] {
            let found = problem(CONFIGURATION, &files, entry).unwrap();
            assert!(found.starts_with(&format!("it has no entry or submenu {unknown:?}")), "{found}");
        }
    }

    #[test]
    fn the_default_of_grubby_is_read() {
        let info = "index=0\nkernel=\"/boot/vmlinuz-5.14\"\nargs=\"ro\"\ntitle=\"Rocky\"\nid=\"4f3c-5.14\"\n";
        assert_eq!((id(info), id("index=0\n")), (Some("4f3c-5.14"), None));
    }

    #[test]
    fn the_booted_entry_is_the_one_with_its_kernel() {
        let entry =
            |id: &str, kernel: &str| (id.to_owned(), format!("title {id}\nlinux /vmlinuz-{kernel}\n"));
        let entries = [entry("old", "5.13"), entry("new", "5.14"), entry("a", "6"), entry("b", "6")];
        for (cmdline, expected) in [
            ("BOOT_IMAGE=(hd0,gpt2)/vmlinuz-5.13 root=/dev/vda1 ro", Some("old")),
            ("BOOT_IMAGE=/vmlinuz-5.14 ro", Some("new")),
            ("BOOT_IMAGE=/vmlinuz-6 ro", None),
            ("BOOT_IMAGE=/vmlinuz-7 ro", None),
            ("ro", None),
        ] {
            assert_eq!(booted(&entries, cmdline).as_deref(), expected, "{cmdline}");
        }
    }

    #[test]
    fn a_configuration_that_does_not_look_is_refused() {
        let fixed = CONFIGURATION.replace("${saved_entry}", "0");
        assert!(problem(&fixed, &[], "Debian").unwrap().contains("GRUB_DEFAULT=saved"));
        assert!(problem("", &[], "Debian").unwrap().contains("update-grub"));
    }
}
