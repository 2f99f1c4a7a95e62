//! What processes write: one file a release, line by line.
//!
//! A line in the file is `2026-11-23T12:00:00.123Z 0 text`: time, instance, text. A line that is too
//! long, or has no end, may be open at the end of the file. When another instance writes meanwhile, the
//! open line is ended and its rest comes as a line of its own. A line that is cut ends with ` …`: at its
//! greatest length, and where a file without newlines has grown large enough.
//!
//! On a disk that is full, lines are dropped and counted, or their service waits: as it is configured.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use tokio::sync::watch;

use crate::config::model::Full;
use crate::core::ids::ReleaseId;
use crate::core::ordered::Few;
use crate::os::clock;

/// A file that grows beyond this becomes `N.log.1`, in the place of the one before.
const ROTATE_BYTES: u64 = 8 * 1024 * 1024;
/// How much longer it may grow until its last line has an end.
const ROTATE_PATIENCE_BYTES: u64 = 64 * 1024;
/// Longer lines are cut.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// What stands at the end of a line that goes on in the next one.
const CUT: &str = " \u{2026}\n";

/// The log files of a service.
#[derive(Debug)]
pub(crate) struct LogFiles {
    dir: PathBuf,
    full: Full,
    writers: RefCell<Few<ReleaseId, Weak<RefCell<Writer>>>>,
}

/// A log file that several instances write to.
pub(crate) type SharedWriter = Rc<RefCell<Writer>>;

impl LogFiles {
    /// The log files in a directory, and what becomes of lines that cannot be written.
    #[must_use]
    pub(crate) fn new(dir: PathBuf, full: Full) -> Self {
        Self { dir, full, writers: RefCell::default() }
    }

    /// A release's log file.
    #[must_use]
    pub(crate) fn path(&self, release: ReleaseId) -> PathBuf {
        self.dir.join(format!("{release}.log"))
    }

    /// The writer of a release's log; one for all its instances.
    pub(crate) fn writer(&self, release: ReleaseId) -> SharedWriter {
        if let Some(writer) = self.open_writer(release) {
            return writer;
        }
        let writer = Rc::new(RefCell::new(Writer::new(self.path(release), self.full)));
        self.writers.borrow_mut().insert(release, Rc::downgrade(&writer));
        writer
    }

    /// The writer of a release's log, if the log has one.
    pub(crate) fn open_writer(&self, release: ReleaseId) -> Option<SharedWriter> {
        self.writers.borrow().get(&release).and_then(Weak::upgrade)
    }

    /// Releases before this one that have a log.
    pub(crate) fn before(&self, oldest: ReleaseId) -> Vec<ReleaseId> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let number = |path: PathBuf| path.file_stem()?.to_str()?.parse().ok().map(ReleaseId);
        paths.filter_map(number).filter(|release| *release < oldest).collect()
    }

    /// Removes a release's log.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn remove(&self, release: ReleaseId) -> io::Result<()> {
        self.writers.borrow_mut().remove(&release);
        for path in [self.path(release), rotated(&self.path(release))] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

pub(super) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The writing side of one log file.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    /// The instance whose line is open, and the line's length.
    open: Option<(u16, usize)>,
    full: Full,
    /// It was reported that the file cannot be written.
    is_stuck: bool,
    n_dropped_lines: u64,
    grew: watch::Sender<u64>,
}

impl Writer {
    fn new(path: PathBuf, full: Full) -> Self {
        let mut writer = Self {
            path,
            file: None,
            size_bytes: 0,
            open: None,
            full,
            is_stuck: false,
            n_dropped_lines: 0,
            grew: watch::channel(0).0,
        };
        if let Err(error) = writer.reopen() {
            tracing::error!(path = %writer.path.display(), %error, "opening a log");
        }
        writer
    }

    /// Changes with each piece that is written.
    #[must_use]
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.grew.subscribe()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = File::options().read(true).append(true).create(true).open(&self.path)?;
        self.size_bytes = file.metadata()?.len();
        // A supervisor before this one may have ended in the middle of a line.
        if self.size_bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last[0] != b'\n' {
                file.write_all(b"\n")?;
                self.size_bytes += 1;
            }
        }
        self.open = None;
        self.file = Some(file);
        Ok(())
    }

    /// Writes something beside what an instance writes. It is dropped where the instance would wait.
    pub(crate) fn append(&mut self, instance: u16, chunk: &[u8]) {
        drop(self.append_at(instance, chunk, &mut |_| {}));
    }

    /// Writes what an instance has written; the place in the file is told before it is written.
    ///
    /// # Errors
    /// The system's, when the service is to wait: nothing of it is in the file.
    pub(super) fn append_at(
        &mut self,
        instance: u16,
        chunk: &[u8],
        tell: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        if let Err(error) = self.rotate() {
            tracing::debug!(path = %self.path.display(), %error, "rotating a log");
        }
        self.report_gap(instance);
        let before = self.open;
        let text = self.format(instance, chunk);
        let Err(error) = self.write(&text, tell) else {
            self.is_stuck = false;
            self.grew.send_modify(|n| *n += 1);
            return Ok(());
        };
        self.open = before;
        if !std::mem::replace(&mut self.is_stuck, true) {
            tracing::error!(path = %self.path.display(), %error, "writing a log");
        }
        match self.full {
            Full::Block => Err(error),
            // The pipe is read on: a full disk does not stop the service.
            Full::Drop => {
                let n_lines = chunk.iter().filter(|byte| **byte == b'\n').count();
                self.n_dropped_lines += u64::try_from(n_lines.max(1)).unwrap_or(1);
                Ok(())
            }
        }
    }

    /// Begins another file when this one is large, between two lines. A line that does not end is cut.
    fn rotate(&mut self) -> io::Result<()> {
        if self.size_bytes > ROTATE_BYTES + ROTATE_PATIENCE_BYTES && self.open.is_some() {
            self.write_whole(CUT)?;
        }
        if self.size_bytes > ROTATE_BYTES && self.open.is_none() {
            fs::rename(&self.path, rotated(&self.path))?;
            self.file = None;
            self.size_bytes = 0;
        }
        Ok(())
    }

    /// How many lines are missing here, as a line of its own.
    fn report_gap(&mut self, instance: u16) {
        if self.n_dropped_lines == 0 {
            return;
        }
        let (at, n) = (clock::now_rfc3339_ms(), grouped(self.n_dropped_lines));
        let end = if self.open.is_some() { CUT } else { "" };
        let lines = if self.n_dropped_lines == 1 { "line" } else { "lines" };
        let text =
            format!("{end}{at} {instance} -- {n} {lines} dropped: the log could not be written\n");
        if self.write_whole(&text).is_ok() {
            self.n_dropped_lines = 0;
        }
    }

    /// Writes whole lines, or the end of the open one.
    fn write_whole(&mut self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes(), &mut |_| {})?;
        self.open = None;
        Ok(())
    }

    /// Takes back what a supervisor before this one may have written from here on.
    pub(super) fn cut(&mut self, at: u64) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| at < self.size_bytes) {
            file.set_len(at)?;
            self.size_bytes = at;
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8], tell: &mut dyn FnMut(u64)) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        tell(self.size_bytes);
        let written = file.write_all(text);
        match &written {
            Ok(()) => self.size_bytes += text.len() as u64,
            // A part of it would tear a line.
            Err(_) => file.set_len(self.size_bytes)?,
        }
        written
    }

    fn format(&mut self, instance: u16, chunk: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(chunk.len() + 64);
        if self.open.is_some_and(|(owner, _)| owner != instance) {
            text.push(b'\n');
            self.open = None;
        }
        for byte in chunk {
            let length = match self.open {
                Some((_, length)) => length,
                None => {
                    let at = clock::now_rfc3339_ms();
                    text.extend_from_slice(format!("{at} {instance} ").as_bytes());
                    0
                }
            };
            match byte {
                b'\n' => {
                    text.push(b'\n');
                    self.open = None;
                    continue;
                }
                b'\t' => text.push(b'\t'),
                // Whatever a program writes, a terminal that shows it stays as it is.
                0..=31 | 127 => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                _ => text.push(*byte),
            }
            if length + 1 >= LINE_BYTES_MAX {
                text.extend_from_slice(CUT.as_bytes());
                self.open = None;
            } else {
                self.open = Some((instance, length + 1));
            }
        }
        text
    }
}

/// A number as people read it: `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The last lines of a log, over its rotation.
#[must_use]
pub(crate) fn tail(path: &Path, n_lines: usize) -> Vec<String> {
    let read = |path: &Path| -> Vec<String> {
        let text = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    };
    let mut lines = read(path);
    if lines.len() < n_lines {
        let mut older = read(&rotated(path));
        older.append(&mut lines);
        lines = older;
    }
    lines.split_off(lines.len().saturating_sub(n_lines))
}

/// What is read of a log in one go: a client that was away has much to catch up with.
const PIECE_BYTES: u64 = 1024 * 1024;

/// New lines of a log, from where it ends when this is made.
#[derive(Debug)]
pub(crate) struct Follow {
    path: PathBuf,
    inode: u64,
    offset: u64,
}

impl Follow {
    /// Begins at the end of what is there.
    #[must_use]
    pub(crate) fn from_end(path: &Path) -> Self {
        let (inode, offset) = identity(path);
        Self { path: path.to_owned(), inode, offset }
    }

    /// Whole lines that came since, not more than a piece of them; none when there are no more. A rotation
    /// in between loses none.
    pub(crate) fn next_lines(&mut self) -> Vec<String> {
        let (inode, _) = identity(&self.path);
        if inode != self.inode {
            let rest = self.read_from(&rotated(&self.path));
            if !rest.is_empty() {
                return rest;
            }
            (self.inode, self.offset) = (inode, 0);
        }
        self.read_from(&self.path.clone())
    }

    fn read_from(&mut self, path: &Path) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(PIECE_BYTES).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}

fn identity(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or((0, 0), |meta| (meta.ino(), meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let strip = |line: String| line.split_once(' ').map(|(_, rest)| rest.to_owned());
        tail(path, 1000).into_iter().filter_map(strip).collect()
    }

    #[test]
    fn what_was_read_is_in_the_file_at_once_and_lines_of_instances_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogFiles::new(dir.path().to_owned(), Full::Drop);
        let writer = logs.writer(ReleaseId(1));
        let path = logs.path(ReleaseId(1));
        writer.borrow_mut().append(0, b"half");
        assert_eq!(texts(&path), ["0 half"]);
        writer.borrow_mut().append(1, b"other\n");
        writer.borrow_mut().append(0, b" rest\nred \x1b[31m\n");
        assert_eq!(texts(&path), ["0 half", "1 other", "0  rest", "0 red \\x1b[31m"]);
    }

    #[test]
    fn a_supervisor_that_ended_in_a_line_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        Writer::new(path.clone(), Full::Drop).append(0, b"cut");
        Writer::new(path.clone(), Full::Drop).append(0, b"next\n");
        assert_eq!(texts(&path), ["0 cut", "0 next"]);
    }

    #[test]
    fn a_follower_loses_no_line_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut writer = Writer::new(path.clone(), Full::Drop);
        let mut follow = Follow::from_end(&path);
        let line = [b'x'; 1000];
        let (mut n_written, mut n_seen) = (0, 0);
        while !rotated(&path).exists() {
            writer.append(0, &line);
            writer.append(0, b"\n");
            n_written += 1;
            if n_written % 100 == 0 {
                n_seen += follow.next_lines().len();
            }
        }
        loop {
            let lines = follow.next_lines();
            if lines.is_empty() {
                break;
            }
            assert!(lines.len() <= 1100, "a piece");
            n_seen += lines.len();
        }
        assert_eq!(n_seen, n_written);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_marked_and_nothing_of_it_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut writer = Writer::new(path.clone(), Full::Drop);
        writer.append(0, &vec![b'x'; LINE_BYTES_MAX + 3]);
        writer.append(0, b"\nnext\n");
        let lines = texts(&path);
        let cut = format!("0 {} \u{2026}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(lines, [cut.as_str(), "0 xxx", "0 next"]);
    }

    #[test]
    fn output_without_a_newline_is_rotated_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut writer = Writer::new(path.clone(), Full::Drop);
        let mut n_written = 0;
        while !rotated(&path).exists() {
            writer.append(0, &b"50 %\r".repeat(20));
            n_written += 1;
            assert!(n_written < 150_000, "it grows without end");
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&rotated(&path)) < ROTATE_BYTES + 100_000 && size(&path) < 1000);
        assert!(fs::read_to_string(rotated(&path)).unwrap().ends_with(CUT));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_in_the_place_where_they_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/1.log");
        let mut writer = Writer::new(path.clone(), Full::Drop);
        for _ in 0..1234 {
            writer.append(0, b"one\nhalf");
        }
        fs::create_dir(dir.path().join("logs")).unwrap();
        writer.append(0, b"after\n");
        let expected = "0 -- 1,234 lines dropped: the log could not be written";
        assert_eq!(texts(&path), [expected, "0 after"]);
        assert_eq!([1, 999, 1000, 1_234_567].map(grouped), ["1", "999", "1,000", "1,234,567"]);
    }
}
