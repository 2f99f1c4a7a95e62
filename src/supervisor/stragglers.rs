//! Connections that arrive in a slot nobody accepts from any more: late, never lost.
//!
//! A handshake that began before a flip, or one that was queued when a process died, ends up in an
//! abandoned slot. Each is accepted here and spliced to where the others go.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::core::ids::SlotId;
use crate::os::{listen, ready};
use crate::supervisor::group::Group;

/// A watch over one abandoned slot.
#[derive(Debug)]
pub struct StragglerWatch {
    task: JoinHandle<()>,
    slot: Option<OwnedFd>,
    n: Rc<Cell<u64>>,
}

impl StragglerWatch {
    /// How many came.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.n.get()
    }

    /// Ends the watch; the slot is blocking again, as a program expects it. Connections that are
    /// being spliced go on.
    pub async fn stop(mut self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.restore();
    }

    fn restore(&mut self) {
        if let Some(slot) = self.slot.take()
            && let Err(error) = listen::set_blocking(&slot)
        {
            tracing::warn!(%error, "making a slot blocking again");
        }
    }
}

impl Drop for StragglerWatch {
    fn drop(&mut self) {
        self.task.abort();
        self.restore();
    }
}

/// Watches an abandoned slot. Nothing wakes up while nobody comes.
#[must_use]
pub fn watch(group: Rc<RefCell<Group>>, id: SlotId) -> StragglerWatch {
    let n = Rc::new(Cell::new(0));
    let slot = group.borrow().fd(id).and_then(|fd| fd.try_clone_to_owned().ok());
    let watched = slot.as_ref().and_then(|slot| slot.try_clone().ok());
    let counted = Rc::clone(&n);
    let task = tokio::task::spawn_local(async move {
        let Some(watched) = watched else { return };
        if let Err(error) = accept_all(&group, watched, &counted).await {
            tracing::error!(slot = %id, %error, "watching an abandoned slot");
        }
    });
    StragglerWatch { task, slot, n }
}

async fn accept_all(group: &Rc<RefCell<Group>>, slot: OwnedFd, n: &Cell<u64>) -> io::Result<()> {
    listen::set_nonblocking(&slot)?;
    let slot = ready::readable(slot)?;
    loop {
        let accepted = slot.readable().await?.try_io(|slot| listen::accept(slot.get_ref()));
        match accepted {
            Ok(Ok(stream)) => {
                n.set(n.get() + 1);
                forward(group, stream);
            }
            Ok(Err(error)) if is_passing(&error) => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

/// Sends a straggler where the others go: to the address it has called itself. So it does not come
/// from 127.0.0.1, which programs trust, unless it came from this machine: from far away it comes
/// from the machine's own address.
pub fn forward(group: &Rc<RefCell<Group>>, stream: std::net::TcpStream) {
    let group = Rc::clone(group);
    tokio::task::spawn_local(async move {
        if let Err(error) = splice(&group, stream).await {
            tracing::debug!(%error, "a straggler's connection ended");
        }
    });
}

/// Takes everything out of an idle slot's queue; the slot is blocking afterwards.
///
/// # Errors
/// `accept(2)`'s.
pub fn take_all(slot: BorrowedFd<'_>) -> io::Result<Vec<std::net::TcpStream>> {
    listen::set_nonblocking(slot)?;
    let mut taken = Vec::new();
    loop {
        match listen::accept(slot) {
            Ok(stream) => taken.push(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    listen::set_blocking(slot)?;
    Ok(taken)
}

/// Errors of `accept(2)` that belong to the connection that came, not to the slot.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

async fn splice(group: &Rc<RefCell<Group>>, client: std::net::TcpStream) -> io::Result<()> {
    let called = client.local_addr()?;
    let mut client = TcpStream::from_std(client)?;
    let mut live = TcpStream::connect(called).await?;
    live.set_nodelay(true)?;
    tracing::debug!(address = %group.borrow().address(), "a straggler is passed on");
    tokio::io::copy_bidirectional(&mut client, &mut live).await.map(drop)
}
