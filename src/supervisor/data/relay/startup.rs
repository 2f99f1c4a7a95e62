//! The first packet of a connection to PostgreSQL (its protocol 3.0, "Start-up" and "Message
//! Formats"), and what becomes of it on the way to the copy.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest first packet that a server takes.
const PACKET_BYTES_MAX: usize = 10_000;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;
/// `invalid_authorization_specification`
const SQLSTATE: &str = "28000";

/// The first byte of a TLS connection that is not asked for first.
const TLS_HANDSHAKE: u8 = 0x16;
/// What such a connection is for: its protocol, by ALPN.
const ALPN: &[u8] = b"postgresql";

/// Whether a connection that begins like this may be one to PostgreSQL.
pub(super) fn is_first(bytes: &[u8]) -> bool {
    let is_packet = || {
        let kind = bytes.get(4..).map_or(Kind::Unknown, Kind::of);
        length(bytes).is_some() && kind != Kind::Unknown
    };
    let names_it = || bytes.windows(ALPN.len()).any(|window| window == ALPN);
    if bytes.first() == Some(&TLS_HANDSHAKE) { names_it() } else { is_packet() }
}

/// What a first packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To be encrypted by TLS.
    Tls,
    /// To be encrypted by GSSAPI.
    Gss,
    /// To have a query of another connection cancelled.
    Cancel,
    /// A session.
    Session,
    /// Nothing: TLS begins at once.
    Encrypted,
    /// Something that no server of today knows.
    Unknown,
}

impl Kind {
    /// Of a packet without its length.
    pub(super) fn of(packet: &[u8]) -> Self {
        match packet.first_chunk().map(|code| u32::from_be_bytes(*code)) {
            Some(SSL) => Self::Tls,
            Some(GSS) => Self::Gss,
            Some(CANCEL) => Self::Cancel,
            Some(code) if code >> 16 == 3 => Self::Session,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// How a connection begins.
pub(super) struct Opening {
    pub(super) kind: Kind,
    /// As it came: a first packet with its length, or what shows that it is none.
    pub(super) bytes: Vec<u8>,
}

impl Opening {
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = vec![0; 4];
        stream.read_exact(&mut bytes).await?;
        if bytes.starts_with(&[TLS_HANDSHAKE]) {
            return Ok(Self { kind: Kind::Encrypted, bytes });
        }
        let Some(n_bytes) = length(&bytes) else {
            return Ok(Self { kind: Kind::Unknown, bytes });
        };
        bytes.resize(n_bytes, 0);
        let packet = bytes.split_at_mut(4).1;
        stream.read_exact(packet).await?;
        Ok(Self { kind: Kind::of(packet), bytes })
    }

    /// Without its length.
    pub(super) fn packet(&self) -> &[u8] {
        self.bytes.get(4..).unwrap_or_default()
    }
}

/// Of a packet that begins like this; `None` when no server takes it.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()?;
    (8..=PACKET_BYTES_MAX).contains(&length).then_some(length)
}

/// The live database and its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// What programs call the data.
    pub(crate) live: String,
    /// What they get.
    pub(crate) scratch: String,
}

/// Why a session is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It names neither.
    #[error("database {0:?}")]
    Database(String),
    /// It would read the whole server's log.
    #[error("a replication connection")]
    Replication,
    /// It cannot be read.
    #[error("a connection with a start that cannot be read")]
    Malformed,
}

/// The packet of a session, without its length, with the copy in the place of the live database.
pub(super) fn led(packet: &[u8], names: &Names) -> Result<Vec<u8>, Unfit> {
    let parameters = parameters(packet.get(4..).unwrap_or_default()).ok_or(Unfit::Malformed)?;
    let value = |wanted: &str| {
        let found = parameters.iter().rev().find(|(name, _)| *name == wanted.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    if value("replication")
        .is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0"))
    {
        return Err(Unfit::Replication);
    }
    // Without a name, a user's own database is meant.
    let named = value("database").filter(|name| !name.is_empty());
    let database = named.or_else(|| value("user")).ok_or(Unfit::Malformed)?;
    if database != names.live && database != names.scratch {
        return Err(Unfit::Database(database));
    }
    let mut out = packet.get(..4).unwrap_or_default().to_vec();
    let others = parameters.iter().filter(|(name, _)| *name != b"database");
    for (name, value) in others.copied().chain([(b"database".as_slice(), names.scratch.as_bytes())])
    {
        for text in [name, value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    out.push(0);
    Ok(out)
}

/// Names and values up to the empty name at the end.
fn parameters(mut rest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    let mut text = || {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (text, after) = rest.split_at(end);
        rest = after.get(1..)?;
        Some(text)
    };
    loop {
        match text()? {
            [] => return Some(found),
            name => found.push((name, text()?)),
        }
    }
}

/// A packet with its length before it.
pub(super) fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u32::try_from(packet.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), packet].concat()
}

/// A refusal as a server would send it.
pub(super) fn refusal(message: &str, hint: &str) -> Vec<u8> {
    let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', SQLSTATE), ('M', message), ('H', hint)];
    let mut body = Vec::new();
    for (field, text) in fields {
        body.extend(field.to_string().bytes());
        body.extend(text.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    [b"E".as_slice(), &framed(&body)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut packet = 0x0003_0000_u32.to_be_bytes().to_vec();
        for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
            packet.extend(text.bytes().chain([0]));
        }
        packet.push(0);
        packet
    }

    fn check(parameters: &[(&str, &str)], expected: Result<&[(&str, &str)], &str>) {
        let names = Names { live: "app".to_owned(), scratch: "copy".to_owned() };
        let led = led(&packet(parameters), &names).map_err(|unfit| unfit.to_string());
        assert_eq!(led, expected.map(packet).map_err(str::to_owned), "{parameters:?}");
    }

    #[test]
    fn whoever_names_the_live_database_gets_the_copy() {
        let copy: &[(&str, &str)] = &[("user", "web"), ("database", "copy")];
        check(&[("user", "web"), ("database", "app")], Ok(copy));
        check(&[("user", "web"), ("database", "copy")], Ok(copy));
        check(&[("database", "app"), ("user", "web")], Ok(copy));
        // The last one counts, as for a server.
        check(&[("database", "other"), ("user", "web"), ("database", "app")], Ok(copy));
        check(&[("user", "app")], Ok(&[("user", "app"), ("database", "copy")]));
        check(&[("user", "app"), ("database", "")], Ok(&[("user", "app"), ("database", "copy")]));
        check(
            &[("user", "web"), ("database", "app"), ("options", "-c x=1"), ("replication", "off")],
            Ok(&[
                ("user", "web"),
                ("options", "-c x=1"),
                ("replication", "off"),
                ("database", "copy"),
            ]),
        );
    }

    #[test]
    fn nothing_else_is_opened() {
        check(&[("user", "web"), ("database", "postgres")], Err("database \"postgres\""));
        check(&[("user", "web"), ("database", "App")], Err("database \"App\""));
        check(
            &[("database", "app"), ("user", "web"), ("database", "other")],
            Err("database \"other\""),
        );
        check(&[("user", "web")], Err("database \"web\""));
        let unreadable = Err("a connection with a start that cannot be read");
        check(&[], unreadable);
        for value in ["true", "database", "1"] {
            check(
                &[("user", "web"), ("database", "app"), ("replication", value)],
                Err("a replication connection"),
            );
        }
        let names = Names { live: "app".to_owned(), scratch: "copy".to_owned() };
        let whole = packet(&[("user", "web"), ("database", "app")]);
        for length in 0..whole.len() {
            assert!(led(&whole[..length], &names).is_err(), "{length}");
        }
    }

    #[test]
    fn a_connection_to_postgresql_is_known_by_its_first_bytes() {
        let names = [("user", "web"), ("database", "app")];
        for first in [
            framed(&packet(&names)),
            framed(&SSL.to_be_bytes()),
            [&[TLS_HANDSHAKE, 3, 1, 0, 99], ALPN].concat(),
        ] {
            assert!(is_first(&first), "{first:?}");
        }
        let others = ["PING\r\n", "GET / HTTP/1.1\r\n\r\n", "", "\0\0\0\x08", "\0\0\0\x08aaaa"];
        for first in others.map(str::as_bytes).into_iter().chain([[TLS_HANDSHAKE; 90].as_slice()]) {
            assert!(!is_first(first), "{first:?}");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_first_packet() {
        let session = framed(&packet(&[("user", "web")]));
        for (kind, first) in [
            (Kind::Session, session.as_slice()),
            (Kind::Encrypted, &[TLS_HANDSHAKE, 3, 1, 0]),
            (Kind::Unknown, b"PING"),
            (Kind::Unknown, &[0, 0, 0, 7]),
            (Kind::Unknown, &[0, 0, 0, 8, 0, 2, 0, 0]),
        ] {
            let sent = [first, b"more"].concat();
            let mut rest = sent.as_slice();
            let opening = Opening::read(&mut rest).await.unwrap();
            assert_eq!((opening.kind, opening.bytes.as_slice()), (kind, first));
            assert_eq!((opening.packet(), rest), (&first[4..], b"more".as_slice()));
        }
        assert!(Opening::read(&mut &session[..9]).await.is_err());
    }

    #[test]
    fn first_packets_are_told_apart() {
        for (code, kind) in [
            (80_877_103, Kind::Tls),
            (80_877_104, Kind::Gss),
            (80_877_102, Kind::Cancel),
            (0x0003_0000, Kind::Session),
            (0x0003_0002, Kind::Session),
            (0x0002_0000, Kind::Unknown),
        ] {
            assert_eq!(Kind::of(&u32::to_be_bytes(code)), kind);
        }
        assert_eq!(Kind::of(&[3]), Kind::Unknown);
    }
}
