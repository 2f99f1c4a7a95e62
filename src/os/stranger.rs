//! What is read out of other processes' memory, which may never come: its pages may lie behind a
//! `userfaultfd(2)` or a FUSE file of theirs.
//!
//! A thread of its own reads, and is waited for so long only. A process that has kept it waiting once
//! is not read again. The thread is in the same process, and not in a helper, because Yama lets
//! nobody but an ancestor read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::os::proc;

/// Far longer than a read takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// Readers that wait for ever; each of them waits for another process.
const N_STUCK_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

thread_local! {
    static READER: RefCell<Option<Sender<Work>>> = const { RefCell::new(None) };
    /// Who has kept a reader waiting, by number and start.
    static STUCK: RefCell<Vec<(i32, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Reads out of a process; `None` when that does not come.
pub fn read<T: Send + 'static>(pid: i32, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if is_stuck(pid) {
        return None;
    }
    let got = begin(work)?.recv_timeout(PATIENCE);
    if matches!(got, Err(RecvTimeoutError::Timeout)) {
        give_up(pid);
    }
    got.ok()
}

/// Processes that carry this token in their environment, however far they ran.
#[must_use]
pub fn with_token(token: &str) -> BTreeSet<i32> {
    with_variable(proc::TOKEN, token)
}

/// The value of a variable in the environment that a process was started with.
#[must_use]
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let env = read(pid, move || fs::read(format!("/proc/{pid}/environ")))?.ok()?;
    let mut entries = env.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.find_map(|entry| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// Processes with this variable in their environment. One that cannot be read has none.
#[must_use]
pub fn with_variable(name: &str, value: &str) -> BTreeSet<i32> {
    let entry = format!("{name}={value}").into_bytes();
    let mut found = BTreeSet::new();
    let mut left: Vec<i32> = proc::all().into_iter().filter(|pid| !is_stuck(*pid)).collect();
    left.sort_unstable_by(|a, b| b.cmp(a));
    let mut n_tries = 0..N_STUCK_MAX;
    while !left.is_empty() && n_tries.next().is_some() {
        let (at, entry) = (Arc::new(AtomicI32::new(0)), entry.clone());
        let seen = Arc::clone(&at);
        let (sender, receiver) = channel();
        let pids = left.clone();
        let work = move || {
            for pid in pids.into_iter().rev() {
                seen.store(pid, Ordering::Relaxed);
                let env = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let has = env.split(|byte| *byte == 0).any(|each| each == entry);
                if sender.send((pid, has)).is_err() {
                    return;
                }
            }
        };
        if begin(work).is_none() {
            break;
        }
        // It ends when all were read, and times out when one does not come.
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok((pid, has)) => {
                    left.pop();
                    found.extend(has.then_some(pid));
                }
                Err(RecvTimeoutError::Timeout) => {
                    give_up(at.load(Ordering::Relaxed));
                    left.pop();
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => return found,
            }
        }
    }
    found
}

/// Has the reader do it; another one when the last was left behind.
fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (sender, receiver) = channel();
    let mut work: Work = Box::new(move || drop(sender.send(work())));
    READER.with_borrow_mut(|reader| {
        if let Some(to) = reader {
            match to.send(work) {
                Ok(()) => return Some(receiver),
                Err(back) => work = back.0,
            }
        }
        let (to, from) = channel::<Work>();
        let run = move || {
            // They are for the thread that takes them along when the process becomes another program.
            proc::hold_signals();
            from.into_iter().for_each(|work| work());
        };
        std::thread::Builder::new().name("reader".to_owned()).spawn(run).ok()?;
        to.send(work).ok()?;
        *reader = Some(to);
        Some(receiver)
    })
}

fn is_stuck(pid: i32) -> bool {
    STUCK.with_borrow(|stuck| {
        stuck.len() >= N_STUCK_MAX
            || stuck
                .iter()
                .any(|known| known.0 == pid && proc::start_ticks(pid).ok() == Some(known.1))
    })
}

/// Leaves the reader to it, and never reads that process again.
fn give_up(pid: i32) {
    tracing::error!(pid, "a process's memory does not come; it is not read again");
    READER.take();
    let start_ticks = proc::start_ticks(pid).unwrap_or(0);
    STUCK.with_borrow_mut(|stuck| {
        stuck.retain(|(pid, start)| proc::start_ticks(*pid).ok() == Some(*start));
        stuck.push((pid, start_ticks));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_the_reader_waiting_keeps_nobody_else_waiting() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (stuck, me) = (i32::try_from(child.id()).unwrap(), std::process::id().cast_signed());
        let (ended, end) = channel::<()>();
        let never = move || end.recv().is_ok();
        assert_eq!(read(stuck, never), None);
        assert_eq!(read(stuck, || 1), None, "it is not read again");
        assert_eq!(read(me, || 2), Some(2));
        let found = with_variable("PATH", &std::env::var("PATH").unwrap());
        assert!(found.contains(&me) && !found.contains(&stuck), "{found:?}");
        drop(ended);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_token_finds_a_process_that_left_its_parents() {
        let token = format!("test-{}", std::process::id());
        let script = "(setsid sleep 60 </dev/null >/dev/null 2>&1 &)";
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", script]).env(proc::TOKEN, &token).status().unwrap();
        let mut found = BTreeSet::new();
        for _ in 0..1000 {
            found = with_token(&token);
            if found.iter().any(|pid| proc::name(*pid).as_deref() == Some("sleep")) {
                break;
            }
            std::thread::yield_now();
        }
        assert!(!found.is_empty());
        for pid in found {
            proc::signal(pid, proc::start_ticks(pid).unwrap(), 9).unwrap();
        }
    }
}
