//! What a release is going to do: each phase with what it does here, how much it writes and how
//! long it took before, and whether a rollback is possible afterwards.

use std::rc::Rc;

use crate::api::{PhaseState, Plan, PlanStep};
use crate::config::duration;
use crate::config::model::{Rehearse, Settings, Strategy};
use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Succession;
use crate::core::operation::phase::Phase;
use crate::core::operation::way_back::{Before, WayBack};
use crate::store::journal;
use crate::store::layout::ServiceLayout;
use crate::store::receipt;
use crate::supervisor::data::backup::Means;
use crate::supervisor::data::fresh;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::rollback_readiness::readiness;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::text::count;

/// Operations that times are learned from.
const N_LEARNED: usize = 5;

/// The plan of a release with these settings.
#[must_use]
pub(crate) fn of(
    service: &Rc<Service>,
    assignment: &Assignment,
    settings: &Settings,
    tree_bytes: u64,
    means: Option<&Means>,
) -> Plan {
    let learned = learned(service);
    let step = |phase: Phase, what: String, bytes: Option<u64>| PlanStep {
        phase: phase.name(),
        what,
        bytes,
        ms: median(&learned, phase),
    };
    let config = service.config();
    let target = assignment.back_to();
    let in_turn = assignment.strategy.succession() == Succession::InTurn;
    let mut steps =
        vec![step(Phase::Stage, format!("releases/{}", assignment.release), Some(tree_bytes))];
    if let Some(target) = target.filter(|_| config.rehearse != Rehearse::Off) {
        let how = match (config.rehearse, in_turn) {
            (Rehearse::Full, false) => "start it beside the running release and probe it",
            _ => "compare its tree with its hashes",
        };
        steps.push(step(Phase::RehearseOld, format!("release {target}: {how}"), None));
    }
    steps.extend(
        data(service, assignment.release, settings, means)
            .into_iter()
            .map(|(phase, what, n)| step(phase, what, n)),
    );
    if in_turn {
        steps.push(step(Phase::StopOld, "connections wait meanwhile".to_owned(), None));
    }
    let n = config.settings.instances;
    steps.push(step(Phase::Start, format!("instances: {n}"), None));
    let limit = duration::print(settings.health.deadline);
    let gate = format!("{} in a row within {limit}", count(settings.health.rise, "good probe"));
    steps.push(step(Phase::Gate, gate, None));
    if let Strategy::Canary(shares) = &assignment.strategy {
        for (n, share) in (0..=u8::MAX).zip(shares) {
            let what = format!("{} % of the connections", f64::from(*share) / 100.0);
            steps.push(step(Phase::Step(n), what, None));
        }
    }
    steps.push(step(Phase::Flip, "all new connections go to the new release".to_owned(), None));
    if !settings.bake.length.is_zero() {
        let what = format!("watch the new release for {}", duration::print(settings.bake.length));
        steps.push(step(Phase::Bake, what, None));
    }
    let (rollback, because) = rollback(service, assignment, settings);
    Plan {
        service: service.name.to_string(),
        release: assignment.release.0,
        steps,
        rollback,
        rollback_to: target.filter(|_| rollback).map(|target| target.0),
        because,
    }
}

/// What is done with the data: each phase, what it does here, and how much it writes.
fn data(
    service: &Rc<Service>,
    candidate: ReleaseId,
    settings: &Settings,
    means: Option<&Means>,
) -> Vec<(Phase, String, Option<u64>)> {
    let mut steps = Vec::new();
    match &service.config().backup {
        Some(backup) => {
            let last = receipt::list(&service.paths).first().map(|receipt| receipt.bytes);
            let driver = backup.driver.name();
            steps.push(match fresh::foreseen(service, candidate) {
                Some(fresh) => {
                    (Phase::Backup, format!("{}, {}", fresh.receipt.id, fresh.text()), None)
                }
                None => (Phase::Backup, format!("{driver}, as large as the last backup"), last),
            });
            let mut what = "restore it to scratch and check it".to_owned();
            match means {
                Some(Means::None { .. }) | None => {}
                Some(_) if settings.migrate.is_some() => {
                    what.push_str(", migrate the copy, start both releases on it");
                }
                Some(_) => what.push_str(", start both releases on it"),
            }
            if let Some(means) = means {
                what.push_str(&format!("; {}", means.text()));
            }
            steps.push((Phase::RestoreRehearsal, what, last));
        }
        None if settings.migrate.is_some() => {
            let what = "none is configured: the migration is not rehearsed".to_owned();
            steps.push((Phase::Backup, what, None));
        }
        None => {}
    }
    if let Some(migrate) = &settings.migrate {
        let words = migrate.command.join(" ");
        let limit = duration::print(migrate.deadline);
        steps.push((Phase::Migrate, format!("{words}, at most {limit}"), None));
    }
    steps
}

/// Whether a rollback is possible afterwards, and why.
fn rollback(service: &Service, assignment: &Assignment, settings: &Settings) -> (bool, String) {
    let Some(target) = assignment.back_to() else {
        return (false, "it is the first release".to_owned());
    };
    if let Some(why) =
        settings.schema.as_ref().and_then(|s| schema::way_back(service, Some(target), s))
    {
        return (false, why);
    }
    if let Some(reason) = &assignment.terms.no_way_back {
        return (false, format!("--no-way-back: {reason}"));
    }
    if assignment.candidate().way_back == WayBack::Lost {
        return (false, format!("release {target} is down, and there is no other one"));
    }
    let data = match (&settings.migrate, &settings.schema) {
        (None, _) => "its data is not migrated",
        (Some(_), Some(_)) => "it accepts the schema that the migration leaves",
        (Some(_), None) => {
            "no schema is declared: it is proven on the migrated data before the flip"
        }
    };
    let rehearsed = readiness::status(service).rehearsed;
    let last = rehearsed.map_or(String::new(), |at| format!(", last rehearsed {at}"));
    let how = match assignment.before {
        Before::Answers => {
            format!("stays warm for {}", duration::print(service.config().keep.standby))
        }
        Before::Stopped | Before::Down => "can be started".to_owned(),
    };
    (true, format!("release {target} {how}{last}; {data}"))
}

/// The plan in one line.
#[must_use]
pub(crate) fn text(plan: &Plan) -> String {
    match (plan.rollback, plan.rollback_to) {
        (true, Some(to)) => format!("rollback afterwards: yes, to {to}"),
        _ => format!("rollback afterwards: no: {}", plan.because),
    }
}

/// How long phases took in the last operations that were journalled.
fn learned(service: &Service) -> Vec<(Phase, u64)> {
    let ops = ServiceLayout::numbers(&service.paths.ops());
    let mut found = Vec::new();
    for op in ops.into_iter().rev().take(N_LEARNED) {
        let Ok(Some((_, records))) = journal::read(&service.paths, OpId(op)) else { continue };
        let done = records.into_iter().filter(|record| record.state() == Some(PhaseState::Ok));
        found.extend(done.filter_map(|record| Some((Phase::parse(&record.phase)?, record.ms))));
    }
    found
}

fn median(learned: &[(Phase, u64)], phase: Phase) -> Option<u64> {
    let mut times: Vec<u64> =
        learned.iter().filter(|(done, _)| *done == phase).map(|(_, ms)| *ms).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_median_of_those_before() {
        let times = [(Phase::Gate, 9), (Phase::Gate, 1), (Phase::Gate, 5), (Phase::Flip, 7)];
        assert_eq!(median(&times, Phase::Gate), Some(5));
        assert_eq!(median(&times, Phase::Bake), None);
    }
}
