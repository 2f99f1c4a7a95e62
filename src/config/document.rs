//! A file of the configuration: its text, and its table.

use std::io::ErrorKind;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::files::Files;
use super::problem::{Problem, Report};

/// The table of a text. What is not TOML is reported, and the rest is read as far as possible.
pub(super) fn parse<'a>(text: &'a str, report: &Report<'_>) -> Spanned<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        report.add_syntax_error(&error.span().unwrap_or(0..0), error.message());
    }
    table
}

/// The text of a file.
pub(super) fn read(path: &Path, files: &Files) -> Result<String, Problem> {
    let bytes = files.read(path).map_err(|error| {
        let problem = Problem::of_file(path, error.to_string());
        match error.kind() {
            ErrorKind::NotFound => problem.hint("use another file with --config or HALLEY_CONFIG"),
            _ => problem,
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let n_good = error.utf8_error().valid_up_to();
        let n_lines = error.as_bytes()[..n_good].iter().filter(|&&byte| byte == b'\n').count();
        Problem { line: Some(n_lines + 1), ..Problem::of_file(path, "is not UTF-8") }
    })
}
