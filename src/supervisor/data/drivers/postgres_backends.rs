//! What a PostgreSQL server still does for clients that are gone. A client that is killed ends nothing:
//! the server works on, and commits later. Its processes are ended, so that what the data is like
//! afterwards stays true.

use crate::os::local;
use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::{Done, Session};
use crate::supervisor::data::drivers::gone_clients::{Fate, Ports};
use crate::supervisor::data::drivers::postgres_tools::{psql, text};
use crate::supervisor::data::drivers::postgres_url::Url;
use crate::supervisor::data::error::DataError;

/// Clients of this database, by this role, with the ports that they have, when the statement that runs
/// was begun, if one does, and the names that they gave.
const CLIENTS: &str = "SELECT pid || '|' || coalesce(client_port, -1) || '|' || CASE WHEN state LIKE \
                       'idle%' THEN '' ELSE coalesce(query_start, backend_start)::text END || '|' || \
                       application_name FROM pg_stat_activity WHERE datname = current_database() AND \
                       usename = current_user AND backend_type = 'client backend' AND pid <> \
                       pg_backend_pid();\n";
const PAUSE: &str = "SELECT pg_sleep(0.1);\n";
const PORT: u16 = 5432;
/// How often the server is asked whether they have ended, a tenth of a second apart.
const N_LOOKS: u32 = 300;

/// A process of the server.
#[derive(Debug, PartialEq, Eq)]
struct Backend<'a> {
    pid: i32,
    /// The client's port; `None` for one that came over a socket's path.
    port: Option<u16>,
    client: &'a str,
}

/// What it does.
#[derive(Debug, PartialEq, Eq)]
struct Work<'a> {
    backend: Backend<'a>,
    /// When its statement was begun; empty when none runs.
    statement: &'a str,
}

/// Ends what the server does for clients of this name, which must be gone, and for others that are, and
/// waits for what it may do for one that is: a client may give itself another name.
pub(super) async fn settle(context: &Context<'_>, url: &Url, name: &str) -> Done {
    let said = psql(context, url, &url.database, "looking for statements", CLIENTS).await?;
    let ports = Ports::of(port(url));
    let works: Vec<(Fate, Work<'_>)> =
        said.lines().filter_map(work).map(|work| (work.fate(&ports, name), work)).collect();
    let ends = pids(works.iter().filter(|(fate, _)| *fate == Fate::Ends).map(|(_, work)| work));
    if !ends.is_empty() {
        tracing::warn!(service = %context.service.name, pids = ends,
            "ending statements of clients that are gone");
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({ends})");
        psql(context, url, &url.database, "ending statements", &end).await?;
    }
    let mut left = works;
    left.retain(|(fate, _)| *fate != Fate::Stays);
    for _ in 0..N_LOOKS {
        if left.is_empty() {
            return Ok(());
        }
        let look = format!("{PAUSE}{CLIENTS}");
        let said = psql(context, url, &url.database, "looking for statements", &look).await?;
        let now: Vec<Work<'_>> = said.lines().filter_map(work).collect();
        left.retain(|(fate, work)| match fate {
            Fate::Ends => now.iter().any(|it| it.backend.pid == work.backend.pid),
            _ => now.contains(work),
        });
    }
    Err(DataError::StillWorks { pids: pids(left.iter().map(|(_, work)| work)) })
}

fn pids<'a>(works: impl Iterator<Item = &'a Work<'a>>) -> String {
    works.map(|work| work.backend.pid.to_string()).collect::<Vec<_>>().join(", ")
}

impl Work<'_> {
    fn fate(&self, ports: &Ports, name: &str) -> Fate {
        let Backend { pid, port, client } = self.backend;
        let is_there = match port {
            _ if client == name => Some(false),
            Some(port) => ports.is_there(port),
            None => local::has_client(pid),
        };
        Fate::of(is_there, !self.statement.is_empty())
    }
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
        end: format!("SELECT pg_terminate_backend({});\n", backend.pid),
        by_hand: format!("psql -c 'SELECT pg_terminate_backend({})'", backend.pid),
    };
    Ok(said.lines().filter_map(backend).map(session).collect())
}

fn port(url: &Url) -> u16 {
    url.env.get("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(PORT)
}

/// A line of [`CLIENTS`].
fn work(line: &str) -> Option<Work<'_>> {
    let mut parts = line.splitn(4, '|');
    let pid = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok();
    let statement = parts.next()?;
    Some(Work { backend: Backend { pid, port, client: parts.next()? }, statement })
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

    #[test]
    fn a_client_that_gave_itself_another_name_is_known_by_its_port() {
        let ports = Ports { gone: [40_000].into(), alive: [40_001].into() };
        for (line, expected) in [
            ("0|1|2026-11-29 22:00:00+00|mine", Fate::Ends),
            ("0|40000||alembic|x", Fate::Ends),
            ("0|40001|2026-11-29 22:00:00+00|web", Fate::Stays),
            ("0|-1|2026-11-29 22:00:00+00|alembic", Fate::Awaited),
            ("0|-1||alembic", Fate::Stays),
            ("0|50000|2026-11-29 22:00:00+00|far", Fate::Awaited),
        ] {
            assert_eq!(work(line).unwrap().fate(&ports, "mine"), expected, "{line}");
        }
        assert_eq!(work(""), None);
    }
}
