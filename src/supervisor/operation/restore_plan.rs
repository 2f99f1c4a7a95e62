//! What a restore would do, found out before anything is stopped: the backup is restored to scratch and
//! checked, what would be lost is counted, and who else uses the data is looked for.

use std::rc::Rc;

use crate::api::{Event, PhaseState, RestorePlan, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::os::clock;
use crate::store::receipt::{self, Receipt};
use crate::store::release;
use crate::supervisor::data::backup::{self, Counts, Hand};
use crate::supervisor::data::backup_schema::{self, BackupSchema, NotTried};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::replacement::Saved;
use crate::supervisor::data::users;
use crate::supervisor::operation::restore_choice::Choice;
use crate::supervisor::operation::restore_loss::Loss;
use crate::supervisor::operation::restore_request::{Events, Wish, tell, tell_event};
use crate::supervisor::operation::restore_schema;
use crate::supervisor::operation::restore_users::{self, Others};
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal;

/// A restore that may begin, with what was announced.
pub(crate) struct Planned {
    pub(crate) receipt: Receipt,
    /// What was counted in the backup.
    pub(crate) counts: Counts,
    pub(crate) schema: BackupSchema,
    pub(crate) announced: Loss,
    /// Services that are stopped meanwhile.
    pub(crate) users: Vec<Rc<Service>>,
}

/// Finds it out, and reports it. `None`: nothing more was wanted.
///
/// # Errors
/// Why it may not begin.
pub(crate) async fn plan(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    others: &Others,
    choice: Choice,
    wish: &Wish,
    events: &Events,
) -> Result<Option<Planned>, Trouble> {
    let Choice { mut receipt, because } = choice;
    let saved = if wish.unsaved { Saved::No } else { Saved::Yes };
    if let Some(why) = hand.no_room(&receipt, saved) {
        return Err(refused(service, &why, Exit::NoSpace));
    }
    if let Err(error) = hand.replaceable().await {
        return Err(refused(service, &error.to_string(), Exit::BackupFailed));
    }
    if !wish.unsaved {
        is_there(service, hand, &receipt).await?;
    }
    let Tried { counts, lost, schema, .. } = rehearsed(service, hand, &mut receipt, events).await?;
    let mut announced = Loss::of(hand, &counts, &receipt.id).await;
    announced.lines.extend(lost);
    let users = restore_users::planned(service, hand, others, wish.allowed).await?;
    let elsewhere = hand.not_taken_back();
    let elsewhere = elsewhere.map(|what| format!("{what} does not come back if the restore fails"));
    let warnings = schema.warnings.iter().chain(&users.unseen).cloned().chain(elsewhere).collect();
    let plan = RestorePlan {
        service: service.name.to_string(),
        backup: receipt::entry(receipt.clone()),
        because,
        now: announced.now.as_ref().ok().cloned(),
        unread: announced.now.as_ref().err().map(ToString::to_string),
        lost: announced.lines.clone(),
        none: announced.nothing(),
        unseen: announced.unseen.to_owned(),
        schema: declared_schema(service, &receipt),
        migration: schema.migration.clone(),
        users: users.lines.clone(),
        warnings,
    };
    tell_event(events, Event::Restore(Box::new(plan)));
    let users = users.stopped_for(service, &receipt.id)?;
    if wish.dry_run {
        return Ok(None);
    }
    agreed(service, wish, &receipt, &announced)?;
    Ok(Some(Planned { receipt, counts, schema, announced, users }))
}

fn refused(service: &Service, why: &str, exit: Exit) -> Trouble {
    refusal::refusal(service, "restored", why, exit, &["backup --list"])
}

/// Whether there is something that can be backed up before it is replaced: nothing is stopped for what
/// is refused then, least of all a program that has the only copy.
async fn is_there(service: &Service, hand: &Hand<'_>, receipt: &Receipt) -> Result<(), Trouble> {
    let (why, mut next) = match users::gone(hand).await {
        Ok(None) => return Ok(()),
        Ok(Some(gone)) => gone,
        Err(error) => (error.to_string(), Vec::new()),
    };
    let why = format!("there is nothing to back up first: {why}; --unsaved restores without");
    next.push(format!("halley-sup restore {} --backup {} --unsaved", service.name, receipt.id));
    Err(Trouble { next, ..refused(service, &why, Exit::PreflightRefused) })
}

/// Restores the backup to scratch, checks it, and compares its schema with what the release accepts.
async fn rehearsed(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    receipt: &mut Receipt,
    events: &Events,
) -> Result<Tried, Trouble> {
    let begun = clock::tick();
    let tried = match tried(hand, receipt).await {
        Ok(tried) => tried,
        Err(not_tried) => {
            let trouble = match not_tried {
                NotTried::Data(error) => refused(service, &error.to_string(), Exit::BackupFailed),
                NotTried::Missed(missed) => {
                    restore_schema::refused(service, receipt, &missed, hand.release())
                }
            };
            tell(events, "restore_rehearsal", PhaseState::Fail, begun, &trouble.why);
            return Err(trouble);
        }
    };
    let migrated = tried.schema.migration.iter().map(|text| format!("; {text}"));
    let said: String = [tried.summary.clone()].into_iter().chain(migrated).collect();
    tell(events, "restore_rehearsal", PhaseState::Ok, begun, &said);
    Ok(tried)
}

/// What the release declares that a backup is of, where nobody has looked at the data's schema.
fn declared_schema(service: &Service, receipt: &Receipt) -> Option<String> {
    let release = receipt.release.filter(|_| receipt.schema.is_none())?;
    let settings = release::settings(&service.paths, ReleaseId(release)).ok()?;
    let provides = settings.schema?.provides;
    Some(format!("not looked at (no migrate.probe), release {release} provides {provides}"))
}

/// Whether what would be lost was agreed to.
fn agreed(
    service: &Service,
    wish: &Wish,
    receipt: &Receipt,
    announced: &Loss,
) -> Result<(), Trouble> {
    if !wish.yes {
        let why = format!("it needs --yes; this would be lost: {}", announced.text());
        let mut trouble = refused(service, &why, Exit::Usage);
        let name = &service.name;
        trouble.next = vec![format!("halley-sup restore {name} --backup {} --yes", receipt.id)];
        return Err(trouble);
    }
    if let Some(seen) = &wish.seen
        && !wish.any_loss
        && *seen != announced.lines
    {
        let why = format!("more has changed since it was asked: {}", announced.text());
        return Err(refused(service, &why, Exit::PreflightRefused));
    }
    Ok(())
}

/// What is in a backup that can be restored.
///
/// # Errors
/// Why it cannot.
pub(crate) async fn rehearse(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<Counts, DataError> {
    let copied = backup::copy(hand, receipt).await?;
    let counts = copied.counts.clone();
    drop(backup::discard(hand, copied).await);
    Ok(counts)
}

/// What a copy of a backup has shown.
struct Tried {
    counts: Counts,
    /// What is in it, for people.
    summary: String,
    /// What is true of the live data and not of the copy.
    lost: Vec<String>,
    schema: BackupSchema,
}

/// The same, and whether the release that is to run on it does.
async fn tried(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<Tried, NotTried> {
    let copied = backup::copy(hand, receipt).await?;
    let (counts, lost, summary) = (copied.counts.clone(), copied.lost.clone(), copied.summary());
    let schema = backup_schema::try_on(hand, &copied, receipt).await;
    drop(backup::discard(hand, copied).await);
    let schema = schema?;
    receipt.schema.clone_from(&schema.has);
    Ok(Tried { counts, summary, lost, schema })
}
