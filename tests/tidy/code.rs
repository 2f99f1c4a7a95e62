//! Rust text without its comments and the insides of its strings, so that a rule about code does
//! not stumble over prose. Lines stay where they were.

/// The code of a file.
pub struct Code(String);

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub n_lines: usize,
}

impl Code {
    pub fn of(text: &str) -> Self {
        let mut code = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let n_bytes = blank_length(rest);
            let (taken, next) = rest.split_at(n_bytes.unwrap_or(first.len_utf8()));
            match n_bytes {
                Some(_) => code.extend(taken.chars().filter(|c| *c == '\n').chain([' '])),
                None => code.push(first),
            }
            // A name is taken whole, so that its last letter is not read as a prefix of a string.
            let n_name =
                if first.is_alphanumeric() || first == '_' { name_length(next) } else { 0 };
            let opens_string =
                next[n_name..].starts_with(['"', '#']) && is_prefix(first, &next[..n_name]);
            let n_name = if opens_string { 0 } else { n_name };
            code.push_str(&next[..n_name]);
            rest = &next[n_name..];
        }
        Self(code)
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// The lines on which a word stands as a whole word.
    pub fn words_found(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for (index, line) in self.0.lines().enumerate() {
            let here = words.iter().filter(|word| has_word(line, word));
            found.extend(here.map(|word| format!("{}: {word} has no place here", index + 1)));
        }
        found
    }

    /// Every function with a body, to its closing brace.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (at, _) in self.0.match_indices("fn ") {
            if at > 0 && is_name_char(self.0[..at].chars().next_back().unwrap_or(' ')) {
                continue;
            }
            let rest = &self.0[at + 3..];
            let n_name = name_length(rest);
            if let (true, Some(n_bytes)) = (n_name > 0, body_length(rest)) {
                functions.push(Function {
                    name: rest[..n_name].to_owned(),
                    line: self.0[..at].matches('\n').count() + 1,
                    n_lines: rest[..n_bytes].lines().count(),
                });
            }
        }
        functions
    }
}

/// The insides of the strings of a text, as they are written, each with its line. A line break that
/// is escaped joins its parts.
pub fn literals(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let n_bytes = blank_length(rest);
        let (taken, next) = rest.split_at(n_bytes.unwrap_or(first.len_utf8()));
        let is_string = n_bytes.is_some() && !taken.starts_with(['/', '\'']);
        if is_string && let (Some(from), Some(to)) = (taken.find('"'), taken.rfind('"')) {
            let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
            let parts = taken[from + 1..to.max(from + 1)].split("\\\n");
            let inside = parts.enumerate();
            let inside = inside.map(|(n, part)| if n == 0 { part } else { part.trim_start() });
            found.push((line, inside.collect()));
        }
        // A name is taken whole, so that its last letter is not read as a prefix of a string.
        let n_name = if first.is_alphanumeric() || first == '_' { name_length(next) } else { 0 };
        let opens_string =
            next[n_name..].starts_with(['"', '#']) && is_prefix(first, &next[..n_name]);
        rest = &next[if opens_string { 0 } else { n_name }..];
    }
    found
}

/// Whether `word` stands in `line` with nothing of a name on either side.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_name_char) && !after.is_some_and(is_name_char)
    })
}

pub fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub fn name_length(text: &str) -> usize {
    text.find(|c| !is_name_char(c)).unwrap_or(text.len())
}

/// Bytes up to the brace that closes the first one opened; none when a `;` comes first, as in a
/// trait or a type.
fn body_length(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut n_round = 0_i32;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => n_round += 1,
            ')' | ']' => n_round -= 1,
            ';' if depth == 0 && n_round == 0 => return None,
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(at + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Length of the comment, string or character that `text` begins with.
fn blank_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |at| at + 2));
    }
    if text.starts_with('\'') {
        return char_length(text);
    }
    let after_prefix = text.trim_start_matches(['b', 'c']);
    let n_prefix = text.len() - after_prefix.len();
    if n_prefix > 1 {
        return None;
    }
    if let Some(raw) = after_prefix.strip_prefix('r') {
        let n_hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[n_hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(n_hashes));
        let n_inside = inside.find(&close)? + close.len();
        return Some(n_prefix + 1 + n_hashes + 1 + n_inside);
    }
    let inside = after_prefix.strip_prefix('"')?;
    Some(n_prefix + 1 + closing_quote(inside))
}

/// Length up to and with the quote that closes a string.
fn closing_quote(inside: &str) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

/// `'a'`, `'\n'`, `'\''`; a lifetime is none.
fn char_length(text: &str) -> Option<usize> {
    let mut inside = text[1..].char_indices();
    let (_, first) = inside.next()?;
    if first == '\\' {
        inside.next()?;
        let close = text[1..].char_indices().skip(2).find(|(_, c)| *c == '\'')?;
        return Some(close.0 + 2);
    }
    let (at, second) = inside.next()?;
    (second == '\'').then_some(at + 2)
}

fn is_prefix(first: char, rest: &str) -> bool {
    matches!((first, rest), ('r' | 'b' | 'c', "") | ('b' | 'c', "r"))
}

#[test]
fn comments_and_insides_of_strings_are_not_code() {
    for (text, gone) in [
        ("a // unsafe\nb", "a  \nb"),
        ("a /* unsafe\n */ b", "a \n  b"),
        ("a \"unsafe \\\" x\" b", "a   b"),
        ("a r#\"un\"safe\"# b", "a   b"),
        ("a b\"x\" br\"y\" b", "a     b"),
        ("for \"x\" b", "for   b"),
        ("'a: loop { '\"' '\\'' '\\u{1}' }", "'a: loop {       }"),
        ("&'a str // x", "&'a str  "),
    ] {
        assert_eq!(Code::of(text).text(), gone, "{text}");
    }
}

#[test]
fn words_are_whole_words() {
    let code = Code::of("let not_unsafe = 1;\nunsafe { x }\n// unsafe");
    assert_eq!(code.words_found(&["unsafe"]), ["2: unsafe has no place here"]);
}

#[test]
fn functions_are_measured_to_their_closing_brace() {
    let code = Code::of(
        "trait T { fn no(x: [u8; 2]); }\nfn one(a: [u8; 3]) {\n  if x { }\n}\nfn two() {}",
    );
    let found: Vec<_> =
        code.functions().iter().map(|f| (f.name.clone(), f.line, f.n_lines)).collect();
    assert_eq!(found, [("one".to_owned(), 2, 3), ("two".to_owned(), 5, 1)]);
}
