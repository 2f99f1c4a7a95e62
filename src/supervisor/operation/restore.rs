//! `restore SERVICE`: an older state of the data takes the place of the present one.
//!
//! Nothing is touched before the backup was restored to scratch and checked, and before the data
//! that would be lost is reported. Then connections are held, the service is stopped, its present
//! data is backed up, and only then replaced. The release that served is started on it and proven
//! before connections reach it; if it does not run, or there is a crash, what was there before
//! comes back.

use std::rc::Rc;

use tokio::sync::mpsc;

use crate::api::{Event, HistoryEntry, Outcome, PhaseState, RestorePlan, Trouble};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::receipt::{self, Receipt};
use crate::store::restoration::{self, Restoration};
use crate::store::state::Served;
use crate::store::{history, release};
use crate::supervisor::data::backup::{self, Counts, Hand, Site};
use crate::supervisor::data::error::DataError;
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::gate::{self, Gated, Rigour};
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::restore_error::RestoreError;
use crate::supervisor::operation::start_last_good;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::Crew;
use crate::supervisor::service::occupied;
use crate::supervisor::service::outcome;
use crate::supervisor::service::outcome::phase_event;
use crate::supervisor::service::refusal;

/// The channel for the events of a restore. A closed channel does not affect the restore.
pub(crate) type Events = mpsc::UnboundedSender<Event>;

fn tell_event(events: &Events, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("the client of a restore is gone");
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Which backup; the newest when absent.
    pub backup: Option<String>,
    /// Only what it would do.
    pub dry_run: bool,
    /// The restore was confirmed.
    pub yes: bool,
    /// Also when the present cannot be backed up.
    pub unsaved: bool,
}

/// Performs the restore, or reports what it would do.
///
/// # Errors
/// Why the data is as it was.
pub(crate) async fn restore(
    service: &Rc<Service>,
    actor: &str,
    wish: Wish,
    events: &Events,
) -> Result<(), Trouble> {
    let hand = backup::by_hand(service, "restored")?;
    let _busy = occupied::occupy(service, "a restore")?;
    let mut receipt = find(service, wish.backup.as_deref())?;
    let begun = clock::tick();
    let plan = match rehearse(service, &hand, &mut receipt).await {
        Ok(plan) => plan,
        Err(error) => {
            let why = error.to_string();
            tell(events, "restore_rehearsal", PhaseState::Fail, begun, &why);
            return Err(refusal::refusal(
                service,
                "restored",
                &why,
                Exit::BackupFailed,
                &["backup --list"],
            ));
        }
    };
    let said = backup::summary(&plan.backup.counts);
    tell(events, "restore_rehearsal", PhaseState::Ok, begun, &said);
    tell_event(events, Event::Restore(Box::new(plan.clone())));
    if wish.dry_run {
        tell_event(events, Event::Result(Box::new(outcome::outcome(service, Word::Planned, 0))));
        return Ok(());
    }
    if !wish.yes {
        let why = format!("it needs --yes; this would be lost: {}", lost_text(&plan));
        let mut trouble = refusal::refusal(service, "restored", &why, Exit::Usage, &[]);
        let name = &service.name;
        trouble.next = vec![format!("halley-sup restore {name} --backup {} --yes", receipt.id)];
        return Err(trouble);
    }
    let started = clock::tick();
    let done = replace(service, &hand, &receipt, actor, wish.unsaved, events).await;
    let outcome = match &done {
        Ok(()) => outcome::outcome(service, Word::Restored, 0),
        Err(trouble) => {
            Outcome { exit: trouble.exit, ..outcome::outcome(service, Word::NotRestored, 0) }
        }
    };
    note(service, actor, &outcome, done.as_ref().err(), started);
    done?;
    tell_event(events, Event::Result(Box::new(outcome)));
    Ok(())
}

fn find(service: &Service, id: Option<&str>) -> Result<Receipt, Trouble> {
    let mut all = receipt::list(&service.paths).into_iter();
    let found = match id {
        Some(id) => all.find(|receipt| receipt.id == id),
        None => all.next(),
    };
    found.ok_or_else(|| {
        let why =
            id.map_or("there is no backup".to_owned(), |id| format!("there is no backup {id}"));
        refusal::refusal(service, "restored", &why, Exit::NoTarget, &["backup --list"])
    })
}

/// Restores it to scratch, checks it, and compares it with the present.
async fn rehearse(
    service: &Service,
    hand: &Hand<'_>,
    receipt: &mut Receipt,
) -> Result<RestorePlan, DataError> {
    let copied = backup::copy(hand, receipt).await?;
    let counts = copied.counts.clone();
    backup::discard(hand, copied).await;
    let now = hand.inspect(&Site::Live).await.ok();
    let lost = now.as_ref().map(|now| lost(now, &counts)).unwrap_or_default();
    let backup = backup::entry(receipt.clone());
    Ok(RestorePlan { service: service.name.to_string(), backup, now, lost })
}

/// What there is more of now than in a backup.
fn lost(now: &Counts, then: &Counts) -> Vec<String> {
    let more = now.iter().filter_map(|(name, n)| {
        let had = then.get(name).copied().unwrap_or(0);
        (*n > had).then(|| format!("{name}: {} more now ({n}, {had} in the backup)", n - had))
    });
    more.collect()
}

fn lost_text(plan: &RestorePlan) -> String {
    match (&plan.now, plan.lost.is_empty()) {
        (None, _) => "unknown, the live data cannot be read".to_owned(),
        (Some(_), true) => "no files or rows".to_owned(),
        (Some(_), false) => plan.lost.join("; "),
    }
}

/// The present, in a backup that was restored to scratch: what one may have to go back to.
async fn saved(hand: &Hand<'_>) -> Result<Receipt, DataError> {
    let mut receipt = backup::take(hand, None).await?;
    let copied = backup::copy(hand, &mut receipt).await?;
    backup::discard(hand, copied).await;
    Ok(receipt)
}

fn tell(events: &Events, name: &str, state: PhaseState, begun: Tick, detail: &str) {
    tell_event(events, phase_event(name, state, begun, detail));
}

/// Why the data is as it was.
struct Refused {
    why: String,
    exit: Exit,
}

/// From the hold of the connections to a proven release on the restored data. Where that is refused,
/// the last good release is started on the data as it is.
async fn replace(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    receipt: &Receipt,
    actor: &str,
    unsaved: bool,
    events: &Events,
) -> Result<(), Trouble> {
    // No other task starts the release meanwhile.
    let turn = service.activity.starting().await;
    let replaced = replace_alone(service, hand, receipt, actor, unsaved, events).await;
    drop(turn);
    let Err(Refused { why, exit }) = replaced else { return Ok(()) };
    start_last_good::bring_up(service).await;
    Err(refusal::refusal(service, "restored", &why, exit, &["status", "logs"]))
}

async fn replace_alone(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    receipt: &Receipt,
    actor: &str,
    unsaved: bool,
    events: &Events,
) -> Result<(), Refused> {
    let begun = clock::tick();
    if let Err(error) = stop_all::clear(service).await {
        let why = format!("connections cannot be kept waiting: {error}");
        return Err(Refused { why, exit: Exit::Internal });
    }
    service.routing.clear();
    tell(events, "stop_old", PhaseState::Ok, begun, "connections wait");
    let restoration = Restoration {
        version: 1,
        backup: receipt.id.clone(),
        before: save_present(hand, unsaved, events).await?,
        actor: actor.to_owned(),
        at: clock::now_rfc3339(),
    };
    let begun = clock::tick();
    let put = match restoration::begin(&service.paths, &restoration) {
        Ok(()) => put_in_place(service, hand, &receipt.id).await.map_err(RestoreError::from),
        Err(error) => Err(RestoreError::Record(error)),
    };
    if let Err(error) = put {
        tell(events, "restore", PhaseState::Fail, begun, &error.to_string());
        let why = undo_text(service, hand, &restoration, &error).await;
        return Err(Refused { why, exit: Exit::BackupFailed });
    }
    tell(events, "restore", PhaseState::Ok, begun, "");
    let begun = clock::tick();
    match prove(service, hand).await {
        Ok(detail) => {
            let schema = receipt.schema.clone();
            if let Err(error) = service.durable.save(|state| state.schema = schema) {
                tracing::warn!(service = %service.name, %error, "recording the schema's version");
            }
            tell(events, "gate", PhaseState::Ok, begun, &detail);
            Ok(())
        }
        Err(error) => {
            tell(events, "gate", PhaseState::Fail, begun, &error.to_string());
            let why = undo_text(service, hand, &restoration, &error).await;
            Err(Refused { why, exit: Exit::GateFailed })
        }
    }
}

/// Saves the present data, and returns the backup that holds it: none when it cannot be saved and
/// need not be.
async fn save_present(
    hand: &Hand<'_>,
    unsaved: bool,
    events: &Events,
) -> Result<Option<String>, Refused> {
    let begun = clock::tick();
    match saved(hand).await {
        Ok(before) => {
            tell(events, "backup", PhaseState::Ok, begun, &before.id);
            Ok(Some(before.id))
        }
        Err(why) if unsaved => {
            tell(events, "backup", PhaseState::Fail, begun, &format!("{why}; ignored (--unsaved)"));
            Ok(None)
        }
        Err(why) => {
            let why =
                format!("the live data cannot be backed up: {why}; --unsaved restores without");
            Err(Refused { why, exit: Exit::BackupFailed })
        }
    }
}

/// Undoes a restore that failed for this reason, and says what the data is.
async fn undo_text(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    restoration: &Restoration,
    error: &RestoreError,
) -> String {
    let back = back_text(restoration, undo_holding(service, hand, restoration).await);
    format!("{error}\n{back}")
}

fn back_text(restoration: &Restoration, undone: Result<(), RestoreError>) -> String {
    match (undone, &restoration.before) {
        (Ok(()), Some(_)) => "the previous data is back".to_owned(),
        (Ok(()), None) => {
            format!(
                "the previous data was not saved; backup {} stays in its place",
                restoration.backup
            )
        }
        (Err(error), _) => error.to_string(),
    }
}

async fn put_in_place(service: &Service, hand: &Hand<'_>, id: &str) -> Result<(), DataError> {
    hand.put(&receipt::data_dir(&service.paths, id)).await
}

/// Starts the release on the restored data; connections reach it when its gate has opened.
async fn prove(service: &Rc<Service>, hand: &Hand<'_>) -> Result<String, RestoreError> {
    let target = hand.release();
    let settings = release::settings(&service.paths, target)?;
    let generation = service.fleet.next_generation();
    let crew = start::start(service, generation, target, settings).await?;
    let mut transcript = Transcript::default();
    let limit = crew.settings.health.deadline;
    let why = match gate::gate(service, &crew, Rigour::Short, limit, &mut transcript).await {
        Gated::Open(detail) => match restoration::end(&service.paths) {
            // Before the first connection: data written for it is never undone after a crash.
            Ok(()) => {
                go_forward(service, &crew, target).await;
                return Ok(detail);
            }
            Err(error) => error.to_string(),
        },
        Gated::Died => diagnosis::death(service, generation, target),
        Gated::Shut(why) => format!("{why}{}", diagnosis::last_lines(service, &crew)),
    };
    service.routing.clear();
    retire::stop_now(service, &crew).await;
    Err(RestoreError::DoesNotRun { release: target, why })
}

/// The restored data is the data from here on; failures are now reported, not undone.
async fn go_forward(service: &Rc<Service>, crew: &Rc<Crew>, target: ReleaseId) {
    let text = |error: &dyn std::error::Error| error.to_string();
    let steered = service.steer_to(crew, Duty::Live).map_err(|error| text(&error));
    let pointed = service.point_proxy(crew).await.map_err(|error| text(&error));
    revive(service, crew);
    service.tend();
    let op = service.durable.state().last_good.map_or(0, |good| good.op);
    let served = Served { release: target.0, generation: crew.generation.0, op };
    let saved = service.durable.save(|state| {
        state.last_good = Some(served);
        state.standby = None;
    });
    let saved = saved.map_err(|error| text(&error));
    let trouble = steered.and(pointed).and(saved).err();
    service.condition.serves();
    match trouble {
        Some(why) => service.condition.report(Source::Restore, why),
        None => drop(service.condition.resolve(Source::Restore)),
    }
}

/// A crash in the middle of a restore is undone before anything is started.
///
/// # Errors
/// Why nothing may be started on the data as it is.
pub(crate) async fn undo(service: &Rc<Service>) -> Result<(), RestoreError> {
    let restoration = match restoration::read(&service.paths) {
        Ok(Some(restoration)) => restoration,
        Ok(None) => return Ok(()),
        Err(error) => return Err(RestoreError::Unreadable(error)),
    };
    let log = service.paths.logs().join("backup.log");
    let Some(hand) = Hand::of(service, log) else {
        return Err(RestoreError::NotConfigured);
    };
    if let Err(error) = stop_all::clear(service).await {
        tracing::error!(service = %service.name, why = %error, "keeping connections waiting");
    }
    service.routing.clear();
    undo_holding(service, &hand, &restoration).await
}

/// Puts back what was there before; where that was not saved, the restore is brought to its end.
/// What cannot be put back stays written down, and nothing is started on it.
async fn undo_holding(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    restoration: &Restoration,
) -> Result<(), RestoreError> {
    let id = restoration.before.as_ref().unwrap_or(&restoration.backup);
    match put_in_place(service, hand, id).await {
        Ok(()) => {
            tracing::warn!(service = %service.name, backup = id, "undid an interrupted restore");
            service.condition.resolve(Source::Restore);
            end(service);
            Ok(())
        }
        Err(source) => {
            tracing::error!(service = %service.name, backup = id, why = %source, "undoing a restore");
            let error = RestoreError::Undo { backup: id.clone(), source };
            service.condition.report(Source::Restore, error.to_string());
            Err(error)
        }
    }
}

fn end(service: &Service) {
    if let Err(error) = restoration::end(&service.paths) {
        tracing::error!(service = %service.name, %error, "ending a restore");
    }
}

fn note(
    service: &Service,
    actor: &str,
    outcome: &Outcome,
    trouble: Option<&Trouble>,
    started: Tick,
) {
    let entry = HistoryEntry {
        version: 1,
        at: clock::now_rfc3339(),
        actor: actor.to_owned(),
        service: service.name.to_string(),
        op: 0,
        kind: "restore".to_owned(),
        release: outcome.release,
        outcome: outcome.outcome.to_string(),
        serving: outcome.serving,
        exit: outcome.exit,
        why: trouble.and_then(|trouble| trouble.why.lines().next()).map(str::to_owned),
        ms: clock::tick().since_ms(started),
    };
    if let Err(error) = history::append(&service.shared.layout.history(), &entry) {
        tracing::warn!(service = %service.name, %error, "writing the history");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_would_be_lost() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        let (now, then) = (counts(&[("a", 9), ("b", 1), ("c", 2)]), counts(&[("a", 5), ("b", 3)]));
        assert_eq!(
            lost(&now, &then),
            ["a: 4 more now (9, 5 in the backup)", "c: 2 more now (2, 0 in the backup)"]
        );
    }
}
