//! What a PostgreSQL server still does for clients that are gone. A client that is killed ends nothing:
//! the server works on, and commits later. Its processes are ended, so that what the data is like
//! afterwards stays true.

use std::collections::BTreeSet;

use crate::core::ordered::Ordered as _;
use crate::os::diag::{self, CLOSE_WAIT, Wanted};
use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::{Done, Session};
use crate::supervisor::data::drivers::postgres_tools::{psql, text};
use crate::supervisor::data::drivers::postgres_url::Url;
use crate::supervisor::data::error::DataError;

/// Clients of this database, by this role, with the names that they gave and the ports that they have.
const CLIENTS: &str = "SELECT pid || '|' || coalesce(client_port, -1) || '|' || application_name \
                       FROM pg_stat_activity WHERE datname = current_database() AND usename = \
                       current_user AND pid <> pg_backend_pid()";
const PORT: u16 = 5432;
/// How often the server is asked whether it has ended them, a tenth of a second apart.
const N_LOOKS: u32 = 300;

/// A process of the server.
#[derive(Debug, PartialEq, Eq)]
struct Backend<'a> {
    pid: i32,
    /// The client's port; `None` for one that came over a socket's path.
    port: Option<u16>,
    client: &'a str,
}

/// Ends what the server does for clients of this name, which must be gone, and for clients whose
/// connection has ended at their side.
pub(super) async fn settle(context: &Context<'_>, url: &Url, name: &str) -> Done {
    let said = psql(context, url, &url.database, "looking for statements", CLIENTS).await?;
    let gone = closed(port(url));
    let left = said.lines().filter_map(backend).filter(|backend| {
        backend.client == name || backend.port.is_some_and(|port| gone.contains(&port))
    });
    let pids: Vec<String> = left.map(|backend| backend.pid.to_string()).collect();
    if pids.is_empty() {
        return Ok(());
    }
    let pids = pids.join(", ");
    tracing::warn!(service = %context.service.name, pids, "ending statements of clients that are gone");
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({pids})");
    psql(context, url, &url.database, "ending statements", &end).await?;
    for _ in 0..N_LOOKS {
        let look =
            format!("SELECT count(*) FROM pg_stat_activity, pg_sleep(0.1) WHERE pid IN ({pids})");
        let n_left = psql(context, url, &url.database, "looking for statements", &look).await?;
        if n_left.trim() == "0" {
            return Ok(());
        }
    }
    Err(DataError::StillWorks { pids })
}

/// Clients of the database that is to be replaced, of whatever role. Of other roles' not all is shown.
pub(super) async fn sessions(context: &Context<'_>, url: &Url) -> Done<Vec<Session>> {
    let query = format!(
        "SELECT pid || '|' || coalesce(client_port, -1) || '|' || usename FROM pg_stat_activity \
         WHERE datname = {} AND usename IS NOT NULL AND \
         coalesce(backend_type, 'client backend') = 'client backend'",
        text(&url.database)
    );
    // The database itself may be missing, or let nobody in.
    let said = psql(context, url, url.maintenance(), "looking for clients", &query).await?;
    let server = port(url);
    let session = |backend: Backend<'_>| Session {
        text: format!(
            "a session of {} in the database {} (pg_stat_activity, pid {})",
            backend.client, url.database, backend.pid
        ),
        port: backend.port,
        server_port: server,
        backend: Some(backend.pid),
        end: format!("psql -c 'SELECT pg_terminate_backend({})'", backend.pid),
    };
    Ok(said.lines().filter_map(backend).map(session).collect())
}

fn port(url: &Url) -> u16 {
    url.env.get("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(PORT)
}

/// Ports of clients here whose connection to the server has ended at their side and not at its own.
fn closed(server: u16) -> BTreeSet<u16> {
    let wanted = Wanted { states: &[CLOSE_WAIT], local_port: Some(server), ..Wanted::default() };
    diag::rows(wanted).into_iter().map(|row| row.remote.port()).into_set()
}

fn backend(line: &str) -> Option<Backend<'_>> {
    let mut parts = line.splitn(3, '|');
    let pid = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok();
    Some(Backend { pid, port, client: parts.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_known_by_its_clients_name_and_port() {
        let tcp = Backend { pid: 7, port: Some(40_000), client: "halley-migrate-2-web" };
        assert_eq!(backend("7|40000|halley-migrate-2-web"), Some(tcp));
        assert_eq!(backend("8|-1|a|b"), Some(Backend { pid: 8, port: None, client: "a|b" }));
        assert_eq!(backend(""), None);
    }
}
