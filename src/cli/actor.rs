//! The requesting user: for the history, not for permission.

/// `SUDO_USER`, else the login name, else the uid; with the ssh client's address when there is one.
pub fn actor() -> String {
    let named = ["SUDO_USER", "LOGNAME", "USER"].iter().find_map(|name| std::env::var(name).ok());
    let who = named.unwrap_or_else(|| format!("uid:{}", rustix::process::getuid().as_raw()));
    let from = std::env::var("SSH_CONNECTION").ok();
    match from.as_deref().and_then(|text| text.split(' ').next()) {
        Some(address) => format!("{who}@{address}"),
        None => who,
    }
}
