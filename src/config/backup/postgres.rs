//! `driver = "postgres"`.

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::variable;

pub(super) const KIND: Kind = Kind::new("postgres", &["url_env", "template", "query"]);

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The variable of the service's environment that holds its URL.
    pub url_env: String,
    /// The database from which copies are made; it has extensions that the service's role cannot make.
    pub template: Option<String>,
    /// Must say something on a restored copy.
    pub query: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Postgres> {
    let query = section.text("query").map(|found| found.value);
    let template = section.text("template").map(|found| found.value);
    Some(Postgres { url_env: variable::read(section, "url_env", "DATABASE_URL")?, template, query })
}
