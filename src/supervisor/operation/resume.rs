//! A supervisor comes up: how an operation goes on that one before it began, as its journal and what
//! still runs say.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::api::PhaseState;
use crate::config::model::Strategy;
use crate::core::duty::{Duty, Part, Traffic};
use crate::core::ids::{GenerationId, OpId, ReleaseId};
use crate::core::operation::live::{self, Facts, Live};
use crate::core::operation::machine::{Kind, Machine, Outcome};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::core::operation::recover::{self, Seen};
use crate::core::operation::way_back::Before;
use crate::store::journal::{Intent, Journal, Record};
use crate::store::state::Served;
use crate::store::trial;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::boot_error::BootError;
use crate::supervisor::operation::cold_rungs::ColdRungs;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::operation::hooks;
use crate::supervisor::operation::job::Job;
use crate::supervisor::operation::opened::{self, Opened};
use crate::supervisor::operation::phases::wrap_up::WrapUp;
use crate::supervisor::operation::runner;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::BegunBy;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::terms::{Extent, Force, Terms};
use crate::supervisor::tasks::hook_state::HookState;

/// The generation that new connections go to.
///
/// # Errors
/// When it cannot be seen whether a release is on trial.
pub(super) fn live_generation(
    service: &Service,
    open: Option<&(Intent, Vec<Record>)>,
) -> io::Result<Option<GenerationId>> {
    let last_good = service.durable.state().last_good;
    let good = last_good.map(|good| GenerationId(good.generation));
    let Some((intent, records)) = open else {
        return Ok(last_good.map(|good| at_rest(service, good)));
    };
    let last = opened::phases(records).next_back();
    let (candidate, old) = (GenerationId(intent.generation), intent.old.map(GenerationId));
    let cold = last.and_then(|last| opened::rung(records, last));
    let rung = cold.or(intent.warm.map(GenerationId));
    let is_alive = |id: Option<GenerationId>| {
        let generation = id.and_then(|id| service.fleet.get(id));
        generation.is_some_and(|generation| generation.is_alive())
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

fn at_rest(service: &Service, good: Served) -> GenerationId {
    let all = service.fleet.all();
    let known: Vec<_> = all.iter().map(|generation| generation.id).collect();
    let of_good = all.iter().filter(|it| it.release == ReleaseId(good.release) && it.is_alive());
    let running: Vec<_> = of_good.map(|generation| generation.id).collect();
    live::at_rest(GenerationId(good.generation), &known, &running)
}

/// Goes on with an operation that a supervisor before this one began.
pub(super) fn resume(
    service: &Rc<Service>,
    intent: &Intent,
    records: &[Record],
    opened: Opened,
) -> Result<(), BootError> {
    let Opened { plan, last, cause, before, strategy } = opened;
    let (kind, op) = (plan.kind, OpId(intent.op));
    let rungs = ColdRungs { present: opened::rung(records, last), left: None };
    let assignment = assignment(service, intent, (kind, before), strategy);
    for id in [Some(assignment.generation), rungs.present].into_iter().flatten() {
        service.fleet.seen(id);
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
    let complete = |id: Option<GenerationId>| {
        let generation = id.and_then(|id| service.fleet.get(id));
        generation.is_some_and(|generation| generation.is_complete())
    };
    let on_trial = last.is_on_trial() && kind == Kind::Release;
    // A flip that was announced and not begun has no trial file yet, and all its tries.
    let n_tries_left = match use_one(service) {
        n if on_trial && trial::read(&service.paths)?.is_some() => n,
        _ => trial::N_TRIES,
    };
    let good = service.durable.state().last_good;
    // Of the first release's processes this keeper knows nothing: Halley itself was restarted.
    let is_first_and_gone =
        intent.ladder.is_empty() && service.fleet.get(assignment.generation).is_none();
    let seen = Seen {
        same_boot: intent.boot_id == service.shared.boot_id && !is_first_and_gone,
        candidate_alive: complete(Some(assignment.generation)),
        committed: good.is_some_and(|good| good.op == intent.op),
        n_tries_left,
        rung_alive: complete(if last.rung() == Some(0) { assignment.warm } else { rungs.present }),
        hook_passed,
    };
    let mut machine = recover::recover(plan, last, cause, seen);
    if on_trial && schema::no_way_back(service, &assignment.candidate()).is_some() {
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
        findings.warnings.extend(WrapUp::forward(&assignment).perform(service));
    }
    let journal = Journal::reopen(&service.paths, op)?;
    let (actor, at) = (intent.actor.clone(), intent.at.clone());
    let (operation, orders) = Operation::resumed(op, kind, actor, at, assignment.release, records);
    let job = Job::resumed(assignment, rungs, hooks, findings);
    runner::begin(service, operation, machine, job, journal, orders)
        .map_err(|running| BootError::Runs(running.id))
}

/// How many tries the trial has, one of which is used now. What cannot be counted is the last one.
fn use_one(service: &Service) -> u8 {
    trial::use_one(&service.paths).unwrap_or_else(|error| {
        tracing::error!(service = %service.name, %error, "counting the tries of a trial");
        0
    })
}

fn assignment(
    service: &Service,
    intent: &Intent,
    (kind, before): (Kind, Before),
    strategy: Option<Strategy>,
) -> Assignment {
    let config = service.config();
    Assignment {
        op: OpId(intent.op),
        actor: intent.actor.clone(),
        release: ReleaseId(intent.release),
        generation: GenerationId(intent.generation),
        source_name: intent.source.clone(),
        terms: Terms {
            force: if intent.force { Force::Yes } else { Force::No },
            no_way_back: intent.no_way_back.clone(),
            extent: Extent::Whole,
        },
        begun_by: BegunBy::Predecessor,
        old: intent.old.map(GenerationId),
        warm: intent.warm.map(GenerationId),
        left: intent.left.map(ReleaseId).or_else(|| left(service, intent, kind)),
        ladder: intent.ladder.iter().copied().map(ReleaseId).collect(),
        before,
        strategy: strategy.unwrap_or_else(|| config.strategy.clone()),
        max_gap: intent.max_gap_ms.map_or(config.max_gap, Duration::from_millis),
    }
}

/// What an operation leaves whose journal does not say so, as far as it can still be seen.
fn left(service: &Service, intent: &Intent, kind: Kind) -> Option<ReleaseId> {
    match kind {
        Kind::Release | Kind::Restart => Some(ReleaseId(intent.release)),
        Kind::Rollback => {
            let old = intent.old.and_then(|old| service.fleet.get(GenerationId(old)));
            old.map(|generation| generation.release).or_else(|| service.durable.last_good())
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
fn give_duties(service: &Service, candidate: GenerationId) {
    for generation in service.fleet.all() {
        let is_candidate = generation.id == candidate;
        let is_steered = service.routing.live() == Some(generation.id);
        let part = if is_candidate { Part::Candidate } else { Part::Bystander };
        let traffic = if is_steered { Traffic::Steered } else { Traffic::Away };
        generation.assign(Duty::found(part, traffic));
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
            let left = |intent: &Intent| {
                let begun = (Kind::Rollback, Before::Answers);
                assignment(&world.service, intent, begun, None).left
            };
            let release = left(&rollback(Some(2)));
            let kind = Kind::Rollback;
            let (back_at, because) = (ReleaseId(1), Because::OfItself);
            let blame = conclusion::blame(Left { kind, release, back_at, because });
            assert_eq!(blame, Blame::Frozen(ReleaseId(2)));
            // A journal of an earlier version leaves only what can be seen.
            assert_eq!(left(&rollback(None)), Some(ReleaseId(1)));
            let old = world.generation(2, Duty::Standby, Vec::new());
            assert_eq!(left(&rollback(None)), Some(old.release));
        });
    }
}
