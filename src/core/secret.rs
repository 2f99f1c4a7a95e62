//! Which values of an environment are shown to people.

/// In the place of a value, or of the part of it that is secret.
const MASK: &str = "***";

/// Parts of names whose values are secret.
const NAMES: [&str; 20] = [
    "PASS",
    "_PWD",
    "SECRET",
    "TOKEN",
    "KEY",
    "CREDENTIAL",
    "PRIVATE",
    "SALT",
    "DSN",
    "AUTH",
    "COOKIE",
    "SIGN",
    "JWT",
    "_PAT",
    "_SK",
    "CERT",
    "WEBHOOK",
    "BEARER",
    "HMAC",
    "SEED",
];

/// Parts of values that are secret, whatever the name says: keys, tokens of well-known services, and
/// passwords in connection strings.
const VALUES: [&str; 12] = [
    "-----begin",
    "password=",
    "passwd=",
    "pwd=",
    "token=",
    "secret=",
    "apikey=",
    "api_key=",
    "ghp_",
    "sk_live_",
    "xox",
    "hooks.",
];

/// A value as it may be shown: not at all when its name or its form says that it is secret, without the
/// password of a URL.
#[must_use]
pub fn masked(name: &str, value: &str) -> String {
    let (name, lower) = (name.to_ascii_uppercase(), value.to_ascii_lowercase());
    let is_secret = NAMES.iter().any(|part| name.contains(part))
        || VALUES.iter().any(|part| lower.contains(part))
        || value.starts_with("eyJ");
    if is_secret {
        return MASK.to_owned();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_ends);
    let login = authority.rsplit_once('@').and_then(|(login, host)| {
        let (user, _password) = login.split_once(':')?;
        Some((user, host))
    });
    match login {
        Some((user, host)) => format!("{scheme}://{user}:{MASK}@{host}{path}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_secret_is_masked() {
        for (name, value, shown) in [
            ("PATH", "/bin", "/bin"),
            ("DB_PASSWORD", "x", "***"),
            ("secret_key_base", "x", "***"),
            ("API_TOKEN", "", "***"),
            ("DATABASE_URL", "postgres://app:pw@db/app?x=1", "postgres://app:***@db/app?x=1"),
            ("DATABASE_URL", "postgres://app:p@w@db/app", "postgres://app:***@db/app"),
            ("REDIS", "redis://:pw@127.0.0.1:6379", "redis://:***@127.0.0.1:6379"),
            ("URL", "https://example.org/a@b", "https://example.org/a@b"),
            ("URL", "https://user@example.org/", "https://user@example.org/"),
            ("URL", "https://example.org/?x=1&token=abc", "***"),
            ("JDBC", "jdbc:postgresql://h/db?user=u&password=pw", "***"),
            ("CONN", "Server=h;User=u;Password=pw;", "***"),
            ("PEM", "-----BEGIN PRIVATE KEY-----", "***"),
            ("ID", "eyJhbGciOi", "***"),
            ("GH_PAT", "x", "***"),
            ("BASIC_AUTH", "u:p", "***"),
            ("SESSION_COOKIE", "x", "***"),
        ] {
            assert_eq!(masked(name, value), shown, "{name}={value}");
        }
    }
}
