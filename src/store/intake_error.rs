//! Why an artifact was not taken in, and what to do instead.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::exit::Exit;
use crate::decode::wire::Fault;
use crate::decode::wire::packing::{Packing, Unpacking};
use crate::os::fs as durable;

/// Of a name, for people.
const SHOWN_CHARS: usize = 200;

/// Why an artifact was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// There is no file in it.
    #[error("it is empty: there is no file in it")]
    Empty,
    /// It ends too early.
    #[error("it is truncated: it ends after {n_bytes} bytes")]
    Cut {
        /// What came.
        n_bytes: u64,
    },
    /// The content is damaged.
    #[error("it is damaged: {why}")]
    Damaged {
        /// How that was seen.
        why: String,
    },
    /// It is packed in a way that is not read here.
    #[error("it is packed with {}, which is not read here", .0.unpacking().0)]
    Foreign(Packing),
    /// It holds a file that is not whole without what is not read here.
    #[error("it contains {path}: it is a sparse file: pack it without --sparse (-S)", path = shown(path))]
    Sparse {
        /// Which.
        path: PathBuf,
    },
    /// It holds something that may not be.
    #[error("it contains {path}: {why}; only files, directories and links within it are allowed", path = shown(path))]
    Refused {
        /// What.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It is over the cap.
    #[error("it is larger than artifact_max, {cap_bytes} bytes")]
    TooLarge {
        /// The cap.
        cap_bytes: u64,
    },
    /// It has too many entries.
    #[error("it has more than {n_max} entries")]
    TooMany {
        /// The cap.
        n_max: usize,
    },
    /// It changed or went away while it was read.
    #[error("{path}: {source}: it was removed while it was read", path = path.display())]
    Vanished {
        /// What.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Its decoder did not come to an end.
    #[error("it could not be decoded: {why}")]
    Undecoded {
        /// Why.
        why: String,
    },
    /// The operation was aborted.
    #[error("it was aborted")]
    Cancelled,
    /// The system's own reason.
    #[error("{path}: {source}", path = path.display())]
    System {
        /// What was being done to it.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl IntakeError {
    /// An error while something of ours was written.
    #[must_use]
    pub fn system(path: &Path, source: io::Error) -> Self {
        Self::System { path: path.to_owned(), source }
    }

    /// An error while the artifact was read.
    #[must_use]
    pub fn reading(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged { why: "it ends too early".to_owned() },
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                Self::Damaged { why: source.to_string() }
            }
            io::ErrorKind::NotFound => Self::Vanished { path: path.to_owned(), source },
            _ => Self::System { path: path.to_owned(), source },
        }
    }

    /// What its decoder says of it.
    pub(super) fn said(fault: Fault) -> Self {
        match fault {
            Fault::Empty => Self::Empty,
            Fault::Cut { n_bytes } => Self::Cut { n_bytes },
            Fault::Damaged { why } => Self::Damaged { why: shown(Path::new(&why)) },
            Fault::Foreign(packing) => Self::Foreign(packing),
            Fault::Sparse { name } => Self::Sparse { path: name },
            Fault::Refused { name, why } => {
                Self::Refused { path: name, why: shown(Path::new(&why)) }
            }
        }
    }

    /// An error at the pipe to its decoder.
    pub(super) fn hearing(error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "its decoder ended before it did".to_owned(),
            _ => error.to_string(),
        };
        Self::Undecoded { why }
    }

    /// The command that releases the same in a way that is read here; `SOURCE` stands for its file.
    #[must_use]
    pub fn converted(&self, service: &str) -> Option<String> {
        let unpacking = match self {
            Self::Foreign(packing) => packing.unpacking().1,
            Self::Sparse { .. } => Unpacking::Directory("tar -xf SOURCE -C \"$d\""),
            _ => return None,
        };
        Some(unpacking.release(service))
    }

    /// What it means for the command line.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::System { source, .. } if durable::is_of_disk(source) => Exit::NoSpace,
            _ => Exit::ArtifactRejected,
        }
    }
}

/// A name of an artifact, for people: whoever made it may have made it as long as he liked, and of
/// characters that move a terminal's cursor.
#[must_use]
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut shown = String::new();
    for (n, letter) in text.chars().enumerate() {
        match letter {
            _ if n == SHOWN_CHARS => {
                shown.push('…');
                break;
            }
            letter if letter.is_control() => shown.extend(letter.escape_default()),
            letter => shown.push(letter),
        }
    }
    shown
}
