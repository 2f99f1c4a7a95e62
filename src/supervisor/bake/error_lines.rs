//! Error lines in the log of a watched release, compared with their rate limit and the old release.
//!
//! A release that serves no more writes little: the comparison also uses what it wrote before the
//! operation began. The log has that, so a supervisor that starts after a crash knows it too.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use crate::config::bake::ErrorLines;
use crate::config::{duration, rate};
use crate::core::analysis::rate::Window;
use crate::core::health::Sample;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::bake::finding::{Finding, Stage};
use crate::supervisor::processes::log_files::Follow;

/// How much is read in one pass. A program that floods its log delays no other work; what lies
/// beyond is not counted.
const LOOK_BYTES_MAX: usize = 1024 * 1024;
/// What is read of an older log.
const BEFORE_BYTES_MAX: u64 = 1024 * 1024;

/// The error lines of a release, and of the release that runs beside it.
#[derive(Debug)]
pub(crate) struct Lines {
    wanted: ErrorLines,
    own: Log,
    beside: Option<Log>,
    before: Option<Before>,
}

#[derive(Debug)]
struct Log {
    follow: Follow,
    window: Window,
    n_in_window: u64,
    n_seen: u64,
}

/// What the old one wrote before the operation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    /// So many error lines.
    pub n: u64,
    /// In so long.
    pub span_ms: u64,
}

impl Lines {
    /// Begins at the end of both logs.
    pub(crate) fn new(
        wanted: &ErrorLines,
        own: &Path,
        beside: Option<&Path>,
        before: Option<Before>,
    ) -> Self {
        let log = |path: &Path| Log {
            follow: Follow::from_end(path),
            window: Window::new(wanted.max_rate),
            n_in_window: 0,
            n_seen: 0,
        };
        Self { own: log(own), beside: beside.map(log), before, wanted: wanted.clone() }
    }

    /// Reads what was written since; in the warm-up it is counted and not judged.
    pub(crate) fn look(&mut self, now: Tick, stage: Stage) -> Option<Finding> {
        let judged = stage == Stage::Judged;
        let wanted = &self.wanted;
        for log in std::iter::once(&mut self.own).chain(&mut self.beside) {
            let mut left = LOOK_BYTES_MAX;
            let mut n = 0;
            loop {
                let lines = log.follow.next_lines();
                if lines.is_empty() {
                    break;
                }
                let looked_at = lines.iter().take_while(|line| {
                    let is_within = left > 0;
                    left = left.saturating_sub(line.len());
                    is_within
                });
                n += looked_at.filter(|line| is_error(line, wanted)).count();
            }
            log.n_seen += n as u64;
            log.n_in_window = log.window.add(now, if judged { n as u64 } else { 0 });
        }
        judged.then(|| self.judge())
    }

    fn judge(&self) -> Finding {
        let rate = self.wanted.max_rate;
        let n = self.own.n_in_window;
        if n <= u64::from(rate.n) {
            return Finding::good();
        }
        let before = self.before.is_some_and(|before| rate.is_passed(before.n, before.span_ms));
        let beside = self.beside.as_ref().map_or(0, |log| log.n_in_window);
        let is_same = before || beside > u64::from(rate.n);
        let per = |ms: u64| duration::print(Duration::from_millis(ms));
        let mut text = format!("{n} in {}, limit {}", per(rate.per_ms), rate::print(rate));
        if let Some(Before { n, span_ms }) = self.before {
            text.push_str(&format!("; the old release {n} in {} before", per(span_ms)));
        }
        if self.beside.is_some() {
            text.push_str(&format!(", {beside} beside it"));
        }
        Finding::new(if is_same { Sample::Unclear } else { Sample::Bad }, text)
    }

    /// Error lines so far: its own, and those of the release that runs beside it.
    pub(crate) fn n_seen(&self) -> (u64, u64) {
        (self.own.n_seen, self.beside.as_ref().map_or(0, |log| log.n_seen))
    }
}

/// Counts the error lines of a log in a span of time that ended at `until` (RFC 3339); nothing when
/// it cannot be read.
pub(crate) fn before(
    path: &Path,
    wanted: &ErrorLines,
    until: &str,
    span_ms: u64,
) -> Option<Before> {
    let from = clock::earlier(until, span_ms)?;
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(BEFORE_BYTES_MAX))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The operation's time is known to the second, so all of that second counts.
    let until = format!("{}~", until.trim_end_matches('Z'));
    let in_span = |line: &&str| {
        let at = line.split(' ').next().unwrap_or_default();
        from.as_str() <= at && at < until.as_str()
    };
    let lines = text.lines().filter(in_span);
    let n = lines.filter(|line| is_error(line, wanted)).count();
    Some(Before { n: n as u64, span_ms })
}

/// A line of the log is its time, its instance, its text; lines that Halley itself writes are not
/// counted as the program's.
fn is_error(line: &str, wanted: &ErrorLines) -> bool {
    let text = line.splitn(3, ' ').nth(2).unwrap_or_default();
    !text.starts_with("halley: ") && wanted.pattern.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Full;
    use crate::config::pattern::Pattern;
    use crate::core::analysis::rate::Rate;
    use crate::core::ids::ReleaseId;
    use crate::supervisor::processes::log_files::LogFiles;

    fn wanted() -> ErrorLines {
        let max_rate = Rate { n: 2, per_ms: 1000 };
        ErrorLines { pattern: Pattern::anywhere("ERROR").unwrap(), max_rate }
    }

    fn write(logs: &LogFiles, release: u64, n: usize) {
        let writer = logs.writer(ReleaseId(release));
        for _ in 0..n {
            writer.borrow_mut().append(0, b"an ERROR\nfine\nhalley: no ERROR of the program's\n");
        }
    }

    /// Error lines of the new one, the old one beside it, and the old one before.
    fn check(own: usize, beside: usize, before: Option<u64>, expected: Sample) {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogFiles::new(dir.path().to_owned(), Full::Drop);
        let (new, old) = (logs.path(ReleaseId(2)), logs.path(ReleaseId(1)));
        let before = before.map(|n| Before { n, span_ms: 1000 });
        let mut lines = Lines::new(&wanted(), &new, Some(&old), before);
        write(&logs, 2, 5);
        assert_eq!(lines.look(Tick(0), Stage::WarmUp), None, "the warm-up is not judged");
        write(&logs, 2, own);
        write(&logs, 1, beside);
        let found = lines.look(Tick(10), Stage::Judged).unwrap();
        assert_eq!(found.sample, expected, "{own} {beside} {before:?}: {}", found.why);
        assert_eq!(lines.n_seen(), (5 + own as u64, beside as u64));
    }

    #[test]
    fn lines_beyond_the_rate_are_bad_unless_the_old_one_has_them_too() {
        check(0, 0, None, Sample::Good);
        check(2, 0, Some(0), Sample::Good);
        check(3, 0, Some(0), Sample::Bad);
        check(3, 2, Some(2), Sample::Bad);
        check(3, 3, Some(0), Sample::Unclear);
        check(3, 0, Some(3), Sample::Unclear);
    }

    #[test]
    fn what_was_written_before_is_counted_in_its_span_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let text = "2026-11-23T11:59:49.999Z 0 ERROR too old\n\
                    2026-11-23T11:59:50.001Z 0 ERROR in it\n\
                    2026-11-23T11:59:51.000Z 1 fine\n\
                    2026-11-23T11:59:59.000Z 1 ERROR in it\n\
                    2026-11-23T12:00:00.999Z 1 ERROR in it\n\
                    2026-11-23T12:00:01.000Z 0 ERROR too new\n";
        std::fs::write(&path, text).unwrap();
        let counted = before(&path, &wanted(), "2026-11-23T12:00:00Z", 10_000);
        assert_eq!(counted, Some(Before { n: 3, span_ms: 10_000 }));
        assert_eq!(before(&dir.path().join("none"), &wanted(), "2026-11-23T12:00:00Z", 1), None);
    }
}
