//! A rollout as it is stored on the controller.
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | the admin's TOML file, parsed and checked |
//! | [`image`] | images that nodes boot, and the proof of one |
//! | [`kernel_args`] | arguments of the kernel, and the edit of a command line |
//! | [`journal`] | the record of everything that happened to the rollout's nodes |
//! | [`undo`] | the changes that take nodes back to their state before a rollout |

pub mod image;
pub mod journal;
pub mod kernel_args;
pub mod manifest;
pub mod undo;
