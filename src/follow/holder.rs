//! The holder: has a duplicate of every connection whose mark may be up, so that no mark outlives the watcher.
//!
//! When the watcher ends, or is not heard of, every mark goes down. What is being passed on is passed on by
//! the holder, so it goes on to its end as well.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::carry::{self, Carried};
use super::message::{self, Message};
use super::{SILENT_MS, WATCH};
use crate::os::{clock, connection, scm};

const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// An answer needs little of it.
const STACK_BYTES: usize = 256 * 1024;

struct Holder {
    socket: Arc<OwnedFd>,
    held: BTreeMap<u64, OwnedFd>,
    carrying: Vec<JoinHandle<()>>,
}

/// How the watcher has left.
enum Left {
    /// It ended, or closed its side.
    Gone,
    /// It is not heard of.
    Silent,
    /// Both are asked to end.
    Asked,
}

/// Starts the watcher, holds what it watches, and leaves after it.
///
/// # Errors
/// When there is no watcher, or it ended badly.
pub fn run(args: &[std::ffi::OsString], stop: &Arc<AtomicBool>) -> io::Result<()> {
    let (own, other) = scm::pair()?;
    rustix::io::ioctl_fionbio(&own, true)?;
    let mut watcher = start(args, other)?;
    let socket = Arc::new(own);
    let mut holder = Holder { socket, held: BTreeMap::new(), carrying: Vec::new() };
    let left = holder.serve(stop);
    for connection in holder.held.values() {
        let _ = connection::lower(connection);
    }
    if matches!(left, Left::Silent) {
        tracing::warn!("what watches kept connections is not heard of: ended");
        watcher.kill()?;
    }
    // It sees that this side is closed, and puts down what is up itself.
    drop(holder.socket);
    holder.held.clear();
    for carrying in holder.carrying {
        drop(carrying.join());
    }
    let status = watcher.wait()?;
    match left {
        Left::Asked => Ok(()),
        Left::Gone if status.success() => Ok(()),
        Left::Gone | Left::Silent => Err(io::Error::other(status.to_string())),
    }
}

/// The same program; the descriptor of the board is its input as it is this one's.
fn start(args: &[std::ffi::OsString], socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(super::VERB).arg(WATCH).args(args);
    command.stdin(Stdio::inherit()).stdout(Stdio::from(socket)).spawn()
}

impl Holder {
    fn serve(&mut self, stop: &AtomicBool) -> Left {
        let mut heard = clock::tick();
        loop {
            let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
            let n = poll(&mut fds, Some(&LOOK)).unwrap_or(0);
            if stop.load(Ordering::Relaxed) {
                return Left::Asked;
            }
            if n == 0 {
                if clock::tick().since_ms(heard) >= SILENT_MS {
                    return Left::Silent;
                }
                continue;
            }
            loop {
                match message::receive(&*self.socket) {
                    Ok(Some((message, connection))) => self.hear(message, connection),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(None) | Err(_) => return Left::Gone,
                }
            }
            heard = clock::tick();
        }
    }

    fn hear(&mut self, message: Message, connection: Option<OwnedFd>) {
        match message {
            Message::Hold(id) => {
                drop(connection.map(|connection| self.held.insert(id, connection)))
            }
            Message::Forget(id) => drop(self.held.remove(&id)),
            Message::Take(id) | Message::Pass(id) => {
                let is_orphan = matches!(message, Message::Pass(_));
                if let Some(connection) = self.held.remove(&id) {
                    self.carry(id, connection, is_orphan);
                }
            }
            Message::Beat => self.say(Message::Beat),
            Message::Done(_) | Message::Returned(_) => {}
        }
    }

    fn say(&self, message: Message) {
        // One that is gone needs no answer.
        drop(message::send(&*self.socket, message, None));
    }

    fn carry(&mut self, id: u64, connection: OwnedFd, is_orphan: bool) {
        self.carrying.retain(|carrying| !carrying.is_finished());
        let connection = Arc::new(connection);
        let (socket, carried) = (Arc::clone(&self.socket), Arc::clone(&connection));
        let work = move || {
            let done = if is_orphan {
                carry::pass_all(&carried);
                Carried::Done
            } else {
                carry::take(&carried)
            };
            let message = match done {
                Carried::Done => Message::Done(id),
                Carried::Untouched => {
                    let _ = connection::lower(&*carried);
                    Message::Returned(id)
                }
            };
            drop(carried);
            drop(message::send(&*socket, message, None));
        };
        match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work) {
            Ok(carrying) => self.carrying.push(carrying),
            Err(_) => {
                let _ = connection::lower(&*connection);
                self.say(Message::Returned(id));
            }
        }
    }
}
