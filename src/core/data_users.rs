//! Who uses data that is about to be replaced, and what follows from it.

use std::collections::BTreeSet;

/// Whose process it is that uses the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The service whose data it is.
    Itself,
    /// Another service of the stack.
    Service(String),
    /// None of them.
    Stranger,
    /// It cannot be told as long as the service runs.
    Unknown,
}

/// Whether the service whose data it is has been stopped already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It runs.
    Planning,
    /// It is stopped, and the services that were to be stopped with it.
    Held,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The data can be replaced.
    Free,
    /// So it can, when these services are stopped.
    Stops(BTreeSet<String>),
    /// It cannot.
    Used {
        /// Only services use it: a flag stops them.
        by_services_alone: bool,
    },
}

/// Decides whether data can be replaced that these use.
#[must_use]
pub fn judge<'a>(
    owners: impl IntoIterator<Item = &'a Owner>,
    when: When,
    stop_users: StopUsers,
) -> Verdict {
    let (mut services, mut strangers) = (BTreeSet::new(), false);
    for owner in owners {
        match (owner, when) {
            (Owner::Itself | Owner::Unknown, When::Planning) => {}
            (Owner::Service(name), _) => drop(services.insert(name.clone())),
            (Owner::Stranger, _) | (Owner::Itself | Owner::Unknown, When::Held) => strangers = true,
        }
    }
    match (services.is_empty(), strangers) {
        (true, false) => Verdict::Free,
        (false, false) if when == When::Planning && stop_users == StopUsers::Yes => {
            Verdict::Stops(services)
        }
        (_, strangers) => Verdict::Used { by_services_alone: !strangers },
    }
}

/// Whether services that use the data may be stopped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopUsers {
    /// They may.
    Yes,
    /// They may not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Owner {
        Owner::Service("worker".to_owned())
    }

    #[track_caller]
    fn check(owners: &[Owner], when: When, stop: StopUsers, expected: Verdict) {
        assert_eq!(judge(owners, when, stop), expected);
    }

    #[test]
    fn only_services_are_stopped_and_only_when_that_is_wanted() {
        const ALONE: Verdict = Verdict::Used { by_services_alone: true };
        const NOT_ALONE: Verdict = Verdict::Used { by_services_alone: false };
        let stop = StopUsers::Yes;
        check(&[Owner::Itself, Owner::Unknown], When::Planning, StopUsers::No, Verdict::Free);
        check(&[Owner::Itself, service()], When::Planning, StopUsers::No, ALONE);
        let stops = Verdict::Stops(BTreeSet::from(["worker".to_owned()]));
        check(&[Owner::Itself, service()], When::Planning, stop, stops);
        check(&[service(), Owner::Stranger], When::Planning, stop, NOT_ALONE);
        check(&[Owner::Stranger], When::Planning, stop, NOT_ALONE);
    }

    #[test]
    fn whoever_is_left_when_all_is_stopped_was_not_announced() {
        let used = |by_services_alone| Verdict::Used { by_services_alone };
        for owner in [Owner::Itself, Owner::Unknown, Owner::Stranger] {
            check(&[owner], When::Held, StopUsers::Yes, used(false));
        }
        check(&[service()], When::Held, StopUsers::Yes, used(true));
        check(&[], When::Held, StopUsers::No, Verdict::Free);
    }
}
