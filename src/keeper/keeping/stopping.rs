//! How far a keeper is with its stop.

use crate::core::time::Tick;
use crate::os::notify;

/// What is left over after the supervisor's own stop gets this long between `TERM` and `KILL`.
pub(super) const LAST_TERM_MS: u64 = 10_000;

/// How far the keeper is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It stays.
    No,
    /// The supervisor takes everything down until then.
    Asked {
        /// When it was asked for.
        at: Tick,
        /// The end of its time.
        until: Tick,
    },
    /// What is left has got `TERM` and may take until then.
    Term(Tick),
    /// Everything is down.
    Over,
}

impl Stop {
    /// The services need so long: a service manager is asked for as much, and a moment for what is left.
    pub(super) fn taking(self, ms: u64) -> Self {
        let Self::Asked { at, until } = self else { return self };
        let until = until.max(at.after_ms(ms));
        let extended_ms = ms.saturating_add(3 * LAST_TERM_MS);
        notify::notify(&format!("EXTEND_TIMEOUT_USEC={}", extended_ms.saturating_mul(1000)));
        Self::Asked { at, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_has_the_time_that_the_services_need_from_its_beginning_on() {
        let asked = |until| Stop::Asked { at: Tick(1_000), until: Tick(until) };
        assert_eq!(asked(86_000).taking(205_000), asked(206_000));
        // It is never less than it was, and a supervisor that comes back makes it no longer.
        assert_eq!(asked(86_000).taking(10), asked(86_000));
        assert_eq!(asked(206_000).taking(205_000), asked(206_000));
        assert_eq!(Stop::Term(Tick(5)).taking(9), Stop::Term(Tick(5)));
        assert_eq!(Stop::No.taking(9), Stop::No);
    }
}
