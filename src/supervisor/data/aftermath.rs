//! What follows from what a migration left behind: is the data as it was, does the old release run on
//! it, and where is the way back.

use std::rc::Rc;

use crate::api::Trouble;
use crate::config::model::Rehearse;
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Succession;
use crate::core::operation::way_back::WayBack;
use crate::os::clock;
use crate::store::migration::Migration;
use crate::store::receipt::{self, Receipt};
use crate::store::release::{self, ReleaseError};
use crate::store::state::Freeze;
use crate::supervisor::data::backup::{Hand, Site};
use crate::supervisor::data::census::{self, Census};
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::instances::start::StartError;
use crate::supervisor::rollback_readiness::rehearsal::{self, RehearsalError};
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::{BegunBy, Candidate};
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::refusal;

/// What became of the schema.
#[derive(Debug)]
pub(super) enum Left {
    /// It is the new one.
    Migrated { after: Option<String> },
    /// It is as it was.
    Unchanged { why: String },
    /// It is neither, or unknown.
    Changed { why: String },
}

/// A migration that is over.
pub(super) struct Aftermath<'a> {
    pub service: &'a Rc<Service>,
    pub candidate: &'a Candidate,
    pub hand: Option<&'a Hand<'a>>,
    pub begun: &'a Migration,
    pub transcript: &'a mut Transcript,
    pub warnings: Vec<String>,
}

impl Aftermath<'_> {
    /// What follows from what became of the data.
    pub(super) async fn conclude(mut self, left: Left, took: &str) -> PhaseResult {
        let result = match left {
            Left::Migrated { after } => self.migrated(after, took).await,
            Left::Unchanged { why } => self.unchanged(why).await,
            Left::Changed { why } => self.changed(why).await,
        };
        result.with_warnings(self.warnings)
    }

    async fn migrated(&mut self, after: Option<String>, took: &str) -> PhaseResult {
        let provides = release::settings(&self.service.paths, self.candidate.release).ok();
        let provides = provides.and_then(|s| s.schema).map(|schema| schema.provides);
        let after = provides.or(after);
        self.note_schema(after.as_deref());
        self.tell_losses().await;
        match self.prove_old().await {
            Ok(proof) => {
                self.unpin();
                let before = self.begun.before.as_ref();
                let from = before.map_or(String::new(), |before| format!("{before} to "));
                let to = after.map_or(String::new(), |to| format!("schema {from}{to}, "));
                PhaseResult::ok(format!("{to}{took}; {proof}"))
            }
            Err(unproven) if self.candidate.way_back != WayBack::Required => {
                self.unpin();
                let unproven = unproven.to_string();
                rehearsal::note(self.service, self.candidate.back_to, &unproven);
                self.warnings.push(unproven.clone());
                PhaseResult::ok(format!("{took}; no way back: {unproven}"))
            }
            Err(unproven) => {
                let kept = self.keep_backup(&Census::Absent);
                self.hold(format!("the data is migrated, and {unproven}{kept}"))
            }
        }
    }

    /// What a migration took away may be what it was to take away; nobody else says so.
    async fn tell_losses(&mut self) {
        let (Some(hand), Some(before)) = (self.hand, &self.begun.counts) else { return };
        let Ok(after) = hand.count(&Site::Live).await else { return };
        let lost = census::losses(before, &after);
        if !lost.is_empty() {
            let id = self.begun.backup.as_deref().unwrap_or_default();
            self.warnings.push(format!(
                "since the migration there is less data: {}; the backup of before it is {id}",
                lost.join("; ")
            ));
        }
    }

    async fn unchanged(&mut self, why: String) -> PhaseResult {
        let census = census::compare(self.hand, self.begun).await;
        let kept = self.keep_backup(&census);
        let was = self.begun.before.clone().unwrap_or_default();
        let said = format!("{why}\nthe schema is {was}, as before{}{kept}", census.text());
        if !census.is_alarming() {
            return PhaseResult::refused(Exit::MigrationFailed, said);
        }
        match self.prove_old().await {
            Ok(proof) => {
                self.freeze_for(&census, &why);
                PhaseResult::refused(Exit::MigrationFailed, format!("{said}\n{proof}"))
            }
            Err(unproven) => self.hold(format!("{said}\n{unproven}")),
        }
    }

    async fn changed(&mut self, why: String) -> PhaseResult {
        self.note_schema(None);
        let census = census::compare(self.hand, self.begun).await;
        let kept = self.keep_backup(&census);
        let told = match &census {
            Census::Differs(places) => {
                format!("\nthe data is not as before: {}", places.join("; "))
            }
            Census::Same | Census::Unknown(_) | Census::Absent => String::new(),
        };
        let said = format!("{why}{told}{kept}");
        match self.prove_old().await {
            // Nothing runs on it, and what there was is in the backup.
            Ok(proof) if self.candidate.back_to.is_none() => self.hold(format!("{said}\n{proof}")),
            Ok(proof) => {
                if self.candidate.begun_by == BegunBy::Predecessor {
                    self.freeze(&why);
                } else if census.is_alarming() {
                    self.freeze_for(&census, &why);
                }
                PhaseResult {
                    exit: Some(Exit::SchemaChanged),
                    ..PhaseResult::failed(format!("{said}\n{proof}"))
                }
            }
            Err(unproven) => self.hold(format!("{said}\n{unproven}")),
        }
    }

    /// No attempt after this one may take the place of the state before it.
    fn keep_backup(&self, census: &Census) -> String {
        let (name, op) = (&self.service.name, self.candidate.op);
        let Some(id) = &self.begun.backup else { return String::new() };
        let why = format!("operation {op}: the migration failed");
        let restore = |id: &str| format!("halley-sup restore {name} --backup {id}");
        let pinned = receipt::pin(&self.service.paths, id, &why);
        let taken = census.losses();
        if !taken.is_empty() {
            let taken = format!("operation {op}: its migration failed and took data away: {taken}");
            if let Err(error) = receipt::need(&self.service.paths, &taken) {
                tracing::warn!(service = %name, %error, "noting what a backup has");
            }
        }
        match pinned {
            Ok(Some(kept)) if kept == *id => {
                format!("\nthe backup of before it is kept: {}", restore(id))
            }
            Ok(Some(earlier)) => format!(
                "\nthe backup of before it: {}; that of before the first failure is kept: {}",
                restore(id),
                restore(&earlier)
            ),
            Ok(None) => format!("\nthe backup of before it is gone: {id}"),
            Err(error) => format!("\nthe backup of before it: {} ({error})", restore(id)),
        }
    }

    /// The trouble is over; what it cost may not be.
    fn unpin(&mut self) {
        let needed = match receipt::unpin(&self.service.paths, None) {
            Ok(needed) => needed,
            Err(error) => return self.warnings.push(format!("a backup stays pinned: {error}")),
        };
        let name = &self.service.name;
        self.warnings.extend(needed.into_iter().map(|Receipt { id, needed, .. }| {
            format!(
                "{}; this release has not brought that back; the backup {id} has it, and is kept for \
                 keep_for: halley-sup restore {name} --backup {id} --dry-run",
                needed.unwrap_or_default()
            )
        }));
    }

    fn note_schema(&mut self, schema: Option<&str>) {
        self.warnings.extend(note_schema(self.service, schema));
    }

    /// Manual action is needed from here on: a generation that answers is left alone.
    fn hold(&mut self, why: String) -> PhaseResult {
        let (service, op) = (self.service, self.candidate.op);
        let name = &service.name;
        self.freeze(&why);
        let trouble = Trouble {
            what: format!("{name}: operation {op} left data that needs manual repair"),
            why: why.clone(),
            still: refusal::still(service),
            next: vec![
                format!("halley-sup status {name}"),
                format!("halley-sup restore {name} --dry-run"),
                format!("halley-sup thaw {name}"),
            ],
            exit: Exit::OldUnproven.code(),
        };
        if let Err(error) = service.durable.save(|state| state.alarm = Some(trouble)) {
            self.warnings.push(error.to_string());
        }
        PhaseResult::refused(Exit::OldUnproven, why)
    }

    fn freeze_for(&mut self, census: &Census, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        match census {
            Census::Differs(places) => {
                self.freeze(&format!(
                    "its migration failed and the data changed: {}",
                    places.join("; ")
                ));
            }
            Census::Same | Census::Unknown(_) | Census::Absent => self.freeze(first),
        }
    }

    fn freeze(&mut self, why: &str) {
        let error = freeze(self.service, self.candidate.op, why);
        self.warnings.extend(error);
    }

    /// Whether the old release runs on the data as it is now: the live generation answers, and,
    /// if the program allows several instances, another instance can be started.
    async fn prove_old(&mut self) -> Result<String, Unproven> {
        let service = self.service;
        let Some(release) = self.candidate.back_to else {
            return Ok("there is no release before it".to_owned());
        };
        let live = service.live_generation().filter(|generation| generation.is_alive());
        if let Some(generation) = &live {
            let transcript = &mut *self.transcript;
            let probe = probe_all(service, generation, Round::Quick, |instance, probe| {
                transcript.push(generation.release, instance.index, probe);
            });
            if let Some(why) = probe.await.why() {
                return Err(Unproven::Silent { release, why: why.to_owned() });
            }
        }
        let may_run_twice = self.candidate.succession == Succession::Overlap;
        let starts =
            service.config().rehearse == Rehearse::Full && (may_run_twice || live.is_none());
        if !starts {
            return Ok(format!("release {release} runs on it"));
        }
        let settings = release::settings(&service.paths, release)?;
        let open = Confinement::default();
        match rehearsal::run(service, release, settings, &open, self.transcript).await {
            Ok(_) => Ok(format!("release {release} runs on it, and starts on it")),
            Err(RehearsalError::Start(source @ StartError::Slot(_))) => {
                Err(Unproven::Untried { release, source })
            }
            Err(source) => Err(Unproven::DoesNotRun { release, source }),
        }
    }
}

/// What a migration that failed has left, for a release that migrates nothing: it goes live on that.
pub(super) fn left_before(service: &Service) -> Vec<String> {
    let name = &service.name;
    let kept = receipt::list(&service.paths).into_iter().filter_map(|receipt| {
        let why = receipt.needed.or(receipt.pinned)?;
        let id = receipt.id;
        Some(format!(
            "{why}; this release migrates nothing, and the data is as that has left it; the backup of \
             before: halley-sup restore {name} --backup {id} --dry-run"
        ))
    });
    kept.collect()
}

/// Notes the schema that the data has. Returns a warning when it could not be.
pub(super) fn note_schema(service: &Service, schema: Option<&str>) -> Option<String> {
    let schema = schema.map(str::to_owned);
    let saved = service.durable.save(|state| state.schema = schema);
    saved.err().map(|error| format!("the schema's version is not recorded: {error}"))
}

fn freeze(service: &Service, op: OpId, why: &str) -> Option<String> {
    let first = why.lines().next().unwrap_or_default();
    let freeze = Freeze {
        at: clock::now_rfc3339(),
        actor: "halley-sup".to_owned(),
        why: format!("operation {op}: {first}"),
    };
    let saved = service.durable.save(|state| state.freeze = Some(freeze));
    saved.err().map(|error| error.to_string())
}

/// Why it is not known that the old release runs on the data as it is now.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    /// The live generation does not answer.
    #[error("release {release} does not run on it: {why}")]
    Silent {
        /// The old release.
        release: ReleaseId,
        /// What its probes said.
        why: String,
    },
    /// It does not start.
    #[error("release {release} does not run on it: {source}")]
    DoesNotRun {
        /// The old release.
        release: ReleaseId,
        /// Why.
        #[source]
        source: RehearsalError,
    },
    /// It could not be tried: what holds its address may be the old release itself, which has outlived
    /// its keeper.
    #[error("whether release {release} runs on it could not be tried: {source}")]
    Untried {
        /// The old release.
        release: ReleaseId,
        /// Why.
        #[source]
        source: StartError,
    },
    /// Its settings cannot be read.
    #[error(transparent)]
    Settings(#[from] ReleaseError),
}
