//! How an operation begins: is it possible, what is it about, then its journal and its task.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::MutexGuard;

use crate::api::Trouble;
use crate::config::model::{self};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::{GenerationId, ReleaseId};
use crate::core::operation::ladder::{self, Facts, NoWay, Standby};
use crate::core::operation::machine::{Inconclusive, Kind, Machine, Plan};
use crate::core::operation::way_back::Before;
use crate::core::retention::{self, Verdict};
use crate::core::status::NOTHING_OLDER;
use crate::store::journal::{self, Intent, Journal};
use crate::store::layout::ServiceLayout;
use crate::store::release;
use crate::supervisor::instances::standing;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::intake::Intake;
use crate::supervisor::operation::job::Job;
use crate::supervisor::operation::opened;
use crate::supervisor::operation::phases::rollout_step;
use crate::supervisor::operation::runner;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::BegunBy;
use crate::supervisor::service::occupied::{self, frozen};
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::refusal;
use crate::supervisor::service::refusal::{NothingToDo, refusal};
use crate::supervisor::service::terms::{Extent, Force, Terms};
use crate::text;

/// The requested operation.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Bring this artifact live.
    Release {
        /// The artifact.
        source: OwnedFd,
        /// What was named.
        name: String,
        /// On what terms.
        terms: Terms,
    },
    /// Bring an older release back.
    Rollback {
        /// Which; the newest good older one when absent.
        to: Option<u64>,
    },
    /// New processes of what serves.
    Restart,
}

impl Wish {
    /// What is to be done to the service, for a refusal.
    fn done(&self) -> &'static str {
        match self {
            Self::Release { .. } => "released",
            Self::Rollback { .. } => "rolled back",
            Self::Restart => "restarted",
        }
    }

    /// What stands against it. A stopped service takes another release, which is started then.
    fn obstacle(&self, service: &Service) -> Option<Trouble> {
        match self {
            Self::Release { .. } | Self::Rollback { .. } => {
                occupied::occupation(service, self.done())
            }
            Self::Restart => occupied::obstacle(service, self.done()),
        }
    }
}

/// What became of a wish.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is under way.
    Operation(Rc<Operation>),
    /// It is fulfilled already.
    NothingToDo(NothingToDo),
}

/// Begins an operation of a service that is in no running set.
///
/// # Errors
/// The four lines that explain the refusal.
pub(crate) async fn begin(
    service: &Rc<Service>,
    actor: &str,
    wish: Wish,
) -> Result<Begun, Trouble> {
    match refusal::busy_with_set(service) {
        Some(busy) => Err(busy),
        None => begin_member(service, actor, wish).await,
    }
}

/// Begins an operation for the set that the service is a member of.
///
/// # Errors
/// As [`begin`].
pub(crate) async fn begin_member(
    service: &Rc<Service>,
    actor: &str,
    wish: Wish,
) -> Result<Begun, Trouble> {
    let before = before(service, &wish).await?;
    let _turn = make_way(service, &wish).await?;
    if let Wish::Release { terms, .. } = &wish
        && terms.extent == Extent::Whole
        && let Some(why) = frozen(service, terms.force)
    {
        return Err(refusal::frozen(service, &why));
    }
    let serving = service.serving();
    let known = verdicts(service);
    let op = journal::next_op(&service.paths);
    // A live release that is dead at the moment is the one to go back from, not to.
    let from = service.live_generation().map(|live| live.release).or(service.durable.last_good());
    let (older, mut passed) = on_the_data(service, retention::targets(&known, from));
    let (id, live) = (service.fleet.next_generation(), service.routing.live());
    let config = service.config();
    let begin = |release, ladder| Assignment {
        op,
        actor: actor.to_owned(),
        release,
        generation: id,
        source_name: String::new(),
        terms: Terms::default(),
        begun_by: BegunBy::Us,
        old: live,
        warm: live,
        left: Some(release),
        ladder,
        before,
        strategy: config.strategy.clone(),
        max_gap: config.max_gap,
    };
    let (kind, assignment, intake) = match wish {
        Wish::Release { source, name, terms } => {
            let ladder = ladder::of_release(from, &older, before);
            let warm = warm(service, &ladder, before);
            let begun = begin(next_release(service), ladder);
            let assignment = Assignment { source_name: name, terms, warm, ..begun };
            (Kind::Release, assignment, Intake::of(source))
        }
        Wish::Rollback { to } => {
            let (to, succession) = (to.map(ReleaseId), service.succession());
            let facts = Facts { serving, from, older: &older, known: &known, succession };
            let rungs = match rollback_ladder(service, to, &facts, &passed)? {
                Ok(rungs) => rungs,
                Err(nothing) => return Ok(Begun::NothingToDo(nothing)),
            };
            let target = rungs[0];
            passed.retain(|(release, _)| to.is_none() && *release > target);
            let warm = ladder::warm(target, &standbys(service), succession);
            let assignment = Assignment { warm, left: from, ..begin(target, rungs) };
            (Kind::Rollback, assignment, Intake::default())
        }
        Wish::Restart => {
            let Some(serving) = serving else {
                let why = "no release runs";
                return Err(refusal(service, "restarted", why, Exit::PreflightRefused, &["start"]));
            };
            let assignment = begin(serving, ladder::of_restart(serving));
            (Kind::Restart, assignment, Intake::default())
        }
    };
    let passed = passed.into_iter().filter(|_| kind == Kind::Rollback).map(|(_, why)| why);
    launch(service, kind, assignment, intake, passed.collect()).map(Begun::Operation)
}

/// Every release on the disk.
fn verdicts(service: &Service) -> Vec<(ReleaseId, Verdict)> {
    release::all(&service.paths).iter().map(|known| (known.release, known.verdict)).collect()
}

/// Which releases run on the data as it is, and why the others are passed over: they would be a failed
/// rollback.
fn on_the_data(
    service: &Service,
    mut older: Vec<ReleaseId>,
) -> (Vec<ReleaseId>, Vec<(ReleaseId, String)>) {
    let mut passed = Vec::new();
    older.retain(|release| {
        let why = schema::misses(service, *release);
        passed.extend(why.as_ref().map(|why| (*release, format!("passed over: {why}"))));
        why.is_none()
    });
    (older, passed)
}

/// How the release is that a new one is to replace. It is looked at before the turn is taken: a service
/// that hangs keeps nothing else waiting.
async fn before(service: &Rc<Service>, wish: &Wish) -> Result<Before, Trouble> {
    if !matches!(wish, Wish::Release { .. }) {
        return Ok(Before::Answers);
    }
    wish.obstacle(service).map_or(Ok(()), Err)?;
    Ok(standing::of(service).await)
}

/// A running operation keeps others out; a stranded one gives way. Whoever has waited looks again:
/// another may have begun meanwhile. As long as the turn is held, no other task begins an operation,
/// starts the last good release or takes the service down.
async fn make_way<'a>(service: &'a Service, wish: &Wish) -> Result<MutexGuard<'a, ()>, Trouble> {
    let refuse = || wish.obstacle(service).map_or(Ok(()), Err);
    loop {
        // A restore or a stop keeps its turn for long.
        refuse()?;
        let turn = service.activity.starting().await;
        refuse()?;
        let Some(running) = service.activity.operation() else { return Ok(turn) };
        drop(turn);
        running.gives_way().await;
    }
}

fn next_release(service: &Service) -> ReleaseId {
    let on_disk = [service.paths.releases(), service.paths.metas()];
    let highest = on_disk.iter().filter_map(|dir| ServiceLayout::numbers(dir).pop()).max();
    let next = service.durable.state().next_release;
    ReleaseId(next.max(highest.unwrap_or(0) + 1))
}

/// The releases that a rollback tries, or why there is nothing to do.
fn rollback_ladder(
    service: &Service,
    to: Option<ReleaseId>,
    facts: &Facts<'_>,
    passed: &[(ReleaseId, String)],
) -> Result<Result<Vec<ReleaseId>, NothingToDo>, Trouble> {
    let none = |why: String, next: &[&str]| {
        Err(refusal(service, "rolled back", &why, Exit::NoTarget, next))
    };
    let missing = to
        .filter(|to| facts.serving != Some(*to))
        .and_then(|release| schema::misses(service, release));
    if let Some(why) = missing {
        return none(why, &["releases", "restore"]);
    }
    let to_text = to.map(|to| to.to_string()).unwrap_or_default();
    let why = match ladder::of_rollback(to, facts) {
        Ok(rungs) => return Ok(Ok(rungs)),
        Err(NoWay::ServesAlready) => {
            let why = "that release is already serving".to_owned();
            return Ok(Err(NothingToDo { why }));
        }
        Err(NoWay::NothingOlder) => {
            let lines = passed.iter().map(|(_, why)| format!("\n{why}"));
            NOTHING_OLDER.to_owned() + &lines.collect::<String>()
        }
        Err(NoWay::NeverServed(verdict)) => {
            format!("release {to_text} never served (it is {})", verdict.name())
        }
        Err(NoWay::Unknown) => format!("there is no release {to_text} on this disk"),
    };
    none(why, &["releases"])
}

/// Rung 0 of the way back of a release: what it replaces; when that is down, one that is kept warm.
fn warm(service: &Service, ladder: &[ReleaseId], before: Before) -> Option<GenerationId> {
    match (before, ladder.first()) {
        (Before::Down, Some(first)) => {
            ladder::warm(*first, &standbys(service), service.succession())
        }
        _ => service.routing.live(),
    }
}

/// Generations that a rollback may be to at once.
fn standbys(service: &Service) -> Vec<Standby> {
    let generations = service.fleet.all().into_iter();
    let warm = generations
        .filter(|generation| generation.duty() == Duty::Standby && generation.is_whole());
    warm.map(|generation| Standby { generation: generation.id, release: generation.release })
        .collect()
}

fn launch(
    service: &Rc<Service>,
    kind: Kind,
    assignment: Assignment,
    intake: Intake,
    warnings: Vec<String>,
) -> Result<Rc<Operation>, Trouble> {
    let Assignment { op, release, generation: id, old, warm, .. } = assignment;
    let actor = assignment.actor.clone();
    let (operation, orders) = Operation::new(op, kind, actor.clone(), Some(release));
    let plan = plan(service, kind, &assignment.ladder);
    let (strategy, shares) = opened::words(&assignment.strategy);
    let intent = Intent {
        version: journal::version(),
        op: op.0,
        kind: kind.name().to_owned(),
        actor,
        source: assignment.source_name.clone(),
        at: operation.at.borrow().clone(),
        boot_id: service.shared.boot_id.clone(),
        release: release.0,
        generation: id.0,
        old: old.map(|id| id.0),
        warm: warm.map(|id| id.0),
        left: assignment.left.map(|release| release.0),
        ladder: assignment.ladder.iter().map(|release| release.0).collect(),
        before: match assignment.before {
            Before::Answers => String::new(),
            before => before.name().to_owned(),
        },
        inconclusive: plan.inconclusive.name().to_owned(),
        succession: plan.succession.name().to_owned(),
        n_steps: plan.n_steps,
        strategy: strategy.to_owned(),
        shares,
        max_gap_ms: Some(text::ms(assignment.max_gap)),
        force: assignment.terms.force == Force::Yes,
        no_way_back: assignment.terms.no_way_back.clone(),
    };
    let journal = Journal::create(&service.paths, &intent).map_err(|error| {
        refusal(service, "changed", &error.to_string(), Exit::NoSpace, &["status"])
    })?;
    let job = Job::new(assignment, intake, warnings);
    let begun = Rc::clone(&operation);
    runner::begin(service, operation, Machine::begin(plan), job, journal, orders)
        .map_err(|running| refusal::busy(service, &running))?;
    Ok(begun)
}

/// The plan for the state machine.
fn plan(service: &Service, kind: Kind, ladder: &[ReleaseId]) -> Plan {
    let inconclusive = match service.config().settings.bake.inconclusive {
        model::Inconclusive::Promote => Inconclusive::Promote,
        model::Inconclusive::Hold => Inconclusive::Hold,
        model::Inconclusive::Rollback => Inconclusive::Rollback,
    };
    let n_cold = u8::try_from(ladder.len()).unwrap_or(u8::MAX);
    let (succession, n_steps) = (service.succession(), rollout_step::count(service, kind));
    Plan { kind, n_cold, inconclusive, succession, n_steps }
}
