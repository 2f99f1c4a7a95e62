//! TCP sockets as the kernel knows them, asked for through `sock_diag(7)`.
//!
//! `/proc/net/tcp` says the same, but it writes out every connection that ended in the last minute
//! too: on a busy machine reading it takes a tenth of a second. Where there is no `sock_diag`, it is
//! read all the same.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with,
};

/// States of a connection (`include/net/tcp_states.h`).
pub const ESTABLISHED: u8 = 1;
/// A handshake that is half open.
pub const SYN_RECV: u8 = 3;
/// The other side has ended.
pub const CLOSE_WAIT: u8 = 8;
/// A listening socket.
pub const LISTEN: u8 = 10;
/// States of sockets that a process has, or will have.
pub const IN_USE: [u8; 6] = [ESTABLISHED, 4, 5, CLOSE_WAIT, 9, 11];

/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its own address.
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// Its state.
    pub state: u8,
    /// Its inode; 0 while no process has it.
    pub inode: u64,
}

/// Which sockets are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// In one of these states.
    pub states: &'a [u8],
    /// With this port of their own.
    pub local_port: Option<u16>,
    /// With this port at the other side.
    pub remote_port: Option<u16>,
}

/// All sockets that are wanted.
#[must_use]
pub fn rows(wanted: Wanted<'_>) -> Vec<Row> {
    let all = asked(wanted).unwrap_or_else(|_| read());
    let fits = |row: &Row| {
        wanted.states.contains(&row.state)
            && wanted.local_port.is_none_or(|port| row.local.port() == port)
            && wanted.remote_port.is_none_or(|port| row.remote.port() == port)
    };
    all.into_iter().filter(fits).collect()
}

fn asked(wanted: Wanted<'_>) -> io::Result<Vec<Row>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut rows = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let family = u8::try_from(family.as_raw()).unwrap_or(0);
        rustix::net::send(&socket, &request(family, wanted), SendFlags::empty())?;
        let mut buffer = vec![0_u8; 32 * 1024];
        loop {
            let (n, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            if take(buffer.get(..n).unwrap_or_default(), &mut rows)? {
                break;
            }
        }
    }
    Ok(rows)
}

/// `nlmsghdr` and `inet_diag_req_v2` (linux/inet_diag.h): a dump.
fn request(family: u8, wanted: Wanted<'_>) -> Vec<u8> {
    const LENGTH: usize = 16 + 56;
    let mut out = Vec::with_capacity(LENGTH);
    out.extend(u32::try_from(LENGTH).unwrap_or(0).to_ne_bytes());
    out.extend(20_u16.to_ne_bytes()); // SOCK_DIAG_BY_FAMILY
    out.extend(0x301_u16.to_ne_bytes()); // NLM_F_REQUEST, NLM_F_DUMP
    out.extend([0; 8]); // sequence, port
    out.extend([family, 6, 0, 0]); // IPPROTO_TCP
    let states = wanted.states.iter().fold(0_u32, |states, state| states | 1 << state);
    out.extend(states.to_ne_bytes());
    out.extend(wanted.local_port.unwrap_or(0).to_be_bytes());
    out.extend(wanted.remote_port.unwrap_or(0).to_be_bytes());
    out.resize(LENGTH - 8, 0); // addresses, interface
    out.resize(LENGTH, 0xff); // no cookie
    out
}

/// Takes rows out of one answer; `true` when it was the last.
fn take(mut answer: &[u8], rows: &mut Vec<Row>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (word(answer, 0), answer.get(4..6)) {
        let length = usize::try_from(length).unwrap_or(0).max(16);
        match u16::from_ne_bytes([kind[0], kind[1]]) {
            3 => return Ok(true),
            2 => return Err(io::ErrorKind::Unsupported.into()),
            _ => rows.extend(answer.get(16..length).and_then(told)),
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// An `inet_diag_msg`.
fn told(message: &[u8]) -> Option<Row> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes = message.get(at..at + 16)?;
        Some(match family {
            2 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        })
    };
    Some(Row {
        local: SocketAddr::new(ip(8)?, port(4)?),
        remote: SocketAddr::new(ip(24)?, port(6)?),
        state,
        inode: u64::from(word(message, 68)?),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// All rows of `/proc/net/tcp` and `/proc/net/tcp6`.
fn read() -> Vec<Row> {
    listed(["/proc/net/tcp", "/proc/net/tcp6"])
}

fn listed(paths: [&str; 2]) -> Vec<Row> {
    let text = paths.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    text.iter().flat_map(|text| text.lines().skip(1).filter_map(row)).collect()
}

/// All UDP sockets.
#[must_use]
pub fn datagrams() -> Vec<Row> {
    listed(["/proc/net/udp", "/proc/net/udp6"])
}

/// Unix sockets that have a name, by their inodes: the path that a program has bound, or one without a
/// file, which begins with `@`.
#[must_use]
pub fn named() -> Vec<(u64, String)> {
    let text = std::fs::read("/proc/net/unix").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(name).collect()
}

/// Num RefCount Protocol Flags Type St Inode Path
fn name(line: &str) -> Option<(u64, String)> {
    let inode = line.split_ascii_whitespace().nth(6)?;
    let (_, name) = line.split_once(&format!(" {inode} "))?;
    Some((inode.parse().ok()?, name.to_owned()))
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = hex_address(fields.next()?)?;
    let remote = hex_address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Row { local, remote, state, inode })
}

/// `0100007F:1F90` is 127.0.0.1:8080: words in the machine's own byte order.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> = (0..ip.len() / 8)
        .map(|n| u32::from_str_radix(ip.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_row_of_proc_net_tcp_is_read() {
        let line = "   0: 0100007F:1F90 0200007F:C350 03 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let row = row(line).unwrap();
        assert_eq!(row.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(row.remote, "127.0.0.2:50000".parse().unwrap());
        assert_eq!((row.state, row.inode), (SYN_RECV, 4242));
    }

    #[test]
    fn a_row_of_proc_net_unix_is_read() {
        let row = "0000000000000000: 00000002 00000000 00010000 0001 01";
        let named = |end: &str| name(&format!("{row}{end}"));
        assert_eq!(named("   42 /run/a b"), Some((42, "/run/a b".to_owned())));
        assert_eq!(named(" 123456 @bus"), Some((123_456, "@bus".to_owned())));
        assert_eq!(named(" 123456"), None);
    }

    #[test]
    fn the_kernel_and_proc_say_the_same() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let states = [LISTEN, ESTABLISHED];
            let wanted = Wanted { states: &states, local_port: Some(port), remote_port: None };
            let sorted = |mut rows: Vec<Row>| {
                rows.retain(|row| row.local.port() == port && states.contains(&row.state));
                rows.sort_by_key(|row| row.state);
                rows
            };
            let asked = sorted(asked(wanted).unwrap());
            assert_eq!(asked.len(), 2);
            assert_eq!(asked, sorted(read()));
            assert_eq!(asked[0].inode, 0, "nobody has accepted it");
        }
    }
}
