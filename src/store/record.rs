//! One line of a journal after the first.

use serde::{Deserialize, Serialize};

use crate::api::{Event, Outcome, PhaseState};
use crate::os::clock;
use crate::store::state_word::StateWord;

/// One line after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, RFC 3339.
    pub at: String,
    /// The phase's name.
    pub phase: String,
    /// Where it stands; absent in the last line.
    pub state: Option<StateWord>,
    /// How long it took.
    #[serde(default)]
    pub ms: u64,
    /// For people.
    #[serde(default)]
    pub detail: String,
    /// Why the operation left its way forward.
    #[serde(default)]
    pub cause: String,
    /// The generation that a rung of the way back is.
    #[serde(default)]
    pub generation: Option<u64>,
    /// In the last line: how it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

impl Record {
    /// A phase is about to be performed.
    #[must_use]
    pub fn start(phase: &str, cause: &str, generation: Option<u64>) -> Self {
        let cause = cause.to_owned();
        Self { cause, generation, ..Self::of(phase, Some(PhaseState::Start)) }
    }

    /// A phase is over.
    #[must_use]
    pub fn end(phase: &str, state: PhaseState, ms: u64, detail: String) -> Self {
        Self { ms, detail, ..Self::of(phase, Some(state)) }
    }

    /// `abort` waits for the end of a phase.
    #[must_use]
    pub fn called_off(phase: &str, cause: &str) -> Self {
        Self { cause: cause.to_owned(), ..Self::of(phase, None) }
    }

    /// The operation is over.
    #[must_use]
    pub fn result(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::of("done", None) }
    }

    /// Where the phase stands, when this version knows the word.
    #[must_use]
    pub fn state(&self) -> Option<PhaseState> {
        self.state.as_ref().and_then(StateWord::known)
    }

    /// The event that was sent to watching clients for this entry.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        match (&self.outcome, self.state()) {
            (Some(outcome), _) => Some(Event::Result(Box::new(outcome.clone()))),
            (None, Some(state)) => Some(Event::Phase {
                phase: self.phase.clone(),
                state,
                ms: self.ms,
                detail: self.detail.clone(),
            }),
            (None, None) => None,
        }
    }

    fn of(phase: &str, state: Option<PhaseState>) -> Self {
        Self {
            at: clock::now_rfc3339(),
            phase: phase.to_owned(),
            state: state.map(StateWord::Known),
            ms: 0,
            detail: String::new(),
            cause: String::new(),
            generation: None,
            outcome: None,
        }
    }
}
