//! Packets of MariaDB's and MySQL's protocol (mariadb.com/kb, "Client/Server Protocol"), as far as
//! they say who connects and whether that changes.

/// A packet of this many bytes goes on in the next one.
pub(super) const FULL: usize = 0xff_ff_ff;

const VERSION_10: u8 = 10;
const CAN_COMPRESS: u32 = 1 << 5;
const SPEAKS_41: u32 = 1 << 9;
const CAN_TLS: u32 = 1 << 11;
const CAN_ZSTD: u32 = 1 << 26;
/// What would hide the packets that follow.
const HIDING: u32 = CAN_COMPRESS | CAN_TLS | CAN_ZSTD;

/// Another login in the same connection.
const COM_CHANGE_USER: u8 = 0x11;
/// Several commands in one packet (MariaDB 10.2), among which there could be that one.
const COM_MULTI: u8 = 0xfe;

/// `ER_ACCESS_DENIED_ERROR`
const DENIED: u16 = 1045;
/// `invalid_authorization_specification`
const SQLSTATE: &str = "28000";

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Another user may open the live database.
    #[error("a login as {0:?}")]
    User(String),
    /// Nothing could be seen of it.
    #[error("an encrypted or compressed connection")]
    Hidden,
    /// It would become another user.
    #[error("a change of the user")]
    Change,
    /// It cannot be read.
    #[error("a connection with a start that cannot be read")]
    Malformed,
}

/// Whether a connection on which a server speaks first like this is one of this protocol.
pub(super) fn is_greeting(first: &[u8]) -> bool {
    matches!(first, [_, _, _, 0, VERSION_10, ..])
}

/// The server's first packet without the offer to hide what follows. `None`: it is an error, or
/// nothing that is known.
pub(super) fn open_greeting(packet: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = packet.split_first()?;
    let name = rest.iter().position(|byte| *byte == 0)?;
    // The connection's number, a part of the challenge, and a zero.
    let at = 1 + name + 1 + 4 + 8 + 1;
    if *version != VERSION_10 || packet.len() < at + 7 {
        return None;
    }
    let mut open = packet.to_vec();
    let [low, high] = [HIDING & 0xffff, HIDING >> 16];
    for (at, hidden) in [(at, low), (at + 5, high)] {
        let [first, second, ..] = hidden.to_le_bytes();
        *open.get_mut(at)? &= !first;
        *open.get_mut(at + 1)? &= !second;
    }
    Some(open)
}

/// Whether a program's answer to it may go on: as this user, in the open.
pub(super) fn check_login(packet: &[u8], allowed: &str) -> Result<(), Unfit> {
    let can = packet.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let can = can.ok_or(Unfit::Malformed)?;
    if can & HIDING != 0 {
        return Err(Unfit::Hidden);
    }
    // Capabilities, the longest packet, a character set, and 23 bytes for later.
    let rest = packet.get(32..).ok_or(Unfit::Malformed)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or(Unfit::Malformed)?;
    if can & SPEAKS_41 == 0 {
        return Err(Unfit::Malformed);
    }
    let user = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    if user == allowed { Ok(()) } else { Err(Unfit::User(user)) }
}

/// Whether what a program sends after its login may go on. Only a command has the number 0.
pub(super) fn check_packet(number: u8, packet: &[u8]) -> Result<(), Unfit> {
    match packet.first() {
        Some(&(COM_CHANGE_USER | COM_MULTI)) if number == 0 => Err(Unfit::Change),
        _ => Ok(()),
    }
}

/// A packet with its length and number before it.
pub(super) fn framed(number: u8, packet: &[u8]) -> Vec<u8> {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let [a, b, c, _] = length.to_le_bytes();
    [&[a, b, c, number], packet].concat()
}

/// A refusal as a server would send it.
pub(super) fn denied(number: u8, message: &str) -> Vec<u8> {
    let body = [&[0xff], DENIED.to_le_bytes().as_slice(), b"#", SQLSTATE.as_bytes()].concat();
    framed(number, &[&body, message.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_first_bytes() {
        assert!(is_greeting(&framed(0, b"\x0a10.11.6-MariaDB\0")));
        for other in [&b"220 mail.lan ESMTP\r\n"[..], b"", b"+OK", &framed(0, b"\xff\x6a\x04no")] {
            assert!(!is_greeting(other), "{other:?}");
        }
    }

    /// As a server of today sends it: everything is offered.
    fn greeting() -> Vec<u8> {
        let start = [&[10], b"10.11.19-MariaDB\0".as_slice(), &[7, 0, 0, 0], b"12345678\0"];
        let rest = [&[0xff, 0xff], [0x2d, 2].as_slice(), &[0, 0xff, 0xff], b"\x15rest"];
        [start.concat(), rest.concat()].concat()
    }

    fn login(can: u32, user: &str) -> Vec<u8> {
        let mut packet = can.to_le_bytes().to_vec();
        packet.resize(32, 0);
        [packet, user.as_bytes().to_vec(), b"\0\x03abcapp\0".to_vec()].concat()
    }

    #[test]
    fn nothing_that_hides_is_offered() {
        let (offered, open) = (greeting(), open_greeting(&greeting()).unwrap());
        let changed = |n: &usize| offered[*n] != open[*n];
        let at = 1 + 17 + 13;
        assert_eq!((0..offered.len()).filter(changed).collect::<Vec<_>>(), [at, at + 1, at + 6]);
        assert_eq!((open[at], open[at + 1], open[at + 6]), (!0x20, !0x08, !0x04));
        assert_eq!(open_greeting(b"\xff\x10\x04Too many connections"), None);
        for length in 0..at + 7 {
            assert_eq!(open_greeting(&offered[..length]), None, "{length}");
        }
    }

    #[test]
    fn only_the_user_of_copies_is_let_in() {
        let check = |packet: Vec<u8>| check_login(&packet, "copies");
        assert_eq!(check(login(SPEAKS_41, "copies")), Ok(()));
        for user in ["web", "root", "", "copies2", "Copies"] {
            assert_eq!(check(login(SPEAKS_41, user)), Err(Unfit::User(user.to_owned())));
        }
        for hiding in [CAN_TLS, CAN_COMPRESS, CAN_ZSTD] {
            assert_eq!(check(login(SPEAKS_41 | hiding, "copies")), Err(Unfit::Hidden));
        }
        assert_eq!(check(login(0, "copies")), Err(Unfit::Malformed));
        let whole = login(SPEAKS_41, "copies");
        for length in 0..32 + "copies".len() {
            assert_eq!(check(whole[..length].to_vec()), Err(Unfit::Malformed), "{length}");
        }
    }

    #[test]
    fn nobody_becomes_another_user() {
        assert_eq!(check_packet(0, b"\x11web\0"), Err(Unfit::Change));
        assert_eq!(check_packet(0, b"\xfe\x05\0\0\x11web\0"), Err(Unfit::Change));
        // A statement, a part of a password, rows that are loaded.
        for (number, packet) in
            [(0, b"\x03\x11".as_slice()), (3, b"\x11\x11"), (2, b"\xfe"), (0, b"")]
        {
            assert_eq!(check_packet(number, packet), Ok(()));
        }
    }
}
