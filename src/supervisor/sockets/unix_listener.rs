//! A door: a unix socket's public path, and the sockets it may lead to.
//!
//! Each slot is a socket with a path of its own beside the public one. A flip is a rename. A path
//! leads to one place, so the instances of a release share one slot, and there are no shares.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::ids::SlotId;
use crate::core::ordered::Few;
use crate::os::beneath::Dir;
use crate::os::listen::{self, SlotState};
use crate::os::local::{self, Access, Occupant};
use crate::os::ready;
use crate::supervisor::sockets::listener::ListenerError;

/// A public path and its slots.
#[derive(Debug)]
pub struct Door {
    public: PathBuf,
    access: Access,
    backlog: u32,
    slots: Few<SlotId, OwnedFd>,
    target: Option<SlotId>,
}

impl Door {
    /// A door that leads nowhere yet.
    #[must_use]
    pub(crate) fn new(public: PathBuf, access: Access, backlog: u32) -> Self {
        Self { public, access, backlog, slots: Few::default(), target: None }
    }

    /// The path that people know.
    #[must_use]
    pub(crate) fn public(&self) -> &Path {
        &self.public
    }

    /// The path of one slot.
    #[must_use]
    pub(crate) fn path_of(&self, id: SlotId) -> PathBuf {
        local::slot_path(&self.public, &id.to_string())
    }

    /// The path that a slot's connections are reported with.
    #[must_use]
    pub(crate) fn bound_path(&self, id: SlotId) -> Option<PathBuf> {
        self.slots.get(&id).and_then(local::bound_path)
    }

    /// Takes over slots from the supervisor before; where the path leads, the file system knows.
    pub(crate) fn adopt(&mut self, slots: Vec<(SlotId, OwnedFd)>) {
        self.slots = slots.into_iter().collect();
        self.target = self.ids().into_iter().find(|id| {
            let own = self.path_of(*id);
            local::is_same(&own, &self.public)
        });
    }

    /// A new slot, with its own path. The first one shows that the public path is free.
    ///
    /// # Errors
    /// When another process has the path, or the system refuses.
    pub(crate) fn create(&self) -> Result<(SlotId, OwnedFd), ListenerError> {
        let system = |error| self.system(error);
        if self.slots.is_empty() {
            if let Some(parent) = self.public.parent() {
                Dir::have(parent, 0o755).map_err(system)?;
            }
            match local::occupant(&self.public).map_err(system)? {
                Occupant::Free => {}
                Occupant::Listener => return Err(self.taken("another process listens there")),
                Occupant::Other => return Err(self.taken("a file that is no socket is there")),
            }
        }
        let id = SlotId(self.slots.keys().last().map_or(0, |id| id.0 + 1));
        let fd = local::make(&self.path_of(id), self.access).map_err(system)?;
        Ok((id, fd))
    }

    /// Lets connections queue in a slot.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub(crate) fn open(&mut self, id: SlotId, fd: OwnedFd) -> Result<(), ListenerError> {
        listen::listen(&fd, self.backlog).map_err(|error| self.system(error))?;
        self.slots.insert(id, fd);
        Ok(())
    }

    /// All slots.
    #[must_use]
    pub(crate) fn ids(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }

    /// A slot's descriptor.
    #[must_use]
    pub(crate) fn fd(&self, id: SlotId) -> Option<&OwnedFd> {
        self.slots.get(&id)
    }

    /// Where the path leads.
    #[must_use]
    pub(crate) fn target(&self) -> Option<SlotId> {
        self.target
    }

    /// The flip: the path leads to this slot from now on.
    ///
    /// # Errors
    /// When the path cannot be renamed; it leads where it led.
    pub(crate) fn steer(&mut self, id: SlotId) -> Result<(), ListenerError> {
        if !self.slots.contains_key(&id) {
            return Err(ListenerError::NotThere { id, address: self.text() });
        }
        let own = self.path_of(id);
        if !local::is_same(&own, &self.public) {
            local::publish(&own, &self.public).map_err(|error| self.system(error))?;
        }
        self.target = Some(id);
        Ok(())
    }

    /// Puts the public path back when a program has removed it: programs remove the path of their
    /// socket when they end.
    ///
    /// # Errors
    /// When it cannot be put back.
    pub(crate) fn repair(&mut self) -> Result<(), ListenerError> {
        self.target.map_or(Ok(()), |id| self.steer(id))
    }

    /// A slot's state.
    ///
    /// # Errors
    /// When there is no such slot.
    pub(crate) fn state(&self, id: SlotId) -> Result<SlotState, ListenerError> {
        let not_there = || ListenerError::NotThere { id, address: self.text() };
        let fd = self.slots.get(&id).ok_or_else(not_there)?;
        let n_queued = local::ask(fd).map_or(0, |told| told.n_queued);
        Ok(SlotState { is_listening: true, n_queued, backlog: self.backlog })
    }

    /// Gives a slot its configured backlog again.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub(crate) fn relisten(&self, id: SlotId) -> Result<(), ListenerError> {
        match self.slots.get(&id) {
            Some(fd) => listen::listen(fd, self.backlog).map_err(|error| self.system(error)),
            None => Err(ListenerError::NotThere { id, address: self.text() }),
        }
    }

    /// Connections that wait in a slot that no process accepts from are dropped: to relay them
    /// would lend them our own identity, which programs go by (`SO_PEERCRED`).
    ///
    /// # Errors
    /// `accept(2)`'s.
    pub(crate) fn let_go(&self, id: SlotId) -> io::Result<u32> {
        let Some(fd) = self.slots.get(&id) else { return Ok(0) };
        let mut n = 0;
        while listen::accept(fd.as_fd()).is_ok() {
            n += 1;
        }
        Ok(n)
    }

    /// Closes everything and removes the paths.
    pub(crate) fn close_all(&mut self) {
        let ours = self.target.is_some_and(|id| local::is_same(&self.path_of(id), &self.public));
        let own = self.ids().into_iter().map(|id| self.path_of(id));
        let paths: Vec<PathBuf> = own.chain(ours.then(|| self.public.clone())).collect();
        for path in paths {
            drop(local::remove(&path));
        }
        self.slots.clear();
        self.target = None;
    }

    fn text(&self) -> String {
        format!("unix:{}", self.public.display())
    }

    fn taken(&self, by: &str) -> ListenerError {
        self.system(io::Error::new(io::ErrorKind::AddrInUse, by))
    }

    fn system(&self, source: io::Error) -> ListenerError {
        ListenerError::System { address: self.text(), source }
    }
}

/// Puts the public path back at once when somebody removes it. Where it cannot be watched, it is put back
/// when a process ends.
pub(crate) async fn guard(door: Rc<RefCell<Door>>) {
    let Some(dir) = door.borrow().public.parent().map(Path::to_owned) else { return };
    let Ok(watched) = ready::removals(&dir) else { return };
    while let Ok(mut woken) = watched.readable().await {
        ready::drain(watched.get_ref());
        woken.clear_ready();
        if let Err(error) = door.borrow_mut().repair() {
            tracing::warn!(%error, "putting the path of a socket back");
        }
    }
}
