//! The URL by which a service finds PostgreSQL.

use std::collections::BTreeMap;

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::percent::decoded;
use crate::supervisor::data::error::DataError;

/// The contents of a connection URL (libpq, 34.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) database: String,
    /// Variables that libpq reads.
    pub(super) env: BTreeMap<String, String>,
}

impl Url {
    /// The URL in this variable of the service.
    pub(super) fn of(context: &Context<'_>, url_env: &str) -> Done<Self> {
        let variable = url_env.to_owned();
        match context.settings.env.get(url_env).map(|text| Self::parse(text)) {
            Some(Some(url)) => Ok(url),
            Some(None) => Err(DataError::BadUrl { variable }),
            None => Err(DataError::NoUrl { variable }),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = after_scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/')?;
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (host, ""),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut env = BTreeMap::new();
        let named =
            [("PGUSER", user), ("PGPASSWORD", password), ("PGHOST", host), ("PGPORT", port)];
        for (name, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
            env.insert(name.to_owned(), decoded(value)?);
        }
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let name = match key {
                "host" => "PGHOST",
                "port" => "PGPORT",
                "user" => "PGUSER",
                "password" => "PGPASSWORD",
                "sslmode" => "PGSSLMODE",
                "sslrootcert" => "PGSSLROOTCERT",
                "sslcert" => "PGSSLCERT",
                "sslkey" => "PGSSLKEY",
                _ => continue,
            };
            env.insert(name.to_owned(), decoded(value)?);
        }
        let database = decoded(database)?;
        (!database.is_empty()).then_some(Self { database, env })
    }

    /// Whether both URLs name the same database, for any user.
    pub(super) fn is_same_database(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            let get = |name: &str| url.env.get(name).cloned();
            (get("PGHOST"), get("PGPORT").unwrap_or_else(|| "5432".to_owned()))
        };
        self.database == other.database && place(self) == place(other)
    }

    /// Variables for a tool that is to work on this database.
    /// A database of the server that is not the service's.
    pub(super) fn maintenance(&self) -> &'static str {
        if self.database == "postgres" { "template1" } else { "postgres" }
    }

    pub(super) fn env(&self, database: &str) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        env.insert("PGDATABASE".to_owned(), database.to_owned());
        env.into_iter().collect()
    }
}

fn after_scheme(text: &str) -> Option<&str> {
    // SQLAlchemy and its like name their driver behind a plus.
    let (scheme, rest) = text.split_once("://")?;
    let plain = scheme.split('+').next()?;
    matches!(plain, "postgres" | "postgresql").then_some(rest)
}

/// The URL of another database on the same server.
pub(super) fn with_database(text: &str, database: &str) -> Option<String> {
    let rest = after_scheme(text)?;
    let before = &text[..text.len() - rest.len()];
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
    let (authority, _) = rest.split_once('/')?;
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    Some(format!("{before}{authority}/{database}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, database: &str, expected: &[(&str, &str)]) {
        let url = Url::parse(text).unwrap();
        let env: Vec<_> = url.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!((url.database.as_str(), env.as_slice()), (database, expected));
    }

    #[test]
    fn a_url_says_where_the_server_is_and_who_asks() {
        check(
            "postgres://web:p%40ss@db.lan:6432/app?sslmode=require",
            "app",
            &[
                ("PGHOST", "db.lan"),
                ("PGPASSWORD", "p@ss"),
                ("PGPORT", "6432"),
                ("PGSSLMODE", "require"),
                ("PGUSER", "web"),
            ],
        );
        check("postgresql+psycopg://u@[::1]/app", "app", &[("PGHOST", "::1"), ("PGUSER", "u")]);
        check("postgres:///app?host=/run/pg", "app", &[("PGHOST", "/run/pg")]);
        for bad in ["mysql://a/b", "postgres://a", "postgres://a/", "app", "postgres://a/%f"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_copy_is_another_database_of_the_same_server() {
        assert_eq!(
            with_database("postgres://u:p@h:1/app?x=y", "copy").unwrap(),
            "postgres://u:p@h:1/copy?x=y"
        );
    }
}
