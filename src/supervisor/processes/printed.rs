//! What a command prints: read while it runs, and capped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::keeper::protocol::ChildId;
use crate::supervisor::processes::host_command::{CommandError, Output};

/// Bytes that are kept of each of the two outputs: a database's counts of many tables are long.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Lines of it that a reason holds.
const N_LINES: usize = 8;
/// Bytes of a reason's lines.
const LINES_BYTES_MAX: usize = 8 * 1024;
/// A pipe holds no more unless it is asked to.
const PIPE_BYTES: usize = 64 * 1024;

/// Where a command prints, as its reader sees it.
pub(crate) enum Printed {
    /// Its standard output and its standard error.
    Pipes(Box<Stream>, Box<Stream>),
    /// The files of both.
    Files(PathBuf, PathBuf),
    /// Somebody else reads it.
    Nowhere,
}

/// What the command itself writes to: its standard output and its standard error.
type Writers = (OwnedFd, OwnedFd);

impl Printed {
    /// For a command that is about to be started.
    ///
    /// # Errors
    /// [`CommandError::System`].
    pub(crate) fn open(
        output: &Output,
        child: ChildId,
    ) -> Result<(Self, Option<Writers>), CommandError> {
        match output {
            Output::Launch => Ok((Self::Nowhere, None)),
            Output::Pipes => {
                let both = Stream::open().and_then(|output| Ok((output, Stream::open()?)));
                let path = || PathBuf::from("pipe");
                let ((output, out), (errors, err)) =
                    both.map_err(|source| CommandError::System { path: path(), source })?;
                Ok((Self::Pipes(Box::new(output), Box::new(errors)), Some((out, err))))
            }
            Output::Files(dir) => {
                let (output, errors) = paths(dir, child);
                let open = |path: &Path| {
                    let file = File::options().append(true).create(true).open(path);
                    let path = path.to_owned();
                    file.map_err(|source| CommandError::System { path, source })
                };
                let writers = (open(&output)?.into(), open(&errors)?.into());
                Ok((Self::Files(output, errors), Some(writers)))
            }
        }
    }

    /// For a command that a supervisor before this one started.
    pub(crate) fn found(dir: &Path, child: ChildId) -> Self {
        let (output, errors) = paths(dir, child);
        Self::Files(output, errors)
    }

    /// Reads as long as it is polled, and never resolves: a command would wait for room in its
    /// pipe. Processes that it leaves in the background can hold the pipe open, so the end of the
    /// output is not waited for.
    pub(crate) async fn read(&mut self) -> Infallible {
        if let Self::Pipes(output, errors) = self {
            tokio::join!(output.read(), errors.read());
        }
        std::future::pending().await
    }

    /// The end of what was printed to standard output and standard error, once the command has
    /// ended.
    pub(crate) fn take(self) -> (String, String) {
        match self {
            Self::Pipes(output, errors) => (output.take(), errors.take()),
            Self::Files(ref output, ref errors) => {
                let both = [output, errors].map(|path| end_of(path).unwrap_or_default());
                self.remove();
                both.into()
            }
            Self::Nowhere => Default::default(),
        }
    }

    /// Removes its files.
    pub(crate) fn remove(&self) {
        let Self::Files(output, errors) = self else { return };
        for path in [output, errors] {
            drop(fs::remove_file(path));
        }
    }
}

/// Where a command prints that goes on when the supervisor dies.
pub(crate) fn paths(dir: &Path, child: ChildId) -> (PathBuf, PathBuf) {
    let path = |end: &str| dir.join(format!("{}.{end}", child.0));
    (path("out"), path("err"))
}

/// The last lines of the errors, or of the output when there are none.
pub(crate) fn last_lines(output: &str, errors: &str) -> String {
    let text = if errors.trim().is_empty() { output } else { errors };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(N_LINES)..].join("\n");
    let mut from = last.len().saturating_sub(LINES_BYTES_MAX);
    while !last.is_char_boundary(from) {
        from += 1;
    }
    last[from..].trim().to_owned()
}

/// A pipe, and the end of what came out of it.
pub(crate) struct Stream {
    pipe: Receiver,
    kept: VecDeque<u8>,
}

impl Stream {
    fn open() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let pipe = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok((Self { pipe, kept: VecDeque::new() }, writer.into()))
    }

    async fn read(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(n) = self.pipe.read(&mut bytes).await
            && n > 0
        {
            self.keep(&bytes[..n]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let n_over = self.kept.len().saturating_sub(KEPT_BYTES);
        self.kept.drain(..n_over);
    }

    /// With what is still in the pipe, and no more: what goes on in the background may print
    /// without end.
    fn take(mut self) -> String {
        let mut bytes = [0; 4096];
        let mut n_read = 0;
        while n_read < PIPE_BYTES
            && let Ok(n) = rustix::io::read(&self.pipe, &mut bytes)
            && n > 0
        {
            n_read += n;
            self.keep(&bytes[..n]);
        }
        String::from_utf8_lossy(self.kept.make_contiguous()).into_owned()
    }
}

/// The end of what a file holds.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let kept = u64::try_from(KEPT_BYTES).unwrap_or(u64::MAX);
    let n_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(n_bytes.saturating_sub(kept)))?;
    let mut bytes = Vec::new();
    file.take(kept).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn last_lines_are_few_and_short() {
        assert_eq!(last_lines("out\n", " \n"), "out");
        assert_eq!(last_lines("out\n", "err\n\n"), "err");
        let many: String = (0..20).map(|n| format!("{n}\n\n")).collect();
        assert_eq!(last_lines(&many, ""), "12\n13\n14\n15\n16\n17\n18\n19");
        let long = last_lines(&"é".repeat(10_000), "");
        assert!(long.len() <= LINES_BYTES_MAX && long.ends_with('é'), "{}", long.len());
    }

    #[tokio::test]
    async fn the_end_of_an_output_is_kept() {
        let (mut stream, writer) = Stream::open().unwrap();
        let print = std::thread::spawn(move || {
            let mut writer = File::from(writer);
            writer.write_all(&vec![b'a'; KEPT_BYTES + 9]).unwrap();
            writer.write_all(b"end").unwrap();
        });
        stream.read().await;
        print.join().unwrap();
        let text = stream.take();
        assert_eq!((text.len(), text.ends_with("aend")), (KEPT_BYTES, true));
    }

    #[tokio::test]
    async fn what_is_printed_in_the_background_is_not_waited_for() {
        let (stream, writer) = Stream::open().unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"end").unwrap();
        assert_eq!(stream.take(), "end");
        assert!(writer.write_all(b"more").is_err(), "nobody reads any more");
    }
}
