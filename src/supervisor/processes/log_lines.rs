//! The lines of several logs as one, by their time, of which some are wanted.
//!
//! Reading takes as long as the files are large: an event loop leaves it to a thread. However large they
//! are, what is held of them is a line and a buffer of each, and a piece of lines for the reader.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::pattern::Pattern;
use crate::supervisor::processes::log_files::rotated;

/// What is returned in one go.
const PIECE_BYTES: usize = 256 * 1024;
/// How far back the last lines are looked for at first, and how many times farther each time after.
const WINDOW_BYTES: u64 = 256 * 1024;
const WIDER: u64 = 8;
/// A time as a line begins with it: `2026-11-23T12:00:00.123Z`.
const TIME_BYTES: usize = 24;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Those from this time on, written as the lines have it.
    pub since: Option<String>,
    /// Those whose text matches.
    pub pattern: Option<Pattern>,
    /// So many of the last ones.
    pub n_last: u64,
    /// What is written after that, too.
    pub follow: bool,
}

/// A line, and the place of its log in the list of logs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub log: usize,
    pub text: String,
}

/// The lines of several logs.
#[derive(Debug)]
pub(crate) struct Lines {
    logs: Vec<Log>,
    wanted: Wanted,
    /// Lines before the last ones.
    n_passed_over: u64,
}

impl Lines {
    /// Opens the logs and finds where the last lines begin.
    pub(crate) fn open(paths: &[PathBuf], wanted: Wanted) -> Self {
        let mut logs: Vec<Log> = paths.iter().map(|path| Log::open(path, wanted.follow)).collect();
        let mut n_lines: u64 = 0;
        for log in &mut logs {
            // No log has more of them than all together.
            n_lines += log.begin_at_last(&wanted);
        }
        Self { logs, n_passed_over: n_lines.saturating_sub(wanted.n_last), wanted }
    }

    /// The next lines, not more than a piece of them; none when there are no more, or no more yet.
    pub(crate) fn next_piece(&mut self) -> Vec<Line> {
        let mut piece = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < PIECE_BYTES
            && let Some(line) = self.next()
        {
            if self.n_passed_over > 0 {
                self.n_passed_over -= 1;
                continue;
            }
            n_bytes += line.text.len() + size_of::<Line>();
            piece.push(line);
        }
        piece
    }

    /// The oldest of the lines that each log has next.
    fn next(&mut self) -> Option<Line> {
        for log in &mut self.logs {
            log.fill(&self.wanted);
        }
        let heads = self.logs.iter_mut().enumerate().filter(|(_, log)| log.head.is_some());
        let (at, log) = heads.min_by_key(|(_, log)| log.time)?;
        Some(Line { log: at, text: log.head.take()? })
    }
}

/// One log, over its rotation.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Its files, the older first.
    files: Vec<Part>,
    /// The one that is read.
    current: usize,
    /// Its last file is still written to, and read on.
    follow: bool,
    /// The next line that is wanted.
    head: Option<String>,
    /// The time of the line that was read last.
    time: [u8; TIME_BYTES],
}

/// One file of a log.
#[derive(Debug)]
struct Part {
    reader: BufReader<File>,
    inode: u64,
    /// Where the next line begins.
    at: u64,
    /// What came later is not read.
    end: u64,
}

impl Part {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        Ok(Self { reader: BufReader::new(file), inode: meta.ino(), at: 0, end: meta.len() })
    }

    fn go_to(&mut self, at: u64) {
        if self.reader.seek(SeekFrom::Start(at)).is_ok() {
            self.at = at;
        }
    }

    /// The bytes of the next line; of a line that has no end yet when `is_final`.
    fn line(&mut self, is_final: bool) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let rest = self.end.saturating_sub(self.at);
        let read = self.reader.by_ref().take(rest).read_until(b'\n', &mut bytes);
        if read.is_err() || bytes.is_empty() {
            return None;
        }
        let is_whole = bytes.last() == Some(&b'\n');
        if !is_whole && !is_final {
            self.go_to(self.at);
            return None;
        }
        self.at += bytes.len() as u64;
        if is_whole {
            bytes.pop();
        }
        Some(bytes)
    }
}

impl Log {
    fn open(path: &Path, follow: bool) -> Self {
        let path = path.to_owned();
        let (files, time) = (Vec::new(), [0; TIME_BYTES]);
        let mut log = Self { path, files, current: 0, follow, head: None, time };
        log.open_younger();
        log
    }

    /// Opens the files that are not read yet. `false`: there are none.
    fn open_younger(&mut self) -> bool {
        let newest = self.files.last().map(|part| part.inode);
        let Ok(young) = Part::open(&self.path) else { return false };
        if Some(young.inode) == newest {
            return false;
        }
        // The younger first: a rotation in between shows as the same file twice, and hides none.
        let old = Part::open(&rotated(&self.path)).ok();
        let old = old.filter(|old| Some(old.inode) != newest && old.inode != young.inode);
        self.files.extend(old);
        self.files.push(young);
        true
    }

    /// Goes to where at least the last lines that are wanted are ahead; returns how many are.
    fn begin_at_last(&mut self, wanted: &Wanted) -> u64 {
        let mut window = WINDOW_BYTES;
        let n_ahead = loop {
            let is_all = self.go_back(window);
            let begin = (self.current, self.files.get(self.current).map_or(0, |part| part.at));
            let mut n_ahead = 0;
            while let Some(bytes) = self.next_bytes() {
                n_ahead += u64::from(self.is_wanted(wanted, &text(&bytes)));
            }
            if is_all || n_ahead >= wanted.n_last {
                if n_ahead > 0 {
                    self.go_to(begin);
                }
                break n_ahead;
            }
            window = window.saturating_mul(WIDER);
        };
        if self.follow
            && let Some(part) = self.files.last_mut()
        {
            part.end = u64::MAX;
        }
        n_ahead
    }

    /// Goes to the first line in so many last bytes. `true`: that is the log's first line.
    fn go_back(&mut self, window: u64) -> bool {
        let mut left = window;
        let mut begin = (0, 0);
        for (n, part) in self.files.iter().enumerate().rev() {
            if part.end > left {
                begin = (n, part.end - left);
                break;
            }
            left -= part.end;
        }
        let is_all = begin == (0, 0);
        self.go_to(begin);
        if begin.1 > 0
            && let Some(part) = self.files.get_mut(begin.0)
        {
            // From the byte before: it may end a line.
            part.go_to(begin.1 - 1);
            part.line(true);
        }
        is_all
    }

    fn go_to(&mut self, (current, at): (usize, u64)) {
        (self.current, self.time) = (current, [0; TIME_BYTES]);
        for (n, part) in self.files.iter_mut().enumerate().skip(current) {
            part.go_to(if n == current { at } else { 0 });
        }
    }

    /// Has a next line, when there is one that is wanted.
    fn fill(&mut self, wanted: &Wanted) {
        while self.head.is_none()
            && let Some(bytes) = self.next_bytes()
        {
            let text = text(&bytes);
            if self.is_wanted(wanted, &text) {
                self.head = Some(text.into_owned());
            }
        }
    }

    fn next_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            let n_files = self.files.len();
            let is_over = self.current + 1 < n_files;
            let part = self.files.get_mut(self.current)?;
            if let Some(bytes) = part.line(is_over || !self.follow) {
                return Some(bytes);
            }
            if is_over {
                self.current += 1;
                continue;
            }
            // What is counted first has an end.
            if part.end != u64::MAX || !self.open_younger() {
                return None;
            }
            self.files = self.files.split_off(self.current);
            self.current = 0;
            self.files.iter_mut().skip(1).for_each(|part| part.end = u64::MAX);
        }
    }

    fn is_wanted(&mut self, wanted: &Wanted, line: &str) -> bool {
        if let Some(time) = line.as_bytes().first_chunk().filter(|time| time.ends_with(b"Z")) {
            self.time = *time;
        }
        if wanted.since.as_ref().is_some_and(|since| self.time.as_slice() < since.as_bytes()) {
            return false;
        }
        // Time, instance, text.
        let text = line.splitn(3, ' ').nth(2).unwrap_or_default();
        wanted.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;

    fn at(n: usize) -> String {
        format!("2026-11-23T12:{:02}:{:02}.{:03}Z", n / 60_000, n / 1000 % 60, n % 1000)
    }

    fn wanted(n_last: u64) -> Wanted {
        Wanted { n_last, ..Wanted::default() }
    }

    /// All lines that are there, without their times.
    fn read(lines: &mut Lines) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let piece = lines.next_piece();
            assert!(
                piece.iter().map(|line| line.text.len()).sum::<usize>() < PIECE_BYTES + 100_000
            );
            if piece.is_empty() {
                return texts;
            }
            let text =
                |line: &Line| format!("{} {}", line.log, line.text.split_once(' ').unwrap().1);
            texts.extend(piece.iter().map(text));
        }
    }

    fn append(path: &Path, text: &str) {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_of_several_logs_come_by_their_time_and_the_last_are_of_all_together() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "none"].map(|name| dir.path().join(name).with_extension("log"));
        // Of the same time, those of the first log come first; each log keeps its own order.
        for (log, times) in [(0, [1, 4, 4, 9]), (1, [2, 4, 3, 8])] {
            for (n, time) in times.into_iter().enumerate() {
                append(&paths[log], &format!("{} 0 {n}\n", at(time)));
            }
        }
        let all = ["0 0 0", "1 0 0", "0 0 1", "0 0 2", "1 0 1", "1 0 2", "1 0 3", "0 0 3"];
        for n in 0..=all.len() + 1 {
            let mut lines = Lines::open(&paths, wanted(n as u64));
            assert_eq!(read(&mut lines), all[all.len().saturating_sub(n)..], "{n}");
        }
    }

    #[test]
    fn the_last_of_many_lines_are_found_over_a_rotation_however_far_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut texts = Vec::new();
        for (path, from) in [(rotated(&path), 0), (path.clone(), 20_000)] {
            let mut text = String::new();
            for n in from..from + 20_000 {
                let line = format!("0 {} {n}", "x".repeat(n % 50));
                writeln!(text, "{} {line}", at(n)).unwrap();
                texts.push(format!("0 {line}"));
            }
            fs::write(path, text).unwrap();
        }
        for n in [0, 1, 2, 3_300, 19_999, 20_000, 20_001, 39_999, 40_000, 1_000_000] {
            let mut lines = Lines::open(std::slice::from_ref(&path), wanted(n as u64));
            assert!(read(&mut lines) == texts[texts.len().saturating_sub(n)..], "{n}");
        }
        for (pattern, n, from) in [(" 7$", 5, 7), (" 2.{4}$", 3, 29_997), ("^x* [12]$", 9, 1)] {
            let pattern = Pattern::anywhere(pattern).unwrap();
            let mut found = texts.clone();
            found.retain(|text| pattern.is_match(text.splitn(3, ' ').nth(2).unwrap()));
            let found = &found[found.len().saturating_sub(n)..];
            assert!(found[0].ends_with(&from.to_string()), "{found:?}");
            let wanted = Wanted { pattern: Some(pattern), ..wanted(n as u64) };
            assert_eq!(read(&mut Lines::open(std::slice::from_ref(&path), wanted)), found);
        }
        for (since, n) in [(at(39_000), 1_000), (at(0), 40_000), (at(40_000), 0)] {
            let wanted = Wanted { since: Some(since), ..wanted(u64::MAX) };
            assert_eq!(read(&mut Lines::open(std::slice::from_ref(&path), wanted)).len(), n);
        }
    }

    #[test]
    fn the_open_line_is_shown_as_it_is_or_followed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        append(&path, &format!("{} 0 whole\n{} 0 half", at(1), at(2)));
        let paths = [path.clone()];
        assert_eq!(read(&mut Lines::open(&paths, wanted(9))), ["0 0 whole", "0 0 half"]);
        let mut lines = Lines::open(&paths, Wanted { follow: true, ..wanted(1) });
        assert_eq!(read(&mut lines), ["0 0 whole"]);
        append(&path, " and half\n");
        assert_eq!(read(&mut lines), ["0 0 half and half"]);
        assert!(read(&mut lines).is_empty());
    }

    #[test]
    fn what_is_followed_over_two_rotations_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        append(&path, &format!("{} 0 0\n", at(0)));
        let mut lines =
            Lines::open(std::slice::from_ref(&path), Wanted { follow: true, ..wanted(9) });
        assert_eq!(read(&mut lines), ["0 0 0"]);
        for n in 1..10 {
            append(&path, &format!("{} 0 {n}\n", at(n)));
            if n == 2 || n == 5 {
                fs::rename(&path, rotated(&path)).unwrap();
            }
        }
        let expected: Vec<String> = (1..10).map(|n| format!("0 0 {n}")).collect();
        assert_eq!(read(&mut lines), expected);
        append(&path, &format!("{} 0 10\n", at(10)));
        assert_eq!(read(&mut lines), ["0 0 10"]);
    }
}
