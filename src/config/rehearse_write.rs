//! Where a program may write when it is tried out on a copy of the data: `rehearse_write`.

use std::path::{Component, Path, PathBuf};

use super::raw::Section;

/// The key.
pub const KEY: &str = "rehearse_write";
const HINT: &str = "write a list of directories, [\"/var/log/web\"]";

/// Directories; what is written to them is thrown away.
pub(super) fn read(section: &Section<'_>) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for text in section.texts(KEY).unwrap_or_default() {
        match dir(&text.value) {
            Some(dir) => dirs.push(dir),
            None => {
                let message = format!("{:?} is not the absolute path of a directory", text.value);
                section.report().add_with_hint(text.line, &section.path(KEY), message, HINT);
            }
        }
    }
    dirs
}

/// All of the file system is no directory of a program's own.
fn dir(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let is_dir = path.is_absolute() && path.components().all(is_plain) && path.parent().is_some();
    is_dir.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (Vec<PathBuf>, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let value = read(&Section::free("", &(0..0), table.get_ref(), &report));
        (value, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn directories_are_absolute() {
        let (dirs, problems) = check("rehearse_write = [\"/var/log/web\", \"/run/web/\"]");
        assert_eq!(problems, [""; 0]);
        assert_eq!(dirs, [PathBuf::from("/var/log/web"), PathBuf::from("/run/web")]);
        for text in ["", "/", "log", "./log", "/var/../etc"] {
            let (dirs, problems) = check(&format!("\nrehearse_write = [{text:?}]"));
            assert!(dirs.is_empty());
            let expected = format!("t.toml:2: rehearse_write: {text:?} is not the absolute path");
            assert!(problems[0].starts_with(&expected), "{problems:?}");
        }
    }
}
