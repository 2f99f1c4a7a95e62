//! The decoder: reads an artifact that a stranger may have made, and says what is in it.
//!
//! It is a process of its own (`halley-sup decode`), without rights: its standard input is the archive,
//! its standard output the pipe to the supervisor, and it can reach nothing else. It must never make a
//! file: what it says is checked, and written, by the supervisor.

mod archive;
mod source;
pub mod wire;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use archive::Stop;
use source::Source;
use wire::{Fault, Mouth};

use crate::os::confine;

/// The hidden verb.
pub const VERB: &str = "decode";

/// Beside what the program takes by itself: what one zstd frame may ask to be kept, three times, and
/// what is read of the longest head.
const MEMORY_BYTES: u64 = 56 << 20;

/// The decoder's `main`.
#[must_use]
pub fn main() -> ExitCode {
    match decode() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever heard it has refused the archive.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        // Its pipe ends without a last word; how it ended is told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn decode() -> io::Result<()> {
    let archive = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // What a panic says is none of the protocol.
    rustix::stdio::dup2_stderr(File::options().write(true).open("/dev/null")?)?;
    confine::confine(MEMORY_BYTES)?;
    say(archive, pipe)
}

/// Says what is in an archive, from where it stands.
///
/// # Errors
/// The pipe's.
pub fn say(archive: File, pipe: impl Write) -> io::Result<()> {
    let mut mouth = Mouth(BufWriter::with_capacity(64 * 1024, pipe));
    let mut source = Source::new(archive);
    if let Ok(Some(packing)) = source::foreign(&mut source) {
        return mouth.fault(&Fault::Foreign(packing), false);
    }
    let said = match source::unpacked(source) {
        Ok(Some(reader)) => archive::say(reader, &mut mouth),
        Ok(None) => Err(Fault::Empty.into()),
        Err(error) => Err(Fault::Damaged { why: error.to_string() }.into()),
    };
    match said {
        Ok(()) => Ok(()),
        Err(Stop::Unheard(error)) => Err(error),
        Err(Stop::Fault { fault, in_content }) => mouth.fault(&fault, in_content),
    }
}
