//! The URL by which a service finds MariaDB or MySQL.

use std::path::PathBuf;

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::percent::{decoded, encoded};
use crate::supervisor::data::error::DataError;

const PORT: u16 = 3306;
/// What drivers call the same, without case, `-` and `_`.
const SOCKET_KEYS: [&str; 2] = ["socket", "unixsocket"];
const TLS_KEYS: [&str; 4] = ["sslmode", "ssl", "tls", "usessl"];
const CA_KEYS: [&str; 2] = ["sslca", "servertlscert"];
/// What is no demand for TLS.
const NO_TLS: [&str; 6] = ["", "0", "false", "disabled", "disable", "preferred"];
/// Demands that the server's certificate is looked at.
const VERIFYING: [&str; 4] = ["verifyca", "verifyidentity", "verifyfull", "true"];

/// The contents of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) user: String,
    pub(super) password: String,
    /// Empty when the server is at a socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: String,
    /// How the tools are to encrypt.
    tls: Vec<String>,
}

impl Url {
    /// The URL in this variable of the service.
    pub(super) fn of(context: &Context<'_>, url_env: &str) -> Done<Self> {
        let variable = url_env.to_owned();
        match context.settings.env.get(url_env).map(|text| Self::parse(text)) {
            Some(Some(url)) => Ok(url),
            Some(None) => Err(DataError::BadMariaDbUrl { variable }),
            None => Err(DataError::NoUrl { variable }),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts = Parts::of(text)?;
        let (user, password) = parts.login.unwrap_or_default();
        let (host, port) = match parts.host.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && !port.ends_with(']') => {
                (host, port.parse().ok()?)
            }
            _ => (parts.host, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut url = Self {
            user: decoded(user)?,
            password: decoded(password)?,
            host: decoded(&host)?,
            port,
            socket: None,
            database: decoded(parts.database)?,
            tls: Vec::new(),
        };
        for (key, value) in parts.query.split('&').filter_map(|pair| pair.split_once('=')) {
            let (key, value) = (plain(key), decoded(value)?);
            match key.as_str() {
                "user" => url.user = value,
                "password" => url.password = value,
                key if SOCKET_KEYS.contains(&key) => url.socket = Some(value.into()),
                key if CA_KEYS.contains(&key) => url.tls.push(format!("--ssl-ca={value}")),
                key if TLS_KEYS.contains(&key) && !NO_TLS.contains(&plain(&value).as_str()) => {
                    url.tls.push("--ssl".to_owned());
                    if key == "sslmode" && VERIFYING.contains(&plain(&value).as_str()) {
                        url.tls.push("--ssl-verify-server-cert".to_owned());
                    }
                }
                _ => {}
            }
        }
        (!url.user.is_empty()).then_some(url)
    }

    /// The same login, at another address.
    pub(super) fn at(&self, host: String, port: u16, socket: Option<PathBuf>) -> Self {
        Self { host, port, socket, tls: Vec::new(), ..self.clone() }
    }

    /// The same server, as another user.
    pub(super) fn with_login_of(&self, other: &Self) -> Self {
        let (user, password) = (other.user.clone(), other.password.clone());
        Self { user, password, ..self.clone() }
    }

    /// Whether both name the same database of the same server.
    fn is_same_database(&self, other: &Self) -> bool {
        let place = |url: &Self| (url.host.clone(), url.port, url.socket.clone());
        self.database == other.database && place(self) == place(other)
    }

    /// The first arguments of a tool. Nothing is read from a file, and nothing of this is a secret.
    pub(super) fn args(&self, tool: &str) -> Vec<String> {
        let mut args = vec![tool.to_owned(), "--no-defaults".to_owned()];
        match &self.socket {
            Some(socket) => args.push(format!("--socket={}", socket.display())),
            None if self.host.is_empty() => {}
            None => {
                args.push("--protocol=tcp".to_owned());
                args.push(format!("--host={}", self.host));
                args.push(format!("--port={}", self.port));
            }
        }
        args.push(format!("--user={}", self.user));
        args.push("--default-character-set=utf8mb4".to_owned());
        args.push("--max-allowed-packet=1G".to_owned());
        args.extend(self.tls.iter().cloned());
        args
    }

    /// The secret, for a tool.
    pub(super) fn env(&self) -> Vec<(String, String)> {
        vec![("MYSQL_PWD".to_owned(), self.password.clone())]
    }
}

/// A variable's value for a program that works on a copy, where it names the live database.
pub(super) fn copied(text: &str, live: &Url, copy: &Url, database: &str) -> Option<String> {
    if !Url::parse(text).is_some_and(|url| url.is_same_database(live)) {
        return None;
    }
    let parts = Parts::of(text)?;
    let (user, password) = (encoded(&copy.user), encoded(&copy.password));
    let mut query: Vec<String> = Vec::new();
    for pair in parts.query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("user", _)) => query.push(format!("user={user}")),
            Some(("password", _)) => query.push(format!("password={password}")),
            _ => query.push(pair.to_owned()),
        }
    }
    let login = parts.login.map(|_| format!("{user}:{password}@")).unwrap_or_default();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    Some(format!("{}://{login}{}/{}{query}", parts.scheme, parts.host, encoded(database)))
}

/// Pieces of a URL, still encoded.
struct Parts<'a> {
    scheme: &'a str,
    login: Option<(&'a str, &'a str)>,
    host: &'a str,
    database: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // SQLAlchemy and its like name their driver behind a plus.
        let kind = scheme.strip_prefix("jdbc:").unwrap_or(scheme).split('+').next()?;
        if !matches!(kind, "mysql" | "mariadb" | "mysql2") {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.split_once(':').unwrap_or((login, ""))), host),
            None => (None, authority),
        };
        Some(Self { scheme, login, host, database, query })
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, login: &str, host: &str, port: u16, database: &str) {
        let url = Url::parse(text).unwrap();
        assert_eq!(format!("{}:{}", url.user, url.password), login, "{text}");
        assert_eq!((url.host.as_str(), url.port, url.database.as_str()), (host, port, database));
    }

    #[test]
    fn a_url_says_where_the_server_is_and_who_asks() {
        check("mysql://web:p%40ss@db.lan:3307/app", "web:p@ss", "db.lan", 3307, "app");
        check("mysql+pymysql://web@[::1]/app?charset=utf8", "web:", "::1", 3306, "app");
        check("mariadb://web@[::1]:1/app", "web:", "::1", 1, "app");
        check("jdbc:mysql://db/app?user=web&password=p%26", "web:p&", "db", 3306, "app");
        check("mysql2://web:p@db", "web:p", "db", 3306, "");
        for bad in
            ["postgres://a@b/c", "mysql://db/app", "app", "mysql://a:%f@b/c", "mysql://a@b:x/c"]
        {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
        let url =
            Url::parse("mysql://web@/app?unix_socket=/run/db.sock&ssl-mode=VERIFY_CA").unwrap();
        assert_eq!(url.socket, Some("/run/db.sock".into()));
        assert_eq!(url.tls, ["--ssl", "--ssl-verify-server-cert"]);
        let url = Url::parse("mysql://web:s3cret@db/app?ssl-mode=DISABLED").unwrap();
        assert_eq!(url.tls, [""; 0]);
        assert!(!url.args("mariadb").iter().any(|arg| arg.contains("s3cret")));
    }

    #[test]
    fn a_variable_leads_to_the_copy_as_the_user_of_copies() {
        let live = Url::parse("mysql://web:pw@db/app").unwrap();
        let copy = Url::parse("mysql://reh:p@2@db").unwrap();
        let copied = |text: &str| copied(text, &live, &copy, "scratch");
        let expected = "mysql+pymysql://reh:p%402@db:3306/scratch?charset=utf8";
        assert_eq!(copied("mysql+pymysql://web:pw@db:3306/app?charset=utf8").unwrap(), expected);
        let expected = "jdbc:mysql://db/scratch?user=reh&password=p%402";
        assert_eq!(copied("jdbc:mysql://db/app?user=web&password=pw").unwrap(), expected);
        assert_eq!(copied("mysql://web:pw@db/other"), None);
        assert_eq!(copied("mysql://web:pw@elsewhere/app"), None);
    }
}
