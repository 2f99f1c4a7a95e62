//! A connection to an address that the configuration allows. A pooler or a forwarder may stand there, in
//! front of the live database: who speaks to its server through it gets the copy, as at the server itself.

use std::cell::Cell;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use crate::supervisor::data::relay::hub::{Hub, Server};
use crate::supervisor::data::relay::mariadb::MariaDb;
use crate::supervisor::data::relay::postgres::{Postgres, WayHere};
use crate::supervisor::data::relay::{inspected, mariadb_packets, startup};
use crate::supervisor::sockets::stream::Stream;

/// Enough for a first packet, or for the names in the first part of a TLS handshake.
const FIRST_BYTES_MAX: usize = 4096;

/// An address that programs may reach.
pub(super) struct Allowed {
    server: Server,
    /// Whether it leads to the server of the live database; unknown until its protocol is spoken there.
    leads_here: Cell<Option<bool>>,
}

impl Allowed {
    pub(super) fn new(server: Server) -> Self {
        Self { server, leads_here: Cell::new(None) }
    }

    /// Carries a connection to its end: to this address, or to the server of the copy.
    pub(super) async fn carry(
        &self,
        postgres: &Postgres,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        let mut upstream = self.server.connect().await?;
        let (mut first, mut answered) = (vec![0; FIRST_BYTES_MAX], vec![0; FIRST_BYTES_MAX]);
        let is_first = async {
            match &client {
                Stream::Tcp(client) => {
                    let n = client.peek(&mut first).await?;
                    Ok(startup::is_first(first.get(..n).unwrap_or_default()))
                }
                // It has the name that sockets of PostgreSQL have.
                Stream::Unix(_) => io::Result::Ok(true),
            }
        };
        tokio::select! {
            is_first = is_first => {
                if is_first? {
                    if self.leads_here(&postgres.is_way_here).await {
                        drop(upstream);
                        return postgres.carry(client, server, hub).await;
                    }
                    return inspected::carry(client, upstream, &postgres.names, hub).await;
                }
            }
            // PostgreSQL never speaks first.
            n = upstream.read(&mut answered) => match n? {
                0 => return Ok(()),
                n => client.write_all(answered.get(..n).unwrap_or_default()).await?,
            },
        }
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }

    /// The same for MariaDB, whose servers speak first.
    pub(super) async fn carry_mariadb(
        &self,
        mariadb: &MariaDb,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        let mut upstream = self.server.connect().await?;
        let (mut asked, mut first) = (vec![0; FIRST_BYTES_MAX], vec![0; FIRST_BYTES_MAX]);
        tokio::select! {
            n = upstream.read(&mut first) => {
                let first = first.get(..n?).unwrap_or_default();
                if mariadb_packets::is_greeting(first)
                    && self.leads_here(&mariadb.is_way_here).await
                {
                    drop(upstream);
                    return mariadb.carry(client, server, hub).await;
                }
                client.write_all(first).await?;
            }
            n = client.read(&mut asked) => {
                upstream.write_all(asked.get(..n?).unwrap_or_default()).await?;
            }
        }
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }

    async fn leads_here(&self, is_way_here: &WayHere) -> bool {
        if let Some(known) = self.leads_here.get() {
            return known;
        }
        let leads_here = is_way_here(&self.server).await;
        self.leads_here.set(Some(leads_here));
        leads_here
    }
}
