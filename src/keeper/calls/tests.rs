use std::net::TcpListener;

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::core::ordered::Few;
use crate::json;
use crate::keeper::own_listeners::Root;
use crate::keeper::protocol::{Door, Fence, Here, LaunchSpec, Otherwise, To, Via};

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
    let mut env: Vec<_> = std::env::vars().collect();
    // Without one, Python looks the user up, at the name service's socket.
    env.push(("HOME".to_owned(), "/".to_owned()));
    let program = interpreter();
    let fenced =
        LaunchSpec { program, args, env, cwd: "/".to_owned(), fence, ..Default::default() };
    let mut spec = std::fs::File::from(memfd_create("spec", MemfdFlags::empty()).unwrap());
    spec.write_all(&json::to_vec(&fenced).unwrap()).unwrap();
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
        refused.extend(calls.answer(&Few::default()).into_iter().map(|(_, refused)| refused));
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap().stdout;
    let text = String::from_utf8(output).unwrap();
    assert_eq!(errors.metadata().unwrap().len(), 0, "the launcher failed");
    // The test's own lines come before.
    let said = text.lines().filter_map(|line| line.strip_prefix("> ")).collect::<Vec<_>>();
    assert!(refused.iter().all(|refused| refused.program.starts_with("python3")), "{refused:?}");
    (said.join(" "), refused.into_iter().map(|refused| refused.to).collect())
}

/// Python itself: the `python3` of the `PATH` may be a script of a shell, whose own calls are no part
/// of a test.
fn interpreter() -> String {
    let ask = ["-c", "import sys; print(sys.executable)"];
    let output = std::process::Command::new("python3").args(ask).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
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
    let ((live, live_port), (open, open_port), (relay, _)) = (listener(), listener(), listener());
    let mail = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    mail.set_nonblocking(true).unwrap();
    let mail_port = mail.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let [live_path, open_path] = ["live", "open"].map(|name| dir.path().join(name));
    let bus = format!("halley-fence-{}", std::process::id());
    let _bus = abstract_listener(&bus);
    let [_live_unix, _open_unix] =
        [&live_path, &open_path].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
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
    let fence = Fence { doors, ..Fence::default() };
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
tried("abstract", lambda: unix(chr(0) + "{bus}"))
tried("nowhere", lambda: unix(chr(0) + "{bus}-not"))
tried("nopath", lambda: unix({live_path:?} + "-not"))
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
         fast ENOTSUP livepath EACCES openpath ok abstract EACCES nowhere ECONNREFUSED nopath ENOENT \
         udp-to EACCES udp-msg EACCES udp-connected EACCES child EACCES thread EACCES pair ok"
    );
    let expected = [
        format!("127.0.0.1:{live_port}"),
        live_path.display().to_string(),
        format!("@{bus}"),
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

/// A port that a live program listens at and shares (`SO_REUSEPORT`).
fn shared_listener(at: &str) -> (TcpListener, u16) {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    let shared = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&shared, true).unwrap();
    rustix::net::bind(&shared, &at.parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&shared, 64).unwrap();
    let shared = TcpListener::from(shared);
    let port = shared.local_addr().unwrap().port();
    (shared, port)
}

const LISTEN: &str = r#"
def listen(host, port=0, family=socket.AF_INET, kind=socket.SOCK_STREAM, share=True):
    s = socket.socket(family, kind)
    if share: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((host, port))
    if kind == socket.SOCK_STREAM: s.listen()
    return s
"#;

/// Workers talk to each other over a port that the kernel chose; a port that somebody else
/// listens at as well is not theirs.
#[test]
fn a_program_behind_a_fence_talks_to_itself() {
    let (shared, port) = shared_listener("127.0.0.1:0");
    let mail = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mail_port = mail.local_addr().unwrap().port();
    let bus = format!("halley-test-{}", std::process::id());
    let _bus = abstract_listener(&bus);
    let dir = tempfile::tempdir().unwrap();
    let _live = std::os::unix::net::UnixListener::bind(dir.path().join("live")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    let script = format!(
        r#"{TRY}{LISTEN}
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
tried("none", lambda: udp(at, "connected"))
box = listen("127.0.0.1", kind=socket.SOCK_DGRAM); box_at = box.getsockname()[1]
for how in ["to", "msg", "connected"]: tried("udp", lambda: udp(box_at, how)); box.recv(9)
bus = socket.socket(socket.AF_UNIX); bus.bind("\0{bus}-own"); bus.listen()
tried("bus", lambda: unix("\0{bus}-own")); tried("foreign", lambda: unix("\0{bus}"))
os.chdir("{dir}"); ctl = socket.socket(socket.AF_UNIX); ctl.bind("ctl"); ctl.listen()
for path in ["ctl", "{dir}/ctl", "{dir}/link/ctl"]: tried("path", lambda: unix(path))
for path in ["live", "{dir}/link/live"]: tried("foreign", lambda: unix(path))
tried("foreign", lambda: udp({mail_port}, "to"))
tried("shared", lambda: tcp("127.0.0.1", {port}))
mine.close()
tried("closed", lambda: tcp("127.0.0.1", at))
"#,
        dir = dir.path().display()
    );
    let fence = Fence::default();
    let (said, _) = run(Some(fence), &script);
    let expected = "own ok zero ok six ok worker ok none ECONNREFUSED udp ok udp ok udp ok bus ok \
                    foreign EACCES path ok path ok path ok foreign EACCES foreign EACCES \
                    foreign EACCES shared EACCES closed ECONNREFUSED";
    assert_eq!(said, expected);
    assert_eq!(n_accepted(&shared), 0);
}

fn abstract_listener(name: &str) -> std::os::unix::net::UnixListener {
    let named =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            name,
        );
    std::os::unix::net::UnixListener::bind_addr(&named.unwrap()).unwrap()
}

/// A program that looks whether its port is free finds nobody there, as if it ran alone.
#[test]
fn the_live_release_is_not_there_for_a_program_behind_a_fence() {
    let (live, port) = listener();
    let mail = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    mail.set_nonblocking(true).unwrap();
    let mail_port = mail.local_addr().unwrap().port();
    let script = format!(
        r#"{TRY}{LISTEN}
for host in ["127.0.0.1", "0.0.0.0"]: tried("tcp", lambda: tcp(host, {port}))
for how in ["to", "msg", "connected"]: tried("udp", lambda: udp({mail_port}, how))
mine = listen("127.0.0.1", {port}, share=False); tried("own", lambda: tcp("127.0.0.1", {port}))
"#
    );
    for otherwise in [Otherwise::Refuse, Otherwise::Allow] {
        let (live_ports, datagrams) = (vec![port], vec![mail_port]);
        let fence =
            Fence { otherwise, live: live_ports, live_datagrams: datagrams, ..Fence::default() };
        let (said, refused) = run(Some(fence), &script);
        assert_eq!(
            said,
            "tcp ECONNREFUSED tcp ECONNREFUSED udp ECONNREFUSED udp ECONNREFUSED udp ECONNREFUSED \
             own ok"
        );
        assert_eq!(refused, Vec::<String>::new());
    }
    assert_eq!(n_accepted(&live), 0);
    assert!(mail.recv(&mut [0]).is_err());
}

/// The live release listens at the same port and shares it: its clients must not get to a trial that
/// binds it as well, and the trial finds itself there.
#[test]
fn a_port_that_a_program_binds_behind_a_fence_is_its_own() {
    let (live, port) = shared_listener("127.0.0.1:0");
    let mail = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mail_port = mail.local_addr().unwrap().port();
    let (given_now, given) = listener();
    drop(given_now);
    let script = format!(
        r#"{TRY}{LISTEN}
import ctypes, struct
def nameless(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    at = struct.pack("=H", 0) + struct.pack(">H", port) + bytes(12)
    if ctypes.CDLL(None, use_errno=True).bind(s.fileno(), at, 16): raise OSError(ctypes.get_errno(), "")
    s.listen(); return s
def at(s, port): print(">", "public" if s.getsockname()[1] == port else "private", flush=True)
mine = listen("127.0.0.1", {port}); at(mine, {port})
# Clients from outside have their turn before it looks.
for n in range(40): open("{dir}/ask", "a").write("x")
while not os.path.exists("{dir}/asked"): pass
mine.setblocking(False); tried("foreign", mine.accept)
tried("own", lambda: tcp("127.0.0.1", {port})); mine.setblocking(True); mine.accept()
tried("mapped", lambda: tcp("::ffff:127.0.0.1", {port}, socket.AF_INET6)); mine.accept()
tried("again", lambda: listen("127.0.0.1", {port}))
tried("alone", lambda: listen("127.0.0.1", {port}, share=False))
for s in [listen("0.0.0.0", {port}), listen("::", {port}, socket.AF_INET6), nameless({port})]: at(s, {port})
box = listen("127.0.0.1", {mail_port}, kind=socket.SOCK_DGRAM, share=False); at(box, {mail_port})
for how in ["to", "msg", "connected"]: tried("udp", lambda: udp({mail_port}, how)); print(">", box.recv(9).decode())
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); tried("mapped", lambda: six.sendto(b"y", ("::ffff:127.0.0.1", {mail_port}))); print(">", box.recv(9).decode())
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
n = out.sendmsg([b"a" * 600, b"b" * 400], [], 0, ("0.0.0.0", {mail_port})); print(">", n, len(box.recv(9999)))
tried("long", lambda: out.sendto(bytes(65536), ("127.0.0.1", {mail_port})))
beside = [(socket.IPPROTO_IP, socket.IP_TOS, b"\0\0\0\0")]
tried("beside", lambda: out.sendmsg([b"x"], beside, 0, ("127.0.0.1", {mail_port})))
box.close(); tried("closed", lambda: udp({mail_port}, "to")); tried("fast", lambda: fast({port}))
at(listen("127.0.0.1", {given}), {given})
"#,
        dir = "DIR"
    );
    // What is sent with something beside it is not sent in its place.
    let named = vec![format!("127.0.0.1:{mail_port}")];
    for (otherwise, beside, named) in
        [(Otherwise::Refuse, "EACCES", named), (Otherwise::Allow, "ok", Vec::new())]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let clients = std::thread::spawn(move || {
            while !path.join("ask").exists() {
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
            let asked =
                (0..40).filter(|_| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
            let n = asked.count();
            std::fs::write(path.join("asked"), "").unwrap();
            n
        });
        let fence = Fence { otherwise, given: vec![given], ..Fence::default() };
        let script = script.replace("DIR", dir.path().to_str().unwrap());
        let (said, refused) = run(Some(fence), &script);
        assert_eq!(
            said,
            format!(
                "private foreign EAGAIN own ok mapped ok again ok alone EADDRINUSE private private \
                 private private udp ok x udp ok x udp ok x mapped ok y 1000 1000 long EMSGSIZE \
                 beside {beside} closed ECONNREFUSED fast ENOTSUP public"
            )
        );
        assert_eq!(refused, named);
        assert_eq!((clients.join().unwrap(), n_accepted(&live)), (40, 40));
    }
}

/// Where all is allowed, connections within this host are led to a listener of ours that is told where they
/// were to go: what stands there is known when they are made.
#[test]
fn a_connection_within_this_host_is_led_to_who_asks() {
    use std::io::Read;
    let ((relay, _), (other, other_port)) = (listener(), listener());
    let inet = Via::Asked(Box::new(Via::Inet(relay.local_addr().unwrap())), "secret ".to_owned());
    let here = Some(Here { ips: Vec::new(), unix: inet.clone(), inet, named: ".s.".to_owned() });
    let fence = Fence { otherwise: Otherwise::Allow, here, ..Fence::default() };
    let script = format!(
        r#"{TRY}{LISTEN}
mine = listen("127.0.0.1"); at = mine.getsockname()[1]
tried("own", lambda: tcp("127.0.0.1", at)); mine.accept(); mine.close()
tried("closed", lambda: tcp("127.0.0.1", at))
tried("other", lambda: tcp("127.0.0.1", {other_port}))
tried("async", lambda: both({other_port}))
"#
    );
    let (said, refused) = run(Some(fence), &script);
    assert_eq!(said, "own ok closed ECONNREFUSED other ok async ok");
    assert_eq!(refused, Vec::<String>::new());
    for _ in 0..2 {
        let mut told = String::new();
        relay.accept().unwrap().0.read_to_string(&mut told).unwrap();
        assert_eq!(told, format!("secret 127.0.0.1:{other_port}\0"));
    }
    assert_eq!((n_accepted(&relay), n_accepted(&other)), (0, 0));
}
