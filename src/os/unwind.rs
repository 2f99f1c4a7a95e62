//! No backtraces in the static binary: it has no unwind tables (`scripts/build.sh`), so there is
//! nothing that the standard library's reader of debug information could ever show.

/// `_URC_END_OF_STACK` of the Itanium C++ ABI: there are no more frames.
const END_OF_STACK: i32 = 5;

/// Stands in for libgcc's function, which calls `_on_frame` for each frame and which aborts where there
/// are no tables. The optimiser sees that it is never called, and leaves out all that it would call.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_on_frame: *const (), _argument: *mut ()) -> i32 {
    END_OF_STACK
}
