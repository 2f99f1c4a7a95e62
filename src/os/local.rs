//! Unix sockets: made beside the path that people know, published there by a rename, and asked
//! about through the kernel's `sock_diag(7)`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    netlink, socket_with,
};

use crate::os::beneath::{self, Dir};
use crate::os::names::LaunchUser;
use crate::os::proc;

/// Mode and owner of a socket's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permissions.
    pub mode: u32,
    /// User and group, each as it is when absent.
    pub owner: (Option<u32>, Option<u32>),
}

/// What the kernel reports about a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// A listening one: connections that wait to be accepted.
    pub n_queued: u32,
    /// A connected one: the other side has been accepted.
    pub is_accepted: bool,
    /// The inode of the file that it was bound to.
    pub file: Option<u32>,
}

/// Makes a stream socket with a path, in the place of a stale one. It is bound under another name
/// and renamed: a program that removes "its" path when it ends, as `getsockname(2)` reports it,
/// removes nothing. The directory may be another user's: the name is bound in the directory that is
/// held, and what is given away is what was bound.
///
/// # Errors
/// The system's; `PermissionDenied` when something else has taken the name meanwhile.
pub fn make(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let (dir, name) = Dir::parent(path)?;
    let mut born = name.clone();
    born.push("~");
    let born = beneath::unguessable(&born)?;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&fd, &SocketAddrUnix::new(dir.path_to(&born))?)?;
    let placed = place(&dir, &born, access).and_then(|()| dir.rename(&born, &dir, &name));
    if placed.is_err() {
        drop(dir.remove_file(&born));
    }
    placed.map(|()| fd)
}

/// Gives what was just bound its owner and mode, and nothing else that has its name by now.
fn place(dir: &Dir, born: &OsStr, access: Access) -> io::Result<()> {
    let held = dir.pin(born)?;
    let meta = held.metadata()?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw() && meta.nlink() == 1;
    if !held.is_socket() || !is_own {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another file has its name"));
    }
    held.own(access.owner)?;
    held.set_mode(access.mode)
}

/// Removes a socket's name; one that is not there is fine.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    let (dir, name) = Dir::parent(path)?;
    dir.remove_file(&name)
}

/// Lets the public path lead to the socket at `own`, atomically (`link(2)`, `rename(2)`): at every
/// moment the path leads to one socket or the other.
///
/// # Errors
/// The system's.
pub fn publish(own: &Path, public: &Path) -> io::Result<()> {
    let (dir, name) = Dir::parent(own)?;
    let (public_dir, public) = Dir::parent(public)?;
    let mut temporary = name.clone();
    temporary.push("+");
    dir.remove_file(&temporary)?;
    dir.link(&dir.pin(&name)?, &temporary)?;
    dir.rename(&temporary, &public_dir, &public)?;
    // Two names of one file: rename(2) does nothing then, and reports no error.
    dir.remove_file(&temporary)
}

/// Whether both paths lead to the same socket.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| {
        let (dir, name) = Dir::parent(path).ok()?;
        dir.look(&name).ok().map(|meta| (meta.dev(), meta.ino()))
    };
    id(one).is_some_and(|one| id(other) == Some(one))
}

/// The calls that take ids of 32 bits.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SET_IDS: [libc::c_long; 3] = [libc::SYS_setgroups, libc::SYS_setresgid, libc::SYS_setresuid];
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SET_IDS: [libc::c_long; 3] =
    [libc::SYS_setgroups32, libc::SYS_setresgid32, libc::SYS_setresuid32];

/// Connects to a stream socket as this user: the other side looks at the user of the thread that
/// calls `connect(2)` (`SO_PEERCRED`). Only root can do so as somebody else.
///
/// # Errors
/// The system's.
pub fn connect_as(path: &Path, user: Option<&LaunchUser>) -> io::Result<UnixStream> {
    let other = user.filter(|user| {
        let me = rustix::process::geteuid();
        me.is_root() && user.uid != me.as_raw()
    });
    let Some(user) = other else { return UnixStream::connect(path) };
    // A thread of its own, which ends with the other user.
    let as_user = || {
        let groups = user.groups.as_ptr();
        let [set_groups, set_group, set_user] = SET_IDS;
        // SAFETY: plain system calls, which change this thread alone; `groups` has the length given.
        let changed = unsafe {
            libc::syscall(set_groups, user.groups.len(), groups) == 0
                && libc::syscall(set_group, user.gid, user.gid, user.gid) == 0
                && libc::syscall(set_user, user.uid, user.uid, user.uid) == 0
        };
        if changed { UnixStream::connect(path) } else { Err(io::Error::last_os_error()) }
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, as_user)?;
        let ended_early = |_| Err(io::Error::other("the connecting thread ended early"));
        thread.join().unwrap_or_else(ended_early)
    })
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing, or a socket that no process listens on.
    Free,
    /// A socket that a process listens on.
    Listener,
    /// Something else than a socket.
    Other,
}

/// Finds out what occupies a path.
///
/// # Errors
/// The system's.
pub fn occupant(path: &Path) -> io::Result<Occupant> {
    let (dir, name) = Dir::parent(path)?;
    let held = match dir.pin(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Free),
        held => held?,
    };
    if !held.is_socket() {
        return Ok(Occupant::Other);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&fd, &SocketAddrUnix::new(held.path())?) {
        // Full is not free.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(Occupant::Listener),
        Err(_) => Ok(Occupant::Free),
    }
}

/// Connections to sockets with these paths whose socket is one of these (`/proc/net/unix`).
#[must_use]
pub fn n_connections(paths: &[PathBuf], inodes: &BTreeSet<u64>) -> usize {
    const CONNECTED: &str = "03";
    if paths.is_empty() {
        return 0;
    }
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let is_ours = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(5);
        let state = fields.next();
        let inode = fields.next().and_then(|text| text.parse().ok());
        let path = fields.next();
        state == Some(CONNECTED)
            && inode.is_some_and(|inode| inodes.contains(&inode))
            && path.is_some_and(|path| paths.iter().any(|ours| ours.as_os_str() == path))
    };
    text.lines().filter(is_ours).count()
}

/// Paths with this file name at which a process listens.
#[must_use]
pub fn listeners_named(name: &str) -> Vec<PathBuf> {
    let mut paths = listeners();
    paths.retain(|path| path.ends_with(name));
    paths
}

/// Paths at which a process listens, and that only this user may connect to.
pub(super) fn private_listeners() -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let is_private = |path: &PathBuf| {
        let meta = path.symlink_metadata();
        meta.is_ok_and(|meta| meta.uid() == own && meta.mode() & 0o777 == 0o600)
    };
    listeners().into_iter().filter(is_private).collect()
}

/// Paths at which a process listens (`/proc/net/unix`).
fn listeners() -> Vec<PathBuf> {
    // __SO_ACCEPTCON of linux/net.h.
    const LISTENS: &str = "00010000";
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let flags = fields.nth(3)?;
        let path = Path::new(fields.nth(3)?);
        (flags == LISTENS && path.is_absolute()).then(|| path.to_owned())
    };
    text.lines().filter_map(path).collect()
}

/// Asks the kernel about one of our sockets.
///
/// # Errors
/// The system's; `Unsupported` where there is no `sock_diag`.
pub fn ask(socket: impl AsFd) -> io::Result<Told> {
    ask_of(rustix::fs::fstat(socket)?.st_ino)
}

/// Whether the client of a server's process is there, when it came over a socket's path; `None` where
/// that cannot be seen.
#[must_use]
pub fn has_client(server: i32) -> Option<bool> {
    let told = |inode: u64| ask_of(inode).ok().map(|told| told.is_accepted);
    let seen: Vec<bool> = proc::socket_inodes(server).into_iter().filter_map(told).collect();
    (!seen.is_empty()).then(|| seen.iter().all(|is_there| *is_there))
}

/// Whether a socket that any process has was bound to a file with this inode, whatever its name is by now.
#[must_use]
pub fn is_bound_to(inode: u64, file: u64) -> bool {
    // The kernel tells the lower half.
    ask_of(inode).is_ok_and(|told| told.file == Some((file & 0xffff_ffff) as u32))
}

/// Asks the kernel about a socket that any process has.
fn ask_of(inode: u64) -> io::Result<Told> {
    const HEADER: usize = 16;
    let inode = u32::try_from(inode).unwrap_or(0);
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&netlink, &request(inode), SendFlags::empty())?;
    let mut buffer = [0_u8; 1024];
    let (n, _) = rustix::net::recv(&netlink, &mut buffer[..], RecvFlags::empty())?;
    let answer = buffer.get(..n).unwrap_or_default();
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    match kind {
        Some(SOCK_DIAG_BY_FAMILY) => Ok(told(answer.get(HEADER + 16..).unwrap_or_default())),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel reports no sockets")),
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `nlmsghdr` and `unix_diag_req` (linux/unix_diag.h): file, peer and queue of one socket.
fn request(inode: u32) -> Vec<u8> {
    const SHOW: u32 = 0x02 | 0x04 | 0x10;
    let mut out = Vec::with_capacity(40);
    out.extend(40_u32.to_ne_bytes());
    out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
    out.extend([0; 8]); // sequence, port
    out.extend([1, 0, 0, 0]); // AF_UNIX
    out.extend(u32::MAX.to_ne_bytes()); // any state
    out.extend(inode.to_ne_bytes());
    out.extend(SHOW.to_ne_bytes());
    out.extend([0xff; 8]); // no cookie
    out
}

/// The attributes behind a `unix_diag_msg`.
fn told(mut attributes: &[u8]) -> Told {
    const FILE: u16 = 1;
    const PEER: u16 = 2;
    const QUEUE: u16 = 4;
    let mut told = Told { n_queued: 0, is_accepted: false, file: None };
    let half = |at: &[u8], n: usize| Some(u16::from_ne_bytes(at.get(n..n + 2)?.try_into().ok()?));
    let word = |at: &[u8], n: usize| Some(u32::from_ne_bytes(at.get(n..n + 4)?.try_into().ok()?));
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        match kind {
            FILE => told.file = word(attributes, 4),
            PEER => told.is_accepted = word(attributes, 4).is_some_and(|inode| inode != 0),
            QUEUE => told.n_queued = word(attributes, 4).unwrap_or(0),
            _ => {}
        }
        let step = usize::from(length.max(4)).next_multiple_of(4);
        attributes = attributes.get(step..).unwrap_or_default();
    }
    told
}

/// The path that a socket was bound to, as `/proc/net/unix` has it for it and for its connections.
#[must_use]
pub fn bound_path(socket: impl AsFd) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(address.path()?.to_bytes())))
}

/// The path of a slot of the listener at `public`.
#[must_use]
pub fn slot_path(public: &Path, slot: &str) -> PathBuf {
    let name = public.file_name().unwrap_or_default().to_string_lossy();
    public.with_file_name(format!(".{name}.{slot}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::os::beneath::tests::{Exchanger, N_TRIES, UID, World};

    const ACCESS: Access = Access { mode: 0o640, owner: (None, None) };

    fn listening(path: &Path) -> OwnedFd {
        let fd = make(path, ACCESS).unwrap();
        rustix::net::listen(&fd, 8).unwrap();
        fd
    }

    #[test]
    fn the_kernel_tells_of_queue_and_acceptance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let slot = listening(&path);
        let (one, two) = (UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap());
        assert_eq!(ask(&slot).unwrap().n_queued, 2);
        assert!(!ask(&one).unwrap().is_accepted);
        let accepted = rustix::net::accept(&slot).unwrap();
        assert!(ask(&one).unwrap().is_accepted && !ask(&two).unwrap().is_accepted);
        assert_eq!(ask(&slot).unwrap().n_queued, 1);
        drop(accepted);
    }

    #[test]
    fn a_client_that_is_gone_is_seen_at_the_servers_side() {
        let (server, client) = UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&server).unwrap().st_ino;
        assert!(ask_of(inode).unwrap().is_accepted);
        drop(client);
        assert!(!ask_of(inode).unwrap().is_accepted);
    }

    #[test]
    fn the_path_leads_to_one_or_the_other_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("web.sock");
        let own = ["0", "1"].map(|slot| slot_path(&public, slot));
        let _slots = [listening(&own[0]), listening(&own[1])];
        publish(&own[0], &public).unwrap();
        for _ in 0..3 {
            publish(&own[1], &public).unwrap();
            assert!(is_same(&own[1], &public) && !is_same(&own[0], &public));
            publish(&own[1], &public).unwrap();
        }
        assert_eq!(std::fs::symlink_metadata(&public).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_name_a_program_is_told_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let slot = listening(&path);
        let told = rustix::net::getsockname(&slot).unwrap();
        let told = SocketAddrUnix::try_from(told).unwrap();
        let told = Path::new(told.path().unwrap().to_str().unwrap()).to_owned();
        assert!(path.exists() && !told.exists(), "{}", told.display());
        assert_eq!(bound_path(&slot), Some(told));
        let _client = UnixStream::connect(&path).unwrap();
        let accepted = rustix::net::accept(&slot).unwrap();
        let inodes = BTreeSet::from([rustix::fs::fstat(&accepted).unwrap().st_ino]);
        assert_eq!(n_connections(&[bound_path(&slot).unwrap()], &inodes), 1);
        assert!(UnixStream::connect(&path).is_ok());
    }

    /// The user exchanges whatever is new in the directory with a link to a file of root's.
    #[test]
    fn only_what_was_bound_is_given_away() {
        let Some(world) = World::new() else { return };
        world.link("link", &world.roots.join("secret"));
        let users = Dir::open(&world.users).unwrap();
        let exchange = |name: &OsStr| drop(users.exchange(name, &users, OsStr::new("link")));
        let guess = || (0..50).for_each(|_| exchange(OsStr::new("web.sock~")));
        let look = || {
            let names = users.names().unwrap_or_default();
            names.iter().filter(|name| name.as_bytes().contains(&b'~')).for_each(|n| exchange(n));
        };
        let _guessing = Exchanger::doing(guess);
        let _looking = Exchanger::doing(look);
        let access = Access { mode: 0o666, owner: (Some(UID), Some(UID)) };
        let path = world.users.join("web.sock");
        let mut n_made = 0;
        for _ in 0..10 * N_TRIES {
            n_made += usize::from(make(&path, access).is_ok());
            for name in users.names().unwrap() {
                users.remove_file(&name).unwrap();
            }
            world.link("link", &world.roots.join("secret"));
            assert!(world.is_untouched());
        }
        assert!(n_made > 0);
    }

    #[test]
    fn a_planted_link_is_neither_bound_through_nor_published_nor_asked() {
        let Some(world) = World::new() else { return };
        let listener = world.roots.join("s");
        let _listening = listening(&listener);
        world.link("dir", &world.roots);
        world.link("s", &listener);
        assert!(make(&world.users.join("dir/new"), ACCESS).is_err());
        assert!(!world.roots.join("new").exists());
        assert_eq!(occupant(&world.users.join("s")).unwrap(), Occupant::Other);
        assert!(!is_same(&world.users.join("s"), &listener));
    }

    #[test]
    fn who_has_a_path_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(occupant(&path).unwrap(), Occupant::Free);
        let slot = listening(&path);
        assert_eq!(occupant(&path).unwrap(), Occupant::Listener);
        drop(slot);
        assert_eq!(occupant(&path).unwrap(), Occupant::Free);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(occupant(&path).unwrap(), Occupant::Other);
    }

    #[test]
    fn a_listener_is_found_by_its_file_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".s.TEST.1");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(listeners_named(".s.TEST.1"), std::slice::from_ref(&path));
        drop(listener);
        assert_eq!(listeners_named(".s.TEST.1"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn the_other_side_sees_the_user() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let me = rustix::process::geteuid();
        let nobody = LaunchUser { uid: 65_534, gid: 65_534, groups: vec![65_534] };
        for user in [None, Some(&nobody)] {
            let _client = connect_as(&path, user).unwrap();
            let seen = rustix::net::sockopt::socket_peercred(listener.accept().unwrap().0).unwrap();
            let other = user.filter(|_| me.is_root()).map(|user| user.uid);
            assert_eq!(seen.uid.as_raw(), other.unwrap_or(me.as_raw()));
        }
        // Only that thread was somebody else.
        assert_eq!(rustix::process::geteuid(), me);
    }
}
