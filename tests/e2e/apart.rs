//! A rehearsal is kept from other processes and from the host: a namespace of mounts keeps files apart
//! and nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::isolation::Held;

/// A program of the same user beside it: its memory, its descriptors, its view of the files, signals
/// to it; and a FIFO, which no read-only mount keeps from being written to.
#[test]
fn a_rehearsal_reaches_no_process_outside_of_it() {
    let held = Held::new("root/web/shared/app.db", "");
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let fifo = place.path().join("jobs");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let jobs = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let pid = held.writer.id();
    let script = format!(
        "import ctypes, os, sys\n\
         said = []\n\
         def tried(name, call):\n\
         \x20   try: call(); said.append(name + ' DONE')\n\
         \x20   except OSError as error: said.append(f'{{name}} {{error.errno}}')\n\
         def attach():\n\
         \x20   if ctypes.CDLL(None, use_errno=True).ptrace(16, {pid}, 0, 0):\n\
         \x20       raise OSError(ctypes.get_errno(), '')\n\
         tried('root', lambda: open('/proc/{pid}/root{database}', 'r+b'))\n\
         tried('descriptor', lambda: open('/proc/{pid}/fd/3', 'rb'))\n\
         tried('memory', lambda: open('/proc/{pid}/mem', 'rb'))\n\
         tried('attach', attach)\n\
         tried('signal', lambda: os.kill({pid}, 10))\n\
         tried('fifo', lambda: os.open('{fifo}', os.O_WRONLY | os.O_NONBLOCK))\n\
         os.kill(os.getpid(), 0); open('/proc/self/mem', 'rb').close()\n\
         open('/dev/null', 'w').write('x'); print('heard', file=open('/dev/stdout', 'w'))\n\
         shared = os.environ['HALLEY_SHARED']\n\
         os.rename(shared + '/cache', shared + '/old-cache')\n\
         sys.exit(', '.join(said))\n",
        database = held.database.display(),
        fifo = fifo.display(),
    );
    fs::create_dir(held.world.service_path("shared/cache")).unwrap();
    let said = held.release("", |build| fs::write(build.join("damage.py"), &script).unwrap());
    let why = said.expect(16).result()["trouble"]["why"].as_str().unwrap().to_owned();
    let (eacces, eperm) = (libc::EACCES, libc::EPERM);
    let expected = format!(
        "root {eacces}, descriptor {eacces}, memory {eacces}, attach {eperm}, signal {eperm}, fifo \
         {eacces}"
    );
    assert!(why.contains(&expected), "{why}\n{expected}");
    let mut signals = Command::new("/usr/bin/python3");
    signals.args(["-c", "import os, sys; os.kill(int(sys.argv[1]), 0)", &pid.to_string()]);
    assert!(signals.status().unwrap().success(), "the writer is there");
    drop(jobs);
}

/// A service without a user runs as root: it can undo no mount, and changes nothing of the host.
#[test]
fn root_has_no_rights_over_the_host_in_a_rehearsal() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let held = Held::new("root/web/shared/app.db", "");
    let script = "import ctypes, os, socket, sys\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  def tried(name, result): print(name, ctypes.get_errno() if result else 'DONE', end=' ')\n\
                  shared = os.environ['HALLEY_SHARED'].encode()\n\
                  tried('unmount', libc.umount2(shared, 2))\n\
                  tried('remount', libc.mount(None, b'/', None, 32 | 4096, None))\n\
                  tried('hostname', libc.sethostname(b'odd', 3))\n\
                  tried('namespace', libc.unshare(0x20000))\n\
                  try: socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('packets DONE')\n\
                  except OSError as error: print('packets', error.errno)\n\
                  os.chown(shared + b'/keep', 65533, 65533)\n\
                  sys.exit(1)\n";
    fs::write(held.world.service_path("shared/keep"), "kept").unwrap();
    let said = held.release("", |build| fs::write(build.join("damage.py"), script).unwrap());
    let why = said.expect(16).result()["trouble"]["why"].as_str().unwrap().to_owned();
    let expected = "unmount 1 remount 1 hostname 1 namespace 1 packets 1";
    assert!(why.contains(expected), "{why}");
    let kept = fs::metadata(held.world.service_path("shared/keep")).unwrap();
    assert_eq!(kept.uid(), 0, "its owner changed on the copy alone");
}
