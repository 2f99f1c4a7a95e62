//! A set of three in a small world: crashes between any two of its steps, failures of any release
//! or rollback, aborts, and lines of its journal that a power cut takes.

use halley_sup::core::release_set::{Before, Ended, Entry, Event, Fate, Seen, Set, Stage, recover};
use stateright::{Checker, Model, Property};

/// What a member's users get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Serving {
    Old,
    New,
    /// A rollback failed, loudly.
    Stuck,
}

/// The operation that a member had last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    None,
    Runs(Stage),
    Over(Stage, Event),
}

/// Where the shell is between two stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// The stage is not announced.
    Idle,
    /// It is, and its operation is not begun.
    Announced,
    /// Its operation is begun.
    Begun,
    /// Its end is in the journal, and the machine does not know it.
    Noted(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    set: Set,
    journal: Vec<Entry>,
    place: Place,
    operations: Vec<Operation>,
    serving: Vec<Serving>,
    n_faults: u8,
    crashed: bool,
    /// What must never happen, and happened.
    mark: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The shell's next step.
    Go,
    /// The operation in flight ends well.
    Ends,
    /// It does not, and what served before serves.
    Fails,
    /// It does not, and there was no way back.
    Sticks,
    Abort,
    Crash,
    /// The last line was not on the disk.
    PowerCut,
}

/// What is looked for; and the real recovery, or one that forgets something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Real,
    /// It begins members after a crash whose artifacts are gone.
    Begins,
    /// It takes an operation that was not begun for one that went well.
    Trusts,
}

struct System {
    before: [Before; 3],
    n_faults: u8,
    variant: Variant,
}

impl World {
    fn stage(&self) -> Option<(usize, Stage)> {
        match self.set.stage() {
            stage @ (Stage::Release(index) | Stage::Rollback(index)) => Some((index, stage)),
            Stage::Done(_) => None,
        }
    }

    fn must(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.mark.get_or_insert(what);
        }
    }

    fn go(&mut self) -> Option<()> {
        let (index, stage) = self.stage()?;
        match self.place {
            Place::Idle => {
                self.journal.push(Entry::Begun(stage));
                self.place = Place::Announced;
            }
            Place::Announced => self.begin(index, stage),
            Place::Begun => {
                let Operation::Over(_, event) = self.operations[index] else { return None };
                self.journal.push(Entry::Ended(event));
                self.place = Place::Noted(event);
            }
            Place::Noted(event) => {
                self.set.step(event);
                let is_forward =
                    matches!(self.set.stage(), Stage::Release(_) | Stage::Done(Ended::Committed));
                if !is_forward && !self.journal.contains(&Entry::Turned) {
                    self.journal.push(Entry::Turned);
                }
                self.place = Place::Idle;
            }
        }
        Some(())
    }

    fn begin(&mut self, index: usize, stage: Stage) {
        let is_alone = !self.operations.iter().any(|own| matches!(own, Operation::Runs(_)));
        self.must(is_alone, "one at a time");
        match stage {
            Stage::Release(_) => {
                self.must(!self.crashed, "nothing is released without its artifact");
                let first = self.serving[..index].iter().all(|own| *own == Serving::New);
                self.must(first, "a member waits for those before it");
            }
            _ => {
                let fates = self.set.fates();
                let last = (index + 1..fates.len())
                    .all(|later| self.serving[later] != Serving::New || fates[later] == Fate::Kept);
                self.must(last, "the newest goes back first");
                self.must(self.serving[index] == Serving::New, "only what is new goes back");
            }
        }
        self.operations[index] = Operation::Runs(stage);
        self.place = Place::Begun;
    }

    /// The operation in flight is over. It goes on without a supervisor's set.
    fn end(&mut self, action: Action) -> Option<()> {
        let index = self.operations.iter().position(|own| matches!(own, Operation::Runs(_)))?;
        let Operation::Runs(stage) = self.operations[index] else { return None };
        let (event, serving) = match (stage, action) {
            (_, Action::Sticks) => (Event::Stuck, Serving::Stuck),
            (Stage::Release(_), Action::Fails) => (Event::Unchanged, self.serving[index]),
            (Stage::Release(_), _) => (Event::Committed, Serving::New),
            (_, Action::Fails) => (Event::Unchanged, self.serving[index]),
            (_, _) => (Event::Back, Serving::Old),
        };
        self.serving[index] = serving;
        self.operations[index] = Operation::Over(stage, event);
        Some(())
    }

    fn crash(&mut self, system: &System) {
        self.crashed = true;
        let last = self.journal.iter().rev().find_map(|entry| match entry {
            Entry::Begun(stage) => Some(Some(*stage)),
            Entry::Ended(_) => Some(None),
            Entry::Turned => None,
        });
        let in_flight = last.flatten();
        let seen = match in_flight {
            Some(stage @ (Stage::Release(index) | Stage::Rollback(index))) => {
                match self.operations[index] {
                    Operation::Runs(own) if own == stage => Seen::Runs,
                    Operation::Over(own, event) if own == stage => Seen::Ended(event),
                    _ if system.variant == Variant::Trusts => Seen::Ended(Event::Committed),
                    _ => Seen::Nothing,
                }
            }
            _ => Seen::Nothing,
        };
        self.set = match system.variant {
            Variant::Begins if in_flight.is_none() => {
                let mut set = Set::begin(&system.before);
                for entry in &self.journal {
                    if let Entry::Ended(event) = entry {
                        set.step(*event);
                    }
                }
                set
            }
            _ => recover(&system.before, &self.journal, seen),
        };
        self.place = if seen == Seen::Runs { Place::Begun } else { Place::Idle };
        match (in_flight, seen) {
            (Some(_), Seen::Ended(event)) => self.journal.push(Entry::Ended(event)),
            (Some(Stage::Release(_)), Seen::Nothing) => {
                self.journal.push(Entry::Ended(Event::Unchanged));
            }
            _ => {}
        }
    }
}

impl Model for System {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            set: Set::begin(&self.before),
            journal: Vec::new(),
            place: Place::Idle,
            operations: vec![Operation::None; 3],
            serving: vec![Serving::Old; 3],
            n_faults: 0,
            crashed: false,
            mark: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.stage().is_none() {
            return;
        }
        let runs = world.operations.iter().any(|own| matches!(own, Operation::Runs(_)));
        actions.push(if runs { Action::Ends } else { Action::Go });
        if world.n_faults < self.n_faults {
            actions.extend([Action::Abort, Action::Crash, Action::PowerCut]);
            if runs {
                actions.extend([Action::Fails, Action::Sticks]);
            }
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        world.n_faults += u8::from(!matches!(action, Action::Go | Action::Ends));
        match action {
            Action::Go => world.go()?,
            Action::Ends | Action::Fails | Action::Sticks => world.end(action)?,
            Action::Abort => drop(world.set.step(Event::Abort)),
            Action::Crash => world.crash(self),
            Action::PowerCut => {
                // An announcement waits for the disk, the note of an end does not.
                if matches!(world.journal.last()?, Entry::Ended(_)) {
                    world.journal.pop();
                }
                world.crash(self);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing that must not", |_, w: &World| w.mark.is_none()),
            Property::always("it ends all new, all old, or loudly", |system, w: &World| {
                let Stage::Done(ended) = w.set.stage() else { return true };
                let back = |index: usize| match (w.serving[index], system.before[index]) {
                    (Serving::Old, _) | (Serving::New, Before::Nothing) => true,
                    (Serving::New | Serving::Stuck, _) => false,
                };
                match ended {
                    Ended::Committed => w.serving.iter().all(|own| *own == Serving::New),
                    Ended::Back => (0..3).all(back),
                    Ended::Stuck => {
                        (0..3).all(|index| back(index) || w.serving[index] == Serving::Stuck)
                    }
                }
            }),
            Property::always("what is said of each member is true", |_, w: &World| {
                let is_done = matches!(w.set.stage(), Stage::Done(_));
                let is_true = |(fate, serving): (Fate, &Serving)| match fate {
                    Fate::Committed | Fate::Kept => *serving == Serving::New,
                    Fate::Waiting | Fate::Unchanged | Fate::Back => *serving == Serving::Old,
                    Fate::Stuck => *serving == Serving::Stuck,
                };
                !is_done || w.set.fates().into_iter().zip(&w.serving).all(is_true)
            }),
            Property::sometimes("all are new", |_, w: &World| {
                w.set.stage() == Stage::Done(Ended::Committed)
            }),
        ]
    }
}

const SOMETHING: [Before; 3] = [Before::Something; 3];

/// All properties hold, over exactly this many states.
fn check(before: [Before; 3], n_states: [usize; 4]) {
    let counted = [0, 1, 2, 3].map(|n_faults| {
        let system = System { before, n_faults, variant: Variant::Real };
        let checker = system.checker().spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    });
    assert_eq!(counted, n_states);
}

#[test]
fn a_set_ends_all_new_or_all_old_under_every_interleaving() {
    check(SOMETHING, [16, 160, 809, 2785]);
}

#[test]
fn so_does_a_set_with_a_first_release_in_it() {
    check([Before::Something, Before::Nothing, Before::Something], [16, 130, 528, 1444]);
}

#[track_caller]
fn refuted(variant: Variant, property: &'static str) {
    let system = System { before: SOMETHING, n_faults: 2, variant };
    let found = system.checker().spawn_bfs().join().discovery(property);
    assert!(found.is_some(), "the checker finds no fault in {variant:?}");
}

#[test]
fn a_recovery_that_forgets_is_found_out() {
    refuted(Variant::Begins, "nothing that must not");
    refuted(Variant::Trusts, "it ends all new, all old, or loudly");
}

/// What is worth reaching is reached.
#[test]
fn a_set_goes_back_and_gets_stuck() {
    for (ended, n_back) in [(Ended::Back, 2), (Ended::Stuck, 1), (Ended::Stuck, 2)] {
        let system = System { before: SOMETHING, n_faults: 2, variant: Variant::Real };
        let mut queue = system.init_states();
        let mut known: std::collections::HashSet<World> = queue.iter().cloned().collect();
        let mut is_reached = false;
        while let Some(world) = queue.pop() {
            let went = world.set.fates().iter().filter(|fate| **fate == Fate::Back).count();
            is_reached |= world.set.stage() == Stage::Done(ended) && went == n_back;
            let mut actions = Vec::new();
            system.actions(&world, &mut actions);
            let next = actions.into_iter().filter_map(|action| system.next_state(&world, action));
            queue.extend(next.filter(|world| known.insert(world.clone())).collect::<Vec<_>>());
        }
        assert!(is_reached, "{ended:?} {n_back}");
    }
}
