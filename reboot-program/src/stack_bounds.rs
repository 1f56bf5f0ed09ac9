//! Takes the place of the C library's `pthread_getattr_np`, which std asks for the bounds of each stack.
//!
//! std needs them for one thing: to print that a stack has overflowed, on standard error, which Slurm discards. Without
//! them, an overflow ends the program by SIGSEGV instead of SIGABRT. The C library scans `/proc/self/maps` for the main
//! thread's with `sscanf`, which brings all that it knows of floating-point numbers along, 0.1 MB.

use nix::libc::{ENOSYS, c_int, pthread_attr_t, pthread_t};

/// Knows no bounds.
// SAFETY: it has the signature of the C library's, and an error is one of its results, with which std does without the
// bounds. The C library's definition is weak and in an object file of its own, which the linker then does not take.
// JUSTIFICATION: std has no way to leave out its handler for overflows before the program is built.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_: pthread_t, _: *mut pthread_attr_t) -> c_int {
    ENOSYS
}
