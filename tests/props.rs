//! Properties of the pure core, over random inputs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use halley_sup::core::analysis::exposition;
use halley_sup::core::analysis::growth::{Bound, Growth};
use halley_sup::core::analysis::rate::{Rate, Window};
use halley_sup::core::analysis::ratio::Increase;
use halley_sup::core::analysis::signal::{Ask, Name, Weight};
use halley_sup::core::analysis::verdict::{self, Bake};
use halley_sup::core::crashes::{Crashes, Life};
use halley_sup::core::health::{self, Gate, Sample};
use halley_sup::core::ids::ReleaseId;
use halley_sup::core::operation::machine::{
    Cause, Event, Inconclusive, Kind, Machine, Plan, Succession,
};
use halley_sup::core::operation::phase::Phase;
use halley_sup::core::operation::point::Point;
use halley_sup::core::operation::recover::{Seen, recover};
use halley_sup::core::retention::{self, Fate, Roots, Verdict};
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
        1 => Just(Event::Promote(Phase::Bake)),
        1 => Just(Event::Inconclusive),
    ]
}

prop_compose! {
    fn seens()(bits in any::<[bool; 5]>(), n_tries_left in 0_u8..3) -> Seen {
        Seen {
            same_boot: bits[0],
            candidate_alive: bits[1],
            committed: bits[2],
            n_tries_left,
            rung_alive: bits[3],
            hook_passed: bits[4],
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
        let mut machine = Machine::begin(plan);
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
        let hook = Phase::Hook(Point::AfterCommit);
        let all = [Phase::PLAIN[n], Phase::BackStart(rung), Phase::BackFlip(rung), hook];
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
        let ask = Ask { fall, min_samples, weight: Weight::Required };
        let mut bake = Bake::new(Tick(until_ms), [(Name::Probes, ask)]);
        for ((now, good), n) in (0..).step_by(10).zip(samples).zip(1..) {
            bake.observe(Name::Probes, if good { Sample::Good } else { Sample::Bad });
            match bake.verdict(Tick(now)) {
                verdict::Verdict::Pass => {
                    prop_assert!(good && now >= until_ms && n >= min_samples);
                    break;
                }
                verdict::Verdict::Inconclusive(_) => {
                    prop_assert!(now >= until_ms && n < min_samples);
                    break;
                }
                verdict::Verdict::Fail(_) => break,
                verdict::Verdict::Watching => prop_assert!(now < until_ms),
            }
        }
    }

    /// What one signal saw never depends on when another one was looked at.
    #[test]
    fn the_order_of_different_signals_does_not_matter(
        seen in prop::collection::vec((0_usize..4, 0_u8..3), 0..60),
        fall in 1_u32..4,
    ) {
        let names = [Name::Probes, Name::Memory, Name::Metrics, Name::Wanted];
        let ask = |name| {
            let weight = if name == Name::Wanted { Weight::Wanted } else { Weight::Required };
            (name, Ask { fall, min_samples: 1, weight })
        };
        let sample = |n| [Sample::Good, Sample::Bad, Sample::Unclear][usize::from(n)];
        let mut mixed = Bake::new(Tick(10), names.map(ask));
        for (name, n) in &seen {
            mixed.observe(names[*name], sample(*n));
        }
        let mut sorted = Bake::new(Tick(10), names.map(ask));
        let mut seen = seen;
        seen.sort_by_key(|(name, _)| std::cmp::Reverse(*name));
        for (name, n) in &seen {
            sorted.observe(names[*name], sample(*n));
        }
        for now in [0, 10] {
            prop_assert_eq!(mixed.verdict(Tick(now)), sorted.verdict(Tick(now)));
        }
    }

    #[test]
    fn what_grows_beyond_its_bound_fails_by_the_end_and_what_is_steady_never(
        base in 1_u64..1_000_000,
        bound in prop_oneof![(0_u64..1000).prop_map(Bound::More), (0_u32..300).prop_map(Bound::MorePercent)],
        noise in prop::collection::vec(0_u64..1000, 1..50),
        fall in 1_u32..6,
    ) {
        let verdict = |values: &[u64]| {
            let ask = Ask { fall, min_samples: 1, weight: Weight::Required };
            let mut bake = Bake::new(Tick(1), [(Name::Memory, ask)]);
            let mut growth = Growth::new(vec![bound]);
            for value in values {
                let over = growth.observe(*value).is_some();
                bake.observe(Name::Memory, if over { Sample::Bad } else { Sample::Good });
            }
            bake.verdict(Tick(1))
        };
        let limit = bound.limit(base);
        let steady = std::iter::once(base).chain(noise.iter().map(|n| base + n % (limit - base + 1)));
        prop_assert_eq!(verdict(&steady.collect::<Vec<_>>()), verdict::Verdict::Pass);
        // However it went on its way, it is over the bound when the bake ends.
        let grows = std::iter::once(base).chain(noise.iter().map(|n| base + n)).chain([limit + 1]);
        prop_assert_eq!(verdict(&grows.collect::<Vec<_>>()), verdict::Verdict::Fail(Name::Memory));
    }

    #[test]
    fn counters_never_run_backwards(readings in prop::collection::vec(0.0_f64..1e9, 1..40)) {
        let mut increase = Increase::default();
        let mut last = 0.0;
        for value in readings {
            increase.observe([("n".to_owned(), value)]);
            prop_assert!(increase.sum() >= last && increase.sum() - last <= value.max(1e9));
            last = increase.sum();
        }
    }

    #[test]
    fn a_window_counts_each_thing_once_in_its_time(
        steps in prop::collection::vec((0_u64..300, 0_u64..5), 1..60),
        per_ms in 1_u64..500,
    ) {
        let mut window = Window::new(Rate { n: 1, per_ms });
        let (mut now, mut all) = (0, Vec::new());
        for (step, n) in steps {
            now += step;
            all.push((now, n));
            let expected: u64 = all.iter().filter(|(at, _)| now - at < per_ms).map(|(_, n)| n).sum();
            prop_assert_eq!(window.add(Tick(now), n), expected);
        }
    }

    /// What is written by the format's rules is read back, and whatever else comes is no panic.
    #[test]
    fn an_exposition_is_read_back_and_no_text_is_too_much(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,10}",
        labels in prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,5}", "[a-c{}=,#é \\\\\"\n]{0,8}"), 0..4),
        value in any::<f64>(),
        noise in any::<String>(),
    ) {
        let escape = |text: &str| {
            text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
        };
        let inside: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let line = format!("{name}{{{}}} {value}", inside.join(","));
        let read: Vec<_> = exposition::parse(&line).collect();
        prop_assert_eq!(read.len(), 1, "{:?}", line);
        let series = read[0].as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(series.name, name.as_str());
        prop_assert!(series.value.to_bits() == value.to_bits() || value.is_nan());
        let known: Vec<_> = series.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        prop_assert_eq!(known, labels);
        drop(exposition::parse(&noise).collect::<Vec<_>>());
        drop(exposition::parse(&format!("{name}{{{noise}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_restart_is_never_in_the_past_and_never_far_away(lives in prop::collection::vec(0_u64..200_000, 1..50), chance: u64) {
        let mut crashes = Crashes::default();
        for (now, ms) in (0..).step_by(1000).zip(lives) {
            let life = if ms % 3 == 0 { Life::Unready } else { Life::Healthy { ms } };
            let at = crashes.next_start(Tick(now), life, chance);
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
