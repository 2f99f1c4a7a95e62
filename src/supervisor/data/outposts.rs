//! Addresses that programs on a copy may reach, with the relay of the live database's server before them:
//! a pooler or a forwarder may stand there.

use std::io;
use std::path::Path;

use crate::keeper::protocol::{Door, Here, LaunchUser, To};
use crate::os::addresses;
use crate::supervisor::data::relay::Relay;

/// How the names of PostgreSQL's sockets begin.
const NAMED: &str = ".s.PGSQL.";

/// Leads those doors through the relay behind which the live database's server may be, and returns what
/// does so with all other connections within this host. `own` is a path for a socket.
///
/// # Errors
/// The system's.
pub(super) async fn occupy(
    relay: &mut Relay,
    doors: &mut [Door],
    user: Option<LaunchUser>,
    own: &Path,
) -> io::Result<Option<Here>> {
    let Some([inet, unix]) = relay.stand_before(user, own).await? else { return Ok(None) };
    let named = if relay.is_behind_any_path() { "" } else { NAMED };
    for door in doors {
        door.via = match &door.to {
            To::Inet(_) | To::Loopback(_) => Some(inet.clone()),
            To::Unix(path) if is_named(path, named) => Some(unix.clone()),
            To::Unix(_) | To::Port(_) | To::UnixBelow(_) | To::UnixNamed(_) => continue,
        };
    }
    Ok(Some(Here { ips: addresses::local()?, inet, unix, named: named.to_owned() }))
}

fn is_named(path: &Path, named: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(named))
}
