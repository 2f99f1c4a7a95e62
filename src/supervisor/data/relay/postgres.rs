//! One connection of a program that is tried out to PostgreSQL, on its way to the copy.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, split};

use crate::supervisor::data::relay::hub::{self, Hub, Server};
use crate::supervisor::data::relay::startup::{self, Kind, Names, Opening};
use crate::supervisor::sockets::stream::Stream;

/// What a program sends, encrypted, before its first statement: two parts of the handshake, its name
/// and two parts of a password. What the server does not show by then it does not show at all.
const N_UNSEEN_MAX: usize = 6;

/// Which database an encrypted connection has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// None yet, or none that is shown to the service's role.
    None,
    /// The copy.
    Copy,
    /// This one; the server has ended the connection.
    Other(String),
}

/// Asks the server about the connection from this address.
pub(crate) type Sight = Box<dyn Fn(IpAddr, u16) -> Pin<Box<dyn Future<Output = Sighting>>>>;

/// By whatever name a program calls the live database, it gets the copy.
pub(crate) struct Postgres {
    pub(crate) names: Names,
    /// The service demands TLS, so what is encrypted is carried end to end.
    pub(crate) may_encrypt: bool,
    pub(crate) sighting: Sight,
}

impl Postgres {
    /// Carries a connection to its end.
    pub(super) async fn carry(
        &self,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        loop {
            let opening = Opening::read(&mut client).await?;
            match opening.kind {
                Kind::Encrypted if self.may_encrypt => {
                    let mut upstream = server.connect().await?;
                    upstream.write_all(&opening.bytes).await?;
                    return self.watched(client, upstream, hub).await;
                }
                Kind::Tls if self.may_encrypt => {
                    let mut upstream = server.connect().await?;
                    upstream.write_all(&opening.bytes).await?;
                    let answer = upstream.read_u8().await?;
                    client.write_u8(answer).await?;
                    if answer == b'S' {
                        return self.watched(client, upstream, hub).await;
                    }
                }
                Kind::Tls | Kind::Gss => client.write_u8(b'N').await?,
                Kind::Cancel => {
                    let mut upstream = server.connect().await?;
                    upstream.write_all(&opening.bytes).await?;
                    // The server ends the connection when it has done so.
                    return copy_bidirectional(&mut client, &mut upstream).await.map(drop);
                }
                Kind::Session => {
                    let led = match startup::led(opening.packet(), &self.names) {
                        Ok(led) => led,
                        Err(unfit) => return refuse(&mut client, hub, &unfit).await,
                    };
                    let mut upstream = server.connect().await?;
                    upstream.write_all(&startup::framed(&led)).await?;
                    return copy_bidirectional(&mut client, &mut upstream).await.map(drop);
                }
                Kind::Encrypted | Kind::Unknown => {
                    return refuse(&mut client, hub, &startup::Unfit::Malformed).await;
                }
            }
        }
    }

    /// What is encrypted end to end cannot be led elsewhere. Each part that the program sends waits until
    /// the server shows which database the connection has opened; only one at the copy goes on unwatched.
    async fn watched(&self, client: Stream, upstream: Stream, hub: &Hub) -> io::Result<()> {
        let own = own_address(&upstream);
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(upstream);
        let (mut asked, mut answered) = ([0; 16 * 1024], [0; 16 * 1024]);
        let mut n_unseen = 0;
        loop {
            tokio::select! {
                n = from_client.read(&mut asked) => {
                    let n = n?;
                    let sighting = match own {
                        Some((ip, port)) => (self.sighting)(ip, port).await,
                        None => Sighting::None,
                    };
                    match sighting {
                        Sighting::Copy => {
                            to_server.write_all(&asked[..n]).await?;
                            break;
                        }
                        Sighting::None if n_unseen < N_UNSEEN_MAX => n_unseen += 1,
                        Sighting::None => {
                            hub.opened(&hub::who(&from_client.unsplit(to_client)), None);
                            return Ok(());
                        }
                        Sighting::Other(database) => {
                            hub.opened(&hub::who(&from_client.unsplit(to_client)), Some(database));
                            return Ok(());
                        }
                    }
                    if n == 0 {
                        return Ok(());
                    }
                    to_server.write_all(&asked[..n]).await?;
                }
                n = from_server.read(&mut answered) => match n? {
                    0 => return Ok(()),
                    n => to_client.write_all(&answered[..n]).await?,
                },
            }
        }
        let mut client = from_client.unsplit(to_client);
        let mut upstream = from_server.unsplit(to_server);
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }
}

async fn refuse(client: &mut Stream, hub: &Hub, unfit: &startup::Unfit) -> io::Result<()> {
    hub.refused(&hub::who(client), &unfit.to_string());
    let message =
        format!("halley-sup: this is a rehearsal on a copy of the data: {unfit} is refused");
    let hint = format!("Take the URL of the copy from {}.", hub.url_env);
    client.write_all(&startup::refusal(&message, &hint)).await?;
    client.shutdown().await
}

fn own_address(upstream: &Stream) -> Option<(IpAddr, u16)> {
    match upstream {
        Stream::Tcp(stream) => stream.local_addr().ok().map(|own| (own.ip(), own.port())),
        Stream::Unix(_) => None,
    }
}
