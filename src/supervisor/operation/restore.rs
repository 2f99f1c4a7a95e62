//! `restore SERVICE`: an older state of the data takes the place of the present one.
//!
//! Nothing is touched before the backup was restored to scratch and checked, and before the data
//! that would be lost is reported. What is to come is made beside the live data while the service
//! runs, so that a full disk stops nothing. Then connections are held, the service is stopped, what
//! would be lost is counted once more, the present data is backed up, and only then replaced, by
//! renames where the driver can. The release that served is started on it and proven before
//! connections reach it, after its migration where it does not accept the schema of the backup; if it does not run, or there is a crash, what was there before comes back
//! ([`restore_undo`]).

use std::rc::Rc;

use tokio::sync::mpsc;

use crate::api::{Event, Outcome, PhaseState, RestorePlan, Trouble};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::receipt::{self, Cause, Receipt};
use crate::store::release;
use crate::store::restoration::{self, Restoration, Step};
use crate::store::state::Served;
use crate::supervisor::data::backup::{self, Counts, Hand};
use crate::supervisor::data::backup_schema::{self, BackupSchema, NotTried, Upgrade};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fresh;
use crate::supervisor::data::replacement::Saved;
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::instances::gate::{self, Gated, Rigour};
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::restore_choice::{self, Choice};
use crate::supervisor::operation::restore_error::RestoreError;
use crate::supervisor::operation::restore_loss::Loss;
use crate::supervisor::operation::restore_schema;
use crate::supervisor::operation::restore_undo;
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
    /// Which backup; the newest of the state before the trouble when absent.
    pub backup: Option<String>,
    /// Only what it would do.
    pub dry_run: bool,
    /// The restore was confirmed.
    pub yes: bool,
    /// Also when the present cannot be backed up.
    pub unsaved: bool,
    /// Also when more is lost than was announced.
    pub any_loss: bool,
    /// The list of what is lost that somebody has agreed to.
    pub seen: Option<Vec<String>>,
}

/// A restore that is wanted, with what was announced.
struct Replacing<'a> {
    service: &'a Rc<Service>,
    hand: &'a Hand<'a>,
    receipt: Receipt,
    /// What was counted in the backup.
    counts: Counts,
    schema: BackupSchema,
    announced: Loss,
    actor: &'a str,
    wish: &'a Wish,
    events: &'a Events,
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
    let choice = restore_choice::choose(service, wish.backup.as_deref())?;
    let Some(replacing) = announced(service, &hand, choice, actor, &wish, events).await? else {
        tell_event(events, Event::Result(Box::new(outcome::outcome(service, Word::Planned, 0))));
        return Ok(());
    };
    let started = clock::tick();
    let done = replacing.perform().await;
    let outcome = match &done {
        Ok(()) => outcome::outcome(service, Word::Restored, 0),
        Err(trouble) => {
            restore_undo::tell_failed(service, trouble);
            Outcome { exit: trouble.exit, ..outcome::outcome(service, Word::NotRestored, 0) }
        }
    };
    restore_undo::note(service, actor, &outcome, done.as_ref().err(), started);
    done?;
    tell_event(events, Event::Result(Box::new(outcome)));
    Ok(())
}

/// Restores the backup to scratch, checks it, and reports what would be lost. `None`: nothing more was
/// wanted.
async fn announced<'a>(
    service: &'a Rc<Service>,
    hand: &'a Hand<'a>,
    choice: Choice,
    actor: &'a str,
    wish: &'a Wish,
    events: &'a Events,
) -> Result<Option<Replacing<'a>>, Trouble> {
    let Choice { mut receipt, because } = choice;
    let begun = clock::tick();
    let refused = |why: &str, exit: Exit| {
        refusal::refusal(service, "restored", why, exit, &["backup --list"])
    };
    let saved = if wish.unsaved { Saved::No } else { Saved::Yes };
    if let Some(why) = hand.no_room(&receipt, saved) {
        return Err(refused(&why, Exit::NoSpace));
    }
    let (counts, schema) = match tried(hand, &mut receipt).await {
        Ok(tried) => tried,
        Err(not_tried) => {
            let trouble = match not_tried {
                NotTried::Data(error) => refused(&error.to_string(), Exit::BackupFailed),
                NotTried::Missed(missed) => {
                    restore_schema::refused(service, &receipt, &missed, hand.release())
                }
            };
            tell(events, "restore_rehearsal", PhaseState::Fail, begun, &trouble.why);
            return Err(trouble);
        }
    };
    let migrated = schema.migration.iter().map(|text| format!("; {text}"));
    let said: String = [backup::summary(&counts)].into_iter().chain(migrated).collect();
    tell(events, "restore_rehearsal", PhaseState::Ok, begun, &said);
    let announced = Loss::of(hand, &counts, &receipt.id).await;
    let plan = RestorePlan {
        service: service.name.to_string(),
        backup: backup::entry(receipt.clone()),
        because,
        now: announced.now.as_ref().ok().cloned(),
        unread: announced.now.as_ref().err().map(ToString::to_string),
        lost: announced.lines.clone(),
        migration: schema.migration.clone(),
        warnings: schema.warnings.clone(),
    };
    tell_event(events, Event::Restore(Box::new(plan)));
    if wish.dry_run {
        return Ok(None);
    }
    if !wish.yes {
        let why = format!("it needs --yes; this would be lost: {}", announced.text());
        let mut trouble = refused(&why, Exit::Usage);
        let name = &service.name;
        trouble.next = vec![format!("halley-sup restore {name} --backup {} --yes", receipt.id)];
        return Err(trouble);
    }
    if let Some(seen) = &wish.seen
        && !wish.any_loss
        && *seen != announced.lines
    {
        let why = format!("more has changed since it was asked: {}", announced.text());
        return Err(refused(&why, Exit::PreflightRefused));
    }
    Ok(Some(Replacing { service, hand, receipt, counts, schema, announced, actor, wish, events }))
}

async fn rehearse(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<Counts, DataError> {
    let copied = backup::copy(hand, receipt).await?;
    let counts = copied.counts.clone();
    backup::discard(hand, copied).await;
    Ok(counts)
}

/// The same, and whether the release that is to run on it does.
async fn tried(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<(Counts, BackupSchema), NotTried> {
    let copied = backup::copy(hand, receipt).await?;
    let counts = copied.counts.clone();
    let schema = backup_schema::try_on(hand, &copied, receipt).await;
    backup::discard(hand, copied).await;
    let schema = schema?;
    receipt.schema.clone_from(&schema.has);
    Ok((counts, schema))
}

fn tell(events: &Events, name: &str, state: PhaseState, begun: Tick, detail: &str) {
    tell_event(events, phase_event(name, state, begun, detail));
}

/// Why the data is as it was.
struct Refused {
    why: String,
    exit: Exit,
    /// What to do about it, beside looking around.
    next: Option<String>,
}

impl Refused {
    fn new(why: impl Into<String>, exit: Exit) -> Self {
        Self { why: why.into(), exit, next: None }
    }
}

impl Replacing<'_> {
    /// From the making of what is to come to a proven release on the restored data. Where that is
    /// refused, the last good release is started on the data as it is.
    async fn perform(&self) -> Result<(), Trouble> {
        let service = self.service;
        let begun = clock::tick();
        if let Err(error) = self.hand.stage(&self.receipt.id).await {
            let why = error.to_string();
            tell(self.events, "prepare", PhaseState::Fail, begun, &why);
            return Err(self.trouble(Refused::new(why, Exit::BackupFailed)));
        }
        tell(self.events, "prepare", PhaseState::Ok, begun, "");
        // No other task starts the release meanwhile.
        let turn = service.activity.starting().await;
        let replaced = self.replace().await;
        drop(turn);
        let Err(refused) = replaced else { return Ok(()) };
        start_last_good::bring_up_within_deadline(service).await;
        Err(self.trouble(refused))
    }

    fn trouble(&self, refused: Refused) -> Trouble {
        let Refused { why, exit, next } = refused;
        let verbs = ["status", "logs"];
        let mut trouble = refusal::refusal(self.service, "restored", &why, exit, &verbs);
        trouble.next.splice(0..0, next);
        trouble
    }

    /// The connections are held, the data is replaced and proven, or as it was.
    async fn replace(&self) -> Result<(), Refused> {
        let service = self.service;
        let mut restoration = Restoration {
            version: 1,
            backup: self.receipt.id.clone(),
            before: None,
            actor: self.actor.to_owned(),
            at: clock::now_rfc3339(),
            step: Step::Hold,
            migration: None,
        };
        let proven = match self.begin(&restoration) {
            Ok(()) => self.replace_held(&mut restoration).await,
            Err(refused) => Err(refused),
        };
        let Err(mut refused) = proven else {
            self.hand.let_go().await;
            self.hand.unmark(&self.receipt.id).await;
            return Ok(());
        };
        let back = restore_undo::take_back(service, self.hand, &restoration).await;
        let back = back.unwrap_or_else(|error| error.to_string());
        refused.why = format!("{}\n{back}", refused.why);
        Err(refused)
    }

    fn begin(&self, restoration: &Restoration) -> Result<(), Refused> {
        restoration::begin(&self.service.paths, restoration).map_err(|error| {
            Refused::new(format!("{}", RestoreError::Record(error)), Exit::BackupFailed)
        })
    }

    async fn replace_held(&self, restoration: &mut Restoration) -> Result<(), Refused> {
        let Self { service, hand, events, .. } = self;
        let begun = clock::tick();
        if let Err(error) = stop_all::clear(service).await {
            let why = format!("connections cannot be kept waiting: {error}");
            return Err(Refused::new(why, Exit::Internal));
        }
        service.routing.clear();
        tell(events, "stop_old", PhaseState::Ok, begun, "connections wait");
        self.count_again().await?;
        restoration.before = self.save_present().await?;
        restoration.step = Step::Put;
        restoration.migration = self.mark_of_migration();
        let begun = clock::tick();
        fresh::outdate(service)
            .map_err(|error| Refused::new(error.to_string(), Exit::BackupFailed))?;
        self.begin(restoration)?;
        if let Err(error) = hand.put(&restoration.backup).await {
            tell(events, "restore", PhaseState::Fail, begun, &error.to_string());
            return Err(Refused::new(error.to_string(), Exit::BackupFailed));
        }
        tell(events, "restore", PhaseState::Ok, begun, "");
        if let Some(mark) = restoration.migration.clone() {
            self.migrate(mark).await?;
        }
        let begun = clock::tick();
        match self.prove().await {
            Ok(detail) => {
                tell(events, "gate", PhaseState::Ok, begun, &detail);
                Ok(())
            }
            Err(error) => {
                tell(events, "gate", PhaseState::Fail, begun, &error.to_string());
                Err(Refused::new(error.to_string(), Exit::GateFailed))
            }
        }
    }

    /// What was announced is what is lost: nobody writes any more.
    async fn count_again(&self) -> Result<(), Refused> {
        let begun = clock::tick();
        let loss = Loss::of(self.hand, &self.counts, &self.receipt.id).await;
        let text = format!("would be lost: {}", loss.text());
        if self.wish.any_loss || loss.is_within(&self.announced) {
            tell(self.events, "count", PhaseState::Ok, begun, &text);
            return Ok(());
        }
        tell(self.events, "count", PhaseState::Fail, begun, &text);
        let announced = self.announced.text();
        let why =
            format!("more would be lost than was announced: {}, not {announced}", loss.text());
        let (name, id) = (&self.service.name, &self.receipt.id);
        let next = format!("halley-sup restore {name} --backup {id} --yes --any-loss");
        Err(Refused { next: Some(next), ..Refused::new(why, Exit::PreflightRefused) })
    }

    /// Saves the present data, and returns the backup that holds it: none when it cannot be saved and
    /// need not be.
    async fn save_present(&self) -> Result<Option<String>, Refused> {
        let begun = clock::tick();
        let events = self.events;
        match self.saved().await {
            Ok((before, said)) => {
                tell(events, "backup", PhaseState::Ok, begun, &said);
                Ok(Some(before.id))
            }
            Err(why) if self.wish.unsaved => {
                let said = format!("{why}; ignored (--unsaved)");
                tell(events, "backup", PhaseState::Fail, begun, &said);
                Ok(None)
            }
            Err(why) => {
                let why =
                    format!("the live data cannot be backed up: {why}; --unsaved restores without");
                Err(Refused::new(why, Exit::BackupFailed))
            }
        }
    }

    /// The present, in a backup that was restored to scratch. Damaged data is saved as it is, where it
    /// can be brought back without a backup.
    async fn saved(&self) -> Result<(Receipt, String), DataError> {
        let cause = Cause::Restore { instead: self.receipt.id.clone(), undone: false };
        let mut receipt = backup::take(self.hand, None, cause).await?;
        let id = receipt.id.clone();
        match rehearse(self.hand, &mut receipt).await {
            Ok(_) => Ok((receipt, id)),
            Err(why) if self.hand.undoes_by_itself() => {
                Ok((receipt, format!("{id}, which is as damaged as the live data: {why}")))
            }
            Err(why) => Err(why),
        }
    }

    /// By what the processes of the migration are known that the backup needs.
    fn mark_of_migration(&self) -> Option<String> {
        self.schema.migration.as_ref()?;
        let dir = self.service.paths.dir();
        Some(format!("{}/restore/{}/live", dir.display(), clock::now_rfc3339_ms()))
    }

    /// Brings the restored data to the schema that the release runs on. No connection reaches it.
    async fn migrate(&self, mark: String) -> Result<(), Refused> {
        let begun = clock::tick();
        let said = self.schema.migration.as_deref().unwrap_or_default();
        match (Upgrade { hand: self.hand, mark }).run().await {
            Ok(took) => {
                tell(self.events, "migrate", PhaseState::Ok, begun, &format!("{said}, in {took}"));
                Ok(())
            }
            Err(error) => {
                tell(self.events, "migrate", PhaseState::Fail, begun, &error.to_string());
                Err(Refused::new(format!("{said}: {error}"), Exit::MigrationFailed))
            }
        }
    }

    /// Starts the release on the restored data; connections reach it when its gate has opened.
    async fn prove(&self) -> Result<String, RestoreError> {
        let (service, target) = (self.service, self.hand.release());
        let settings = release::settings(&service.paths, target)?;
        let generation = service.fleet.next_generation();
        let crew = start::start(service, generation, target, settings).await?;
        let mut transcript = Transcript::default();
        let limit = crew.settings.health.deadline;
        let gated = gate::gate(service, &crew, Rigour::Short, limit, &mut transcript).await;
        let error = match gated {
            Gated::Open(detail) => match restoration::prove(&service.paths) {
                // Before the first connection: data written for it is never undone after a crash.
                Ok(()) => {
                    self.go_forward(&crew, target).await;
                    return Ok(detail);
                }
                Err(error) => RestoreError::Mark(error),
            },
            Gated::Died => {
                let why = diagnosis::death(service, generation, target);
                RestoreError::DoesNotRun { release: target, why }
            }
            Gated::Shut(why) => {
                let why = format!("{why}{}", diagnosis::last_lines(service, &crew));
                RestoreError::DoesNotRun { release: target, why }
            }
        };
        service.routing.clear();
        retire::stop_now(service, &crew).await;
        Err(error)
    }

    /// The restored data is the data from here on; failures are now reported, not undone.
    async fn go_forward(&self, crew: &Rc<Crew>, target: ReleaseId) {
        let service = self.service;
        let text = |error: &dyn std::error::Error| error.to_string();
        let steered = service.steer_to(crew, Duty::Live).map_err(|error| text(&error));
        let pointed = outside_proxy::point(service, crew).await.map_err(|error| text(&error));
        revive(service, crew);
        service.tend();
        let op = service.durable.state().last_good.map_or(0, |good| good.op);
        let served = Served { release: target.0, generation: crew.generation.0, op };
        let schema = self.schema.becomes.clone();
        let saved = service.durable.save(|state| {
            state.last_good = Some(served);
            state.standby = None;
            state.schema = schema;
            // It was of the data, or of a release that did not run: both are over.
            state.alarm = None;
            state.freeze.take_if(|freeze| freeze.actor == FREEZER);
        });
        let saved = saved.map_err(|error| text(&error));
        if let Err(error) = receipt::unpin(&service.paths) {
            tracing::warn!(service = %service.name, %error, "letting pinned backups go");
        }
        let trouble = steered.and(pointed).and(saved).err();
        service.condition.serves();
        match trouble {
            Some(why) => service.condition.report(Source::Restore, why),
            None => drop(service.condition.resolve(Source::Restore)),
        }
    }
}

/// Who freezes a service whose data is not as it should be.
const FREEZER: &str = "halley-sup";
