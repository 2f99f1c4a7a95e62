//! What a MariaDB server still does for clients that are gone. A client that is killed ends nothing: the
//! server works on, and commits later. Its connections are ended, so that what the data is like
//! afterwards stays true.
//!
//! A client gives the server no name. Over TCP on this host its port tells whether it is gone. Elsewhere
//! (a socket's path, another host) nothing does: what the server works on is waited for.

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::gone_clients::{Fate, Ports};
use crate::supervisor::data::drivers::mariadb_dump::ask;
use crate::supervisor::data::drivers::mariadb_url::Url;
use crate::supervisor::data::error::DataError;

/// Other connections of this user: their number, the address of the client, and the statement that runs,
/// if one does.
const CLIENTS: &str = "SELECT CONCAT_WS('|', ID, HOST, IF(COMMAND = 'Sleep', '', QUERY_ID)) FROM \
                       information_schema.processlist WHERE ID <> CONNECTION_ID() AND USER = \
                       SUBSTRING_INDEX(USER(), '@', 1);\n";
const PAUSE: &str = "DO SLEEP(0.1);\n";
/// How often the server is asked whether they have ended, a tenth of a second apart.
const N_LOOKS: u32 = 300;

/// What a server does for a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Work<'a> {
    connection: &'a str,
    /// The client's; `None` for one that came over a socket's path.
    port: Option<u16>,
    /// Empty when none runs.
    statement: &'a str,
}

/// Ends what the server does for clients that are gone, and waits for what it may do for one.
pub(super) async fn settle(context: &Context<'_>, url: &Url) -> Done {
    let said = ask(context, url, "", "looking for statements", CLIENTS).await?;
    let ports = Ports::of(url.port);
    let of = |fate: Fate| -> Vec<Work<'_>> {
        said.lines().filter_map(work).filter(|work| work.fate(&ports) == fate).collect()
    };
    let (ends, awaited) = (of(Fate::Ends), of(Fate::Awaited));
    for work in &ends {
        let connection = work.connection;
        tracing::warn!(service = %context.service.name, connection,
            "ending a connection whose client is gone");
        // It may have ended by itself.
        let end = format!("KILL {connection};\n");
        drop(ask(context, url, "", "ending a connection", &end).await);
    }
    let mut left = String::new();
    for _ in 0..N_LOOKS {
        let look = format!("{PAUSE}{CLIENTS}");
        let said = ask(context, url, "", "looking for statements", &look).await?;
        let now: Vec<Work<'_>> = said.lines().filter_map(work).collect();
        let is_left = |work: &Work<'_>| now.iter().any(|it| it.connection == work.connection);
        let ending = ends.iter().filter(|work| is_left(work));
        let working: Vec<&str> = ending
            .chain(awaited.iter().filter(|work| now.contains(work)))
            .map(|work| work.connection)
            .collect();
        if working.is_empty() {
            return Ok(());
        }
        left = working.join(", ");
    }
    Err(DataError::StillWorks { pids: left })
}

impl Work<'_> {
    fn fate(&self, ports: &Ports) -> Fate {
        Fate::of(self.port.and_then(|port| ports.is_there(port)), !self.statement.is_empty())
    }
}

fn work(line: &str) -> Option<Work<'_>> {
    let (connection, rest) = line.split_once('|')?;
    let (host, statement) = rest.rsplit_once('|')?;
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Some(Work { connection, port, statement })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_connection_ends_when_its_client_is_known_to_be_gone() {
        let ports = Ports { gone: BTreeSet::from([40_000]), alive: BTreeSet::from([40_001]) };
        for (line, expected) in [
            ("7|127.0.0.1:40000|91", Fate::Ends),
            ("7|127.0.0.1:40000|", Fate::Ends),
            ("8|localhost:40001|92", Fate::Stays),
            ("9|localhost|93", Fate::Awaited),
            ("9|localhost|", Fate::Stays),
            ("10|10.0.0.7:50000|94", Fate::Awaited),
        ] {
            assert_eq!(work(line).unwrap().fate(&ports), expected, "{line}");
        }
        assert_eq!(work(""), None);
    }
}
