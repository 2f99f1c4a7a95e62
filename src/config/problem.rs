//! What is wrong with a configuration, and where.
//!
//! Problems are collected; reading does not stop at the first, so that all can be fixed at once.
//! A problem never quotes a value of `env` or of an `env_file`, which may be a secret.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::core::ordered;

use super::files::Files;

/// One thing that is wrong: `halley.toml:12: service.web.health.intervall: unknown key; did you
/// mean interval?`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file it is in.
    pub file: PathBuf,
    /// The line, from 1; none when it is about the file as a whole.
    pub line: Option<usize>,
    /// The key, dotted from the top; none when it is not about a key.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole.
    #[must_use]
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { file: file.to_owned(), line: None, key: None, message, hint: None }
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The keys of every section, by the section's name.
pub(super) type Sections = &'static [(&'static str, &'static [&'static str])];

/// Who has more wrong than that begins with these.
const N_PROBLEMS_MAX: usize = 50;
/// Of a text that is named, for people.
const N_CHARS_MAX: usize = 200;

/// The problems of one file while it is read.
pub(super) struct Report<'a> {
    file: &'a Path,
    /// Where each line ends but the last.
    ends: Vec<usize>,
    files: Option<&'a Files>,
    sections: Sections,
    problems: RefCell<Vec<Problem>>,
    syntax_errors: RefCell<Vec<Problem>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, source: &str) -> Self {
        let (problems, syntax_errors) = (RefCell::default(), RefCell::default());
        let ends = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let ends = ends.map(|(at, _)| at).collect();
        Self { file, ends, files: None, sections: &[], problems, syntax_errors }
    }

    /// The same, for a file of these sections: a key in the wrong one is answered with the right one.
    pub(super) fn of_sections(self, sections: Sections) -> Self {
        Self { sections, ..self }
    }

    /// The same, for one that may name other files of its configuration.
    pub(super) fn beside(self, files: &'a Files) -> Self {
        Self { files: Some(files), ..self }
    }

    /// A file that it names.
    pub(super) fn read(&self, path: &Path) -> io::Result<String> {
        let alone = Files::default();
        let bytes = self.files.unwrap_or(&alone).read_named(path)?;
        String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))
    }

    pub(super) fn sections(&self) -> Sections {
        self.sections
    }

    /// The line, from 1, that a span begins in.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.ends.partition_point(|end| *end < span.start)
    }

    pub(super) fn add(&self, line: usize, key: &str, message: impl Into<String>) {
        self.push(self.problem(line, key, message));
    }

    pub(super) fn add_with_hint(
        &self,
        line: usize,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(self.problem(line, key, message).hint(hint));
    }

    pub(super) fn push(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < N_PROBLEMS_MAX {
            problems.push(problem);
        }
    }

    pub(super) fn problem(&self, line: usize, key: &str, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: Some(line),
            key: (!key.is_empty()).then(|| cut(key.to_owned())),
            message: cut(message.into()),
            hint: None,
        }
    }

    /// Something that is not TOML.
    pub(super) fn add_syntax_error(&self, span: &Range<usize>, message: &str) {
        let mut errors = self.syntax_errors.borrow_mut();
        if errors.len() < N_PROBLEMS_MAX {
            errors.push(self.problem(self.line(span), "", message));
        }
    }

    pub(super) fn has_syntax_errors(&self) -> bool {
        !self.syntax_errors.borrow().is_empty()
    }

    /// All problems, by line. A line that is not TOML has no other problem: what was read there
    /// is a guess. Of adjoining lines that are not TOML only the first is reported: a bracket
    /// left open makes nonsense of what follows.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.syntax_errors.into_inner();
        by_line(&mut problems);
        let broken: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
        let follows = |line: &Option<usize>| {
            line.is_some_and(|line| broken.binary_search(&(line - 1)).is_ok())
        };
        problems.retain(|problem| !follows(&problem.line));
        problems.dedup_by_key(|problem| problem.line);
        let others = self.problems.into_inner().into_iter();
        let sound =
            |line: &Option<usize>| line.is_none_or(|line| broken.binary_search(&line).is_err());
        problems.extend(others.filter(|problem| sound(&problem.line)));
        by_line(&mut problems);
        problems
    }
}

fn by_line(problems: &mut [Problem]) {
    ordered::sort(problems, |a, b| a.line < b.line);
}

/// A text that is not too long.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(N_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_file_line_key_and_what_to_do() {
        let report = Report::new(Path::new("halley.toml"), "a\nb\nc");
        let line = report.line(&(4..5));
        let problem = report.problem(line, "service.web.usr", "unknown key");
        assert_eq!(problem.to_string(), "halley.toml:3: service.web.usr: unknown key");
        let problem = problem.hint("did you mean user?");
        assert!(problem.to_string().ends_with("unknown key; did you mean user?"), "{problem}");
        let whole = Problem::of_file(Path::new("a.toml"), "is not UTF-8");
        assert_eq!(whole.to_string(), "a.toml: is not UTF-8");
    }

    #[test]
    fn a_span_past_the_end_is_the_last_line() {
        assert_eq!(Report::new(Path::new("x"), "a\nb").line(&(99..100)), 2);
    }

    #[test]
    fn a_file_that_is_all_wrong_is_answered_with_its_first_problems() {
        let source = "=\n".repeat(100_000);
        let report = Report::new(Path::new("x"), &source);
        for n in 0..source.len() {
            report.add_syntax_error(&(n..n), &"m".repeat(1000));
            report.add(report.line(&(n..n)), "k", "");
        }
        let problems = report.into_problems();
        assert!(problems.len() <= 2 * N_PROBLEMS_MAX, "{}", problems.len());
        assert!(problems.iter().all(|problem| problem.to_string().len() < 300));
    }
}
