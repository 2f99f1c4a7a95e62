//! The kernel fence: the only place with `unsafe` and raw descriptors.
//!
//! Small functions over owned descriptors, one job a file. This room must never know a service, a
//! release or a configuration.

pub mod addresses;
pub mod apart;
pub mod beneath;
pub mod call_filter;
pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod connection;
pub mod diag;
pub mod exchange;
pub mod fence;
pub mod fs;
pub mod handover;
pub mod holders;
pub mod in_place;
pub mod intercept;
pub mod isolate;
pub mod launch;
pub mod launch_spec;
pub mod limits;
pub mod listen;
pub mod local;
pub mod mark;
pub mod memory;
pub mod mounts;
pub mod names;
pub mod notify;
pub mod options;
pub mod private_port;
pub mod proc;
pub mod ready;
pub mod recover;
pub mod running;
pub mod scm;
pub mod sockets;
pub mod spool;
#[cfg(any(test, all(target_feature = "crt-static", panic = "abort")))]
mod stack_bounds;
pub mod stderr;
pub mod steer;
pub mod stranger;
pub mod tally;
#[cfg(all(target_feature = "crt-static", panic = "abort"))]
mod unwind;
pub mod usage;
pub mod wish;

/// Gives this process the name that `ps -o comm` shows: one that was started by its link in `/proc` is
/// called `exe`.
pub fn name_process() {
    let _ = rustix::thread::set_name(c"halley-sup");
}

/// Internal failures are logged to stderr, one line each; time is the journal's business. Nobody
/// waits for stderr to be read.
pub fn log_to_stderr() {
    let told = tracing_subscriber::fmt()
        .with_writer(|| stderr::Stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .try_init();
    // A second call finds the first one's.
    drop(told);
}

/// Keeps what this process makes and knows from other users: its files are its own whatever umask it
/// was started with, other processes of its user cannot trace it, and it leaves no core
/// (`PR_SET_DUMPABLE`). A program that it executes begins without that.
///
/// # Errors
/// `prctl(2)`'s.
pub fn keep_private() -> std::io::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let not = rustix::process::DumpableBehavior::NotDumpable;
    Ok(rustix::process::set_dumpable_behavior(not)?)
}

/// Ends the whole process at the first panic of any of its threads and tasks, in builds that unwind
/// too; `message` reports on stderr what follows from it.
pub fn abort_on_panic(message: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(%panic, "{message}");
        std::process::abort();
    }));
}

/// What the kernel of this host can do.
#[must_use]
pub fn kernel() -> crate::core::kernel::Kernel {
    crate::core::kernel::Kernel {
        can_intercept: call_filter::is_supported(),
        somaxconn: listen::somaxconn(),
    }
}
