//! Connections that arrive in a slot that no process accepts from any more: late, never lost.
//!
//! A handshake that began before a flip, one that was queued when a process died, connections that
//! were held: all of them are in an abandoned slot. They are not accepted here, for they would end
//! with the supervisor: a watch waits until a connection is there, then has a relay take it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::core::ids::SlotId;
use crate::core::ordered::Few;
use crate::os::{listen, ready};
use crate::supervisor::sockets::listener::ListenerError;
use crate::supervisor::sockets::relay::Relays;
use crate::supervisor::sockets::reuseport_group::{self, Group, Proof};
use crate::supervisor::spawn;

/// Before a slot is looked at again that was shut down, or whose passer could not be started.
const PAUSE: Duration = Duration::from_millis(50);

/// A slot of a listener.
pub(crate) type BackendAddress = (usize, SlotId);

/// Watches the abandoned slots of a service.
#[derive(Debug)]
pub(crate) struct Stragglers {
    /// The relays that take their connections.
    pub passers: Rc<Relays>,
    watches: RefCell<Few<BackendAddress, Watch>>,
}

/// A watch over one abandoned slot.
#[derive(Debug)]
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stragglers {
    /// No slot is abandoned yet.
    #[must_use]
    pub(crate) fn new(passers: Rc<Relays>) -> Self {
        Self { passers, watches: RefCell::default() }
    }

    /// Watches an abandoned slot, which the keeper has under the name `kept`, if it is not watched
    /// yet. Nothing wakes up while no connection arrives.
    pub(crate) fn watch(&self, place: BackendAddress, group: &Rc<RefCell<Group>>, kept: String) {
        let watch = || {
            let (group, passers) = (Rc::clone(group), Rc::clone(&self.passers));
            Watch(spawn::local(async move {
                if let Err(error) = look_after(&group, place.1, &passers, &kept).await {
                    tracing::error!(slot = %place.1, %error, "watching an abandoned slot");
                }
            }))
        };
        self.watches.borrow_mut().get_or_insert_with(place, watch);
    }

    /// Lets a slot be that is not abandoned.
    pub(crate) fn forget(&self, place: BackendAddress) {
        self.watches.borrow_mut().remove(&place);
    }

    /// Lets every slot be.
    pub(crate) fn forget_all(&self) {
        self.watches.borrow_mut().clear();
    }

    /// Ends a watch: no passer is asked for any more. One that was may still be there.
    pub(crate) async fn release(&self, place: BackendAddress) {
        let Some(watch) = self.watches.borrow_mut().remove(&place) else { return };
        watch.0.abort();
        while !watch.0.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Makes an abandoned slot ready for a program. False when it cannot be opened yet, or
    /// connections wait there, or are being relayed from there: no connection is taken out of the
    /// queue here, and none may be taken out by a relay once a program has the slot.
    ///
    /// # Errors
    /// When the slot cannot be found in its group.
    pub(crate) async fn claim(
        &self,
        place: BackendAddress,
        group: &Rc<RefCell<Group>>,
    ) -> Result<bool, ListenerError> {
        self.release(place).await;
        let slot = group.borrow().fd(place.1).and_then(|fd| fd.try_clone_to_owned().ok());
        if slot.is_some_and(|slot| self.passers.are_at(slot)) {
            return Ok(false);
        }
        // A program that shuts its slot down at this moment has it still (`EADDRINUSE`).
        if group.borrow().relisten(place.1).is_err() {
            return Ok(false);
        }
        match reuseport_group::prove(group, place.1).await? {
            Proof::Here => Ok(true),
            Proof::Occupied(caller) => {
                if let Some(caller) = caller {
                    self.passers.begin_with(caller);
                }
                Ok(false)
            }
        }
    }
}

async fn look_after(
    group: &Rc<RefCell<Group>>,
    id: SlotId,
    passers: &Rc<Relays>,
    kept: &str,
) -> io::Result<()> {
    let fd = || group.borrow().fd(id).and_then(|fd| fd.try_clone_to_owned().ok());
    while let Some(slot) = fd() {
        // tokio reports what arrives, not what is there; a new registration reports both, and
        // forgets a hang-up.
        let arrivals = ready::readable(slot)?;
        drop(arrivals.readable().await?);
        let slot = arrivals.into_inner();
        let state = listen::slot_state(&slot)?;
        if state.n_queued > 0 {
            // One that is there may have let go just before they came.
            passers.let_go(listen::inode(&slot)?).await;
        }
        match listen::slot_state(&slot)?.n_queued {
            0 if state.is_listening => {}
            0 => tokio::time::sleep(PAUSE).await,
            n_before => {
                passers.begin(&slot, kept.to_owned());
                passers.let_go(listen::inode(&slot)?).await;
                if listen::slot_state(&slot)?.n_queued >= n_before {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    Ok(())
}
