//! `http = "/healthz"`.

use super::super::kinds::Kind;
use super::super::raw::Section;

pub(super) const KIND: Kind = Kind::new("http", &["http"]).through_listener();

pub(super) fn read(section: &Section<'_>) -> Option<String> {
    let path = section.text("http")?.value;
    if is_path(&path) {
        return Some(path);
    }
    let message = format!("{path:?} is not a path");
    let hint = match path.strip_prefix("https://") {
        // No part of this program speaks TLS.
        Some(rest) => format!(
            "for https write exec = [\"curl\", \"-fsS\", \"--interface\", \"{{probe_source}}\", \
             \"https://{rest}\"], with \"-k\" where its certificate is not to be verified"
        ),
        None => "write \"/healthz\"; the request goes to the first listener".to_owned(),
    };
    section.problem_with_hint("http", message, hint);
    None
}

/// Whether it can stand in a request as it is.
pub(in crate::config) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}
