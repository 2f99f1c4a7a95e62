//! What a release has to show of the way back before it may flip.

use crate::core::ids::ReleaseId;

/// How the release is that an operation is to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Before {
    /// It answers: a rollback to it is worth protecting.
    Answers,
    /// It was stopped by its users: nothing is lost when it does not come back.
    Stopped,
    /// It is in a crash loop, or does not answer: one does not go back to it as long as there is
    /// another.
    Down,
}

named!(Before { Answers = "answers", Stopped = "stopped", Down = "down" });

/// Whether a way back is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// The release before must run on what this one leaves.
    Required,
    /// What the release is to replace does not answer, or was stopped: a release before it is looked
    /// at, and what is found is a warning.
    Wanted,
    /// The only release that one could go back to is the one that does not answer.
    Lost,
    /// `--no-way-back` gave a reason.
    Waived,
}

impl WayBack {
    /// What is asked for of a release with this ladder.
    #[must_use]
    pub const fn of(is_waived: bool, before: Before, ladder: &[ReleaseId]) -> Self {
        match (is_waived, before) {
            (true, _) => Self::Waived,
            (false, Before::Answers) => Self::Required,
            (false, Before::Down) if ladder.len() == 1 => Self::Lost,
            (false, Before::Stopped | Before::Down) => Self::Wanted,
        }
    }
}

/// The release that one no longer goes back to once another has replaced it: it was down, and there
/// are others. It is the last of the ladder.
#[must_use]
pub fn given_up(before: Before, ladder: &[ReleaseId]) -> Option<ReleaseId> {
    match (before, ladder) {
        (Before::Down, [_, .., last]) => Some(*last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: [ReleaseId; 2] = [ReleaseId(8), ReleaseId(9)];

    #[test]
    fn a_way_back_is_required_only_to_what_answers() {
        let check = |before, n_rungs, expected| {
            assert_eq!(WayBack::of(false, before, &LADDER[..n_rungs]), expected, "{before:?}");
            assert_eq!(WayBack::of(true, before, &LADDER[..n_rungs]), WayBack::Waived);
        };
        for n_rungs in 0..=2 {
            check(Before::Answers, n_rungs, WayBack::Required);
            check(Before::Stopped, n_rungs, WayBack::Wanted);
        }
        check(Before::Down, 0, WayBack::Wanted);
        check(Before::Down, 1, WayBack::Lost);
        check(Before::Down, 2, WayBack::Wanted);
    }

    #[test]
    fn only_what_was_down_is_given_up_and_only_where_there_is_another() {
        for before in [Before::Answers, Before::Stopped] {
            assert_eq!(given_up(before, &LADDER), None);
        }
        let check = |ladder, expected| assert_eq!(given_up(Before::Down, ladder), expected);
        check(&[][..], None);
        check(&LADDER[..1], None);
        check(&LADDER, Some(ReleaseId(9)));
    }
}
