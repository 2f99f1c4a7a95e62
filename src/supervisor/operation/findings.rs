//! What an operation has found out so far. Phases return what they find; whoever runs them notes it
//! here, and no phase writes it.

use crate::core::exit::Exit;
use crate::supervisor::service::phase_result::PhaseResult;

/// What an operation has found out so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Why it left its way forward, for people.
    pub why: String,
    /// The exit code of a refusal before the start.
    pub exit: Option<Exit>,
    /// The command that does it in another way.
    pub instead: Option<String>,
    /// Things that went wrong without changing the outcome.
    pub warnings: Vec<String>,
}

impl Findings {
    /// Notes what came of a phase: the first exit code and the first reason count.
    pub(crate) fn note(&mut self, result: &PhaseResult) {
        if let Some(exit) = result.exit {
            self.exit.get_or_insert(exit);
        }
        if let Some(why) = &result.why {
            self.blame(why.clone());
        }
        if let Some(instead) = &result.instead {
            self.instead.get_or_insert_with(|| instead.clone());
        }
        self.warnings.extend(result.warnings.iter().cloned());
    }

    /// Notes why the operation leaves its way forward; the first reason is the one.
    pub(crate) fn blame(&mut self, why: impl Into<String>) {
        if self.why.is_empty() {
            self.why = why.into();
        }
    }

    /// Why it left its way forward, in one line.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.why.lines().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_and_the_first_exit_count_and_every_warning() {
        let mut findings = Findings::default();
        let warnings = |text: &str| vec![text.to_owned()];
        findings.note(&PhaseResult::ok("fine").with_warnings(warnings("a")));
        findings.note(&PhaseResult::refused(Exit::NoSpace, "no room\nat all"));
        findings.note(&PhaseResult::refused(Exit::Busy, "busy").with_warnings(warnings("b")));
        assert_eq!(findings.exit, Some(Exit::NoSpace));
        assert_eq!(findings.reason(), Some("no room"));
        assert_eq!(findings.warnings, ["a", "b"]);
    }
}
