//! The forwarder: gives every connection of some inherited listeners to a backend that listens at
//! an address of its own (`handoff = "port"`).
//!
//! Or it relays the connections that were left waiting in a slot that no process accepts from any
//! more (`--to called --until-empty`): it takes them, lets the slot go, and exits with the last of
//! them. It is a process, so that these connections outlive the supervisor.
//!
//! For an instance it is one process, in its slots, so that steering, shares and a standby are as
//! for a program that takes sockets. Bytes go from socket to pipe to socket by `splice(2)` and never
//! come here. A backend that is not there is waited for: late, never lost. It must never shut a
//! listener down: the process that runs after it accepts what it has left in the queue.
//! A panic would end every connection of the process, so nothing here may index or slice, tests
//! aside.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod admission;
mod connection;
mod desk;
mod ears;
mod flow;
mod header;
mod options;
mod patience;
mod pipe;
mod slots;
mod target;
mod worker;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use admission::Admission;
use clap::Parser;
use desk::Desk;
use options::Options;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use worker::Worker;

use crate::os::{self, listen, proc};

/// The hidden verb.
pub const VERB: &str = "forward";

/// Why the forwarder is not there.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("LISTEN_FDS is {found:?}, not the number of sockets that were handed over")]
    NoListeners { found: String },
    #[error("LISTEN_PID is {found}: the sockets are for another process")]
    NotForUs { found: String },
    #[error("descriptor {number}: {source}")]
    Listener {
        number: i32,
        #[source]
        source: io::Error,
    },
    #[error("{step}: {source}")]
    System {
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The forwarder's `main`: 0 when it was asked to stop and every connection has ended. `SIGPIPE` is
/// ignored, as Rust's runtime has it.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    os::log_to_stderr();
    // A worker that panics alone would leave the clients on its desk waiting for ever, in a process
    // that looks healthy. One that ends is started again, and its listeners' queues are kept.
    os::abort_on_panic("the forwarder ends; its queues stay for the next forwarder");
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if options.private
        && let Err(error) = os::keep_private()
    {
        tracing::warn!("other processes of this user can look into this one: {error}");
    }
    match forward(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("cannot forward to {}: {error}", options.to);
            ExitCode::from(1)
        }
    }
}

fn forward(options: &Options) -> Result<(), ForwardError> {
    let at = |step| move |source| ForwardError::System { step, source };
    let (listeners, clients) = inherited()?;
    let stop = stop_signal().map_err(at("SIGTERM"))?;
    let n_threads = options.n_threads();
    let desk = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Desk::new);
    let desks: Result<Vec<Desk>, _> = (0..n_threads).map(desk).collect();
    let desks = desks.map_err(io::Error::from).map_err(at("eventfd"))?;
    let n_possible = n_clients_possible(raise_file_limit(), n_threads, listeners.len());
    let n_most = options.max_clients.map_or(n_possible, |n| n.get().min(n_possible));
    let admission = Admission::new(n_most.max(clients.len()), desks);
    let worker = |desk| {
        let own = listeners.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?;
        Worker::new(desk, options, own, &admission, &stop)
    };
    let workers: io::Result<Vec<Worker<'_>>> = admission.desks().iter().map(worker).collect();
    let mut workers = workers.map_err(at("epoll"))?;
    drop(listeners);
    let last = workers.pop();
    let run = std::thread::scope(|scope| {
        let mut others = Vec::new();
        for one in workers {
            let desk = one.desk();
            match std::thread::Builder::new().spawn_scoped(scope, || one.run()) {
                Ok(thread) => others.push(thread),
                Err(error) => {
                    tracing::warn!("no thread for a worker, the others do its work: {error}");
                    admission.close(desk);
                }
            }
        }
        for client in clients {
            // There are places for all of them, and the desk of this thread is there.
            admission.enter();
            admission.deal(client);
        }
        let own = last.map_or(Ok(()), Worker::run);
        let ended = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(io::Error::other("a worker has panicked")))
        });
        ended.fold(own, Result::and)
    });
    run.map_err(at("epoll_wait"))
}

/// The sockets that were handed over (`sd_listen_fds(3)`): listeners, and clients that are accepted
/// already.
fn inherited() -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), ForwardError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let pid = variable("LISTEN_PID");
    if !pid.is_empty() && pid != std::process::id().to_string() {
        return Err(ForwardError::NotForUs { found: pid });
    }
    let found = variable("LISTEN_FDS");
    let n: i32 = found.parse().ok().filter(|n| (1..=64).contains(n)).unwrap_or(0);
    if n == 0 {
        return Err(ForwardError::NoListeners { found });
    }
    let sockets = proc::take_inherited(n)
        .map_err(|(number, source)| ForwardError::Listener { number, source })?;
    for (number, fd) in (3..).zip(&sockets) {
        // Several workers may be woken for one connection: accept(2) must not wait.
        listen::set_nonblocking(fd).map_err(|source| ForwardError::Listener { number, source })?;
        // Accepted connections inherit it. A Unix socket has no such option.
        let _ = rustix::net::sockopt::set_tcp_nodelay(fd, true);
    }
    let listens = |fd: &OwnedFd| rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(true);
    Ok(sockets.into_iter().partition(listens))
}

/// A socket that becomes readable when the forwarder shall accept no more.
fn stop_signal() -> io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, write)?;
    Ok(read.into())
}

/// As many open files as the process may have; the soft limit is for programs with `select(2)`.
fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let in_force = if raised.is_ok() { limit.maximum } else { limit.current };
    in_force.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// How many clients can be served without ever lacking a descriptor: each has two sockets and, when
/// bytes stay unread, two pipes. One that was accepted and gets no backend for lack of descriptors
/// would be worse off than one that waits in the queue.
fn n_clients_possible(n_files: usize, n_threads: usize, n_listeners: usize) -> usize {
    let n_own = 16 + (n_threads + 1) * n_listeners + n_threads * (2 + 2 * pipe::Pool::N_MOST);
    (n_files.saturating_sub(n_own) / 6).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_worth_six_descriptors_and_one_place_there_is() {
        assert_eq!(n_clients_possible(1024, 2, 1), (1024 - 19 - 68) / 6);
        assert_eq!(n_clients_possible(20, 2, 1), 1);
    }

    #[test]
    fn the_command_line_is_read() {
        let read = |line: &str| Options::try_parse_from(line.split(' '));
        let options = read("--to unix:/run/x.sock --max-clients 7 --threads 3").unwrap();
        assert_eq!((options.n_threads(), options.max_clients.unwrap().get()), (3, 7));
        assert!(!options.proxy_protocol);
        assert!(read("--to tcp://127.0.0.1:1 --max-clients 0").is_err());
        assert!(read("--max-clients 1").is_err());
    }
}
