//! What becomes of a generation that was steered away from: warm for a while, then drained, then
//! stopped. Stopping is the one step that nothing undoes, so it compares before it acts.

use crate::core::time::Tick;

/// Refused: the live one was not alive. The left one stays warm and is asked about again later.
const REFUSED_RETRY_MS: u64 = 1_000;

/// The times of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// How long it is left alone, steered away, before the signal.
    pub linger_ms: u64,
    /// How long its connections may take to end by themselves; any time when absent.
    pub drain_ms: Option<u64>,
    /// How long it may take after the signal.
    pub stop_ms: u64,
    /// How often its connections are counted.
    pub count_every_ms: u64,
}

/// Where a drain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is kept, a rollback may take it back.
    Warm(Tick),
    /// Its queues run empty.
    Settle,
    /// Requests on their way to its idle connections arrive.
    Linger(Tick),
    /// Its connections end by themselves.
    Drain {
        /// When it is asked to stop whatever it still has.
        until: Option<Tick>,
        /// When they are counted next.
        count_at: Tick,
    },
    /// It is asked to stop, if the live one is alive at that instant.
    Term,
    /// It finishes what it has.
    Stopping(Tick),
    /// It took too long.
    Kill,
    /// It is gone.
    Gone,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The effect was performed.
    Done,
    /// The signal was not sent: the live one is dead.
    Refused,
    /// It has connections still.
    Busy,
    /// Its processes have ended.
    Ended,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Wait until its queues are empty.
    Settle,
    /// Count its connections: `Busy`, or `Done` when there are none.
    Count,
    /// Send the first signal to it, only if those that go on serving are alive.
    Term,
    /// End it.
    Kill,
    /// Let go of what it had.
    Forget,
}

/// One drain, from warm to gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Drain {
    times: Times,
    phase: Phase,
}

impl Drain {
    /// A generation that is kept warm until then.
    #[must_use]
    pub fn new(times: Times, warm_until: Tick) -> Self {
        Self { times, phase: Phase::Warm(warm_until) }
    }

    /// Processes that are steered away from and not kept, with their first effect.
    #[must_use]
    pub fn leave(times: Times) -> (Self, Effect) {
        (Self { times, phase: Phase::Settle }, Effect::Settle)
    }

    /// Processes that have no connections to lose, or must go now, with their first effect.
    #[must_use]
    pub fn now(times: Times) -> (Self, Effect) {
        (Self { times, phase: Phase::Term }, Effect::Term)
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Warm(at) | Phase::Linger(at) | Phase::Stopping(at) => Some(at),
            Phase::Drain { count_at, .. } => Some(count_at),
            Phase::Settle | Phase::Term | Phase::Kill | Phase::Gone => None,
        }
    }

    /// Takes an event in; the answer is to be performed.
    pub fn step(&mut self, now: Tick, event: Event) -> Option<Effect> {
        use Phase::{Drain as Draining, Gone, Kill, Linger, Settle, Stopping, Term, Warm};
        let (phase, effect) = match (self.phase, event) {
            (Gone, _) => return None,
            (_, Event::Ended) => (Gone, Some(Effect::Forget)),
            (Warm(until), Event::Tick) if now >= until => (Settle, Some(Effect::Settle)),
            (Settle, Event::Done) => (Linger(now.after_ms(self.times.linger_ms)), None),
            (Linger(until), Event::Tick) if now >= until => {
                let until = self.times.drain_ms.map(|ms| now.after_ms(ms));
                (Draining { until, count_at: now }, Some(Effect::Count))
            }
            (Draining { until, count_at }, Event::Tick) if now >= count_at => {
                (Draining { until, count_at }, Some(Effect::Count))
            }
            (Draining { .. }, Event::Done) => (Term, Some(Effect::Term)),
            (Draining { until: Some(until), .. }, Event::Busy) if now >= until => {
                (Term, Some(Effect::Term))
            }
            (Draining { until, .. }, Event::Busy) => {
                let next = now.after_ms(self.times.count_every_ms);
                let count_at = until.map_or(next, |until| until.min(next));
                (Draining { until, count_at }, None)
            }
            (Term, Event::Done) => (Stopping(now.after_ms(self.times.stop_ms)), None),
            (Term, Event::Refused) => (Warm(now.after_ms(REFUSED_RETRY_MS)), None),
            (Stopping(until), Event::Tick) if now >= until => (Kill, Some(Effect::Kill)),
            // Killed and still there: again, until the kernel lets go of it.
            (Kill, Event::Done) => (Stopping(now.after_ms(REFUSED_RETRY_MS)), None),
            (_, Event::Tick | Event::Done | Event::Refused | Event::Busy) => return None,
        };
        self.phase = phase;
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retire() -> Drain {
        with_drain(Some(1000))
    }

    fn with_drain(drain_ms: Option<u64>) -> Drain {
        Drain::new(Times { linger_ms: 5, drain_ms, stop_ms: 30, count_every_ms: 500 }, Tick(100))
    }

    /// Up to the first count of its connections, at tick 115.
    fn lingered(mut it: Drain) -> Drain {
        it.step(Tick(100), Event::Tick);
        it.step(Tick(110), Event::Done);
        assert_eq!(it.step(Tick(115), Event::Tick), Some(Effect::Count));
        it
    }

    #[test]
    fn its_connections_end_by_themselves_or_at_the_deadline() {
        let mut it = lingered(with_drain(Some(700)));
        assert_eq!(it.step(Tick(116), Event::Busy), None);
        assert_eq!(it.deadline(), Some(Tick(616)));
        assert_eq!(it.step(Tick(616), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(617), Event::Busy), None);
        assert_eq!(it.deadline(), Some(Tick(815)));
        assert_eq!(it.step(Tick(815), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(816), Event::Busy), Some(Effect::Term));
        let mut it = lingered(with_drain(None));
        for now in (600..1_000_000).step_by(600) {
            assert_eq!(it.step(Tick(now), Event::Busy), None);
            assert_eq!(it.step(Tick(now + 500), Event::Tick), Some(Effect::Count));
        }
        assert_eq!(it.step(Tick(1_000_001), Event::Done), Some(Effect::Term));
    }

    #[test]
    fn it_is_left_alone_then_asked_then_ended() {
        let mut it = retire();
        assert_eq!(it.step(Tick(99), Event::Tick), None);
        assert_eq!(it.step(Tick(100), Event::Tick), Some(Effect::Settle));
        assert_eq!(it.step(Tick(110), Event::Done), None);
        assert_eq!(it.deadline(), Some(Tick(115)));
        assert_eq!(it.step(Tick(115), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(115), Event::Done), Some(Effect::Term));
        assert_eq!(it.step(Tick(116), Event::Done), None);
        assert_eq!(it.step(Tick(146), Event::Tick), Some(Effect::Kill));
        assert_eq!(it.step(Tick(147), Event::Ended), Some(Effect::Forget));
        assert_eq!(it.step(Tick(148), Event::Tick), None);
    }

    #[test]
    fn a_refusal_keeps_it_and_asks_again_later() {
        let mut it = retire();
        it.step(Tick(100), Event::Tick);
        it.step(Tick(100), Event::Done);
        assert_eq!(it.step(Tick(105), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(105), Event::Done), Some(Effect::Term));
        assert_eq!(it.step(Tick(105), Event::Refused), None);
        assert_eq!(it.phase(), Phase::Warm(Tick(105 + REFUSED_RETRY_MS)));
    }

    #[test]
    fn who_must_go_now_is_asked_at_once_and_who_is_one_too_many_leaves_with_manners() {
        let times = Times { linger_ms: 5, drain_ms: Some(7), stop_ms: 30, count_every_ms: 3 };
        let (mut it, first) = Drain::now(times);
        assert_eq!(first, Effect::Term);
        assert_eq!(it.step(Tick(0), Event::Done), None);
        assert_eq!(it.step(Tick(30), Event::Tick), Some(Effect::Kill));
        let (mut it, first) = Drain::leave(times);
        assert_eq!(first, Effect::Settle);
        assert_eq!(it.step(Tick(10), Event::Done), None);
        assert_eq!(it.step(Tick(15), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(15), Event::Busy), None);
        assert_eq!(it.deadline(), Some(Tick(18)));
        assert_eq!(it.step(Tick(18), Event::Tick), Some(Effect::Count));
        assert_eq!(it.step(Tick(22), Event::Busy), Some(Effect::Term));
        // The others are dead at that instant: it serves on and is asked again later.
        assert_eq!(it.step(Tick(22), Event::Refused), None);
        assert!(matches!(it.phase(), Phase::Warm(_)));
    }
}
