//! A supervisor comes up in the middle of a set: its journal and the operation that it announced
//! last determine where it goes on; the pure core decides.

use std::rc::Rc;

use crate::api::{Event, Outcome};
use crate::core::ids::{OpId, SetId};
use crate::core::release_set;
use crate::core::release_set::{Entry, Seen};
use crate::store::journal;
use crate::store::set::{self as store, Came, Intent, Kind, Record, Step as Line};
use crate::supervisor::release_set::progress::{self, Course};
use crate::supervisor::release_set::runner;
use crate::supervisor::service::release_set::{ReleaseSet, announcement};
use crate::supervisor::service::stack::Stack;

/// An open set.
#[derive(Debug)]
pub(crate) struct Open {
    /// It.
    pub set: Rc<ReleaseSet>,
    intent: Intent,
    records: Vec<Record>,
}

/// The set that was open when the supervisor before this one ended. Asked before any service is
/// taken over, so that its members are reserved for it from the first moment on.
pub(crate) fn find(stack: &Stack) -> Option<Open> {
    match store::open(&stack.shared.layout) {
        Ok(open) => open.map(|(intent, records)| {
            let set = ReleaseSet::new(&intent);
            Open { set, intent, records }
        }),
        Err(error) => {
            tracing::error!(%error, "a set's journal; its members stay as they are");
            None
        }
    }
}

/// Goes on with it, when its members have been taken over.
pub(crate) fn go_on(stack: &Rc<Stack>, open: Open) {
    let Open { set, intent, records } = open;
    let journal = match store::reopen(&stack.shared.layout, set.id) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::error!(set = set.id.0, %error, "a set's journal; its members stay");
            return stack.let_go_of_set();
        }
    };
    let in_flight = announced_last(&records);
    let last = in_flight.map(|(index, kind, op)| seen(stack, &set, index, kind, op));
    let seen = match &last {
        None | Some(Last::Nothing) => Seen::Nothing,
        Some(Last::Runs) => Seen::Runs,
        Some(Last::Over(came, _)) => Seen::Ended(came.event()),
    };
    let entries: Vec<Entry> = records.iter().filter_map(Record::entry).collect();
    let machine = release_set::recover(&intent.before(), &entries, seen);
    tracing::info!(set = set.id.0, next = ?machine.stage(), ?seen, "resuming a set");
    let told = if in_flight.is_some() { last_begin(&records) } else { records.len() };
    for event in events(stack, &intent, &records[..told]) {
        set.tell(event);
    }
    let mut course = Course::new(&intent, machine, journal);
    for record in &records {
        match &record.step {
            Line::End { member, .. } => {
                let known = course.members.iter_mut().find(|m| m.service == member.service);
                if let Some(known) = known {
                    known.clone_from(member);
                }
            }
            Line::Back { turn } => course.turn = Some(turn.clone()),
            Line::Begin { aborted_by: Some(actor), .. } => set.note_aborted(actor),
            Line::Begin { .. } | Line::Done { .. } => {}
        }
    }
    match (in_flight, last) {
        (Some((_, _, op)), Some(Last::Runs)) => course.in_flight = Some(op),
        (Some((index, kind, _)), Some(Last::Over(came, outcome))) => {
            let before = &course.members[index];
            let member = match outcome {
                Some(outcome) => progress::member(before, kind, &outcome),
                None => runner::stuck(before, "the result of its operation is unknown"),
            };
            course.note_end(&set, index, came, member);
        }
        // Announced and not begun: a rollback is begun again, a release is not.
        (Some((index, Kind::Release, _)), Some(Last::Nothing)) => {
            let before = course.members[index].clone();
            course.note_end(&set, index, Came::Unchanged, before);
        }
        _ => {}
    }
    course.say_if_turned(&set, in_flight.map(|(index, ..)| index));
    runner::spawn(stack, &set, course);
}

/// The operation that was announced last and has no end here.
fn announced_last(records: &[Record]) -> Option<(usize, Kind, OpId)> {
    let mut found = None;
    for record in records {
        match &record.step {
            Line::Begin { index, kind, op, .. } => found = Some((*index, *kind, OpId(*op))),
            Line::End { .. } => found = None,
            Line::Back { .. } | Line::Done { .. } => {}
        }
    }
    found
}

/// What is found of the operation that was announced last.
enum Last {
    /// It was not begun.
    Nothing,
    /// It goes on.
    Runs,
    /// It is over, or its state is unknown.
    Over(Came, Option<Box<Outcome>>),
}

fn seen(stack: &Stack, set: &ReleaseSet, index: usize, kind: Kind, op: OpId) -> Last {
    let over = |outcome: Outcome| Last::Over(progress::came(kind, &outcome), Some(outcome.into()));
    let unknown = Last::Over(Came::Stuck, None);
    let service = stack.services.borrow().get(&set.members[index].0).cloned();
    let Some(service) = service else { return unknown };
    if let Some(operation) = service.activity.operation_of(op) {
        let outcome = operation.outcome.borrow().clone();
        return outcome.map_or(Last::Runs, over);
    }
    match journal::read(&service.paths, op) {
        Ok(None) => Last::Nothing,
        Ok(Some((_, records))) => {
            records.into_iter().find_map(|record| record.outcome).map_or(unknown, over)
        }
        Err(error) => {
            tracing::error!(service = %service.name, %error, "a journal");
            unknown
        }
    }
}

/// The place of the last announcement, before the lines that repeat it.
fn last_begin(records: &[Record]) -> usize {
    let is_begin = |record: &Record| matches!(record.step, Line::Begin { aborted_by: None, .. });
    records.iter().rposition(is_begin).unwrap_or(records.len())
}

/// All events that watchers received for these lines, without the first.
fn events(stack: &Stack, intent: &Intent, records: &[Record]) -> Vec<Event> {
    records.iter().flat_map(|record| events_of(stack, intent, record)).collect()
}

fn events_of(stack: &Stack, intent: &Intent, record: &Record) -> Vec<Event> {
    let (index, op) = match &record.step {
        Line::Begin { aborted_by: Some(_), .. } => return Vec::new(),
        Line::Begin { index, op, .. } => (*index, OpId(*op)),
        Line::End { member, .. } => return vec![Event::Member(Box::new(member.clone()))],
        Line::Back { .. } => return Vec::new(),
        Line::Done { outcome } => return vec![Event::Result(outcome.clone())],
    };
    let name = intent.members.get(index).and_then(|member| member.service.parse().ok());
    let read = name.and_then(|name| {
        let paths = stack.shared.layout.service(&name);
        Some((name, journal::read(&paths, op).ok()??))
    });
    let Some((name, (intent, records))) = read else { return Vec::new() };
    let first = Event::Operation {
        service: name.to_string(),
        op: op.0,
        kind: intent.kind,
        release: Some(intent.release),
        actor: intent.actor,
        at: intent.at,
    };
    let phases = records.iter().filter(|r| r.outcome.is_none()).filter_map(journal::Record::event);
    std::iter::once(first).chain(phases).collect()
}

/// A set that is over, from its beginning to its result. `None` when it does not exist.
///
/// # Errors
/// When its journal cannot be read.
pub(crate) fn replay(stack: &Stack, set: SetId) -> Result<Option<Vec<Event>>, store::SetError> {
    let Some((intent, records)) = store::read(&stack.shared.layout, set)? else { return Ok(None) };
    let mut all = vec![announcement(&intent)];
    all.extend(events(stack, &intent, &records));
    Ok(Some(all))
}
