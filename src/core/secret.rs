//! Which values of an environment are shown to people.

/// In the place of a value, or of the part of it that is secret.
const MASK: &str = "***";

/// Parts of names whose values are secret.
const SECRET: [&str; 8] =
    ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE", "SALT", "DSN"];

/// A value as it may be shown: not at all when its name says that it is secret, without the password
/// of a URL.
#[must_use]
pub fn masked(name: &str, value: &str) -> String {
    let name = name.to_ascii_uppercase();
    if SECRET.iter().any(|part| name.contains(part)) {
        return MASK.to_owned();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_ends);
    match authority.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}://{user}:{MASK}@{host}{path}")
        }
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
        ] {
            assert_eq!(masked(name, value), shown, "{name}={value}");
        }
    }
}
