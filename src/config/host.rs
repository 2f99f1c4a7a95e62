//! The host's settings of a release that is started once more: what its `release.toml` set is the
//! release's, everything else is the host's as it is configured at that moment.

use std::collections::BTreeMap;

use super::model::{Own, Settings};

/// Which start it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The release that serves, or did last: all of the host's settings are those of today.
    Again,
    /// A release that one goes back to: it runs as it did, with the environment of today.
    Back,
}

impl Own {
    /// What of a release's settings is not the host's.
    #[must_use]
    pub fn of(settings: &Settings, host: &Settings) -> Self {
        Self {
            env: own_names(&settings.env, &host.env),
            command: settings.command != host.command,
            health: settings.health != host.health,
            stop: settings.stop != host.stop,
        }
    }
}

/// The settings to start a release with that `ran` with some.
#[must_use]
pub fn renew(ran: Settings, own: &Own, now: &Settings, start: Start) -> Settings {
    let mut renewed = Settings { env: env(&ran.env, &own.env, &now.env), ..ran };
    if start == Start::Back {
        return renewed;
    }
    if !own.command {
        renewed.command.clone_from(&now.command);
    }
    if !own.health {
        renewed.health.clone_from(&now.health);
    }
    if !own.stop {
        renewed.stop.clone_from(&now.stop);
    }
    Settings {
        user: now.user.clone(),
        group: now.group.clone(),
        groups: now.groups.clone(),
        limits: now.limits.clone(),
        handoff: now.handoff,
        bake: now.bake.clone(),
        ..renewed
    }
}

type Env = BTreeMap<String, String>;

fn own_names(ran: &Env, host: &Env) -> Vec<String> {
    let own = ran.iter().filter(|(name, value)| host.get(*name) != Some(value));
    own.map(|(name, _)| name.clone()).collect()
}

fn env(ran: &Env, own: &[String], now: &Env) -> Env {
    let mut env = now.clone();
    let own = own.iter().filter_map(|name| Some((name.clone(), ran.get(name)?.clone())));
    env.extend(own);
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
            let own = own_names(&env_of(ran), &env_of(was));
            assert_eq!(env(&env_of(ran), &own, &env_of(now)), env_of(expected), "{ran}");
        }
    }
}
