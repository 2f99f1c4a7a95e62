//! From what was typed in to settings: one `[service.NAME]` after the other.
//!
//! A service is always built, with defaults in place of what is wrong, so that the checks across
//! services ([`super::across`]) run too and every problem is reported at once. The calling code
//! discards everything when there was a problem.

use std::collections::BTreeMap;
use std::path::Path;

use super::model::{Full, Handoff, Keep, Kept, Listen, Reaction, ReleaseKey, Service, Settings};
use super::problem::Problem;
use super::raw::{Found, Section};
use super::{
    backup, bake, connect, data, env_file, health, hooks, limits, listen, proxy, rehearse_write,
    sections, settings, takeover, tree,
};
use crate::core::ids::ServiceName;
use crate::core::ordered;
use crate::core::restart::Policy;

/// Version of the settings' format.
const SETTINGS_VERSION: u16 = 1;

/// A service with the lines that the checks across services point at.
pub(super) struct Draft {
    pub(super) service: Service,
    pub(super) line: usize,
    pub(super) listen: Vec<Found<Listen>>,
    pub(super) after: Vec<Found<ServiceName>>,
    /// What is wrong with its `env_file`: no other service suffers from that.
    pub(super) of_env_file: Vec<Problem>,
}

/// Reads every service of a file.
pub(super) fn services(top: &Section<'_>, base: &Path) -> Vec<Draft> {
    let Some(table) = top.free_section("service") else {
        return Vec::new();
    };
    let mut drafts = Vec::new();
    for name in table.keys() {
        let section = table.section(name, sections::SERVICE);
        match name.parse::<ServiceName>() {
            Ok(name) => drafts.extend(section.map(|section| service(name, &section, base))),
            Err(error) => table.problem(name, error.to_string()),
        }
    }
    drafts
}

fn service(name: ServiceName, section: &Section<'_>, base: &Path) -> Draft {
    let listen = listeners(section);
    let after = names(section, "after");
    let (env, of_env_file) = env_from_file(section, base);
    let texts: Vec<String> = of_env_file.iter().map(ToString::to_string).collect();
    let service = Service {
        name,
        no_env: (!texts.is_empty()).then(|| texts.join("; ")),
        listen: listen.iter().map(|found| found.value.clone()).collect(),
        backlog: section.number("backlog", 1, 65_535).unwrap_or(1024),
        socket_file: takeover::socket_file(section),
        strategy: takeover::strategy(section),
        max_gap: section.positive_duration("max_gap").unwrap_or(takeover::MAX_GAP),
        forward: takeover::forward(section),
        proxy: section.section("proxy", proxy::KEYS).and_then(|table| proxy::read(&table)),
        after: after.iter().map(|found| found.value.clone()).collect(),
        artifact_bytes_max: section.size("artifact_max").unwrap_or(2 << 30),
        tree: tree::read(section),
        pinned: pinned(section),
        keep: keep(section),
        kept: section.word("kept", &Kept::WORDS).unwrap_or(Kept::DEFAULT),
        log_full: log_full(section),
        rehearse: data::rehearse(section),
        rehearse_connect: connect::read(section),
        rehearse_write: rehearse_write::read(section),
        restart: section.word("restart", RESTARTS).unwrap_or_default(),
        on_crash_loop: reaction(section, "on_crash_loop", &[ALARM, ROLLBACK]),
        on_unhealthy: reaction(section, "on_unhealthy", &[ALARM, RESTART, ROLLBACK]),
        drill: data::drill(section),
        backup: section.section("backup", backup::KEYS).and_then(|table| backup::backup(&table)),
        settings: service_settings(section, env, &listen),
    };
    takeover::check(section, &service);
    Draft { service, line: section.line(""), listen, after, of_env_file }
}

fn service_settings(
    section: &Section<'_>,
    mut env: BTreeMap<String, String>,
    listen: &[Found<Listen>],
) -> Settings {
    let has_stream = listen.iter().any(|found| !matches!(found.value, Listen::Udp(_)));
    let n_listen = usize::from(has_stream || section.has("proxy"));
    let mut health = health::default(n_listen);
    if let Some(table) = section.section("health", health::KEYS) {
        health = health::read(&table, health, n_listen);
    }
    let mut bake = bake::default();
    if let Some(table) = section.section("bake", bake::KEYS) {
        bake = bake::read(&table, bake, n_listen);
    }
    let mut stop = settings::default_stop();
    if let Some(table) = section.section("stop", settings::STOP_KEYS) {
        stop = settings::stop(&table, stop);
    }
    let migrate = section.section("migrate", data::MIGRATE_KEYS);
    let migrate = migrate.and_then(|table| data::migrate(&table, None));
    let hooks = section.section("hooks", hooks::KEYS);
    env.extend(settings::env(section));
    Settings {
        version: SETTINGS_VERSION,
        command: section.command("command").unwrap_or_default(),
        user: user(section),
        group: section.text("group").map(|found| known_group(section, "group", found)),
        groups: groups(section),
        limits: section
            .section("limits", limits::KEYS)
            .map(|table| limits::read(&table))
            .unwrap_or_default(),
        instances: instances(section),
        env,
        handoff: handoff(section),
        health,
        bake,
        stop,
        migrate,
        schema: None,
        hooks: hooks.map(|table| hooks::read(&table)).unwrap_or_default(),
    }
}

fn listeners(section: &Section<'_>) -> Vec<Found<Listen>> {
    let mut listeners = Vec::new();
    let texts = section.texts("listen");
    if texts.as_ref().is_some_and(Vec::is_empty) {
        section.problem_with_hint("listen", "is empty", "leave it out");
    }
    for text in texts.unwrap_or_default() {
        match listen::parse(&text.value) {
            Ok(value) => listeners.push(Found { value, line: text.line }),
            Err(error) => {
                section.report().add(text.line, &section.path("listen"), error.to_string());
            }
        }
    }
    listeners
}

type Word = (&'static str, Reaction);
const ALARM: Word = ("alarm", Reaction::Alarm);
const RESTART: Word = ("restart", Reaction::Restart);
const ROLLBACK: Word = ("rollback", Reaction::Rollback);

const RESTARTS: &[(&str, Policy)] =
    &[("always", Policy::Always), ("on-failure", Policy::OnFailure), ("never", Policy::Never)];

fn reaction(section: &Section<'_>, key: &str, words: &[Word]) -> Reaction {
    section.word(key, words).unwrap_or_default()
}

fn handoff(section: &Section<'_>) -> Handoff {
    let modes =
        [("inherit", Handoff::Inherit), ("intercept", Handoff::Intercept), ("port", Handoff::Port)];
    section.word("handoff", &modes).unwrap_or(Handoff::Inherit)
}

fn instances(section: &Section<'_>) -> u16 {
    let number = section.number("instances", 1, 64).unwrap_or(1);
    u16::try_from(number).unwrap_or(1)
}

fn user(section: &Section<'_>) -> Option<String> {
    let name = section.text("user")?.value;
    match nix::unistd::User::from_name(&name) {
        Ok(Some(_)) => {}
        Ok(None) => section.problem_with_hint(
            "user",
            format!("there is no user {name:?} on this host"),
            format!("create it: useradd --system {name}"),
        ),
        Err(errno) => section.problem("user", format!("cannot look {name:?} up: {errno}")),
    }
    Some(name)
}

/// A name as it stands, reported when there is no such group.
fn known_group(section: &Section<'_>, key: &str, name: Found<String>) -> String {
    let why = match nix::unistd::Group::from_name(&name.value) {
        Ok(Some(_)) => return name.value,
        Ok(None) => format!("there is no group {:?} on this host", name.value),
        Err(errno) => format!("cannot look {:?} up: {errno}", name.value),
    };
    let hint = format!("create it: groupadd --system {}", name.value);
    section.report().add_with_hint(name.line, &section.path(key), why, hint);
    name.value
}

fn groups(section: &Section<'_>) -> Vec<String> {
    let names = section.texts("groups").unwrap_or_default();
    names.into_iter().map(|name| known_group(section, "groups", name)).collect()
}

fn names(section: &Section<'_>, key: &str) -> Vec<Found<ServiceName>> {
    let mut names = Vec::new();
    for text in section.texts(key).unwrap_or_default() {
        match text.value.parse::<ServiceName>() {
            Ok(value) => names.push(Found { value, line: text.line }),
            Err(error) => section.report().add(text.line, &section.path(key), error.to_string()),
        }
    }
    names
}

fn pinned(section: &Section<'_>) -> Vec<ReleaseKey> {
    let mut pinned = section.words("pin", &RELEASE_KEYS).unwrap_or_default();
    ordered::sort(&mut pinned, |a, b| a < b);
    pinned.dedup();
    pinned
}

/// The keys of `release.toml` that a host can pin.
pub(super) const RELEASE_KEYS: [(&str, ReleaseKey); 6] = [
    ("command", ReleaseKey::Command),
    ("env", ReleaseKey::Env),
    ("health", ReleaseKey::Health),
    ("stop", ReleaseKey::Stop),
    ("migrate", ReleaseKey::Migrate),
    ("hooks", ReleaseKey::Hooks),
];

fn keep(section: &Section<'_>) -> Keep {
    let mut keep = Keep { releases: 5, standby: std::time::Duration::from_secs(15 * 60) };
    if let Some(table) = section.section("keep", sections::KEEP) {
        keep.releases = table.number("releases", 1, 10_000).unwrap_or(keep.releases);
        keep.standby = table.duration("standby").unwrap_or(keep.standby);
    }
    keep
}

fn log_full(section: &Section<'_>) -> Full {
    let words = [("drop", Full::Drop), ("block", Full::Block)];
    let table = section.section("log", sections::LOG);
    table.and_then(|table| table.word("full", &words)).unwrap_or(Full::Drop)
}

fn env_from_file(section: &Section<'_>, base: &Path) -> (BTreeMap<String, String>, Vec<Problem>) {
    let Some(text) = section.text("env_file") else { return Default::default() };
    let path = base.join(&text.value);
    let (key, report) = ("env_file", section.report());
    let source = match report.read(&path) {
        Ok(source) => source,
        Err(error) => {
            let message = format!("{}: {error}", path.display());
            let problem = report.problem(section.line(key), &section.path(key), message);
            return (BTreeMap::new(), vec![problem]);
        }
    };
    let (vars, errors) = env_file::parse(&source);
    let of_line = |(line, error): (usize, env_file::LineError)| Problem {
        file: path.clone(),
        ..report.problem(line, "", error.to_string())
    };
    (vars, errors.into_iter().map(of_line).collect())
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::duration;
    use crate::config::problem::Report;

    /// Reads the one service of `text`, below `[service.web]`.
    fn check(text: &str) -> (Service, Vec<String>) {
        let text = format!("[service.web]\n{text}");
        let table = DeTable::parse(&text).unwrap();
        let report = Report::new(Path::new("t.toml"), &text);
        let top = Section::of("", &(0..0), table.get_ref(), sections::TOP, &report);
        let draft = services(&top, Path::new("/base")).remove(0);
        draft.of_env_file.into_iter().for_each(|problem| report.push(problem));
        (draft.service, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_of_one_line_has_every_default() {
        let (service, problems) = check("listen = [\"tcp://127.0.0.1:80\"]");
        assert_eq!(problems, [""; 0]);
        assert_eq!((service.backlog, service.artifact_bytes_max), (1024, 2_147_483_648));
        assert_eq!(service.settings.command, [""; 0]);
        assert_eq!(service.settings.instances, 1);
        assert_eq!(service.settings.health.check, crate::config::model::Check::Tcp);
        assert_eq!(duration::print(service.settings.bake.length), "30s");
        assert_eq!(duration::print(service.settings.stop.linger), "5s");
        assert_eq!(
            (service.keep.releases, duration::print(service.keep.standby).as_str()),
            (5, "15m")
        );
    }

    #[test]
    fn without_a_listener_being_alive_is_the_check() {
        let (service, problems) = check("");
        assert_eq!(problems, [""; 0]);
        assert_eq!(service.settings.health.check, crate::config::model::Check::Alive);
    }

    #[test]
    fn each_bad_value_is_answered_at_its_line() {
        for (text, problem) in [
            ("command = []", "2: service.web.command: names no program"),
            ("command = [\"\"]", "2: service.web.command: names no program"),
            ("instances = 65", "2: service.web.instances: 65 is not between 1 and 64"),
            ("backlog = 0", "2: service.web.backlog: 0 is not between 1 and 65535"),
            ("handoff = \"x\"", "2: service.web.handoff: \"x\" is not one of inherit, intercept"),
            ("user = \"no-such-user\"", "2: service.web.user: there is no user \"no-such-user\""),
            ("after = [\n\"A b\"]", "3: service.web.after: a service's name is 1 to 63"),
            ("pin = [\"user\"]", "2: service.web.pin: \"user\" is not one of command, env"),
            ("artifact_max = \"0B\"", "2: service.web.artifact_max: must be greater than zero"),
            ("artifact_max = \"5\"", "2: service.web.artifact_max: not a size"),
            ("env = { A = 1 }", "2: service.web.env.A: it is a whole number and should be a text"),
            ("env = { HALLEY_RELEASE = \"1\" }", "2: service.web.env.HALLEY_RELEASE: is set by"),
            ("env = { \"A B\" = \"1\" }", "2: service.web.env.A B: bad name"),
            ("env_file = \"none.env\"", "2: service.web.env_file: /base/none.env: No such file"),
            ("listen = []", "2: service.web.listen: is empty; leave it out"),
            ("listen = [\"tcp://a:0\"]", "2: service.web.listen: \"a\" is a name"),
            ("health.http = \"healthz\"", "2: service.web.health.http: \"healthz\" is not a path"),
            ("health.tcp = true", "2: service.web.health.tcp: the service has no listener"),
            ("health.rise = 0", "2: service.web.health.rise: 0 is not between"),
            ("health.fall = 0", "2: service.web.health.fall: 0 is not between"),
            ("health.timeout = \"0\"", "2: service.web.health.timeout: must be greater than zero"),
            ("health.interval = \"off\"", "2: service.web.health.interval: must be greater"),
            ("health.deadline = \"1s\"", "2: service.web.health.deadline: is shorter than"),
            ("health.rise = 99", "2: service.web.health.deadline: is too short for `rise`"),
            ("stop.signal = \"KILL\"", "2: service.web.stop.signal: \"KILL\" is not one of TERM"),
            ("stop.timeout = \"0\"", "2: service.web.stop.timeout: must be greater than zero"),
            ("bake.inconclusive = \"x\"", "2: service.web.bake.inconclusive: \"x\" is not one of"),
            ("keep.releases = 0", "2: service.web.keep.releases: 0 is not between"),
            ("health = 1", "2: service.web.health: it is a whole number and should be a table"),
        ] {
            let (_, problems) = check(text);
            let wanted = format!("t.toml:{problem}");
            assert!(problems.iter().any(|problem| problem.starts_with(&wanted)), "{problems:?}");
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_answered_with_what_does() {
        let tcp = "listen = [\"tcp://127.0.0.1:80\"]\n";
        let udp = "listen = [\"udp://127.0.0.1:53\"]\n";
        let unix = "listen = [\"unix:/run/a.sock\"]\n";
        let canary = "strategy = \"canary\"\ncanary = ";
        for (listen, lines, problem) in [
            (tcp, "strategy = \"canary\"".to_owned(), "3: service.web.strategy: canary needs its"),
            (tcp, format!("{canary}[\"5%\", \"25%\"]"), "4: service.web.canary: ends with 25%"),
            (
                tcp,
                format!("{canary}[\"9%\", \"5%\", \"100%\"]"),
                "4: service.web.canary: 5% is not",
            ),
            (tcp, format!("{canary}[\"120%\"]"), "4: service.web.canary: \"120%\" is not a share"),
            (tcp, format!("{canary}[]"), "4: service.web.canary: has no steps"),
            (
                tcp,
                "canary = [\"100%\"]".to_owned(),
                "3: service.web.canary: is only for strategy = \"canary\"",
            ),
            (
                tcp,
                "max_gap = \"1s\"".to_owned(),
                "3: service.web.max_gap: is only for strategy = \"hold\"",
            ),
            (
                tcp,
                "strategy = \"replace\"".to_owned(),
                "3: service.web.strategy: new connections would",
            ),
            (
                tcp,
                "socket_mode = \"0600\"".to_owned(),
                "3: service.web.socket_mode: is only for unix",
            ),
            (
                tcp,
                "forward.max_clients = 1".to_owned(),
                "3: service.web.forward: is only for handoff = \"port\"",
            ),
            (
                unix,
                "socket_mode = \"9\"".to_owned(),
                "3: service.web.socket_mode: \"9\" is not a mode",
            ),
            (unix, format!("{canary}[\"100%\"]"), "3: service.web.strategy: connections to a unix"),
            (
                udp,
                "strategy = \"hold\"".to_owned(),
                "3: service.web.strategy: datagrams cannot wait",
            ),
            (
                udp,
                "handoff = \"port\"".to_owned(),
                "2: service.web.listen: udp cannot be forwarded",
            ),
            (udp, "health.tcp = true".to_owned(), "3: service.web.health.tcp: the service has no"),
            ("", "handoff = \"port\"".to_owned(), "2: service.web.handoff: port needs an address"),
            (
                "",
                "handoff = \"intercept\"".to_owned(),
                "2: service.web.handoff: intercept needs an",
            ),
            (
                "",
                "strategy = \"hold\"".to_owned(),
                "2: service.web.strategy: the service has no listener",
            ),
            (tcp, "stop.drain = \"never\"".to_owned(), "3: service.web.stop.drain: "),
        ] {
            let (_, problems) = check(&format!("{listen}{lines}"));
            let wanted = format!("t.toml:{problem}");
            assert!(problems.iter().any(|told| told.starts_with(&wanted)), "{wanted} {problems:?}");
            assert_eq!(problems.len(), 1, "{lines}: {problems:?}");
        }
    }

    #[test]
    fn without_an_address_two_at_once_must_be_asked_for() {
        use crate::config::model::Strategy;
        assert_eq!(check("").0.strategy, Strategy::Replace);
        assert_eq!(check("strategy = \"overlap\"").0.strategy, Strategy::Overlap);
        let (service, problems) = check(
            "listen = [\"tcp://127.0.0.1:80\"]\nstrategy = \"canary\"\ncanary = [\"0.5%\", \"25%\", \"100%\"]",
        );
        assert_eq!((service.strategy, problems.len()), (Strategy::Canary(vec![50, 2500]), 0));
    }

    #[test]
    fn two_checks_are_one_too_many() {
        let (_, problems) = check("health.notify = true\nhealth.exec = [\"true\"]");
        assert_eq!(
            problems,
            [
                "t.toml:2: service.web.health.notify: a service has one check, and exec is given too; \
              keep one of http, tcp, exec, notify"
            ]
        );
    }

    #[test]
    fn each_check_is_read() {
        use crate::config::model::Check;
        let listen = "listen = [\"tcp://127.0.0.1:80\"]\n";
        for (text, expected) in [
            ("health.http = \"/up?x=1\"", Check::Http("/up?x=1".to_owned())),
            ("health.tcp = true", Check::Tcp),
            ("health.exec = [\"./up\"]", Check::Exec(vec!["./up".to_owned()])),
            ("health.notify = true", Check::Notify),
        ] {
            let (service, problems) = check(&format!("{listen}{text}"));
            assert_eq!(problems, [""; 0]);
            assert_eq!(service.settings.health.check, expected);
        }
    }

    #[test]
    fn a_signal_may_be_written_with_its_prefix() {
        let (service, problems) = check("stop.signal = \"SIGQUIT\"");
        assert_eq!((service.settings.stop.signal.as_str(), problems.len()), ("QUIT", 0));
    }
}
