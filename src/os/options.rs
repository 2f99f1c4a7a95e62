//! Socket options that a program sets before it binds: they would be lost with its own socket.

use std::os::fd::{AsFd, AsRawFd};

/// Options with an `int` that come along when the program has set them to something else than the
/// slot has. Those that make the slot what it is (reuse, nodelay, v6only) stay as they are.
const COPIED: &[(libc::c_int, libc::c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
];

/// Gives `to` the options of `from`. What one of them does not know, or does not take, is left:
/// the program would have learned no more from a listening socket.
pub fn copy(from: impl AsFd, to: impl AsFd) {
    for (level, name) in COPIED {
        match (get(&from, *level, *name), get(&to, *level, *name)) {
            (Some(wanted), Some(present)) if wanted != present => set(&to, *level, *name, wanted),
            _ => {}
        }
    }
    for name in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        // The kernel doubles what is set (socket(7)) and returns the double.
        match (get(&from, libc::SOL_SOCKET, name), get(&to, libc::SOL_SOCKET, name)) {
            (Some(wanted), Some(present)) if wanted > present => {
                set(&to, libc::SOL_SOCKET, name, wanted / 2);
            }
            _ => {}
        }
    }
}

fn get(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = u32::try_from(size_of::<libc::c_int>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes into `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}

fn set(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    let length = u32::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel reads one int.
    unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_a_program_has_set_comes_along_and_nothing_else() {
        let (from, to) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        set(&from, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
        set(&from, libc::SOL_SOCKET, libc::SO_RCVBUF, 400_000);
        copy(&from, &to);
        assert_eq!(get(&to, libc::IPPROTO_IP, libc::IP_PKTINFO), Some(1));
        assert_eq!(
            get(&to, libc::SOL_SOCKET, libc::SO_RCVBUF),
            get(&from, libc::SOL_SOCKET, libc::SO_RCVBUF)
        );
        assert_eq!(get(&to, libc::SOL_SOCKET, libc::SO_BROADCAST), Some(0));
        assert_eq!(get(&to, libc::IPPROTO_TCP, libc::TCP_NODELAY), None);
    }
}
