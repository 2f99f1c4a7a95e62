//! A restore that does not end well, or is cut off by a crash: what was there before comes back, and
//! what happened is told.

use std::rc::Rc;

use crate::api::{Outcome, Trouble};
use crate::core::data_users::Allowed;
use crate::core::exit::Exit;
use crate::core::notice::Notice;
use crate::core::operation::outcome::Word;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::receipt::{self, Cause};
use crate::store::restoration::{self, Restoration, Step};
use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::backup_schema;
use crate::supervisor::data::replacement::Undone;
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::restore_error::RestoreError;
use crate::supervisor::processes::host_command::ENDING;
use crate::supervisor::processes::whole_tree::{self, WholeTree};
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::{Service, notices, outcome, refusal};

/// A restore that a supervisor before this one began is undone before anything is started.
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
    if restoration.step == Step::Put {
        if let Err(error) = stop_all::clear(service).await {
            tracing::error!(service = %service.name, why = %error, "keeping connections waiting");
        }
        service.routing.clear();
    }
    end_migration(service, &hand, &restoration).await?;
    let back = take_back(service, &hand, &restoration).await?;
    if !restoration.told {
        tell_cut_off(service, Some(&hand), &restoration, &back);
    }
    answered(service);
    Ok(())
}

/// What a restore that could not be undone has replaced is only beside it, and must come back first.
///
/// # Errors
/// That there is such a restore, or that its record is not understood.
pub(super) fn is_over(service: &Service) -> Result<(), Trouble> {
    let why = match restoration::read(&service.paths) {
        Ok(None) => return Ok(()),
        Ok(Some(unfinished)) if unfinished.step != Step::Put => return Ok(()),
        Ok(Some(_)) => {
            "an earlier restore is not undone yet, and what it replaced is only beside it"
                .to_owned()
        }
        Err(error) => RestoreError::Unreadable(error).to_string(),
    };
    Err(refusal::refusal(service, "restored", &why, Exit::BackupFailed, &["status", "logs"]))
}

/// One that a supervisor before this one was asked for, and of which nobody has heard how it ended: it
/// was cut off before it held connections, or after the restored data was proven.
pub(crate) fn tell_left(service: &Rc<Service>) {
    let paths = &service.paths;
    let asked = match restoration::asked(paths) {
        Ok(Some(asked)) => asked,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(service = %service.name, %error, "a restore whose end is not known");
            return;
        }
    };
    if !matches!(restoration::read(paths), Ok(None)) {
        // It is undone, and told then.
        return;
    }
    if restoration::has_proven(paths, &asked) {
        let outcome = outcome::outcome(service, Word::Restored, 0);
        let release = asked.release.or(outcome.release);
        note(service, &asked.actor, &Outcome { release, ..outcome }, None, began(service, &asked));
    } else {
        tell_cut_off(service, None, &asked, "the data is as it was");
    }
    answered(service);
}

fn answered(service: &Service) {
    if let Err(error) = restoration::answered(&service.paths) {
        tracing::warn!(service = %service.name, %error, "removing the record of a restore");
    }
}

/// When it began; what began before this boot has no time of this one.
fn began(service: &Service, restoration: &Restoration) -> Tick {
    let began = restoration.began.as_ref();
    let began = began.filter(|began| began.boot_id == service.shared.boot_id);
    began.map_or_else(clock::tick, |began| Tick(began.tick_ms))
}

/// Ends what goes on of a migration of the restored data: it would write into what comes back.
async fn end_migration(
    service: &Service,
    hand: &Hand<'_>,
    restoration: &Restoration,
) -> Result<(), RestoreError> {
    let Some(mark) = restoration.migration.clone() else { return Ok(()) };
    let tree = WholeTree { mark, leader: None };
    tree.kill(ENDING).await;
    let left = tree.left();
    if left.is_empty() {
        if let Err(error) = hand.settle(&backup_schema::client(service)).await {
            tracing::warn!(service = %service.name, %error, "looking for statements");
        }
        return Ok(());
    }
    Err(RestoreError::Migrating { left: whole_tree::named(&left) })
}

/// Puts back what was there before; what cannot be put back stays written down, and nothing is started
/// on it. Returns what the data is.
///
/// # Errors
/// Why nothing may be started.
pub(crate) async fn take_back(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    restoration: &Restoration,
) -> Result<String, RestoreError> {
    let id = &restoration.backup;
    let undone = match restoration.step {
        Step::Hold | Step::Proven => Ok(Undone::Untouched),
        Step::Put => hand.take_back(restoration).await,
    };
    let ended = match undone {
        Ok(undone) => restoration::end(&service.paths).map(|()| undone).map_err(RestoreError::Mark),
        Err(source) => Err(RestoreError::Undo { backup: id.clone(), source }),
    };
    match ended {
        Ok(undone) => {
            tracing::warn!(service = %service.name, backup = id, "undid a restore");
            service.condition.resolve(Source::Restore);
            // Only now: what is staged says whether the data was replaced.
            hand.unstage(id).await;
            note_undone(service, restoration);
            Ok(text(hand, undone, restoration))
        }
        Err(error) => {
            tracing::error!(service = %service.name, backup = id, why = %error, "undoing a restore");
            service.condition.report(Source::Restore, error.to_string());
            Err(error)
        }
    }
}

fn raise(service: &Service, alarm: Option<Trouble>) {
    if let Err(error) = service.durable.save(|state| state.alarm = alarm) {
        tracing::error!(service = %service.name, %error, "saving the alarm");
    }
}

/// How that comes back which a restore may have changed and its undoing does not bring back.
pub(crate) fn elsewhere(
    service: &Service,
    hand: &Hand<'_>,
    restoration: &Restoration,
) -> Option<String> {
    hand.not_taken_back().filter(|_| restoration.step == Step::Put)?;
    let before = restoration.before.as_ref()?;
    let options = options(restoration);
    Some(format!("halley-sup restore {} --backup {before} --yes{options}", service.name))
}

/// Those with which it can be asked for again.
fn options(restoration: &Restoration) -> String {
    Allowed { services: !restoration.users.is_empty(), sessions: false }.options()
}

fn text(hand: &Hand<'_>, undone: Undone, restoration: &Restoration) -> String {
    let id = &restoration.backup;
    let text = match undone {
        Undone::Untouched => "the data is as it was".to_owned(),
        Undone::Back => "the previous data is back".to_owned(),
        Undone::NothingBefore => {
            format!("there was no data before; backup {id} stays in its place")
        }
    };
    match hand.not_taken_back().filter(|_| restoration.step == Step::Put) {
        Some(what) => {
            let before = restoration.before.as_deref().unwrap_or("none");
            format!("{text}; {what} is not taken back (backup of before it: {before})")
        }
        None => text,
    }
}

/// The backup that the restore took holds the data again, not what it has thrown away.
fn note_undone(service: &Service, restoration: &Restoration) {
    let Some(before) = &restoration.before else { return };
    let all = receipt::list(&service.paths);
    let Some(mut saved) = all.into_iter().find(|receipt| receipt.id == *before) else { return };
    let Some(Cause::Restore { undone, .. }) = &mut saved.cause else { return };
    *undone = true;
    if let Err(error) = receipt::write(&service.paths, &saved) {
        tracing::warn!(service = %service.name, %error, "recording that a restore was undone");
    }
}

/// Nobody was there to be told: it is in the history, in `status` and in a notification.
fn tell_cut_off(
    service: &Rc<Service>,
    hand: Option<&Hand<'_>>,
    restoration: &Restoration,
    back: &str,
) {
    let (name, id) = (&service.name, &restoration.backup);
    let mut next = vec![format!("halley-sup restore {name} --backup {id}{}", options(restoration))];
    next.extend(hand.and_then(|hand| elsewhere(service, hand, restoration)));
    next.push(format!("halley-sup status {name}"));
    let why = format!("halley-sup went down in the middle of it; {back}");
    let trouble = Trouble {
        what: format!("{name}: the restore of backup {} was cut off", restoration.backup),
        why,
        still: refusal::still(service),
        next,
        exit: Exit::Aborted.code(),
    };
    tracing::error!(service = %name, what = trouble.what, why = trouble.why, "RESTORE CUT OFF");
    let outcome = outcome::outcome(service, Word::NotRestored, 0);
    let release = restoration.release.or(outcome.release);
    let outcome = Outcome { exit: trouble.exit, release, ..outcome };
    let started = began(service, restoration);
    note(service, &restoration.actor, &outcome, Some(&trouble), started);
    tell_failed(service, &trouble);
    if service.durable.state().alarm.is_none() {
        raise(service, Some(trouble));
    }
}

/// Notifies of a restore that came to nothing.
pub(crate) fn tell_failed(service: &Service, trouble: &Trouble) {
    let Trouble { what, why, next, .. } = trouble;
    notices::tell(service, Notice::Failed, notices::at_rest(service, what, why, next.clone()));
}

/// Writes a restore into the history.
pub(crate) fn note(
    service: &Service,
    actor: &str,
    outcome: &Outcome,
    trouble: Option<&Trouble>,
    started: Tick,
) {
    let outcome = Outcome { trouble: trouble.cloned(), ..outcome.clone() };
    outcome::remember(&service.shared, &outcome, "restore", actor, started);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::service::test_service;

    #[test]
    fn a_restore_that_is_not_understood_stands_in_the_way_of_a_start_and_of_another_one() {
        test_service::with(|world| async move {
            let service = &world.service;
            assert!(is_over(service).is_ok() && undo(service).await.is_ok());
            let record = |step: &str| {
                let text = format!(
                    r#"{{"version":1,"backup":"2","before":null,"actor":"","at":"","step":"{step}"}}"#
                );
                std::fs::write(service.paths.dir().join("restore.json"), text).unwrap();
            };
            record("hold");
            assert!(is_over(service).is_ok());
            record("put");
            assert!(is_over(service).unwrap_err().why.contains("not undone yet"));
            record("sideways");
            let why = is_over(service).unwrap_err().why;
            assert!(why.contains("unknown variant `sideways`"), "{why}");
            assert!(matches!(undo(service).await, Err(RestoreError::Unreadable(_))));
        });
    }
}
