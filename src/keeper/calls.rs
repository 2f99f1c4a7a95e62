//! Programs whose calls are answered here: whose `bind()` gets which kept socket, and whose
//! `connect()` leads where.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::keeper::children::Watched;
use crate::keeper::protocol::{ChildId, Refused};
use crate::os::fence::{self, Destination, Passage};
use crate::os::intercept::{self, Call};
use crate::os::launch_spec::{Catch, CatchAt};
use crate::os::wish::{Wanted, Wish};

/// Calls of one program that are answered before the others have their turn.
const N_CALLS_A_ROUND: usize = 16;

/// Addresses that a program was kept from and that are told of: one that tries all of them in turn
/// fills nobody's memory.
const N_REFUSED_MAX: usize = 64;

/// The filters of all programs that run under one.
#[derive(Debug, Default)]
pub struct Calls(Vec<Watch>);

#[derive(Debug)]
struct Watch {
    child: ChildId,
    filter: OwnedFd,
    watched: Watched,
    /// What it was kept from, so far.
    refused: BTreeSet<String>,
}

impl Calls {
    /// Answers for a new program from now on.
    pub fn add(&mut self, child: ChildId, filter: OwnedFd, watched: Watched) {
        self.0.push(Watch { child, filter, watched, refused: BTreeSet::new() });
    }

    /// Filters, to be polled.
    pub fn filters(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|watch| watch.filter.as_fd())
    }

    /// Answers calls that wait, of each program a few in one round: one that calls without end keeps
    /// no other program waiting. Lets go of filters that no process runs under any more. Returns what
    /// programs were kept from for the first time.
    pub fn answer(&mut self, kept: &BTreeMap<String, OwnedFd>) -> Vec<(ChildId, Refused)> {
        let mut refused = Vec::new();
        self.0.retain_mut(|watch| {
            for _ in 0..N_CALLS_A_ROUND {
                match intercept::waiting(&watch.filter) {
                    Ok(intercept::Waiting::Call) => {
                        let new = watch.answer_one(kept);
                        refused.extend(new.map(|refused| (watch.child, refused)));
                    }
                    Ok(intercept::Waiting::Nothing) => return true,
                    Ok(intercept::Waiting::Nobody) => return false,
                    Err(error) => {
                        tracing::error!(%error, "polling a filter");
                        return true;
                    }
                }
            }
            true
        });
        refused
    }
}

impl Watch {
    fn answer_one(&mut self, kept: &BTreeMap<String, OwnedFd>) -> Option<Refused> {
        let call = match intercept::receive(&self.filter) {
            Ok(call) => call?,
            Err(error) => {
                tracing::error!(%error, "receiving a call");
                return None;
            }
        };
        let mut refused = None;
        let answered = match &call.wish {
            Wish::Bind(fd, wanted) if self.try_put(&call, *fd, wanted, kept) => Ok(()),
            Wish::Unlink(path) if is_ours(&self.watched.intercept, path) => {
                call.succeed(&self.filter)
            }
            Wish::Connect(fd, to) => {
                let (answered, shut) = self.connect(&call, *fd, to);
                refused = shut;
                answered
            }
            Wish::Send(all) => {
                // A datagram is led nowhere else: a door with a listener behind it is for streams,
                // and where it leads nobody hears datagrams.
                match all.iter().find(|to| self.passage(to) == Passage::Shut) {
                    Some(to) => {
                        refused = Some(to);
                        call.fail(&self.filter, libc::EACCES)
                    }
                    None => call.go_on(&self.filter),
                }
            }
            Wish::OpenFast => call.fail(&self.filter, libc::EOPNOTSUPP),
            Wish::Bind(..) | Wish::Unlink(_) | Wish::Other => call.go_on(&self.filter),
        };
        if let Err(error) = answered {
            tracing::error!(pid = call.pid, %error, "answering a call");
        }
        let to = refused?.to_string();
        if self.refused.len() >= N_REFUSED_MAX || !self.refused.insert(to.clone()) {
            return None;
        }
        let (pid, program) = call.caller();
        Some(Refused { pid, program, to })
    }

    fn passage(&self, to: &Destination) -> Passage<'_> {
        self.watched.fence.as_ref().map_or(Passage::Open, |fence| fence.passage(to))
    }

    /// Lets it go on, connects it to a listener of ours, or refuses; the destination comes back then.
    fn connect<'a>(
        &self,
        call: &Call,
        fd: RawFd,
        to: &'a Destination,
    ) -> (io::Result<()>, Option<&'a Destination>) {
        let via = match self.passage(to) {
            Passage::Open => return (call.go_on(&self.filter), None),
            Passage::Shut if self.is_own(call, fd, to) => return (call.go_on(&self.filter), None),
            Passage::Shut => return (call.fail(&self.filter, libc::EACCES), Some(to)),
            Passage::Via(via) => via,
        };
        let own = match call.own(fd) {
            Ok(own) => own,
            // There is no other way to keep it from going there by itself.
            Err(error) => {
                tracing::warn!(pid = call.pid, %error, "a program's socket cannot be looked at");
                return (call.fail(&self.filter, libc::EACCES), Some(to));
            }
        };
        // Looking for its own address by a datagram socket, a program sends nothing.
        if !own.is_stream {
            return (call.go_on(&self.filter), None);
        }
        let answered = match fence::connect(&own.socket, via) {
            Ok(()) => call.succeed(&self.filter),
            Err(error) => {
                call.fail(&self.filter, error.raw_os_error().unwrap_or(libc::ECONNREFUSED))
            }
        };
        (answered, None)
    }

    /// Whether it reaches for a listener of its own.
    fn is_own(&self, call: &Call, fd: RawFd, to: &Destination) -> bool {
        let Destination::Inet(to) = to else { return false };
        self.watched.root.listens_alone(*to) && call.own(fd).is_ok_and(|own| own.is_stream)
    }

    /// Whether the program has one of ours now. What cannot be looked at goes on untouched: then
    /// the program learns from the kernel that the address is taken.
    fn try_put(
        &self,
        call: &Call,
        fd: RawFd,
        wanted: &Wanted,
        kept: &BTreeMap<String, OwnedFd>,
    ) -> bool {
        if !self.watched.intercept.iter().any(|catch| rank(&catch.at, wanted).is_some()) {
            return false;
        }
        let own = match call.own(fd) {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(pid = call.pid, %error, "a program's socket cannot be looked at");
                return false;
            }
        };
        let slot =
            best(&self.watched.intercept, wanted, own.is_stream).and_then(|name| kept.get(name));
        let Some(slot) = slot else { return false };
        match call.put(&self.filter, fd, &own, slot.as_fd()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(pid = call.pid, %error, "handing a slot over");
                false
            }
        }
    }
}

fn is_ours(catches: &[Catch], path: &std::path::Path) -> bool {
    catches.iter().any(|catch| matches!(&catch.at, CatchAt::Unix(ours) if ours == path))
}

/// The name of the socket for this wish: the same address before the same family before the same
/// port. The host decides where a service listens, so a program's narrower or wider address is no
/// reason to let it listen beside us.
fn best<'a>(catches: &'a [Catch], wanted: &Wanted, is_stream: bool) -> Option<&'a str> {
    let fits = catches.iter().filter(|catch| catch.at.is_stream() == is_stream);
    let ranked = fits.filter_map(|catch| Some((rank(&catch.at, wanted)?, catch)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, catch)| catch.kept.as_str())
}

/// How well a listener fits, best first.
fn rank(at: &CatchAt, wanted: &Wanted) -> Option<u8> {
    match (at, wanted) {
        (CatchAt::Tcp(ours) | CatchAt::Udp(ours), Wanted::Inet(theirs)) => inet(*ours, *theirs),
        (CatchAt::Unix(ours), Wanted::Unix(theirs)) => (ours == theirs).then_some(0),
        _ => None,
    }
}

fn inet(ours: SocketAddr, theirs: SocketAddr) -> Option<u8> {
    let is_dual = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unspecified());
    match () {
        () if ours.port() != theirs.port() => None,
        () if ours.ip() == theirs.ip().to_canonical() => Some(0),
        () if ours.is_ipv4() == theirs.is_ipv4() => Some(1),
        () if is_dual(ours.ip()) => Some(2),
        () => Some(3),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::keeper::own_listeners::Root;
    use crate::keeper::protocol::{Door, Fence, LaunchSpec, Otherwise, To, Via};

    fn check(catches: &[&str], wanted: &str, expected: Option<usize>) {
        let catches: Vec<Catch> = catches
            .iter()
            .enumerate()
            .map(|(n, at)| Catch { at: at_of(at), kept: n.to_string() })
            .collect();
        let (wanted_at, is_stream) = match at_of(wanted) {
            CatchAt::Tcp(address) => (Wanted::Inet(address), true),
            CatchAt::Udp(address) => (Wanted::Inet(address), false),
            CatchAt::Unix(path) => (Wanted::Unix(path), true),
        };
        let found = best(&catches, &wanted_at, is_stream).map(str::to_owned);
        assert_eq!(found, expected.map(|n| n.to_string()), "{wanted}");
    }

    fn at_of(text: &str) -> CatchAt {
        match text.split_once(' ').unwrap() {
            ("tcp", address) => CatchAt::Tcp(address.parse().unwrap()),
            ("udp", address) => CatchAt::Udp(address.parse().unwrap()),
            (_, path) => CatchAt::Unix(path.into()),
        }
    }

    #[test]
    fn the_nearest_listener_of_the_port_is_handed_over() {
        let both = ["tcp 127.0.0.1:80", "tcp [::1]:80", "udp 0.0.0.0:80", "unix /run/a"];
        check(&both, "tcp 127.0.0.1:80", Some(0));
        check(&both, "tcp 0.0.0.0:80", Some(0));
        check(&both, "tcp [::]:80", Some(1));
        check(&both, "tcp [::ffff:127.0.0.1]:80", Some(0));
        check(&both, "udp [::]:80", Some(2));
        check(&both, "unix /run/a", Some(3));
        check(&both, "unix /run/b", None);
        check(&both, "tcp 127.0.0.1:81", None);
        check(&["tcp [::]:80"], "tcp 0.0.0.0:80", Some(0));
        check(&["tcp 0.0.0.0:80"], "tcp [::]:80", Some(0));
        check(&["tcp 0.0.0.0:80"], "udp 0.0.0.0:80", None);
    }

    /// A launcher, when the test that starts this binary asks for one.
    #[test]
    fn a_launcher() {
        if let Ok(args) = std::env::var(LAUNCH) {
            let args: Vec<_> = args.split(' ').map(std::ffi::OsString::from).collect();
            let failed = crate::os::launch::main(&args);
            panic!("{failed:?}");
        }
    }

    const LAUNCH: &str = "HALLEY_TEST_LAUNCH";

    /// Runs a Python program behind a fence, or without one, as the keeper does. Returns what it
    /// printed, and what it was kept from.
    fn run(fence: Option<Fence>, script: &str) -> (String, Vec<String>) {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let args = ["-c".to_owned(), script.to_owned()].to_vec();
        let env = std::env::vars().collect();
        let program = "python3".to_owned();
        let fenced =
            LaunchSpec { program, args, env, cwd: "/".to_owned(), fence, ..Default::default() };
        let mut spec = std::fs::File::from(memfd_create("spec", MemfdFlags::empty()).unwrap());
        spec.write_all(&serde_json::to_vec(&fenced).unwrap()).unwrap();
        let (ours, theirs) = crate::os::scm::pair().unwrap();
        let errors = tempfile::tempfile().unwrap();
        for fd in [theirs.as_fd(), errors.as_fd()] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
        }
        let filter = if fenced.fence.is_some() { theirs.as_raw_fd() } else { -1 };
        let mut child = std::process::Command::new("/proc/self/exe")
            .args(["--exact", "keeper::calls::tests::a_launcher", "--nocapture"])
            .env(LAUNCH, format!("{} {} {filter}", spec.as_raw_fd(), errors.as_raw_fd()))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(theirs);
        let mut calls = Calls::default();
        if fenced.fence.is_some() {
            let pid = i32::try_from(child.id()).unwrap();
            let root = Root { pid, token: format!("none-{pid}") };
            let watched = Watched { intercept: Vec::new(), fence: fenced.fence, root };
            calls.add(ChildId(1), crate::os::launch::filter_of(&ours).unwrap(), watched);
        }
        let mut refused = Vec::new();
        while child.try_wait().unwrap().is_none() {
            refused.extend(calls.answer(&BTreeMap::new()).into_iter().map(|(_, refused)| refused));
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        let output = child.wait_with_output().unwrap().stdout;
        let text = String::from_utf8(output).unwrap();
        assert_eq!(errors.metadata().unwrap().len(), 0, "the launcher failed");
        // The test's own lines come before.
        let said = text.lines().filter_map(|line| line.strip_prefix("> ")).collect::<Vec<_>>();
        assert!(
            refused.iter().all(|refused| refused.program.starts_with("python3")),
            "{refused:?}"
        );
        (said.join(" "), refused.into_iter().map(|refused| refused.to).collect())
    }

    /// Who listens, and for how many.
    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn n_accepted(listener: &TcpListener) -> usize {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    const TRY: &str = r#"
import asyncio, errno, os, socket, threading
def tried(name, do):
    try:
        do(); print(">", name, "ok", flush=True)
    except OSError as e:
        print(">", name, errno.errorcode.get(e.errno, str(e)), flush=True)
def tcp(host, port, family=socket.AF_INET):
    s = socket.socket(family); s.settimeout(None); s.connect((host, port)); return s
def unix(path):
    socket.socket(socket.AF_UNIX).connect(path)
def udp(port, how):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if how == "to": s.sendto(b"x", ("127.0.0.1", port))
    elif how == "msg": s.sendmsg([b"x"], [], 0, ("127.0.0.1", port))
    else: s.connect(("127.0.0.1", port)); s.send(b"x")
def fast(port):
    socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
def both(port):
    async def go():
        r, w = await asyncio.open_connection("127.0.0.1", port); w.close()
    asyncio.run(go())
def inherited(port):
    pid = os.fork()
    if pid == 0:
        tried("child", lambda: tcp("127.0.0.1", port)); os._exit(0)
    os.waitpid(pid, 0)
    t = threading.Thread(target=lambda: tried("thread", lambda: tcp("127.0.0.1", port))); t.start(); t.join()
"#;

    #[test]
    fn a_program_behind_a_fence_reaches_what_has_a_door() {
        let ((live, live_port), (open, open_port), (relay, _)) =
            (listener(), listener(), listener());
        let mail = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        mail.set_nonblocking(true).unwrap();
        let mail_port = mail.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let [live_path, open_path] = ["live", "open"].map(|name| dir.path().join(name));
        let [_live_unix, _open_unix] = [&live_path, &open_path]
            .map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        // The database: who reaches for it gets the relay.
        let (database, database_port) = listener();
        let via = Some(Via::Inet(relay.local_addr().unwrap()));
        let door = |to, via| Door { to, via };
        let doors = vec![
            door(To::Inet(open.local_addr().unwrap()), None),
            door(To::Loopback(database_port), via),
            door(To::Unix(open_path.clone()), None),
            // Names are looked up there first.
            door(To::UnixNamed("socket".to_owned()), None),
        ];
        let fence = Fence { doors, otherwise: Otherwise::Refuse };
        let script = format!(
            r#"{TRY}
tried("live", lambda: tcp("127.0.0.1", {live_port}))
tried("mapped", lambda: tcp("::ffff:127.0.0.1", {live_port}, socket.AF_INET6))
tried("open", lambda: tcp("127.0.0.1", {open_port}))
tried("database", lambda: tcp("127.0.0.1", {database_port}))
tried("six", lambda: tcp("::1", {database_port}, socket.AF_INET6))
tried("localhost", lambda: socket.create_connection(("localhost", {database_port})))
tried("async", lambda: both({database_port}))
tried("fast", lambda: fast({database_port}))
tried("livepath", lambda: unix({live_path:?}))
tried("openpath", lambda: unix({open_path:?}))
tried("abstract", lambda: unix(chr(0) + "bus"))
for how in ["to", "msg", "connected"]: tried("udp-" + how, lambda: udp({mail_port}, how))
inherited({live_port})
pair = socket.socketpair()
tried("pair", lambda: pair[0].sendmsg([b"x"]))
"#
        );
        let (said, refused) = run(Some(fence), &script);
        assert_eq!(
            said,
            "live EACCES mapped EACCES open ok database ok six ok localhost ok async ok \
             fast ENOTSUP livepath EACCES openpath ok abstract EACCES \
             udp-to EACCES udp-msg EACCES udp-connected EACCES child EACCES thread EACCES pair ok"
        );
        let expected = [
            format!("127.0.0.1:{live_port}"),
            live_path.display().to_string(),
            "@bus".to_owned(),
            format!("127.0.0.1:{mail_port}"),
        ];
        assert_eq!(refused, expected);
        assert_eq!((n_accepted(&live), n_accepted(&database), n_accepted(&open)), (0, 0, 1));
        assert_eq!(n_accepted(&relay), 4);
        assert!(mail.recv(&mut [0]).is_err());
        // Without the fence the same program reaches all of it.
        let (said, refused) = run(None, &script);
        assert!(said.starts_with("live ok mapped ok open ok database ok"), "{said}");
        assert!(said.contains("livepath ok"), "{said}");
        assert_eq!((n_accepted(&live), refused.len()), (4, 0));
        assert!(mail.recv(&mut [0]).is_ok());
    }

    /// Workers talk to each other over a port that the kernel chose; a port that somebody else
    /// listens at as well is not theirs.
    #[test]
    fn a_program_behind_a_fence_talks_to_itself() {
        let shared = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        );
        let shared = shared.unwrap();
        rustix::net::sockopt::set_socket_reuseport(&shared, true).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&shared, &any).unwrap();
        rustix::net::listen(&shared, 8).unwrap();
        let shared = TcpListener::from(shared);
        let port = shared.local_addr().unwrap().port();
        let script = format!(
            r#"{TRY}
def listen(host, port=0, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((host, port))
    if kind == socket.SOCK_STREAM: s.listen()
    return s
mine = listen("127.0.0.1"); at = mine.getsockname()[1]
tried("own", lambda: tcp("127.0.0.1", at))
tried("zero", lambda: tcp("0.0.0.0", at))
six = listen("::1", 0, socket.AF_INET6); six_at = six.getsockname()[1]
tried("six", lambda: tcp("::1", six_at, socket.AF_INET6))
read, write = os.pipe()
if os.fork() == 0:
    theirs = listen("127.0.0.1"); os.write(write, b"%d\n" % theirs.getsockname()[1])
    theirs.accept(); os._exit(0)
worker = int(os.read(read, 10)); tried("worker", lambda: tcp("127.0.0.1", worker)); os.wait()
tried("udp", lambda: udp(at, "connected"))
both = listen("127.0.0.1", {port})
tried("shared", lambda: tcp("127.0.0.1", {port}))
mine.close()
tried("closed", lambda: tcp("127.0.0.1", at))
"#
        );
        let fence = Fence { doors: Vec::new(), otherwise: Otherwise::Refuse };
        let (said, _) = run(Some(fence), &script);
        let expected = "own ok zero ok six ok worker ok udp EACCES shared EACCES closed EACCES";
        assert_eq!(said, expected);
        assert_eq!(n_accepted(&shared), 0);
    }
}
