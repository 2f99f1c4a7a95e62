//! What runs beside: a future of the supervisor's one thread, and work that would block it.
//!
//! It knows nothing of what it begins. It must never be passed by: a runtime compiles its machinery
//! once for each type that it is given, several kilobytes each, so here all have one; and how long
//! each keeps all the others waiting is measured here.

use std::cell::Cell;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::os::clock;

/// A task that keeps the others waiting for longer is reported.
const LAG_MS_MAX: u64 = 250;

/// For how long the event loop stood still, and the task that was at work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lag {
    /// Milliseconds.
    pub ms: u64,
    /// Where the task was begun.
    pub task: &'static Location<'static>,
}

thread_local! {
    static WORST: Cell<Option<Lag>> = const { Cell::new(None) };
}

/// The longest time that the event loop stood still, since this process began.
pub(crate) fn worst_lag() -> Option<Lag> {
    WORST.get()
}

/// Begins `future` on this thread.
#[track_caller]
pub(crate) fn local<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let timed = Timed { future: Box::pin(future), task: Location::caller() };
    #[expect(clippy::disallowed_methods, reason = "the one place of it")]
    tokio::task::spawn_local(timed)
}

/// Begins `work` on a thread of its own.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
    #[expect(clippy::disallowed_methods, reason = "the one place of it")]
    tokio::task::spawn_blocking(work)
}

struct Timed<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    task: &'static Location<'static>,
}

impl<T> Future for Timed<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let begun = clock::monotonic_ns();
        let polled = self.future.as_mut().poll(context);
        note(Lag { ms: (clock::monotonic_ns() - begun) / 1_000_000, task: self.task });
        polled
    }
}

fn note(lag: Lag) {
    if WORST.get().is_none_or(|worst| worst.ms < lag.ms) {
        WORST.set(Some(lag));
    }
    if lag.ms >= LAG_MS_MAX {
        tracing::warn!(ms = lag.ms, task = %lag.task, "the event loop stood still");
    }
}
