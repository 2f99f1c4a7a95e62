//! A set on its way: each stage of its machine is performed by an ordinary operation of the member,
//! announced by its number before it is begun.
//!
//! Killed between any two instructions, the next supervisor finds the number and sees whether that
//! operation exists, goes on or is over: [`crate::supervisor::release_set::resume`].

use std::rc::Rc;

use crate::api::{Event, Member, Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::core::release_set::Stage;
use crate::store::journal;
use crate::store::set::{Came, Kind};
use crate::supervisor::operation::admission::{self, Begun, Wish};
use crate::supervisor::release_set::conclude;
use crate::supervisor::release_set::progress::{self, Course};
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::refusal;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::terms::Terms;
use crate::supervisor::spawn;

/// Sets a set running.
pub(crate) fn spawn(stack: &Rc<Stack>, set: &Rc<ReleaseSet>, course: Course) {
    set.journal.replace(Some(Rc::clone(&course.journal)));
    let (stack, own) = (Rc::clone(stack), Rc::clone(set));
    let task = spawn::local(async move { run(&stack, &own, course).await });
    set.task.replace(Some(task));
}

async fn run(stack: &Rc<Stack>, set: &Rc<ReleaseSet>, mut course: Course) {
    loop {
        let (index, kind) = match course.machine.stage() {
            Stage::Done(ended) => return conclude::finish(stack, set, course, ended),
            Stage::Release(index) => (index, Kind::Release),
            Stage::Rollback(index) => (index, Kind::Rollback),
        };
        set.place.set(Some((index, kind)));
        let (came, member) = perform(stack, set, &mut course, index, kind).await;
        set.operation.replace(None);
        set.is_held.set(false);
        if (came, kind) == (Came::Stuck, Kind::Rollback) {
            raise_alarm(stack, set, index, member.why.as_deref().unwrap_or_default());
        }
        course.ended(set, index, came, member);
    }
}

/// Releases a member, or rolls it back.
async fn perform(
    stack: &Rc<Stack>,
    set: &Rc<ReleaseSet>,
    course: &mut Course,
    index: usize,
    kind: Kind,
) -> (Came, Member) {
    let before = course.members[index].clone();
    let service = stack.services.borrow().get(&set.members[index].0).cloned();
    let Some(service) = service else {
        return (Came::Stuck, stuck(&before, "this service cannot be managed"));
    };
    let begun = match course.in_flight.take() {
        Some(op) => {
            let found = service.activity.operation_of(op).map(Begun::Operation);
            found.ok_or_else(|| refusal(&service, "its operation is gone"))
        }
        None => begin_one(&service, set, course, index, kind).await,
    };
    let operation = match begun {
        Ok(Begun::Operation(operation)) => operation,
        Ok(Begun::NothingToDo(_)) => return (Came::Back, back(&service, &before)),
        Err(why) => return not_begun(&service, &before, kind, &why),
    };
    set.operation.replace(Some(Rc::clone(&operation)));
    set.pass_abort_on();
    match follow(set, &service, &operation).await {
        Followed::Over(outcome) => {
            (progress::came(kind, &outcome), progress::member(&before, kind, &outcome))
        }
        // It tries on by itself; the set does not wait for better times.
        Followed::Left(why) => {
            let op = Some(operation.id.0);
            let release = operation.release.get().map(|release| release.0);
            let (op, release, back) = match kind {
                Kind::Release => (op, release, None),
                Kind::Rollback => (before.op, before.release, op),
            };
            (Came::Stuck, Member { op, release, back, ..stuck(&before, &why) })
        }
    }
}

async fn begin_one(
    service: &Rc<Service>,
    set: &Rc<ReleaseSet>,
    course: &mut Course,
    index: usize,
    kind: Kind,
) -> Result<Begun, Trouble> {
    let wish = match kind {
        Kind::Release => {
            if let Some(actor) = set.aborted_by() {
                return Err(aborted(service, &actor));
            }
            let artifact = course.take_artifact(index);
            let gone = || refusal(service, "its artifact is no longer on this host");
            let artifact = artifact.ok_or_else(gone)?;
            Wish::Release {
                source: artifact.source,
                name: artifact.name,
                terms: Terms::with(artifact.force),
            }
        }
        Kind::Rollback => Wish::Rollback { to: set.before(&service.name).map(|to| to.0) },
    };
    let op = journal::next_op(&service.paths);
    match (course.announce(index, kind, op), kind) {
        (Ok(()), _) => {}
        (Err(error), Kind::Release) => {
            return Err(refusal::refusal(
                service,
                "released",
                &error.to_string(),
                Exit::NoSpace,
                &["status"],
            ));
        }
        // A journal that cannot be written does not stop a way back.
        (Err(error), Kind::Rollback) => {
            tracing::error!(service = %service.name, %error, "announcing a rollback");
        }
    }
    admission::begin_member(service, &set.actor, wish).await
}

/// How far a member's operation was followed.
enum Followed {
    /// To its result.
    Over(Box<Outcome>),
    /// It goes on without an end, or ended without a result, for this reason.
    Left(String),
}

/// Passes an operation's events on until its result, or until it is stranded.
async fn follow(set: &ReleaseSet, service: &Service, operation: &Operation) -> Followed {
    set.tell(operation.announcement(&service.name));
    let mut grew = operation.events.watch();
    let mut n_told = 0;
    loop {
        grew.borrow_and_update();
        for (number, event) in operation.events.after(n_told) {
            n_told = number;
            match event {
                Event::Operation { .. } => {}
                Event::Result(outcome) => return Followed::Over(outcome),
                event => set.tell(event),
            }
        }
        set.is_held.set(operation.is_held());
        if let Some(why) = operation.why_stranded() {
            return Followed::Left(why);
        }
        if grew.changed().await.is_err() {
            return Followed::Left("its operation ended without a result".to_owned());
        }
    }
}

/// A member whose release before the set serves already: only a rollback has nothing to do.
fn back(service: &Service, before: &Member) -> Member {
    Member {
        outcome: Word::RolledBack.into(),
        exit: Some(Exit::RolledBack.code()),
        serving: service.serving().map(|release| release.0),
        why: Some("rolled back with the set".to_owned()),
        ..before.clone()
    }
}

/// An operation that was not begun changes nothing.
fn not_begun(service: &Service, before: &Member, kind: Kind, why: &Trouble) -> (Came, Member) {
    let serving = service.serving().map(|release| release.0);
    match kind {
        Kind::Rollback => (Came::Stuck, Member { serving, ..stuck(before, &why.why) }),
        Kind::Release => {
            let is_aborted = why.meaning() == Exit::Aborted;
            let word = if is_aborted { Word::Aborted } else { Word::Rejected };
            let member = Member {
                outcome: word.into(),
                exit: Some(why.exit),
                serving,
                why: Some(why.why.clone()),
                ..before.clone()
            };
            (Came::Unchanged, member)
        }
    }
}

/// A member whose rollback failed.
pub(crate) fn stuck(before: &Member, why: &str) -> Member {
    Member {
        outcome: Word::RollbackFailed.into(),
        exit: Some(Exit::RollbackFailed.code()),
        why: Some(why.to_owned()),
        ..before.clone()
    }
}

fn refusal(service: &Service, why: &str) -> Trouble {
    refusal::refusal(service, "released", why, Exit::Internal, &["status"])
}

fn aborted(service: &Service, actor: &str) -> Trouble {
    refusal::refusal(
        service,
        "released",
        &format!("aborted by {actor}"),
        Exit::Aborted,
        &["status"],
    )
}

/// A member did not roll back with the others: raises an alarm until its next commit.
fn raise_alarm(stack: &Stack, set: &ReleaseSet, index: usize, why: &str) {
    let service = stack.services.borrow().get(&set.members[index].0).cloned();
    let Some(service) = service else { return };
    if service.durable.state().alarm.is_some() {
        return;
    }
    let name = &service.name;
    let to = set.before(name).map_or(String::new(), |to| format!(" --to {to}"));
    let alarm = Trouble {
        what: format!("{name}: the rollback failed, with set {}", set.id),
        why: why.to_owned(),
        still: refusal::still(&service),
        next: vec![format!("halley-sup status {name}"), format!("halley-sup rollback {name}{to}")],
        exit: Exit::RollbackFailed.code(),
    };
    if let Err(error) = service.durable.save(|state| state.alarm = Some(alarm)) {
        tracing::error!(service = %name, %error, "saving the alarm");
    }
}
