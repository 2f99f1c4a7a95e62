//! Relays: processes that pass on connections left waiting in a slot that no process accepts from.
//!
//! A connection that the supervisor accepted would end with it. So the keeper starts a process
//! that empties the slot's queue, lets the slot go and leaves with its last connection; it outlives
//! the supervisor, and the next one finds it by its label.
//!
//! A relay takes every connection that arrives as long as it has the slot. So a slot must never be
//! given to a program, nor steered to, while [`Relays::are_at`] reports that a relay may have it:
//! the first would lose connections, the second would send them round in a circle. The kernel is
//! asked, not our memory: which process has a socket open is true after any crash.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use crate::core::ids::ServiceName;
use crate::core::ordered::Few;
use crate::keeper::protocol::{ChildId, End, Identity, LaunchSpec, ListenFd, Reach};
use crate::os::names::LaunchUser;
use crate::os::{clock, listen, proc};
use crate::supervisor::processes::child_tag::Label;
use crate::supervisor::processes::keeper_client::{Found, Link, LinkError};
use crate::supervisor::spawn;

/// How long passers may take to let slots go that are about to be closed, and to see the ends of
/// connections whose programs have ended.
const PARTING_MS: u64 = 2_000;

/// Pauses between two checks for processes that still have a slot: longer each time.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
];

/// The passers of one service.
#[derive(Debug)]
pub(crate) struct Relays {
    link: Rc<Link>,
    service: ServiceName,
    /// The user they run as: a relay needs no rights.
    user: Option<LaunchUser>,
    /// Those that run.
    running: RefCell<Few<ChildId, Identity>>,
    /// Slots, by inode, whose passer was asked for and is not known to run yet.
    begun: RefCell<BTreeSet<u64>>,
    /// Counts beginnings that are over, and ends.
    n_ends: watch::Sender<u64>,
}

impl Relays {
    /// None yet.
    #[must_use]
    pub(crate) fn new(link: Rc<Link>, service: ServiceName, user: Option<&str>) -> Rc<Self> {
        Rc::new(Self {
            link,
            service,
            user: user.and_then(proc::user),
            running: RefCell::default(),
            begun: RefCell::default(),
            n_ends: watch::channel(0).0,
        })
    }

    /// Takes over one that a supervisor before this one has started.
    pub(crate) fn adopt(self: &Rc<Self>, found: Found) {
        if let Some(end) = found.end {
            self.link.child_ended(found.child, end);
        }
        self.follow(found.child, found.identity);
    }

    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.borrow().is_empty() && self.begun.borrow().is_empty()
    }

    /// Whether a passer has this socket or will have it in a moment.
    #[must_use]
    pub(crate) fn are_at(&self, slot: impl AsFd) -> bool {
        // A socket that has no inode belongs to no process.
        listen::inode(slot).is_ok_and(|inode| self.have(inode))
    }

    fn have(&self, inode: u64) -> bool {
        self.begun.borrow().contains(&inode)
            || self.running.borrow().values().any(|process| proc::has_socket(process, inode))
    }

    /// Starts to relay all connections that wait in this slot. It goes on to its end also when the
    /// calling task is cancelled: from this call on the slot counts as held by a relay.
    pub(crate) fn begin(self: &Rc<Self>, slot: impl AsFd, kept: String) {
        let Ok(inode) = listen::inode(slot) else { return };
        if !self.begun.borrow_mut().insert(inode) {
            return;
        }
        let passers = Rc::clone(self);
        spawn::local(async move {
            if let Err(error) = passers.start(kept).await {
                tracing::error!(service = %passers.service, %error, "relaying queued connections");
            }
            passers.begun.borrow_mut().remove(&inode);
            passers.n_ends.send_modify(|n| *n += 1);
        });
    }

    /// Relays a connection that was taken out of a queue in the place of our own. It is lost when
    /// the supervisor is killed before the keeper was asked for the relay. That takes a slot that
    /// is not where it was thought to be, a late connection in that very moment, and the kill.
    pub(crate) fn begin_with(self: &Rc<Self>, client: TcpStream) {
        let passers = Rc::clone(self);
        spawn::local(async move {
            let name = format!("caller/{}/{}", passers.service, clock::monotonic_ns());
            let kept = passers.link.keep(name.clone(), client.as_fd()).await;
            let started = match kept {
                Ok(()) => passers.start(name.clone()).await,
                Err(error) => Err(error),
            };
            let closed = passers.link.forget(name).await;
            if let Err(error) = started.and(closed) {
                tracing::error!(service = %passers.service, %error, "relaying a queued connection");
            }
        });
    }

    async fn start(self: &Rc<Self>, kept: String) -> Result<(), LinkError> {
        let child = self.link.new_child();
        let args = ["--to", "called", "--until-empty", "--threads", "1"];
        let private = rustix::process::geteuid().is_root().then_some("--private");
        let verb = std::iter::once(crate::forward::VERB).chain(args).chain(private);
        let spec = LaunchSpec {
            name: Some("halley-sup".to_owned()),
            // The launcher is this same binary, also when it has been replaced on the disk.
            program: "/proc/self/exe".to_owned(),
            args: verb.map(str::to_owned).collect(),
            cwd: "/".to_owned(),
            user: self.user.clone(),
            listen: vec![ListenFd { kept, fd_name: self.service.to_string() }],
            no_new_privs: true,
            ..LaunchSpec::default()
        };
        let label = Label::passer(&self.service, clock::tick());
        let identity = self.link.spawn(child, label.print(), spec).await?;
        tracing::info!(service = %self.service, pid = identity.pid, "relaying queued connections");
        self.follow(child, identity);
        Ok(())
    }

    fn follow(self: &Rc<Self>, child: ChildId, identity: Identity) {
        let (passers, mut end) = (Rc::clone(self), self.link.end_of(child));
        self.running.borrow_mut().insert(child, identity);
        spawn::local(async move {
            let Ok(ended) = end.wait_for(Option::is_some).await.map(|end| *end) else { return };
            if let Some(end) = ended.filter(|end| *end != End::Exited(0)) {
                let how = end.to_string();
                tracing::warn!(service = %passers.service, how, "relaying queued connections has ended");
            }
            passers.link.acknowledge(child).await;
            passers.running.borrow_mut().remove(&child);
            passers.n_ends.send_modify(|n| *n += 1);
        });
    }

    /// Waits until no relay has this slot. This delays no connections but those that wait there
    /// too: a relay lets a slot go as soon as its queue is empty.
    pub(crate) async fn let_go(&self, inode: u64) {
        for pause in pauses() {
            if !self.have(inode) {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits until no relay has any of these slots, which are about to be closed; ends the relays
    /// that do not let go.
    pub(crate) async fn leave(&self, inodes: &BTreeSet<u64>) {
        let all_gone = async {
            for inode in inodes {
                self.let_go(*inode).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(PARTING_MS), all_gone).await.is_err() {
            let has_any = |process: &Identity| inodes.iter().any(|i| proc::has_socket(process, *i));
            self.kill(has_any).await;
        }
    }

    /// The programs have ended: so do those that pass connections on to them, once they have
    /// passed that on, or without it.
    pub(crate) async fn end(&self) {
        let mut ends = self.n_ends.subscribe();
        let all = async { while !self.is_empty() && ends.changed().await.is_ok() {} };
        if tokio::time::timeout(Duration::from_millis(PARTING_MS), all).await.is_ok() {
            return;
        }
        let mut ends = self.n_ends.subscribe();
        while !self.is_empty() {
            self.kill(|_| true).await;
            if ends.changed().await.is_err() {
                return;
            }
        }
    }

    async fn kill(&self, is_meant: impl Fn(&Identity) -> bool) {
        let meant = |(child, process): (&ChildId, &Identity)| is_meant(process).then_some(*child);
        let children: Vec<ChildId> = self.running.borrow().iter().filter_map(meant).collect();
        for child in children {
            let killed = self.link.signal(child, libc::SIGKILL, Reach::Process, Vec::new()).await;
            if let Err(error) = killed {
                tracing::error!(service = %self.service, %error, "ending a relay");
            }
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1]))
}
