//! Long walks through the same world, far beyond the faults that can be searched exhaustively: each seed is
//! an operation under a stream of crashes, deaths, power cuts, failures and flapping probes, and once they
//! end it has to come to rest. An announcement that was torn is no announcement, so it is a crash between
//! two phases, which is among them.
//!
//! `HALLEY_SEED=7` walks one seed and prints a line for each event.

use halley_sup::core::operation::machine::{Kind, Succession};
use halley_sup::core::operation::phase::Phase;
use stateright::{Expectation, Model};

use crate::world::{Action, Order, System, World};

const N_SEEDS: u64 = 20_000;
/// Events under faults, and those that it may take to come to rest afterwards.
const N_EVENTS: u32 = 120;
const N_TO_REST: u32 = 300;

/// Numbers that follow from a seed alone (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn is_fault(action: Action) -> bool {
    use Action::{Confirm, Guard, Look, Perform, Promote, Stop};
    !matches!(action, Perform | Guard | Confirm | Stop | Look | Promote)
}

/// What is wrong after a step, if anything is.
fn wrong(system: &System, before: &World, world: &World, action: Action) -> Option<String> {
    let broken = system.properties().into_iter().find(|property| {
        matches!(property.expectation, Expectation::Always) && !(property.condition)(system, world)
    });
    if let Some(property) = broken {
        return Some(property.name.to_owned());
    }
    let commits = matches!(before.machine.phase(), Phase::Commit | Phase::BackCommit(_));
    let moved = world.good != before.good && !commits;
    moved.then(|| {
        format!("what a reboot starts is moved by {action:?} in {:?}", before.machine.phase())
    })
}

/// Walks one seed; what went wrong, with every event.
fn walk(seed: u64, order: Order, show: impl Fn(&str)) -> Result<(), String> {
    let mut numbers = Numbers(seed);
    let kinds = [Kind::Release, Kind::Release, Kind::Rollback, Kind::Restart];
    let kind = numbers.pick(&kinds);
    let meet = numbers.pick(&[Succession::Overlap, Succession::InTurn]);
    let can_step = kind == Kind::Release && meet == Succession::Overlap;
    let n_steps = if can_step { numbers.pick(&[0, 2]) } else { 0 };
    let system = System { kind, n_faults: u8::MAX, order, meet, n_steps };
    // Some disks and programs are worse than others.
    let one_in = numbers.pick(&[2, 4, 10, 30]);
    let mut world = system.init_states()[0];
    let mut events = vec![format!("{kind:?} {meet:?} {n_steps}, a fault in {one_in}")];
    for n in 0..N_EVENTS + N_TO_REST {
        let mut actions = Vec::new();
        system.actions(&world, &mut actions);
        let faulty = n < N_EVENTS && numbers.below(one_in) == 0;
        let wanted: Vec<Action> =
            actions.into_iter().filter(|action| is_fault(*action) == faulty).collect();
        if wanted.is_empty() && !faulty && world.left_is_stopped {
            return Ok(());
        }
        if wanted.is_empty() {
            continue;
        }
        let action = numbers.pick(&wanted);
        events.push(format!("{:?} {action:?}", world.machine.phase()));
        show(events.last().unwrap());
        let Some(next) = system.next_state(&world, action) else { continue };
        if let Some(why) = wrong(&system, &world, &next, action) {
            return Err(format!("{why}\n{}", events.join("\n")));
        }
        world = next;
    }
    match world.is_done() {
        true => Ok(()),
        false => Err(format!("it does not come to rest\n{}", events.join("\n"))),
    }
}

#[test]
fn thousands_of_long_walks_break_nothing_and_come_to_rest() {
    if let Some(seed) = std::env::var("HALLEY_SEED").ok().and_then(|text| text.parse().ok()) {
        return walk(seed, Order::Real, |event| println!("{event}")).unwrap();
    }
    for seed in 0..N_SEEDS {
        if let Err(why) = walk(seed, Order::Real, |_| {}) {
            panic!("HALLEY_SEED={seed}: {why}");
        }
    }
}

/// The orders that are known to fail do so here too.
#[test]
fn walks_find_the_orders_that_fail() {
    for order in [Order::AtBakeEnd, Order::Unrecorded, Order::ConfirmThenStop] {
        let found = (0..N_SEEDS).find(|seed| walk(*seed, order, |_| {}).is_err());
        assert!(found.is_some(), "{order:?}");
    }
}
