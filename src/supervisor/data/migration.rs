//! The migration of live data: once per operation, from the new release's tree, under its own
//! deadline. It goes on when the supervisor dies, and the next one asks how it ended. It is
//! never run a second time blindly: the schema's probe decides, or a human.

use std::rc::Rc;

use crate::api::Trouble;
use crate::config::model::{Migrate, Rehearse, Settings};
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Succession;
use crate::os::clock;
use crate::store::migration::{self, Migration};
use crate::store::release::{self, ReleaseError};
use crate::store::state::Freeze;
use crate::supervisor::data::error::DataError;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::processes::child_tag::Purpose;
use crate::supervisor::service::candidate::{BegunBy, Candidate, WayBack};

use crate::supervisor::rollback_readiness::rehearsal::{self, RehearsalError};
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::refusal;
use crate::supervisor::tasks::task::{self, Task};
use crate::text;

/// What became of the data.
#[derive(Debug)]
enum Left {
    /// It has the new schema.
    Migrated { after: Option<String> },
    /// It is as it was.
    Unchanged { why: String },
    /// It is neither, or its state is unknown.
    Changed { why: String },
}

/// What is reported beside the result.
struct Notes<'a> {
    transcript: &'a mut Transcript,
    warnings: Vec<String>,
}

/// Performs it, or finds out what became of it.
pub(crate) async fn perform(
    service: &Rc<Service>,
    candidate: &Candidate,
    transcript: &mut Transcript,
) -> PhaseResult {
    let mut warnings = Vec::new();
    let settings = match release::settings(&service.paths, candidate.release) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::refused(Exit::PreflightRefused, error.to_string()),
    };
    let Some(migrate) = settings.migrate.clone() else { return PhaseResult::skip("none declared") };
    let begun = match migration::read(&service.paths, candidate.op) {
        Ok(begun) => begun,
        Err(error) => {
            return PhaseResult::refused(
                Exit::OldUnproven,
                format!("the record of the migration cannot be read: {error}"),
            );
        }
    };
    let started = clock::tick();
    let (before, left) = match begun {
        Some(begun) => {
            let left = found(service, candidate, &settings, &migrate, begun.before.clone()).await;
            (begun.before, left)
        }
        None if candidate.begun_by == BegunBy::Predecessor => {
            return PhaseResult::refused(
                Exit::Aborted,
                "the supervisor went down before the migration began",
            );
        }
        None => {
            let before =
                match version(service, candidate.release, &settings, &Confinement::default()).await
                {
                    Ok(before) => before,
                    Err(why) => {
                        return PhaseResult::refused(
                            Exit::MigrationFailed,
                            format!("nothing was migrated: {why}"),
                        );
                    }
                };
            let wanted = settings.schema.as_ref().map(|schema| &schema.provides);
            if before.is_some() && before.as_ref() == wanted {
                note_schema(service, &mut warnings, before.as_deref());
                let has = before.unwrap_or_default();
                return PhaseResult::skip(format!("the data has schema {has} already"))
                    .with_warnings(warnings);
            }
            let migration =
                Migration { version: 1, at: clock::now_rfc3339(), before: before.clone() };
            if let Err(error) = migration::begin(&service.paths, candidate.op, &migration) {
                return PhaseResult::refused(
                    Exit::NoSpace,
                    format!("nothing was migrated: {error}"),
                );
            }
            let run = command(service, candidate, &settings, &migrate);
            let ended = task::run_through(service, run, &purpose(candidate)).await;
            let left = judge(service, candidate, &settings, before.clone(), ended).await;
            (before, left)
        }
    };
    let took = text::seconds(started, clock::tick());
    let mut notes = Notes { transcript, warnings };
    let result = conclude(service, candidate, before, left, &took, &mut notes).await;
    result.with_warnings(notes.warnings)
}

fn purpose(candidate: &Candidate) -> Purpose {
    Purpose::Migration(candidate.op)
}

fn command(
    service: &Service,
    candidate: &Candidate,
    settings: &Settings,
    migrate: &Migrate,
) -> Task {
    Task {
        name: "migrate".to_owned(),
        words: migrate.command.clone(),
        env: Vec::new(),
        confinement: Confinement::default(),
        release: candidate.release,
        settings: settings.clone(),
        limit: migrate.deadline,
        input: None,
        log: Some(service.paths.output(candidate.op)),
    }
}

/// A supervisor before this one began it.
async fn found(
    service: &Rc<Service>,
    candidate: &Candidate,
    settings: &Settings,
    migrate: &Migrate,
    before: Option<String>,
) -> Left {
    let run = command(service, candidate, settings, migrate);
    if let Some(ended) = task::join(service, &run, &purpose(candidate)).await {
        return judge(service, candidate, settings, before, ended).await;
    }
    let why = "the machine went down during the migration, and it is not run again";
    match version(service, candidate.release, settings, &Confinement::default()).await {
        Ok(Some(after)) if Some(&after) == provided(settings) => {
            Left::Migrated { after: Some(after) }
        }
        Ok(Some(after)) if Some(&after) == before.as_ref() => {
            Left::Unchanged { why: why.to_owned() }
        }
        Ok(after) => Left::Changed { why: format!("{why}{}", schema_text(after.as_deref())) },
        Err(error) => Left::Changed { why: format!("{why}; {error}") },
    }
}

fn provided(settings: &Settings) -> Option<&String> {
    settings.schema.as_ref().map(|schema| &schema.provides)
}

fn schema_text(after: Option<&str>) -> String {
    match after {
        Some(after) => format!("; the data has schema {after}"),
        None => "; without migrate.probe the schema of the data is unknown".to_owned(),
    }
}

async fn judge(
    service: &Rc<Service>,
    candidate: &Candidate,
    settings: &Settings,
    before: Option<String>,
    ended: Result<task::Ended, task::CommandError>,
) -> Left {
    let failed = match &ended {
        Ok(ended) if ended.is_good() => None,
        Ok(ended) => Some(format!("migrate: {}", ended.why())),
        Err(error) => Some(error.to_string()),
    };
    let after = version(service, candidate.release, settings, &Confinement::default()).await;
    match (failed, after) {
        (None, Ok(after)) => match (provided(settings), &after) {
            (Some(wanted), Some(has)) if wanted != has => Left::Changed {
                why: format!("migrate reported success, but the schema is {has}, not {wanted}"),
            },
            _ => Left::Migrated { after },
        },
        (None, Err(probe)) => Left::Changed { why: probe.to_string() },
        (Some(why), Ok(after)) if after.is_some() && after == before => Left::Unchanged { why },
        (Some(why), Ok(after)) => {
            Left::Changed { why: format!("{why}{}", schema_text(after.as_deref())) }
        }
        (Some(why), Err(probe)) => Left::Changed { why: format!("{why}; {probe}") },
    }
}

/// What the schema's probe prints, kept to what is given. `None` without a probe.
///
/// # Errors
/// When the probe fails or does not print exactly one line.
pub(crate) async fn version(
    service: &Rc<Service>,
    release: ReleaseId,
    settings: &Settings,
    confinement: &Confinement,
) -> Result<Option<String>, DataError> {
    let Some(migrate) = &settings.migrate else { return Ok(None) };
    let Some(words) = &migrate.probe else { return Ok(None) };
    let probe = Task {
        name: "migrate.probe".to_owned(),
        words: words.clone(),
        env: Vec::new(),
        confinement: confinement.clone(),
        release,
        settings: settings.clone(),
        limit: migrate.deadline,
        input: None,
        log: None,
    };
    let ended = DataError::unless_good("migrate.probe", task::run(service, probe).await?)?;
    match ended.output.trim() {
        "" => Err(DataError::NoVersion),
        version if version.lines().count() > 1 => Err(DataError::ManyVersions),
        version => Ok(Some(version.to_owned())),
    }
}

/// What follows from what became of the data.
async fn conclude(
    service: &Rc<Service>,
    candidate: &Candidate,
    before: Option<String>,
    left: Left,
    took: &str,
    notes: &mut Notes<'_>,
) -> PhaseResult {
    let why = match left {
        Left::Unchanged { why } => {
            let was = before.unwrap_or_default();
            return PhaseResult::refused(
                Exit::MigrationFailed,
                format!("{why}\nthe schema is {was}, as before"),
            );
        }
        Left::Migrated { after } => {
            let provides = release::settings(&service.paths, candidate.release).ok();
            let provides = provides.and_then(|s| s.schema).map(|schema| schema.provides);
            let after = provides.or(after);
            note_schema(service, &mut notes.warnings, after.as_deref());
            match prove_old(service, candidate, notes.transcript).await {
                Ok(proof) => {
                    let from = before.map_or(String::new(), |before| format!("{before} to "));
                    let to = after.map_or(String::new(), |to| format!("schema {from}{to}, "));
                    return PhaseResult::ok(format!("{to}{took}; {proof}"));
                }
                Err(unproven) if candidate.way_back == WayBack::Waived => {
                    let unproven = unproven.to_string();
                    rehearsal::note(service, candidate.back_to, &unproven);
                    notes.warnings.push(unproven.clone());
                    return PhaseResult::ok(format!("{took}; no way back: {unproven}"));
                }
                Err(unproven) => {
                    return hold(
                        service,
                        candidate,
                        &mut notes.warnings,
                        format!("the data is migrated, and {unproven}"),
                    );
                }
            }
        }
        Left::Changed { why } => why,
    };
    note_schema(service, &mut notes.warnings, None);
    match prove_old(service, candidate, notes.transcript).await {
        Ok(proof) => {
            if candidate.begun_by == BegunBy::Predecessor {
                freeze(service, candidate.op, &mut notes.warnings, &why);
            }
            PhaseResult {
                exit: Some(Exit::SchemaChanged),
                ..PhaseResult::failed(format!("{why}\n{proof}"))
            }
        }
        Err(unproven) => {
            hold(service, candidate, &mut notes.warnings, format!("{why}\n{unproven}"))
        }
    }
}

fn note_schema(service: &Service, warnings: &mut Vec<String>, schema: Option<&str>) {
    let schema = schema.map(str::to_owned);
    if let Err(error) = service.durable.save(|state| state.schema = schema) {
        warnings.push(format!("the schema's version is not recorded: {error}"));
    }
}

/// Manual action is needed from here on: a generation that answers is left alone.
fn hold(
    service: &Rc<Service>,
    candidate: &Candidate,
    warnings: &mut Vec<String>,
    why: String,
) -> PhaseResult {
    let name = &service.name;
    freeze(service, candidate.op, warnings, &why);
    let trouble = Trouble {
        what: format!("{name}: operation {} left data that needs manual repair", candidate.op),
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
        warnings.push(error.to_string());
    }
    PhaseResult::refused(Exit::OldUnproven, why)
}

fn freeze(service: &Service, op: OpId, warnings: &mut Vec<String>, why: &str) {
    let first = why.lines().next().unwrap_or_default();
    let freeze = Freeze {
        at: clock::now_rfc3339(),
        actor: "halley-sup".to_owned(),
        why: format!("operation {op}: {first}"),
    };
    if let Err(error) = service.durable.save(|state| state.freeze = Some(freeze)) {
        warnings.push(error.to_string());
    }
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
    /// Its settings cannot be read.
    #[error(transparent)]
    Settings(#[from] ReleaseError),
}

/// Whether the old release runs on the data as it is now: the live generation answers, and,
/// if the program allows several instances, another instance can be started.
async fn prove_old(
    service: &Rc<Service>,
    candidate: &Candidate,
    transcript: &mut Transcript,
) -> Result<String, Unproven> {
    let Some(release) = candidate.back_to else {
        return Ok("there is no release before it".to_owned());
    };
    let live = service.live_crew().filter(|crew| crew.is_alive());
    if let Some(crew) = &live {
        let probe = probe_all(service, crew, Round::Quick, |instance, probe| {
            transcript.push(crew.release, instance.index, probe);
        });
        if let Some(why) = probe.await.why() {
            return Err(Unproven::Silent { release, why: why.to_owned() });
        }
    }
    let may_run_twice = service.succession() == Succession::Overlap;
    let starts = service.config().rehearse == Rehearse::Full && (may_run_twice || live.is_none());
    if !starts {
        return Ok(format!("release {release} runs on it"));
    }
    let settings = release::settings(&service.paths, release)?;
    match rehearsal::run(service, release, settings, &Confinement::default(), transcript).await {
        Ok(_) => Ok(format!("release {release} runs on it, and starts on it")),
        Err(source) => Err(Unproven::DoesNotRun { release, source }),
    }
}
