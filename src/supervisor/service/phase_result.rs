//! What came of a phase: for the machine, for people, and for the operation's record.

use crate::core::exit::Exit;
use crate::core::operation::machine::Event as Step;

/// What came of a phase.
#[derive(Debug)]
pub(crate) struct PhaseResult {
    /// For the machine.
    pub step: Step,
    /// For people, in one line.
    pub detail: String,
    /// There was nothing to do.
    pub is_skipped: bool,
    /// The exit code of a refusal before the start; the first one of an operation counts.
    pub exit: Option<Exit>,
    /// Why the operation leaves its way forward; the first reason counts.
    pub why: Option<String>,
    /// The command that does it in another way, when there is one.
    pub instead: Option<String>,
    /// What went wrong without changing the outcome.
    pub warnings: Vec<String>,
}

impl PhaseResult {
    /// The phase was performed.
    pub(crate) fn ok(detail: impl Into<String>) -> Self {
        Self::not(Step::Ok, detail)
    }

    /// There was nothing to do.
    pub(crate) fn skip(detail: impl Into<String>) -> Self {
        Self { is_skipped: true, ..Self::ok(detail) }
    }

    /// It went otherwise.
    pub(crate) fn not(step: Step, detail: impl Into<String>) -> Self {
        Self {
            step,
            detail: detail.into(),
            is_skipped: false,
            exit: None,
            why: None,
            instead: None,
            warnings: Vec::new(),
        }
    }

    /// It failed for this reason, whose first line is the detail.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::because(Step::Failed, why)
    }

    /// It went otherwise for this reason, whose first line is the detail.
    pub(crate) fn because(step: Step, why: impl Into<String>) -> Self {
        let why = why.into();
        let detail = why.lines().next().unwrap_or_default().to_owned();
        Self { why: Some(why), ..Self::not(step, detail) }
    }

    /// The operation ends here with this exit code, before anything was started.
    pub(crate) fn refused(exit: Exit, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { exit: Some(exit), why: Some(why.clone()), ..Self::not(Step::Failed, why) }
    }

    /// The same, with this reason to leave the way forward.
    #[must_use]
    pub(crate) fn with_reason(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// The same with these warnings.
    #[must_use]
    pub(crate) fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}
