//! Exit codes that the command line gives by itself; the others come with the supervisor's answer.

use std::process::ExitCode;

/// Everything is as it should be.
pub const OK: u8 = 0;
/// Something of ours went wrong.
pub const INTERNAL: u8 = 1;
/// Wrong usage or configuration; nothing was changed.
pub const USAGE: u8 = 2;
/// The supervisor cannot be reached; nothing was changed.
pub const UNREACHABLE: u8 = 3;
/// Not allowed; nothing was changed.
pub const FORBIDDEN: u8 = 4;
/// The root is another Halley's; nothing was changed.
pub const BUSY: u8 = 9;
/// The client left, the operation goes on.
pub const DETACHED: u8 = 40;

/// As a process's exit.
#[must_use]
pub fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
