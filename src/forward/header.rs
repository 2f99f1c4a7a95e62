//! The PROXY protocol's binary header, version 2: the client's real address, sent before its bytes.
//!
//! Source: `proxy-protocol.txt` of HAProxy, section 2.2. Numbers are big-endian.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::{SocketAddrAny, SocketAddrUnix, getpeername, getsockname};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL: the connection has no client that could be named.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// A Unix address in the header has this size, filled up with zeros.
const N_UNIX: usize = 108;

/// The header for an accepted connection.
pub fn of(client: impl AsFd) -> Vec<u8> {
    let peer = getpeername(&client).ok().flatten();
    let local = getsockname(&client).ok();
    match (peer, local) {
        (Some(peer), Some(local)) => for_addresses(&peer, &local),
        // The peer of an unbound Unix socket has a family, but rustix gives no address for it.
        (None, Some(local)) => match SocketAddrUnix::try_from(local) {
            Ok(local) => unix(&[], &unix_name(&local)),
            Err(_) => unknown(),
        },
        _ => unknown(),
    }
}

fn for_addresses(peer: &SocketAddrAny, local: &SocketAddrAny) -> Vec<u8> {
    if let (Ok(peer), Ok(local)) =
        (SocketAddr::try_from(peer.clone()), SocketAddr::try_from(local.clone()))
    {
        return tcp(peer, local);
    }
    match (SocketAddrUnix::try_from(peer.clone()), SocketAddrUnix::try_from(local.clone())) {
        (Ok(peer), Ok(local)) => unix(&unix_name(&peer), &unix_name(&local)),
        _ => unknown(),
    }
}

/// Addresses that are IPv4 in IPv6 clothes are sent as IPv4.
fn tcp(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (family, addresses) = match (peer.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(peer), IpAddr::V4(local)) => {
            (TCP4, [peer.octets().as_slice(), local.octets().as_slice()].concat())
        }
        (IpAddr::V6(peer), IpAddr::V6(local)) => {
            (TCP6, [peer.octets().as_slice(), local.octets().as_slice()].concat())
        }
        _ => return unknown(),
    };
    let ports = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
    assemble(PROXY, family, &[addresses, ports].concat())
}

fn unix(peer: &[u8], local: &[u8]) -> Vec<u8> {
    let mut addresses = [0; 2 * N_UNIX];
    let (first, second) = addresses.split_at_mut(N_UNIX);
    for (place, name) in [(first, peer), (second, local)] {
        // The shorter of both ends it.
        place.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    }
    assemble(PROXY, UNIX_STREAM, &addresses)
}

/// A path as it is, an abstract name after a zero, nothing for an unbound socket.
fn unix_name(address: &SocketAddrUnix) -> Vec<u8> {
    match (address.path_bytes(), address.abstract_name()) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => [&[0], name].concat(),
        (None, None) => Vec::new(),
    }
}

fn unknown() -> Vec<u8> {
    assemble(LOCAL, 0, &[])
}

fn assemble(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap_or(0).to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes after the signature.
    fn rest(header: &[u8]) -> &[u8] {
        assert_eq!(header[..12], [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]);
        &header[12..]
    }

    #[test]
    fn ipv4_takes_twelve_bytes_of_addresses() {
        let header = tcp("192.0.2.1:50000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        let expected = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0xc3, 0x50, 0x01, 0xbb];
        assert_eq!(rest(&header), expected);
    }

    #[test]
    fn ipv6_takes_thirty_six_bytes_of_addresses() {
        let header = tcp("[2001:db8::1]:1".parse().unwrap(), "[::1]:256".parse().unwrap());
        let mut expected = vec![0x21, 0x21, 0, 36, 0x20, 0x01, 0x0d, 0xb8];
        expected.extend([0; 11]);
        expected.push(1);
        expected.extend([0; 15]);
        expected.extend([1, 0, 1, 1, 0]);
        assert_eq!(rest(&header), expected);
    }

    #[test]
    fn ipv4_in_ipv6_clothes_is_sent_as_ipv4() {
        let mapped =
            tcp("[::ffff:192.0.2.1]:5".parse().unwrap(), "[::ffff:127.0.0.1]:6".parse().unwrap());
        let plain = tcp("192.0.2.1:5".parse().unwrap(), "127.0.0.1:6".parse().unwrap());
        assert_eq!(mapped, plain);
    }

    #[test]
    fn unix_paths_are_filled_up_with_zeros() {
        let header = unix(b"", b"/run/web.sock");
        let rest = rest(&header);
        assert_eq!(rest[..4], [0x21, 0x31, 0, 216]);
        assert_eq!(rest.len(), 4 + 216);
        assert!(rest[4..4 + 108].iter().all(|byte| *byte == 0));
        assert_eq!(&rest[112..125], b"/run/web.sock");
        assert!(rest[125..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_client_without_a_name_is_local() {
        assert_eq!(rest(&unknown()), [0x20, 0, 0, 0]);
        let mixed = tcp("192.0.2.1:5".parse().unwrap(), "[::1]:6".parse().unwrap());
        assert_eq!(mixed, unknown());
    }

    #[test]
    fn an_unbound_unix_client_is_told_with_the_listeners_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let header = of(listener.accept().unwrap().0);
        assert_eq!(rest(&header)[..4], [0x21, 0x31, 0, 216]);
        let name = path.to_str().unwrap().as_bytes();
        assert_eq!(&rest(&header)[112..112 + name.len()], name);
    }
}
