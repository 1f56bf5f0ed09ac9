//! Proving a node after the boot by its mounts and the admin's own commands.
//!
//! A healthy node may need minutes until its file systems, fabrics and name services are there, so each check is
//! repeated until it succeeds or the time is over. Nothing here touches a file system that may hang, except in a
//! process of its own with a time limit.

use rollout_core::rollout::manifest::Verify;
use rollout_host::run::Program;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Verb of the process that looks at a mount.
pub(crate) const MOUNT: &str = "verify-mount";

/// The running program, even if its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// Time limit of one look at a mount. An automount that is alive answers within seconds.
const MOUNT_LIMIT: Duration = Duration::from_secs(15);

/// Pauses between tries. They double.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Time limit of a command that is tried only once, unless the manifest has a shorter one.
const ONE_TRY: Duration = Duration::from_secs(60);

/// Waits for the mounts and runs the commands until they succeed, all within the manifest's time limit.
///
/// # Errors
/// Returns the first one that fails, in one line, with the output of its last try.
pub(crate) fn node(verify: &Verify) -> Result<(), String> {
    let end = Instant::now() + verify.timeout.get();
    for mount in &verify.mounts {
        until(end, |left| mounted(mount, left)).map_err(|why| format!("{mount} is not mounted: {why}"))?;
    }
    for command in &verify.commands {
        until(end, |left| succeeds(command, verify, left)).map_err(|why| format!("verify: {why}"))?;
    }
    Ok(())
}

/// Looks once whether something is mounted there.
pub(crate) fn mounted(mount: &str, left: Duration) -> Result<(), String> {
    let look = Program::new(OURSELVES, MOUNT_LIMIT.min(left)).args([MOUNT, mount]);
    look.run().map(drop).map_err(|error| error.to_string())
}

/// Runs a command of the manifest once, as a trial: with a time limit of its own.
pub(crate) fn try_command(command: &[String], verify: &Verify, left: Duration) -> Result<(), String> {
    succeeds(command, verify, left.min(ONE_TRY))
}

fn succeeds(command: &[String], verify: &Verify, left: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let limit = verify.command_timeout.map_or(left, |limit| limit.get().min(left));
    Program::new(program, limit).args(arguments).run().map(drop).map_err(|error| error.to_string())
}

/// Tries until it succeeds or the time is over. A try gets the time that is left, and at least a second.
pub(crate) fn until<T>(end: Instant, attempt: impl Fn(Duration) -> Result<T, String>) -> Result<T, String> {
    let left = || end.saturating_duration_since(Instant::now());
    let mut pause = SHORTEST_PAUSE;
    let mut tries: u32 = 1;
    loop {
        let why = match attempt(left().max(Duration::from_secs(1))) {
            Ok(result) => return Ok(result),
            Err(why) => why,
        };
        if left() <= pause {
            let times = if tries == 1 { "once".to_owned() } else { format!("{tries} times") };
            return Err(format!("{why} (tried {times})"));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        tries = tries.saturating_add(1);
    }
}

/// Looks whether a path is a mount point: the task of a process of its own, because a dead server may never answer.
///
/// Opening the path follows links, triggers an automount, and leads to the topmost of several mounts.
pub(crate) fn look_at_mount(path: &Path) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let mut open = OpenOptions::new();
    let file = open.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path);
    let file = file.map_err(|error| failed("it cannot be opened", error))?;
    // A mounted file system whose server is gone hangs here at the latest.
    nix::sys::statfs::fstatfs(&file).map_err(|error| failed("statfs", error.into()))?;
    let descriptor = file.as_raw_fd();
    let real = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
    let real = real.map_err(|error| failed("its path", error))?;
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| failed(path, error));
    let description = read(&format!("/proc/self/fdinfo/{descriptor}"))?;
    is_mounted(&read("/proc/self/mountinfo")?, &description, &real.to_string_lossy())
}

/// Decides whether an open file is the root of a real file system. `description` is its `/proc/self/fdinfo`, `path` its
/// path without links.
fn is_mounted(mountinfo: &str, description: &str, path: &str) -> Result<(), String> {
    let id = description.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default().trim();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(id));
    let line = line.ok_or_else(|| format!("mount {id} is not in /proc/self/mountinfo"))?;
    let at = line.split(' ').nth(4).map(unescape).unwrap_or_default();
    let kind = line.split_once(" - ").and_then(|(_, system)| system.split(' ').next()).unwrap_or_default();
    match (at == path, kind) {
        (true, "autofs") => Err("only its automount point is there".to_owned()),
        (true, _) => Ok(()),
        (false, _) => Err(format!("{path} is a directory of {at} ({kind})")),
    }
}

/// Undoes the octal escapes of a field (`\040` for a blank).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..3).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = more.get(3..).unwrap_or(&[]);
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::time_limit::TimeLimit;
    use std::os::unix::fs::symlink;

    fn commands(scripts: &[&str], timeout_s: u64) -> Verify {
        let commands = scripts.iter().map(|script| ["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        Verify { commands: commands.collect(), timeout: TimeLimit::from_secs(timeout_s), ..Verify::default() }
    }

    #[test]
    fn a_command_that_fails_for_a_while_proves_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tries").display().to_string();
        let script = format!("echo >> {file}; test $(wc -l < {file}) -ge 3");
        node(&commands(&[&script, "true"], 30)).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 3, "and is not tried again");
    }

    #[test]
    fn a_command_that_fails_for_good_is_reported_with_its_last_output() {
        let error = node(&commands(&["true", "echo no fabric >&2; exit 7"], 5)).unwrap_err();
        assert!(error.starts_with("verify: /bin/sh -c echo no fabric"), "{error}");
        // The machine may be busy.
        assert!(error.contains("exit code 7: no fabric (tried ") && error.ends_with(" times)"), "{error}");
    }

    #[test]
    fn a_try_that_hangs_leaves_time_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hung").display().to_string();
        let script = format!("test -e {file} || {{ touch {file}; exec sleep 100; }}");
        let mut verify = commands(&[&script], 30);
        verify.command_timeout = Some(TimeLimit::from_secs(1));
        node(&verify).unwrap();
    }

    #[test]
    fn a_trial_is_one_try_within_the_limit_of_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tries").display().to_string();
        let mut verify =
            commands(&[&format!("echo >> {file}; echo no fabric >&2; exit 7"), "exec sleep 100"], 300);
        verify.command_timeout = Some(TimeLimit::from_secs(1));
        let try_one = |index: usize| try_command(&verify.commands[index], &verify, Duration::from_secs(100));
        assert!(try_one(0).unwrap_err().ends_with("exit code 7: no fabric"));
        assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 1);
        assert!(try_one(1).unwrap_err().contains("did not end within 1 s"));
    }

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                          23 22 0:20 / /scratch\\040fast rw - nfs4 server:/x rw\n\
                          63 22 0:55 / /home rw - autofs systemd-1 rw,fd=51\n\
                          64 63 0:56 / /home rw - nfs4 server:/home rw\n\
                          65 22 0:57 / /dead rw - autofs systemd-1 rw\nnonsense\n";

    #[test]
    fn a_mount_point_carries_a_real_file_system() {
        for (id, path, expected) in [
            ("22", "/", None),
            ("23", "/scratch fast", None),
            ("64", "/home", None),
            ("63", "/home", Some("only its automount point")),
            ("65", "/dead", Some("only its automount point")),
            // A directory below a mount, and one whose mount is hidden by another.
            ("64", "/home/user", Some("/home/user is a directory of /home (nfs4)")),
            ("22", "/data", Some("/data is a directory of / (ext4)")),
            ("99", "/x", Some("mount 99 is not in")),
        ] {
            let description = format!("pos:\t0\nflags:\t0100000\nmnt_id:\t{id}\nino:\t2\n");
            let mounted = is_mounted(MOUNTS, &description, path);
            match expected {
                None => assert_eq!(mounted, Ok(()), "{path}"),
                Some(why) => assert!(mounted.unwrap_err().contains(why), "{path}"),
            }
        }
    }

    #[test]
    fn links_lead_to_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("processes");
        symlink("/proc", &link).unwrap();
        assert_eq!(look_at_mount(&link), Ok(()));
        assert_eq!(look_at_mount(Path::new("/proc")), Ok(()));
        let directory = dir.path().join("directory");
        std::fs::create_dir(&directory).unwrap();
        assert!(look_at_mount(&directory).unwrap_err().contains("is a directory of"));
        assert!(look_at_mount(Path::new("/no/such")).unwrap_err().contains("cannot be opened"));
    }
}
