//! Environment files: `KEY=VALUE` lines, `#` comments, quotes.
//!
//! Read as systemd (`EnvironmentFile=`) and Docker (`env_file` of Compose) read them, where both agree; what
//! they read in two ways is an error with its line. A value is bare (taken as it stands, spaces at the end
//! cut), in single quotes (literal) or in double quotes (`\"`, `\\`, `\$`); a quoted one may have several
//! lines. No variable is ever expanded. Messages never quote a value.

use std::collections::BTreeMap;

/// What is wrong in a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There is no `=`.
    #[error("is not KEY=VALUE")]
    NoEquals,
    /// The name is empty or has spaces or control characters in it.
    #[error("bad name (not empty, no spaces; for `export A=1` write `A=1`)")]
    BadName,
    /// A quote is opened and never closed.
    #[error("the quote is not closed")]
    OpenQuote,
    /// Something follows a closing quote.
    #[error("text after the closing quote (a comment needs a line of its own)")]
    AfterQuote,
    /// A backslash that systemd and Docker read in two ways.
    #[error(
        "systemd and Docker read this backslash in two ways: write the value in single quotes, a line \
         break as one"
    )]
    Backslash,
    /// A `$` that one expands and the other does not.
    #[error("Docker expands $NAME here, and systemd does not: write the value in single quotes")]
    Dollar,
    /// A `#` that begins a comment for one, and not for the other.
    #[error(
        "\" #\" is a comment to Docker, and part of the value to systemd: write quotes around the value"
    )]
    Hash,
    /// Halley sets this variable itself.
    #[error("{name} is set by halley-sup for each process")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The value has a NUL in it, which no environment can carry.
    #[error("the value has a NUL character in it")]
    Nul,
}

/// Reads a whole file: the variables, and for each bad line its number (from 1) and why. Of a name that is
/// there twice the last one counts.
#[must_use]
pub fn parse(text: &str) -> (BTreeMap<String, String>, Vec<(usize, LineError)>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut vars = BTreeMap::new();
    let mut errors = Vec::new();
    let (mut rest, mut number) = (text.as_str(), 1);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let is_blank = line.trim().is_empty() || line.trim_start().starts_with('#');
        let (name, value, left) = match if is_blank { Ok(None) } else { pair(rest).map(Some) } {
            Ok(Some(read)) => read,
            Ok(None) => {
                (rest, number) = (after, number + 1);
                continue;
            }
            Err(error) => {
                errors.push((number, error));
                (rest, number) = (after, number + 1);
                continue;
            }
        };
        vars.insert(name, value);
        number += rest.len().checked_sub(left.len()).map_or(0, |n| lines_in(&rest[..n]));
        rest = left;
    }
    (vars, errors)
}

fn lines_in(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Whether a text can be the name of a variable: not empty, no `=`, no spaces or control characters.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control())
}

/// Whether Halley sets a variable itself, so that the configuration must not.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let exact = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
    name.starts_with("HALLEY_") || exact.contains(&name)
}

/// The variable that a text begins with, and what follows its last line.
fn pair(text: &str) -> Result<(String, String, &str), LineError> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let (name, value) = line.split_once('=').ok_or(LineError::NoEquals)?;
    let name = name.trim().to_owned();
    if !is_name(&name) {
        return Err(LineError::BadName);
    }
    if is_reserved(&name) {
        return Err(LineError::Reserved { name });
    }
    let bare = value.trim();
    let start = value.trim_start();
    let (value, after) = match start.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let at = line.len() - start.len();
            quoted(text.get(at + 1..).unwrap_or_default(), quote)?
        }
        _ if bare.contains('\\') => return Err(LineError::Backslash),
        _ if expands(bare) => return Err(LineError::Dollar),
        _ if bare.contains(" #") || bare.contains("\t#") => return Err(LineError::Hash),
        _ => (bare.to_owned(), after),
    };
    if value.contains('\0') { Err(LineError::Nul) } else { Ok((name, value, after)) }
}

/// Whether there is a `$` before something that has the form of a variable.
fn expands(text: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphanumeric() || "_{($".contains(c);
    text.split('$')
        .skip(1)
        .any(|after| after.starts_with(is_start) || after.is_empty() && text.contains("$$"))
}

/// What is in quotes, from behind the first one, and what follows the line of the last one.
fn quoted(text: &str, quote: char) -> Result<(String, &str), LineError> {
    let (mut value, mut chars) = (String::new(), text.chars());
    loop {
        match chars.next().ok_or(LineError::OpenQuote)? {
            end if end == quote => break,
            '\\' if quote == '"' => match chars.next().ok_or(LineError::OpenQuote)? {
                plain @ ('"' | '\\' | '$') => value.push(plain),
                _ => return Err(LineError::Backslash),
            },
            '$' if quote == '"'
                && expands(&format!("${}", chars.as_str().get(..1).unwrap_or(""))) =>
            {
                return Err(LineError::Dollar);
            }
            plain => value.push(plain),
        }
    }
    let (line, after) = chars.as_str().split_once('\n').unwrap_or((chars.as_str(), ""));
    if line.trim().is_empty() { Ok((value, after)) } else { Err(LineError::AfterQuote) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_stand_or_by_the_rules_of_their_quotes() {
        for (line, value) in [
            ("A=plain", "plain"),
            ("A=", ""),
            ("  A = spaced out  ", "spaced out"),
            ("A=a#b", "a#b"),
            ("A=x=y", "x=y"),
            ("A={\"a\": 1}", "{\"a\": 1}"),
            ("A=it's", "it's"),
            ("A=5$", "5$"),
            ("A='lit \\n $x'", "lit \\n $x"),
            ("A='two\n# lines'", "two\n# lines"),
            ("A=\"two\r\nlines\"  \r\nB=1\r\n", "two\nlines"),
            ("A=\"\\\"\\\\\\$\"", "\"\\$"),
            ("\u{feff}A=first", "first"),
            ("A=1\nA=2", "2"),
        ] {
            let (vars, errors) = parse(line);
            assert_eq!(errors, [], "{line}");
            assert_eq!(vars["A"], value, "{line}");
        }
    }

    #[test]
    fn every_bad_line_is_named_and_the_good_ones_are_kept() {
        let text = "# comment\n\nGOOD=1\nnothing\nexport A=1\n=x\nL='a\nb'\nC=\"x\" y\nD=\"\\q\"\n\
                    HALLEY_RELEASE=7\nE=$HOME\nF=\"${X}\"\nG=a\\b\nH=a # b\nI=\"x\" # why\nJ=a$$\nB='open\n";
        let (vars, errors) = parse(text);
        assert_eq!(vars.keys().collect::<Vec<_>>(), ["GOOD", "L"]);
        let expected = [
            (4, LineError::NoEquals),
            (5, LineError::BadName),
            (6, LineError::BadName),
            (9, LineError::AfterQuote),
            (10, LineError::Backslash),
            (11, LineError::Reserved { name: "HALLEY_RELEASE".to_owned() }),
            (12, LineError::Dollar),
            (13, LineError::Dollar),
            (14, LineError::Backslash),
            (15, LineError::Hash),
            (16, LineError::AfterQuote),
            (17, LineError::Dollar),
            (18, LineError::OpenQuote),
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn messages_keep_values_to_themselves() {
        for line in
            ["hunter2", "A='hunter2", "A=\"hunter2\" hunter2", "A=\"hunter2\\q\"", "A hunter2=="]
        {
            let (_, errors) = parse(line);
            assert!(!errors.is_empty(), "{line}");
            assert!(!errors[0].1.to_string().contains("hunter2"), "{line}");
        }
    }
}
