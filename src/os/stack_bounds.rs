//! Where a stack lies, as glibc reads it: the standard library asks for it at the start of the process,
//! so that an overflow of the stack ends with a message.
//!
//! `pthread_getattr_np(3)` looks for the main thread's stack in `/proc/self/maps`, and reads its lines
//! with the one `sscanf(3)` of the static binary. glibc's own knows every format, floating point of 128
//! bits and wide characters too: 95 kB.

use std::ffi::{CStr, c_char, c_int};

/// What the lines are read by: two numbers of the size of a pointer.
const BOUNDS: &CStr = if cfg!(target_pointer_width = "64") { c"%lx-%lx" } else { c"%x-%x" };

/// Stands in for glibc's `sscanf(3)`, for this one format: nothing is found by another one. (Where C
/// passes a variable number of arguments, it passes them as it does a fixed one, on x86-64, aarch64
/// and armv7 at least.)
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __isoc99_sscanf(
    line: *const c_char,
    format: *const c_char,
    from: *mut usize,
    to: *mut usize,
) -> c_int {
    // SAFETY: both are texts that end with a zero, as sscanf(3) demands.
    let (line, format) = unsafe { (CStr::from_ptr(line), CStr::from_ptr(format)) };
    let Some(bounds) = bounds(line).filter(|_| format == BOUNDS) else { return 0 };
    // SAFETY: the format promises that two numbers can be written.
    unsafe { (*from, *to) = bounds };
    2
}

/// `7ffd1000-7ffd2000` of `7ffd1000-7ffd2000 rw-p 00000000 00:00 0 [stack]`.
fn bounds(line: &CStr) -> Option<(usize, usize)> {
    let range = line.to_bytes().split(|byte| *byte == b' ').next()?;
    let (from, to) = str::from_utf8(range).ok()?.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &CStr, format: &CStr, expected: (c_int, usize, usize)) {
        let (mut from, mut to) = (0, 0);
        // SAFETY: two texts, and a place for each number.
        let n_read =
            unsafe { __isoc99_sscanf(line.as_ptr(), format.as_ptr(), &raw mut from, &raw mut to) };
        assert_eq!((n_read, from, to), expected);
    }

    #[test]
    fn the_bounds_of_a_mapping_are_read() {
        check(
            c"7fd1000-7fd2000 rw-p 00000000 00:00 0    [stack]\n",
            BOUNDS,
            (2, 0x7fd1000, 0x7fd2000),
        );
        check(c"55d0-55d1 r-xp 00000000 fe:00 7    /a-b \xff\n", BOUNDS, (2, 0x55d0, 0x55d1));
    }

    #[test]
    fn what_is_no_mapping_or_another_format_is_not_read() {
        check(c"", BOUNDS, (0, 0, 0));
        check(c"7fd1000 rw-p", BOUNDS, (0, 0, 0));
        check(c"1-2 rw-p", c"%d-%d", (0, 0, 0));
    }
}
