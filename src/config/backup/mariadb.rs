//! `driver = "mariadb"`.

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::variable;

pub(super) const KIND: Kind = Kind::new("mariadb", &["url_env", "rehearse_url_env", "query"]);

/// A MariaDB or MySQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MariaDb {
    /// The variable of the service's environment that holds its URL.
    pub url_env: String,
    /// The one with the URL of a user that may work on copies alone.
    pub rehearse_url_env: String,
    /// Must say something on a restored copy.
    pub query: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<MariaDb> {
    let query = section.text("query").map(|found| found.value);
    let url_env = variable::read(section, "url_env", "DATABASE_URL");
    let rehearse_url_env = variable::read(section, "rehearse_url_env", "REHEARSAL_DATABASE_URL");
    Some(MariaDb { url_env: url_env?, rehearse_url_env: rehearse_url_env?, query })
}
