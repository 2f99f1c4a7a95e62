//! Environment files: `KEY=VALUE` lines, `#` comments, quotes.
//!
//! A line is a name, `=`, and a value: bare (taken as it stands, spaces at the end cut), in single
//! quotes (taken literally) or in double quotes (`\n`, `\t`, `\"`, `\\`, `\$` are understood). No
//! variable is ever expanded and no line continues on the next. Messages never quote a value.

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
    /// The name was given in an earlier line.
    #[error("{name} is set twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A quote is opened and not closed in the same line.
    #[error("the quote is not closed in this line")]
    OpenQuote,
    /// Something other than a comment follows a closing quote.
    #[error("text after the closing quote")]
    AfterQuote,
    /// A backslash before a letter that means nothing there.
    #[error("unknown escape \\{letter} in double quotes")]
    BadEscape {
        /// The letter.
        letter: char,
    },
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

/// Reads a whole file: the variables, and for each bad line its number (from 1) and why.
#[must_use]
pub fn parse(text: &str) -> (BTreeMap<String, String>, Vec<(usize, LineError)>) {
    let mut vars = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match pair(line) {
            Ok((name, _)) if vars.contains_key(&name) => {
                errors.push((index + 1, LineError::Twice { name }));
            }
            Ok((name, value)) => {
                vars.insert(name, value);
            }
            Err(error) => errors.push((index + 1, error)),
        }
    }
    (vars, errors)
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

fn pair(line: &str) -> Result<(String, String), LineError> {
    let (name, value) = line.split_once('=').ok_or(LineError::NoEquals)?;
    let name = name.trim_end().to_owned();
    if !is_name(&name) {
        return Err(LineError::BadName);
    }
    if is_reserved(&name) {
        return Err(LineError::Reserved { name });
    }
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some('\'') => single_quoted(&value[1..])?,
        Some('"') => double_quoted(&value[1..])?,
        _ => value.to_owned(),
    };
    if value.contains('\0') { Err(LineError::Nul) } else { Ok((name, value)) }
}

fn single_quoted(text: &str) -> Result<String, LineError> {
    let (value, rest) = text.split_once('\'').ok_or(LineError::OpenQuote)?;
    nothing_more(rest)?;
    Ok(value.to_owned())
}

fn double_quoted(text: &str) -> Result<String, LineError> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or(LineError::OpenQuote)? {
            '"' => break,
            '\\' => value.push(match chars.next().ok_or(LineError::OpenQuote)? {
                'n' => '\n',
                't' => '\t',
                plain @ ('"' | '\\' | '$' | '`') => plain,
                letter => return Err(LineError::BadEscape { letter }),
            }),
            plain => value.push(plain),
        }
    }
    nothing_more(chars.as_str())?;
    Ok(value)
}

fn nothing_more(rest: &str) -> Result<(), LineError> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') { Ok(()) } else { Err(LineError::AfterQuote) }
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
            ("A='lit \\n $x'", "lit \\n $x"),
            ("A=\"two\\nlines\" # why", "two\nlines"),
            ("A=\"\\\"\\\\\\$\"", "\"\\$"),
            ("A=$HOME", "$HOME"),
        ] {
            let (vars, errors) = parse(line);
            assert_eq!(errors, [], "{line}");
            assert_eq!(vars["A"], value, "{line}");
        }
    }

    #[test]
    fn every_bad_line_is_named_and_the_good_ones_are_kept() {
        let text = "# comment\n\nGOOD=1\nnothing\nexport A=1\n=x\nGOOD=2\nB='open\nC=\"x\" y\n\
                    D=\"\\q\"\nHALLEY_RELEASE=7\n";
        let (vars, errors) = parse(text);
        assert_eq!(vars.into_iter().collect::<Vec<_>>(), [("GOOD".to_owned(), "1".to_owned())]);
        let expected = [
            (4, LineError::NoEquals),
            (5, LineError::BadName),
            (6, LineError::BadName),
            (7, LineError::Twice { name: "GOOD".to_owned() }),
            (8, LineError::OpenQuote),
            (9, LineError::AfterQuote),
            (10, LineError::BadEscape { letter: 'q' }),
            (11, LineError::Reserved { name: "HALLEY_RELEASE".to_owned() }),
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
