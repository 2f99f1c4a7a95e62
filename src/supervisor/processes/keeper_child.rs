//! A child of the keeper that the supervisor waits for, and that does not outlive the wait.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use crate::keeper::protocol::{ChildId, End, Identity, LaunchSpec, Reach};
use crate::supervisor::processes::keeper_client::{Link, LinkError};
use crate::supervisor::spawn;

/// Between two signs of life: the keeper kills a supervisor that owes it an answer for 30 s.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The child ended by itself.
    Ended(End),
    /// The limit came first; the child runs.
    TooLate,
}

/// A child of the keeper. Dropped, it is killed with all that it started.
pub(crate) struct KeeperChild {
    link: Rc<Link>,
    child: Option<ChildId>,
    end: watch::Receiver<Option<End>>,
    /// Its process, when it was started here.
    identity: Option<Identity>,
}

impl KeeperChild {
    /// Has the keeper start it.
    ///
    /// # Errors
    /// Why it was not started.
    pub(crate) async fn spawn(
        link: &Rc<Link>,
        child: ChildId,
        label: String,
        spec: LaunchSpec,
    ) -> Result<Self, LinkError> {
        let mut started = Self::adopt(link, child);
        match link.spawn(child, label, spec).await {
            Ok(identity) => {
                started.identity = Some(identity);
                Ok(started)
            }
            Err(error) => {
                started.forget();
                Err(error)
            }
        }
    }

    /// One that the keeper runs already.
    pub(crate) fn adopt(link: &Rc<Link>, child: ChildId) -> Self {
        let end = link.end_of(child);
        Self { link: Rc::clone(link), child: Some(child), end, identity: None }
    }

    /// Its process; nothing for one that was adopted.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Waits for its end, so long.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Waited {
        match tokio::time::timeout(limit, self.end.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => Waited::Ended(end.unwrap_or(End::Unknown)),
            Ok(Err(_)) => Waited::Ended(End::Unknown),
            Err(_) => Waited::TooLate,
        }
    }

    /// Shows the keeper that this supervisor lives, although a child that has ended is not acknowledged:
    /// what it left in the background is waited for.
    pub(crate) async fn hold_on(&self) -> Infallible {
        loop {
            tokio::time::sleep(SIGN_OF_LIFE).await;
            if let Err(error) = self.link.children().await {
                tracing::debug!(%error, "the keeper does not answer");
            }
        }
    }

    /// It has ended: the keeper may forget it. What it left in the background goes on.
    pub(crate) async fn acknowledge(mut self) {
        if let Some(child) = self.child.take() {
            self.link.acknowledge(child).await;
        }
    }

    /// Kills it with all that it started. Returns when it is gone.
    pub(crate) async fn kill(mut self) {
        self.end().await;
    }

    /// The same, for one that is looked at once more.
    pub(crate) async fn end(&mut self) {
        if let Some(child) = self.child.take() {
            kill(&self.link, child).await;
        }
    }

    fn forget(mut self) {
        self.child = None;
    }
}

impl Drop for KeeperChild {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let link = Rc::clone(&self.link);
        spawn::local(async move { kill(&link, child).await });
    }
}

async fn kill(link: &Rc<Link>, child: ChildId) {
    let mut end = link.end_of(child);
    if let Err(error) = link.signal(child, libc::SIGKILL, Reach::Tree, Vec::new()).await {
        tracing::warn!(%error, "ending a command");
    }
    if end.wait_for(Option::is_some).await.is_ok() {
        link.acknowledge(child).await;
    }
}
