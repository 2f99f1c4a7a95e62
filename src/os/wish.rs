//! What a program asks for by a call, read out of its registers and its memory.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::os::call_filter::{self, Machine};
use crate::os::fence::Destination;
use crate::os::stranger;

/// Messages that one `sendmmsg` takes (`UIO_MAXIOV`).
const N_MESSAGES_MAX: u64 = 1024;
const MSG_FASTOPEN: u64 = 0x2000_0000;
/// More than the longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What a program wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Bind this descriptor of its own.
    Bind(RawFd, Wanted),
    /// Remove this path.
    Unlink(PathBuf),
    /// Connect this descriptor of its own.
    Connect(RawFd, Destination),
    /// Send to these addresses, without a connection; the datagram, where it is one to one address with
    /// nothing beside it.
    Send(Vec<Destination>, Option<Datagram>),
    /// Connect by sending (`MSG_FASTOPEN`); programs that are refused connect as usual.
    OpenFast,
    /// Something that is none of our business, or cannot be read.
    Other,
    /// Something that does not come to be read.
    Late,
}

/// What a program sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// By this descriptor of its own.
    pub fd: RawFd,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Where a program wants its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An internet address.
    Inet(SocketAddr),
    /// A path, made absolute.
    Unix(PathBuf),
}

/// What a call of this thread asks for. Its memory may never come.
#[must_use]
pub fn of(pid: i32, data: &libc::seccomp_data) -> Wish {
    let data = *data;
    stranger::read(pid, move || read(pid, &data)).unwrap_or(Wish::Late)
}

fn read(pid: i32, data: &libc::seccomp_data) -> Wish {
    let nr = u32::try_from(data.nr).unwrap_or(u32::MAX);
    let Some(machine) = call_filter::machine(data.arch) else { return Wish::Other };
    let args = data.args;
    // Descriptors are ints; the upper half of the register has no meaning.
    let descriptor = |arg: u64| (arg & 0xffff_ffff) as u32 as RawFd;
    if nr == machine.bind {
        let length = usize::try_from(args[2] & 0xffff_ffff).unwrap_or(0);
        let wanted = memory(pid, args[1], length.min(size_of::<libc::sockaddr_storage>()))
            .and_then(|bytes| address(pid, &named_family(bytes)));
        return wanted.map_or(Wish::Other, |wanted| Wish::Bind(descriptor(args[0]), wanted));
    }
    if let Some(wish) = reach(pid, machine, nr, args) {
        return wish;
    }
    let (from, text) = match machine.unlink {
        Some(unlink) if unlink == nr => (libc::AT_FDCWD, args[0]),
        _ if nr == machine.unlinkat => (descriptor(args[0]), args[1]),
        _ => return Wish::Other,
    };
    let path = text_at(pid, text).and_then(|path| absolute(pid, from, &path));
    path.map_or(Wish::Other, Wish::Unlink)
}

/// `bind` takes an address without a family for an IPv4 one.
fn named_family(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(family) = bytes.get_mut(..2).filter(|family| **family == [0, 0]) {
        family.copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    }
    bytes
}

/// A call by which a program reaches for an address; `None` when it is another.
fn reach(pid: i32, machine: &Machine, nr: u32, args: [u64; 6]) -> Option<Wish> {
    let half = |arg: u64| arg & 0xffff_ffff;
    let to = |at, length| named(pid, at, half(length));
    let flags = match nr {
        _ if nr == machine.connect => {
            let fd = half(args[0]) as u32 as RawFd;
            return Some(to(args[1], args[2]).map_or(Wish::Other, |to| Wish::Connect(fd, to)));
        }
        _ if nr == machine.sendto => args[3],
        _ if nr == machine.sendmsg => args[2],
        _ if nr == machine.sendmmsg => args[3],
        _ => return None,
    };
    let destinations: Vec<Destination> = match nr {
        _ if nr == machine.sendto => to(args[4], args[5]).into_iter().collect(),
        _ if nr == machine.sendmsg => message_names(pid, machine, args[1], 1, 0),
        _ => message_names(pid, machine, args[1], half(args[2]).min(N_MESSAGES_MAX), 1),
    };
    let bytes = match nr {
        _ if destinations.is_empty() => None,
        _ if nr == machine.sendto => content(pid, args[1], args[2]),
        _ if nr == machine.sendmsg => message_content(pid, machine, args[1]),
        _ => None,
    };
    let datagram = bytes.map(|bytes| Datagram { fd: half(args[0]) as u32 as RawFd, bytes });
    Some(match () {
        () if destinations.is_empty() => Wish::Other,
        () if flags & MSG_FASTOPEN != 0 => Wish::OpenFast,
        () => Wish::Send(destinations, datagram),
    })
}

/// What the message of a `struct msghdr` has in all its parts; nothing when there is more beside it.
fn message_content(pid: i32, machine: &Machine, at: u64) -> Option<Vec<u8>> {
    let word = machine.pointer_bytes;
    let field = |bytes: &[u8], n: usize| bytes.get(n * word..(n + 1) * word).map(little);
    let header = memory(pid, at, 7 * word)?;
    let (parts, n, beside) = (field(&header, 2)?, field(&header, 3)?, field(&header, 5)?);
    let n = usize::try_from(n.min(N_MESSAGES_MAX)).ok().filter(|_| beside == 0)?;
    let mut bytes = Vec::new();
    for part in memory(pid, parts, n * 2 * word)?.chunks_exact(2 * word) {
        bytes.extend(content(pid, field(part, 0)?, field(part, 1)?)?);
    }
    (bytes.len() <= DATAGRAM_BYTES_MAX).then_some(bytes)
}

fn content(pid: i32, at: u64, length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= DATAGRAM_BYTES_MAX)?;
    memory(pid, at, length).filter(|bytes| bytes.len() == length)
}

/// Addresses in an array of `struct msghdr`, or of `struct mmsghdr`, which has `n_more` words behind
/// each.
fn message_names(pid: i32, machine: &Machine, at: u64, n: u64, n_more: usize) -> Vec<Destination> {
    // struct msghdr: a pointer, a length, and five more words.
    let word = machine.pointer_bytes;
    let step = 7 * word + n_more * word;
    let n = usize::try_from(n).unwrap_or(0);
    let Some(bytes) = memory(pid, at, n * step) else { return vec![Destination::Unreadable] };
    let headers = bytes.chunks_exact(step);
    let names = headers.filter_map(|header| {
        let pointer = little(header.get(..word)?);
        let length = little(header.get(word..word + 4)?);
        if pointer == 0 { None } else { named(pid, pointer, length) }
    });
    names.collect()
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whom an address in the program's memory names; `None` when it names nobody, as for a socket
/// that is to be disconnected, or is for the kernel itself.
fn named(pid: i32, at: u64, length: u64) -> Option<Destination> {
    let length = usize::try_from(length).unwrap_or(0).min(size_of::<libc::sockaddr_storage>());
    let Some(bytes) = memory(pid, at, length).filter(|bytes| bytes.len() == length) else {
        return Some(Destination::Unreadable);
    };
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    match (i32::from(family), address(pid, &bytes)) {
        (libc::AF_UNSPEC | libc::AF_NETLINK, _) => None,
        (_, Some(Wanted::Inet(address))) => Some(Destination::Inet(address)),
        (_, Some(Wanted::Unix(path))) => Some(Destination::Unix(path)),
        (libc::AF_UNIX, None) => match bytes.get(2..)? {
            [] => None,
            [0, name @ ..] => {
                Some(Destination::Unix(format!("@{}", String::from_utf8_lossy(name)).into()))
            }
            _ => Some(Destination::Unreadable),
        },
        (libc::AF_INET | libc::AF_INET6, None) => Some(Destination::Unreadable),
        (family, None) => Some(Destination::Family(family)),
    }
}

/// A `struct sockaddr` as the program wrote it.
fn address(pid: i32, bytes: &[u8]) -> Option<Wanted> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip = <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?;
            Some(Wanted::Inet(SocketAddr::new(Ipv4Addr::from(ip).into(), port()?)))
        }
        libc::AF_INET6 => {
            let ip = <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?;
            Some(Wanted::Inet(SocketAddr::new(Ipv6Addr::from(ip).into(), port()?)))
        }
        libc::AF_UNIX => {
            let path = bytes.get(2..)?;
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            let text = std::str::from_utf8(path.get(..end)?).ok()?;
            // No text: unnamed or abstract.
            let path = (!text.is_empty()).then(|| PathBuf::from(text))?;
            absolute(pid, libc::AT_FDCWD, &path).map(Wanted::Unix)
        }
        _ => None,
    }
}

fn absolute(pid: i32, from: RawFd, path: &Path) -> Option<PathBuf> {
    let base = match from {
        _ if path.is_absolute() => return Some(path.to_owned()),
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        fd => format!("/proc/{pid}/fd/{fd}"),
    };
    let base = std::fs::read_link(base).ok()?;
    Some(base.join(path.strip_prefix("./").unwrap_or(path)))
}

fn text_at(pid: i32, at: u64) -> Option<PathBuf> {
    // Up to the end of its page first: what lies behind may not be mapped.
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let first = usize::try_from(page - at % page).unwrap_or(0);
    let mut bytes = memory(pid, at, first.min(4096))?;
    if !bytes.contains(&0) {
        let more = at.checked_add(u64::try_from(bytes.len()).ok()?)?;
        bytes.extend(memory(pid, more, 4096 - bytes.len().min(4095)).unwrap_or_default());
    }
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Reads another process's memory (`process_vm_readv(2)`; we are its ancestor).
fn memory(pid: i32, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; length];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: usize::try_from(at).ok()? as *mut _, iov_len: length };
    // SAFETY: the kernel writes at most `length` bytes into `bytes`; the remote address is only
    // ever looked at in the other process.
    let n = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    bytes.truncate(usize::try_from(n).ok()?);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_programs_write_them() {
        let me = std::process::id().cast_signed();
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(me, &v4), Some(Wanted::Inet("127.0.0.1:8080".parse().unwrap())));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 20]);
        assert_eq!(address(me, &v6), Some(Wanted::Inet("[::]:80".parse().unwrap())));
        assert_eq!(address(me, b"\x01\0/a/b\0xx"), Some(Wanted::Unix("/a/b".into())));
        let here = std::env::current_dir().unwrap();
        assert_eq!(address(me, b"\x01\0./b"), Some(Wanted::Unix(here.join("b"))));
        for none in [b"\x01\0\0abstract".as_slice(), b"\x01\0", b"\x10\0aa", b"\x02"] {
            assert_eq!(address(me, none), None);
        }
    }

    #[test]
    fn whom_an_address_names() {
        let me = std::process::id().cast_signed();
        let named = |bytes: &[u8]| named(me, bytes.as_ptr() as u64, bytes.len() as u64);
        let redis = [2, 0, 0x18, 0xeb, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(named(&redis), Some(Destination::Inet("10.0.0.5:6379".parse().unwrap())));
        assert_eq!(named(b"\x01\0/run/x\0"), Some(Destination::Unix("/run/x".into())));
        assert_eq!(named(b"\x01\0\0bus"), Some(Destination::Unix("@bus".into())));
        assert_eq!(named(b"\x28\0aaaa"), Some(Destination::Family(40)));
        for nobody in [b"\x01\0".as_slice(), b"\0\0", b"\x10\0aa"] {
            assert_eq!(named(nobody), None);
        }
        for cut in [b"\x02\0a".as_slice(), b"\x0a\0aaaaaa"] {
            assert_eq!(named(cut), Some(Destination::Unreadable));
        }
        assert_eq!(super::named(me, 8, 16), Some(Destination::Unreadable));
    }

    #[test]
    fn every_message_of_many_is_looked_at() {
        let me = std::process::id().cast_signed();
        let name = [2_u8, 0, 0, 53, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut messages = [[0_u64; 8]; 3];
        messages[1][0] = name.as_ptr() as u64;
        messages[1][1] = name.len() as u64;
        let machine = call_filter::machine(0xc000_003e).unwrap();
        let at = |at: u64| reach(me, machine, machine.sendmmsg, [3, at, 3, 0, 0, 0]).unwrap();
        let expected = vec![Destination::Inet("10.0.0.5:53".parse().unwrap())];
        assert_eq!(at(messages.as_ptr() as u64), Wish::Send(expected, None));
        messages[1][0] = 0;
        assert_eq!(at(messages.as_ptr() as u64), Wish::Other);
    }

    #[test]
    fn a_path_is_read_from_another_place() {
        let text = std::ffi::CString::new("/run/x.sock").unwrap();
        let me = std::process::id().cast_signed();
        let at = text.as_ptr() as u64;
        assert_eq!(text_at(me, at), Some(PathBuf::from("/run/x.sock")));
        assert_eq!(text_at(me, 8), None);
    }
}
