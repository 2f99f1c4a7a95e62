//! A session with PostgreSQL at an address that the configuration allows, where nobody has found the live
//! database: a pooler may have it under another name, or for other logins. Before its first statement the
//! server is asked whether the copy is in it too, and what the session has opened.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use crate::supervisor::data::relay::hub::{self, Hub};
use crate::supervisor::data::relay::startup::{self, Kind, Names, Opening};
use crate::supervisor::sockets::stream::Stream;

/// The longest message of a server before the first statement.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a session has opened.
#[derive(Debug, PartialEq, Eq)]
enum Opened {
    /// A database of another server, or the copy.
    Harmless,
    /// This one of the server that has the copy.
    Live(String),
    /// The server does not say.
    Unknown(String),
}

/// Carries it to its end. What is encrypted end to end is not seen.
pub(super) async fn carry(
    mut client: Stream,
    mut upstream: Stream,
    names: &Names,
    hub: &Hub,
) -> io::Result<()> {
    loop {
        let opening = Opening::read(&mut client).await?;
        upstream.write_all(&opening.bytes).await?;
        match opening.kind {
            Kind::Tls | Kind::Gss => {
                let answer = upstream.read_u8().await?;
                client.write_u8(answer).await?;
                if answer != b'N' {
                    break;
                }
            }
            Kind::Session => return session(client, upstream, names, hub).await,
            Kind::Encrypted | Kind::Cancel | Kind::Unknown => break,
        }
    }
    copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

async fn session(
    mut client: Stream,
    mut upstream: Stream,
    names: &Names,
    hub: &Hub,
) -> io::Result<()> {
    let ready = loop {
        let message = read(&mut upstream).await?;
        if message.kind == b'Z' {
            break message;
        }
        client.write_all(&message.framed()).await?;
        if message.wants_an_answer() {
            let answer = read(&mut client).await?;
            upstream.write_all(&answer.framed()).await?;
        }
    };
    let (what, hint) = match ask(&mut upstream, names).await? {
        Opened::Harmless => {
            client.write_all(&ready.framed()).await?;
            return copy_bidirectional(&mut client, &mut upstream).await.map(drop);
        }
        Opened::Live(database) => {
            (format!("database {database:?} of the live server"), "it is no copy")
        }
        Opened::Unknown(why) => {
            let what = "a server that does not say whether it is the live one";
            (format!("{what} ({why})"), "whether it is live is unknown")
        }
    };
    hub.reached(&hub::who(&client), &what);
    let message = format!("halley-sup: this is a rehearsal on a copy of the data: {what}: {hint}");
    let way = format!("Take the URL of the copy from {}.", hub.url_env);
    client.write_all(&startup::refusal(&message, &way)).await?;
    client.shutdown().await
}

/// Asks in the session itself, as a statement of the program's own would be asked.
async fn ask(upstream: &mut Stream, names: &Names) -> io::Result<Opened> {
    let scratch = names.scratch.replace('\'', "''");
    let query = format!(
        "SELECT pg_catalog.current_database() WHERE EXISTS \
         (SELECT FROM pg_catalog.pg_database WHERE datname = '{scratch}')\0"
    );
    let query = Message { kind: b'Q', body: query.into_bytes() };
    upstream.write_all(&query.framed()).await?;
    let mut opened = Opened::Harmless;
    loop {
        let Message { kind, body } = read(upstream).await?;
        match kind {
            b'Z' => return Ok(opened),
            b'D' => {
                // One column: how many there are, its length, its text.
                let database = String::from_utf8_lossy(body.get(6..).unwrap_or_default());
                if database != names.scratch {
                    opened = Opened::Live(database.into_owned());
                }
            }
            b'E' => {
                let fields = body.split(|byte| *byte == 0);
                let text = fields.into_iter().find_map(|field| field.strip_prefix(b"M"));
                let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
                opened = Opened::Unknown(text);
            }
            _ => {}
        }
    }
}

/// A message after the first packet (PostgreSQL, "Message Formats").
struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    fn framed(&self) -> Vec<u8> {
        [&[self.kind], startup::framed(&self.body).as_slice()].concat()
    }

    /// Of the messages about a login only two are no question: that it is done, and SASL's last word.
    fn wants_an_answer(&self) -> bool {
        const DONE: u32 = 0;
        const SASL_FINAL: u32 = 12;
        let code = self.body.first_chunk().map(|code| u32::from_be_bytes(*code));
        self.kind == b'R' && !matches!(code, Some(DONE | SASL_FINAL))
    }
}

async fn read(stream: &mut Stream) -> io::Result<Message> {
    let kind = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok(Message { kind, body })
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        Message { kind, body: body.to_vec() }.framed()
    }

    /// What follows from a server's answer to the question.
    async fn opened(answer: &[Vec<u8>]) -> Opened {
        let (server, client) = UnixStream::pair().unwrap();
        let (mut server, mut client) = (Stream::Unix(server), Stream::Unix(client));
        server.write_all(&answer.concat()).await.unwrap();
        let names = Names { live: "app".to_owned(), scratch: "copy's".to_owned() };
        let opened = ask(&mut client, &names).await.unwrap();
        let asked = read(&mut server).await.unwrap();
        assert!(String::from_utf8_lossy(&asked.body).contains("datname = 'copy''s'"));
        opened
    }

    #[tokio::test]
    async fn a_session_is_live_where_the_copy_is_too() {
        let row = |name: &str| {
            let length = u32::try_from(name.len()).unwrap().to_be_bytes();
            message(b'D', &[&[0, 1], length.as_slice(), name.as_bytes()].concat())
        };
        let (columns, ready) = (message(b'T', &[0, 1]), message(b'Z', b"I"));
        let (none, one) = (message(b'C', b"SELECT 0\0"), message(b'C', b"SELECT 1\0"));
        let say = |parts: &[&Vec<u8>]| parts.iter().map(|part| (*part).clone()).collect::<Vec<_>>();
        assert_eq!(opened(&say(&[&columns, &none, &ready])).await, Opened::Harmless);
        let at_copy = say(&[&columns, &row("copy's"), &one, &ready]);
        assert_eq!(opened(&at_copy).await, Opened::Harmless);
        let at_live = say(&[&columns, &row("app"), &one, &ready]);
        assert_eq!(opened(&at_live).await, Opened::Live("app".to_owned()));
        let refused = message(b'E', b"SERROR\0Mdenied\0\0");
        assert_eq!(opened(&say(&[&refused, &ready])).await, Opened::Unknown("denied".to_owned()));
    }

    #[test]
    fn a_login_asks_until_it_is_done() {
        let login = |code: u32| Message { kind: b'R', body: code.to_be_bytes().to_vec() };
        for (code, expected) in
            [(0, false), (3, true), (5, true), (10, true), (11, true), (12, false)]
        {
            assert_eq!(login(code).wants_an_answer(), expected, "{code}");
        }
        assert!(!Message { kind: b'S', body: Vec::new() }.wants_an_answer());
    }
}
