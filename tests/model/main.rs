//! The operation's machine in a small world, every interleaving of crash, failure and death.
//!
//! The world has three processes (the one that served, the candidate, a cold start), one place
//! that connections go to, one durable state. An effect may be performed, performed and then cut
//! off by a crash before anybody knows, or cut off before it began; a phase is in the journal
//! before its effect. After a crash `live` says where connections go, and `recover` goes on, from
//! the journal and from what is seen.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod effects;
mod set;
mod walk;
mod world;

use halley_sup::core::operation::machine::{self, Kind, Outcome};
use halley_sup::core::operation::phase::Phase;
use stateright::{Checker, Model};

use world::{Order, System, Who, World};

/// All properties hold for 0 to 3 faults, over exactly this many states: a change of the space does
/// not go unseen.
fn check(kind: Kind, meet: machine::Succession, n_steps: u8, n_states: [usize; 4]) {
    let counted = [0, 1, 2, 3].map(|n_faults| {
        let system = System { kind, n_faults, order: Order::Real, meet, n_steps };
        let checker = system.checker().spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    });
    assert_eq!(counted, n_states, "{kind:?} {meet:?} {n_steps}");
}

#[test]
fn a_release_holds_under_every_interleaving() {
    check(Kind::Release, machine::Succession::Overlap, 0, [24, 299, 1802, 6664]);
}

#[test]
fn a_canary_holds_under_every_interleaving() {
    check(Kind::Release, machine::Succession::Overlap, 2, [44, 687, 4820, 19970]);
}

#[test]
fn a_rollback_holds_under_every_interleaving() {
    check(Kind::Rollback, machine::Succession::Overlap, 0, [7, 70, 306, 889]);
}

#[test]
fn a_restart_holds_under_every_interleaving() {
    check(Kind::Restart, machine::Succession::Overlap, 0, [11, 158, 991, 3837]);
}

#[test]
fn in_turn_a_release_holds_under_every_interleaving() {
    check(Kind::Release, machine::Succession::InTurn, 0, [27, 381, 2202, 6833]);
}

#[test]
fn in_turn_a_rollback_holds_under_every_interleaving() {
    check(Kind::Rollback, machine::Succession::InTurn, 0, [8, 64, 203, 413]);
}

#[test]
fn in_turn_a_restart_holds_under_every_interleaving() {
    check(Kind::Restart, machine::Succession::InTurn, 0, [13, 194, 1166, 3911]);
}

/// What is worth reaching is reached: a model in which nothing happens proves nothing.
#[test]
fn every_way_to_end_is_reached() {
    let reached = |wanted: fn(&World) -> bool| {
        let system = release(3, Order::Real);
        let mut seen = false;
        let mut queue: Vec<World> = system.init_states();
        let mut known: std::collections::HashSet<World> = queue.iter().copied().collect();
        while let Some(world) = queue.pop() {
            seen |= wanted(&world);
            let mut actions = Vec::new();
            system.actions(&world, &mut actions);
            let next = actions.into_iter().filter_map(|action| system.next_state(&world, action));
            queue.extend(next.filter(|world| known.insert(*world)).collect::<Vec<_>>());
        }
        seen
    };
    assert!(reached(|w| w.machine.phase() == Phase::Done(Outcome::Committed)));
    assert!(reached(|w| matches!(w.machine.phase(), Phase::Done(Outcome::Undone(_)))));
    assert!(reached(|w| matches!(w.machine.phase(), Phase::Done(Outcome::RolledBack(_)))));
    assert!(reached(|w| matches!(w.machine.phase(), Phase::Done(Outcome::RollbackFailed(_)))));
    assert!(reached(|w| w.machine.phase() == Phase::Hold));
    assert!(reached(|w| w.marks.refused));
    assert!(reached(|w| w.steered == Who::Cold && w.is_done()));
}

fn release(n_faults: u8, order: Order) -> System {
    System { kind: Kind::Release, n_faults, order, meet: machine::Succession::Overlap, n_steps: 0 }
}

#[track_caller]
fn refuted(order: Order, property: &'static str) {
    let found = |order| {
        let system = release(2, order);
        system.checker().spawn_bfs().join().discovery(property).is_some()
    };
    assert!(found(order), "the checker finds no fault in {order:?}");
    assert!(!found(Order::Real), "the real order has the fault");
}

#[test]
fn failed_order_1_the_new_one_dies_between_the_last_look_and_the_stop() {
    refuted(Order::AtBakeEnd, "a stop leaves somebody who serves");
}

#[test]
fn failed_order_2_a_crash_before_the_record_of_the_stop_goes_back_to_a_dead_one() {
    refuted(Order::Unrecorded, "nobody gets connections without a gate");
}

#[test]
fn failed_order_3_death_between_the_confirmation_and_the_stop() {
    refuted(Order::ConfirmThenStop, "a stop leaves somebody who serves");
}
