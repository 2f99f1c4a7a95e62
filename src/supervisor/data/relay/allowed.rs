//! A connection to an address that the configuration allows. A pooler or a forwarder may stand there, in
//! front of the live database: who speaks to its server through it gets the copy, as at the server itself.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use crate::supervisor::data::relay::hub::{Hub, Server};
use crate::supervisor::data::relay::{Protocol, inspected, mariadb_packets, startup};
use crate::supervisor::sockets::stream::Stream;

/// Enough for a first packet, or for the names in the first part of a TLS handshake.
const FIRST_BYTES_MAX: usize = 4096;

/// Asks whether another address leads to the server of the live database.
pub(crate) type WayHere = Box<dyn Fn(&Server) -> Pin<Box<dyn Future<Output = bool>>>>;

/// An address that programs may reach.
pub(super) struct Allowed {
    server: Server,
    is_way_here: Rc<WayHere>,
    /// Whether it leads to the server of the live database; unknown until its protocol is spoken there.
    leads_here: Cell<Option<bool>>,
}

impl Allowed {
    pub(super) fn new(server: Server, is_way_here: Rc<WayHere>) -> Self {
        Self { server, is_way_here, leads_here: Cell::new(None) }
    }

    /// Carries a connection to its end: to this address, or to the server of the copy.
    pub(super) async fn carry(
        &self,
        protocol: &Protocol,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        let mut upstream = self.server.connect().await?;
        let (mut asked, mut answered) = (vec![0; FIRST_BYTES_MAX], vec![0; FIRST_BYTES_MAX]);
        let (is_spoken, answered) = tokio::select! {
            asked = peek(&client, &mut asked) => {
                (asked?.is_none_or(startup::is_first) && protocol.begins_with_client(), &[][..])
            }
            n = upstream.read(&mut answered) => {
                let answered = answered.get(..n?).unwrap_or_default();
                (mariadb_packets::is_greeting(answered) && !protocol.begins_with_client(), answered)
            }
        };
        if is_spoken && self.leads_here().await {
            drop(upstream);
            return protocol.carry(client, server, hub).await;
        }
        if is_spoken && let Protocol::Postgres(postgres) = protocol {
            return inspected::carry(client, upstream, &postgres.names, hub).await;
        }
        client.write_all(answered).await?;
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }

    async fn leads_here(&self) -> bool {
        if let Some(known) = self.leads_here.get() {
            return known;
        }
        let leads_here = (self.is_way_here)(&self.server).await;
        self.leads_here.set(Some(leads_here));
        leads_here
    }
}

/// What a client says first, which stays to be read; `None` where only its name shows what it is: a unix
/// socket called as those of PostgreSQL are.
async fn peek<'a>(client: &Stream, first: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    match client {
        Stream::Tcp(client) => {
            let n = client.peek(first).await?;
            Ok(Some(first.get(..n).unwrap_or_default()))
        }
        Stream::Unix(client) => client.readable().await.map(|()| None),
    }
}
