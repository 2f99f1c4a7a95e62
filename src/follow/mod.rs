//! Kept connections follow the flip: the next request on each goes to where new connections go.
//!
//! New connections go where the program in the kernel steers them; those that are open stay with the process
//! that accepted them. Here each gets a mark that holds back what comes (`os/connection.rs`); a whole request
//! without a body is taken out of the queue before the old program is woken, passed on, answered with
//! `Connection: close`, and the connection ended. The client's next connection is steered.
//!
//! Two processes, so that no mark outlives the one that raised it: the *watcher* looks and decides, the *holder*
//! has a duplicate of all that may be marked and passes on. When either ends or stands still, the other puts
//! every mark down. Both are there from the gate until all connections have followed, and outlive the supervisor.
//! They must never touch a connection whose next bytes are not certainly a request that begins.
//! A panic would end either, so nothing here may index or slice, tests aside.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod answer;
mod carry;
mod connection;
mod head;
mod holder;
mod message;
mod program;
mod watched;
mod watcher;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use crate::os::{self, proc, tally::Board};

/// The hidden verb.
pub const VERB: &str = "follow";
const WATCH: &str = "--watch";

/// One that is not heard of for so long is taken for dead.
const SILENT_MS: u64 = 1_000;

/// Lets kept connections of processes follow the flip
#[derive(Debug, Parser)]
#[command(name = "halley-sup follow", no_binary_name = true)]
struct Options {
    /// A process whose connections are watched, with all that it started
    #[arg(long, value_name = "PID", required = true)]
    of: Vec<i32>,
    /// The port of a listener
    #[arg(long, required = true)]
    port: Vec<u16>,
    /// End quiet connections as well, whatever they carry
    #[arg(long)]
    close: bool,
    /// Be the watcher; the holder is at the other end of the standard output
    #[arg(long)]
    watch: bool,
}

/// The `main` of both: 0 when all is done, or was asked to end.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    os::log_to_stderr();
    os::abort_on_panic("marks go down with the other one's help");
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    proc::use_all_files();
    match perform(args, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("kept connections: {error}");
            ExitCode::from(1)
        }
    }
}

fn perform(args: &[OsString], options: &Options) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    proc::on_signal(libc::SIGTERM, move || flag.store(true, Ordering::Relaxed))?;
    if !options.watch {
        return holder::run(args, &stop);
    }
    let board = Board::adopt(io::stdin().as_fd().try_clone_to_owned()?);
    let holder = io::stdout().as_fd().try_clone_to_owned()?;
    watcher::Watcher::new(options, board, holder).run()
}
