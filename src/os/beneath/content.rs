//! The bytes of a file, to another one: shared where the file system can (`ioctl_ficlone(2)`), else
//! copied without its holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

const CHUNK_BYTES: u64 = 1024 * 1024;

/// Fills an empty file with what another one holds, up to the length that it has now.
///
/// # Errors
/// The system's.
pub fn fill(to: &File, from: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(length);
    }
    let mut at = 0;
    while at < length {
        let data = match seek(from, SeekFrom::Data(at)) {
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL) => at,
            data => data?,
        };
        let hole = seek(from, SeekFrom::Hole(data)).unwrap_or(length);
        let end = hole.min(length);
        if data >= end || copy_part(to, from, data, end)? < end {
            break;
        }
        at = end;
    }
    ftruncate(to, length)?;
    Ok(length)
}

/// The same, showing every byte of the copy on the way: it is read once, also where the file system
/// shares the bytes. Holes are shown as zeros.
///
/// # Errors
/// The system's.
pub fn fill_shown(to: &File, from: &File, show: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let length = from.metadata()?.len();
    let is_shared = ioctl_ficlone(to, from).is_ok();
    let length = if is_shared { to.metadata()?.len() } else { length };
    // What is shared is of one moment; the original may go on changing.
    let source = if is_shared { to } else { from };
    let mut chunk = vec![0; usize::try_from(CHUNK_BYTES.min(length)).unwrap_or(0)];
    let mut at = 0;
    while at < length {
        let data = match seek(source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => length,
            Err(Errno::INVAL) => at,
            data => data?.min(length),
        };
        show_zeros(data - at, show);
        at = data;
        let end = seek(source, SeekFrom::Hole(data)).map_or(length, |hole| hole.min(length));
        while at < end {
            let n_wanted = usize::try_from((end - at).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
            let part = chunk.get_mut(..n_wanted).unwrap_or_default();
            let n = source.read_at(part, at)?;
            if n == 0 {
                // It has shrunk: the copy ends in a hole.
                show_zeros(length - at, show);
                to.set_len(length)?;
                return Ok(length);
            }
            if !is_shared {
                to.write_all_at(&part[..n], at)?;
            }
            show(&part[..n]);
            at += n as u64;
        }
    }
    to.set_len(length)?;
    Ok(length)
}

fn show_zeros(mut n: u64, show: &mut dyn FnMut(&[u8])) {
    let zeros = [0; 4096];
    while n > 0 {
        let part = n.min(zeros.len() as u64);
        show(&zeros[..usize::try_from(part).unwrap_or(0)]);
        n -= part;
    }
}

/// Copies bytes to the same place; returns how far it got, which is less when the file has shrunk.
fn copy_part(to: &File, from: &File, mut at: u64, end: u64) -> io::Result<u64> {
    while at < end {
        let n_wanted = usize::try_from((end - at).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
        let (mut read, mut written) = (at, at);
        let n = match copy_file_range(from, Some(&mut read), to, Some(&mut written), n_wanted) {
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                copy_chunk(to, from, at, n_wanted)?
            }
            n => n?,
        };
        if n == 0 {
            return Ok(at);
        }
        at += n as u64;
    }
    Ok(at)
}

fn copy_chunk(to: &File, from: &File, at: u64, n_wanted: usize) -> io::Result<usize> {
    let mut chunk = vec![0; n_wanted];
    let n = from.read_at(&mut chunk, at)?;
    to.write_all_at(&chunk[..n], at)?;
    Ok(n)
}
