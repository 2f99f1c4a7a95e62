//! What runs beside: a future of the supervisor's one thread, and work that would block it.
//!
//! It knows nothing of what it begins. It must never be passed by: a runtime compiles its machinery
//! once for each type that it is given, several kilobytes each, so here all have one.

use std::pin::Pin;

use tokio::task::JoinHandle;

/// Begins `future` on this thread.
pub(crate) fn local<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let future: Pin<Box<dyn Future<Output = T>>> = Box::pin(future);
    #[expect(clippy::disallowed_methods, reason = "the one place of it")]
    tokio::task::spawn_local(future)
}

/// Begins `work` on a thread of its own.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
    #[expect(clippy::disallowed_methods, reason = "the one place of it")]
    tokio::task::spawn_blocking(work)
}
