//! Root file systems: the Debian bases, the layers over them, images of nodes without a disk, and the way into a root.

pub(crate) mod base;
pub(crate) mod inside;
pub(crate) mod layer;
pub(crate) mod netboot;
pub(crate) mod untidy;
