//! Small packages made on the spot, and the repositories from which nodes install them.

pub(crate) mod deb_repository;
pub(crate) mod format;
pub(crate) mod package;
pub(crate) mod repacked;
pub(crate) mod rpm_repository;
pub(crate) mod signing_key;
