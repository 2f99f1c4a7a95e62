//! What runs beside: a future of the supervisor's one thread, and work that would block it.
//!
//! It knows nothing of what it begins. It must never be passed by: a runtime compiles its machinery
//! once for each type that it is given, several kilobytes each, so here all have one; how long
//! each keeps all the others waiting is measured here; and the runtime ends the process when the host
//! has no thread left.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
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

/// What `work` returns that is done beside; an error when it could not be begun.
pub(crate) struct Done<T> {
    result: oneshot::Receiver<Returned>,
    of: PhantomData<fn() -> T>,
}

/// Begins `work` on a thread of its own. Where the host has none left, all else waits for it: it has to be
/// short, and wait for nobody.
#[track_caller]
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Done<T> {
    Done { result: begin(Box::new(move || Box::new(work())), Threadless::Here), of: PhantomData }
}

/// Begins `work`, however long it takes, on a thread of its own. Where the host has none left it is not
/// begun.
#[track_caller]
pub(crate) fn lengthy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Done<T> {
    Done { result: begin(Box::new(move || Box::new(work())), Threadless::Never), of: PhantomData }
}

type Returned = io::Result<Box<dyn Any + Send>>;
type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Where work is done that has no thread.
enum Threadless {
    Here,
    Never,
}

#[track_caller]
fn begin(work: Work, threadless: Threadless) -> oneshot::Receiver<Returned> {
    let (sender, result) = oneshot::channel();
    // A thread that does not begin keeps nothing of what it was given.
    let waiting = Arc::new(Mutex::new(Some((work, sender))));
    let take = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let taken = take.clone();
    let perform = move || {
        if let Some((work, sender)) = taken() {
            drop(sender.send(Ok(work())));
        }
    };
    let begun = std::thread::Builder::new().spawn(perform);
    if let Err(error) = begun
        && let Some((work, sender)) = take()
    {
        match threadless {
            Threadless::Here => {
                tracing::warn!(%error, task = %Location::caller(), "there is no thread for a task; all else waits for it");
                local(async { drop(sender.send(Ok(work()))) });
            }
            Threadless::Never => {
                tracing::warn!(%error, task = %Location::caller(), "there is no thread for a task; it is not begun");
                drop(sender.send(Err(error)));
            }
        }
    }
    result
}

impl<T: 'static> Future for Done<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let done = std::task::ready!(Pin::new(&mut self.result).poll(context));
        let result = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        Poll::Ready(result.and_then(|result| match result.downcast() {
            Ok(result) => Ok(*result),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }))
    }
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
