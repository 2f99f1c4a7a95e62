//! A file system that passes every request on to a directory and can be told to fail what is written: the
//! kernel asks it over `/dev/fuse` (protocol 7.31, `linux/fuse.h`), so a program meets the error in the very
//! call that a broken disk would give it to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps, Uid,
};
use rustix::mount::{MountFlags, mount};

use crate::passthrough_wire::{Answer, Words};

const ROOT: u64 = 1;
/// More than the largest request: one write of 128 KiB.
const REQUEST_BYTES: usize = 256 * 1024;

/// Which requests that write are failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// One, counted from the last change of the fault; an error number.
    Once(usize, i32),
    /// This one and all after it.
    From(usize, i32),
}

#[derive(Debug, Default)]
struct Switch {
    fault: Fault,
    /// What was asked since the last change, in order.
    asked: Vec<&'static str>,
    failed: Vec<&'static str>,
}

impl Switch {
    fn pass(&mut self, what: &'static str) -> io::Result<()> {
        let n = self.asked.len();
        self.asked.push(what);
        let (Fault::Once(at, error) | Fault::From(at, error)) = self.fault else { return Ok(()) };
        let is_failed = n == at || n > at && matches!(self.fault, Fault::From(..));
        if !is_failed {
            return Ok(());
        }
        self.failed.push(what);
        Err(io::Error::from_raw_os_error(error))
    }
}

/// The mount. It ends with this.
pub struct Passthrough {
    at: tempfile::TempDir,
    _behind: tempfile::TempDir,
    switch: Arc<Mutex<Switch>>,
}

impl Passthrough {
    pub fn new() -> Self {
        let (at, behind) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!(
            "fd={},rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount("passthrough", at.path(), "fuse", MountFlags::empty(), Some(options.as_c_str()))
            .unwrap();
        let switch = Arc::new(Mutex::new(Switch::default()));
        let server = Server::new(device, behind.path(), switch.clone());
        std::thread::spawn(move || server.serve());
        Self { at, _behind: behind, switch }
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// From now on. What was asked and failed until now is returned.
    pub fn set(&self, fault: Fault) -> (Vec<&'static str>, Vec<&'static str>) {
        let before = std::mem::replace(
            &mut *self.switch.lock().unwrap(),
            Switch { fault, ..Switch::default() },
        );
        (before.asked, before.failed)
    }
}

impl Drop for Passthrough {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// A file that the kernel knows: it stays the same one when its name changes or goes.
struct Node {
    handle: OwnedFd,
    key: (u64, u64),
    n_known: u64,
}

enum Opened {
    File(File),
    Dir(PathBuf, Vec<(Vec<u8>, u64, u32)>),
}

struct Server {
    device: File,
    switch: Arc<Mutex<Switch>>,
    nodes: BTreeMap<u64, Node>,
    opened: BTreeMap<u64, Opened>,
    next: u64,
}

/// The caller, by whom what is made is owned.
#[derive(Clone, Copy)]
struct Caller(u32, u32);

fn way(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn not_there() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// What a request changes, when it changes anything.
fn written(opcode: u32) -> Option<&'static str> {
    Some(match opcode {
        4 => "setattr",
        6 => "symlink",
        8 => "mknod",
        9 => "mkdir",
        10 => "unlink",
        11 => "rmdir",
        12 | 45 => "rename",
        13 => "link",
        16 => "write",
        20 => "fsync",
        30 => "fsync of a directory",
        35 => "create",
        43 => "fallocate",
        _ => return None,
    })
}

impl Server {
    fn new(device: File, behind: &Path, switch: Arc<Mutex<Switch>>) -> Self {
        let handle = File::options().read(true).custom_flags(libc::O_PATH).open(behind).unwrap();
        let node = Node { handle: handle.into(), key: (0, 0), n_known: u64::MAX };
        let (nodes, opened) = (BTreeMap::from([(ROOT, node)]), BTreeMap::new());
        Self { device, switch, nodes, opened, next: ROOT + 1 }
    }

    /// Until the mount is gone.
    fn serve(mut self) {
        let mut request = vec![0; REQUEST_BYTES];
        loop {
            let n = match self.device.read(&mut request) {
                Ok(n) => n,
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
                Err(_) => continue,
            };
            let mut words = Words(&request[4..n]);
            let (opcode, unique, node) = (words.u32(), words.u64(), words.u64());
            let caller = Caller(words.u32(), words.u32());
            words.bytes(8);
            // Nobody waits for an answer to these.
            if opcode == 2 {
                self.forget(node, words.u64());
                continue;
            }
            if opcode == 42 {
                let n_nodes = words.u64() as u32;
                (0..n_nodes).for_each(|_| self.forget(words.u64(), words.u64()));
                continue;
            }
            let passed = match written(opcode) {
                Some(what) => self.switch.lock().unwrap().pass(what),
                None => Ok(()),
            };
            let answer = passed.and_then(|()| self.answer(opcode, node, caller, words));
            let (error, body) = match answer {
                Ok(answer) => (0, answer.0),
                Err(error) => (-error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
            };
            let head = Answer::default().u32(16 + body.len() as u32).u32(error.cast_unsigned());
            let whole = [head.u64(unique).0, body].concat();
            drop(self.device.write(&whole));
        }
    }

    fn handle(&self, node: u64) -> io::Result<&OwnedFd> {
        self.nodes.get(&node).map(|node| &node.handle).ok_or_else(not_there)
    }

    fn file(&self, handle: u64) -> io::Result<&File> {
        match self.opened.get(&handle) {
            Some(Opened::File(file)) => Ok(file),
            _ => Err(not_there()),
        }
    }

    fn forget(&mut self, number: u64, n: u64) {
        let Some(node) = self.nodes.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.n_known = node.n_known.saturating_sub(n);
        if node.n_known == 0 {
            self.nodes.remove(&number);
        }
    }

    fn keep(&mut self, opened: Opened) -> u64 {
        self.next += 1;
        self.opened.insert(self.next, opened);
        self.next
    }

    /// The entry of a name, known to the kernel from now on.
    fn entry(&mut self, dir: u64, name: &OsStr) -> io::Result<Answer> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(self.handle(dir)?, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&handle)?;
        let key = (stat.st_dev, stat.st_ino);
        let known = self.nodes.iter_mut().find(|(_, node)| node.key == key);
        let number = if let Some((number, node)) = known {
            node.n_known += 1;
            *number
        } else {
            self.next += 1;
            self.nodes.insert(self.next, Node { handle, key, n_known: 1 });
            self.next
        };
        let head = Answer::default().u64(number).u64(0).u64(1).u64(1).u64(0);
        Ok(head.attributes(&stat))
    }

    /// The entry of a name that was just made.
    fn made(&mut self, dir: u64, name: &OsStr, mode: u32, who: Caller) -> io::Result<Answer> {
        let handle = self.handle(dir)?;
        let (uid, gid) = (Uid::from_raw(who.0), Gid::from_raw(who.1));
        rustix::fs::chownat(handle, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if mode != 0 {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::chmodat(handle, name, mode, AtFlags::empty())?;
        }
        self.entry(dir, name)
    }

    fn attributes(&self, node: u64) -> io::Result<Answer> {
        let stat = rustix::fs::fstat(self.handle(node)?)?;
        Ok(Answer::default().u64(1).u64(0).attributes(&stat))
    }

    fn answer(&mut self, opcode: u32, node: u64, who: Caller, words: Words) -> io::Result<Answer> {
        match opcode {
            1 => self.entry(node, { words }.name()),
            3 => self.attributes(node),
            4 => self.set_attributes(node, words),
            5 => {
                let target = rustix::fs::readlinkat(self.handle(node)?, "", Vec::new())?;
                Ok(Answer(target.into_bytes()))
            }
            6 | 8 | 9 | 13 | 35 => self.make(opcode, node, who, words),
            10 | 11 => {
                let flags = if opcode == 11 { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                rustix::fs::unlinkat(self.handle(node)?, { words }.name(), flags)?;
                Ok(Answer::default())
            }
            12 | 45 => self.rename(opcode, node, words),
            14 | 27 => self.open(node, opcode == 27, { words }.u32()),
            15 | 16 | 20 | 28 | 43 | 46 => self.use_opened(opcode, words),
            17 => self.room(node),
            18 | 29 => {
                self.opened.remove(&{ words }.u64());
                Ok(Answer::default())
            }
            25 | 30 => Ok(Answer::default()),
            26 => {
                // The largest write, times to the nanosecond, and the kernel's own rights and locks.
                let head = Answer::default().u32(7).u32(31).u32(128 * 1024).u32(1 << 5);
                let head = head.u16(0).u16(0).u32(128 * 1024).u32(1).u16(0).u16(0).u32(0).u32(0);
                Ok(head.u64(0).u64(0).u64(0))
            }
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }

    fn make(
        &mut self,
        opcode: u32,
        node: u64,
        who: Caller,
        mut words: Words,
    ) -> io::Result<Answer> {
        match opcode {
            6 => {
                let (name, target) = (words.name(), words.name());
                rustix::fs::symlinkat(target, self.handle(node)?, name)?;
                self.made(node, name, 0, who)
            }
            8 => {
                let (mode, device) = (words.u32(), words.u32());
                words.u64();
                let (name, bits) = (words.name(), Mode::from_raw_mode(mode & 0o7777));
                let kind = FileType::from_raw_mode(mode);
                rustix::fs::mknodat(self.handle(node)?, name, kind, bits, device.into())?;
                self.made(node, name, mode, who)
            }
            9 => {
                let mode = words.u32();
                words.u32();
                let name = words.name();
                let bits = Mode::from_raw_mode(mode & 0o7777);
                rustix::fs::mkdirat(self.handle(node)?, name, bits)?;
                self.made(node, name, mode, who)
            }
            13 => {
                let from = way(self.handle(words.u64())?);
                let (name, flags) = (words.name(), AtFlags::SYMLINK_FOLLOW);
                rustix::fs::linkat(rustix::fs::CWD, from, self.handle(node)?, name, flags)?;
                self.entry(node, name)
            }
            _ => {
                let (flags, mode) = (words.u32(), words.u32());
                words.u64();
                let name = words.name();
                let flags = OFlags::from_bits_retain(flags) | OFlags::CREATE | OFlags::CLOEXEC;
                let bits = Mode::from_raw_mode(mode & 0o7777);
                let file = rustix::fs::openat(self.handle(node)?, name, flags, bits)?;
                let entry = self.made(node, name, mode, who)?;
                let number = self.keep(Opened::File(file.into()));
                Ok(entry.u64(number).u64(0))
            }
        }
    }

    fn set_attributes(&self, node: u64, mut words: Words) -> io::Result<Answer> {
        let handle = self.handle(node)?;
        let valid = words.u64() as u32;
        let _file = words.u64();
        let size = words.u64();
        words.u64();
        let (access, change) = (words.u64(), words.u64());
        words.u64();
        let (access_ns, change_ns) = (words.u32(), words.u32());
        words.u32();
        let (mode, _, uid, gid) = (words.u32(), words.u32(), words.u32(), words.u32());
        let has = |bit: u32| valid & bit != 0;
        if has(2 | 4) {
            let (uid, gid) =
                (has(2).then(|| Uid::from_raw(uid)), has(4).then(|| Gid::from_raw(gid)));
            rustix::fs::chownat(handle, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if has(1) {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::chmod(way(handle), mode)?;
        }
        if has(8) {
            File::options().write(true).open(way(handle))?.set_len(size)?;
        }
        let time = |is_given, is_now, seconds: u64, tv_nsec: u32| match (is_given, is_now) {
            (_, true) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            (true, _) => Timespec { tv_sec: seconds as i64, tv_nsec: tv_nsec.into() },
            _ => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        };
        if has(16 | 32 | 128 | 256) {
            let times = Timestamps {
                last_access: time(has(16), has(128), access, access_ns),
                last_modification: time(has(32), has(256), change, change_ns),
            };
            let flags = AtFlags::empty();
            rustix::fs::utimensat(rustix::fs::CWD, way(handle), &times, flags)?;
        }
        self.attributes(node)
    }

    fn rename(&self, opcode: u32, node: u64, mut words: Words) -> io::Result<Answer> {
        let to = words.u64();
        let flags = if opcode == 45 { words.u64() as u32 } else { 0 };
        let (name, new) = (words.name(), words.name());
        let flags = RenameFlags::from_bits_retain(flags);
        rustix::fs::renameat_with(self.handle(node)?, name, self.handle(to)?, new, flags)?;
        Ok(Answer::default())
    }

    fn open(&mut self, node: u64, is_dir: bool, flags: u32) -> io::Result<Answer> {
        let path = way(self.handle(node)?);
        let opened = if is_dir {
            Opened::Dir(path, Vec::new())
        } else {
            let flags = OFlags::from_bits_retain(flags) - OFlags::NOFOLLOW - OFlags::APPEND;
            let file = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
            Opened::File(file.into())
        };
        let number = self.keep(opened);
        Ok(Answer::default().u64(number).u64(0))
    }

    fn use_opened(&mut self, opcode: u32, mut words: Words) -> io::Result<Answer> {
        let (handle, at) = (words.u64(), words.u64());
        match opcode {
            15 => {
                let mut bytes = vec![0; words.u32() as usize];
                let n = self.file(handle)?.read_at(&mut bytes, at)?;
                bytes.truncate(n);
                Ok(Answer(bytes))
            }
            16 => {
                let n = words.u32();
                words.bytes(20);
                self.file(handle)?.write_all_at(words.bytes(n as usize), at)?;
                Ok(Answer::default().u32(n).u32(0))
            }
            // No power is cut here.
            20 => Ok(Answer::default()),
            28 => self.list(handle, at as usize, words.u32() as usize),
            43 => {
                let (n, mode) = (words.u64(), words.u32());
                let flags = rustix::fs::FallocateFlags::from_bits_retain(mode);
                rustix::fs::fallocate(self.file(handle)?, flags, at, n)?;
                Ok(Answer::default())
            }
            _ => {
                let to = if words.u32() == 3 { SeekFrom::Data(at) } else { SeekFrom::Hole(at) };
                Ok(Answer::default().u64(rustix::fs::seek(self.file(handle)?, to)?))
            }
        }
    }

    fn list(&mut self, handle: u64, from: usize, n_bytes: usize) -> io::Result<Answer> {
        let Some(Opened::Dir(path, names)) = self.opened.get_mut(&handle) else {
            return Err(not_there());
        };
        if from == 0 {
            names.clear();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                let kind = match (kind.is_dir(), kind.is_symlink(), kind.is_fifo()) {
                    (true, _, _) => 4,
                    (_, true, _) => 10,
                    (_, _, true) => 1,
                    _ if kind.is_socket() => 12,
                    _ => 8,
                };
                let number = std::os::unix::fs::DirEntryExt::ino(&entry);
                names.push((entry.file_name().as_bytes().to_vec(), number, kind));
            }
        }
        let mut answer = Answer::default();
        for (index, (name, number, kind)) in names.iter().enumerate().skip(from) {
            let room = (24 + name.len()).next_multiple_of(8);
            if answer.0.len() + room > n_bytes {
                break;
            }
            let until = answer.0.len() + room;
            let head = answer.u64(*number).u64(index as u64 + 1);
            answer = head.u32(name.len() as u32).u32(*kind);
            answer.0.extend(name);
            answer.0.resize(until, 0);
        }
        Ok(answer)
    }

    fn room(&self, node: u64) -> io::Result<Answer> {
        let it = rustix::fs::fstatfs(self.handle(node)?)?;
        let own = Answer::default().u64(it.f_blocks).u64(it.f_bfree).u64(it.f_bavail);
        let own = own.u64(it.f_files).u64(it.f_ffree).u32(it.f_bsize as u32).u32(255);
        Ok(own.u32(it.f_bsize as u32).u32(0).u64(0).u64(0).u64(0))
    }
}
