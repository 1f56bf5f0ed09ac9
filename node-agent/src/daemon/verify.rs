//! Proving a node after the boot by its mounts and the admin's own commands.

use rollout_core::rollout::manifest::Verify;
use rollout_host::run::Program;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const MOUNTINFO: &str = "/proc/self/mountinfo";
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Waits for the mounts and runs the commands, all within the manifest's time limit.
///
/// # Errors
/// Returns the first one that fails, in one line.
pub(crate) fn node(verify: &Verify) -> Result<(), String> {
    let end = Instant::now() + verify.timeout.get();
    mounts_are_there(verify, end)?;
    commands_succeed(verify, end)
}

/// Waits for the mounts: they may come late in a boot.
fn mounts_are_there(verify: &Verify, end: Instant) -> Result<(), String> {
    loop {
        let text = std::fs::read_to_string(MOUNTINFO).map_err(|error| format!("{MOUNTINFO}: {error}"))?;
        let there = mount_points(&text);
        let Some(missing) = verify.mounts.iter().find(|mount| !there.contains(*mount)) else { return Ok(()) };
        if Instant::now() >= end {
            return Err(format!("{missing} is not mounted"));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn commands_succeed(verify: &Verify, end: Instant) -> Result<(), String> {
    for command in &verify.commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        Program::new(program, left).args(arguments).run().map_err(|error| format!("verify: {error}"))?;
    }
    Ok(())
}

/// Returns the fifth field of each line, with its octal escapes (`\040` for a blank) undone.
fn mount_points(mountinfo: &str) -> BTreeSet<String> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

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

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                    23 22 0:20 / /scratch\\040fast rw - nfs4 server:/x rw\n\
                    24 22 0:21 / /back\\134slash rw - tmpfs tmpfs rw\nnonsense\n";
        let there = mount_points(text);
        assert_eq!(there.into_iter().collect::<Vec<_>>(), ["/", "/back\\slash", "/scratch fast"]);
    }
}
