//! `driver = "postgres"`.

use super::super::kinds::Kind;
use super::super::raw::Section;

pub(super) const KIND: Kind = Kind::new("postgres", &["url_env", "query"]);

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The variable of the service's environment that holds its URL.
    pub url_env: String,
    /// Must say something on a restored copy.
    pub query: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Postgres> {
    let query = section.text("query").map(|found| found.value);
    Some(Postgres { url_env: variable(section)?, query })
}

fn variable(section: &Section<'_>) -> Option<String> {
    if !section.has("url_env") {
        let hint = "name the variable that holds the URL: \"DATABASE_URL\"";
        section.problem_with_hint("url_env", "is missing", hint);
    }
    let name = section.text("url_env")?.value;
    if name.contains("://") {
        let hint = "write the name of a variable here, and the URL into env_file";
        section.problem_with_hint("url_env", "is a URL, and the configuration is not secret", hint);
        return None;
    }
    Some(name)
}
