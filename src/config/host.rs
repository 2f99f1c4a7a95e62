//! The host's settings of a release that is started once more: what its `release.toml` set is the
//! release's, everything else is the host's as it is configured at that moment.
//!
//! Nothing is parsed for it. The host's settings are stored beside those that the release ran with,
//! and what differs between the two is what the release has set itself.

use std::collections::BTreeMap;

use super::model::Settings;

/// Which start it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The release that serves, or did last: all of the host's settings are those of today.
    Again,
    /// A release that one goes back to: it runs as it did, with the environment of today.
    Back,
}

/// The settings to start a release with that `ran` with some when the host's were `was`.
#[must_use]
pub fn renew(ran: Settings, was: &Settings, now: &Settings, start: Start) -> Settings {
    let env = env(&ran.env, &was.env, &now.env);
    let ran = Settings { env, ..ran };
    if start == Start::Back {
        return ran;
    }
    Settings {
        command: of_host(&ran.command, &was.command, &now.command),
        health: of_host(&ran.health, &was.health, &now.health),
        stop: of_host(&ran.stop, &was.stop, &now.stop),
        user: now.user.clone(),
        handoff: now.handoff,
        bake: now.bake.clone(),
        ..ran
    }
}

fn of_host<T: Clone + PartialEq>(ran: &T, was: &T, now: &T) -> T {
    if ran == was { now.clone() } else { ran.clone() }
}

type Env = BTreeMap<String, String>;

fn env(ran: &Env, was: &Env, now: &Env) -> Env {
    let mut env = now.clone();
    let own = ran.iter().filter(|(name, value)| was.get(*name) != Some(value));
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_of(text: &str) -> Env {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_environment_is_that_of_today_but_for_what_the_release_sets() {
        for (ran, was, now, expected) in [
            ("A=1 B=1", "A=1 B=1", "A=2 B=1", "A=2 B=1"),
            ("A=1 R=own", "A=1", "A=2", "A=2 R=own"),
            ("A=own", "A=1", "A=2", "A=own"),
            ("A=1", "A=1", "", ""),
            ("", "", "N=new", "N=new"),
        ] {
            assert_eq!(env(&env_of(ran), &env_of(was), &env_of(now)), env_of(expected), "{ran}");
        }
    }

    #[test]
    fn what_the_release_has_set_stays_its_own() {
        assert_eq!(of_host(&"host", &"host", &"today"), "today");
        assert_eq!(of_host(&"own", &"host", &"today"), "own");
    }
}
