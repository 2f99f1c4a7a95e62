//! The end of an operation: its result, the history, generations to retire, releases to prune.

use std::rc::Rc;

use crate::api::{Event, Outcome, Trouble};
use crate::config::model::Strategy;
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::conclusion::{self, Farewell, Found};
use crate::core::operation::machine::{Cause, Kind, Outcome as Ended};
use crate::core::operation::outcome::{self as table, Facts, Word};
use crate::core::retention::{self, Fate, Roots, Verdict};
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::{self, Journal, Record};
use crate::store::{aside, migration, release, reserve};
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::scale;
use crate::supervisor::notify::message::{Message, Subject};
use crate::supervisor::operation::alarm;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::operation::postmortem;
use crate::supervisor::operation::restore::FREEZER;
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::terms::Extent;
use crate::supervisor::spawn;

/// Ends an operation.
pub(crate) async fn finish(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    journal: &mut Journal,
    assignment: &Assignment,
    findings: &Findings,
    watching: &Watching,
    ended: Ended,
) {
    if let Ended::NothingBehind(_) | Ended::RollbackFailed(_) = ended {
        alarm::raise_alarm(service, assignment.op, findings);
        if let Some(generation) = service.live_generation() {
            // The best there is; from here on it is kept up like any other.
            generation.assign(Duty::Live);
            revive(service, &generation);
        }
    }
    let unproven = match ended {
        Ended::Undone(cause) if cause != Cause::Refused => stranded_data(service, assignment),
        _ => None,
    };
    let facts =
        Facts { is_unproven_on_data: unproven.is_some(), ..facts(service, assignment, findings) };
    let mut outcome = result(service, operation.kind, assignment, findings, ended, facts);
    if let Some(why) = unproven {
        alarm::raise_unproven(service, assignment, &why, &mut outcome);
    }
    if !outcome.is_good()
        && let Some(path) = postmortem::write(service, assignment, watching, &outcome)
    {
        outcome.next.push(format!("less {}", path.display()));
        if let Some(trouble) = &mut outcome.trouble {
            trouble.next.clone_from(&outcome.next);
        }
    }
    outcome.kept = service.kept_status();
    let is_good = outcome.is_good();
    close(service, operation, journal, outcome);
    if is_good {
        notices::recovered(service);
    }
    let_go(service, Some(ended));
    service.follow_flip();
    prune(service);
    reserve::fill(&service.paths.reserve());
    scale::begin(service);
    let service = Rc::clone(service);
    spawn::local(async move { ownership::reconcile(&service).await });
}

/// A stranded operation gives way to a new one.
pub(crate) fn give_way(service: &Rc<Service>, operation: &Rc<Operation>, journal: &mut Journal) {
    let outcome = Outcome {
        release: operation.release.get().map(|release| release.0),
        exit: Exit::Aborted.code(),
        ..outcome::outcome(service, Word::Superseded, operation.id.0)
    };
    close(service, operation, journal, outcome);
}

fn close(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    journal: &mut Journal,
    mut outcome: Outcome,
) {
    if outcome.outcome != Word::Superseded {
        let at = operation.at.borrow().clone();
        let (notice, message) =
            Message::of_outcome(&outcome, Subject::Operation(operation.kind), &at);
        // On the disk before watchers receive the result.
        outcome.warnings.extend(service.shared.outbox.post(notice, message));
    }
    if let Err(error) = journal.announce(&Record::result(outcome.clone())) {
        tracing::error!(service = %service.name, %error, "writing a result down");
    }
    operation.outcome.replace(Some(outcome.clone()));
    service.activity.end(operation);
    operation.tell(Event::Result(Box::new(outcome.clone())));
    let kind = operation.kind.name();
    outcome::remember(&service.shared, &outcome, kind, &operation.actor, operation.started);
}

fn result(
    service: &Rc<Service>,
    kind: Kind,
    assignment: &Assignment,
    findings: &Findings,
    ended: Ended,
    facts: Facts,
) -> Outcome {
    let (word, exit) = table::of_operation(kind, ended, facts);
    let trouble =
        (exit != Exit::Done).then(|| trouble(service, kind, assignment, findings, ended, exit));
    let next = match (&trouble, service.durable.state().standby.as_ref()) {
        (Some(trouble), _) => trouble.next.clone(),
        (None, Some(_)) if kind == Kind::Release => {
            vec![format!("halley-sup rollback {}", service.name)]
        }
        _ => Vec::new(),
    };
    Outcome {
        release: Some(assignment.release.0),
        exit: exit.code(),
        warnings: findings.warnings.clone(),
        next,
        trouble,
        ..outcome::outcome(service, word, assignment.op.0)
    }
}

fn facts(service: &Service, assignment: &Assignment, findings: &Findings) -> Facts {
    let serving = service.serving();
    // In turn the last rung of a rollback is the release that it was to go back from.
    let is_in_turn = matches!(assignment.strategy, Strategy::Hold | Strategy::Replace);
    let is_origin =
        serving != Some(assignment.release) && serving == assignment.ladder.last().copied();
    Facts {
        refusal: findings.exit,
        is_plan: assignment.terms.extent == Extent::Plan && findings.why.is_empty(),
        is_back_where_it_began: is_in_turn && is_origin,
        is_unproven_on_data: false,
    }
}

/// Why the release that goes on serving does not run on the data, if this operation has migrated it.
fn stranded_data(service: &Service, assignment: &Assignment) -> Option<String> {
    migration::read(&service.paths, assignment.op).ok()??;
    schema::no_way_back(service, &assignment.candidate())
}

fn trouble(
    service: &Rc<Service>,
    kind: Kind,
    assignment: &Assignment,
    findings: &Findings,
    ended: Ended,
    exit: Exit,
) -> Trouble {
    let name = &service.name;
    let release = assignment.release;
    let what = match ended {
        Ended::RolledBack(_) => format!("{name}: release {release} was rolled back"),
        Ended::NothingBehind(_) => {
            format!("{name}: release {release} failed, and no earlier release exists")
        }
        Ended::RollbackFailed(_) => format!("{name}: the rollback failed"),
        _ if kind == Kind::Restart => format!("{name}: release {release} was not restarted"),
        _ => format!("{name}: release {release} did not go live"),
    };
    let mut next = match ended {
        Ended::NothingBehind(_) | Ended::RollbackFailed(_) => {
            alarm::alarm(service, assignment.op, findings).next
        }
        Ended::Undone(Cause::Refused) => Vec::new(),
        _ => vec![format!("halley-sup logs {name} --release {release}")],
    };
    if matches!(ended, Ended::Undone(_) | Ended::RolledBack(_)) && kind == Kind::Release {
        next.extend(match &findings.instead {
            Some(instead) => vec![instead.clone()],
            None => again(service, exit),
        });
    }
    let why = match ended {
        Ended::Undone(Cause::Interrupted) | Ended::RolledBack(Cause::Interrupted) => {
            format!(
                "the supervisor or the machine went down during the operation\n{}",
                findings.why
            )
        }
        _ => findings.why.clone(),
    };
    Trouble {
        what,
        why: why.trim().to_owned(),
        still: refusal::still(service),
        next,
        exit: exit.code(),
    }
}

/// No release comes next as long as the service is frozen because its data is not as it was.
fn again(service: &Service, exit: Exit) -> Vec<String> {
    let name = &service.name;
    let state = service.durable.state();
    if state.freeze.as_ref().is_some_and(|freeze| freeze.actor == FREEZER) {
        let restore = format!("halley-sup restore {name} --dry-run");
        return vec![restore, format!("halley-sup thaw {name}")];
    }
    // As it stands it would be refused again.
    let overrules = match exit {
        Exit::RehearsalFailed => " --no-way-back \"reason\"",
        Exit::Busy => " --force",
        // Once it is mended: the plan says whether it is.
        Exit::ArtifactRejected | Exit::PreflightRefused => " --dry-run",
        _ => "",
    };
    vec![format!("halley-sup release {name} SOURCE{overrules}")]
}

/// Lets go of every generation that has nothing to do any more: when an operation has ended so, or
/// when a supervisor comes up and none is open.
pub(super) fn let_go(service: &Rc<Service>, ended: Option<Ended>) {
    let standby = service.durable.state().standby.clone();
    let standby = standby.filter(|standby| standby.boot_id == service.shared.boot_id);
    for generation in service.fleet.all() {
        let warm = standby.as_ref().filter(|standby| standby.generation == generation.id.0);
        let found = Found {
            is_live: service.routing.live() == Some(generation.id),
            is_leaving: generation.duty() == Duty::Draining || generation.leaving().is_some(),
            is_warm: warm.is_some(),
            duty: generation.duty(),
        };
        let until = match conclusion::farewell(found, ended) {
            Farewell::Stays => continue,
            Farewell::GoesLater => warm.map_or_else(clock::tick, |warm| Tick(warm.until_ms)),
            Farewell::Goes => clock::tick(),
        };
        tracing::debug!(service = %service.name, generation = %generation.id, ?found,
            "retiring a generation");
        retire::begin(service, &generation, until);
    }
}

/// Removes what nothing holds any more. A failure is a warning.
fn prune(service: &Rc<Service>) {
    for (path, error) in journal::prune(&service.paths.ops()) {
        tracing::warn!(path = %path.display(), %error, "pruning a journal");
    }
    let trial = match service.durable.trial() {
        Ok(trial) => trial,
        Err(error) => {
            tracing::warn!(service = %service.name, %error, "no release is pruned");
            return;
        }
    };
    let all = release::all(&service.paths);
    let known: Vec<_> = all.iter().map(|known| (known.release, known.verdict)).collect();
    let set = service.activity.set();
    let state = service.durable.state();
    let roots = Roots {
        serving: service.serving(),
        last_good: service.durable.last_good(),
        trial,
        standby: state.standby.as_ref().map(|standby| ReleaseId(standby.release)),
        pinned: state.pinned.iter().copied().map(ReleaseId).collect(),
        open: set.and_then(|set| set.before(&service.name)).into_iter().collect(),
        alive: service.fleet.releases(),
    };
    let keep = service.config().keep.releases;
    let mut n_pruned = 0;
    let fates = retention::plan(&known, &roots, keep);
    for ((_, verdict), (release, fate)) in known.iter().zip(fates) {
        if fate == Fate::Prune {
            tracing::info!(service = %service.name, %release, "pruned");
            n_pruned += 1;
            if let Err(error) = release::remove(&service.paths, release) {
                tracing::warn!(service = %service.name, %release, %error, "pruning");
            }
            // Why one failed is looked for later, as long as there is its report.
            let has_failed = matches!(verdict, Verdict::Aborted | Verdict::Bad);
            if !has_failed && let Err(error) = service.logs.remove(release) {
                tracing::warn!(service = %service.name, %release, %error, "pruning its log");
            }
        }
    }
    if n_pruned > 0 {
        clear(service);
    }
    let newest = known.iter().map(|(release, _)| release.0).max().unwrap_or(0);
    let oldest = ReleaseId(newest.saturating_sub(journal::N_KEPT as u64));
    let is_known = |release: &ReleaseId| known.iter().any(|(known, _)| known == release);
    for release in service.logs.before(oldest).into_iter().filter(|release| !is_known(release)) {
        drop(service.logs.remove(release));
    }
}

/// Removes what was set aside, beside everything else.
pub(super) fn clear(service: &Service) {
    let paths = service.paths.clone();
    drop(spawn::lengthy(move || {
        if let Err(error) = aside::clear(&paths) {
            tracing::warn!(path = %paths.dir().display(), %error, "removing what was set aside");
        }
    }));
}
