//! How an artifact comes in: from the descriptor a client handed over, into `staging/`.
//!
//! Blocking code, run in a thread of its own. Nothing outside of `incoming/` and `staging/` is
//! touched, and both can be deleted at any time.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use sha2::{Digest, Sha256};

use crate::core::ids::OpId;
use crate::decode::wire::{Ear, Entry, Kind, Said};
use crate::os::beneath::Dir;
use crate::os::fs as durable;
use crate::store::aside;
pub use crate::store::content::hex;
use crate::store::intake_error::IntakeError;
use crate::store::layout::ServiceLayout;
use crate::store::tree::Staging;

/// How long a read may wait before it checks whether the operation was aborted.
const LOOK_UP_MS: i64 = 200;
/// What is read into memory of a `release.toml`: its parser takes fifty times as much.
const SETTINGS_BYTES_MAX: u64 = 256 * 1024;

/// The text of a staged tree's `release.toml`, if it has one. A link may lead into `shared/`, where the
/// service's user has anything behind it, so none is followed.
///
/// # Errors
/// When it cannot be read, is no plain file, or is larger than any that was written by hand.
pub fn settings_text(dir: &Path) -> io::Result<Option<String>> {
    let file = match Dir::open(dir)?.file("release.toml") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(io::Error::other("it is a link; put the file itself into the release"));
        }
        opened => opened?,
    };
    let mut text = String::new();
    file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SETTINGS_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {SETTINGS_BYTES_MAX} bytes")));
    }
    Ok(Some(text))
}

/// An artifact that has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An archive, in `incoming/`.
    Archive {
        /// Where.
        path: PathBuf,
        /// Its size.
        n_bytes: u64,
        /// sha256 over it.
        digest: String,
    },
    /// A tree, copied to `staging/` already.
    Tree {
        /// Bytes of its files.
        n_bytes: u64,
        /// Files of macOS that were left out.
        n_left_out: usize,
    },
}

/// Limits and callbacks of an intake.
pub struct Limits<'a> {
    /// Most bytes, packed and unpacked alike.
    pub cap_bytes: u64,
    /// Where absolute symlinks may lead, beside `shared/`.
    pub absolute_links: &'a [PathBuf],
    /// Set when the operation is aborted.
    pub cancelled: &'a AtomicBool,
    /// Called with how far it is.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// How far an intake is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes to come in all, when known.
    pub total: Option<u64>,
    /// Entries of an archive so far.
    pub entries: Option<u64>,
}

/// Where an operation stages its tree.
#[must_use]
pub fn staging_dir(paths: &ServiceLayout, op: OpId) -> PathBuf {
    paths.staging().join(op.to_string())
}

/// Takes an artifact in from an open descriptor: a directory is copied to `staging/`, anything else
/// is streamed to `incoming/`.
///
/// # Errors
/// [`IntakeError`].
pub fn receive(
    source: OwnedFd,
    paths: &ServiceLayout,
    op: OpId,
    limits: &mut Limits<'_>,
) -> Result<Received, IntakeError> {
    let stat =
        fstat(&source).map_err(|e| IntakeError::system(Path::new("the source"), e.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let dir = staging_dir(paths, op);
            let mut staging = begin(&dir, paths, limits)?;
            let mut n_bytes = 0;
            copy_directory(&Dir::from(source), Path::new(""), &mut staging, &mut n_bytes, limits)?;
            let (n_bytes, n_left_out) = staging.finish()?;
            Ok(Received::Tree { n_bytes, n_left_out })
        }
        kind => {
            let size = u64::try_from(stat.st_size).ok();
            let total = size.filter(|_| kind == FileType::RegularFile);
            stream(source, paths, op, total, limits)
        }
    }
}

fn begin<'a>(
    dir: &Path,
    paths: &ServiceLayout,
    limits: &Limits<'a>,
) -> Result<Staging<'a>, IntakeError> {
    let mut absolute_links = limits.absolute_links.to_vec();
    absolute_links.push(paths.shared());
    Staging::begin(dir, limits.cap_bytes, limits.cancelled, absolute_links)
}

fn stream(
    source: OwnedFd,
    paths: &ServiceLayout,
    op: OpId,
    total: Option<u64>,
    limits: &mut Limits<'_>,
) -> Result<Received, IntakeError> {
    let path = paths.incoming().join(format!("{op}.part"));
    let system = |source| IntakeError::system(&path, source);
    let mut part = File::create(&path).map_err(system)?;
    let mut source = File::from(source);
    let (mut digest, mut n_bytes) = (Sha256::new(), 0_u64);
    let mut chunk = vec![0; 256 * 1024];
    loop {
        wait_readable(&source, limits.cancelled)?;
        let n = source
            .read(&mut chunk)
            .map_err(|error| IntakeError::reading(Path::new("the source"), error))?;
        if n == 0 {
            break;
        }
        n_bytes += n as u64;
        if n_bytes > limits.cap_bytes {
            return Err(IntakeError::TooLarge { cap_bytes: limits.cap_bytes });
        }
        digest.update(&chunk[..n]);
        part.write_all(&chunk[..n]).map_err(system)?;
        (limits.progress)(Progress { bytes: n_bytes, total, entries: None });
    }
    if total.is_some_and(|total| total > n_bytes) {
        return Err(IntakeError::Cut { n_bytes });
    }
    Ok(Received::Archive { path, n_bytes, digest: hex(&digest.finalize()) })
}

/// A pipe over ssh may stall for ever; the operation can be aborted all the same.
fn wait_readable(source: &File, cancelled: &AtomicBool) -> Result<(), IntakeError> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_UP_MS * 1_000_000 };
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(IntakeError::Cancelled);
        }
        let mut fds = [PollFd::new(source, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => {
                return Err(IntakeError::system(Path::new("the source"), error.into()));
            }
        }
    }
}

fn copy_directory(
    dir: &Dir,
    name: &Path,
    staging: &mut Staging<'_>,
    n_bytes: &mut u64,
    limits: &mut Limits<'_>,
) -> Result<(), IntakeError> {
    for entry in dir.names().map_err(|error| IntakeError::reading(name, error))? {
        let path = name.join(entry.to_str().ok_or_else(|| IntakeError::Refused {
            path: name.join("?"),
            why: "its name is not UTF-8".to_owned(),
        })?);
        let reading = |error| IntakeError::reading(&path, error);
        let meta = dir.look(&entry).map_err(reading)?;
        if meta.is_dir() {
            staging.directory(&path, meta.mode())?;
            copy_directory(&dir.dir(&entry).map_err(reading)?, &path, staging, n_bytes, limits)?;
        } else if meta.is_file() {
            let mut file = dir.file(&entry).map_err(reading)?;
            let meta = file.metadata().map_err(reading)?;
            let modified = meta.modified().map_err(reading)?;
            staging.file(&path, (meta.mode(), modified), &mut file)?;
            *n_bytes += meta.len();
            (limits.progress)(Progress { bytes: *n_bytes, ..Progress::default() });
        } else if meta.is_symlink() {
            let target = dir.target(&entry).map_err(reading)?;
            staging.symlink(&path, Path::new(target.to_string_lossy().as_ref()))?;
        } else if meta.file_type().is_fifo() {
            return Err(refused(path, "it is a FIFO"));
        } else if meta.file_type().is_socket() {
            return Err(refused(path, "it is a socket"));
        } else {
            return Err(refused(path, "it is a device"));
        }
    }
    Ok(())
}

fn refused(path: PathBuf, why: &str) -> IntakeError {
    IntakeError::Refused { path, why: why.to_owned() }
}

/// Opens an archive for its decoder.
///
/// # Errors
/// The system's.
pub fn archive(path: &Path) -> Result<File, IntakeError> {
    File::open(path).map_err(|source| IntakeError::system(path, source))
}

/// Puts what an archive's decoder says into `staging/`; the archive is removed. Returns where it is, and how
/// many files of macOS were left out.
///
/// # Errors
/// [`IntakeError`].
pub fn unpack(
    decoder: OwnedFd,
    archive: &Path,
    paths: &ServiceLayout,
    op: OpId,
    limits: &mut Limits<'_>,
) -> Result<(PathBuf, usize), IntakeError> {
    let dir = staging_dir(paths, op);
    let mut staging = begin(&dir, paths, limits)?;
    let patient = Patient { pipe: File::from(decoder), cancelled: limits.cancelled };
    let mut ear = Ear::new(BufReader::with_capacity(64 * 1024, patient));
    loop {
        let said = ear.hear();
        staging.check_cancelled()?;
        match said.map_err(|error| IntakeError::hearing(&error))? {
            Said::Entry(entry) => add(&mut staging, &entry, &mut ear)?,
            Said::Fault(fault) => return Err(IntakeError::said(fault)),
            Said::End => break,
        }
        let (bytes, n) = staging.so_far();
        (limits.progress)(Progress { bytes, total: None, entries: Some(n as u64) });
    }
    let (_, n_left_out) = staging.finish()?;
    fs::remove_file(archive).map_err(|source| IntakeError::system(archive, source))?;
    Ok((dir, n_left_out))
}

fn add(
    staging: &mut Staging<'_>,
    entry: &Entry,
    content: &mut Ear<impl Read>,
) -> Result<(), IntakeError> {
    match entry.kind {
        Kind::Directory => staging.directory(&entry.name, entry.mode),
        Kind::Symlink => staging.symlink(&entry.name, &entry.link),
        Kind::HardLink => staging.hard_link(&entry.name, &entry.link),
        Kind::File => {
            let mut read = Heard { content, error: None };
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.modified);
            let added = staging.file(&entry.name, (entry.mode, modified), &mut read);
            let error = read.error;
            staging.check_cancelled()?;
            match (content.fault(), error) {
                (Some(fault), _) => Err(IntakeError::said(fault)),
                (None, Some(error)) => Err(IntakeError::hearing(&error)),
                (None, None) => added,
            }
        }
    }
}

/// The content of a file, with what went wrong at the pipe.
struct Heard<'a, R> {
    content: &'a mut Ear<R>,
    error: Option<io::Error>,
}

impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

/// A decoder that says nothing for long is aborted all the same.
struct Patient<'a> {
    pipe: File,
    cancelled: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_readable(&self.pipe, self.cancelled)
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.pipe.read(buffer)
    }
}

/// Removes what an operation that ended early left behind.
///
/// # Errors
/// The system's.
pub fn discard(paths: &ServiceLayout, op: OpId) -> io::Result<()> {
    durable::remove_tree(&staging_dir(paths, op))?;
    durable::remove_tree(&paths.incoming().join(format!("{op}.part")))
}

/// Sets aside what operations before this start left.
///
/// # Errors
/// The system's.
pub fn sweep(paths: &ServiceLayout) -> io::Result<()> {
    for dir in [paths.staging(), paths.incoming()] {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !aside::is_gone(&entry.file_name()) {
                aside::put(paths, &entry.path())?;
            }
        }
    }
    Ok(())
}
