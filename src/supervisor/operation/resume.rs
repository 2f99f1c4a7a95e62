//! A supervisor comes up: what the keeper holds, what is on the disk, and what follows from both.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::api::PhaseState;
use crate::config::model::Strategy;
use crate::core::duty::{Duty, Part, Traffic};
use crate::core::ids::{Generation, OpId, ReleaseId};
use crate::core::operation::live::{self, Facts, Live};
use crate::core::operation::machine::{Kind, Machine, Outcome};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::core::operation::recover::{self, Seen};
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, End};
use crate::store::journal::{self, Intent, Journal, Record};
use crate::store::{intake, release, trial};
use crate::supervisor::data::backup;
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::restarter;
use crate::supervisor::instances::scale;
use crate::supervisor::instances::sd_notify;
use crate::supervisor::service::child_spec;

use crate::supervisor::instances::restarter::revive;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::cold_rungs::ColdRungs;
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::operation::hooks;
use crate::supervisor::operation::job::Job;
use crate::supervisor::operation::opened::{self, Opened};
use crate::supervisor::operation::phases;
use crate::supervisor::operation::runner;
use crate::supervisor::operation::unresumed;
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::host_command;
use crate::supervisor::processes::keeper_client::{Found, Inventory};
use crate::supervisor::processes::log_files;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::BegunBy;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::supervisor::service::occupied::may_start;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::seat::Run;
use crate::supervisor::service::terms::{Extent, Force, Terms};
use crate::supervisor::tasks::hook_state::HookState;
use crate::supervisor::tasks::task;

/// Why a service could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// Its listeners.
    #[error(transparent)]
    Slot(#[from] crate::supervisor::sockets::slots::SlotError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// Its files.
    #[error(transparent)]
    Release(#[from] release::ReleaseError),
    /// It is taken over already.
    #[error("operation {0} runs already")]
    Runs(OpId),
    /// The system's own reason.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Takes a service over: adopts what runs, goes on with its open operation. What does not run is
/// started by [`start_last_good`](super::start_last_good).
///
/// # Errors
/// When something durable cannot be read; what runs goes on running.
pub(crate) async fn take_over(
    service: &Rc<Service>,
    inventory: &mut Inventory,
) -> Result<(), BootError> {
    service.paths.create()?;
    let config = service.config();
    service.slots.adopt(&config, &mut inventory.kept)?;
    let socket = inventory.kept.remove(&format!("notify/{}", service.name));
    sd_notify::open(service, socket).await?;
    let (mine, others) = take_mine(service, inventory);
    host_command::end_all(&service.shared.link, others).await;
    task::sweep(service);
    backup::sweep(service);
    let ends = adopt_crews(service, mine, inventory);
    if let Some(good) = service.durable.state().last_good {
        service.fleet.seen(Generation(good.generation));
    }
    let open = journal::open_operation(&service.paths)?;
    intake::sweep(&service.paths)?;
    let live = live_generation(service, open.as_ref())?;
    if let Some(crew) = live.and_then(|generation| service.fleet.get(generation)) {
        service.steer_to(&crew, Duty::Live)?;
    }
    service.slots.park(|listener| service.owned_slots(listener))?;
    match open {
        Some((intent, records)) => match opened::read(&intent, &records) {
            Ok(opened) => resume(service, &intent, &records, opened)?,
            Err(unknown) => unresumed::leave(service, &intent, &records, &unknown),
        },
        None => {
            release::sweep(&service.paths)?;
            conclude::let_go(service, None);
        }
    }
    for Following { crew, instance, role, child } in ends {
        restarter::follow(service, &crew, &instance, role, child);
    }
    if let Some(crew) = service.live_crew().filter(|crew| crew.duty.get() == Duty::Live)
        && (crew.is_alive() || may_start(service))
    {
        revive(service, &crew);
        scale::begin(service);
    }
    service.tend();
    forget_the_rest(service, inventory);
    Ok(())
}

/// Descriptors of this service without an owner: outputs of processes that are gone, slots
/// of an address it no longer has.
fn forget_the_rest(service: &Rc<Service>, inventory: &mut Inventory) {
    let mine = |name: &str| name.split('/').nth(1) == Some(service.name.as_str());
    let names: Vec<String> = inventory.kept.keys().filter(|name| mine(name)).cloned().collect();
    for name in names {
        inventory.kept.remove(&name);
        let service = Rc::clone(service);
        tokio::task::spawn_local(async move {
            if let Err(error) = service.link().forget(name).await {
                tracing::warn!(service = %service.name, %error, "closing unused descriptors");
            }
        });
    }
}

/// A child, and how it has ended.
type Child = (ChildId, Option<End>);

/// This service's children that belong to a generation, and those that are to be ended: commands,
/// because nothing waits for them any more, and rehearsed instances. Processes that relay
/// connections go on.
fn take_mine(
    service: &Rc<Service>,
    inventory: &mut Inventory,
) -> (Vec<(Label, Found)>, Vec<Child>) {
    let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(&mut inventory.children)
        .into_iter()
        .map(|found| (Label::read(&found.label), found))
        .partition(|(label, _)| {
            label.as_ref().is_some_and(|label| label.service == service.name.as_str())
        });
    inventory.children = others.into_iter().map(|(_, found)| found).collect();
    let (mut instances, mut others) = (Vec::new(), Vec::new());
    for (label, found) in mine {
        let Some(label) = label else { continue };
        match (label.role, &label.purpose) {
            (Role::Instance | Role::Forwarder, None) => instances.push((label, found)),
            (Role::Passer, _) => service.slots.passers().adopt(found),
            // Ended or not, the work that it was run for collects its end when resumed.
            (Role::Oneshot, Some(purpose)) if purpose.outlives_a_supervisor() => {
                if let Some(end) = found.end {
                    service.link().child_ended(found.child, end);
                }
                service.activity.leave_over(purpose.clone(), found.child);
            }
            (Role::Probe | Role::Oneshot, _) | (Role::Instance | Role::Forwarder, Some(_)) => {
                others.push((found.child, found.end));
            }
        }
    }
    (instances, others)
}

/// Whose end is to be followed.
struct Following {
    crew: Rc<Crew>,
    instance: Rc<Instance>,
    role: Role,
    child: ChildId,
}

/// The last child in a place: earlier ones have ended and been replaced.
type Places = BTreeMap<(u16, bool), (Label, Found)>;

/// Puts generations together from their children. Returns whose end is to be followed.
fn adopt_crews(
    service: &Rc<Service>,
    mine: Vec<(Label, Found)>,
    inventory: &mut Inventory,
) -> Vec<Following> {
    let mut by_crew: BTreeMap<u64, Places> = BTreeMap::new();
    let mut stale = Vec::new();
    for (label, found) in mine {
        let places = by_crew.entry(label.generation).or_default();
        let place = (label.instance, label.role == Role::Forwarder);
        match places.remove(&place) {
            Some((old_label, old)) if old.child > found.child => {
                stale.push(found);
                places.insert(place, (old_label, old));
            }
            before => {
                stale.extend(before.map(|(_, old)| old));
                places.insert(place, (label, found));
            }
        }
    }
    end_stale(service, stale);
    by_crew.into_values().flat_map(|places| adopt_crew(service, places, inventory)).collect()
}

/// Earlier children of a place have ended; one that has not is nobody's.
fn end_stale(service: &Rc<Service>, stale: Vec<Found>) {
    let (ended, running): (Vec<_>, Vec<_>) =
        stale.into_iter().partition(|found| found.end.is_some());
    let service = Rc::clone(service);
    tokio::task::spawn_local(async move {
        for found in ended {
            service.link().acknowledge(found.child).await;
        }
        ownership::end(&service, running.into_iter().map(|found| found.child).collect()).await;
    });
}

fn adopt_crew(service: &Rc<Service>, places: Places, inventory: &mut Inventory) -> Vec<Following> {
    let Some((label, _)) = places.values().next() else { return Vec::new() };
    let (generation, release) = (label.generation(), label.release());
    let mut settings = release::settings(&service.paths, release)
        .unwrap_or_else(|_| service.config().settings.clone());
    let n = places.values().map(|(label, _)| label.instances).max().unwrap_or(0);
    settings.instances = if n == 0 { settings.instances } else { n };
    let started = Tick(label.started_ms);
    let crew = Crew::new(generation, release, settings, started, Duty::Standby);
    let mut following = Vec::new();
    for (label, found) in places.into_values() {
        let known = crew.instances().into_iter().find(|known| known.index == label.index());
        let instance = known.unwrap_or_else(|| {
            let new = Rc::new(Instance::new(
                label.index(),
                label.slot_ids(),
                child_spec::place_of(&label),
            ));
            crew.add(Rc::clone(&new));
            new
        });
        let started = Tick(label.started_ms);
        let run = Run { child: found.child, identity: found.identity, started };
        if label.role == Role::Forwarder {
            instance.forwarder.fill(run);
        } else {
            instance.restarts.set(label.restarts);
            instance.joined.set(true);
            instance.program.fill(run);
        }
        if let Some(end) = found.end {
            service.link().child_ended(found.child, end);
        }
        let (crew, role, child) = (Rc::clone(&crew), label.role, found.child);
        following.push(Following { crew, instance, role, child });
    }
    for instance in &crew.instances() {
        let name = child_spec::output_name(service, crew.generation, instance.index);
        if let Some(fifo) = inventory.kept.remove(&name) {
            let writer = service.logs.writer(release);
            instance.pump.replace(Some(log_files::pump(fifo, instance.index.0, writer)));
        }
    }
    service.fleet.insert(crew);
    following
}

/// The generation that new connections go to.
///
/// # Errors
/// When it cannot be seen whether a release is on trial.
fn live_generation(
    service: &Service,
    open: Option<&(Intent, Vec<Record>)>,
) -> io::Result<Option<Generation>> {
    let last_good = service.durable.state().last_good;
    let good = last_good.map(|good| Generation(good.generation));
    let Some((intent, records)) = open else { return Ok(good) };
    let last = opened::phases(records).next_back();
    let (candidate, old) = (Generation(intent.generation), intent.old.map(Generation));
    let cold = last.and_then(|last| opened::rung(records, last));
    let rung = cold.or(intent.warm.map(Generation));
    let is_alive = |generation: Option<Generation>| {
        let crew = generation.and_then(|generation| service.fleet.get(generation));
        crew.is_some_and(|crew| crew.is_alive())
    };
    let announced = |wanted: fn(Phase) -> bool| opened::phases(records).any(wanted);
    let facts = Facts {
        kind: Kind::parse(&intent.kind),
        last,
        gate_opened: announced(Phase::is_on_trial),
        flip_announced: announced(|phase| phase == Phase::Flip),
        on_trial: trial::read(&service.paths)?.is_some(),
        committed: last_good.is_some_and(|good| good.op == intent.op),
        candidate_alive: is_alive(Some(candidate)),
        old_alive: is_alive(old),
        rung_alive: is_alive(rung),
    };
    Ok(match live::live(&facts) {
        Live::Candidate => Some(candidate),
        Live::Old => old,
        Live::Rung => rung,
        Live::LastGood => good,
        Live::Held => None,
    })
}

/// Goes on with an operation that a supervisor before this one began.
fn resume(
    service: &Rc<Service>,
    intent: &Intent,
    records: &[Record],
    opened: Opened,
) -> Result<(), BootError> {
    let Opened { plan, last, cause, strategy } = opened;
    let (kind, op) = (plan.kind, OpId(intent.op));
    let rungs = ColdRungs { present: opened::rung(records, last), left: None };
    let assignment = assignment(service, intent, kind, strategy);
    for generation in [Some(assignment.generation), rungs.present].into_iter().flatten() {
        service.fleet.seen(generation);
    }
    let hooks = HookState::of(records);
    let mut findings = Findings { why: why(records), ..Findings::default() };
    let hook_passed = match last {
        Phase::Hook(point) => match hooks.get(point).map(|mark| hooks::outcome(mark, point)) {
            Some(Err(error)) if !point.is_afterwards() => {
                findings.blame(error.to_string());
                false
            }
            ended => matches!(ended, Some(Ok(()))),
        },
        _ => false,
    };
    let complete = |generation: Option<Generation>| {
        let crew = generation.and_then(|generation| service.fleet.get(generation));
        crew.is_some_and(|crew| crew.is_complete())
    };
    let is_release = kind == Kind::Release;
    // A flip that was announced and not begun has no trial file yet, and all its tries.
    let n_tries_left = match trial::use_one(&service.paths)? {
        n if last.is_on_trial() && is_release && trial::read(&service.paths)?.is_some() => n,
        _ => trial::N_TRIES,
    };
    let good = service.durable.state().last_good;
    let seen = Seen {
        same_boot: intent.boot_id == service.shared.boot_id,
        candidate_alive: complete(Some(assignment.generation)),
        committed: good.is_some_and(|good| good.op == intent.op),
        n_tries_left,
        rung_alive: complete(if last.rung() == Some(0) { assignment.warm } else { rungs.present }),
        hook_passed,
    };
    let mut machine = recover::recover(plan, last, cause, seen);
    if is_release
        && last.is_on_trial()
        && schema::no_way_back(service, &assignment.candidate()).is_some()
    {
        // A crash decides nothing that a failure does not.
        if machine.phase().rung().is_some() {
            machine = Machine::resume(plan, Phase::Hold, cause);
        }
        machine.hold_on_failure();
    }
    tracing::info!(service = %service.name, op = op.0, last = last.name(),
        next = machine.phase().name(), ?seen, "resuming an operation");
    give_duties(service, assignment.generation);
    let is_committed = Phase::Done(Outcome::Committed) == machine.phase()
        || Phase::Hook(Point::AfterCommit) == machine.phase();
    if is_committed {
        findings.warnings.extend(phases::wrap_up(service, assignment.release));
    }
    let journal = Journal::reopen(&service.paths, op)?;
    let (actor, at) = (intent.actor.clone(), intent.at.clone());
    let (operation, orders) = Operation::resumed(op, kind, actor, at, assignment.release, records);
    let job = Job::resumed(assignment, rungs, hooks, findings);
    runner::begin(service, operation, machine, job, journal, orders)
        .map_err(|running| BootError::Runs(running.id))
}

fn assignment(
    service: &Service,
    intent: &Intent,
    kind: Kind,
    strategy: Option<Strategy>,
) -> Assignment {
    let config = service.config();
    Assignment {
        op: OpId(intent.op),
        actor: intent.actor.clone(),
        release: ReleaseId(intent.release),
        generation: Generation(intent.generation),
        source_name: intent.source.clone(),
        terms: Terms {
            force: if intent.force { Force::Yes } else { Force::No },
            no_way_back: intent.no_way_back.clone(),
            extent: Extent::Whole,
        },
        begun_by: BegunBy::Predecessor,
        old: intent.old.map(Generation),
        warm: intent.warm.map(Generation),
        left: intent.left.map(ReleaseId).or_else(|| left(service, intent, kind)),
        ladder: intent.ladder.iter().copied().map(ReleaseId).collect(),
        strategy: strategy.unwrap_or_else(|| config.strategy.clone()),
        max_gap: intent.max_gap_ms.map_or(config.max_gap, Duration::from_millis),
    }
}

/// What an operation leaves whose journal does not say so, as far as it can still be seen.
fn left(service: &Service, intent: &Intent, kind: Kind) -> Option<ReleaseId> {
    match kind {
        Kind::Release | Kind::Restart => Some(ReleaseId(intent.release)),
        Kind::Rollback => {
            let old = intent.old.and_then(|old| service.fleet.get(Generation(old)));
            old.map(|crew| crew.release).or_else(|| service.durable.last_good())
        }
    }
}

/// Why the operation has left its way forward; empty when it has not.
fn why(records: &[Record]) -> String {
    // A hook after the flip is no reason, whatever became of it.
    let is_reason = |record: &&Record| {
        let phase = Phase::parse(&record.phase);
        let is_before = |phase| !matches!(phase, Phase::Hook(point) if point.is_afterwards());
        record.state() == Some(PhaseState::Fail) && phase.is_some_and(is_before)
    };
    let failed = records.iter().find(is_reason);
    failed.map(|record| record.detail.clone()).unwrap_or_default()
}

/// Sets each generation's duty while an operation goes on.
fn give_duties(service: &Service, candidate: Generation) {
    for crew in service.fleet.all() {
        let is_candidate = crew.generation == candidate;
        let is_steered = service.routing.live() == Some(crew.generation);
        let part = if is_candidate { Part::Candidate } else { Part::Bystander };
        let traffic = if is_steered { Traffic::Steered } else { Traffic::Away };
        crew.duty.set(Duty::found(part, traffic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::conclusion::{self, Because, Blame, Left};
    use crate::store::state::Served;
    use crate::supervisor::service::test_service::with;

    fn rollback(left: Option<u64>) -> Intent {
        let intent = serde_json::json!({
            "version": 1, "op": 3, "kind": "rollback", "actor": "", "source": "", "at": "",
            "boot_id": "", "release": 1, "generation": 3, "old": 2, "warm": 1, "ladder": [1],
            "inconclusive": "hold", "succession": "overlap", "left": left,
        });
        serde_json::from_value(intent).unwrap()
    }

    /// The rename is done, what was left is gone, and the commit is performed again.
    #[test]
    fn a_rollback_that_is_committed_again_blames_the_same_release() {
        with(|world| async move {
            let back = Served { release: 1, generation: 1, op: 3 };
            world.service.durable.save(|state| state.last_good = Some(back)).unwrap();
            let left =
                |intent: &Intent| assignment(&world.service, intent, Kind::Rollback, None).left;
            let release = left(&rollback(Some(2)));
            let kind = Kind::Rollback;
            let (back_at, because) = (ReleaseId(1), Because::OfItself);
            let blame = conclusion::blame(Left { kind, release, back_at, because });
            assert_eq!(blame, Blame::Frozen(ReleaseId(2)));
            // A journal of an earlier version leaves only what can be seen.
            assert_eq!(left(&rollback(None)), Some(ReleaseId(1)));
            let old = world.crew(2, Duty::Standby, Vec::new());
            assert_eq!(left(&rollback(None)), Some(old.release));
        });
    }
}
