//! The listeners of a service and who has which of their slots.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::config::model::Listen;
use crate::core::ids::{ServiceName, SlotId};
use crate::os::listen::{self, ListenError};
use crate::os::memory::Note;
use crate::supervisor::link::{Link, LinkError};
use crate::supervisor::listener::{self, Listener, ListenerError};
use crate::supervisor::stragglers::{self, StragglerWatch};

/// A listener that several tasks look at.
pub type Shared = Rc<RefCell<Listener>>;

/// The listeners of one service.
#[derive(Debug)]
pub struct Slots {
    service: ServiceName,
    listeners: RefCell<Vec<Owned>>,
    watches: RefCell<HashMap<(usize, SlotId), StragglerWatch>>,
    menders: RefCell<HashMap<(usize, SlotId), JoinHandle<()>>>,
}

#[derive(Debug)]
struct Owned {
    listener: Shared,
    address: String,
    /// The kernel's order of the group, kept by the keeper for the next supervisor.
    order: Rc<Note>,
}

/// Why a service has no socket.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The group could not be steered.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The keeper would not keep it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The note of the group's order.
    #[error("noting the order of the slots: {0}")]
    Note(#[from] std::io::Error),
}

impl Slots {
    /// A service without listeners yet.
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            listeners: RefCell::default(),
            watches: RefCell::default(),
            menders: RefCell::default(),
        }
    }

    /// The listeners, in the order of the configuration.
    pub fn listeners(&self) -> Vec<Shared> {
        self.listeners.borrow().iter().map(|owned| Rc::clone(&owned.listener)).collect()
    }

    /// Makes the listeners that are not there yet, each with one slot that nobody accepts from:
    /// connections wait there until somebody serves.
    ///
    /// # Errors
    /// When an address cannot be had; the listeners before it stay.
    pub async fn open(
        &self,
        link: &Link,
        listen: &[Listen],
        backlog: u32,
    ) -> Result<(), SlotError> {
        let n_open = self.listeners.borrow().len();
        for wanted in listen.iter().skip(n_open) {
            let Listen::Tcp(address) = wanted;
            let listener = Rc::new(RefCell::new(Listener::new(*address, backlog)));
            let order = Rc::new(Note::new("slot order")?);
            let owned = Owned { listener: Rc::clone(&listener), address: text_of(wanted), order };
            let (id, fd) = listener.borrow().create()?;
            link.keep(self.order_name(&owned.address), owned.order.as_fd()).await?;
            self.listeners.borrow_mut().push(owned);
            let index = self.listeners.borrow().len() - 1;
            self.join(link, index, id, fd).await?;
            listener.borrow_mut().steer(&[(id, 1)])?;
        }
        Ok(())
    }

    /// Takes over what a supervisor before this one had opened.
    ///
    /// # Errors
    /// When the group cannot be steered.
    pub fn adopt(&self, listen: &[Listen], backlog: u32, kept: &mut Kept) -> Result<(), SlotError> {
        for wanted in listen {
            let Listen::Tcp(address) = wanted;
            let text = text_of(wanted);
            let Some(order) = kept.remove(&self.order_name(&text)) else { break };
            let order = Rc::new(Note::adopt(order));
            let prefix = self.slot_name(&text, "");
            let names: Vec<String> =
                kept.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
            let slots: Vec<(SlotId, OwnedFd)> = names
                .iter()
                .filter_map(|name| Some((SlotId(name[prefix.len()..].parse().ok()?), name)))
                .filter_map(|(id, name)| Some((id, kept.remove(name)?)))
                .collect();
            let known = order.read().unwrap_or_default();
            let known = known.iter().map(|id| SlotId(*id)).collect();
            let mut listener = Listener::new(*address, backlog);
            listener.adopt(slots, known)?;
            let listener = Rc::new(RefCell::new(listener));
            self.listeners.borrow_mut().push(Owned { listener, address: text, order });
        }
        Ok(())
    }

    /// One free slot in each listener, each ready for a program: blocking, with its backlog, at a
    /// known place in its group, and with an empty queue.
    ///
    /// # Errors
    /// When a slot cannot be made or its place cannot be proven.
    pub async fn take(
        &self,
        link: &Link,
        owned: impl Fn(usize) -> BTreeSet<SlotId>,
    ) -> Result<Vec<SlotId>, SlotError> {
        let mut taken = Vec::new();
        for (index, listener) in self.listeners().into_iter().enumerate() {
            self.repair(index)?;
            let busy = owned(index);
            let free = listener.borrow().ids().into_iter().find(|id| {
                let steered_to = listener.borrow().target().iter().any(|(t, _)| t == id);
                !busy.contains(id) && !steered_to
            });
            let id = match free {
                Some(id) => id,
                None => {
                    let (id, fd) = listener.borrow().create()?;
                    self.join(link, index, id, fd).await?;
                    id
                }
            };
            self.release_watch(index, id).await;
            listener.borrow_mut().relisten(id)?;
            listener::prove(&listener, id).await?;
            self.note_order(index)?;
            taken.push(id);
        }
        Ok(taken)
    }

    /// A slot is kept before it joins the group: a supervisor that dies in between leaves a socket
    /// that the next one finds and opens.
    async fn join(
        &self,
        link: &Link,
        index: usize,
        id: SlotId,
        fd: OwnedFd,
    ) -> Result<(), SlotError> {
        let (listener, name) = {
            let listeners = self.listeners.borrow();
            let owned = &listeners[index];
            let name = self.slot_name(&owned.address, &id.to_string());
            (Rc::clone(&owned.listener), name)
        };
        link.keep(name, fd.as_fd()).await?;
        listener.borrow_mut().open(id, fd)?;
        self.mend();
        self.note_order(index)
    }

    /// Makes a slot fit for a program again before it is started in it once more.
    ///
    /// # Errors
    /// When the slot cannot be opened again.
    pub async fn refit(&self, slots: &[SlotId]) -> Result<(), SlotError> {
        for (index, id) in slots.iter().enumerate() {
            let Some(listener) = self.listeners().get(index).cloned() else { continue };
            self.repair(index)?;
            self.release_watch(index, *id).await;
            listener.borrow_mut().relisten(*id)?;
            if let Some(fd) = listener.borrow().fd(*id) {
                listen::set_blocking(fd)?;
            }
        }
        Ok(())
    }

    /// Opens again what a program took out of the group with `shutdown()`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn repair(&self, index: usize) -> Result<Vec<SlotId>, SlotError> {
        let Some(listener) = self.listeners().get(index).cloned() else { return Ok(Vec::new()) };
        let repaired = listener.borrow_mut().repair()?;
        if !repaired.is_empty() {
            tracing::warn!(service = %self.service, ?repaired, "a program shut its slot; reopened");
            self.note_order(index)?;
        }
        Ok(repaired)
    }

    /// The flip: new connections go to these slots, in each listener one list.
    ///
    /// # Errors
    /// When a program cannot be attached; the listeners before it are steered already.
    pub fn steer(&self, shares: &[Vec<(SlotId, u32)>]) -> Result<(), SlotError> {
        for (listener, shares) in self.listeners().iter().zip(shares) {
            listener.borrow_mut().steer(shares)?;
        }
        Ok(())
    }

    /// Steers every listener that goes nowhere to a slot of its own: callers are held there.
    ///
    /// # Errors
    /// When a program cannot be attached.
    pub fn park(&self) -> Result<(), SlotError> {
        for listener in self.listeners() {
            let mut listener = listener.borrow_mut();
            let first = listener.ids().into_iter().next().filter(|_| listener.target().is_empty());
            if let Some(id) = first {
                listener.steer(&[(id, 1)])?;
            }
        }
        Ok(())
    }

    /// Restores the configured backlog where a program has shrunk it.
    ///
    /// # Errors
    /// When `listen()` fails.
    pub fn restore_backlogs(&self, slots: &[SlotId]) -> Result<(), SlotError> {
        for (listener, id) in self.listeners().iter().zip(slots) {
            listener.borrow_mut().relisten(*id)?;
        }
        Ok(())
    }

    /// Watches exactly the slots that no program accepts from and nobody is steered to: who still
    /// arrives there is spliced to where the others go.
    pub fn tend(&self, owned: impl Fn(usize) -> BTreeSet<SlotId>) {
        self.mend();
        for (index, listener) in self.listeners().iter().enumerate() {
            let busy = owned(index);
            for id in listener.borrow().ids() {
                let steered_to = listener.borrow().target().iter().any(|(t, _)| *t == id);
                let abandoned = !busy.contains(&id) && !steered_to;
                let mut watches = self.watches.borrow_mut();
                if abandoned {
                    watches
                        .entry((index, id))
                        .or_insert_with(|| stragglers::watch(Rc::clone(listener), id));
                } else {
                    watches.remove(&(index, id));
                }
            }
        }
    }

    /// Sees to it that a slot which a program shuts down is opened again at once.
    fn mend(&self) {
        for (index, owned) in self.listeners.borrow().iter().enumerate() {
            for id in owned.listener.borrow().ids() {
                let mut menders = self.menders.borrow_mut();
                menders.entry((index, id)).or_insert_with(|| {
                    let (listener, order) = (Rc::clone(&owned.listener), Rc::clone(&owned.order));
                    tokio::task::spawn_local(async move {
                        let told = Rc::clone(&listener);
                        let note = move || drop(order.write(&numbers(&told.borrow())));
                        listener::mend(&listener, id, note).await;
                    })
                });
            }
        }
    }

    async fn release_watch(&self, index: usize, id: SlotId) {
        let watch = self.watches.borrow_mut().remove(&(index, id));
        if let Some(watch) = watch {
            watch.stop().await;
        }
    }

    /// Closes everything: from here on connections are refused.
    pub async fn close(&self, link: &Link) {
        self.watches.borrow_mut().clear();
        for (_, mender) in self.menders.borrow_mut().drain() {
            mender.abort();
        }
        let closing = std::mem::take(&mut *self.listeners.borrow_mut());
        for owned in closing {
            let ids = owned.listener.borrow().ids();
            let mut names: Vec<String> =
                ids.iter().map(|id| self.slot_name(&owned.address, &id.to_string())).collect();
            names.push(self.order_name(&owned.address));
            for name in names {
                if let Err(error) = link.forget(name).await {
                    tracing::warn!(service = %self.service, %error, "closing a slot");
                }
            }
            owned.listener.borrow_mut().close_all();
        }
    }

    /// The name the keeper has a slot under.
    pub fn kept_names(&self, slots: &[SlotId]) -> Vec<String> {
        let listeners = self.listeners.borrow();
        let named = listeners.iter().zip(slots);
        named.map(|(owned, id)| self.slot_name(&owned.address, &id.to_string())).collect()
    }

    fn note_order(&self, index: usize) -> Result<(), SlotError> {
        let listeners = self.listeners.borrow();
        let owned = &listeners[index];
        let order = numbers(&owned.listener.borrow());
        Ok(owned.order.write(&order)?)
    }

    fn slot_name(&self, address: &str, id: &str) -> String {
        format!("slot/{}/{address}/{id}", self.service)
    }

    fn order_name(&self, address: &str) -> String {
        format!("order/{}/{address}", self.service)
    }
}

fn numbers(listener: &Listener) -> Vec<u16> {
    listener.order().iter().map(|id| id.0).collect()
}

/// Descriptors that came back from the keeper.
pub type Kept = std::collections::BTreeMap<String, OwnedFd>;

/// An address as the configuration writes it.
pub fn text_of(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => format!("tcp://{address}"),
    }
}
