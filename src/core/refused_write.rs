//! Where a program that is tried on a copy was not allowed to write, from what it says of it.

/// `EROFS` in the words of the C library.
const READ_ONLY: &str = "Read-only file system";

/// The directory of the first file that a program says it could not write.
#[must_use]
pub fn dir(said: &str) -> Option<&str> {
    let line = said.lines().find(|line| line.contains(READ_ONLY))?;
    let ends = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ':' | ',' | '(' | ')');
    let path = line.split(ends).find(|word| word.len() > 1 && word.starts_with('/'))?;
    let (dir, _) = path.rsplit_once('/')?;
    (!dir.is_empty()).then_some(dir)
}

/// Whether a program says that it could not write somewhere.
#[must_use]
pub fn is_said(said: &str) -> bool {
    said.contains(READ_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_in_what_programs_say() {
        let check = |said: &str, expected: Option<&str>| assert_eq!(dir(said), expected, "{said}");
        check(
            "x\nOSError: [Errno 30] Read-only file system: '/var/log/web/a.log'\n",
            Some("/var/log/web"),
        );
        check(
            "nginx: [emerg] open() \"/run/nginx.pid\" failed (30: Read-only file system)",
            Some("/run"),
        );
        check("touch: cannot touch '/srv/x': Read-only file system", Some("/srv"));
        check("Error: EROFS: Read-only file system, open '/top'", None);
        check("Read-only file system", None);
        check("/a/b: No such file", None);
    }
}
