//! Archives: tar, plain or packed.
//!
//! The `tar` crate reads entries; nothing else of it is used: its own unpacking accepts an empty or
//! cut archive, drops `..` silently and makes files of FIFOs.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::wire::{Entry, Fault, Kind, Mouth, NAME_BYTES_MAX, PIECE_BYTES_MAX};

const BLOCK: u64 = 512;
/// From the end of an entry's content to the next one's: headers, long names, extended attributes.
const HEAD_BYTES_MAX: u64 = 128 * 1024;
/// After the last one; `tar` pads to a record, which has 10 KiB where nobody asks for more.
const PADDING_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Headers that are about all that follows; they are not counted as entries of the tree.
const N_GLOBALS_MAX: usize = 1000;

/// Why decoding ends early.
#[derive(Debug)]
pub enum Stop {
    /// The archive cannot be taken.
    Fault {
        /// Why.
        fault: Fault,
        /// In the middle of a file's content.
        in_content: bool,
    },
    /// It cannot be said.
    Unheard(io::Error),
}

/// Says all entries of an archive.
///
/// # Errors
/// When it is cut, damaged, or holds what no tree may hold.
pub fn say(reader: Box<dyn Read>, mouth: &mut Mouth<impl Write>) -> Result<(), Stop> {
    let counted = Counted {
        inner: RefCell::new(reader),
        n_bytes: Cell::new(0),
        n_zeros: Cell::new(0),
        n_left: Cell::new(HEAD_BYTES_MAX),
    };
    let end = entries(&counted, mouth)?;
    // What follows the last entry is the end mark: two blocks of zeros, then padding.
    counted.n_left.set(PADDING_BYTES_MAX);
    io::copy(&mut &counted, &mut io::sink()).map_err(reading)?;
    let n_after = counted.n_bytes.get() - end;
    if n_after < 2 * BLOCK {
        return Err(Fault::Cut { n_bytes: counted.n_bytes.get() }.into());
    }
    if counted.n_zeros.get() < n_after {
        return Err(Fault::Damaged { why: "there is data after its end".to_owned() }.into());
    }
    mouth.end().map_err(Stop::Unheard)
}

/// Reads all entries; returns where the last one ends.
fn entries(counted: &Counted, mouth: &mut Mouth<impl Write>) -> Result<u64, Stop> {
    let mut archive = tar::Archive::new(counted);
    let (mut end, mut n_globals) = (0, 0);
    for entry in archive.entries().map_err(reading)? {
        let mut entry = entry.map_err(reading)?;
        // Its content is bounded by the tree it goes to.
        counted.n_left.set(u64::MAX);
        let name = entry.path().map_err(reading)?.into_owned();
        let size = entry.size();
        end = entry.raw_file_position() + size.div_ceil(BLOCK) * BLOCK;
        if is_sparse(&mut entry)? {
            return Err(Fault::Sparse { name }.into());
        }
        let mode = entry.header().mode().map_err(reading)?;
        // Before 1970, or no number: nobody needs it.
        let modified = entry.header().mtime().unwrap_or(0).min(u32::MAX.into());
        let link = entry.link_name().map_err(reading)?.map(|link| link.into_owned());
        let is_long = |path: &Path| path.as_os_str().len() > NAME_BYTES_MAX;
        if is_long(&name) || link.as_deref().is_some_and(is_long) {
            return Err(Fault::Refused { name, why: "its path is too long".to_owned() }.into());
        }
        let (kind, link) = match (entry.header().entry_type(), link) {
            (EntryType::Regular | EntryType::Continuous, _) => (Kind::File, PathBuf::new()),
            (EntryType::Directory, _) => (Kind::Directory, PathBuf::new()),
            (EntryType::Symlink, Some(link)) => (Kind::Symlink, link),
            (EntryType::Link, Some(link)) => (Kind::HardLink, link),
            (EntryType::XGlobalHeader, _) if n_globals < N_GLOBALS_MAX => {
                n_globals += 1;
                counted.n_left.set(HEAD_BYTES_MAX);
                continue;
            }
            (kind, _) => {
                let why = format!("it is {}", kind_text(kind));
                return Err(Fault::Refused { name, why }.into());
            }
        };
        mouth.entry(&Entry { kind, mode, modified, name, link }).map_err(Stop::Unheard)?;
        if kind == Kind::File {
            content(&mut entry, size, mouth)?;
        }
        counted.n_left.set(HEAD_BYTES_MAX);
    }
    Ok(end)
}

/// Whether its content is not all of the file: where the holes are stands in attributes (GNU tar in three
/// forms, star, Solaris), or the kind says it.
fn is_sparse(entry: &mut tar::Entry<'_, impl Read>) -> Result<bool, Stop> {
    const MARKS: [&[u8]; 3] = [b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holes"];
    let is_of_kind = entry.header().entry_type() == EntryType::GNUSparse;
    let Some(attributes) = entry.pax_extensions().map_err(reading)? else { return Ok(is_of_kind) };
    for attribute in attributes {
        let attribute = attribute.map_err(reading)?;
        if MARKS.iter().any(|mark| attribute.key_bytes().starts_with(mark)) {
            return Ok(true);
        }
    }
    Ok(is_of_kind)
}

/// A file that ends early is a cut archive, not a short file.
fn content(entry: &mut impl Read, size: u64, mouth: &mut Mouth<impl Write>) -> Result<(), Stop> {
    let mut n_left = size;
    let mut piece = vec![0; PIECE_BYTES_MAX];
    loop {
        let read = entry.read(&mut piece);
        let read = match read {
            Ok(0) if n_left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
        let n = read.map_err(|error| Stop::Fault { fault: fault(&error), in_content: true })?;
        if n == 0 {
            return mouth.whole().map_err(Stop::Unheard);
        }
        n_left = n_left.saturating_sub(n as u64);
        mouth.piece(piece.get(..n).unwrap_or_default()).map_err(Stop::Unheard)?;
    }
}

fn kind_text(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a FIFO",
        EntryType::Symlink | EntryType::Link => "a link without a target",
        _ => "of an unsupported kind",
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault { fault, in_content: false }
    }
}

fn reading(error: io::Error) -> Stop {
    fault(&error).into()
}

fn fault(error: &io::Error) -> Fault {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => error.to_string(),
    };
    Fault::Damaged { why }
}

/// Counts bytes, and the zeros at their end. The `tar` crate reads what describes an entry into
/// memory, however long it is: that much comes through, and no more.
struct Counted {
    inner: RefCell<Box<dyn Read>>,
    n_bytes: Cell<u64>,
    n_zeros: Cell<u64>,
    n_left: Cell<u64>,
}

impl Read for &Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.borrow_mut().read(buffer)?;
        let zeros = buffer[..n].iter().rev().take_while(|byte| **byte == 0).count();
        let before = if zeros == n { self.n_zeros.get() } else { 0 };
        self.n_zeros.set(before + zeros as u64);
        self.n_bytes.set(self.n_bytes.get() + n as u64);
        let left = self.n_left.get().checked_sub(n as u64).ok_or_else(|| {
            let text = "what is between two of its files is too long";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        self.n_left.set(left);
        Ok(n)
    }
}
