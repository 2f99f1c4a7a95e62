//! The listeners of a service and which process has which of their slots.

mod adoption;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::config::model;
use crate::core::ids::{ServiceName, SlotId};
use crate::core::ordered::Few;
use crate::keeper::protocol::Catch;
use crate::os::listen;
use crate::os::memory::Note;
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::sockets::abandoned_slots::Stragglers;
use crate::supervisor::sockets::listener::Listener;
use crate::supervisor::sockets::relay::Relays;
use crate::supervisor::sockets::reuseport_group;
pub(crate) use crate::supervisor::sockets::slot_error::SlotError;
use crate::supervisor::sockets::unix_listener;
use crate::supervisor::spawn;

/// The listeners of one service.
#[derive(Debug)]
pub(crate) struct Slots {
    service: ServiceName,
    listeners: RefCell<Vec<Owned>>,
    stragglers: Stragglers,
    /// Taken, and not yet a process's: a connection that arrives there is not a straggler.
    reserved: RefCell<BTreeSet<(usize, SlotId)>>,
    menders: RefCell<Few<(usize, SlotId), JoinHandle<()>>>,
}

#[derive(Debug)]
struct Owned {
    listener: Listener,
    address: String,
    /// The kernel's order of the group, kept by the keeper for the next supervisor.
    order: Rc<Note>,
}

/// Which process gets the queue that connections wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// The process that serves empties it first.
    Leaves,
    /// It goes to the process that is started next.
    Stays,
}

impl Slots {
    /// A service without listeners yet.
    pub(crate) fn new(service: ServiceName, passers: Rc<Relays>) -> Self {
        Self {
            service,
            stragglers: Stragglers::new(passers),
            listeners: RefCell::default(),
            reserved: RefCell::default(),
            menders: RefCell::default(),
        }
    }

    /// The relays for connections that were left waiting.
    pub(crate) fn passers(&self) -> &Rc<Relays> {
        &self.stragglers.passers
    }

    /// The listeners, in the order of the configuration.
    pub(crate) fn listeners(&self) -> Vec<Listener> {
        self.listeners.borrow().iter().map(|owned| owned.listener.clone()).collect()
    }

    /// Makes the listeners that are not there yet, each with one slot that no process accepts from:
    /// connections wait there until a process serves.
    ///
    /// # Errors
    /// When an address cannot be had; the listeners before it stay.
    pub(crate) async fn open(&self, link: &Link, config: &model::Service) -> Result<(), SlotError> {
        let n_open = self.listeners.borrow().len();
        for wanted in config.listen.iter().skip(n_open) {
            let listener = Listener::new(wanted, config.backlog, &config.socket_file);
            let order = Rc::new(Note::new("slot order")?);
            let owned = Owned { listener: listener.clone(), address: wanted.to_string(), order };
            let (id, fd) = listener.create()?;
            link.keep(self.order_name(&owned.address), owned.order.as_fd()).await?;
            self.listeners.borrow_mut().push(owned);
            let index = self.listeners.borrow().len() - 1;
            self.join(link, index, id, fd).await?;
            listener.steer(&[(id, 1)])?;
        }
        Ok(())
    }

    /// One slot in each listener for a new process, ready for its program: with its backlog, at a
    /// known place in its group. `first` are those of the first instance of the same release:
    /// behind a door they share one.
    ///
    /// # Errors
    /// When a slot cannot be made or its place cannot be proven.
    pub(crate) async fn take(
        &self,
        link: &Link,
        owned: impl Fn(usize) -> BTreeSet<SlotId>,
        first: Option<&[SlotId]>,
    ) -> Result<Vec<SlotId>, SlotError> {
        let mut taken = Vec::new();
        for (index, listener) in self.listeners().into_iter().enumerate() {
            self.repair(index)?;
            let shared = first.and_then(|first| first.get(index).copied());
            let id = match (&listener, shared) {
                (Listener::Door(_), Some(shared)) => shared,
                (Listener::Door(_), None) => self.take_door(link, index, &owned(index)).await?,
                (Listener::Group(_), _) => self.take_free(link, index, &owned(index)).await?,
            };
            taken.push(id);
        }
        Ok(taken)
    }

    /// A slot that no process has, that is not steered to, and where no connection waits.
    async fn take_free(
        &self,
        link: &Link,
        index: usize,
        busy: &BTreeSet<SlotId>,
    ) -> Result<SlotId, SlotError> {
        let Some(listener) = self.listeners().get(index).cloned() else {
            return Err(SlotError::Gone);
        };
        let mut occupied = BTreeSet::new();
        loop {
            let is_reserved = |id: &SlotId| self.reserved.borrow().contains(&(index, *id));
            let is_free =
                |id: &SlotId| !busy.contains(id) && !listener.leads_to(*id) && !is_reserved(id);
            let is_free = |id: &SlotId| is_free(id) && !occupied.contains(id);
            let known = listener.ids().into_iter().find(is_free);
            let id = match known {
                Some(id) => id,
                None => {
                    let (id, fd) = listener.create()?;
                    self.reserved.borrow_mut().insert((index, id));
                    self.join(link, index, id, fd).await?;
                    id
                }
            };
            self.reserved.borrow_mut().insert((index, id));
            let claimed = match known {
                Some(_) if self.is_kept(id, &listener).await => Ok(false),
                _ => self.claim(index, id, &listener).await,
            };
            match claimed {
                Ok(true) => return self.note_order(index).map(|()| id),
                Ok(false) => {}
                // What a program has left behind accepts there. A new slot is nobody's yet.
                Err(error) if known.is_some() && error.is_lost() => {
                    tracing::error!(service = %self.service, %error, "a slot is not used");
                }
                Err(error) => return Err(error),
            }
            // Its connections are passed on; it will be free another time.
            self.reserved.borrow_mut().remove(&(index, id));
            self.watch(index, id, &listener);
            occupied.insert(id);
        }
    }

    /// Whether something that a program has left behind has a slot: it would accept from it.
    async fn is_kept(&self, id: SlotId, listener: &Listener) -> bool {
        let Some(slot) = listener.fd(id) else { return false };
        let kept = spawn::blocking(move || listen::kept_by(slot)).await;
        let Ok(Ok(Some(who))) = kept else { return false };
        tracing::error!(service = %self.service, slot = %id, who, "a slot is kept by a program that was left behind; it is not used");
        true
    }

    /// Makes a slot that is to be taken ready. False when connections still wait in it.
    async fn claim(
        &self,
        index: usize,
        id: SlotId,
        listener: &Listener,
    ) -> Result<bool, SlotError> {
        match (listener, listener.stream_group()) {
            (_, Some(group)) => {
                if !self.stragglers.claim((index, id), group).await? {
                    return Ok(false);
                }
                listener.set_blocking(id)?;
            }
            (Listener::Group(_), None) => {
                // Left over from a stopped process: the senders have long since sent again.
                if let Some(fd) = listener.fd(id) {
                    listen::discard(fd)?;
                }
            }
            (Listener::Door(door), None) => {
                listener.relisten(id)?;
                door.borrow().let_go(id)?;
            }
        }
        Ok(true)
    }

    /// Behind a door the queue goes with its socket: a process that is started while none serves
    /// gets the slot that connections wait in.
    async fn take_door(
        &self,
        link: &Link,
        index: usize,
        busy: &BTreeSet<SlotId>,
    ) -> Result<SlotId, SlotError> {
        let waiting = self.listeners().get(index).and_then(|listener| {
            listener.ids().into_iter().find(|id| listener.leads_to(*id) && !busy.contains(id))
        });
        match waiting {
            Some(id) => Ok(id),
            None => self.take_free(link, index, busy).await,
        }
    }

    /// From now on the connections of every listener wait in a fresh slot that no process accepts
    /// from. Behind a door `Queue::Stays` keeps them where they are: a process that is not proven
    /// has a queue that another process shall get. Performed again, they wait where they wait.
    ///
    /// # Errors
    /// When there is no such slot; the steering may then have changed for some listeners only.
    pub(crate) async fn hold(
        &self,
        link: &Link,
        queue: Queue,
        owned: impl Fn(usize) -> BTreeSet<SlotId>,
    ) -> Result<(), SlotError> {
        for (index, listener) in self.listeners().into_iter().enumerate() {
            let busy = owned(index);
            let held = listener.ids().into_iter().find(|id| listener.leads_to(*id));
            let stays = queue == Queue::Stays && matches!(listener, Listener::Door(_));
            if held.is_none_or(|id| busy.contains(&id)) && !stays {
                let id = self.take_free(link, index, &busy).await?;
                listener.steer(&[(id, 1)])?;
            }
        }
        self.handed_over();
        Ok(())
    }

    /// What was taken belongs to a process now, or is given up: it counts like any other slot.
    pub(crate) fn handed_over(&self) {
        self.reserved.borrow_mut().clear();
    }

    /// How many connections wait in slots that no process has.
    pub(crate) fn n_held(&self, owned: impl Fn(usize) -> BTreeSet<SlotId>) -> u32 {
        let mut n = 0;
        for (index, listener) in self.listeners().iter().enumerate() {
            let busy = owned(index);
            let free = listener.ids().into_iter().filter(|id| !busy.contains(id));
            n += free.filter_map(|id| listener.state(id).ok()).map(|s| s.n_queued).sum::<u32>();
        }
        n
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
            (owned.listener.clone(), name)
        };
        link.keep(name, fd.as_fd()).await?;
        listener.open(id, fd)?;
        self.mend();
        self.note_order(index)
    }

    /// Makes a slot fit for a program again before it is started in it once more.
    ///
    /// # Errors
    /// When the slot cannot be opened again.
    pub(crate) async fn refit(&self, slots: &[SlotId]) -> Result<(), SlotError> {
        for (index, id) in slots.iter().enumerate() {
            let Some(listener) = self.listeners().get(index).cloned() else { continue };
            self.repair(index)?;
            self.stragglers.release((index, *id)).await;
            // Until then the relay takes what arrives.
            if let Some(inode) = listener.fd(*id).and_then(|slot| listen::inode(slot).ok()) {
                self.passers().let_go(inode).await;
            }
            listener.relisten(*id)?;
            listener.set_blocking(*id)?;
        }
        Ok(())
    }

    /// Opens again what a program took out of the group with `shutdown()`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn repair(&self, index: usize) -> Result<Vec<SlotId>, SlotError> {
        let Some(listener) = self.listeners().get(index).cloned() else { return Ok(Vec::new()) };
        let repaired = listener.repair()?;
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
    pub(crate) fn steer(&self, shares: &[Vec<(SlotId, u32)>]) -> Result<(), SlotError> {
        for (listener, shares) in self.listeners().iter().zip(shares) {
            listener.steer(shares)?;
        }
        Ok(())
    }

    /// Steers every listener that leads nowhere to a slot that no process has, to the one where
    /// connections wait already: they are held there. Where there is none, the kernel goes on as it
    /// is.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) fn park(&self, owned: impl Fn(usize) -> BTreeSet<SlotId>) -> Result<(), SlotError> {
        for (index, listener) in self.listeners().iter().enumerate() {
            if !listener.leads_nowhere() {
                continue;
            }
            let busy = owned(index);
            // A slot that a relay has is never steered to: the relay would connect to itself.
            let is_passed =
                |id: &SlotId| listener.fd(*id).is_some_and(|s| self.passers().are_at(s));
            let free = listener.ids().into_iter().filter(|id| !busy.contains(id) && !is_passed(id));
            let n_queued = |id: &SlotId| listener.state(*id).map_or(0, |state| state.n_queued);
            if let Some(id) = free.max_by_key(|id| (n_queued(id), std::cmp::Reverse(*id))) {
                listener.steer(&[(id, 1)])?;
            }
        }
        Ok(())
    }

    /// Restores the configured backlog where a program has shrunk it.
    ///
    /// # Errors
    /// When `listen()` fails.
    pub(crate) fn restore_backlogs(&self, slots: &[SlotId]) -> Result<(), SlotError> {
        for (listener, id) in self.listeners().iter().zip(slots) {
            listener.relisten(*id)?;
        }
        Ok(())
    }

    /// Watches exactly the slots that no program accepts from and that are not steered to:
    /// connections that still arrive there are passed on to where the others go.
    pub(crate) fn tend(&self, owned: impl Fn(usize) -> BTreeSet<SlotId>) {
        self.mend();
        for (index, listener) in self.listeners().iter().enumerate() {
            let busy = owned(index);
            for id in listener.ids() {
                let is_reserved = self.reserved.borrow().contains(&(index, id));
                let abandoned = !busy.contains(&id) && !listener.leads_to(id) && !is_reserved;
                match (listener, listener.stream_group()) {
                    (_, Some(_)) if abandoned => self.watch(index, id, listener),
                    (_, Some(_)) => self.stragglers.forget((index, id)),
                    (Listener::Door(door), _) if abandoned => match door.borrow().let_go(id) {
                        Ok(0) => {}
                        Ok(n) => {
                            tracing::warn!(service = %self.service, n, "dropped queued connections")
                        }
                        Err(error) => tracing::error!(service = %self.service, %error, "a slot"),
                    },
                    _ => {}
                }
            }
        }
    }

    fn watch(&self, index: usize, id: SlotId, listener: &Listener) {
        let Some(group) = listener.stream_group() else { return };
        let kept = self.slot_name(&listener.text(), &id.to_string());
        self.stragglers.watch((index, id), group, kept);
    }

    /// Sees to it that a slot which a program shuts down is opened again at once.
    fn mend(&self) {
        for (index, owned) in self.listeners.borrow().iter().enumerate() {
            if let Listener::Door(door) = &owned.listener {
                if let Err(error) = door.borrow_mut().repair() {
                    tracing::warn!(service = %self.service, %error, "putting a path back");
                }
                let mut menders = self.menders.borrow_mut();
                menders.get_or_insert_with((index, SlotId(0)), || {
                    spawn::local(unix_listener::guard(Rc::clone(door)))
                });
                continue;
            }
            let Some(group) = owned.listener.stream_group() else { continue };
            for id in owned.listener.ids() {
                let mut menders = self.menders.borrow_mut();
                menders.get_or_insert_with((index, id), || {
                    let (group, order) = (Rc::clone(group), Rc::clone(&owned.order));
                    spawn::local(async move {
                        let told = Rc::clone(&group);
                        let note = move || drop(order.write(&numbers(told.borrow().order())));
                        reuseport_group::mend(&group, id, note).await;
                    })
                });
            }
        }
    }

    /// Closes everything: from here on connections are refused.
    pub(crate) async fn close(&self, link: &Link) {
        self.stragglers.forget_all();
        for (_, mender) in self.menders.borrow_mut().drain() {
            mender.abort();
        }
        let closing = std::mem::take(&mut *self.listeners.borrow_mut());
        // A socket listens as long as any process has it.
        let slots = closing.iter().flat_map(|owned| {
            owned.listener.ids().into_iter().filter_map(|id| owned.listener.fd(id))
        });
        let inodes = slots.filter_map(|slot| listen::inode(slot).ok()).collect();
        self.passers().leave(&inodes).await;
        for owned in closing {
            let ids = owned.listener.ids();
            let mut names: Vec<String> =
                ids.iter().map(|id| self.slot_name(&owned.address, &id.to_string())).collect();
            names.push(self.order_name(&owned.address));
            for name in names {
                if let Err(error) = link.forget(name).await {
                    tracing::warn!(service = %self.service, %error, "closing a slot");
                }
            }
            owned.listener.close_all();
        }
    }

    /// The kept slots of a process, with the addresses that its program asks for.
    pub(crate) fn catches(&self, slots: &[SlotId]) -> Vec<Catch> {
        let listeners = self.listeners();
        let named = listeners.iter().zip(self.kept_names(slots));
        named.map(|(listener, kept)| Catch { at: listener.catch(), kept }).collect()
    }

    /// The name the keeper has a slot under.
    pub(crate) fn kept_names(&self, slots: &[SlotId]) -> Vec<String> {
        let listeners = self.listeners.borrow();
        let named = listeners.iter().zip(slots);
        named.map(|(owned, id)| self.slot_name(&owned.address, &id.to_string())).collect()
    }

    fn note_order(&self, index: usize) -> Result<(), SlotError> {
        let listeners = self.listeners.borrow();
        let owned = &listeners[index];
        let order = numbers(&owned.listener.order());
        Ok(owned.order.write(&order)?)
    }

    fn slot_name(&self, address: &str, id: &str) -> String {
        format!("slot/{}/{address}/{id}", self.service)
    }

    fn order_name(&self, address: &str) -> String {
        format!("order/{}/{address}", self.service)
    }
}

fn numbers(order: &[SlotId]) -> Vec<u16> {
    order.iter().map(|id| id.0).collect()
}

/// Descriptors that came back from the keeper.
pub(crate) type Kept = Few<String, OwnedFd>;
