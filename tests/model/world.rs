//! The small world in which the operation's machine is checked.

use halley_sup::core::operation::machine::{
    self, Cause, Event, Inconclusive, Kind, Machine, Outcome, Plan,
};
use halley_sup::core::operation::phase::Phase;
use halley_sup::core::operation::point::Point;
use stateright::{Model, Property};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Old,
    New,
    Cold,
    /// Nobody: callers wait in a queue.
    Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    Absent,
    Alive,
    Dead,
}

/// What must never happen, and what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks {
    pub stopped_who_serves: bool,
    pub stopped_old_before_commit: bool,
    pub stopped_with_nobody_alive: bool,
    pub flipped_to_unproven: bool,
    pub two_at_once: bool,
    pub hook_twice: bool,
    pub hook_undid_commit: bool,
    pub promoted_unseen: bool,
    pub refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub machine: Machine,
    pub old: Process,
    pub new: Process,
    pub cold: Process,
    pub new_passed_gate: bool,
    pub cold_passed_gate: bool,
    pub steered: Who,
    pub good: Who,
    /// The processes that were committed are gone: the same release has others, or none.
    pub good_is_past: bool,
    pub n_tries: u8,
    /// What the journal has of the way forward: a step or the flip; the flip.
    pub gate_opened: bool,
    pub flip_announced: bool,
    /// The trial file is there.
    pub on_trial: bool,
    pub same_boot: bool,
    pub n_faults: u8,
    /// Points whose hooks may have run, as bits; and whether those of the present phase have passed.
    pub hooks_begun: u8,
    pub hook_passed: bool,
    /// What somebody who is about to promote has seen.
    pub seen: Option<Phase>,
    /// The variant that looks first and acts later has looked.
    pub confirmed: bool,
    pub left_is_stopped: bool,
    pub marks: Marks,
}

/// The order of the stop: the real one, and three that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Compare and act, after the commit.
    Real,
    /// The old one is stopped when the bake ends: the new one may have died since the last look.
    AtBakeEnd,
    /// The old one is stopped before the commit is recorded, and the way back trusts the journal:
    /// a crash in between and one false probe go back to a dead one and stop the healthy one.
    Unrecorded,
    /// Look first, stop later: a death in between.
    ConfirmThenStop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Perform,
    Fail,
    Unclear,
    /// Somebody looks, and promotes later.
    Look,
    Promote,
    PerformThenCrash,
    CrashBefore,
    Dies(Who),
    PowerCut,
    Abort,
    Guard,
    Confirm,
    Stop,
}

pub struct System {
    pub kind: Kind,
    pub n_faults: u8,
    pub order: Order,
    pub meet: machine::Succession,
    pub n_steps: u8,
}

impl World {
    pub fn process(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Old => &mut self.old,
            Who::New => &mut self.new,
            Who::Cold | Who::Held => &mut self.cold,
        }
    }

    pub fn is_alive(mut self, who: Who) -> bool {
        who != Who::Held && *self.process(who) == Process::Alive
    }

    pub fn in_turn(&self) -> bool {
        self.machine.plan().succession == machine::Succession::InTurn
    }

    /// Starts somebody; what cannot run twice must be alone.
    pub fn start(&mut self, who: Who) {
        let others = [Who::Old, Who::New, Who::Cold].into_iter().filter(|other| *other != who);
        let alone = others.into_iter().all(|other| !self.is_alive(other));
        self.marks.two_at_once |= self.in_turn() && !alone;
        *self.process(who) = Process::Alive;
        self.good_is_past |= self.good == who;
    }

    pub fn rung(rung: u8) -> Who {
        if rung == 0 { Who::Old } else { Who::Cold }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.machine.phase(), Phase::Done(_))
    }

    /// What gets connections and is not committed is on trial; a restart's release is committed.
    pub fn begin_trial(&mut self) {
        self.on_trial |= self.machine.plan().kind == Kind::Release;
    }

    pub fn commit(&mut self, who: Who) {
        (self.good, self.good_is_past, self.on_trial) = (who, false, false);
    }

    /// Ends somebody who may have served. What has ended already is only tidied away.
    pub fn stop(&mut self, who: Who) {
        if !self.is_alive(who) {
            *self.process(who) = Process::Absent;
            return;
        }
        self.marks.stopped_who_serves |= self.steered == who;
        let committed = self.good != Who::Old;
        self.marks.stopped_old_before_commit |=
            who == Who::Old && !committed && self.is_alive(Who::Old);
        *self.process(who) = Process::Absent;
        self.marks.stopped_with_nobody_alive |= !self.is_alive(self.steered);
    }

    /// New connections go there.
    pub fn steer(&mut self, who: Who) {
        let is_proven = match who {
            Who::Old | Who::Held => true,
            Who::New => self.new_passed_gate,
            Who::Cold => self.cold_passed_gate,
        };
        self.marks.flipped_to_unproven |= !is_proven;
        self.steered = who;
    }

    /// The phase is in the journal.
    pub fn announce(&mut self) {
        let phase = self.machine.phase();
        self.gate_opened |= phase.is_on_trial();
        self.flip_announced |= phase == Phase::Flip;
        self.hook_passed = false;
    }

    /// The hooks of the present phase begin.
    pub fn begin_hook(&mut self) -> u8 {
        let Phase::Hook(point) = self.machine.phase() else { return 0 };
        let bit = 1 << Point::ALL.iter().position(|known| *known == point).unwrap();
        let before = self.hooks_begun & bit;
        self.hooks_begun |= bit;
        before
    }

    /// Hands the machine what happened; `None` changes nothing.
    pub fn step(&mut self, event: Event) -> Option<()> {
        let before = self.machine.phase();
        let next = self.machine.step(event)?;
        let is_over = matches!(next, Phase::Done(Outcome::Committed | Outcome::RolledBack(_)));
        let is_late = matches!(before, Phase::Hook(point) if point.is_afterwards());
        self.marks.hook_undid_commit |= is_late && !is_over;
        self.announce();
        Some(())
    }
}

impl Model for System {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let plan = Plan {
            kind: self.kind,
            n_cold: 1,
            inconclusive: Inconclusive::Hold,
            succession: self.meet,
            n_steps: self.n_steps,
        };
        vec![World {
            machine: Machine::begin(plan),
            old: Process::Alive,
            new: if self.kind == Kind::Rollback { Process::Alive } else { Process::Absent },
            cold: Process::Absent,
            new_passed_gate: self.kind == Kind::Rollback,
            cold_passed_gate: false,
            // A rollback goes from the new one, which is good, to the old one, which is warm.
            steered: if self.kind == Kind::Rollback { Who::New } else { Who::Old },
            good: if self.kind == Kind::Rollback { Who::New } else { Who::Old },
            good_is_past: false,
            n_tries: 2,
            gate_opened: false,
            flip_announced: false,
            on_trial: false,
            same_boot: true,
            n_faults: 0,
            hooks_begun: 0,
            hook_passed: false,
            seen: None,
            confirmed: false,
            left_is_stopped: false,
            marks: Marks::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let faults_left = world.n_faults < self.n_faults;
        if world.is_done() {
            if !world.is_alive(world.steered) {
                actions.push(Action::Guard);
            } else if !world.left_is_stopped {
                actions.push(match self.order {
                    Order::ConfirmThenStop if !world.confirmed => Action::Confirm,
                    _ => Action::Stop,
                });
            }
            if world.confirmed && !world.left_is_stopped {
                actions.push(Action::Stop);
            }
            // Asked at any moment, also at the wrong one: the answer has to be no.
            if !world.is_alive(world.steered) && self.order == Order::Real {
                actions.push(Action::Stop);
            }
        } else {
            let phase = world.machine.phase();
            // A hold is over when somebody says so, or when what is held has ended.
            let waits = matches!(phase, Phase::StepHold(_) | Phase::Hold);
            if !waits || !world.is_alive(Who::New) {
                actions.push(Action::Perform);
            }
            if phase.promotion().is_some() && world.seen != Some(phase) {
                actions.push(Action::Look);
            }
            if world.seen.is_some() {
                actions.push(Action::Promote);
            }
            if faults_left {
                actions.extend([
                    Action::Fail,
                    Action::Unclear,
                    Action::PerformThenCrash,
                    Action::CrashBefore,
                    Action::PowerCut,
                    Action::Abort,
                ]);
            }
        }
        if faults_left {
            let all = [Who::Old, Who::New, Who::Cold];
            let alive = all.into_iter().filter(|who| world.is_alive(*who));
            actions.extend(alive.map(Action::Dies));
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = *before;
        use Action::{Confirm, Guard, Look, Perform, Promote, Stop};
        let is_fault = !matches!(action, Perform | Guard | Confirm | Stop | Look | Promote);
        world.n_faults += u8::from(is_fault);
        match action {
            Action::Perform => {
                let event = world.perform(self.order);
                world.step(event)?;
            }
            Action::Fail => world.step(Event::Failed)?,
            Action::Unclear => world.step(Event::Inconclusive)?,
            Action::Look => world.seen = Some(world.machine.phase()),
            Action::Promote => {
                let (seen, phase) = (world.seen.take()?, world.machine.phase());
                let is_taken = world.step(Event::Promote(seen)).is_some();
                world.marks.promoted_unseen |= is_taken && seen != phase;
            }
            Action::PerformThenCrash
                if self.order == Order::Unrecorded && world.machine.phase() == Phase::Commit =>
            {
                // The stop took effect, its record did not; the journal says: still baking.
                world.stop(Who::Old);
                let plan = world.machine.plan();
                world.machine = Machine::resume(plan, Phase::Bake, world.machine.cause());
            }
            Action::PerformThenCrash => {
                world.perform(self.order);
                world.crash();
            }
            Action::CrashBefore => world.crash(),
            Action::Dies(who) => *world.process(who) = Process::Dead,
            Action::PowerCut => {
                for who in [Who::Old, Who::New, Who::Cold] {
                    if *world.process(who) == Process::Alive {
                        *world.process(who) = Process::Dead;
                    }
                }
                (world.same_boot, world.good_is_past) = (false, true);
                world.crash();
                // Nothing is steered to any more; what boots first is what is good.
                world.steered = world.good;
            }
            Action::Abort => world.step(Event::Abort)?,
            Action::Guard => {
                let who = world.steered;
                *world.process(who) = Process::Alive;
            }
            Action::Confirm => world.confirmed = world.is_alive(world.steered),
            Action::Stop => {
                let live = world.is_alive(world.steered);
                if self.order == Order::Real && !live {
                    world.marks.refused = true;
                    return (world != *before).then_some(world);
                }
                for who in [Who::Old, Who::New, Who::Cold] {
                    if who != world.steered {
                        world.stop(who);
                    }
                }
                world.left_is_stopped = true;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("who serves is never stopped", |_, w: &World| {
                !w.marks.stopped_who_serves
            }),
            Property::always("the old one is not stopped before the commit", |_, w: &World| {
                // On its way back the candidate's end is what is wanted; the old one is good then.
                !w.marks.stopped_old_before_commit || w.is_done()
            }),
            Property::always("a stop leaves somebody who serves", |_, w: &World| {
                !w.marks.stopped_with_nobody_alive
            }),
            Property::always("nobody gets connections without a gate", |_, w: &World| {
                !w.marks.flipped_to_unproven
            }),
            Property::always("what cannot run twice never does", |_, w: &World| {
                !w.marks.two_at_once
            }),
            Property::always("a point's hooks run at most once", |_, w: &World| {
                !w.marks.hook_twice
            }),
            Property::always("a promote ends only what was seen", |_, w: &World| {
                !w.marks.promoted_unseen
            }),
            Property::always("a hook after the commit changes no outcome", |_, w: &World| {
                !w.marks.hook_undid_commit
            }),
            Property::always("at rest the one that serves is the good one", |_, w: &World| match w
                .machine
                .phase()
            {
                Phase::Done(Outcome::RollbackFailed(_)) => true,
                Phase::Done(_) => w.good == w.steered,
                _ => true,
            }),
            Property::always("there is always a way on", |system, w: &World| {
                let mut actions = Vec::new();
                system.actions(w, &mut actions);
                !actions.is_empty() || w.left_is_stopped
            }),
            Property::sometimes("it ends as it should", |system, w: &World| {
                let wanted = match system.kind {
                    Kind::Rollback => Phase::Done(Outcome::RolledBack(Cause::Asked)),
                    Kind::Release | Kind::Restart => Phase::Done(Outcome::Committed),
                };
                w.machine.phase() == wanted && w.left_is_stopped
            }),
        ]
    }
}
