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

/// How it uses the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A process has it open.
    Process,
    /// A server has a session for it, which can be ended there.
    Session,
}

/// What may be ended for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Services of the stack; they come back.
    pub services: bool,
    /// Sessions of others on the server; they may come back by themselves.
    pub sessions: bool,
}

impl Allowed {
    /// The options of a restore that allow it, each behind a space.
    #[must_use]
    pub fn options(self) -> String {
        let services = if self.services { " --stop-users" } else { "" };
        let sessions = if self.sessions { " --end-sessions" } else { "" };
        [services, sessions].concat()
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The data can be replaced, when sessions that may be ended are.
    Free,
    /// So it can, when these services are stopped.
    Stops(BTreeSet<String>),
    /// It cannot.
    Used {
        /// What would have to be allowed; nothing where that is not all.
        suffices: Option<Allowed>,
    },
}

/// Decides whether data can be replaced that these use.
#[must_use]
pub fn judge<'a>(
    users: impl IntoIterator<Item = (&'a Owner, By)>,
    when: When,
    allowed: Allowed,
) -> Verdict {
    let (mut services, mut sessions, mut strangers) = (BTreeSet::new(), false, false);
    for (owner, by) in users {
        match (owner, when, by) {
            (Owner::Itself | Owner::Unknown, When::Planning, _) => {}
            (Owner::Service(name), ..) => drop(services.insert(name.clone())),
            (_, _, By::Session) => sessions = true,
            (_, _, By::Process) => strangers = true,
        }
    }
    let is_free_of_sessions = !sessions || allowed.sessions;
    match (strangers, services.is_empty()) {
        (false, true) if is_free_of_sessions => Verdict::Free,
        (false, false) if is_free_of_sessions && allowed.services && when == When::Planning => {
            Verdict::Stops(services)
        }
        (true, _) => Verdict::Used { suffices: None },
        (false, no_services) => {
            Verdict::Used { suffices: Some(Allowed { services: !no_services, sessions }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Allowed = Allowed { services: false, sessions: false };
    const SERVICES: Allowed = Allowed { services: true, sessions: false };
    const SESSIONS: Allowed = Allowed { services: false, sessions: true };
    const BOTH: Allowed = Allowed { services: true, sessions: true };

    fn service() -> Owner {
        Owner::Service("worker".to_owned())
    }

    #[track_caller]
    fn check(users: &[(Owner, By)], when: When, allowed: Allowed, expected: Verdict) {
        let users = users.iter().map(|(owner, by)| (owner, *by));
        assert_eq!(judge(users, when, allowed), expected);
    }

    fn used(suffices: Option<Allowed>) -> Verdict {
        Verdict::Used { suffices }
    }

    fn stops() -> Verdict {
        Verdict::Stops(BTreeSet::from(["worker".to_owned()]))
    }

    #[test]
    fn what_is_allowed_is_asked_for_by_options() {
        let all = [NOTHING, SERVICES, SESSIONS, BOTH].map(Allowed::options);
        assert_eq!(all, ["", " --stop-users", " --end-sessions", " --stop-users --end-sessions"]);
    }

    #[test]
    fn only_services_are_stopped_and_only_when_that_is_wanted() {
        let plan = |users: &[Owner], allowed, expected| {
            let users: Vec<_> = users.iter().map(|owner| (owner.clone(), By::Process)).collect();
            check(&users, When::Planning, allowed, expected);
        };
        plan(&[Owner::Itself, Owner::Unknown], NOTHING, Verdict::Free);
        plan(&[Owner::Itself, service()], NOTHING, used(Some(SERVICES)));
        plan(&[Owner::Itself, service()], SERVICES, stops());
        for allowed in [SERVICES, BOTH] {
            plan(&[service(), Owner::Stranger], allowed, used(None));
            plan(&[Owner::Stranger], allowed, used(None));
        }
    }

    #[test]
    fn sessions_are_ended_only_when_that_is_wanted() {
        let stranger = (Owner::Stranger, By::Session);
        for when in [When::Planning, When::Held] {
            check(std::slice::from_ref(&stranger), when, SERVICES, used(Some(SESSIONS)));
            check(std::slice::from_ref(&stranger), when, SESSIONS, Verdict::Free);
            let process = (Owner::Stranger, By::Process);
            check(&[stranger.clone(), process], when, BOTH, used(None));
        }
        let all = [stranger, (service(), By::Session)];
        check(&all, When::Planning, NOTHING, used(Some(BOTH)));
        check(&all, When::Planning, SESSIONS, used(Some(BOTH)));
        check(&all, When::Planning, BOTH, stops());
    }

    #[test]
    fn whoever_is_left_when_all_is_stopped_was_not_announced() {
        for owner in [Owner::Itself, Owner::Unknown, Owner::Stranger] {
            check(&[(owner, By::Process)], When::Held, BOTH, used(None));
        }
        check(&[(service(), By::Session)], When::Held, BOTH, used(Some(SERVICES)));
        check(&[], When::Held, NOTHING, Verdict::Free);
    }
}
