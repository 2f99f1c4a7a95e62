//! Properties of the pure core, over random inputs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use halley_sup::core::bake::{self, Bake, BakePlan};
use halley_sup::core::deploy::{Cause, Deploy, Event, Inconclusive, Kind, Phase, Plan, Succession};
use halley_sup::core::health::{self, Gate, Sample};
use halley_sup::core::ids::ReleaseId;
use halley_sup::core::recover::{Seen, recover};
use halley_sup::core::retention::{self, Fate, Roots, Verdict};
use halley_sup::core::service::Backoff;
use halley_sup::core::time::Tick;
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Release), Just(Kind::Rollback), Just(Kind::Restart)]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Ok),
        2 => Just(Event::Failed),
        1 => Just(Event::Died),
        1 => Just(Event::Abort),
        1 => Just(Event::Promote),
        1 => Just(Event::Inconclusive),
    ]
}

prop_compose! {
    fn seens()(bits in any::<[bool; 4]>(), n_tries_left in 0_u8..3) -> Seen {
        Seen {
            same_boot: bits[0],
            candidate_alive: bits[1],
            committed: bits[2],
            n_tries_left,
            rung_alive: bits[3],
        }
    }
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Good),
        Just(Verdict::Bad),
        Just(Verdict::Staged),
        Just(Verdict::Aborted)
    ]
}

proptest! {
    /// Whatever happened, and however often the supervisor went down in the middle: once things go
    /// well, the operation ends, and soon.
    #[test]
    fn recovery_converges(
        kind in kinds(),
        n_cold in 0_u8..3,
        succession in prop_oneof![Just(Succession::Overlap), Just(Succession::InTurn)],
        n_steps in 0_u8..4,
        script in prop::collection::vec((events(), prop::option::weighted(0.3, seens())), 0..40),
    ) {
        let inconclusive = Inconclusive::Hold;
        let plan = Plan { kind, n_cold, inconclusive, succession, n_steps };
        let mut machine = Deploy::begin(plan);
        for (event, crash) in script {
            machine.step(event);
            if let Some(seen) = crash {
                let phase = machine.phase();
                machine = recover(plan, phase, machine.cause(), seen);
                // Recovering again from the same sight changes nothing.
                let again = recover(plan, machine.phase(), machine.cause(), seen);
                if let Phase::Undo | Phase::Done(_) | Phase::Commit = machine.phase() {
                    prop_assert_eq!(again.phase(), machine.phase());
                }
            }
        }
        let mut n_steps = 0;
        while machine.step(Event::Ok).is_some() {
            n_steps += 1;
            prop_assert!(n_steps < 24);
        }
        prop_assert!(matches!(machine.phase(), Phase::Done(_)));
    }

    /// A name in the journal is the phase it was.
    #[test]
    fn phases_are_read_back(rung in any::<u8>(), n in 0_usize..16) {
        let all = [Phase::PLAIN[n], Phase::BackStart(rung), Phase::BackFlip(rung)];
        for phase in all {
            prop_assert_eq!(Phase::parse(&phase.name()), Some(phase));
        }
    }

    #[test]
    fn nothing_reachable_is_pruned_and_there_is_something_to_go_back_to(
        verdicts in prop::collection::vec(verdicts(), 1..30),
        picks in any::<[prop::sample::Index; 6]>(),
        n_good in 1_u32..6,
    ) {
        let releases: Vec<(ReleaseId, Verdict)> =
            (1..).map(ReleaseId).zip(verdicts).collect();
        let pick = |n: usize| releases[picks[n].index(releases.len())].0;
        let roots = Roots {
            serving: Some(pick(0)),
            last_good: Some(pick(1)),
            trial: Some(pick(2)),
            standby: Some(pick(3)),
            pinned: BTreeSet::from([pick(4)]),
            open: BTreeSet::new(),
            alive: BTreeSet::from([pick(5)]),
        };
        let plan = retention::plan(&releases, &roots, n_good);
        let kept: BTreeSet<ReleaseId> =
            plan.iter().filter(|(_, fate)| *fate != Fate::Prune).map(|(id, _)| *id).collect();
        for n in 0..6 {
            prop_assert!(kept.contains(&pick(n)));
        }
        let targets = retention::targets(&releases, roots.last_good);
        prop_assert!(targets.first().is_none_or(|target| kept.contains(target)));
        prop_assert!(targets.iter().all(|target| *target < pick(1)));
        prop_assert!(targets.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn the_gate_opens_only_for_enough_good_probes_in_a_row_and_never_early(
        samples in prop::collection::vec(any::<bool>(), 1..60),
        rise in 1_u32..5,
        min_healthy_ms in 0_u64..300,
        deadline_ms in 1_u64..500,
    ) {
        let mut gate = Gate::new(rise, min_healthy_ms, Tick(0), Tick(deadline_ms));
        let mut n_good = 0;
        for (now, good) in (0..).step_by(10).zip(samples) {
            n_good = if good { n_good + 1 } else { 0 };
            let sample = if good { Sample::Good } else { Sample::Bad };
            match gate.observe(Tick(now), sample) {
                health::Verdict::Open => {
                    prop_assert!(n_good >= rise && now >= min_healthy_ms);
                    break;
                }
                health::Verdict::Shut => {
                    prop_assert!(now >= deadline_ms);
                    break;
                }
                health::Verdict::Pending => prop_assert!(now < deadline_ms),
            }
        }
    }

    #[test]
    fn a_bake_never_passes_on_a_bad_probe_nor_before_its_end(
        samples in prop::collection::vec(any::<bool>(), 1..60),
        fall in 1_u32..5,
        min_samples in 0_u32..40,
        until_ms in 1_u64..500,
    ) {
        let plan = BakePlan { fall, min_samples, until: Tick(until_ms) };
        let mut bake = Bake::new(plan);
        for ((now, good), n) in (0..).step_by(10).zip(samples).zip(1..) {
            let sample = if good { Sample::Good } else { Sample::Bad };
            match bake.observe(Tick(now), sample) {
                bake::Verdict::Pass => {
                    prop_assert!(good && now >= until_ms && n >= min_samples);
                    break;
                }
                bake::Verdict::Inconclusive => {
                    prop_assert!(now >= until_ms && n < min_samples);
                    break;
                }
                bake::Verdict::Fail => break,
                bake::Verdict::Watching => prop_assert!(now < until_ms),
            }
        }
    }

    #[test]
    fn a_restart_is_never_in_the_past_and_never_far_away(lives in prop::collection::vec(0_u64..200_000, 1..50)) {
        let mut backoff = Backoff::default();
        for (now, lived) in (0..).step_by(1000).zip(lives) {
            let at = backoff.next_start(Tick(now), lived);
            prop_assert!(at >= Tick(now) && at.since_ms(Tick(now)) <= 30_000);
        }
    }
}

/// The cause survives the way through a journal's text.
#[test]
fn causes_are_read_back() {
    for cause in [Cause::Refused, Cause::Gate, Cause::Died, Cause::Asked, Cause::Interrupted] {
        assert_eq!(Cause::parse(cause.name()), Some(cause));
    }
}
