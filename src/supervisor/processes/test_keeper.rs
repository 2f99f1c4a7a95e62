//! A keeper for tests that starts nothing: it says what it is told to say, when the test wants it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use crate::json;
use crate::keeper::protocol::{Ask, ChildId, End, Held, Identity, Request, Tell};
use crate::os::{ready, scm};
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::spawn;

/// A keeper that starts nothing.
pub(crate) struct TestKeeper {
    socket: AsyncFd<OwnedFd>,
    /// What it has, by their labels.
    children: RefCell<BTreeMap<ChildId, (Label, bool)>>,
    /// Starts that it has not answered.
    held: RefCell<Vec<(u64, ChildId)>>,
    /// It does not answer starts until [`TestKeeper::let_go`].
    pub(crate) holds: Cell<bool>,
    /// Starts of this role fail.
    pub(crate) refuses: Cell<Option<Role>>,
    /// Signals to children, in their order.
    pub(crate) signals: RefCell<Vec<(ChildId, i32)>>,
    /// A signal to this child is refused: another has died in between.
    pub(crate) spares: Cell<Option<ChildId>>,
}

impl TestKeeper {
    /// A keeper, and the way to it.
    pub(crate) async fn new() -> (Rc<Self>, Rc<Link>) {
        let (own, other) = scm::pair().unwrap();
        rustix::io::ioctl_fionbio(&own, true).unwrap();
        let keeper = Rc::new(Self {
            socket: ready::both(own).unwrap(),
            children: RefCell::default(),
            held: RefCell::default(),
            holds: Cell::new(false),
            refuses: Cell::new(None),
            signals: RefCell::default(),
            spares: Cell::new(None),
        });
        spawn::local(Rc::clone(&keeper).run());
        let (link, _, _) = Link::connect(other).await.unwrap();
        (keeper, link)
    }

    /// Children of this role that it was ever asked to start.
    pub(crate) fn started(&self, role: Role) -> Vec<ChildId> {
        let children = self.children.borrow();
        let of_role = children.iter().filter(|(_, (label, _))| label.role == role);
        of_role.map(|(child, _)| *child).collect()
    }

    /// Children that run.
    pub(crate) fn running(&self) -> Vec<ChildId> {
        let children = self.children.borrow();
        children.iter().filter(|(_, (_, runs))| *runs).map(|(child, _)| *child).collect()
    }

    /// How many starts wait for their answer.
    pub(crate) fn n_held(&self) -> usize {
        self.held.borrow().len()
    }

    /// Answers the starts that wait, and those that come.
    pub(crate) fn let_go(&self) {
        self.holds.set(false);
        for (seq, child) in self.held.take() {
            self.spawned(seq, child);
        }
    }

    /// A child that runs, and that no start was asked for.
    pub(crate) fn stray(&self, child: ChildId, label: Label) {
        self.children.borrow_mut().insert(child, (label, true));
    }

    /// A child is gone, and nobody is told.
    pub(crate) fn lose(&self, child: ChildId) {
        self.children.borrow_mut().remove(&child);
    }

    /// A child ends.
    pub(crate) fn end(&self, child: ChildId) {
        let ended = self
            .children
            .borrow_mut()
            .get_mut(&child)
            .is_some_and(|(_, runs)| std::mem::replace(runs, false));
        if ended {
            self.tell(&Tell::Ended { child, end: End::Killed(libc::SIGKILL) });
        }
    }

    fn spawned(&self, seq: u64, child: ChildId) {
        if let Some((_, runs)) = self.children.borrow_mut().get_mut(&child) {
            *runs = true;
        }
        let pid = i32::try_from(child.0).unwrap() + 1_000_000_000;
        let identity = Identity { pid, start_ticks: 1, boot_id: String::new() };
        self.tell(&Tell::Spawned { seq, identity });
    }

    fn tell(&self, tell: &Tell) {
        let bytes = json::to_vec(tell).unwrap();
        scm::send(self.socket.get_ref().as_fd(), &bytes, &[]).unwrap();
    }

    async fn run(self: Rc<Self>) {
        let mut bytes = Vec::new();
        loop {
            let mut ready = self.socket.readable().await.unwrap();
            match ready.try_io(|socket| scm::receive(socket.get_ref().as_fd(), &mut bytes)) {
                Ok(Ok(Some(_))) => self.answer(json::from_slice(&bytes).unwrap()),
                Ok(_) => return,
                Err(_would_block) => {}
            }
        }
    }

    fn answer(&self, Request { seq, ask }: Request) {
        match ask {
            Ask::Spawn { child, label, .. } => {
                let label = Label::read(&label).unwrap();
                let role = label.role;
                self.children.borrow_mut().insert(child, (label, false));
                if self.refuses.get() == Some(role) {
                    let (step, why) = ("execve".to_owned(), "refused".to_owned());
                    return self.tell(&Tell::Failed { seq, step, errno: 0, why });
                }
                self.held.borrow_mut().push((seq, child));
                if !self.holds.get() {
                    self.let_go();
                }
            }
            Ask::Signal { child, .. } if self.spares.get() == Some(child) => {
                self.tell(&Tell::Refused { seq, dead: child });
            }
            Ask::Signal { child, signal, .. } => {
                self.signals.borrow_mut().push((child, signal));
                self.tell(&Tell::done(seq));
                if signal == libc::SIGKILL {
                    self.end(child);
                }
            }
            Ask::Children => {
                let children = self.children.borrow();
                let held = children.iter().map(|(child, (label, runs))| Held {
                    child: *child,
                    label: label.print(),
                    runs: *runs,
                });
                self.tell(&Tell::Children { seq, children: held.collect(), more: false });
            }
            _ => self.tell(&Tell::done(seq)),
        }
    }
}
