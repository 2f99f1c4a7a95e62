//! `kind = "nginx"`.

use std::path::PathBuf;

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::fields;

pub(super) const KIND: Kind = Kind::new("nginx", &["file", "test", "reload"]);

/// nginx: an include file with the servers of an upstream, tested, then reloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    /// The include file.
    pub file: PathBuf,
    /// The command that tests the configuration.
    pub test: Vec<String>,
    /// The command that reloads it.
    pub reload: Vec<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Nginx> {
    fields::require(section, KIND.name, &[("file", "\"/etc/nginx/halley/web.conf\"")]);
    let file = file(section);
    let test = command_or(section, "test", &["nginx", "-t"]);
    let reload = command_or(section, "reload", &["nginx", "-s", "reload"]);
    Some(Nginx { file: file?, test: test?, reload: reload? })
}

fn file(section: &Section<'_>) -> Option<PathBuf> {
    let text = section.text("file")?.value;
    let path = PathBuf::from(&text);
    if !path.is_absolute() || path.file_name().is_none() {
        let hint = "write \"/etc/nginx/halley/web.conf\"";
        section.problem_with_hint("file", format!("{text:?} is not an absolute path"), hint);
        return None;
    }
    Some(path)
}

fn command_or(section: &Section<'_>, key: &str, default: &[&str]) -> Option<Vec<String>> {
    if section.has(key) {
        return section.command(key);
    }
    Some(default.iter().map(|word| (*word).to_owned()).collect())
}
