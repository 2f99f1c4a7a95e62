//! A process's exit from a code.

use std::process::ExitCode;

use crate::core::exit::Exit;

/// A code that the command line gives by itself.
#[must_use]
pub fn code(exit: Exit) -> ExitCode {
    of_answer(exit.code())
}

/// The code that came with the supervisor's answer. A newer supervisor may have codes that this
/// command line does not know.
#[must_use]
pub fn of_answer(code: u8) -> ExitCode {
    ExitCode::from(code)
}
