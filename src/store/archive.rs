//! Archives: tar, plain or packed by gzip or zstd, detected by their first bytes, not their name.
//!
//! The `tar` crate reads entries; nothing else of it is used: its own unpacking accepts an empty or
//! cut archive, drops `..` silently and makes files of FIFOs.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;
use tar::EntryType;

use crate::store::intake::IntakeError;
use crate::store::tree::Staging;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BLOCK: u64 = 512;
/// From the end of an entry's content to the next one's: headers, long names, extended attributes.
const HEAD_BYTES_MAX: u64 = 128 * 1024;
/// After the last one; `tar` pads to a record, which has 10 KiB where nobody asks for more.
const PADDING_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Headers that are about all that follows; they are not counted as entries of the tree.
const N_GLOBALS_MAX: usize = 1000;

/// Puts an archive's entries into a tree.
///
/// # Errors
/// When it is cut, damaged, or holds anything that may not be.
pub fn unpack(path: &Path, staging: &mut Staging<'_>) -> Result<(), IntakeError> {
    let file = File::open(path).map_err(|source| IntakeError::system(path, source))?;
    let mut packed = BufReader::with_capacity(128 * 1024, file);
    let start = packed.fill_buf().map_err(|source| IntakeError::system(path, source))?.to_owned();
    let reader: Box<dyn Read> = if start.is_empty() {
        return Err(IntakeError::Empty);
    } else if start.starts_with(&GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if start.starts_with(&ZSTD) {
        Box::new(Frames { source: Some(packed), frame: None })
    } else {
        Box::new(packed)
    };
    let counted = Counted {
        inner: RefCell::new(reader),
        n_bytes: Cell::new(0),
        n_zeros: Cell::new(0),
        n_left: Cell::new(HEAD_BYTES_MAX),
    };
    let end = entries(&counted, staging)?;
    // What follows the last entry is the end mark: two blocks of zeros, then padding.
    counted.n_left.set(PADDING_BYTES_MAX);
    io::copy(&mut &counted, &mut io::sink()).map_err(reading)?;
    staging.check_cancelled()?;
    let n_after = counted.n_bytes.get() - end;
    if n_after < 2 * BLOCK {
        return Err(IntakeError::Cut { n_bytes: counted.n_bytes.get() });
    }
    if counted.n_zeros.get() < n_after {
        return Err(IntakeError::Damaged { why: "there is data after its end".to_owned() });
    }
    Ok(())
}

/// Reads all entries; returns where the last one ends.
fn entries(counted: &Counted, staging: &mut Staging<'_>) -> Result<u64, IntakeError> {
    let mut archive = tar::Archive::new(counted);
    let (mut end, mut n_globals) = (0, 0);
    for entry in archive.entries().map_err(reading)? {
        let mut entry = entry.map_err(reading)?;
        staging.check_cancelled()?;
        // Its content is bounded by the tree it goes to.
        counted.n_left.set(u64::MAX);
        let name = entry.path().map_err(reading)?.into_owned();
        let size = entry.size();
        end = entry.raw_file_position() + size.div_ceil(BLOCK) * BLOCK;
        let mode = entry.header().mode().map_err(reading)?;
        let link = entry.link_name().map_err(reading)?.map(|link| link.into_owned());
        match (entry.header().entry_type(), link) {
            (EntryType::Regular | EntryType::Continuous, _) => {
                let mut exact = Exact { inner: &mut entry, n_left: size };
                staging.file(&name, mode, &mut exact)?;
            }
            (EntryType::Directory, _) => staging.directory(&name)?,
            (EntryType::Symlink, Some(link)) => staging.symlink(&name, &link)?,
            (EntryType::Link, Some(link)) => staging.hard_link(&name, &link)?,
            (EntryType::XGlobalHeader, _) if n_globals < N_GLOBALS_MAX => n_globals += 1,
            (kind, _) => {
                let why = format!("it is {}", kind_text(kind));
                return Err(IntakeError::Refused { path: name, why });
            }
        }
        counted.n_left.set(HEAD_BYTES_MAX);
    }
    Ok(end)
}

fn kind_text(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a FIFO",
        EntryType::GNUSparse => "a sparse file",
        EntryType::Symlink | EntryType::Link => "a link without a target",
        _ => "of an unsupported kind",
    }
}

fn reading(error: io::Error) -> IntakeError {
    IntakeError::reading(Path::new("the archive"), error)
}

/// A reader that ends early is a cut archive, not a short file.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    n_left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n == 0 && self.n_left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.n_left = self.n_left.saturating_sub(n as u64);
        Ok(n)
    }
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

type Frame = StreamingDecoder<BufReader<File>, ruzstd::decoding::FrameDecoder>;

/// One zstd frame after another: what `zstd` and `pzstd` write.
struct Frames {
    source: Option<BufReader<File>>,
    frame: Option<Box<Frame>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let n = frame.read(buffer)?;
                if n > 0 || buffer.is_empty() {
                    return Ok(n);
                }
                let (told, found) = (
                    frame.decoder.get_checksum_from_data(),
                    frame.decoder.get_calculated_checksum(),
                );
                if told.is_some() && told != found {
                    let text = "its checksum does not match its content";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                self.source = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(source) = &mut self.source else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let Some(source) = self.source.take() else { return Ok(0) };
            let frame = StreamingDecoder::new(source)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}
