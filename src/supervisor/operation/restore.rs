//! `restore SERVICE`: an older state of the data takes the place of the present one.
//!
//! Nothing is touched before the backup was restored to scratch and checked, and before the data
//! that would be lost is reported. What is to come is made beside the live data while the service
//! runs, so that a full disk stops nothing. Then connections are held, the service is stopped, what
//! would be lost is counted once more, the present data is backed up, and only then replaced, by
//! renames where the driver can. The release that served is started on it and proven before
//! connections reach it, after its migration where it does not accept the schema of the backup; if it
//! does not run, or there is a crash, what was there before comes back ([`restore_undo`]). Others that
//! use the data are in the way, or are stopped meanwhile ([`restore_users`]).

use std::rc::Rc;

use crate::api::{Event, Outcome, PhaseState, Trouble};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::receipt::{self, Cause, Receipt};
use crate::store::release;
use crate::store::restoration::{self, Began, Restoration, Step};
use crate::store::state::Served;
use crate::supervisor::data::backup::{self, Hand};
use crate::supervisor::data::backup_schema::Upgrade;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fresh;
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
use crate::supervisor::operation::restore_plan::{self, Planned, rehearse};
use crate::supervisor::operation::restore_request::{Events, Wish, tell, tell_event};
use crate::supervisor::operation::restore_undo;
use crate::supervisor::operation::restore_users::{self, Others};
use crate::supervisor::operation::start_last_good;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::occupied;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;

/// A restore that is performed, as it was planned.
struct Replacing<'a> {
    service: &'a Rc<Service>,
    others: &'a Others,
    hand: &'a Hand<'a>,
    planned: Planned,
    /// What was written down when it was asked for.
    begun: Restoration,
    wish: &'a Wish,
    events: &'a Events,
}

/// Performs the restore, or reports what it would do.
///
/// # Errors
/// Why the data is as it was.
pub(crate) async fn restore(
    service: &Rc<Service>,
    others: Others,
    actor: &str,
    wish: Wish,
    events: &Events,
) -> Result<(), Trouble> {
    let hand = backup::by_hand(service, "restored")?;
    let _busy = occupied::occupy(service, "restored", "a restore")?;
    restore_undo::is_over(service)?;
    let choice = restore_choice::choose(service, wish.backup.as_deref())?;
    let begun = begun(service, &hand, &choice.receipt.id, actor);
    if wish.yes {
        // A failure costs a line of the history, if there is a crash too.
        let asked = restoration::ask(&service.paths, &begun);
        drop(asked.inspect_err(|error| tracing::warn!(%error, "recording a restore")));
    }
    let ended = perform(service, &others, hand, choice, begun, &wish, events).await;
    if let Err(error) = restoration::answered(&service.paths) {
        tracing::warn!(service = %service.name, %error, "removing the record of a restore");
    }
    ended
}

/// What is written down of one from its beginning on.
fn begun(service: &Service, hand: &Hand<'_>, backup: &str, actor: &str) -> Restoration {
    Restoration {
        version: 1,
        backup: backup.to_owned(),
        step: Step::Hold,
        before: None,
        actor: actor.to_owned(),
        at: clock::now_rfc3339(),
        migration: None,
        told: false,
        users: Vec::new(),
        release: Some(hand.release().0),
        began: Some(Began { tick_ms: clock::tick().0, boot_id: service.shared.boot_id.clone() }),
    }
}

async fn perform(
    service: &Rc<Service>,
    others: &Others,
    hand: Hand<'_>,
    choice: Choice,
    begun: Restoration,
    wish: &Wish,
    events: &Events,
) -> Result<(), Trouble> {
    let planned = restore_plan::plan(service, &hand, others, choice, wish, events).await?;
    let Some(planned) = planned else {
        tell_event(events, Event::Result(Box::new(outcome::outcome(service, Word::Planned, 0))));
        return Ok(());
    };
    let _users = restore_users::occupy(&planned.users)?;
    let started = clock::tick();
    let hand = &hand;
    let actor = begun.actor.clone();
    let replacing = Replacing { service, others, hand, planned, begun, wish, events };
    let (done, warnings) = replacing.perform().await;
    let mut outcome = match &done {
        Ok(()) => outcome::outcome(service, Word::Restored, 0),
        Err(trouble) => {
            restore_undo::tell_failed(service, trouble);
            Outcome { exit: trouble.exit, ..outcome::outcome(service, Word::NotRestored, 0) }
        }
    };
    outcome.warnings = warnings;
    restore_undo::note(service, &actor, &outcome, done.as_ref().err(), started);
    done?;
    tell_event(events, Event::Result(Box::new(outcome)));
    Ok(())
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
    async fn perform(&self) -> (Result<(), Trouble>, Vec<String>) {
        let (service, users) = (self.service, &self.planned.users);
        let begun = clock::tick();
        if let Err(error) = self.hand.stage(&self.planned.receipt.id).await {
            let why = error.to_string();
            tell(self.events, "prepare", PhaseState::Fail, begun, &why);
            return (Err(self.trouble(Refused::new(why, Exit::BackupFailed))), Vec::new());
        }
        tell(self.events, "prepare", PhaseState::Ok, begun, "");
        // No other task starts the release meanwhile, or those that use its data.
        let mut turns = Vec::new();
        for one in [service].into_iter().chain(users) {
            let failed = one.activity.operation();
            if let Some(failed) = failed {
                failed.gives_way().await;
            }
            turns.push(one.activity.starting().await);
        }
        let replaced = self.replace().await;
        drop(turns);
        if replaced.is_err() {
            start_last_good::bring_up_within_deadline(service).await;
        }
        let warnings = restore_users::start(users).await;
        (replaced.map_err(|refused| self.trouble(refused)), warnings)
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
            users: self.planned.users.iter().map(|user| user.name.to_string()).collect(),
            ..self.begun.clone()
        };
        let proven = match self.wanted().and_then(|()| self.begin(&restoration)) {
            Ok(()) => self.replace_held(&mut restoration).await,
            Err(refused) => Err(refused),
        };
        let Err(mut refused) = proven else {
            self.hand.let_go().await;
            self.hand.unmark(&self.planned.receipt.id).await;
            return Ok(());
        };
        let back = restore_undo::take_back(service, self.hand, &restoration).await;
        refused.next = refused.next.or(restore_undo::elsewhere(service, self.hand, &restoration));
        let back = back.unwrap_or_else(|error| {
            restoration.told = true;
            if let Err(error) = restoration::begin(&service.paths, &restoration) {
                tracing::warn!(service = %service.name, %error, "recording who knows of a restore");
            }
            error.to_string()
        });
        refused.why = format!("{}\n{back}", refused.why);
        Err(refused)
    }

    /// A stop ends what it finds, and is not taken back by a restore; nor is a rollback that succeeds while
    /// the restore is prepared.
    fn wanted(&self) -> Result<(), Refused> {
        if self.service.durable.state().stopped {
            let why = "it was stopped before connections were held for the restore";
            return Err(Refused::new(why, Exit::PreflightRefused));
        }
        match self.service.serving().filter(|serving| *serving != self.hand.release()) {
            Some(serving) => {
                let why = format!("the rollback has succeeded meanwhile: release {serving} serves");
                Err(Refused::new(why, Exit::Busy))
            }
            None => Ok(()),
        }
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
        if let Err(error) = restore_users::stop(&self.planned.users).await {
            let why = format!("connections of its users cannot be kept waiting: {error}");
            return Err(Refused::new(why, Exit::Internal));
        }
        tell(events, "stop_old", PhaseState::Ok, begun, &self.stopped());
        let ends_sessions = self.wish.allowed.sessions;
        if ends_sessions {
            self.look_again().await?;
        }
        self.count_again().await?;
        restoration.before = self.save_present().await?;
        self.look_again().await?;
        if ends_sessions {
            // One that had come back may have written.
            self.count_again().await?;
        }
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
        self.look_aside().await?;
        self.count_displaced().await?;
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

    fn stopped(&self) -> String {
        let users = self.planned.users.iter().map(|user| format!(", {} is stopped too", user.name));
        ["connections wait".to_owned()].into_iter().chain(users).collect()
    }

    /// Nobody has the data any more.
    async fn look_again(&self) -> Result<(), Refused> {
        let (allowed, id) = (self.wish.allowed, &self.planned.receipt.id);
        let left = restore_users::left(self.service, self.hand, self.others, allowed, id).await;
        Self::unless_used(left)
    }

    /// Nobody has what was displaced either.
    async fn look_aside(&self) -> Result<(), Refused> {
        let id = &self.planned.receipt.id;
        let left = restore_users::left_aside(self.service, self.hand, self.others, id).await;
        Self::unless_used(left)
    }

    fn unless_used(
        left: Result<Option<(String, Option<String>)>, DataError>,
    ) -> Result<(), Refused> {
        match left {
            Ok(None) => Ok(()),
            Ok(Some((why, next))) => {
                Err(Refused { next, ..Refused::new(why, Exit::PreflightRefused) })
            }
            Err(error) => Err(Refused::new(error.to_string(), Exit::BackupFailed)),
        }
    }

    /// What was announced is what is lost: nobody writes any more.
    async fn count_again(&self) -> Result<(), Refused> {
        let begun = clock::tick();
        let loss = Loss::of(self.hand, &self.planned.counts, &self.planned.receipt.id).await;
        self.agree(&loss, begun, "would be lost")
    }

    /// Others may have written after the count, who had nothing open when they were looked for: it is
    /// in what was displaced, and that is not written to by its name any more.
    async fn count_displaced(&self) -> Result<(), Refused> {
        let begun = clock::tick();
        let Planned { counts, receipt, announced, .. } = &self.planned;
        let loss = Loss::displaced(self.hand, counts, &receipt.id).await;
        if loss.is_within(announced) {
            return Ok(());
        }
        self.agree(&loss, begun, "with what was committed meanwhile, would be lost")
    }

    fn agree(&self, loss: &Loss, begun: Tick, what: &str) -> Result<(), Refused> {
        let is_agreed = self.wish.any_loss || loss.is_within(&self.planned.announced);
        let state = if is_agreed { PhaseState::Ok } else { PhaseState::Fail };
        tell(self.events, "count", state, begun, &format!("{what}: {}", loss.text()));
        if is_agreed {
            return Ok(());
        }
        let announced = self.planned.announced.text();
        let why =
            format!("more would be lost than was announced: {}, not {announced}", loss.text());
        let (name, id) = (&self.service.name, &self.planned.receipt.id);
        let options = self.wish.allowed.options();
        let next = format!("halley-sup restore {name} --backup {id} --yes{options} --any-loss");
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

    /// The present, in a backup that was restored to scratch. Damaged data is saved as it is: it comes
    /// back without a backup.
    async fn saved(&self) -> Result<(Receipt, String), DataError> {
        let cause = Cause::Restore { instead: self.planned.receipt.id.clone(), undone: false };
        let mut receipt = backup::take(self.hand, None, cause).await?;
        let id = receipt.id.clone();
        match rehearse(self.hand, &mut receipt).await {
            Ok(_) => Ok((receipt, id)),
            Err(why) => Ok((receipt, format!("{id}, which is as damaged as the live data: {why}"))),
        }
    }

    /// By what the processes of the migration are known that the backup needs.
    fn mark_of_migration(&self) -> Option<String> {
        self.planned.schema.migration.as_ref()?;
        let dir = self.service.paths.dir();
        Some(format!("{}/restore/{}/live", dir.display(), clock::now_rfc3339_ms()))
    }

    /// Brings the restored data to the schema that the release runs on. No connection reaches it.
    async fn migrate(&self, mark: String) -> Result<(), Refused> {
        let begun = clock::tick();
        let said = self.planned.schema.migration.as_deref().unwrap_or_default();
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
        let id = service.fleet.next_generation();
        let generation = start::start(service, id, target, settings).await?;
        let mut transcript = Transcript::default();
        let limit = generation.settings.health.deadline;
        let gated = gate::gate(service, &generation, Rigour::Short, limit, &mut transcript).await;
        let error = match gated {
            Gated::Open(detail) => match restoration::prove(&service.paths) {
                // Before the first connection: data written for it is never undone after a crash.
                Ok(()) => {
                    let proven = Restoration { step: Step::Proven, ..self.begun.clone() };
                    let asked = restoration::ask(&service.paths, &proven);
                    drop(asked.inspect_err(|error| tracing::warn!(%error, "recording a restore")));
                    self.go_forward(&generation, target).await;
                    return Ok(detail);
                }
                Err(error) => RestoreError::Mark(error),
            },
            Gated::Died => {
                let why = diagnosis::death(service, id, target);
                RestoreError::DoesNotRun { release: target, why }
            }
            Gated::Shut(why) => {
                let why = format!("{why}{}", diagnosis::last_lines(service, &generation));
                RestoreError::DoesNotRun { release: target, why }
            }
        };
        service.routing.clear();
        retire::stop_now(service, &generation).await;
        Err(error)
    }

    /// The restored data is the data from here on; failures are now reported, not undone.
    async fn go_forward(&self, generation: &Rc<Generation>, target: ReleaseId) {
        let service = self.service;
        let text = |error: &dyn std::error::Error| error.to_string();
        let steered = service.steer_to(generation, Duty::Live).map_err(|error| text(&error));
        let pointed = outside_proxy::point(service, generation).await.map_err(|error| text(&error));
        revive(service, generation);
        service.tend();
        let op = service.durable.state().last_good.map_or(0, |good| good.op);
        let served = Served { release: target.0, generation: generation.id.0, op };
        let schema = self.planned.schema.becomes.clone();
        let saved = service.durable.save(|state| {
            state.last_good = Some(served);
            state.standby = None;
            state.schema = schema;
            // It was of the data, or of a release that did not run: both are over.
            state.alarm = None;
            state.freeze.take_if(|freeze| freeze.actor == FREEZER);
        });
        let saved = saved.map_err(|error| text(&error));
        if let Err(error) = receipt::unpin(&service.paths, Some(&self.planned.receipt.id)) {
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
pub(super) const FREEZER: &str = "halley-sup";
