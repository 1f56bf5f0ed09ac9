//! Proving after the boot that the node may be given back: its changes, its mounts, and the admin's own commands.

use crate::changes;
use crate::daemon::execute::changes_begun;
use rollout_core::agent::ledger::{Before, Ledger, Record};
use rollout_core::protocol::order::OrderKind;
use rollout_core::rollout::manifest::{DesiredState, Verify};
use rollout_host::run::Program;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const MOUNTINFO: &str = "/proc/self/mountinfo";
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Whether the node is what was staged. An error says what is not, in one line.
pub(crate) fn staged(ledger: &Ledger) -> Result<(), String> {
    let OrderKind::Apply(apply) = &ledger.order.kind else { return Ok(()) };
    changes_are_made(&apply.desired, ledger)?;
    let end = Instant::now() + apply.desired.verify.timeout.get();
    mounts_are_there(&apply.desired.verify, end)?;
    commands_succeed(&apply.desired.verify, end)
}

/// Whether the node is what it was before the order.
pub(crate) fn old(ledger: &Ledger) -> Result<(), String> {
    let restored = |(_, (_, record)): &(usize, (_, &Record))| record.before != Before::InImage;
    for (index, (change, record)) in changes_begun(ledger).enumerate().filter(restored) {
        changes::of(change)
            .verify_old(&record.before)
            .map_err(|error| format!("change {} is not undone: {error}", index + 1))?;
    }
    Ok(())
}

fn changes_are_made(desired: &DesiredState, ledger: &Ledger) -> Result<(), String> {
    if ledger.records.len() != desired.changes.len() {
        return Err(format!(
            "{} of {} changes are in the ledger",
            ledger.records.len(),
            desired.changes.len()
        ));
    }
    for (index, (change, record)) in changes_begun(ledger).enumerate() {
        let after = record.after.as_ref().ok_or_else(|| format!("change {} was not finished", index + 1))?;
        let made = match record.before {
            Before::InImage => changes::is_in_image(change),
            _ => changes::of(change).verify(&record.before, after),
        };
        made.map_err(|error| format!("change {} is not what was staged: {error}", index + 1))?;
    }
    Ok(())
}

/// Mounts may come late in a boot, so they are waited for.
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

/// The fifth field of each line, with its octal escapes (`\040` for a blank) undone.
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
