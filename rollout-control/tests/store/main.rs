//! The state directory of one process: staging, claiming, closing and archiving, damage and full disks.
#![allow(clippy::disallowed_methods, reason = "files are damaged on purpose here, and disks filled")]
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod archive;
mod boot_sources;
mod claim;
mod closed;
mod conduct;
mod full_disk;
mod hook_output;
mod journal;
mod learned;
mod lock;
mod owner;
mod prelude;
mod stage;
mod unreadable;
