//! `abort SERVICE`: end an operation and go back to what served before.

use serde::{Deserialize, Serialize};

use super::{Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
}

/// What a commit is to the client that has ordered `abort`: it came too late, and nothing goes back.
/// Results that go back, or never left, stay as they are.
pub fn came_too_late(outcome: &mut Outcome) {
    let word = &outcome.outcome;
    if *word != Word::Committed && *word != Word::Restarted {
        return;
    }
    let service = &outcome.service;
    let release =
        |it: Option<u64>| it.map_or("each release".to_owned(), |it| format!("release {it}"));
    let next = service.split(',').map(|name| format!("halley-sup rollback {name}"));
    outcome.exit = Exit::Usage.code();
    outcome.next = next.collect();
    outcome.trouble = Some(Trouble {
        what: format!("{service} was not aborted"),
        why: format!("the abort came too late: {} was {word} before", release(outcome.release)),
        still: format!("{} is serving", release(outcome.serving)),
        next: outcome.next.clone(),
        exit: outcome.exit,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_is_no_success_when_the_release_was_committed_before() {
        let told = |word: Word| {
            let mut outcome = Outcome::new(word.into(), "web", 7);
            (outcome.release, outcome.serving) = (Some(2), Some(2));
            came_too_late(&mut outcome);
            (outcome.exit, outcome.trouble)
        };
        let (exit, trouble) = told(Word::Committed);
        assert_eq!(exit, Exit::Usage.code());
        let trouble = trouble.unwrap();
        assert_eq!(trouble.why, "the abort came too late: release 2 was committed before");
        assert_eq!(trouble.still, "release 2 is serving");
        assert_eq!(trouble.next, ["halley-sup rollback web"]);
        assert_eq!(told(Word::Aborted), (0, None));
    }
}
