//! A connection to an address that the configuration allows. A pooler or a forwarder may stand there, in
//! front of the live database: who speaks to its server through it gets the copy, as at the server itself.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use crate::keeper::protocol::{ASKED_END, LaunchUser};
use crate::supervisor::data::relay::hub::{Hub, Server};
use crate::supervisor::data::relay::{Protocol, inspected, mariadb_packets, startup};
use crate::supervisor::sockets::stream::Stream;

/// Enough for a first packet, or for the names in the first part of a TLS handshake.
const FIRST_BYTES_MAX: usize = 4096;

/// Asks whether another address leads to the server of the live database.
pub(crate) type WayHere = Box<dyn Fn(&Server) -> Pin<Box<dyn Future<Output = bool>>>>;

/// The longest address.
const ADDRESS_BYTES_MAX: usize = 4096;

/// Addresses that programs may reach.
#[derive(Clone)]
pub(super) struct Allowed {
    is_way_here: Rc<WayHere>,
    /// Whom programs are to the servers of unix sockets.
    user: Option<LaunchUser>,
    /// Only the keeper says it: anybody else on this host would be led to wherever the service's user may go.
    secret: String,
}

impl Allowed {
    pub(super) fn new(is_way_here: Rc<WayHere>, user: Option<LaunchUser>, secret: String) -> Self {
        Self { is_way_here, user, secret }
    }

    /// Carries a connection to its end: to the address that it names first, or to the server of the copy.
    /// What stands at an address may be another thing each time.
    pub(super) async fn carry(
        &self,
        protocol: &Protocol,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        let asked = self.asked(&mut client).await?;
        let mut upstream = asked.connect().await?;
        let (mut first, mut answered) = (vec![0; FIRST_BYTES_MAX], vec![0; FIRST_BYTES_MAX]);
        let (is_spoken, answered) = tokio::select! {
            first = peek(&client, &mut first) => {
                (first?.is_none_or(startup::is_first) && protocol.begins_with_client(), &[][..])
            }
            n = upstream.read(&mut answered) => {
                let answered = answered.get(..n?).unwrap_or_default();
                (mariadb_packets::is_greeting(answered) && !protocol.begins_with_client(), answered)
            }
        };
        if is_spoken && (self.is_way_here)(&asked).await {
            drop(upstream);
            return protocol.carry(client, server, hub).await;
        }
        if is_spoken && let Protocol::Postgres(postgres) = protocol {
            return inspected::carry(client, upstream, &postgres.names, hub).await;
        }
        client.write_all(answered).await?;
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }

    /// Where a connection was to go: the keeper has it told before the program says anything.
    async fn asked(&self, client: &mut Stream) -> io::Result<Server> {
        let mut text = Vec::new();
        loop {
            match client.read_u8().await? {
                ASKED_END => break,
                _ if text.len() == ADDRESS_BYTES_MAX => return Err(ErrorKind::InvalidData.into()),
                byte => text.push(byte),
            }
        }
        self.told(&text).ok_or_else(|| ErrorKind::PermissionDenied.into())
    }

    fn told(&self, text: &[u8]) -> Option<Server> {
        let address = std::str::from_utf8(text.strip_prefix(self.secret.as_bytes())?).ok()?;
        Some(match address.parse() {
            Ok(address) => Server::Tcp(vec![address]),
            Err(_) => Server::Unix(PathBuf::from(address), self.user.clone()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_know_the_secret_is_led_nowhere() {
        let is_way_here: WayHere = Box::new(|_| Box::pin(async { false }));
        let allowed = Allowed::new(Rc::new(is_way_here), None, "secret ".to_owned());
        assert!(matches!(allowed.told(b"secret 10.0.0.5:80"), Some(Server::Tcp(_))));
        assert!(matches!(allowed.told(b"secret /run/x"), Some(Server::Unix(..))));
        for text in [b"10.0.0.5:80".as_slice(), b"/run/x", b"secre", b"SECRET /run/x"] {
            assert!(allowed.told(text).is_none());
        }
    }
}
