//! What each phase does to the small world, and what a crash leaves of it.

use halley_sup::core::operation::live::{Facts, Live, live};
use halley_sup::core::operation::machine::{Event, Kind};
use halley_sup::core::operation::phase::Phase;
use halley_sup::core::operation::point::Point;
use halley_sup::core::operation::recover::{Seen, recover};

use crate::world::{Order, Process, Who, World};

impl World {
    /// Performs the present phase's effect; what came of it is for the machine.
    pub fn perform(&mut self, order: Order) -> Event {
        let lives = |good: bool| if good { Event::Ok } else { Event::Died };
        match self.machine.phase() {
            Phase::Park => {
                self.steered = Who::Held;
                Event::Ok
            }
            Phase::StopOld => {
                self.marks.stopped_who_serves |= self.steered == Who::Old;
                self.old = Process::Absent;
                Event::Ok
            }
            Phase::Start => {
                self.start(Who::New);
                Event::Ok
            }
            Phase::Step(_) => {
                self.begin_trial();
                self.marks.flipped_to_unproven |= !self.new_passed_gate;
                lives(self.is_alive(Who::New))
            }
            Phase::Hook(point) => {
                self.marks.hook_twice |= self.begin_hook() != 0;
                self.hook_passed = true;
                let needs_candidate = point == Point::BeforeFlip;
                lives(!needs_candidate || self.is_alive(Who::New))
            }
            Phase::Gate => {
                self.new_passed_gate |= self.is_alive(Who::New);
                lives(self.is_alive(Who::New))
            }
            Phase::Flip => {
                if self.is_alive(Who::New) {
                    self.begin_trial();
                    self.steer(Who::New);
                }
                lives(self.is_alive(Who::New))
            }
            Phase::StepHold(_) | Phase::Bake | Phase::Hold => lives(self.is_alive(Who::New)),
            Phase::Commit => {
                if order != Order::Real && order != Order::ConfirmThenStop {
                    self.stop(Who::Old);
                }
                self.commit(Who::New);
                Event::Ok
            }
            // The candidate never served: nobody misses it, whatever became of the others.
            Phase::Undo => {
                self.marks.stopped_who_serves |= self.steered == Who::New;
                self.new = Process::Absent;
                if self.steered == Who::Held {
                    self.steered = Who::Old;
                }
                Event::Ok
            }
            _ => self.perform_back(order),
        }
    }

    /// The effects of the way back.
    fn perform_back(&mut self, order: Order) -> Event {
        let ok = |good: bool| if good { Event::Ok } else { Event::Failed };
        match self.machine.phase() {
            Phase::BackStart(_) => {
                if self.in_turn() {
                    self.steered = Who::Held;
                    (self.old, self.new) = (Process::Absent, Process::Absent);
                }
                self.start(Who::Cold);
                self.cold_passed_gate = false;
                Event::Ok
            }
            Phase::BackGate(rung) if order == Order::Unrecorded && rung == 0 => Event::Ok,
            Phase::BackGate(rung) => {
                let who = World::rung(rung);
                self.cold_passed_gate |= who == Who::Cold && self.is_alive(who);
                ok(self.is_alive(who))
            }
            Phase::BackFlip(rung) => {
                let who = World::rung(rung);
                self.marks.flipped_to_unproven |= *self.process(who) == Process::Absent;
                self.steer(who);
                Event::Ok
            }
            Phase::BackVerify(rung) => ok(self.is_alive(World::rung(rung))),
            Phase::BackCommit(rung) => {
                self.commit(World::rung(rung));
                Event::Ok
            }
            Phase::Stranded => {
                let all = [self.steered, Who::New, Who::Cold, Who::Old];
                let found = all.into_iter().find(|who| self.is_alive(*who));
                // A candidate that never passed its gate was stopped before any of this.
                self.steered = found.unwrap_or(self.steered);
                ok(found.is_some())
            }
            _ => Event::Ok,
        }
    }

    /// The supervisor comes up again: it steers to what is live, and goes on from its journal.
    pub fn crash(&mut self) {
        let last = self.machine.phase();
        let rung = last.rung().map(World::rung);
        let live = self.live(last, rung);
        let is_known = live != Who::Held && *self.process(live) != Process::Absent;
        self.steer(if is_known { live } else { Who::Held });
        let seen = Seen {
            same_boot: self.same_boot,
            candidate_alive: self.is_alive(Who::New),
            committed: self.good == Who::New,
            n_tries_left: self.n_tries,
            rung_alive: rung.is_some_and(|who| self.is_alive(who)),
            hook_passed: self.hook_passed,
        };
        // Cut off, it may have run: its beginning is in the journal.
        self.begin_hook();
        self.machine = recover(self.machine.plan(), last, self.machine.cause(), seen);
        self.announce();
        if last.is_on_trial() {
            self.n_tries = self.n_tries.saturating_sub(1);
        }
    }

    /// Whom the core takes for the one that is steered to.
    fn live(&self, last: Phase, rung: Option<Who>) -> Who {
        // A rollback begins with the new one live, and has no candidate of its own.
        let is_rollback = self.machine.plan().kind == Kind::Rollback;
        let old = if is_rollback { Who::New } else { Who::Old };
        let facts = Facts {
            kind: Some(self.machine.plan().kind),
            last: Some(last),
            gate_opened: self.gate_opened,
            flip_announced: self.flip_announced,
            on_trial: self.on_trial,
            committed: self.good == Who::New,
            candidate_alive: !is_rollback && self.is_alive(Who::New),
            old_alive: self.is_alive(old),
            rung_alive: rung.is_some_and(|who| self.is_alive(who)),
        };
        match live(&facts) {
            Live::Candidate => Who::New,
            Live::Old => old,
            Live::Rung => rung.unwrap_or(Who::Held),
            Live::LastGood if !self.good_is_past => self.good,
            Live::LastGood | Live::Held => Who::Held,
        }
    }
}
