//! The bytes of an archive as they were before they were packed.

use std::fs::File;
use std::io::{self, BufReader, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::decode::wire::packing::Packing;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Beginnings of what is not read here.
const FOREIGN: [(&[u8], Packing); 9] = [
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"BZh", Packing::Bzip2),
    (b"\x04\x22\x4d\x18", Packing::Lz4),
    (b"LZIP", Packing::Lzip),
    (b"\x5d\0\0", Packing::Xz),
    (b"\x1f\x9d", Packing::Compress),
    (b"PK\x03\x04", Packing::Zip),
    (b"7z\xbc\xaf\x27\x1c", Packing::SevenZip),
    (b"Rar!", Packing::Rar),
];
/// The longest head of a frame (RFC 8878, 3.1.1).
const HEAD_BYTES_MAX: usize = 18;
/// What a frame may ask to be kept; it is held twice over while it grows.
const WINDOW_BYTES_MAX: u64 = 16 << 20;

/// A file, with a look at what comes.
#[derive(Debug)]
pub struct Source {
    file: BufReader<File>,
    /// Read already, in `at..`.
    ahead: Vec<u8>,
    at: usize,
}

impl Source {
    /// A file from where it stands.
    pub fn new(file: File) -> Self {
        Self { file: BufReader::with_capacity(128 * 1024, file), ahead: Vec::new(), at: 0 }
    }

    /// The next bytes, fewer at the end; they are read once more.
    fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        let ahead = self.ahead.split_off(self.at.min(self.ahead.len()));
        (self.ahead, self.at) = (ahead, 0);
        let missing = n.saturating_sub(self.ahead.len()) as u64;
        (&mut self.file).take(missing).read_to_end(&mut self.ahead)?;
        Ok(&self.ahead)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead.get(self.at..).unwrap_or_default();
        if ahead.is_empty() {
            return self.file.read(buffer);
        }
        let n = (&*ahead).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}

/// How a file is packed that is not read here.
///
/// # Errors
/// The file's.
pub fn foreign(source: &mut Source) -> io::Result<Option<Packing>> {
    let start = source.peek(6)?;
    let known = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic));
    Ok(known.map(|(_, packing)| *packing))
}

/// What is packed in a file, by its first bytes, not its name; `None` when it is empty.
///
/// # Errors
/// The file's.
pub fn unpacked(mut source: Source) -> io::Result<Option<Box<dyn Read>>> {
    let start = source.peek(ZSTD.len())?;
    Ok(Some(if start.is_empty() {
        return Ok(None);
    } else if start.starts_with(&GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(source))
    } else if start.starts_with(&ZSTD) {
        Box::new(Frames { source: Some(source), frame: None })
    } else {
        Box::new(source)
    }))
}

type Frame = StreamingDecoder<Source, FrameDecoder>;

/// One zstd frame after another: what `zstd` and `pzstd` write.
struct Frames {
    source: Option<Source>,
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
                    return Err(damaged("its checksum does not match its content".to_owned()));
                }
                self.source = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            let head = source.peek(HEAD_BYTES_MAX)?;
            if head.is_empty() {
                return Ok(0);
            }
            if let Some(bytes) = window_bytes(head).filter(|bytes| *bytes > WINDOW_BYTES_MAX) {
                let (asked, most) = (bytes >> 20, WINDOW_BYTES_MAX >> 20);
                return Err(damaged(format!(
                    "its zstd window of {asked} MiB is larger than {most} MiB: pack it with zstd -19 \
                     or less, and without --long"
                )));
            }
            let frame =
                StreamingDecoder::new(source).map_err(|error| damaged(error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}

fn damaged(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What a frame asks to be kept of what was unpacked last (RFC 8878, 3.1.1.1). `None` when the head is
/// cut, which its decoder says better.
fn window_bytes(head: &[u8]) -> Option<u64> {
    let (descriptor, rest) = head.get(ZSTD.len()..)?.split_first()?;
    if descriptor & 0x20 == 0 {
        let (exponent, mantissa) = (rest.first()? >> 3, rest.first()? & 7);
        let base = 1_u64 << (10 + u32::from(exponent));
        return Some(base + base / 8 * u64::from(mantissa));
    }
    // One segment: the window is the whole content.
    let at = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let n = 1_usize << (descriptor >> 6);
    let mut size = [0; 8];
    size.get_mut(..n)?.copy_from_slice(rest.get(*at..at + n)?);
    Some(u64::from_le_bytes(size) + if n == 2 { 256 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frames_window_is_read_from_its_head() {
        let table: [(&[u8], Option<u64>); 7] = [
            (&[0x04, 0x00], Some(1 << 10)),
            (&[0x04, 13 << 3], Some(8 << 20)),
            (&[0x04, 17 << 3 | 1], Some((128 << 20) + (16 << 20))),
            (&[0x20, 200], Some(200)),
            (&[0x60, 0, 1], Some(512)),
            (&[0xa1, 9, 0, 0, 0, 2], Some(32 << 20)),
            (&[0xe0, 1, 2], None),
        ];
        for (head, expected) in table {
            assert_eq!(window_bytes(&[&ZSTD, head].concat()), expected, "{head:?}");
        }
    }
}
