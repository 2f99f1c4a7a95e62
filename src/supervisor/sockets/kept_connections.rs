//! Kept connections of processes that new connections are steered away from: two processes let them follow
//! (`src/follow`). Here they are started, told what was steered, and ended.
//!
//! They outlive the supervisor: the next one ends what it finds and begins again from the steering.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Kept;
use crate::core::ids::ServiceName;
use crate::keeper::protocol::{ChildId, End, LaunchSpec, Reach};
use crate::os::clock;
use crate::os::tally::{Board, Extent, Orders, Tally};
use crate::supervisor::processes::child_tag::Label;
use crate::supervisor::processes::keeper_client::{Found, Link, LinkError};
use crate::supervisor::spawn;

/// Before another one is started in the place of one that ended badly.
const AGAIN: Duration = Duration::from_millis(200);

/// The kept connections of one service.
#[derive(Debug)]
pub(crate) struct KeptConnections {
    link: Rc<Link>,
    service: ServiceName,
    run: RefCell<Option<Rc<Run>>>,
}

/// A watch over the connections of some processes.
#[derive(Debug)]
struct Run {
    of: BTreeSet<i32>,
    args: Vec<String>,
    board: Board,
    orders: RefCell<Orders>,
    child: Cell<Option<ChildId>>,
    is_over: Cell<bool>,
}

/// Where kept connections are, and what becomes of them.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The ports of the listeners.
    pub ports: BTreeSet<u16>,
    /// What the configuration says.
    pub kept: Kept,
}

impl KeptConnections {
    /// None are watched.
    pub(crate) fn new(link: Rc<Link>, service: ServiceName) -> Rc<Self> {
        Rc::new(Self { link, service, run: RefCell::default() })
    }

    /// A flip is near: the connections of these processes are looked at, so that it is known by then where
    /// their requests begin. Each request is late by a millisecond or two.
    pub(crate) fn watch(self: &Rc<Self>, of: BTreeSet<i32>, terms: &Terms) {
        let is_watched = self
            .run
            .borrow()
            .as_ref()
            .is_some_and(|run| of.is_subset(&run.of) && !run.is_over.get());
        if !is_watched {
            self.begin(of, terms, Vec::new());
        }
    }

    /// New connections were steered away from these processes: those that they have follow.
    pub(crate) fn follow(self: &Rc<Self>, left: Vec<(i32, Extent)>, terms: &Terms) {
        let run = self.run.borrow().clone();
        let is_same = |run: &Rc<Run>| run.orders.borrow().of == left;
        let is_all = left.iter().all(|(_, extent)| *extent == Extent::All);
        if is_all && run.as_ref().is_some_and(is_same) && !left.is_empty() {
            return;
        }
        if left.is_empty() {
            return self.end();
        }
        let of: BTreeSet<i32> = left.iter().map(|(pid, _)| *pid).collect();
        match run.filter(|run| of.is_subset(&run.of) && !run.is_over.get()) {
            Some(run) => run.order(left),
            None => self.begin(of, terms, left),
        }
    }

    /// Nothing is watched any more.
    pub(crate) fn end(&self) {
        let Some(run) = self.run.borrow_mut().take() else { return };
        run.is_over.set(true);
        if let Some(child) = run.child.get() {
            terminate(&self.link, child);
        }
    }

    /// What has become of connections since the last flip.
    pub(crate) fn tally(&self) -> Option<Tally> {
        let run = self.run.borrow();
        let run = run.as_ref().filter(|run| run.orders.borrow().number > 0)?;
        Some(run.board.tally())
    }

    /// Ends what a supervisor before this one has started: its marks go down.
    pub(crate) fn adopt(&self, found: Found) {
        if let Some(end) = found.end {
            self.link.child_ended(found.child, end);
        }
        terminate(&self.link, found.child);
        let (link, child) = (Rc::clone(&self.link), found.child);
        spawn::local(async move {
            if link.end_of(child).wait_for(Option::is_some).await.is_ok() {
                link.acknowledge(child).await;
            }
        });
    }

    fn begin(self: &Rc<Self>, of: BTreeSet<i32>, terms: &Terms, left: Vec<(i32, Extent)>) {
        self.end();
        if terms.kept == Kept::Stay || of.is_empty() || terms.ports.is_empty() {
            return;
        }
        let board = match Board::new() {
            Ok(board) => board,
            Err(error) => {
                tracing::error!(service = %self.service, %error, "kept connections stay");
                return;
            }
        };
        let pids = of.iter().map(|pid| format!("--of={pid}"));
        let ports = terms.ports.iter().map(|port| format!("--port={port}"));
        let close = (terms.kept == Kept::Close).then(|| "--close".to_owned());
        let run = Rc::new(Run {
            args: pids.chain(ports).chain(close).collect(),
            of,
            board,
            orders: RefCell::default(),
            child: Cell::new(None),
            is_over: Cell::new(false),
        });
        if !left.is_empty() {
            run.order(left);
        }
        self.run.replace(Some(Rc::clone(&run)));
        let kept = Rc::clone(self);
        spawn::local(async move {
            while let Err(error) = kept.perform(&run).await {
                tracing::warn!(service = %kept.service, %error, "kept connections");
                tokio::time::sleep(AGAIN).await;
                if run.is_over.get() {
                    break;
                }
            }
            run.is_over.set(true);
        });
    }

    /// One life of the two processes.
    async fn perform(&self, run: &Rc<Run>) -> Result<(), LinkError> {
        if run.is_over.get() {
            return Ok(());
        }
        let child = self.link.new_child();
        self.start(child, run).await?;
        run.child.set(Some(child));
        if run.is_over.get() {
            terminate(&self.link, child);
        }
        let ended = self.link.end_of(child).wait_for(Option::is_some).await.map(|end| *end);
        run.child.set(None);
        let Ok(Some(end)) = ended else { return Ok(()) };
        self.link.acknowledge(child).await;
        match end {
            End::Exited(0) => Ok(()),
            end => {
                let step = "letting them follow".to_owned();
                Err(LinkError::Failed { step, errno: 0, why: end.to_string() })
            }
        }
    }

    async fn start(&self, child: ChildId, run: &Run) -> Result<(), LinkError> {
        let name = format!("follow/{}/{}", self.service, child.0);
        self.link.keep(name.clone(), run.board.as_fd()).await?;
        let spec = LaunchSpec {
            name: Some("halley-sup".to_owned()),
            // The launcher is this same binary, also when it has been replaced on the disk.
            program: "/proc/self/exe".to_owned(),
            args: [&[crate::follow::VERB.to_owned()], run.args.as_slice()].concat(),
            cwd: "/".to_owned(),
            input: Some(name.clone()),
            no_new_privs: true,
            ..LaunchSpec::default()
        };
        let label = Label::follower(&self.service, clock::tick());
        let started = self.link.spawn(child, label.print(), spec).await;
        self.link.forget(name).await?;
        started.map(drop)
    }
}

impl Run {
    fn order(&self, left: Vec<(i32, Extent)>) {
        let mut orders = self.orders.borrow_mut();
        let is_new = left.iter().any(|(_, extent)| *extent == Extent::Present);
        if orders.of == left && !is_new {
            return;
        }
        *orders = Orders { number: orders.number + 1, of: left };
        if let Err(error) = self.board.order(&orders) {
            tracing::error!(%error, "kept connections stay");
        }
    }
}

fn terminate(link: &Rc<Link>, child: ChildId) {
    let link = Rc::clone(link);
    spawn::local(async move {
        let asked = link.signal(child, libc::SIGTERM, Reach::Process, Vec::new()).await;
        if let Err(error) = asked {
            tracing::warn!(%error, "ending what lets kept connections follow");
        }
    });
}
