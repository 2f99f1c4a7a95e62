//! The name of a variable that holds a URL: the configuration is not secret.

use super::super::raw::Section;

/// The variable's name at this key, which is required.
pub(super) fn read(section: &Section<'_>, key: &str, example: &str) -> Option<String> {
    if !section.has(key) {
        let hint = format!("name the variable that holds the URL: {example:?}");
        section.problem_with_hint(key, "is missing", hint);
    }
    let name = section.text(key)?.value;
    if name.contains("://") {
        let hint = "write the name of a variable here, and the URL into env_file";
        section.problem_with_hint(key, "is a URL, and the configuration is not secret", hint);
        return None;
    }
    Some(name)
}
