//! A program's memory that never comes keeps nobody waiting.

use std::fs;

use crate::intercept::world;
use crate::real::write;
use crate::world::kill;

/// Calls `bind()` with an address that lies in a page which nobody fills in.
const PROGRAM: &str = r#"
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.bind.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
out = sys.argv[1]
def say(name, text):
    with open(out + '/' + name + '.part', 'w') as file:
        file.write(text)
    os.rename(out + '/' + name + '.part', out + '/' + name)
fd = libc.syscall(323, os.O_CLOEXEC)
if fd < 0:
    say('asks', 'cannot')
    time.sleep(1000)
fcntl.ioctl(fd, 0xc018aa3f, bytearray(struct.pack('QQQ', 0xaa, 0, 0)))
page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
fcntl.ioctl(fd, 0xc020aa00, bytearray(struct.pack('QQQQ', page, 4096, 1, 0)))
taken = socket.socket()
say('asks', 'asks')
libc.bind(taken.fileno(), page, 16)
say('answered', str(ctypes.get_errno()))
time.sleep(1000)
"#;

#[test]
fn an_address_that_never_comes_stops_no_other_service() {
    // By its number on this machine.
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let world = world("");
    let port = world.address.port().to_string();
    let good = world.build_of(&["python3", "-m", "http.server", "--bind", "127.0.0.1", &port]);
    for name in ["index.html", "healthz"] {
        write(&good, name, "release 1\n");
    }
    world.release_path(&good).expect(0);
    let out = world.path("");
    let bad = world.build_of(&["python3", "app.py", &out.to_string_lossy()]);
    write(&bad, "app.py", PROGRAM);
    let args = ["release", "web", &bad.to_string_lossy(), "--detach"];
    world.cli(&args).expect(40);
    world.wait("it asks", |world| world.path("asks").exists());
    if fs::read_to_string(world.path("asks")).unwrap() == "cannot" {
        world.cli(&["abort", "web"]);
        return;
    }
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("another process is started", |world| ![0, live].contains(&world.live_pid()));
    assert_eq!(world.answering(), Some(1));
    world.wait("it is refused", |world| world.path("answered").exists());
    assert_eq!(fs::read_to_string(world.path("answered")).unwrap(), libc::EFAULT.to_string());
    world.cli(&["abort", "web"]);
    world.wait("it is over", |world| world.status()["operation"].is_null());
}
