//! Takes the place of libgcc's unwinder, in a program that unwinds nothing.
//!
//! Without tables for unwinding (`packaging/no-unwinding.ld`), libgcc's would find no frame either. The optimizer sees
//! that this one finds none, and leaves out std's code for the names of a backtrace's frames: 0.2 MB.
//!
//! libgcc has these functions in two files (`unwind-dw2.c` and `unwind-c.c`). All of them are here, so that the linker
//! takes neither file, which would define the others twice.

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK` in libgcc's `unwind-generic.h`.
const END_OF_STACK: c_int = 5;

/// Finds no frame. std calls it to print a backtrace.
// SAFETY: it has the signature of libgcc's, and its result is one that libgcc's returns. Nothing else defines the name.
// JUSTIFICATION: std cannot be told to print no backtrace before the program is built.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    _: *mut c_void,
) -> c_int {
    END_OF_STACK
}

/// Defines functions that unwind a stack. The C library refers to them for threads that are cancelled, and std for
/// panics that are caught and for frames. The program has none of these.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: it uses no argument and does not return, so it fits any signature. Nothing else defines the name.
        // JUSTIFICATION: as above.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_DeleteException
    _Unwind_FindEnclosingFunction
    _Unwind_ForcedUnwind
    _Unwind_GetCFA
    _Unwind_GetDataRelBase
    _Unwind_GetGR
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_RaiseException
    _Unwind_Resume
    _Unwind_Resume_or_Rethrow
    _Unwind_SetGR
    _Unwind_SetIP
    __gcc_personality_v0
}
