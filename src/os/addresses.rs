//! The addresses of this host, and those of its name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of all interfaces (`getifaddrs(3)`).
///
/// # Errors
/// The system's.
pub fn local() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the list is stored in `first` when 0 comes back.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut at = first;
    // SAFETY: entries of the list are valid until it is freed, and the last one's `ifa_next` is null.
    while let Some(entry) = unsafe { at.as_ref() } {
        // SAFETY: null, or an address of the family that it begins with.
        addresses.extend(unsafe { ip(entry.ifa_addr) });
        at = entry.ifa_next;
    }
    // SAFETY: it came from getifaddrs(3), and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// # Safety
/// `address` is null, or points to an address of the family that it begins with.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller answers for the pointer.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: this family's addresses have this form; it is read without being aligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the same.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// The name servers of `/etc/resolv.conf` (resolv.conf(5)): this host when it names none.
#[must_use]
pub fn name_servers() -> Vec<IpAddr> {
    servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address = words.next()?.split('%').next()?.parse().ok();
        address.filter(|_| is_server)
    };
    let found: Vec<IpAddr> = text.lines().filter_map(server).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_its_loopback_address() {
        assert!(local().unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text =
            "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n";
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(servers(text), expected);
        assert_eq!(servers("options rotate\n"), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
