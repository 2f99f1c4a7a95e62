//! Why a verb is refused, with what goes on serving.

use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::os::clock;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::unresumed::Unresumed;
use crate::text;

/// Why a verb is not taken up.
pub(crate) fn refusal(
    service: &Service,
    done: &str,
    why: &str,
    exit: Exit,
    next: &[&str],
) -> Trouble {
    let name = &service.name;
    Trouble {
        what: format!("{name} was not {done}"),
        why: why.to_owned(),
        still: still(service),
        next: next.iter().map(|verb| format!("halley-sup {verb} {name}")).collect(),
        exit: exit.code(),
    }
}

/// What is wanted is so already: nothing was begun, and that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NothingToDo {
    /// Why there is nothing to do.
    pub(crate) why: String,
}

impl NothingToDo {
    /// As a client sees it: the four lines, with the exit code of a success.
    pub(crate) fn answer(&self, service: &Service) -> Event {
        let what = format!("{}: nothing to do", service.name);
        Event::Error(Trouble { what, ..refusal(service, "", &self.why, Exit::Done, &["status"]) })
    }
}

/// No release begins, unless it is forced.
pub(crate) fn frozen(service: &Service, why: &str) -> Trouble {
    let mut refused = refusal(service, "released", why, Exit::Busy, &["status", "thaw"]);
    refused.next.push(format!("halley-sup release {} SOURCE --force", service.name));
    refused
}

/// Another operation is running: its actor, its kind, since when.
pub(crate) fn busy(service: &Service, running: &Operation) -> Trouble {
    let now = clock::tick();
    let length = text::whole_seconds(now.since_ms(running.started));
    let name = &service.name;
    let trouble = service.condition.trouble();
    let trouble = trouble.map(|trouble| format!("\n{trouble}")).unwrap_or_default();
    Trouble {
        what: format!("{name}: busy"),
        why: format!(
            "operation {} ({} by {}) has run since {} ({length}), in phase {}{trouble}",
            running.id,
            running.kind.name(),
            running.actor,
            running.at.borrow(),
            text::phase(&running.phase_name())
        ),
        still: still(service),
        next: vec![
            format!("halley-sup watch {name} {}", running.id),
            format!("halley-sup abort {name}"),
        ],
        exit: Exit::Busy.code(),
    }
}

/// Nothing runs that an order could be given to.
pub(crate) fn idle(service: &Service, done: &str) -> Trouble {
    refusal(service, done, "no operation is running", Exit::Usage, &["status"])
}

/// An operation is not resumed: the alarm, and what every verb is refused with that would begin
/// something.
#[must_use]
pub(crate) fn unresumed(service: &Service, open: &Unresumed) -> Trouble {
    let name = &service.name;
    Trouble {
        what: format!("{name}: operation {} cannot be resumed", open.op),
        why: format!("{}; nothing is begun until that operation is closed", open.why),
        still: still(service),
        next: vec![format!("halley-sup {} {name}", open.way_out)],
        exit: Exit::Busy.code(),
    }
}

/// What is true for the user's users now.
pub(crate) fn still(service: &Service) -> String {
    match (service.serving(), service.durable.last_good()) {
        (Some(serving), _) => format!("release {serving} is serving"),
        (None, Some(good)) if service.durable.state().stopped => {
            format!("nothing is serving: it is stopped, release {good} was the last")
        }
        (None, Some(good)) if service.condition.is_finished() => {
            format!(
                "nothing is serving: release {good} has ended and is not started again by itself"
            )
        }
        // Without listeners nothing waits, and what holds the address may be of a Halley before.
        (None, Some(good)) if service.slots.listeners().is_empty() => {
            format!(
                "no process of this Halley is serving; release {good} is started when it can be"
            )
        }
        (None, Some(good)) => {
            format!("nothing is serving; release {good} is started again, connections wait")
        }
        (None, None) => "nothing is serving, as before: there is no good release yet".to_owned(),
    }
}

/// Why a service is not free: the set that it is a member of.
pub(crate) fn busy_with_set(service: &Service) -> Option<Trouble> {
    let set = service.activity.set()?;
    let name = &service.name;
    Some(Trouble {
        what: format!("{name}: busy"),
        why: set.busy_text(),
        still: still(service),
        next: vec![
            format!("halley-sup watch --set {}", set.id),
            format!("halley-sup abort {name}"),
        ],
        exit: Exit::Busy.code(),
    })
}
