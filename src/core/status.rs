//! How a service, its processes and its rollback are, each in a word, from facts.

use crate::core::duty::Duty;

/// Why there is no release to go back to: so far there was one.
pub const NOTHING_OLDER: &str = "no earlier good release exists";

/// What is known of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// It was stopped by its users.
    pub is_stopped: bool,
    /// Something must be done by hand.
    pub has_alarm: bool,
    /// Something is wrong that Halley goes on trying.
    pub has_trouble: bool,
    /// An operation runs.
    pub is_operated: bool,
    /// There is a release that a reboot starts.
    pub has_good: bool,
    /// The processes of the release that connections go to, when there is such a release.
    pub live: Option<Life>,
}

/// How many processes of a generation run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// All that there should be.
    Whole,
    /// Some of them.
    Part,
    /// None.
    Gone,
}

impl Life {
    /// From what a generation says of itself.
    #[must_use]
    pub fn of(is_whole: bool, is_alive: bool) -> Self {
        match (is_whole, is_alive) {
            (true, _) => Self::Whole,
            (false, true) => Self::Part,
            (false, false) => Self::Gone,
        }
    }
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Running,
    /// It serves, or will, and somebody should look.
    Degraded,
    /// It does not serve.
    Down,
    /// It was stopped by its users.
    Stopped,
}

impl State {
    /// Its name in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }
}

/// Where the text stands that explains a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is nothing to explain.
    Nothing,
    /// In the alarm.
    Alarm,
    /// In what is wrong, as far as anything is known.
    Trouble,
    /// In what is wrong; when nothing is known, here.
    TroubleOr(&'static str),
    /// Here.
    Plain(&'static str),
}

/// How a service is, and where the reason stands.
#[must_use]
pub fn state(facts: Facts) -> (State, Why) {
    let Facts { is_stopped, has_alarm, has_trouble, is_operated, has_good, live } = facts;
    match live {
        _ if is_stopped => (State::Stopped, Why::Nothing),
        _ if has_alarm => (State::Degraded, Why::Alarm),
        Some(Life::Whole) if !has_trouble => (State::Running, Why::Nothing),
        Some(Life::Whole | Life::Part) => {
            (State::Degraded, Why::TroubleOr("a process is not running"))
        }
        Some(Life::Gone) => {
            (State::Down, Why::TroubleOr("its process has ended and is started again"))
        }
        None if !has_good => (State::Down, Why::Plain("no good release yet")),
        None if is_operated => {
            let why = "connections wait in the queue while its operation runs";
            (State::Degraded, Why::Plain(why))
        }
        None => (State::Down, Why::Trouble),
    }
}

/// What the processes of a generation are for, as `status` shows it.
#[must_use]
pub fn role(duty: Duty, is_leaving: bool) -> &'static str {
    match duty {
        Duty::Standby if is_leaving => "draining",
        Duty::Candidate => "candidate",
        Duty::Rehearsal => "rehearsal",
        Duty::Trial | Duty::Live => "live",
        Duty::Standby => "standby",
        Duty::Draining => "draining",
    }
}

/// What health checks have said of one process since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// It has not yet answered.
    #[default]
    Unknown,
    /// The last one was good.
    Good,
    /// The last one was not, and one before it was.
    Bad,
}

impl Health {
    /// After one more.
    #[must_use]
    pub fn after(self, is_good: bool) -> Self {
        match (is_good, self) {
            (true, _) => Self::Good,
            (false, Self::Unknown) => Self::Unknown,
            (false, Self::Good | Self::Bad) => Self::Bad,
        }
    }
}

/// How one process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It runs and has not yet answered.
    Starting,
    /// It answers.
    Ready,
    /// It has answered before, and its last health check failed.
    Unhealthy,
    /// It does not run, and waits for its next start.
    Waiting,
    /// It was asked to stop.
    Stopping,
    /// It runs, and its service cannot be managed: nobody asks it.
    Unmanaged,
}

impl InstanceState {
    /// Of a process of a generation with this duty.
    #[must_use]
    pub fn of(is_running: bool, duty: Duty, health: Health) -> Self {
        match duty {
            _ if !is_running => Self::Waiting,
            Duty::Draining => Self::Stopping,
            // It has served before.
            Duty::Standby => Self::Ready,
            _ => match health {
                Health::Unknown => Self::Starting,
                Health::Good => Self::Ready,
                Health::Bad => Self::Unhealthy,
            },
        }
    }

    /// Its name in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// Where a rollback would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackFrom {
    /// At processes that run.
    Warm,
    /// At a start.
    Cold,
}

impl RollbackFrom {
    /// Its name in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_what_its_facts_say() {
        let good = Facts { has_good: true, ..Facts::default() };
        let whole = Facts { live: Some(Life::Whole), ..good };
        let part = Facts { live: Some(Life::Part), ..good };
        let gone = Facts { live: Some(Life::Gone), ..good };
        for (facts, expected, explained) in [
            (whole, State::Running, false),
            (Facts { is_operated: true, ..whole }, State::Running, false),
            (Facts { has_trouble: true, ..whole }, State::Degraded, true),
            (part, State::Degraded, true),
            (Facts { has_trouble: true, ..part }, State::Degraded, true),
            (gone, State::Down, true),
            (Facts { is_operated: true, ..gone }, State::Down, true),
            (good, State::Down, true),
            (Facts { is_operated: true, ..good }, State::Degraded, true),
            (Facts::default(), State::Down, true),
            // The first release is no outage of an earlier one.
            (Facts { is_operated: true, ..Facts::default() }, State::Down, true),
            (Facts { has_good: false, ..whole }, State::Running, false),
        ] {
            let (state, why) = state(facts);
            assert_eq!((state, why != Why::Nothing), (expected, explained), "{facts:?}");
        }
    }

    #[test]
    fn an_alarm_explains_everything_but_a_stop() {
        for live in [None, Some(Life::Whole), Some(Life::Part), Some(Life::Gone)] {
            let alarmed = Facts { has_alarm: true, has_trouble: true, live, ..Facts::default() };
            assert_eq!(state(alarmed), (State::Degraded, Why::Alarm), "{live:?}");
            let stopped = Facts { is_stopped: true, ..alarmed };
            assert_eq!(state(stopped), (State::Stopped, Why::Nothing), "{live:?}");
        }
    }

    #[test]
    fn a_process_is_ready_when_it_has_answered_or_has_served() {
        let (unknown, good) = (Health::default(), Health::default().after(true));
        let bad = good.after(false);
        for (is_running, duty, health, expected) in [
            (false, Duty::Live, good, "waiting"),
            (false, Duty::Draining, unknown, "waiting"),
            (true, Duty::Draining, good, "stopping"),
            (true, Duty::Live, good, "ready"),
            (true, Duty::Live, unknown.after(false), "starting"),
            (true, Duty::Live, bad.after(false), "unhealthy"),
            (true, Duty::Live, bad.after(true), "ready"),
            (true, Duty::Candidate, unknown, "starting"),
            (true, Duty::Candidate, good, "ready"),
            (true, Duty::Standby, unknown, "ready"),
        ] {
            let state = InstanceState::of(is_running, duty, health);
            assert_eq!(state.name(), expected, "{is_running} {duty:?} {health:?}");
        }
    }

    #[test]
    fn a_standby_that_leaves_is_drained() {
        for (duty, is_leaving, expected) in [
            (Duty::Standby, false, "standby"),
            (Duty::Standby, true, "draining"),
            (Duty::Live, true, "live"),
            (Duty::Trial, false, "live"),
        ] {
            assert_eq!(role(duty, is_leaving), expected, "{duty:?}");
        }
    }
}
