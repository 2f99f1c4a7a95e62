//! The end of a set: its result, reported per member; the history; its members are free again.

use std::rc::Rc;

use crate::api::{Event, Member, Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::SetId;
use crate::core::operation::outcome::{self, Word};
use crate::core::release_set::{Ended, Fate};
use crate::store::journal;
use crate::store::set::{Record, Step, Turn};
use crate::supervisor::notify::message::{Message, Subject};
use crate::supervisor::release_set::progress::{Course, closed};
use crate::supervisor::service::outcome::remember;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::stack::Stack;

/// Ends a set.
pub(crate) fn finish(stack: &Rc<Stack>, set: &Rc<ReleaseSet>, mut course: Course, ended: Ended) {
    let fates = course.machine.fates();
    for (member, fate) in course.members.iter_mut().zip(fates) {
        let services = stack.services.borrow();
        let service = services.iter().find(|(name, _)| name.as_str() == member.service);
        member.serving = service.and_then(|(_, service)| service.serving()).map(|id| id.0);
        if fate == Fate::Kept {
            member.outcome = Word::Kept.into();
            member.why = Some("its first release: no earlier release exists".to_owned());
        }
    }
    let turn = course.turn.take().unwrap_or_else(|| closed(set));
    let mut outcome = outcome(set.id, course.members, ended, &turn);
    let (notice, message) = Message::of_outcome(&outcome, Subject::Set, &set.at);
    outcome.warnings.extend(stack.shared.outbox.post(notice, message));
    let line = Record::new(Step::Done { outcome: Box::new(outcome.clone()) });
    if let Err(error) = course.journal.borrow_mut().announce(&line) {
        tracing::error!(set = set.id.0, %error, "recording a set's result");
    }
    stack.let_go_of_set();
    set.outcome.replace(Some(outcome.clone()));
    set.tell(Event::Result(Box::new(outcome.clone())));
    remember(&stack.shared, &outcome, "set", &set.actor, set.started);
    for (path, error) in journal::prune(&stack.shared.layout.sets()) {
        tracing::warn!(path = %path.display(), %error, "pruning a set's journal");
    }
}

/// The result as everybody sees it.
fn outcome(set: SetId, members: Vec<Member>, ended: Ended, turn: &Turn) -> Outcome {
    // What the set took back, it had flipped.
    let n_taken_back = members.iter().filter(|member| member.back.is_some()).count();
    let (word, exit) = match outcome::of_set(ended, n_taken_back) {
        Some((word, exit)) => (word.into(), exit.code()),
        None => (turn.outcome.clone(), turn.exit),
    };
    let names: Vec<&str> = members.iter().map(|member| member.service.as_str()).collect();
    let kept = members.iter().filter(|member| member.outcome == Word::Kept);
    let warnings = kept.map(|member| {
        let number = member.release.map_or(String::new(), |release| format!(" {release}"));
        format!("{}: release{number} stays live: no earlier release exists", member.service)
    });
    let trouble =
        (exit != Exit::Done.code()).then(|| trouble(set, &members, word.known(), exit, turn));
    Outcome {
        exit,
        warnings: warnings.collect(),
        next: trouble.as_ref().map_or_else(Vec::new, |trouble| trouble.next.clone()),
        trouble,
        members: members.clone(),
        ..Outcome::new(word, &names.join(","), set.0)
    }
}

fn trouble(set: SetId, members: &[Member], word: Option<Word>, exit: u8, turn: &Turn) -> Trouble {
    let stuck: Vec<&Member> =
        members.iter().filter(|m| m.outcome == Word::RollbackFailed).collect();
    let what = match word {
        Some(Word::RollbackFailed) => {
            let names: Vec<&str> = stuck.iter().map(|member| member.service.as_str()).collect();
            format!("set {set}: the rollback of {} failed", names.join(", "))
        }
        Some(Word::RolledBack) => format!("set {set} was rolled back"),
        _ => format!("set {set} did not go live"),
    };
    let blame = |name: &str, why: &str| format!("{name}: {why}");
    let mut why = match &turn.service {
        Some(name) => blame(name, &turn.why),
        None => turn.why.clone(),
    };
    for member in stuck.iter().filter(|member| turn.service.as_ref() != Some(&member.service)) {
        why.push('\n');
        why.push_str(&blame(&member.service, member.why.as_deref().unwrap_or_default()));
    }
    let still = members.iter().map(|member| match member.serving {
        Some(serving) => format!("{}: release {serving} is serving", member.service),
        None => format!("{}: nothing is serving", member.service),
    });
    let mut next: Vec<String> =
        stuck.iter().map(|member| format!("halley-sup status {}", member.service)).collect();
    if let Some((name, release)) = turn.service.as_ref().and_then(|name| {
        let member = members.iter().find(|member| member.service == *name)?;
        // What was rejected was never started, and has no log.
        let was_started = member.op.is_some() && member.outcome != Word::Rejected;
        Some((name, member.release.filter(|_| was_started)?))
    }) {
        next.push(format!("halley-sup logs {name} --release {release}"));
    }
    let again: Vec<String> = members.iter().map(|m| format!("{}=SOURCE", m.service)).collect();
    next.push(format!("halley-sup release --set {}", again.join(",")));
    let still: Vec<String> = still.collect();
    Trouble { what, why, still: still.join("\n"), next, exit }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn member(service: &str, outcome: &str, exit: u8, back: Option<u64>) -> Member {
        Member {
            service: service.to_owned(),
            op: Some(7),
            release: Some(2),
            outcome: outcome.to_owned().into(),
            exit: Some(exit),
            serving: Some(1),
            back,
            why: Some(format!("why {service}")),
        }
    }

    fn turn(service: Option<&str>, outcome: &str, exit: u8) -> Turn {
        let (service, why) = (service.map(str::to_owned), "it answers 503".to_owned());
        Turn { service, outcome: outcome.to_owned().into(), exit, why }
    }

    #[track_caller]
    fn check(members: &[Member], ended: Ended, turn: &Turn, expected: (&str, u8, &str)) {
        let outcome = outcome(SetId(3), members.to_vec(), ended, turn);
        let what = outcome.trouble.as_ref().map_or("", |trouble| trouble.what.as_str());
        assert_eq!((outcome.outcome.name(), outcome.exit, what), expected);
    }

    #[test]
    fn the_exit_code_says_what_the_host_is_like() {
        let good = member("api", "committed", 0, None);
        let back = member("api", "rolled_back", 21, Some(8));
        let bad = member("web", "gate_failed", 20, None);
        let gate = turn(Some("web"), "gate_failed", 20);
        check(slice::from_ref(&good), Ended::Committed, &gate, ("committed", 0, ""));
        let what = "set 3 did not go live";
        check(slice::from_ref(&bad), Ended::Back, &gate, ("gate_failed", 20, what));
        let what = "set 3 was rolled back";
        check(&[back, bad.clone()], Ended::Back, &gate, ("rolled_back", 21, what));
        let baked = turn(Some("web"), "rolled_back", 21);
        check(slice::from_ref(&bad), Ended::Back, &baked, ("rolled_back", 21, what));
        let stuck = member("api", "rollback_failed", 30, Some(8));
        let what = "set 3: the rollback of api failed";
        check(&[stuck, bad], Ended::Stuck, &gate, ("rollback_failed", 30, what));
        let what = "set 3 did not go live";
        check(&[good], Ended::Back, &turn(None, "aborted", 23), ("aborted", 23, what));
    }

    #[test]
    fn an_error_names_every_member_that_matters() {
        let stuck = member("api", "rollback_failed", 30, Some(8));
        let bad = member("web", "gate_failed", 20, None);
        let gate = turn(Some("web"), "gate_failed", 20);
        let trouble = outcome(SetId(3), vec![stuck, bad], Ended::Stuck, &gate).trouble.unwrap();
        assert_eq!(trouble.why, "web: it answers 503\napi: why api");
        assert_eq!(trouble.still, "api: release 1 is serving\nweb: release 1 is serving");
        assert_eq!(
            trouble.next,
            [
                "halley-sup status api",
                "halley-sup logs web --release 2",
                "halley-sup release --set api=SOURCE,web=SOURCE"
            ]
        );
    }

    #[test]
    fn a_first_release_that_stays_is_said() {
        let kept = Member { serving: Some(2), ..member("api", "kept", 0, None) };
        let bad = member("web", "gate_failed", 20, None);
        let outcome =
            outcome(SetId(3), vec![kept, bad], Ended::Back, &turn(Some("web"), "gate_failed", 20));
        assert_eq!(outcome.exit, 20);
        assert_eq!(outcome.warnings, ["api: release 2 stays live: no earlier release exists"]);
    }
}
