//! Following: the events of an operation or a set go to a client as they come, with a heartbeat
//! while there are none.

use std::rc::Rc;
use std::time::Duration;

use crate::api::{Event, Trouble};
use crate::core::operation::machine::Kind;
use crate::core::operation::phase::Phase;
use crate::core::operation::preempt::{self, Preempt};
use crate::os::clock;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::admission::{self, Begun, Wish};
use crate::supervisor::service::Service;
use crate::supervisor::service::followable::Watched;
use crate::supervisor::service::operation::{Operation, Order};

/// A client gets an event at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Begins what is wished for and streams it. The operation, if it waits for promote or abort.
///
/// # Errors
/// Why it was not begun.
pub(crate) async fn begin(
    service: &Rc<Service>,
    actor: &str,
    wish: Wish,
    client: &mut Client,
    until: Until,
) -> Result<Option<Rc<Operation>>, Trouble> {
    match admission::begin(service, actor, wish).await? {
        Begun::Operation(operation) => {
            let followed = follow(&*operation, client, until).await;
            Ok(Some(operation).filter(|_| followed == Followed::Held))
        }
        Begun::NothingToDo(nothing) => {
            client.tell(&nothing.answer(service)).await;
            Ok(None)
        }
    }
}

/// How far an operation is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// To its result.
    Over,
    /// To its result, or until it waits for promote or abort.
    Held,
}

/// Where following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// With the result, or with the client.
    Over,
    /// The operation waits for promote or abort.
    Held,
}

/// Streams an operation, or a set of them, from its beginning.
pub(crate) async fn follow(watched: &impl Watched, client: &mut Client, until: Until) -> Followed {
    let mut grew = watched.events().watch();
    let mut n_sent = 0;
    loop {
        grew.borrow_and_update();
        for (number, event) in watched.events().after(n_sent) {
            n_sent = number;
            let last = matches!(event, Event::Result(_));
            if !client.tell(&event).await || last {
                return Followed::Over;
            }
        }
        if until == Until::Held && watched.is_held() {
            return Followed::Held;
        }
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { return Followed::Over },
            () = client.gone() => return Followed::Over,
            () = tokio::time::sleep(HEARTBEAT) => {
                if !heartbeat(watched, client).await {
                    return Followed::Over;
                }
            }
        }
    }
}

/// A sign of life. Returns whether the client is there.
async fn heartbeat(watched: &impl Watched, client: &mut Client) -> bool {
    let (phase, since) = watched.phase();
    client.tell(&Event::Heartbeat { phase, ms: clock::tick().since_ms(since) }).await
}

/// Waits for the end of an operation that a rollback calls off, with signs of life to the client, who
/// may leave. An order that comes in a phase which cannot be called off is given again in the next one.
/// Returns the phase it ended in; nothing when it is not waited for.
pub(crate) async fn preempted(running: &Operation, client: &mut Client) -> Option<Phase> {
    let mut grew = running.events.watch();
    let mut seen = None;
    while !running.is_over() {
        grew.borrow_and_update();
        let phase = running.phase.get().unwrap_or(Phase::Receive);
        if phase.is_commit() && running.kind != Kind::Rollback {
            running.wait_no_more();
        }
        match preempt::by_rollback(running.kind, phase) {
            Preempt::CalledOff if seen != Some(phase) => {
                tracing::info!(op = running.id.0, phase = phase.name(), "aborted by a rollback");
                running.order(Order::Abort);
            }
            Preempt::CalledOff | Preempt::Awaited => {}
            Preempt::Yields | Preempt::Refused => return None,
        }
        seen = Some(phase);
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(HEARTBEAT) => {
                heartbeat(running, client).await;
            }
        }
    }
    running.phase.get()
}
