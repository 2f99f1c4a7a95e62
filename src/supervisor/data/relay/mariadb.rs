//! One connection of a program that is tried out to MariaDB. A statement can name any database, so
//! what a program may open is a matter of its user: only the user of copies gets through, and stays
//! who it is.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};

use crate::supervisor::data::relay::hub::{self, Hub, Server};
use crate::supervisor::data::relay::mariadb_packets::{self as packets, FULL, Unfit};
use crate::supervisor::sockets::stream::Stream;

/// Only this user is let in. The server must let it do nothing but work on copies.
pub(crate) struct MariaDb {
    pub(crate) user: String,
}

impl MariaDb {
    /// Carries a connection to its end.
    pub(super) async fn carry(
        &self,
        mut client: Stream,
        server: &Server,
        hub: &Hub,
    ) -> io::Result<()> {
        let mut upstream = server.connect().await?;
        let (number, greeting) = read(&mut upstream).await?;
        let Some(open) = packets::open_greeting(&greeting) else {
            // The server's own refusal.
            client.write_all(&packets::framed(number, &greeting)).await?;
            return client.shutdown().await;
        };
        client.write_all(&packets::framed(number, &open)).await?;
        let (number, login) = read(&mut client).await?;
        let checked = packets::check_login(&login, &self.user);
        if let Err(unfit) = checked {
            let who = hub::who(&client);
            return refuse(&mut client, hub, &who, number, &unfit).await;
        }
        upstream.write_all(&packets::framed(number, &login)).await?;
        let who = hub::who(&client);
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(upstream);
        let unfit = tokio::select! {
            ended = copy(&mut from_server, &mut to_client) => return ended.map(drop),
            ended = watched(&mut from_client, &mut to_server) => ended?,
        };
        match unfit {
            Some((number, unfit)) => refuse(&mut to_client, hub, &who, number, &unfit).await,
            None => Ok(()),
        }
    }
}

/// Carries what a program sends, up to what it must not.
async fn watched(
    client: &mut (impl AsyncRead + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Option<(u8, Unfit)>> {
    let mut goes_on = false;
    loop {
        let (number, packet) = match read(client).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        if !goes_on && let Err(unfit) = packets::check_packet(number, &packet) {
            return Ok(Some((number, unfit)));
        }
        goes_on = packet.len() == FULL;
        server.write_all(&packets::framed(number, &packet)).await?;
    }
}

/// A packet with its number.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [a, b, c, number] = head;
    let n_bytes = u32::from_le_bytes([a, b, c, 0]);
    let mut packet = vec![0; usize::try_from(n_bytes).unwrap_or(FULL)];
    stream.read_exact(&mut packet).await?;
    Ok((number, packet))
}

async fn refuse(
    client: &mut (impl AsyncWrite + Unpin),
    hub: &Hub,
    who: &str,
    number: u8,
    unfit: &Unfit,
) -> io::Result<()> {
    hub.refused(who, &unfit.to_string());
    let message = format!(
        "halley-sup: this is a rehearsal on a copy of the data: {unfit} is refused. Take the URL of \
         the copy from {}.",
        hub.url_env
    );
    client.write_all(&packets::denied(number.wrapping_add(1), &message)).await?;
    client.shutdown().await
}
