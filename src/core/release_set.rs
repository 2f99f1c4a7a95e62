//! A set: releases of several services as one, one member after the other, all or none.
//!
//! A stage *is* the one effect that is in flight: the shell announces it in the set's journal,
//! performs it by an ordinary operation of that member, and hands the machine what came of it. The
//! next member begins only when the one before is committed. The first that does not make it turns
//! the set round: members that were committed are rolled back, newest first.

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was not begun.
    Waiting,
    /// Its release is the last good one.
    Committed,
    /// Its release did not make it; what served before serves.
    Unchanged,
    /// It was committed, and the set took it back.
    Back,
    /// It was committed as its service's first release: there is nothing to go back to.
    Kept,
    /// A rollback of it failed, its own or the set's.
    Stuck,
}

/// Where a set stands: the effect to perform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Release this member.
    Release(usize),
    /// Roll this member back to what served before the set.
    Rollback(usize),
    /// Over.
    Done(Ended),
}

/// How a set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// All members are committed.
    Committed,
    /// What served before serves, wherever something served.
    Back,
    /// A rollback of at least one member failed.
    Stuck,
}

/// What came of the effect in flight, or happened meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The release in flight is committed.
    Committed,
    /// It is not, and what served before serves; a rollback in flight has changed nothing.
    Unchanged,
    /// The rollback in flight was done.
    Back,
    /// A rollback failed: the set's, or the one that the release in flight did by itself.
    Stuck,
    /// `abort` was ordered: the effect in flight ends as it does, no other release begins.
    Abort,
}

/// What the set's journal says, line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// An effect was announced.
    Begun(Stage),
    /// It ended so.
    Ended(Event),
    /// The set was turned round.
    Turned,
}

/// What is seen of the operation that was announced last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// There is none: it was not begun.
    Nothing,
    /// It goes on.
    Runs,
    /// It is over.
    Ended(Event),
}

/// One set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// Whether the member served before, and what became of it.
    members: Vec<(Before, Fate)>,
    stage: Stage,
    /// No member is begun any more: `abort` was ordered, or the artifacts are gone.
    closed: bool,
}

/// What a member can go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Before {
    /// A release that was the last good one when the set began.
    Something,
    /// Nothing: the set brings its first release.
    Nothing,
}

impl Set {
    /// A set at its first member.
    #[must_use]
    pub fn begin(members: &[Before]) -> Self {
        let stage =
            if members.is_empty() { Stage::Done(Ended::Committed) } else { Stage::Release(0) };
        let members = members.iter().map(|before| (*before, Fate::Waiting)).collect();
        Self { members, stage, closed: false }
    }

    /// The effect to perform.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What became of each member.
    #[must_use]
    pub fn fates(&self) -> Vec<Fate> {
        self.members.iter().map(|(_, fate)| *fate).collect()
    }

    /// Takes one event in. `Some` is the next effect; `None` means that the event changes nothing
    /// and the effect in flight goes on.
    pub fn step(&mut self, event: Event) -> Option<Stage> {
        let next = match (self.stage, event) {
            (Stage::Release(member), Event::Committed) => {
                self.note(member, Fate::Committed);
                match member + 1 {
                    // The last commit is the set's: an abort came too late.
                    next if next == self.members.len() => Stage::Done(Ended::Committed),
                    _ if self.closed => self.turned(),
                    next => Stage::Release(next),
                }
            }
            (Stage::Release(member), Event::Unchanged) => {
                self.note(member, Fate::Unchanged);
                self.turned()
            }
            (Stage::Release(member) | Stage::Rollback(member), Event::Stuck) => {
                self.note(member, Fate::Stuck);
                self.turned()
            }
            (Stage::Rollback(member), Event::Back) => {
                self.note(member, Fate::Back);
                self.turned()
            }
            (Stage::Release(_), Event::Abort) => {
                self.closed = true;
                return None;
            }
            // A crash undid it before it had done anything: it is begun again.
            (Stage::Rollback(member), Event::Unchanged) => Stage::Rollback(member),
            // On the way back an abort changes nothing; the others belong to another effect.
            (Stage::Release(_), Event::Back)
            | (Stage::Rollback(_), Event::Committed | Event::Abort)
            | (Stage::Done(_), _) => return None,
        };
        self.stage = next;
        Some(next)
    }

    /// No further member is begun: the members that were committed go back.
    pub fn turn(&mut self) {
        if matches!(self.stage, Stage::Release(_)) {
            self.stage = self.turned();
        }
    }

    fn note(&mut self, member: usize, fate: Fate) {
        if let Some((_, noted)) = self.members.get_mut(member) {
            *noted = fate;
        }
    }

    /// The newest member that is committed and can go back; the end when there is none.
    fn turned(&mut self) -> Stage {
        for (index, (before, fate)) in self.members.iter_mut().enumerate().rev() {
            match (*fate, *before) {
                (Fate::Committed, Before::Something) => return Stage::Rollback(index),
                (Fate::Committed, Before::Nothing) => *fate = Fate::Kept,
                _ => {}
            }
        }
        let is_stuck = self.members.iter().any(|(_, fate)| *fate == Fate::Stuck);
        Stage::Done(if is_stuck { Ended::Stuck } else { Ended::Back })
    }
}

/// The set to go on with after the supervisor, or the machine, went down. The artifacts of members
/// that were not begun are gone with the client's descriptors: none of them is begun any more.
#[must_use]
pub fn recover(members: &[Before], entries: &[Entry], seen: Seen) -> Set {
    let mut set = Set::begin(members);
    let mut announced = None;
    for entry in entries {
        match entry {
            Entry::Begun(stage) => {
                if matches!(stage, Stage::Rollback(_)) {
                    set.turn();
                }
                announced = Some(*stage);
            }
            Entry::Ended(event) => {
                announced = None;
                set.step(*event);
            }
            Entry::Turned => set.turn(),
        }
    }
    let is_announced = announced == Some(set.stage);
    set.closed = true;
    match (set.stage, seen) {
        (_, Seen::Runs) if is_announced => {}
        (_, Seen::Ended(event)) if is_announced => drop(set.step(event)),
        // It was announced and has changed nothing.
        (Stage::Release(_), Seen::Nothing) if is_announced => drop(set.step(Event::Unchanged)),
        // A rollback that was not begun is begun; a release is not.
        _ => set.turn(),
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use Before::{Nothing, Something};

    fn fates(before: &[Before], events: &[Event]) -> (Vec<Fate>, Stage) {
        let mut set = Set::begin(before);
        for event in events {
            set.step(*event);
        }
        (set.fates(), set.stage())
    }

    #[track_caller]
    fn check(before: &[Before], events: &[Event], expected: &[Fate], stage: Stage) {
        assert_eq!(fates(before, events), (expected.to_vec(), stage), "{events:?}");
    }

    #[test]
    fn members_are_released_one_after_the_other() {
        use Fate::*;
        let all = [Something; 3];
        check(&all, &[], &[Waiting; 3], Stage::Release(0));
        check(&all, &[Event::Committed], &[Committed, Waiting, Waiting], Stage::Release(1));
        check(&all, &[Event::Committed; 3], &[Committed; 3], Stage::Done(Ended::Committed));
        check(&[], &[], &[], Stage::Done(Ended::Committed));
    }

    #[test]
    fn the_first_failure_takes_the_others_back_newest_first() {
        use Fate::*;
        let all = [Something; 3];
        let events = [Event::Committed, Event::Committed, Event::Unchanged, Event::Back];
        check(&all, &events[..3], &[Committed, Committed, Unchanged], Stage::Rollback(1));
        check(&all, &events, &[Committed, Back, Unchanged], Stage::Rollback(0));
        let events = [&events[..], &[Event::Back]].concat();
        check(&all, &events, &[Back, Back, Unchanged], Stage::Done(Ended::Back));
        check(&all, &[Event::Unchanged], &[Unchanged, Waiting, Waiting], Stage::Done(Ended::Back));
    }

    #[test]
    fn a_rollback_that_fails_does_not_keep_the_others_from_theirs() {
        use Fate::*;
        let all = [Something; 3];
        let events = [Event::Committed, Event::Committed, Event::Unchanged, Event::Stuck];
        check(&all, &events, &[Committed, Stuck, Unchanged], Stage::Rollback(0));
        let events = [&events[..], &[Event::Back]].concat();
        check(&all, &events, &[Back, Stuck, Unchanged], Stage::Done(Ended::Stuck));
        let own = [Event::Committed, Event::Stuck, Event::Back];
        check(&all, &own, &[Back, Stuck, Waiting], Stage::Done(Ended::Stuck));
    }

    #[test]
    fn a_first_release_has_nothing_to_go_back_to() {
        use Fate::*;
        let before = [Something, Nothing, Something];
        let events = [Event::Committed, Event::Committed, Event::Unchanged];
        check(&before, &events, &[Committed, Kept, Unchanged], Stage::Rollback(0));
        let first = [Event::Committed, Event::Unchanged];
        check(&[Nothing; 2], &first, &[Kept, Unchanged], Stage::Done(Ended::Back));
    }

    #[test]
    fn after_an_abort_no_member_is_begun_and_the_last_commit_stands() {
        use Fate::*;
        let all = [Something; 2];
        let events = [Event::Abort, Event::Committed];
        check(&all, &events, &[Committed, Waiting], Stage::Rollback(0));
        let late = [Event::Committed, Event::Abort, Event::Committed];
        check(&all, &late, &[Committed; 2], Stage::Done(Ended::Committed));
        let back = [Event::Committed, Event::Unchanged, Event::Abort];
        check(&all, &back, &[Committed, Unchanged], Stage::Rollback(0));
    }

    #[track_caller]
    fn recovered(entries: &[Entry], seen: Seen, expected: Stage) {
        let set = recover(&[Something; 3], entries, seen);
        assert_eq!(set.stage(), expected, "{entries:?} {seen:?}");
    }

    #[test]
    fn after_a_crash_what_runs_is_followed_and_nothing_new_is_released() {
        use Entry::{Begun, Ended as Over};
        let first = [Begun(Stage::Release(0))];
        recovered(&[], Seen::Nothing, Stage::Done(Ended::Back));
        recovered(&first, Seen::Nothing, Stage::Done(Ended::Back));
        recovered(&first, Seen::Runs, Stage::Release(0));
        recovered(&first, Seen::Ended(Event::Committed), Stage::Rollback(0));
        recovered(&first, Seen::Ended(Event::Unchanged), Stage::Done(Ended::Back));
        let between = [first[0], Over(Event::Committed)];
        recovered(&between, Seen::Nothing, Stage::Rollback(0));
        let second = [&between[..], &[Begun(Stage::Release(1))]].concat();
        recovered(&second, Seen::Runs, Stage::Release(1));
        recovered(&second, Seen::Nothing, Stage::Rollback(0));
        let third = [&second[..], &[Over(Event::Committed), Begun(Stage::Release(2))]].concat();
        recovered(&third, Seen::Ended(Event::Committed), Stage::Done(Ended::Committed));
        recovered(&third, Seen::Ended(Event::Unchanged), Stage::Rollback(1));
        let mut followed = recover(&[Something; 3], &first, Seen::Runs);
        assert_eq!(followed.step(Event::Committed), Some(Stage::Rollback(0)));
    }

    #[test]
    fn after_a_crash_the_way_back_goes_on_where_it_was() {
        use Entry::{Begun, Ended as Over, Turned};
        let turned = [Begun(Stage::Release(0)), Over(Event::Committed), Turned];
        recovered(&turned, Seen::Nothing, Stage::Rollback(0));
        let unsaid = [turned[0], turned[1], Begun(Stage::Rollback(0))];
        recovered(&unsaid, Seen::Ended(Event::Back), Stage::Done(Ended::Back));
        let begun = [&turned[..], &[Begun(Stage::Rollback(0))]].concat();
        recovered(&begun, Seen::Nothing, Stage::Rollback(0));
        recovered(&begun, Seen::Runs, Stage::Rollback(0));
        recovered(&begun, Seen::Ended(Event::Back), Stage::Done(Ended::Back));
        recovered(&begun, Seen::Ended(Event::Stuck), Stage::Done(Ended::Stuck));
        recovered(&begun, Seen::Ended(Event::Unchanged), Stage::Rollback(0));
        let over = [&begun[..], &[Over(Event::Back)]].concat();
        recovered(&over, Seen::Nothing, Stage::Done(Ended::Back));
    }
}
