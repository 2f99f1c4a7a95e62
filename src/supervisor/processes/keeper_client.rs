//! The supervisor's end of the socket to the keeper: questions with answers, and news.
//!
//! One task reads; each question waits for the answer of its `seq`. When the keeper is gone, this
//! process takes its place with the copies that it has: no question is answered any more, so nothing
//! is concluded from the keeper's death.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use crate::core::ordered::Few;
use crate::json;
use crate::keeper::estate::Filter;
use crate::keeper::protocol::{
    ASKS, Ask, ChildId, End, Held, Identity, LISTS, LaunchSpec, REVISION, Reach, Refused, Request,
    Setup, Tell, UPGRADES, VERSION, WORDS,
};
use crate::os::{proc, ready, scm};
use crate::supervisor::processes::copies::Copies;
use crate::supervisor::spawn;

/// How long the program that a keeper becomes has for its first answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The socket to the keeper.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<OwnedFd>,
    next_seq: Cell<u64>,
    next_child: Cell<u64>,
    waiting: RefCell<Few<u64, oneshot::Sender<Answer>>>,
    ends: RefCell<Few<ChildId, watch::Sender<Option<End>>>>,
    /// Where it is written down what a fence keeps a child from.
    refused: RefCell<Few<ChildId, RefusedList>>,
    /// What the keeper has listed, by the greeting that it answered.
    listed: RefCell<Few<u64, Inventory>>,
    /// What the keeper knows of the protocol.
    revision: Cell<u16>,
    /// What the next keeper has to have.
    copies: Copies,
}

/// What fences have kept programs from.
pub(crate) type RefusedList = Rc<RefCell<Vec<Refused>>>;

type Answer = (Tell, Vec<OwnedFd>);

/// What the keeper had when this supervisor came up.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Kept descriptors by name.
    pub kept: Few<String, OwnedFd>,
    /// Children, alive and ended.
    pub children: Vec<Found>,
}

/// A child found at the keeper.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its number.
    pub child: ChildId,
    /// The label it was started with.
    pub label: String,
    /// The identity of its process.
    pub identity: Identity,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// News that is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Take everything down.
    Stop,
    /// Read the configuration again.
    Reload,
    /// The keeper is gone.
    Gone,
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// It was sent, or the child was gone already.
    Done,
    /// It was not sent: this child had to be alive and is not.
    Refused(ChildId),
}

/// Why the keeper did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The keeper gave a reason.
    #[error("{step}: {why}")]
    Failed {
        /// The step that failed.
        step: String,
        /// Its `errno`, 0 when there is none.
        errno: i32,
        /// The reason as text.
        why: String,
    },
    /// The keeper is gone.
    #[error("the keeper is gone")]
    Gone,
    /// The socket failed.
    #[error("talking to the keeper: {source}")]
    Socket {
        /// The socket's error.
        #[from]
        source: io::Error,
    },
    /// A message that is not of the protocol.
    #[error("the keeper sent an unknown message: {source}")]
    Message {
        /// Why it could not be read.
        #[from]
        source: serde_json::Error,
    },
}

impl Link {
    /// Greets the keeper, takes its inventory and starts the reading task.
    ///
    /// # Errors
    /// [`LinkError`] when the keeper is gone or speaks another version.
    pub(crate) async fn connect(
        socket: OwnedFd,
    ) -> Result<(Rc<Self>, Inventory, mpsc::UnboundedReceiver<News>), LinkError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
        let link = Rc::new(Self {
            socket: ready::both(socket)?,
            next_seq: Cell::new(1),
            next_child: Cell::new(1),
            waiting: RefCell::default(),
            ends: RefCell::default(),
            refused: RefCell::default(),
            listed: RefCell::default(),
            revision: Cell::new(0),
            copies: Copies::of(proc::own_parent()),
        });
        let (news, reader) = mpsc::unbounded_channel();
        spawn::local(Rc::clone(&link).read(news));
        let inventory = link.inventory().await?;
        let highest = inventory.children.iter().map(|found| found.child.0).max().unwrap_or(0);
        link.next_child.set(highest + 1);
        Ok((link, inventory, reader))
    }

    /// All that the keeper has at this instant.
    ///
    /// # Errors
    /// When the keeper is gone or speaks another version.
    pub(crate) async fn inventory(&self) -> Result<Inventory, LinkError> {
        proc::use_all_files();
        let told = self.ask(Ask::Hello { version: VERSION, revision: REVISION }, &[]).await;
        proc::leave_files();
        let (told, _) = told?;
        let Tell::Done { seq, revision } = told else { return Err(LinkError::Gone) };
        self.revision.set(revision);
        Ok(self.listed.borrow_mut().remove(&seq).unwrap_or_default())
    }

    /// Has all that the keeper has written down at this path.
    pub(crate) fn record(&self, path: &Path) {
        self.copies.record(path);
    }

    async fn read(self: Rc<Self>, news: mpsc::UnboundedSender<News>) {
        let mut list = Inventory::default();
        let mut held = Vec::new();
        let has_gone = loop {
            let (tell, mut fds) = match self.receive().await {
                Ok(Some(message)) => message,
                Ok(None) => break true,
                Err(error) => {
                    tracing::error!(%error, "reading from the keeper");
                    break matches!(&error, LinkError::Socket { source } if is_gone(source));
                }
            };
            match tell {
                Tell::Ended { child, end } => self.child_ended(child, end),
                Tell::Stop => {
                    self.copies.stop();
                    pass_on(&news, News::Stop);
                }
                Tell::Setup { setup } => self.copies.begin(*setup, fds),
                Tell::Heir { heir } => self.copies.heir(*heir),
                Tell::Filter { child, watched } => {
                    if let Some(fd) = fds.pop() {
                        self.copies.filter(Filter { child, fd, watched: *watched });
                    }
                }
                Tell::Reload => pass_on(&news, News::Reload),
                Tell::Ping => {
                    if let Err(error) = self.send(Ask::Pong, &[]).await {
                        tracing::warn!(%error, "answering the keeper");
                    }
                }
                Tell::Children { children, more: true, .. } => held.extend(children),
                Tell::Children { seq, children, more: false } => {
                    held.extend(children);
                    let children = std::mem::take(&mut held);
                    self.answered(seq, (Tell::Children { seq, children, more: false }, fds));
                }
                Tell::FencedOff { child, refused } => {
                    if let Some(list) = self.refused.borrow().get(&child) {
                        list.borrow_mut().push(refused);
                    }
                }
                Tell::Kept { name } => {
                    if let Some(fd) = fds.pop() {
                        self.copies.keep(&name, fd.as_fd());
                        list.kept.insert(name, fd);
                    }
                }
                Tell::Child { child, label, identity, end } => {
                    list.children.push(Found { child, label, identity, end });
                }
                Tell::Done { seq, .. }
                | Tell::Spawned { seq, .. }
                | Tell::Refused { seq, .. }
                | Tell::Failed { seq, .. } => {
                    if !list.children.is_empty() || !list.kept.is_empty() {
                        self.listed.borrow_mut().insert(seq, std::mem::take(&mut list));
                    }
                    self.answered(seq, (tell, fds));
                }
            }
        };
        // One that lives has this supervisor replaced: there are never two keepers.
        if has_gone && let Some(error) = self.copies.keep_on() {
            tracing::error!(%error, "the keeper is gone, and its place could not be taken");
        }
        self.waiting.borrow_mut().clear();
        pass_on(&news, News::Gone);
    }

    fn answered(&self, seq: u64, answer: Answer) {
        if let Some(asker) = self.waiting.borrow_mut().remove(&seq) {
            drop(asker.send(answer));
        }
    }

    /// Notes an end that the inventory reported.
    pub(crate) fn child_ended(&self, child: ChildId, end: End) {
        self.ends
            .borrow_mut()
            .get_or_insert_with(child, || watch::channel(None).0)
            .send_replace(Some(end));
    }

    /// A receiver that learns how the child ended.
    pub(crate) fn end_of(&self, child: ChildId) -> watch::Receiver<Option<End>> {
        self.ends.borrow_mut().get_or_insert_with(child, || watch::channel(None).0).subscribe()
    }

    /// Whether the keeper puts children behind their fences. One that was started by an earlier
    /// version of Halley starts them without, or lets them bind ports of the live release.
    pub(crate) fn can_fence(&self) -> bool {
        self.revision.get() >= ASKS
    }

    /// Has it written down what the child's fence keeps it from, until its end is noted.
    pub(crate) fn note_refused(&self, child: ChildId, list: RefusedList) {
        self.refused.borrow_mut().insert(child, list);
    }

    /// Whether the keeper says which children it has.
    pub(crate) fn can_list(&self) -> bool {
        self.revision.get() >= LISTS
    }

    /// The children that the keeper has, ended ones among them.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn children(&self) -> Result<Vec<Held>, LinkError> {
        match self.ask(Ask::Children, &[]).await? {
            (Tell::Children { children, .. }, _) => Ok(children),
            _ => Err(LinkError::Gone),
        }
    }

    /// Whether the end of this child was reported already.
    pub(crate) fn has_ended(&self, child: ChildId) -> bool {
        self.ends.borrow().get(&child).is_some_and(|end| end.borrow().is_some())
    }

    /// A number for a new child.
    pub(crate) fn new_child(&self) -> ChildId {
        let child = ChildId(self.next_child.get());
        self.next_child.set(child.0 + 1);
        child
    }

    /// Starts a child; returns when its `execve` succeeded.
    ///
    /// # Errors
    /// The step that failed and why.
    pub(crate) async fn spawn(
        &self,
        child: ChildId,
        label: String,
        spec: LaunchSpec,
    ) -> Result<Identity, LinkError> {
        // An earlier keeper would leave it out without a word.
        let is_kept = spec.fence.is_some() || spec.isolation.is_some() || spec.writes.is_some();
        if is_kept && !self.can_fence() {
            let why = "the keeper is of an earlier version: restart halley-sup run".to_owned();
            return Err(LinkError::Failed { step: "rehearsing".to_owned(), errno: 0, why });
        }
        self.copies.begin_spawn(child);
        let answer = self.ask(Ask::Spawn { child, label, spec: Box::new(spec) }, &[]).await;
        self.copies.end_spawn(child);
        match answer? {
            (Tell::Spawned { identity, .. }, _) => Ok(identity),
            _ => Err(LinkError::Gone),
        }
    }

    /// Has a descriptor kept under a name.
    ///
    /// # Errors
    /// When the name is taken or the keeper is gone.
    pub(crate) async fn keep(&self, name: String, fd: BorrowedFd<'_>) -> Result<(), LinkError> {
        self.ask(Ask::Keep { name: name.clone() }, &[fd]).await?;
        self.copies.keep(&name, fd);
        Ok(())
    }

    /// Has a kept descriptor closed.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn forget(&self, name: String) -> Result<(), LinkError> {
        self.copies.forget(&name);
        self.ask(Ask::Drop { name: name.clone() }, &[]).await?;
        // A list that was under way may have had it still.
        self.copies.forget(&name);
        Ok(())
    }

    /// Sends a signal if all of `only_if_alive` are alive at that instant.
    ///
    /// # Errors
    /// When the keeper could not send it.
    pub(crate) async fn signal(
        &self,
        child: ChildId,
        signal: i32,
        reach: Reach,
        only_if_alive: Vec<ChildId>,
    ) -> Result<Signalled, LinkError> {
        match self.ask(Ask::Signal { child, signal, reach, only_if_alive }, &[]).await? {
            (Tell::Refused { dead, .. }, _) => Ok(Signalled::Refused(dead)),
            _ => Ok(Signalled::Done),
        }
    }

    /// Reports to the keeper that the child's end is noted.
    pub(crate) async fn acknowledge(&self, child: ChildId) {
        if let Err(error) = self.ask(Ask::Acknowledge { child }, &[]).await {
            tracing::warn!(%error, "acknowledging an end");
        }
        self.copies.ended(child);
        self.ends.borrow_mut().remove(&child);
        self.refused.borrow_mut().remove(&child);
    }

    /// All that the keeper has, as it leaves it to the program that it becomes.
    ///
    /// # Errors
    /// When the keeper is of an earlier version.
    pub(crate) fn described(&self) -> io::Result<Vec<u8>> {
        if self.revision.get() < UPGRADES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.copies.described()
    }

    /// How the keeper was set up, when it says so.
    pub(crate) fn setup(&self) -> Option<Setup> {
        self.copies.setup()
    }

    /// Has the keeper become another program, which ends this process. Returns why it did not. A program
    /// that does not answer is killed: this process takes its place then.
    pub(crate) async fn upgrade(&self, program: BorrowedFd<'_>, ready: Duration) -> LinkError {
        let ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
        let keeper = proc::own_parent();
        let fds = [program];
        let asked = self.ask(Ask::Upgrade { ready_ms }, &fds);
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Err(error @ LinkError::Failed { .. })) => return error,
            Ok(_) => {}
            Err(_) => {
                tracing::error!("the new program does not answer; it is killed");
                let killed = proc::start_ticks(keeper)
                    .and_then(|start| proc::signal(keeper, start, libc::SIGKILL));
                if let Err(error) = killed {
                    tracing::error!(%error, "killing the new program");
                }
            }
        }
        std::future::pending().await
    }

    /// Reports to the keeper that the supervisor is up.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn ready(&self) -> Result<(), LinkError> {
        self.ask(Ask::Ready, &[]).await.map(drop)
    }

    /// Says what only a newer keeper knows, and waits for no answer.
    pub(crate) async fn say(&self, ask: Ask) {
        if self.revision.get() >= WORDS {
            drop(self.send(ask, &[]).await);
        }
    }

    /// Reports to the keeper that everything is down.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn stopped(&self) -> Result<(), LinkError> {
        self.send(Ask::Stopped, &[]).await.map(drop)
    }

    async fn ask(&self, ask: Ask, fds: &[BorrowedFd<'_>]) -> Result<Answer, LinkError> {
        let (asker, answer) = oneshot::channel();
        let seq = self.next_seq.get();
        self.waiting.borrow_mut().insert(seq, asker);
        if let Err(error) = self.send(ask, fds).await {
            self.waiting.borrow_mut().remove(&seq);
            return Err(error);
        }
        match answer.await.map_err(|_| LinkError::Gone)? {
            (Tell::Failed { step, errno, why, .. }, _) => {
                Err(LinkError::Failed { step, errno, why })
            }
            answer => Ok(answer),
        }
    }

    /// Takes the next `seq` before anything can wait, so that `ask` knows it beforehand.
    async fn send(&self, ask: Ask, fds: &[BorrowedFd<'_>]) -> Result<u64, LinkError> {
        let seq = self.next_seq.get();
        self.next_seq.set(seq + 1);
        let bytes = json::to_vec(&Request { seq, ask })?;
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|socket| scm::send(socket.get_ref().as_fd(), &bytes, fds)) {
                // It is gone; the reading task takes its place.
                Ok(Err(error)) if is_gone(&error) && self.copies.are_whole() => {
                    return std::future::pending().await;
                }
                Ok(sent) => return sent.map(|()| seq).map_err(LinkError::from),
                Err(_would_block) => {}
            }
        }
    }

    async fn receive(&self) -> Result<Option<Answer>, LinkError> {
        let mut bytes = Vec::new();
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| scm::receive(socket.get_ref().as_fd(), &mut bytes)) {
                Ok(received) => {
                    return match received? {
                        Some(fds) => Ok(Some((json::from_slice(&bytes)?, fds))),
                        None => Ok(None),
                    };
                }
                Err(_would_block) => {}
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// A supervisor that listens no more is leaving.
fn pass_on(news: &mpsc::UnboundedSender<News>, what: News) {
    if news.send(what).is_err() {
        tracing::debug!(?what, "no receiver for a report of the keeper");
    }
}
