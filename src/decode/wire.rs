//! What a decoder says, entry by entry, and how it is heard. It has read what a stranger wrote: of its
//! word nothing is believed but what is checked here and by whoever makes the files.
//!
//! An entry is a head of [`HEAD_BYTES`], its name, its link's target. The content of a file follows as
//! pieces, each with its length before it; one of no length is the end.

pub mod packing;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::decode::wire::packing::Packing;

/// Of a name, or a link's target.
pub const NAME_BYTES_MAX: usize = 4096;
/// Of one piece of a file's content.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
const HEAD_BYTES: usize = 20;
/// In the place of a piece's length: a fault comes instead.
const BROKEN: u32 = u32::MAX;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file; its content follows.
    File,
    /// A symlink.
    Symlink,
    /// Another name of a file.
    HardLink,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its mode, as it was packed.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified: u64,
    /// Its name, as it was packed.
    pub name: PathBuf,
    /// A link's target.
    pub link: PathBuf,
}

/// What a decoder says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// An entry.
    Entry(Entry),
    /// There are no more.
    End,
    /// It is no archive that can be taken.
    Fault(Fault),
}

/// Why an archive cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing in it.
    Empty,
    /// It ends too early.
    Cut {
        /// After so many unpacked bytes.
        n_bytes: u64,
    },
    /// It is damaged.
    Damaged {
        /// How that was seen.
        why: String,
    },
    /// It is packed in a way that is not read here.
    Foreign(Packing),
    /// It holds a file that is not whole without what is not read here.
    Sparse {
        /// Which.
        name: PathBuf,
    },
    /// It holds something that may not be.
    Refused {
        /// What.
        name: PathBuf,
        /// Why not.
        why: String,
    },
}

const END: u8 = 4;
const EMPTY: u8 = 5;
const CUT: u8 = 6;
const DAMAGED: u8 = 7;
const REFUSED: u8 = 8;
const FOREIGN: u8 = 9;
const SPARSE: u8 = 10;

/// The decoder's mouth.
#[derive(Debug)]
pub struct Mouth<W>(pub W);

impl<W: Write> Mouth<W> {
    /// Says an entry.
    ///
    /// # Errors
    /// The pipe's.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let kind = match entry.kind {
            Kind::Directory => 0,
            Kind::File => 1,
            Kind::Symlink => 2,
            Kind::HardLink => 3,
        };
        let (name, link) = (entry.name.as_os_str().as_bytes(), entry.link.as_os_str().as_bytes());
        self.head(kind, entry.mode, entry.modified, name, link)
    }

    /// Says a piece of the file's content.
    ///
    /// # Errors
    /// The pipe's.
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            self.0.write_all(&u32::try_from(piece.len()).unwrap_or(0).to_le_bytes())?;
            self.0.write_all(piece)?;
        }
        Ok(())
    }

    /// The file's content is whole.
    ///
    /// # Errors
    /// The pipe's.
    pub fn whole(&mut self) -> io::Result<()> {
        self.0.write_all(&0_u32.to_le_bytes())
    }

    /// The archive is whole, and so was what was said.
    ///
    /// # Errors
    /// The pipe's.
    pub fn end(&mut self) -> io::Result<()> {
        self.head(END, 0, 0, b"", b"")?;
        self.0.flush()
    }

    /// The archive cannot be taken; `in_content` is in the middle of a file.
    ///
    /// # Errors
    /// The pipe's.
    pub fn fault(&mut self, fault: &Fault, in_content: bool) -> io::Result<()> {
        if in_content {
            self.0.write_all(&BROKEN.to_le_bytes())?;
        }
        match fault {
            Fault::Empty => self.head(EMPTY, 0, 0, b"", b""),
            Fault::Cut { n_bytes } => self.head(CUT, 0, *n_bytes, b"", b""),
            Fault::Damaged { why } => self.head(DAMAGED, 0, 0, b"", why.as_bytes()),
            Fault::Foreign(packing) => self.head(FOREIGN, *packing as u32, 0, b"", b""),
            Fault::Sparse { name } => self.head(SPARSE, 0, 0, name.as_os_str().as_bytes(), b""),
            Fault::Refused { name, why } => {
                self.head(REFUSED, 0, 0, name.as_os_str().as_bytes(), why.as_bytes())
            }
        }?;
        self.0.flush()
    }

    fn head(&mut self, kind: u8, mode: u32, n: u64, name: &[u8], link: &[u8]) -> io::Result<()> {
        let (name, link) = (shortened(name), shortened(link));
        let mut head = [0; HEAD_BYTES];
        let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(0).to_le_bytes();
        let parts = [
            &[kind][..],
            &[0; 3],
            &mode.to_le_bytes(),
            &n.to_le_bytes(),
            &length(name),
            &length(link),
        ];
        for (byte, part) in head.iter_mut().zip(parts.concat()) {
            *byte = part;
        }
        self.0.write_all(&head)?;
        self.0.write_all(name)?;
        self.0.write_all(link)
    }
}

/// Of an error's words; names that are longer are refused before.
fn shortened(bytes: &[u8]) -> &[u8] {
    bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes)
}

/// The ear for it.
#[derive(Debug)]
pub struct Ear<R> {
    from: R,
    /// Of the piece that is being heard.
    n_left: usize,
    in_content: bool,
    fault: Option<Fault>,
}

impl<R: Read> Ear<R> {
    /// An ear at a decoder's pipe.
    pub fn new(from: R) -> Self {
        Self { from, n_left: 0, in_content: false, fault: None }
    }

    /// What is said next. The content of a file is read, by [`Read`], before.
    ///
    /// # Errors
    /// `UnexpectedEof` when the decoder has ended, `InvalidData` when it says what it may not.
    pub fn hear(&mut self) -> io::Result<Said> {
        if self.in_content {
            return Err(nonsense());
        }
        let mut head = [0; HEAD_BYTES];
        self.from.read_exact(&mut head)?;
        let [kind, _, _, _, m0, m1, m2, m3, n @ .., a0, a1, b0, b1] = head;
        let mode = u32::from_le_bytes([m0, m1, m2, m3]);
        let name = self.text(u16::from_le_bytes([a0, a1]))?;
        let link = self.text(u16::from_le_bytes([b0, b1]))?;
        let words = || String::from_utf8_lossy(&link).into_owned();
        let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
        let kind = match kind {
            0 => Kind::Directory,
            1 => Kind::File,
            2 => Kind::Symlink,
            3 => Kind::HardLink,
            END => return Ok(Said::End),
            EMPTY => return Ok(Said::Fault(Fault::Empty)),
            CUT => return Ok(Said::Fault(Fault::Cut { n_bytes: u64::from_le_bytes(n) })),
            DAMAGED => return Ok(Said::Fault(Fault::Damaged { why: words() })),
            FOREIGN => {
                let packing = Packing::ALL.get(mode as usize).ok_or_else(nonsense)?;
                return Ok(Said::Fault(Fault::Foreign(*packing)));
            }
            SPARSE => return Ok(Said::Fault(Fault::Sparse { name: path(&name) })),
            REFUSED => {
                return Ok(Said::Fault(Fault::Refused { name: path(&name), why: words() }));
            }
            _ => return Err(nonsense()),
        };
        self.in_content = kind == Kind::File;
        let modified = u64::from_le_bytes(n);
        Ok(Said::Entry(Entry { kind, mode, modified, name: path(&name), link: path(&link) }))
    }

    /// The fault that came in the middle of a file's content.
    pub fn fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn text(&mut self, n: u16) -> io::Result<Vec<u8>> {
        let n = usize::from(n);
        if n > NAME_BYTES_MAX {
            return Err(nonsense());
        }
        let mut text = vec![0; n];
        self.from.read_exact(&mut text)?;
        Ok(text)
    }
}

/// The content of the file that was said last.
impl<R: Read> Read for Ear<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.in_content || buffer.is_empty() {
            return Ok(0);
        }
        if self.n_left == 0 {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            match u32::from_le_bytes(length) {
                BROKEN => {
                    self.in_content = false;
                    self.fault = match self.hear()? {
                        Said::Fault(fault) => Some(fault),
                        Said::Entry(_) | Said::End => None,
                    };
                    return Err(nonsense());
                }
                n => self.n_left = usize::try_from(n).unwrap_or(usize::MAX),
            }
            if self.n_left > PIECE_BYTES_MAX {
                return Err(nonsense());
            }
            if self.n_left == 0 {
                self.in_content = false;
                return Ok(0);
            }
        }
        let n = self.n_left.min(buffer.len());
        let n = self.from.read(buffer.get_mut(..n).unwrap_or_default())?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.n_left -= n;
        Ok(n)
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its decoder does not speak the protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, name: &str, link: &str) -> Entry {
        Entry { kind, mode: 0o755, modified: 7, name: name.into(), link: link.into() }
    }

    #[test]
    fn what_is_said_is_heard() {
        let mut mouth = Mouth(Vec::new());
        let (file, link) = (entry(Kind::File, "bin/web", ""), entry(Kind::Symlink, "l", "bin"));
        let content = vec![7; PIECE_BYTES_MAX + 1];
        mouth.entry(&file).unwrap();
        mouth.piece(&content).unwrap();
        mouth.whole().unwrap();
        mouth.entry(&link).unwrap();
        mouth.end().unwrap();
        let mut ear = Ear::new(mouth.0.as_slice());
        assert_eq!(ear.hear().unwrap(), Said::Entry(file));
        let mut heard = Vec::new();
        ear.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, content);
        assert_eq!(ear.hear().unwrap(), Said::Entry(link));
        assert_eq!(ear.hear().unwrap(), Said::End);
        assert_eq!(ear.hear().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_fault_is_heard_in_the_middle_of_a_file_too() {
        let faults = [
            Fault::Empty,
            Fault::Cut { n_bytes: 7 },
            Fault::Damaged { why: "a checksum".to_owned() },
            Fault::Foreign(Packing::Zip),
            Fault::Sparse { name: "data".into() },
            Fault::Refused { name: "pipe".into(), why: "it is a FIFO".to_owned() },
        ];
        for fault in faults {
            let mut mouth = Mouth(Vec::new());
            mouth.fault(&fault, false).unwrap();
            assert_eq!(Ear::new(mouth.0.as_slice()).hear().unwrap(), Said::Fault(fault.clone()));
            let mut mouth = Mouth(Vec::new());
            mouth.entry(&entry(Kind::File, "a", "")).unwrap();
            mouth.piece(b"begun").unwrap();
            mouth.fault(&fault, true).unwrap();
            let mut ear = Ear::new(mouth.0.as_slice());
            ear.hear().unwrap();
            ear.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(ear.fault(), Some(fault));
        }
    }

    #[test]
    fn a_decoder_that_says_too_much_is_not_believed() {
        let mut head = [0; HEAD_BYTES];
        head[HEAD_BYTES - 3] = 0xff;
        let long = [&head[..], &[b'n'; 70_000]].concat();
        let error = Ear::new(long.as_slice()).hear().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut mouth = Mouth(Vec::new());
        mouth.entry(&entry(Kind::File, "a", "")).unwrap();
        let piece = [&mouth.0[..], &[0, 0, 0, 1], &[b'x'; 1 << 20]].concat();
        let mut ear = Ear::new(piece.as_slice());
        ear.hear().unwrap();
        assert_eq!(ear.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // Nor one that begins the next entry in a file.
        let mut ear = Ear::new(piece.as_slice());
        ear.hear().unwrap();
        assert_eq!(ear.hear().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
