//! What becomes of a generation that was steered away from: warm for a while, then drained, then
//! stopped. Stopping is the one step that nothing undoes, so it compares before it acts.

use crate::core::time::Tick;

/// Refused: the live one was not alive. The left one stays warm and is asked about again later.
const REFUSED_RETRY_MS: u64 = 1_000;

/// The times of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// How long it is left alone, steered away, before the signal.
    pub linger_ms: u64,
    /// How long it may take after the signal.
    pub stop_ms: u64,
}

/// Where a retirement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is kept, a rollback may take it back.
    Warm(Tick),
    /// Its queues run empty.
    Settle,
    /// Requests on their way to its idle connections arrive.
    Linger(Tick),
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
    /// Its processes have ended.
    Ended,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Wait until its queues are empty.
    Settle,
    /// Send the first signal to it, only if the live one is alive.
    Term,
    /// End it.
    Kill,
    /// Let go of what it had.
    Forget,
}

/// The retirement of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retire {
    times: Times,
    phase: Phase,
}

impl Retire {
    /// A generation that is kept warm until then.
    #[must_use]
    pub fn new(times: Times, warm_until: Tick) -> Self {
        Self { times, phase: Phase::Warm(warm_until) }
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
            Phase::Settle | Phase::Term | Phase::Kill | Phase::Gone => None,
        }
    }

    /// Takes an event in; the answer is to be performed.
    pub fn step(&mut self, now: Tick, event: Event) -> Option<Effect> {
        use Phase::{Gone, Kill, Linger, Settle, Stopping, Term, Warm};
        let (phase, effect) = match (self.phase, event) {
            (Gone, _) => return None,
            (_, Event::Ended) => (Gone, Some(Effect::Forget)),
            (Warm(until), Event::Tick) if now >= until => (Settle, Some(Effect::Settle)),
            (Settle, Event::Done) => (Linger(now.after_ms(self.times.linger_ms)), None),
            (Linger(until), Event::Tick) if now >= until => (Term, Some(Effect::Term)),
            (Term, Event::Done) => (Stopping(now.after_ms(self.times.stop_ms)), None),
            (Term, Event::Refused) => (Warm(now.after_ms(REFUSED_RETRY_MS)), None),
            (Stopping(until), Event::Tick) if now >= until => (Kill, Some(Effect::Kill)),
            // Killed and still there: again, until the kernel lets go of it.
            (Kill, Event::Done) => (Stopping(now.after_ms(REFUSED_RETRY_MS)), None),
            (_, Event::Tick | Event::Done | Event::Refused) => return None,
        };
        self.phase = phase;
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retire() -> Retire {
        Retire::new(Times { linger_ms: 5, stop_ms: 30 }, Tick(100))
    }

    #[test]
    fn it_is_left_alone_then_asked_then_ended() {
        let mut it = retire();
        assert_eq!(it.step(Tick(99), Event::Tick), None);
        assert_eq!(it.step(Tick(100), Event::Tick), Some(Effect::Settle));
        assert_eq!(it.step(Tick(110), Event::Done), None);
        assert_eq!(it.deadline(), Some(Tick(115)));
        assert_eq!(it.step(Tick(115), Event::Tick), Some(Effect::Term));
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
        assert_eq!(it.step(Tick(105), Event::Tick), Some(Effect::Term));
        assert_eq!(it.step(Tick(105), Event::Refused), None);
        assert_eq!(it.phase(), Phase::Warm(Tick(105 + REFUSED_RETRY_MS)));
    }
}
