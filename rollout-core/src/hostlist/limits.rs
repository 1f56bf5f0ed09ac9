//! Limits of hostlists.

/// Maximum number of names in one range, as in Slurm (`MAX_RANGE`, `src/common/hostlist.h`).
pub const MAX_RANGE: u64 = 65_536;
/// Maximum number of names that one list may expand to: four times the maximum of a Slurm cluster
/// (`MAX_SLURM_NODES`). So `a[0-9999]b[0-9999]` is an error and does not fill the memory.
pub const MAX_NODES: usize = 262_144;
/// Maximum number of characters in a NodeName, as `HOST_NAME_MAX` in `slurm/slurm.h`.
pub const MAX_NAME: usize = 64;
/// Maximum number of digits in a number, leading zeros aside. Slurm silently replaces a number that does not fit
/// 64 bits by the largest one, which is a different node.
pub(super) const MAX_DIGITS: usize = 18;
